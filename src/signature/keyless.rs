//! Signatures with a certificate that lived for minutes: proven at the time they were made.
//!
//! The mathematics are `sigstore-verify`'s: the time (a log's promise, or a time stamp), the
//! certificate's chain at that time and its entry in a CT log, the signature, and that a log has
//! an entry about this very signature. A trusted root without logs demands none, and then there
//! must be a time stamp: so attests GitHub for private repositories. Cosign's older form,
//! annotations beside a payload, is put into that of a bundle first, so that both are proven by one code.
//!
//! What that crate leaves to us: what a bundle's statement says (`statement`), that no entry
//! stands unproven beside a proven one, and who may have signed (`policy`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;
use sigstore_verify::TransparencyLogError;
use sigstore_verify::VerificationPolicy;
use sigstore_verify::types::Artifact;
use sigstore_verify::types::Bundle as Parsed;
use sigstore_verify::types::DerCertificate;

use crate::signature::SignatureError;
use crate::signature::bundle::Bundle;
use crate::signature::certificate;
use crate::signature::certificate::Certificate;
use crate::signature::error::LogFault;
use crate::signature::sigstore;
use crate::signature::sigstore::SimpleSigning;
use crate::signature::simple_signing::Kind;
use crate::signature::simple_signing::Payload;
use crate::signature::transparency;
use crate::signature::transparency::Logged;
use crate::signature::trust::Trust;
use crate::signature::weight;

/// What a true signature with a certificate says.
#[derive(Debug)]
pub struct Proven {
    /// Whose it is.
    pub certificate: Certificate,
    /// Which logs have it, and when they and time stampers saw it.
    pub logged: Logged,
}

/// Proves a signature as cosign v2 makes it.
///
/// # Errors
///
/// [`SignatureError`] says what does not hold.
pub fn verify_signature(
    signature: &SimpleSigning,
    trust: &Trust,
) -> Result<(Payload, Proven), SignatureError> {
    let bundle = as_bundle(signature, trust)?;
    let proven = verify(&bundle, signature.payload.as_slice().into(), trust)?;
    Ok((Payload::parse(&signature.payload, Kind::Cosign)?, proven))
}

/// Proves a bundle by someone whom `accepts` accepts; what it says otherwise is the refusal. What
/// its statement says is for the caller to judge.
///
/// # Errors
///
/// [`SignatureError`] says what does not hold.
pub fn verify_bundle(
    bundle: &Bundle,
    trust: &Trust,
    accepts: &dyn Fn(&Certificate) -> Result<(), String>,
) -> Result<Proven, SignatureError> {
    // The crate reads the whole statement. Before that it must be by an accepted signer, as far as
    // that can be seen without logs: anyone may log in and sign, and nobody else is worth the memory.
    let envelope = bundle.envelope()?;
    let mut chain = bundle.certificates().into_iter();
    let leaf = chain.next().ok_or(SignatureError::NoCertificate)?;
    let signed = envelope.signature.sig.as_bytes();
    if !certificate::key(&leaf)?.verifies(&envelope.pae(), signed) {
        return Err(SignatureError::NotByCertificate);
    }
    trust.authorities.vouch_for(&leaf, chain.collect(), certificate::begins(&leaf)?)?;
    accepts(&Certificate::parse(&leaf)?).map_err(SignatureError::OtherSigner)?;
    weight::bound(envelope.payload.as_bytes())?;
    // The crate wants to see an artifact that the statement is about: any will do here.
    let artifact = bundle.statement()?.first_subject()?;
    verify(&bundle.parsed, artifact.into(), trust)
}

fn verify(
    bundle: &Parsed,
    artifact: Artifact<'_>,
    trust: &Trust,
) -> Result<Proven, SignatureError> {
    let der = bundle.signing_certificate().ok_or(SignatureError::NoCertificate)?;
    let certificate = Certificate::parse(der.as_bytes())?;
    certificate::key(der.as_bytes())?.known().map_err(certificate::unfit)?;
    let bundle = transparency::bounded(bundle, trust).map_err(SignatureError::Log)?;
    if !trust.demands_log() && transparency::stamps_of(&bundle) == 0 {
        let why = "the trusted root has no log, and no time stamp is there";
        return Err(SignatureError::Time(why.to_owned()));
    }
    // Who signed is for the caller to judge: this proves only that it was signed as it says.
    let policy = trust.demands(VerificationPolicy::any_identity());
    let result = trust.verifier.verify(artifact, &bundle, &policy).map_err(refused)?;
    // What the crate promises, and everything here stands on.
    let seen = result.tlog_verified() || !trust.demands_log();
    let whole = result.certificate_verified() && seen && !result.verified_timestamps().is_empty();
    if !whole || (trust.certificates_logged && !result.sct_verified()) {
        return Err(SignatureError::Untrue("it was not verified as a whole".to_owned()));
    }
    // For a certificate the stamps come first, then the times of logs.
    let mut stamps = transparency::seconds(&result);
    let times = stamps.split_off(transparency::stamps_of(&bundle).min(stamps.len()));
    let entries = transparency::places(&bundle, trust);
    Ok(Proven { certificate, logged: Logged { entries, times, stamps } })
}

/// A signature of cosign v2 in the form of a bundle v0.1, or v0.2 if it needs no log's promise: nothing is
/// added, nothing judged.
fn as_bundle(signature: &SimpleSigning, trust: &Trust) -> Result<Parsed, SignatureError> {
    let signed = BASE64.encode(signature.signature()?);
    let set = trust.demands_log().then(|| signature.annotation(sigstore::SET)).transpose()?;
    let leaf = certificate::one(signature.annotation(sigstore::CERTIFICATE)?)?;
    let chain = match signature.annotations.get(sigstore::CHAIN) {
        Some(chain) => certificate::several(chain.as_bytes())?,
        None => Vec::new(),
    };
    let chain: Vec<_> = std::iter::once(leaf)
        .chain(chain)
        .map(|der| json!({ "rawBytes": DerCertificate::from_bytes(&der) }))
        .collect();
    let version = if set.is_some() { "0.1" } else { "0.2" };
    let entry = set.map(|set| transparency::set_as_entry(set.as_bytes())).transpose();
    let entries: Vec<_> = entry.map_err(SignatureError::Log)?.into_iter().collect();
    let stamps: Vec<_> =
        signature.stamp()?.into_iter().map(|token| json!({ "signedTimestamp": token })).collect();
    let bundle = json!({
        "mediaType": format!("application/vnd.dev.sigstore.bundle+json;version={version}"),
        "verificationMaterial": {
            "x509CertificateChain": { "certificates": chain },
            "tlogEntries": entries,
            "timestampVerificationData": { "rfc3161Timestamps": stamps },
        },
        "messageSignature": { "signature": signed },
    });
    serde_json::from_value(bundle).map_err(|_| SignatureError::Log(LogFault::Entry))
}

/// The crate's error in our words: what users and their tools look for is there.
fn refused(error: sigstore_verify::Error) -> SignatureError {
    use sigstore_verify::Error;
    match error {
        Error::Certificate(error) => SignatureError::Chain(short(&error)),
        Error::TransparencyLog(TransparencyLogError::InclusionPromise(why)) => {
            SignatureError::Log(LogFault::Promise(short(&why)))
        }
        Error::TransparencyLog(error) => SignatureError::Log(LogFault::Bundle(error.into())),
        Error::Timestamp(error) => SignatureError::Time(short(&error)),
        other => untrue(&other),
    }
}

fn untrue(error: &(dyn std::error::Error + 'static)) -> SignatureError {
    SignatureError::Untrue(short(&crate::failure::chain(error)))
}

/// Part of it may be a stranger's text.
fn short(text: &impl ToString) -> String {
    text.to_string().chars().take(300).collect()
}
