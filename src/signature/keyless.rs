//! Signatures with a certificate that lived for minutes: proven at the time they were made.
//!
//! The mathematics are `sigstore-verify`'s: the time (a log's promise, or a time stamp), the
//! certificate's chain at that time and its entry in a CT log, the signature, and that a log has
//! an entry about this very signature. Cosign's older form, annotations beside a payload, is put
//! into the form of a bundle v0.1 first, so that both are proven by one code.
//!
//! What that crate leaves to us: what a bundle's statement says (`statement`), that no entry
//! stands unproven beside a proven one, and who may have signed (`policy`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;
use sigstore_verify::TransparencyLogError;
use sigstore_verify::VerificationResult;
use sigstore_verify::types::Artifact;
use sigstore_verify::types::Bundle as Parsed;
use sigstore_verify::types::DerCertificate;
use sigstore_verify::types::KindVersion;
use sigstore_verify::types::TransparencyLogEntry;

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
use crate::signature::trust::Trust;

/// The most log entries, and the most time stamps, of a bundle: each costs time to verify.
const MOST: usize = 8;

/// What a true signature with a certificate says.
#[derive(Debug)]
pub struct Proven {
    /// Whose it is.
    pub certificate: Certificate,
    /// The entries in logs: the log's name and the place in it.
    pub entries: Vec<(String, i64)>,
    /// When logs took it in, in seconds since 1970.
    pub logged: Vec<i64>,
    /// When time stampers saw it, in seconds since 1970.
    pub stamped: Vec<i64>,
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
    let bundle = as_bundle(signature)?;
    let proven = verify(&bundle, signature.payload.as_slice().into(), trust)?;
    Ok((Payload::parse(&signature.payload, Kind::Cosign)?, proven))
}

/// Proves a bundle. What its statement says is for the caller to judge.
///
/// # Errors
///
/// [`SignatureError`] says what does not hold.
pub fn verify_bundle(bundle: &Bundle, trust: &Trust) -> Result<Proven, SignatureError> {
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
    let mut bundle = bundle.clone();
    let material = &mut bundle.verification_material;
    if !trust.stamps {
        material.timestamp_verification_data = Default::default();
    }
    let stamps = material.timestamp_verification_data.rfc3161_timestamps.len();
    let entries = &material.tlog_entries;
    if entries.is_empty() {
        return Err(SignatureError::Log(LogFault::NoEntry));
    }
    if entries.len() > MOST || stamps > MOST {
        return Err(SignatureError::Untrue(format!("more than {MOST} log entries or time stamps")));
    }
    if entries.iter().any(|entry| !is_proven(entry)) {
        return Err(SignatureError::Log(LogFault::Unproven));
    }
    let result = trust.verifier.verify(artifact, &bundle, &trust.policy).map_err(refused)?;
    // What the crate promises, and everything here stands on.
    let whole = result.certificate_verified() && result.tlog_verified();
    if !whole || (trust.certificates_logged && !result.sct_verified()) {
        return Err(SignatureError::Untrue("it was not verified as a whole".to_owned()));
    }
    let entries = &bundle.verification_material.tlog_entries;
    let entries = entries.iter().map(|entry| place(entry, trust)).collect();
    let (stamped, logged) = times(&result, stamps);
    Ok(Proven { certificate, entries, logged, stamped })
}

/// The crate verifies the proofs that are there, and an entry without any passes by.
fn is_proven(entry: &TransparencyLogEntry) -> bool {
    entry.inclusion_promise.is_some() || entry.inclusion_proof.is_some()
}

/// The proven times: the stamps come first, then those of the logs.
fn times(result: &VerificationResult, stamps: usize) -> (Vec<i64>, Vec<i64>) {
    let mut stamped: Vec<i64> =
        result.verified_timestamps().iter().map(|time| time.as_second()).collect();
    let logged = stamped.split_off(stamps.min(stamped.len()));
    (stamped, logged)
}

/// The name of the log and the place in it, as far as the log signed them: a promise names both; a
/// checkpoint names its origin, and of the two numbers of Rekor v1 only that in the proof is used.
fn place(entry: &TransparencyLogEntry, trust: &Trust) -> (String, i64) {
    let index = entry.log_index.as_i64();
    let Some(proof) = entry.inclusion_proof.as_ref().filter(|_| entry.inclusion_promise.is_none())
    else {
        return (trust.log(entry.log_id.key_id.as_bytes()), index);
    };
    let origin = proof.checkpoint.checkpoint().map(|checkpoint| checkpoint.origin());
    let origin = origin.unwrap_or_default().chars().take(100).collect();
    let v2 = entry.kind_version == KindVersion::HashedRekordV002;
    (origin, if v2 { index } else { proof.log_index.as_i64() })
}

/// A signature of cosign v2 in the form of a bundle v0.1: nothing is added, nothing judged.
fn as_bundle(signature: &SimpleSigning) -> Result<Parsed, SignatureError> {
    let signed = BASE64.encode(signature.signature()?);
    let set = signature.annotation(sigstore::SET)?;
    let leaf = certificate::one(signature.annotation(sigstore::CERTIFICATE)?)?;
    let chain = match signature.annotations.get(sigstore::CHAIN) {
        Some(chain) => certificate::several(chain.as_bytes())?,
        None => Vec::new(),
    };
    let chain: Vec<_> = std::iter::once(leaf)
        .chain(chain)
        .map(|der| json!({ "rawBytes": DerCertificate::from_bytes(&der) }))
        .collect();
    let entry = transparency::set_as_entry(set.as_bytes()).map_err(SignatureError::Log)?;
    let bundle = json!({
        "mediaType": "application/vnd.dev.sigstore.bundle+json;version=0.1",
        "verificationMaterial": {
            "x509CertificateChain": { "certificates": chain },
            "tlogEntries": [entry],
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
