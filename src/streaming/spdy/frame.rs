//! Frames of SPDY/3.1 as bytes. Pure: nothing is read or sent here.
//!
//! A frame begins with eight bytes: for data the stream's number, for control the version and a
//! kind; then flags and a length of 24 bits.

use bytes::Buf;

/// The bytes that every frame begins with.
pub(super) const HEAD: usize = 8;
/// The largest control frame that is taken, in bytes. The protocol asks for 8192 at least.
pub(super) const CONTROL_LIMIT: u32 = 64 * 1024;

const VERSION: u16 = 3;
const CONTROL: u32 = 0x8000_0000;
const STREAM: u32 = 0x7fff_ffff;
const LENGTH: u32 = 0x00ff_ffff;
const FIN: u8 = 0x01;
const UNIDIRECTIONAL: u8 = 0x02;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const SETTINGS: u16 = 4;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
const WINDOW_UPDATE: u16 = 9;

/// A frame that breaks the protocol: the connection cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::streaming) enum FrameError {
    /// Another version of the protocol.
    #[error("a control frame of SPDY version {0}, not 3")]
    Version(u16),
    /// Longer than is taken.
    #[error("a control frame of {0} bytes; {CONTROL_LIMIT} are allowed")]
    TooLong(u32),
    /// Not of the length that its kind has.
    #[error("a control frame of kind {kind} with {length} bytes")]
    Length {
        /// Its kind.
        kind: u16,
        /// Its length.
        length: usize,
    },
    /// Stream zero cannot be opened or written to.
    #[error("a frame for stream zero")]
    StreamZero,
    /// The header block cannot be unpacked, or is not one.
    #[error("a header block that {0}")]
    Headers(&'static str),
    /// The window of the whole connection.
    #[error("a window of more than 2^31-1 bytes")]
    Window,
}

/// Why a stream is reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::streaming) enum Reset {
    /// It breaks the protocol.
    Protocol = 1,
    /// There is no such stream.
    Invalid = 2,
    /// It is one too many.
    Refused = 3,
    /// Its bytes are not wanted any more.
    Cancel = 5,
    /// Its window grew too large.
    FlowControl = 7,
}

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::streaming) enum GoAway {
    /// All is well.
    Ok = 0,
    /// The other side broke the protocol.
    Protocol = 1,
}

/// The beginning of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Head {
    /// Bytes of a stream follow.
    Data { stream: u32, fin: bool, length: u32 },
    /// A control frame follows.
    Control { kind: u16, flags: u8, length: u32 },
}

/// A control frame. Header blocks are as they came: compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Control<'b> {
    /// Opens a stream.
    SynStream { stream: u32, fin: bool, one_way: bool, headers: &'b [u8] },
    /// Accepts a stream, or adds headers to it.
    Headers { stream: u32, fin: bool, headers: &'b [u8] },
    /// Ends a stream at once.
    Reset { stream: u32 },
    /// Asks whether anybody is there.
    Ping { id: u32 },
    /// No more streams.
    GoAway,
    /// Lets us send more.
    WindowUpdate { stream: u32, delta: u32 },
    /// Nothing that changes what we do.
    Other,
}

/// Reads the beginning of a frame.
pub(super) fn head(mut bytes: &[u8]) -> Result<Head, FrameError> {
    let (Ok(first), Ok(second)) = (bytes.try_get_u32(), bytes.try_get_u32()) else {
        return Err(FrameError::Length { kind: 0, length: bytes.len() });
    };
    let (flags, length) = ((second >> 24).to_be_bytes()[3], second & LENGTH);
    if first & CONTROL == 0 {
        if first == 0 {
            return Err(FrameError::StreamZero);
        }
        return Ok(Head::Data { stream: first, fin: flags & FIN != 0, length });
    }
    let [high, low, kind @ ..] = first.to_be_bytes();
    let version = u16::from_be_bytes([high & 0x7f, low]);
    if version != VERSION {
        return Err(FrameError::Version(version));
    }
    if length > CONTROL_LIMIT {
        return Err(FrameError::TooLong(length));
    }
    Ok(Head::Control { kind: u16::from_be_bytes(kind), flags, length })
}

/// Reads the rest of a control frame.
pub(super) fn control(kind: u16, flags: u8, payload: &[u8]) -> Result<Control<'_>, FrameError> {
    let wrong = FrameError::Length { kind, length: payload.len() };
    let word = |at: usize| {
        let bytes = payload.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map(u32::from_be_bytes).ok_or(wrong)
    };
    let of_length = |length: usize| if payload.len() == length { Ok(()) } else { Err(wrong) };
    let stream = || match word(0)? & STREAM {
        0 => Err(FrameError::StreamZero),
        stream => Ok(stream),
    };
    let fin = flags & FIN != 0;
    Ok(match kind {
        SYN_STREAM => Control::SynStream {
            stream: stream()?,
            fin,
            one_way: flags & UNIDIRECTIONAL != 0,
            headers: payload.get(10..).ok_or(wrong)?,
        },
        SYN_REPLY | HEADERS => {
            Control::Headers { stream: stream()?, fin, headers: payload.get(4..).ok_or(wrong)? }
        }
        RST_STREAM => {
            of_length(8)?;
            Control::Reset { stream: stream()? }
        }
        PING => {
            of_length(4)?;
            Control::Ping { id: word(0)? }
        }
        GOAWAY => {
            of_length(8)?;
            Control::GoAway
        }
        WINDOW_UPDATE => {
            of_length(8)?;
            Control::WindowUpdate { stream: word(0)? & STREAM, delta: word(4)? & STREAM }
        }
        SETTINGS => {
            let entries = usize::try_from(word(0)?).unwrap_or(usize::MAX);
            of_length(entries.saturating_mul(8).saturating_add(4))?;
            Control::Other
        }
        // Kinds that are not known are to be passed over.
        _ => Control::Other,
    })
}

/// The beginning of a data frame.
pub(super) fn data_head(stream: u32, fin: bool, length: usize) -> [u8; HEAD] {
    let length = u32::try_from(length).unwrap_or(LENGTH) & LENGTH;
    let flags = u32::from(if fin { FIN } else { 0 }) << 24;
    words([stream & STREAM, flags | length])
}

/// Accepts a stream, with no headers of ours.
pub(super) fn reply(stream: u32, block: &[u8]) -> Vec<u8> {
    let length = u32::try_from(block.len() + 4).unwrap_or(LENGTH) & LENGTH;
    let mut frame = control_head(SYN_REPLY, length).to_vec();
    frame.extend((stream & STREAM).to_be_bytes());
    frame.extend(block);
    frame
}

/// Ends a stream at once.
pub(super) fn reset(stream: u32, why: Reset) -> Vec<u8> {
    let rest: [u8; 8] = words([stream & STREAM, why as u32]);
    [control_head(RST_STREAM, 8), rest].concat()
}

/// Answers a ping.
pub(super) fn ping(id: u32) -> Vec<u8> {
    [&control_head(PING, 4)[..], &id.to_be_bytes()].concat()
}

/// Says that no more streams are taken, and which was the last.
pub(super) fn go_away(last: u32, why: GoAway) -> Vec<u8> {
    [control_head(GOAWAY, 8), words([last & STREAM, why as u32])].concat()
}

fn control_head(kind: u16, length: u32) -> [u8; HEAD] {
    words([CONTROL | u32::from(VERSION) << 16 | u32::from(kind), length & LENGTH])
}

fn words(words: [u32; 2]) -> [u8; 8] {
    let [first, second] = words;
    (u64::from(first) << 32 | u64::from(second)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_a_frame_says_what_follows() {
        for (bytes, expected) in [
            ([0, 0, 0, 1, 0, 0, 0, 5], Ok(Head::Data { stream: 1, fin: false, length: 5 })),
            (
                [0x7f, 0xff, 0xff, 0xff, 1, 0xff, 0xff, 0xff],
                Ok(Head::Data { stream: STREAM, fin: true, length: LENGTH }),
            ),
            ([0x80, 3, 0, 6, 0, 0, 0, 4], Ok(Head::Control { kind: PING, flags: 0, length: 4 })),
            (
                [0x80, 3, 0, 1, 3, 1, 0, 0],
                Ok(Head::Control { kind: SYN_STREAM, flags: 3, length: CONTROL_LIMIT }),
            ),
            ([0, 0, 0, 0, 0, 0, 0, 5], Err(FrameError::StreamZero)),
            ([0x80, 2, 0, 6, 0, 0, 0, 4], Err(FrameError::Version(2))),
            ([0x80, 3, 0, 1, 0, 1, 0, 1], Err(FrameError::TooLong(CONTROL_LIMIT + 1))),
            ([0x80, 3, 0, 4, 0, 0xff, 0xff, 0xff], Err(FrameError::TooLong(LENGTH))),
        ] {
            assert_eq!(head(&bytes), expected, "{bytes:?}");
        }
        assert!(head(&[0; 7]).is_err());
    }

    #[test]
    fn control_frames_have_the_length_of_their_kind() {
        let two = [0, 0, 0, 9, 0, 0, 0, 5];
        for (kind, payload, expected) in [
            (RST_STREAM, &two[..], Some(Control::Reset { stream: 9 })),
            (RST_STREAM, &two[..4], None),
            (RST_STREAM, &[0; 8], None),
            (PING, &two[..4], Some(Control::Ping { id: 9 })),
            (PING, &two, None),
            (GOAWAY, &two, Some(Control::GoAway)),
            (GOAWAY, &two[..4], None),
            (WINDOW_UPDATE, &two, Some(Control::WindowUpdate { stream: 9, delta: 5 })),
            (WINDOW_UPDATE, &two[..7], None),
            (SETTINGS, &[0, 0, 0, 0], Some(Control::Other)),
            (SETTINGS, &[0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 9], Some(Control::Other)),
            (SETTINGS, &[0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 9], None),
            (SETTINGS, &[0xff, 0xff, 0xff, 0xff], None),
            (SYN_STREAM, &two, None),
            (SYN_REPLY, &two[..3], None),
            (77, &two, Some(Control::Other)),
        ] {
            assert_eq!(control(kind, 0, payload).ok(), expected, "{kind} {payload:?}");
        }
        let opens = [0x80, 0, 0, 3, 0, 0, 0, 0, 0xe0, 0, b'h'];
        let expected = Control::SynStream { stream: 3, fin: true, one_way: true, headers: b"h" };
        assert_eq!(control(SYN_STREAM, 3, &opens), Ok(expected));
        assert_eq!(control(SYN_STREAM, 0, &[0; 11]), Err(FrameError::StreamZero));
    }

    #[test]
    fn our_own_frames_can_be_read() {
        let read = |frame: &[u8]| {
            let Ok(Head::Control { kind, flags, length }) = head(frame) else {
                panic!("{frame:?}")
            };
            assert_eq!(usize::try_from(length).unwrap() + HEAD, frame.len());
            format!("{:?}", control(kind, flags, &frame[HEAD..]).unwrap())
        };
        assert_eq!(read(&reset(7, Reset::Cancel)), "Reset { stream: 7 }");
        assert_eq!(reset(7, Reset::Cancel)[15], 5);
        assert_eq!(read(&ping(8)), "Ping { id: 8 }");
        assert_eq!(read(&go_away(9, GoAway::Protocol)), "GoAway");
        assert_eq!(
            read(&reply(5, b"xy")),
            "Headers { stream: 5, fin: false, headers: [120, 121] }"
        );
        assert_eq!(
            head(&data_head(5, true, 70_000)),
            Ok(Head::Data { stream: 5, fin: true, length: 70_000 })
        );
    }
}
