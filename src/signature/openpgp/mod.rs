//! OpenPGP signatures of images: a simple signing payload, signed as GnuPG signs a file.
//!
//! The library takes packets apart and does the mathematics. What a message must look like
//! (`message`), which keys may vouch and when (`certificate`), and what is too weak to prove
//! anything (`rules`) is decided here, and is at least as strict as what GnuPG tells
//! containers/image: the signature is by a key of the policy that is neither revoked nor expired,
//! nor is its primary key, and has not expired itself.
//!
//! No key is ever looked for elsewhere, no trust is computed: a key that the policy names is
//! trusted, and no other.

mod certificate;
mod keyring;
mod message;
mod packets;
mod rules;

use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use pgp::packet::Signature;
use pgp::packet::SignatureType;
use pgp::packet::SignatureVersion;
use pgp::ser::Serialize;
use pgp::types::KeyDetails;
use pgp::types::VerifyingKey;

use crate::signature::SignatureError;
use crate::signature::openpgp::certificate::Certificate;
use crate::signature::openpgp::certificate::Time;
use crate::signature::openpgp::message::Message;
use crate::signature::simple_signing::Kind;
use crate::signature::simple_signing::Payload;

pub use crate::signature::openpgp::certificate::KeyFault;
pub use crate::signature::openpgp::keyring::Keyring;
pub use crate::signature::openpgp::keyring::KeyringError;
pub use crate::signature::openpgp::message::MessageError;
pub use crate::signature::openpgp::packets::PacketError;
pub use crate::signature::openpgp::rules::Unfit;

/// The versions of signatures that a message may have.
const VERSIONS: [SignatureVersion; 3] =
    [SignatureVersion::V3, SignatureVersion::V4, SignatureVersion::V6];

/// What a true signature says.
#[derive(Debug)]
pub struct Proven {
    /// What is signed.
    pub payload: Payload,
    /// The fingerprint of the primary key that vouches, in upper case.
    pub fingerprint: String,
    /// When it was signed, as the signer says.
    pub time: SystemTime,
}

/// Why an OpenPGP signature proves nothing, as the end of "the signature …".
#[derive(Debug, thiserror::Error)]
pub enum OpenPgpError {
    /// It is no signed message.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// It is made in a way that proves nothing.
    #[error("{0}")]
    Unfit(Unfit),
    /// It signs a text in a way that ignores parts of it.
    #[error("is not one of a binary document")]
    NotBinary,
    /// None of the keys made it.
    #[error("is by the OpenPGP key {0}, which is none of the policy's")]
    UnknownKey(String),
    /// One of the keys claims it, and did not make it.
    #[error("does not hold: Invalid GPG signature: the text is not what {0} signed")]
    Mathematics(String),
    /// One of the keys made it, and may not vouch.
    #[error("does not count: Invalid GPG signature: the key {fingerprint} {fault}")]
    Key {
        /// The key.
        fingerprint: String,
        /// Why it may not.
        fault: KeyFault,
    },
    /// Its own time is over.
    #[error("does not count: Invalid GPG signature: Signature expired on {0}")]
    Expired(String),
}

/// Proves a signed message with the keys of `keyring`.
///
/// Unlike with sigstore's keys, time counts: keys and signatures expire.
///
/// # Errors
///
/// [`SignatureError`] says what does not hold.
pub fn verify(
    message: &[u8],
    keyring: &Keyring,
    now: SystemTime,
) -> Result<Proven, SignatureError> {
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (text, fingerprint, signed) = prove(message, keyring, now)?;
    let payload = Payload::parse(&text, Kind::Atomic)?;
    let time = UNIX_EPOCH + std::time::Duration::from_secs(signed);
    Ok(Proven { payload, fingerprint, time })
}

fn prove(
    message: &[u8],
    keyring: &Keyring,
    now: Time,
) -> Result<(Vec<u8>, String, Time), OpenPgpError> {
    let Message { text, signature } = Message::open(message).map_err(OpenPgpError::Message)?;
    rules::check(&signature, &VERSIONS).map_err(OpenPgpError::Unfit)?;
    if signature.typ() != Some(SignatureType::Binary) {
        return Err(OpenPgpError::NotBinary);
    }
    let signed = certificate::created(&signature);
    let claim = Claim { text: &text, signature: &signature, signed, now };
    let mut fault = OpenPgpError::UnknownKey(issuer(&signature));
    for certificate in keyring.certificates() {
        match claim.by(certificate) {
            None => {}
            Some(Ok(())) => {
                let lifetime = signature.signature_expiration_time().map(|time| time.as_secs());
                let end = certificate::end(signed, lifetime);
                if end <= now {
                    return Err(OpenPgpError::Expired(certificate::shown(end)));
                }
                return Ok((text, certificate.primary.fingerprint(), signed));
            }
            Some(Err(found)) => fault = found,
        }
    }
    Err(fault)
}

/// What a signature says of itself, with nothing proven.
#[derive(Debug)]
pub struct Claimed {
    /// What is signed.
    pub payload: Payload,
    /// The fingerprint or the ID of the key.
    pub issuer: String,
    /// When it was signed.
    pub time: SystemTime,
}

/// Reads what a signed message claims; to be shown, and never to be believed.
///
/// # Errors
///
/// [`SignatureError`] when it is no signed message with a payload.
pub fn claimed(message: &[u8]) -> Result<Claimed, SignatureError> {
    let Message { text, signature } = Message::open(message).map_err(OpenPgpError::Message)?;
    let payload = Payload::parse(&text, Kind::Atomic)?;
    let seconds = certificate::created(&signature);
    let time = UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    Ok(Claimed { payload, issuer: issuer(&signature), time })
}

/// A text, and a signature that claims to be of it.
struct Claim<'a> {
    text: &'a [u8],
    signature: &'a Signature,
    signed: Time,
    now: Time,
}

impl Claim<'_> {
    /// Whether a key of the certificate made the signature and may vouch; `None` if the signature
    /// does not claim to be by any of its keys.
    fn by(&self, certificate: &Certificate) -> Option<Result<(), OpenPgpError>> {
        let primary = &certificate.primary;
        let own = self.made_by(&primary.key, || certificate.primary_signs(self.signed, self.now));
        let subkeys = certificate.subkeys.iter().map(|subkey| {
            self.made_by(&subkey.key, || certificate.subkey_signs(subkey, self.signed, self.now))
        });
        let mut found: Vec<Result<(), OpenPgpError>> =
            std::iter::once(own).chain(subkeys).flatten().collect();
        let good = found.iter().position(Result::is_ok);
        // A fault of a key says more than that another key with the same ID did not sign.
        let telling = found.iter().position(|one| matches!(one, Err(OpenPgpError::Key { .. })));
        let best = good.or(telling).unwrap_or(0);
        (best < found.len()).then(|| found.swap_remove(best))
    }

    fn made_by<K: VerifyingKey + Serialize>(
        &self,
        key: &K,
        may_vouch: impl FnOnce() -> Result<(), KeyFault>,
    ) -> Option<Result<(), OpenPgpError>> {
        if !claims(self.signature, key) {
            return None;
        }
        let fingerprint = key.fingerprint().to_string().to_ascii_uppercase();
        if self.signature.verify(key, self.text).is_err() {
            return Some(Err(OpenPgpError::Mathematics(fingerprint)));
        }
        Some(may_vouch().map_err(|fault| OpenPgpError::Key { fingerprint, fault }))
    }
}

/// Whether a signature claims to be by this key: a claim only, anyone can write it.
fn claims(signature: &Signature, key: &impl KeyDetails) -> bool {
    let fingerprints = signature.issuer_fingerprint();
    if !fingerprints.is_empty() {
        return fingerprints.into_iter().any(|issuer| *issuer == key.fingerprint());
    }
    let ids = signature.issuer_key_id();
    ids.is_empty() || ids.into_iter().any(|issuer| *issuer == key.legacy_key_id())
}

/// Who a signature claims to be by.
fn issuer(signature: &Signature) -> String {
    let fingerprint = signature.issuer_fingerprint().first().map(ToString::to_string);
    let id = || signature.issuer_key_id().first().map(ToString::to_string);
    fingerprint.or_else(id).unwrap_or_else(|| "(none named)".to_owned()).to_ascii_uppercase()
}

#[cfg(test)]
mod tests;
