//! Signatures with a certificate of an ordinary authority: proven at the time they are judged.
//!
//! No log is looked at, and so no time of signing is known: the certificate must hold now. This is
//! what containers/image does with `pki`.

use std::time::SystemTime;

use crate::signature::SignatureError;
use crate::signature::bundle::Bundle;
use crate::signature::certificate;
use crate::signature::certificate::Authorities;
use crate::signature::certificate::Certificate;
use crate::signature::sigstore;
use crate::signature::sigstore::SimpleSigning;
use crate::signature::simple_signing::Kind;
use crate::signature::simple_signing::Payload;

/// A certificate that is proven, and so is its owner's signature.
#[derive(Debug)]
pub struct Proven {
    /// What it says.
    pub certificate: Certificate,
    /// Its bytes.
    pub der: Vec<u8>,
}

/// Proves a signature as cosign v2 makes it.
///
/// # Errors
///
/// [`SignatureError`] says what does not hold.
pub fn verify_signature(
    signature: &SimpleSigning,
    authorities: &Authorities,
    now: SystemTime,
) -> Result<(Payload, Proven), SignatureError> {
    let leaf = certificate::one(signature.annotation(sigstore::CERTIFICATE)?)?;
    let chain = match signature.annotations.get(sigstore::CHAIN) {
        Some(chain) => certificate::several(chain.as_bytes())?,
        None => Vec::new(),
    };
    let (payload, signed) = (&signature.payload, signature.signature()?);
    let proven = verify(leaf, chain, payload, &signed, authorities, now)?;
    Ok((Payload::parse(payload, Kind::Cosign)?, proven))
}

/// Proves a bundle. What its statement says is for the caller to judge.
///
/// # Errors
///
/// [`SignatureError`] says what does not hold.
pub fn verify_bundle(
    bundle: &Bundle,
    authorities: &Authorities,
    now: SystemTime,
) -> Result<Proven, SignatureError> {
    let envelope = bundle.envelope()?;
    let mut chain = bundle.certificates().into_iter();
    let leaf = chain.next().ok_or(SignatureError::NoCertificate)?;
    let signed = envelope.signature.sig.as_bytes();
    verify(leaf, chain.collect(), &envelope.pae(), signed, authorities, now)
}

fn verify(
    leaf: Vec<u8>,
    chain: Vec<Vec<u8>>,
    message: &[u8],
    signature: &[u8],
    authorities: &Authorities,
    now: SystemTime,
) -> Result<Proven, SignatureError> {
    let certificate = Certificate::parse(&leaf)?;
    authorities.vouch_for(&leaf, chain, now)?;
    if !certificate::key(&leaf)?.verifies(message, signature) {
        return Err(SignatureError::NotByCertificate);
    }
    Ok(Proven { certificate, der: leaf })
}
