//! Header blocks of SPDY: a list of names and values, packed by zlib.
//!
//! One zlib stream goes through all header blocks of a direction, so a block that cannot be
//! unpacked is the end of the connection. What comes out is bounded, whatever went in.

use flate2::Compress;
use flate2::Compression;
use flate2::Decompress;
use flate2::FlushCompress;
use flate2::FlushDecompress;
use flate2::Status;

use crate::streaming::spdy::dictionary::DICTIONARY;
use crate::streaming::spdy::frame::FrameError;

/// The most bytes of an unpacked block.
const BLOCK_LIMIT: usize = 32 * 1024;
/// The most headers in a block.
const HEADERS: u32 = 64;

/// The headers of a stream; names are in lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::streaming) struct Headers(Vec<(String, String)>);

impl Headers {
    /// The value of a header; empty for none.
    pub(in crate::streaming) fn value(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }

    #[cfg(test)]
    pub(in crate::streaming) fn of(pairs: &[(&str, &str)]) -> Self {
        Self(pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

/// Unpacks the header blocks of the other side, in their order.
pub(super) struct Unpacker {
    stream: Decompress,
}

impl Unpacker {
    pub(super) fn new() -> Self {
        Self { stream: Decompress::new(true) }
    }

    /// Unpacks the next block.
    pub(super) fn headers(&mut self, packed: &[u8]) -> Result<Headers, FrameError> {
        parse(&self.unpack(packed)?)
    }

    fn unpack(&mut self, mut packed: &[u8]) -> Result<Vec<u8>, FrameError> {
        let broken = FrameError::Headers("is no zlib stream");
        let mut block = Vec::new();
        let mut room = [0_u8; 4096];
        loop {
            let (taken, made) = (self.stream.total_in(), self.stream.total_out());
            let status = match self.stream.decompress(packed, &mut room, FlushDecompress::Sync) {
                Ok(status) => status,
                Err(error) if error.needs_dictionary().is_some() => {
                    // An unknown dictionary is refused here.
                    self.stream.set_dictionary(DICTIONARY).map_err(|_| broken)?;
                    Status::Ok
                }
                Err(_) => return Err(broken),
            };
            let taken = amount(self.stream.total_in(), taken);
            let made = amount(self.stream.total_out(), made);
            packed = packed.get(taken..).unwrap_or_default();
            block.extend(room.get(..made).unwrap_or_default());
            if block.len() > BLOCK_LIMIT {
                return Err(FrameError::Headers("unpacks to too many bytes"));
            }
            match status {
                Status::StreamEnd => return Err(FrameError::Headers("ends the zlib stream")),
                // Room was left, so there is no more to come.
                _ if packed.is_empty() && made < room.len() => return Ok(block),
                _ if taken == 0 && made == 0 && status == Status::BufError => return Err(broken),
                Status::Ok | Status::BufError => {}
            }
        }
    }
}

fn amount(now: u64, before: u64) -> usize {
    usize::try_from(now.saturating_sub(before)).unwrap_or(usize::MAX)
}

fn parse(mut block: &[u8]) -> Result<Headers, FrameError> {
    let count = word(&mut block)?;
    if count > HEADERS {
        return Err(FrameError::Headers("has too many headers"));
    }
    let mut headers: Vec<(String, String)> = Vec::new();
    for _ in 0..count {
        let name = text(&mut block)?.to_ascii_lowercase();
        let value = text(&mut block)?;
        if headers.iter().any(|(known, _)| *known == name) {
            return Err(FrameError::Headers("names a header twice"));
        }
        headers.push((name, value.to_owned()));
    }
    if !block.is_empty() {
        return Err(FrameError::Headers("goes on behind its headers"));
    }
    Ok(Headers(headers))
}

fn word(block: &mut &[u8]) -> Result<u32, FrameError> {
    let (first, rest) = block.split_first_chunk().ok_or(FrameError::Headers("is cut off"))?;
    *block = rest;
    Ok(u32::from_be_bytes(*first))
}

fn text<'b>(block: &mut &'b [u8]) -> Result<&'b str, FrameError> {
    let length = usize::try_from(word(block)?).unwrap_or(usize::MAX);
    let (text, rest) = block.split_at_checked(length).ok_or(FrameError::Headers("is cut off"))?;
    *block = rest;
    std::str::from_utf8(text).map_err(|_| FrameError::Headers("is no text"))
}

/// Packs our header blocks, in their order.
pub(super) struct Packer {
    stream: Option<Compress>,
}

impl Packer {
    pub(super) fn new() -> Self {
        let mut stream = Compress::new(Compression::fast(), true);
        let usable = stream.set_dictionary(DICTIONARY).is_ok();
        Self { stream: usable.then_some(stream) }
    }

    /// The next block, which has no headers: we never have anything to say.
    pub(super) fn nothing(&mut self) -> std::io::Result<Vec<u8>> {
        self.pack(&[0; 4])
    }

    fn pack(&mut self, block: &[u8]) -> std::io::Result<Vec<u8>> {
        let fault = || std::io::Error::other("cannot pack a header block");
        let stream = self.stream.as_mut().ok_or_else(fault)?;
        // The worst that deflate makes of a block, with room for the mark of a flush.
        let mut packed = Vec::with_capacity(block.len() + block.len() / 8 + 64);
        stream.compress_vec(block, &mut packed, FlushCompress::Sync).map_err(|_| fault())?;
        Ok(packed)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A packer of a client.
    pub(in crate::streaming::spdy) struct Client(Packer);

    impl Client {
        pub(in crate::streaming::spdy) fn new() -> Self {
            Self(Packer::new())
        }

        pub(in crate::streaming::spdy) fn pack(&mut self, pairs: &[(&str, &str)]) -> Vec<u8> {
            self.0.pack(&block(pairs)).unwrap()
        }
    }

    fn block(pairs: &[(&str, &str)]) -> Vec<u8> {
        let number = |length: usize| u32::try_from(length).unwrap().to_be_bytes();
        let mut block = number(pairs.len()).to_vec();
        for text in pairs.iter().flat_map(|&(name, value)| [name, value]) {
            block.extend(number(text.len()));
            block.extend(text.as_bytes());
        }
        block
    }

    #[test]
    fn blocks_of_one_direction_are_one_zlib_stream() {
        let (mut client, mut unpacker) = (Client::new(), Unpacker::new());
        for kind in ["error", "stdin", "stdout", "stdout"] {
            let pairs = [("streamType", kind), ("port", "80")];
            let packed = client.pack(&pairs);
            let headers = unpacker.headers(&packed).unwrap();
            assert_eq!((headers.value("streamtype"), headers.value("port")), (kind, "80"));
            assert_eq!(headers.value("requestid"), "");
        }
        // Blocks larger than the room for one step.
        let long = "x".repeat(20_000);
        let packed = client.pack(&[("a", &long)]);
        assert_eq!(unpacker.headers(&packed).unwrap().value("a"), long);
    }

    /// The first header block that a client of Go's standard zlib sends, as a capture has it.
    #[test]
    fn our_answer_is_an_empty_block_for_the_other_side() {
        let (mut packer, mut unpacker) = (Packer::new(), Unpacker::new());
        for _ in 0..3 {
            assert_eq!(unpacker.headers(&packer.nothing().unwrap()), Ok(Headers::default()));
        }
    }

    #[test]
    fn a_block_that_unpacks_to_more_than_is_allowed_is_refused() {
        let mut bomb = block(&[("a", "x")]);
        bomb.resize(16 * 1024 * 1024, 0);
        let mut stream = Compress::new(Compression::best(), true);
        stream.set_dictionary(DICTIONARY).unwrap();
        let mut packed = Vec::with_capacity(64 * 1024);
        stream.compress_vec(&bomb, &mut packed, FlushCompress::Sync).unwrap();
        let error = Unpacker::new().headers(&packed).unwrap_err();
        assert_eq!(error, FrameError::Headers("unpacks to too many bytes"));
    }

    #[test]
    fn what_is_no_header_block_is_refused() {
        let pack = |bytes: &[u8]| Packer::new().pack(bytes).unwrap();
        let good = block(&[("a", "1"), ("b", "2")]);
        assert!(Unpacker::new().headers(&pack(&good)).is_ok());
        let mut more = good.clone();
        more.push(0);
        for (packed, fault) in [
            (b"no zlib".to_vec(), "is no zlib stream"),
            (vec![], "is cut off"),
            (pack(&good[..good.len() - 1]), "is cut off"),
            (pack(&more), "goes on behind its headers"),
            (pack(&block(&[("a", "1"), ("A", "2")])), "names a header twice"),
            (pack(&[0, 0, 1, 0]), "has too many headers"),
            (pack(&[0xff, 0xff, 0xff, 0xff]), "has too many headers"),
            (pack(&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, b'a']), "is cut off"),
            (pack(&[0, 0, 0, 1, 0, 0, 0, 1, 0xff, 0, 0, 0, 0]), "is no text"),
        ] {
            assert_eq!(Unpacker::new().headers(&packed), Err(FrameError::Headers(fault)));
        }
        // Without the dictionary, and with another.
        for dictionary in [None, Some(b"other words")] {
            let mut stream = Compress::new(Compression::fast(), true);
            if let Some(words) = dictionary {
                stream.set_dictionary(words).unwrap();
            }
            let mut packed = Vec::with_capacity(256);
            stream.compress_vec(&good, &mut packed, FlushCompress::Sync).unwrap();
            assert_eq!(Unpacker::new().headers(&packed).is_ok(), dictionary.is_none());
        }
    }
}
