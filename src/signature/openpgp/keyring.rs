//! The OpenPGP keys that a policy trusts, from files as GnuPG exports them.
//!
//! Binary or armored, any number of keys in a file, the same key any number of times: what all
//! copies say counts together, so that a revocation in one of them is a revocation.

use std::io::Read as _;

use pgp::armor::Dearmor;
use pgp::packet::PublicKey;
use pgp::packet::PublicSubkey;
use pgp::packet::Signature;
use pgp::packet::SignatureType;
use pgp::packet::UserId;
use pgp::types::KeyDetails;
use pgp::types::Tag;

use crate::signature::openpgp::certificate::Certificate;
use crate::signature::openpgp::packets;
use crate::signature::openpgp::packets::Packet;
use crate::signature::openpgp::packets::PacketError;

/// The most packets in a key file: a key that many people certified has thousands.
const MOST_PACKETS: usize = 50_000;
/// The largest key file without its armor, in bytes.
const MOST_BYTES: u64 = 4 * 1024 * 1024;
/// How an armored key begins.
const BEGIN: &str = "-----BEGIN PGP ";
/// What an armored public key is called.
const PUBLIC: &str = "PUBLIC KEY BLOCK-----";

/// Public keys, with all that they say of themselves.
#[derive(Debug, Clone, Default)]
pub struct Keyring {
    certificates: Vec<Certificate>,
}

/// Why a file is no key file.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// Neither OpenPGP packets nor an armored key.
    #[error("no OpenPGP public key, as \"gpg --export\" writes it")]
    NoKey,
    /// The armor does not hold.
    #[error("its armor is broken")]
    Armor(#[source] std::io::Error),
    /// The file is too large.
    #[error("it has more than {MOST_BYTES} bytes")]
    TooLarge,
    /// It is no sequence of packets.
    #[error("it is damaged")]
    Packets(#[from] PacketError),
    /// A secret key, which must not lie on a node.
    #[error("it holds a secret key, which must not be on a node; use \"gpg --export\"")]
    Secret,
    /// Something that is no part of a key.
    #[error("it holds something that is no part of a public key: {0:?}")]
    Other(Tag),
}

impl Keyring {
    /// Adds the keys of a file.
    ///
    /// A key of a kind that is not known is left out, as is a statement that does not hold.
    ///
    /// # Errors
    ///
    /// [`KeyringError`] when the file is none, or damaged.
    pub fn add(&mut self, file: &[u8]) -> Result<(), KeyringError> {
        // The first byte of a packet has its highest bit set, and no text begins so.
        if file.first().is_some_and(|first| first & 0x80 != 0) {
            return self.add_packets(file);
        }
        let text = String::from_utf8_lossy(file);
        let blocks: Vec<&str> = text.split(BEGIN).skip(1).collect();
        if blocks.is_empty() {
            return Err(KeyringError::NoKey);
        }
        for block in blocks {
            match block {
                public if public.starts_with(PUBLIC) => {}
                private if private.starts_with("PRIVATE KEY") => return Err(KeyringError::Secret),
                _ => return Err(KeyringError::NoKey),
            }
            let mut packets = Vec::new();
            let armored = format!("{BEGIN}{block}");
            let mut reader = Dearmor::new(armored.as_bytes()).take(MOST_BYTES + 1);
            reader.read_to_end(&mut packets).map_err(KeyringError::Armor)?;
            self.add_packets(&packets)?;
        }
        Ok(())
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.certificates.is_empty()
    }

    /// The fingerprints of the keys, in upper case.
    #[must_use]
    pub fn fingerprints(&self) -> Vec<String> {
        self.certificates.iter().map(|certificate| certificate.primary.fingerprint()).collect()
    }

    pub(super) fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    fn add_packets(&mut self, bytes: &[u8]) -> Result<(), KeyringError> {
        if u64::try_from(bytes.len()).is_ok_and(|length| length > MOST_BYTES) {
            return Err(KeyringError::TooLarge);
        }
        let packets = packets::split(bytes, MOST_PACKETS)?;
        let mut revocations = Vec::new();
        let mut rest = packets.as_slice();
        while let Some((first, _)) = rest.split_first() {
            let length =
                1 + rest.iter().skip(1).take_while(|packet| packet.tag() != Tag::PublicKey).count();
            let (key, others) = rest.split_at(length);
            rest = others;
            check(key)?;
            revocations.extend(signatures(key).filter(is_revocation));
            if first.tag() == Tag::PublicKey
                && let Some(certificate) = certificate(key)
            {
                self.add_certificate(certificate);
            }
        }
        // A revocation may stand by itself, as "gpg --generate-revocation" writes it.
        for certificate in &mut self.certificates {
            revocations.iter().for_each(|revocation| certificate.on_revocation(revocation));
        }
        Ok(())
    }

    fn add_certificate(&mut self, new: Certificate) {
        let fingerprint = new.primary.key.fingerprint();
        let mut known = self.certificates.iter_mut();
        match known.find(|known| known.primary.key.fingerprint() == fingerprint) {
            Some(known) => known.merge(new),
            None => self.certificates.push(new),
        }
    }
}

/// Refuses what is no part of a public key.
fn check(packets: &[Packet<'_>]) -> Result<(), KeyringError> {
    packets.iter().try_for_each(|packet| match packet.tag() {
        Tag::PublicKey
        | Tag::PublicSubkey
        | Tag::UserId
        | Tag::UserAttribute
        | Tag::Signature
        | Tag::Trust
        | Tag::Marker
        | Tag::Padding => Ok(()),
        Tag::SecretKey | Tag::SecretSubkey => Err(KeyringError::Secret),
        other => Err(KeyringError::Other(other)),
    })
}

/// The signatures among the packets that can be read.
fn signatures<'a>(packets: &'a [Packet<'_>]) -> impl Iterator<Item = Signature> + 'a {
    packets.iter().filter_map(signature)
}

pub(super) fn signature(packet: &Packet<'_>) -> Option<Signature> {
    if packet.tag() != Tag::Signature {
        return None;
    }
    let mut body = &*packet.body;
    let signature = Signature::try_from_reader(packet.header, &mut body).ok()?;
    body.is_empty().then_some(signature)
}

fn is_revocation(signature: &Signature) -> bool {
    signature.typ() == Some(SignatureType::KeyRevocation)
}

/// One key with all that stands behind it, up to the next.
fn certificate(packets: &[Packet<'_>]) -> Option<Certificate> {
    let (first, mut rest) = packets.split_first()?;
    let mut certificate =
        Certificate::new(PublicKey::try_from_reader(first.header, &*first.body).ok()?);
    let behind = |rest: &[Packet<'_>]| {
        rest.iter()
            .take_while(|packet| {
                !matches!(packet.tag(), Tag::UserId | Tag::UserAttribute | Tag::PublicSubkey)
            })
            .count()
    };
    let (own, others) = rest.split_at(behind(rest));
    signatures(own).for_each(|signature| certificate.on_primary(&signature));
    rest = others;
    while let Some((head, tail)) = rest.split_first() {
        let (own, others) = tail.split_at(behind(tail));
        let own: Vec<Signature> = signatures(own).collect();
        match head.tag() {
            Tag::UserId => {
                if let Ok(id) = UserId::try_from_reader(head.header, &*head.body) {
                    certificate.on_user_id(&id, &own);
                }
            }
            Tag::PublicSubkey => {
                if let Ok(key) = PublicSubkey::try_from_reader(head.header, &*head.body) {
                    certificate.on_subkey(key, &own);
                }
            }
            _ => {}
        }
        rest = others;
    }
    Some(certificate)
}
