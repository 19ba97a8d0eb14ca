//! Proofs that a transparency log has seen a signature, checked without the log.
//!
//! For cosign's annotations it is the signed entry timestamp (SET) of a Rekor v1 log: the log's
//! signature over the entry's body, index and time in canonical JSON. The body must be about this
//! key, this signature and this payload; otherwise one entry would vouch for every signature
//! (CVE-2022-36056). Bundles carry the same, or a Merkle inclusion proof with a signed
//! checkpoint; they are checked by `sigstore-verify`, for signatures by a key and keyless ones.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use sigstore_verify::PublicKeyVerificationPolicy;
use sigstore_verify::TransparencyLogError;
use sigstore_verify::VerificationResult;
use sigstore_verify::types::Bundle;
use sigstore_verify::types::DerPublicKey;
use sigstore_verify::types::KindVersion;
use sigstore_verify::types::Sha256Hash;
use sigstore_verify::types::TransparencyLogEntry;

use crate::oci::digest::Digest;
use crate::oci::strict_json;
use crate::signature::error::LogFault;
use crate::signature::key::PublicKey;
use crate::signature::trust::Trust;

/// Numbers above this are not the same in every JSON (RFC 8785 section 3.2.2.3).
const SAFE_INTEGER: i64 = 1 << 53;

/// The most log entries, and the most time stamps, of a bundle: each costs time to verify.
const MOST: usize = 8;

/// Where logs have a signature, and when logs and time stampers saw it. All of it is proven.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Logged {
    /// The entries: the log's name and the place in it.
    pub entries: Vec<(String, i64)>,
    /// When logs took it in, in seconds since 1970, where they signed that.
    pub times: Vec<i64>,
    /// When time stampers saw it, in seconds since 1970.
    pub stamps: Vec<i64>,
}

/// What the log must have seen.
#[derive(Debug)]
pub struct Seen<'a> {
    /// The key that verified the signature.
    pub key: &'a PublicKey,
    /// The signature.
    pub signature: &'a [u8],
    /// What it signs.
    pub payload: &'a [u8],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Set {
    #[serde(rename = "SignedEntryTimestamp")]
    timestamp: String,
    #[serde(rename = "Payload")]
    payload: SetPayload,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetPayload {
    body: String,
    #[serde(rename = "integratedTime")]
    integrated_time: i64,
    #[serde(rename = "logIndex")]
    log_index: i64,
    #[serde(rename = "logID")]
    log_id: String,
}

impl SetPayload {
    /// The form that the log signed (RFC 8785), or none if the fields cannot have one form only.
    fn canonical(&self) -> Option<Vec<u8>> {
        let plain = |text: &str, extra: &[u8]| {
            text.bytes().all(|byte| byte.is_ascii_alphanumeric() || extra.contains(&byte))
        };
        let safe = |number: i64| (0..SAFE_INTEGER).contains(&number);
        let Self { body, integrated_time, log_index, log_id } = self;
        let known = plain(body, b"+/=") && plain(log_id, b"");
        (known && safe(*integrated_time) && safe(*log_index)).then(|| {
            format!(
                r#"{{"body":"{body}","integratedTime":{integrated_time},"logID":"{log_id}","logIndex":{log_index}}}"#
            )
            .into_bytes()
        })
    }
}

/// Rekor's entry `hashedrekord`, as far as it is about us.
#[derive(Deserialize)]
struct HashedRekord {
    kind: String,
    #[serde(rename = "apiVersion")]
    version: String,
    spec: Spec,
}

#[derive(Deserialize)]
struct Spec {
    data: Data,
    signature: SpecSignature,
}

#[derive(Deserialize)]
struct Data {
    hash: Hash,
}

#[derive(Deserialize)]
struct Hash {
    algorithm: String,
    value: String,
}

#[derive(Deserialize)]
struct SpecSignature {
    content: String,
    #[serde(rename = "publicKey")]
    public_key: Content,
}

#[derive(Deserialize)]
struct Content {
    content: String,
}

/// Proves by a signed entry timestamp that one of the logs of `trust` has seen `seen`.
///
/// # Errors
///
/// [`LogFault`] says what does not hold.
pub fn verify_set(set: &[u8], trust: &Trust, seen: &Seen<'_>) -> Result<Logged, LogFault> {
    let Set { timestamp, payload } = strict_json::parse(set).map_err(LogFault::Json)?;
    let signed = payload.canonical().ok_or(LogFault::NotByLog)?;
    let timestamp = BASE64.decode(&timestamp).map_err(|_| LogFault::NotByLog)?;
    let (time, index) = (payload.integrated_time, payload.log_index);
    let log = trust.signed_by(&signed, &timestamp, time).ok_or(LogFault::NotByLog)?;
    let body = BASE64.decode(&payload.body).map_err(|_| LogFault::Entry)?;
    verify_entry(&body, seen)?;
    Ok(Logged { entries: vec![(log.to_owned(), index)], times: vec![time], stamps: Vec::new() })
}

/// A signed entry timestamp in the form of a bundle's log entry; nothing of it is verified.
pub(super) fn set_as_entry(set: &[u8]) -> Result<serde_json::Value, LogFault> {
    let Set { timestamp, payload } = strict_json::parse(set).map_err(LogFault::Json)?;
    if payload.canonical().is_none() {
        return Err(LogFault::NotByLog);
    }
    let id = Sha256Hash::from_hex(&payload.log_id).map_err(|_| LogFault::NotByLog)?;
    Ok(serde_json::json!({
        "logIndex": payload.log_index.to_string(),
        "logId": { "keyId": id.to_base64() },
        "kindVersion": { "kind": "hashedrekord", "version": "0.0.1" },
        "integratedTime": payload.integrated_time.to_string(),
        "inclusionPromise": { "signedEntryTimestamp": timestamp },
        "canonicalizedBody": payload.body,
    }))
}

/// The entry must be about this key, this signature and this payload.
fn verify_entry(body: &[u8], seen: &Seen<'_>) -> Result<(), LogFault> {
    let entry: HashedRekord = strict_json::parse(body).map_err(|_| LogFault::Entry)?;
    let Spec { data, signature } = entry.spec;
    if entry.kind != "hashedrekord" || entry.version != "0.0.1" || data.hash.algorithm != "sha256" {
        return Err(LogFault::Entry);
    }
    let pem = BASE64.decode(&signature.public_key.content).ok();
    let key = pem
        .as_deref()
        .and_then(|pem| std::str::from_utf8(pem).ok())
        .and_then(|pem| DerPublicKey::from_pem(pem).ok());
    if key.as_ref() != Some(seen.key.spki()) {
        return Err(LogFault::OtherKey);
    }
    if BASE64.decode(&signature.content).ok().as_deref() != Some(seen.signature) {
        return Err(LogFault::OtherSignature);
    }
    if data.hash.value != Digest::sha256(seen.payload).hex() {
        return Err(LogFault::OtherPayload);
    }
    Ok(())
}

/// Proves that one of the logs of `trust` has the entry that a bundle carries, and that the entry
/// is about the bundle's own signature by `key`.
///
/// # Errors
///
/// [`LogFault`] says what does not hold.
pub fn verify_bundle(
    bundle: &Bundle,
    trust: &Trust,
    key: &PublicKey,
    subject: Sha256Hash,
) -> Result<Logged, LogFault> {
    let key = key.known().map_err(LogFault::Key)?;
    let bundle = bounded(bundle, trust)?;
    let entries = &bundle.verification_material.tlog_entries;
    if entries.iter().any(|entry| trust.log(entry.log_id.key_id.as_bytes()).is_none()) {
        return Err(LogFault::NotByLog);
    }
    let policy = PublicKeyVerificationPolicy::new(key.spki().clone());
    let result = trust.verifier.verify(subject, &bundle, &policy).map_err(fault)?;
    // For a key the times of logs come first, then the stamps.
    let mut times = seconds(&result);
    let stamps = times.split_off(times.len().saturating_sub(stamps_of(&bundle)));
    Ok(Logged { entries: places(&bundle, trust), times, stamps })
}

/// A bundle with log entries of which each is one that can be proven. Entries are taken out where no log
/// is trusted, and time stamps where no time stamper is: they prove nothing then.
pub(super) fn bounded(bundle: &Bundle, trust: &Trust) -> Result<Bundle, LogFault> {
    let mut bundle = bundle.clone();
    if !trust.demands_log() {
        bundle.verification_material.tlog_entries.clear();
    }
    if !trust.stamps {
        bundle.verification_material.timestamp_verification_data = Default::default();
    }
    let entries = &bundle.verification_material.tlog_entries;
    if entries.is_empty() && trust.demands_log() {
        return Err(LogFault::NoEntry);
    }
    if entries.len() > MOST || stamps_of(&bundle) > MOST {
        return Err(LogFault::TooMany);
    }
    // `sigstore-verify` proves what is there, and an entry without any proof passes by.
    let proven = |entry: &TransparencyLogEntry| {
        entry.inclusion_promise.is_some() || entry.inclusion_proof.is_some()
    };
    if !entries.iter().all(proven) {
        return Err(LogFault::Unproven);
    }
    Ok(bundle)
}

/// How many time stamps a bundle has.
pub(super) fn stamps_of(bundle: &Bundle) -> usize {
    bundle.verification_material.timestamp_verification_data.rfc3161_timestamps.len()
}

/// The proven times.
pub(super) fn seconds(result: &VerificationResult) -> Vec<i64> {
    result.verified_timestamps().iter().map(|time| time.as_second()).collect()
}

/// The logs' names and the places in them, as far as the logs signed them: a promise names both; a
/// checkpoint names its origin, and of the two numbers of Rekor v1 only that in the proof is used.
pub(super) fn places(bundle: &Bundle, trust: &Trust) -> Vec<(String, i64)> {
    let place = |entry: &TransparencyLogEntry| {
        let index = entry.log_index.as_i64();
        let Some(proof) =
            entry.inclusion_proof.as_ref().filter(|_| entry.inclusion_promise.is_none())
        else {
            let name = trust.log(entry.log_id.key_id.as_bytes()).unwrap_or_default();
            return (name.to_owned(), index);
        };
        let origin = proof.checkpoint.checkpoint().map(|checkpoint| checkpoint.origin());
        let origin = origin.unwrap_or_default().chars().take(100).collect();
        let v2 = entry.kind_version == KindVersion::HashedRekordV002;
        (origin, if v2 { index } else { proof.log_index.as_i64() })
    };
    bundle.verification_material.tlog_entries.iter().map(place).collect()
}

/// The crate's error in our words.
fn fault(error: sigstore_verify::Error) -> LogFault {
    match error {
        sigstore_verify::Error::TransparencyLog(TransparencyLogError::InclusionPromise(why)) => {
            LogFault::Promise(why.to_string().chars().take(300).collect())
        }
        other => LogFault::Bundle(other),
    }
}
