//! A signed message: exactly one text, exactly one signature, and nothing else.
//!
//! OpenPGP lets messages be nested, compressed, encrypted and signed in any order and number.
//! What GnuPG makes of "sign this" is one shape, perhaps compressed, and an older one; all other
//! shapes are refused, because what is refused cannot be misread.

use std::io::Read as _;

use pgp::packet::Decompressor;
use pgp::packet::OnePassSignature;
use pgp::packet::Signature;
use pgp::types::Tag;

use crate::signature::openpgp::keyring;
use crate::signature::openpgp::packets;
use crate::signature::openpgp::packets::Packet;
use crate::signature::openpgp::packets::PacketError;

/// More packets than a message may have, so that the fault can be named.
const MOST_PACKETS: usize = 16;
/// The largest message when decompressed, in bytes. Real ones have some hundred.
const MOST_BYTES: u64 = 1024 * 1024;

/// Why bytes are no signed message, as the end of a sentence that begins with "the signature …".
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// Text, such as an armored or a clear-signed message.
    #[error("is malformed: it is ASCII text, and must be binary, as \"gpg --sign\" writes it")]
    Ascii,
    /// Not OpenPGP.
    #[error("is malformed: {0}")]
    Packets(#[from] PacketError),
    /// Compressed in a way that is not known, or broken.
    #[error("is malformed: its compressed data cannot be read")]
    Compression,
    /// Compressed data in compressed data.
    #[error("is malformed: it is compressed more than once")]
    Nested,
    /// A little that becomes much.
    #[error("is malformed: it has more than {MOST_BYTES} bytes when decompressed")]
    Bomb,
    /// A signature of something that is elsewhere.
    #[error("is a detached signature, without the text that it signs")]
    Detached,
    /// A text that nobody signed.
    #[error("is no signature: its text is not signed")]
    Unsigned,
    /// Something that only its receiver can read.
    #[error("is malformed: it is encrypted")]
    Encrypted,
    /// Another sequence of packets than that of one signed text.
    #[error("is malformed: it is not one text with one signature, but {0}")]
    Shape(String),
    /// The head of the message and the signature at its end do not speak of the same.
    #[error("is malformed: its one-pass signature packet is not that of its signature")]
    OnePass,
    /// The packet of the text, or of the signature, cannot be read.
    #[error("is malformed: its {0} cannot be read")]
    Packet(&'static str),
}

/// A text, and what claims to be its signature.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) text: Vec<u8>,
    pub(super) signature: Signature,
}

impl Message {
    /// Takes a message apart; proves nothing.
    pub(super) fn open(bytes: &[u8]) -> Result<Self, MessageError> {
        if bytes.first().is_none_or(u8::is_ascii) {
            return Err(MessageError::Ascii);
        }
        let packets = packets::split(bytes, MOST_PACKETS)?;
        match packets.as_slice() {
            [only] if only.tag() == Tag::CompressedData => {
                let inside = decompress(&only.body)?;
                let packets = packets::split(&inside, MOST_PACKETS)?;
                if packets.iter().any(|packet| packet.tag() == Tag::CompressedData) {
                    return Err(MessageError::Nested);
                }
                Self::of(&packets)
            }
            packets => Self::of(packets),
        }
    }

    fn of(packets: &[Packet<'_>]) -> Result<Self, MessageError> {
        let tags: Vec<Tag> = packets.iter().map(Packet::tag).collect();
        let (literal, signature) = match (tags.as_slice(), packets) {
            (
                [Tag::OnePassSignature, Tag::LiteralData, Tag::Signature],
                [head, literal, signature],
            ) => {
                let signature = read(signature)?;
                let head = OnePassSignature::try_from_reader(head.header, &*head.body);
                let same = |head: &OnePassSignature| !head.is_nested() && head.matches(&signature);
                if !head.as_ref().is_ok_and(same) {
                    return Err(MessageError::OnePass);
                }
                (literal, signature)
            }
            ([Tag::Signature, Tag::LiteralData], [signature, literal]) => {
                (literal, read(signature)?)
            }
            _ => return Err(fault(&tags)),
        };
        let text = text(&literal.body).ok_or(MessageError::Packet("text"))?.to_vec();
        Ok(Self { text, signature })
    }
}

fn read(packet: &Packet<'_>) -> Result<Signature, MessageError> {
    keyring::signature(packet).ok_or(MessageError::Packet("signature packet"))
}

/// The text of a literal data packet, whose other fields nobody signs: its format, a file name
/// behind its length, and a date.
fn text(body: &[u8]) -> Option<&[u8]> {
    let (format, rest) = body.split_first()?;
    let (length, rest) = rest.split_first()?;
    let (_, rest) = rest.split_at_checked(usize::from(*length))?;
    let (_, text) = rest.split_at_checked(4)?;
    matches!(format, b'b' | b't' | b'u').then_some(text)
}

fn decompress(body: &[u8]) -> Result<Vec<u8>, MessageError> {
    let broken = |_| MessageError::Compression;
    let mut decompressor = Decompressor::from_reader(body).map_err(broken)?;
    let mut bytes = Vec::new();
    let mut bounded = (&mut decompressor).take(MOST_BYTES + 1);
    bounded.read_to_end(&mut bytes).map_err(broken)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MOST_BYTES) {
        return Err(MessageError::Bomb);
    }
    // What stands behind the end of the compressed data is seen by nobody, and signed by nobody.
    if decompressor.get_ref().is_empty() { Ok(bytes) } else { Err(MessageError::Compression) }
}

/// What is wrong with a message of these packets.
fn fault(tags: &[Tag]) -> MessageError {
    let count = |wanted: Tag| tags.iter().filter(|tag| **tag == wanted).count();
    let encrypted = [
        Tag::PublicKeyEncryptedSessionKey,
        Tag::SymKeyEncryptedSessionKey,
        Tag::SymEncryptedData,
        Tag::SymEncryptedProtectedData,
        Tag::GnupgAeadData,
    ];
    if tags.iter().any(|tag| encrypted.contains(tag)) {
        return MessageError::Encrypted;
    }
    match (count(Tag::LiteralData), count(Tag::Signature)) {
        (0, signatures) if signatures > 0 => MessageError::Detached,
        (texts, 0) if texts > 0 => MessageError::Unsigned,
        _ => {
            let tags: Vec<String> = tags.iter().map(|tag| format!("{tag:?}")).collect();
            MessageError::Shape(tags.join(", "))
        }
    }
}
