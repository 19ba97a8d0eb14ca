//! What of OpenPGP is still fit to prove something.
//!
//! The format is from 1996 and keeps all it ever had. These lists are closed: what is not on them
//! proves nothing, whatever the mathematics say.

use pgp::crypto::ecc_curve::ECCCurve;
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::Signature;
use pgp::packet::SignatureVersion;
use pgp::packet::Subpacket;
use pgp::packet::SubpacketData;
use pgp::ser::Serialize;
use pgp::types::KeyDetails;
use pgp::types::KeyVersion;
use pgp::types::PublicParams;

/// The smallest RSA key, in bits (NIST SP 800-131A).
const RSA_BITS: u16 = 2048;

/// Why something of OpenPGP is not fit, as the end of a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// A hash whose collisions can be made, or that nobody knows.
    #[error("is made with {0}, which is not accepted; sign with SHA-256 or better")]
    Hash(String),
    /// A signature format that is obsolete, or not known.
    #[error("is of a version that is not accepted")]
    Version,
    /// Something that its maker marked as necessary to understand.
    #[error("has a critical part that is not understood: {0}")]
    Critical(String),
    /// No time of signing among what is signed.
    #[error("says no time of signing")]
    Timeless,
}

/// Checks all of a signature that is not mathematics.
///
/// Version 3 has no self-signature worth having, but some signing servers still make it for
/// messages, and it covers the message as version 4 does.
pub(super) fn check(signature: &Signature, versions: &[SignatureVersion]) -> Result<(), Unfit> {
    let Some(config) = signature.config() else {
        return Err(Unfit::Version);
    };
    if !versions.contains(&signature.version()) {
        return Err(Unfit::Version);
    }
    match config.hash_alg {
        HashAlgorithm::Sha256
        | HashAlgorithm::Sha384
        | HashAlgorithm::Sha512
        | HashAlgorithm::Sha3_256
        | HashAlgorithm::Sha3_512 => {}
        other => return Err(Unfit::Hash(other.to_string())),
    }
    if config.created().is_none() {
        return Err(Unfit::Timeless);
    }
    match config.hashed_subpackets().find(|part| part.is_critical && !is_known(part)) {
        Some(part) => Err(Unfit::Critical(kind(part))),
        None => Ok(()),
    }
}

/// What we read, or what asks nothing of a verifier.
fn is_known(part: &Subpacket) -> bool {
    matches!(
        part.data,
        SubpacketData::SignatureCreationTime(_)
            | SubpacketData::SignatureExpirationTime(_)
            | SubpacketData::KeyExpirationTime(_)
            | SubpacketData::KeyFlags(_)
            | SubpacketData::EmbeddedSignature(_)
            | SubpacketData::RevocationKey(_)
            | SubpacketData::RevocationReason(..)
            | SubpacketData::IssuerKeyId(_)
            | SubpacketData::IssuerFingerprint(_)
            | SubpacketData::SignersUserID(_)
            | SubpacketData::IsPrimary(_)
            | SubpacketData::ExportableCertification(_)
            | SubpacketData::Revocable(_)
            | SubpacketData::Features(_)
            | SubpacketData::KeyServerPreferences(_)
            | SubpacketData::PreferredKeyServer(_)
            | SubpacketData::PreferredSymmetricAlgorithms(_)
            | SubpacketData::PreferredHashAlgorithms(_)
            | SubpacketData::PreferredCompressionAlgorithms(_)
            | SubpacketData::PreferredEncryptionModes(_)
            | SubpacketData::PreferredAeadAlgorithms(_)
            | SubpacketData::PolicyURI(_)
    )
}

fn kind(part: &Subpacket) -> String {
    match &part.data {
        SubpacketData::Notation(notation) => {
            let name = String::from_utf8_lossy(&notation.name);
            format!("notation {:?}", name.chars().take(100).collect::<String>())
        }
        other => {
            let text = format!("{other:?}");
            format!("subpacket {}", text.split(['(', ' ']).next().unwrap_or_default())
        }
    }
}

/// Why the mathematics of a key are not fit; `None` if they are.
pub(super) fn weakness(key: &impl KeyDetails) -> Option<String> {
    if !matches!(key.version(), KeyVersion::V4 | KeyVersion::V6) {
        return Some("it is of an obsolete version".to_owned());
    }
    match key.public_params() {
        PublicParams::RSA(rsa) => {
            // The modulus comes first, and its length in bits before it.
            let bits = match rsa.to_bytes().as_deref() {
                Ok([high, low, ..]) => u16::from_be_bytes([*high, *low]),
                _ => 0,
            };
            let short = bits < RSA_BITS;
            short.then(|| format!("it is an RSA key of {bits} bits; {RSA_BITS} are needed"))
        }
        PublicParams::ECDSA(ecdsa) => match ecdsa.curve() {
            ECCCurve::P256 | ECCCurve::P384 | ECCCurve::P521 => None,
            _ => Some("its curve is not supported; use P-256, P-384, P-521 or Ed25519".to_owned()),
        },
        PublicParams::EdDSALegacy(eddsa) => match eddsa.curve() {
            ECCCurve::Ed25519Legacy => None,
            _ => Some("its curve is not supported; use Ed25519".to_owned()),
        },
        PublicParams::Ed25519(_) => None,
        PublicParams::DSA(_) => Some("it is a DSA key, which is not accepted".to_owned()),
        _ => Some("it is no key to sign with that is supported".to_owned()),
    }
}
