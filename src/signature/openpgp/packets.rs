//! OpenPGP packets: where one ends and the next begins.
//!
//! A message that two programs take apart differently is a way around a signature, so bytes that are
//! no packet, a packet that is cut, and more packets than sense allows are errors, and nothing is
//! skipped.

use std::borrow::Cow;

use pgp::packet::PacketHeader;
use pgp::types::PacketLength;
use pgp::types::Tag;

/// One packet, not yet read.
#[derive(Debug)]
pub(super) struct Packet<'a> {
    pub(super) header: PacketHeader,
    pub(super) body: Cow<'a, [u8]>,
}

impl Packet<'_> {
    pub(super) fn tag(&self) -> Tag {
        self.header.tag()
    }
}

/// Why bytes are no sequence of packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// A packet does not begin where one should, or is longer than what is left.
    #[error("the bytes from {0} on are no OpenPGP packet")]
    NoPacket(usize),
    /// More packets than are read.
    #[error("there are more than {0} OpenPGP packets")]
    TooMany(usize),
}

/// Takes `bytes` apart, all of them, into at most `most` packets.
pub(super) fn split(bytes: &[u8], most: usize) -> Result<Vec<Packet<'_>>, PacketError> {
    let mut packets = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        if packets.len() == most {
            return Err(PacketError::TooMany(most));
        }
        let at = bytes.len() - rest.len();
        packets.push(next(&mut rest).ok_or(PacketError::NoPacket(at))?);
    }
    Ok(packets)
}

fn next<'a>(rest: &mut &'a [u8]) -> Option<Packet<'a>> {
    let header = PacketHeader::try_from_reader(&mut *rest).ok()?;
    let body = match header.packet_length() {
        PacketLength::Fixed(length) => Cow::Borrowed(take(rest, length)?),
        PacketLength::Indeterminate => Cow::Borrowed(std::mem::take(rest)),
        PacketLength::Partial(first) => Cow::Owned(parts(first, rest)?),
    };
    Some(Packet { header, body })
}

/// The parts of a body that was written before its length was known.
fn parts(first: u32, rest: &mut &[u8]) -> Option<Vec<u8>> {
    let mut body = take(rest, first)?.to_vec();
    loop {
        match PacketLength::try_from_reader(&mut *rest).ok()? {
            PacketLength::Partial(length) => body.extend_from_slice(take(rest, length)?),
            PacketLength::Fixed(length) => {
                body.extend_from_slice(take(rest, length)?);
                return Some(body);
            }
            PacketLength::Indeterminate => return None,
        }
    }
}

fn take<'a>(rest: &mut &'a [u8], length: u32) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    *rest = left;
    Some(taken)
}
