//! What Ed25519 (RFC 8032) has beside its plain form, which is verified where all others are: keys that
//! are none, and Ed25519ph, in which cosign signs with such keys.

use ed25519_dalek::Digest as _;
use ed25519_dalek::Sha512;
use ed25519_dalek::Signature;
use ed25519_dalek::VerifyingKey;
use sigstore_verify::types::DerPublicKey;
use x509_cert::der::Decode as _;
use x509_cert::spki::SubjectPublicKeyInfoRef;

/// Whether it is no point of the curve, or one of small order: under such a key anybody can make a
/// signature that holds for any message.
pub(super) fn is_weak(key: &DerPublicKey) -> bool {
    point(key).is_none_or(|point| point.is_weak())
}

/// Whether the owner of the key signed `message` in the form Ed25519ph, without a context. A signature in
/// one form is none in the other: what is signed begins with other bytes.
pub(super) fn verifies_prehashed(key: &DerPublicKey, message: &[u8], signature: &[u8]) -> bool {
    let signature = Signature::from_slice(signature).ok();
    point(key).zip(signature).is_some_and(|(key, signature)| {
        let hashed = Sha512::new().chain_update(message);
        key.verify_prehashed_strict(hashed, None, &signature).is_ok()
    })
}

fn point(key: &DerPublicKey) -> Option<VerifyingKey> {
    let spki = SubjectPublicKeyInfoRef::from_der(key.as_bytes()).ok()?;
    VerifyingKey::try_from(spki.subject_public_key.as_bytes()?).ok()
}
