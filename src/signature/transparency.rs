//! Proofs that a transparency log has seen a signature, checked without the log.
//!
//! For cosign's annotations it is the signed entry timestamp (SET) of a Rekor v1 log: the log's
//! signature over the entry's body, index and time in canonical JSON. The body must be about this
//! key, this signature and this payload; otherwise one entry would vouch for every signature
//! (CVE-2022-36056). Bundles carry the same, or a Merkle inclusion proof with a signed
//! checkpoint; they are checked by `sigstore-verify`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use sigstore_verify::PublicKeyVerificationPolicy;
use sigstore_verify::Verifier;
use sigstore_verify::types::Bundle;
use sigstore_verify::types::DerPublicKey;
use sigstore_verify::types::Sha256Hash;

use crate::oci::digest::Digest;
use crate::oci::strict_json;
use crate::signature::error::LogFault;
use crate::signature::key::PublicKey;
use crate::signature::trust;

/// Numbers above this are not the same in every JSON (RFC 8785 section 3.2.2.3).
const SAFE_INTEGER: i64 = 1 << 53;

/// An entry of a log, proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Which of the logs.
    pub log: usize,
    /// Its place in the log.
    pub index: i64,
    /// When the log took it in, in seconds since 1970, if the log signed that.
    pub time: Option<i64>,
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

/// Proves by a signed entry timestamp that one of `logs` has seen `seen`.
///
/// # Errors
///
/// [`LogFault`] says what does not hold.
pub fn verify_set(set: &[u8], logs: &[PublicKey], seen: &Seen<'_>) -> Result<LogEntry, LogFault> {
    let set: Set = strict_json::parse(set).map_err(LogFault::Json)?;
    let signed = set.payload.canonical().ok_or(LogFault::NotByLog)?;
    let timestamp = BASE64.decode(&set.timestamp).map_err(|_| LogFault::NotByLog)?;
    let log = logs.iter().position(|log| log.verifies(&signed, &timestamp));
    let log = log.ok_or(LogFault::NotByLog)?;
    let body = BASE64.decode(&set.payload.body).map_err(|_| LogFault::Entry)?;
    verify_entry(&body, seen)?;
    Ok(LogEntry { log, index: set.payload.log_index, time: Some(set.payload.integrated_time) })
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

/// Proves that one of `logs` has the entry that a bundle carries, and that the entry is about the
/// bundle's own signature by `key`.
///
/// # Errors
///
/// [`LogFault`] says what does not hold.
pub fn verify_bundle(
    bundle: &Bundle,
    logs: &[PublicKey],
    key: &PublicKey,
    subject: Sha256Hash,
) -> Result<LogEntry, LogFault> {
    let mut bundle = bundle.clone();
    // A key has no time, so time stamps prove nothing here, and their authorities are not known.
    bundle.verification_material.timestamp_verification_data = Default::default();
    let Some(entry) = bundle.verification_material.tlog_entries.first() else {
        return Err(LogFault::NoEntry);
    };
    let time = entry.inclusion_promise.is_some().then_some(entry.integrated_time).flatten();
    let log = logs.iter().position(|log| id(log).as_bytes() == entry.log_id.key_id.as_bytes());
    let entry = LogEntry {
        log: log.ok_or(LogFault::NotByLog)?,
        index: entry.log_index.as_i64(),
        time: time.map(|time| time.as_second()),
    };
    let logs: Vec<_> = logs.iter().map(trust::log_json).collect();
    let root = trust::root_json(&[], &logs).map_err(LogFault::Json)?;
    let policy = PublicKeyVerificationPolicy::new(key.spki().clone());
    Verifier::new(&root)
        .and_then(|verifier| verifier.verify(subject, &bundle, &policy))
        .map_err(LogFault::Bundle)?;
    Ok(entry)
}

/// A log's ID.
fn id(log: &PublicKey) -> Sha256Hash {
    sigstore_verify::crypto::sha256(log.spki().as_bytes())
}
