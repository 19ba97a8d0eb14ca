//! Whom signatures are trusted by beside their keys: certificate authorities, logs, time stampers.
//!
//! They come from a `trusted_root.json`, as `cosign trusted-root create` and sigstore's TUF
//! repositories give it, each with the time it holds for; or from the certificates and log keys
//! that a policy names. Nothing is ever fetched.

use std::fmt;

use serde_json::Value;
use serde_json::json;
use sigstore_verify::VerificationPolicy;
use sigstore_verify::Verifier;
use sigstore_verify::crypto::sha256;
use sigstore_verify::trust_root::TrustedRoot;

use crate::oci::strict_json;
use crate::signature::SignatureError;
use crate::signature::certificate;
use crate::signature::certificate::Authorities;
use crate::signature::key::PublicKey;

/// How the media type of a trusted root begins, whatever its version.
const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.trustedroot";

/// Authorities, logs and time stampers, ready to verify with.
pub struct Trust {
    pub(super) verifier: Verifier,
    /// Whether it has time stampers; without one, time stamps prove nothing.
    pub(super) stamps: bool,
    /// Whether it has CT logs, so that a certificate must be in one.
    pub(super) certificates_logged: bool,
    /// The authorities without their times: enough to tell whose word a stranger has.
    pub(super) authorities: Authorities,
    logs: Vec<Log>,
}

/// A transparency log.
#[derive(Debug)]
struct Log {
    id: Vec<u8>,
    /// What an administrator knows it by.
    name: String,
    /// Its key, if it is of a kind that signs entries of Rekor v1.
    key: Option<PublicKey>,
    /// From when, and until when if that is known, in seconds since 1970.
    valid: Option<(i64, Option<i64>)>,
}

/// Why there is nothing to verify with.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Not the document.
    #[error("not a sigstore trusted root")]
    Json(#[source] serde_json::Error),
    /// A document of another kind.
    #[error("its media type is {0:?}, not that of a sigstore trusted root")]
    MediaType(String),
    /// Nothing could ever be verified with it.
    #[error("it names no {0}")]
    Without(&'static str),
    /// A certificate cannot be read.
    #[error("it holds a certificate that cannot be read")]
    Certificate(#[source] SignatureError),
    /// A key or certificate in it is not usable.
    #[error("it cannot be used")]
    Unusable(#[source] sigstore_verify::Error),
}

impl Trust {
    /// Reads a `trusted_root.json`.
    ///
    /// # Errors
    ///
    /// [`TrustError`] when it is none, or has no authority, or neither a log nor a time stamper.
    pub fn from_json(bytes: &[u8]) -> Result<Self, TrustError> {
        let (root, logs) = read(bytes)?;
        if root.certificate_authorities.is_empty() {
            return Err(TrustError::Without("certificate authority"));
        }
        Self::new(&root, logs)
    }

    /// Reads a `trusted_root.json` of which only the logs and time stampers are needed: keys sign.
    ///
    /// # Errors
    ///
    /// [`TrustError`] when it is none, or has no log.
    pub fn logs_from_json(bytes: &[u8]) -> Result<Self, TrustError> {
        let (root, logs) = read(bytes)?;
        if logs.is_empty() {
            return Err(TrustError::Without("transparency log"));
        }
        Self::new(&root, logs)
    }

    /// Trusts `logs` with their names, and nobody else.
    ///
    /// # Errors
    ///
    /// [`TrustError`] when there is none.
    pub fn of_logs(logs: &[(&PublicKey, &str)]) -> Result<Self, TrustError> {
        Self::of_parts(&[], logs)
    }

    /// Trusts the authorities in `pem` at all times, and `logs` with their names.
    ///
    /// # Errors
    ///
    /// [`TrustError`] when a certificate cannot be read, or there is none.
    pub fn from_parts(pem: &[u8], logs: &[(&PublicKey, &str)]) -> Result<Self, TrustError> {
        let certificates = certificate::several(pem).map_err(TrustError::Certificate)?;
        let authorities: Vec<Value> = certificates
            .iter()
            .map(|der| {
                let raw = sigstore_verify::types::DerCertificate::from_bytes(der);
                json!({ "uri": "", "certChain": { "certificates": [{ "rawBytes": raw }] } })
            })
            .collect();
        if authorities.is_empty() {
            return Err(TrustError::Without("certificate authority"));
        }
        Self::of_parts(&authorities, logs)
    }

    fn of_parts(authorities: &[Value], logs: &[(&PublicKey, &str)]) -> Result<Self, TrustError> {
        let tlogs: Vec<Value> = logs.iter().map(|(key, _)| log_json(key)).collect();
        let root = root_json(authorities, &tlogs).map_err(TrustError::Json)?;
        let named = |(key, name): &(&PublicKey, &str)| Log {
            id: sha256(key.spki().as_bytes()).as_bytes().to_vec(),
            name: (*name).to_owned(),
            key: Some((*key).clone()),
            valid: None,
        };
        Self::new(&root, logs.iter().map(named).collect())
    }

    fn new(root: &TrustedRoot, logs: Vec<Log>) -> Result<Self, TrustError> {
        if root.tlogs.is_empty() && root.timestamp_authorities.is_empty() {
            return Err(TrustError::Without("transparency log and no time stamper"));
        }
        let verifier = Verifier::new(root).map_err(TrustError::Unusable)?;
        let authorities =
            root.certificate_authorities.iter().flat_map(|of| &of.cert_chain.certificates);
        let authorities = authorities.map(|certificate| certificate.raw_bytes.as_bytes().to_vec());
        let authorities = Authorities::all_of(authorities).map_err(TrustError::Certificate)?;
        Ok(Self {
            authorities,
            verifier,
            stamps: !root.timestamp_authorities.is_empty(),
            certificates_logged: !root.ctlogs.is_empty(),
            logs,
        })
    }

    /// What must hold of a signature with a certificate: what the root has no log for is not in one. GitHub's,
    /// for private repositories, has neither transparency logs nor CT logs.
    pub(super) fn demands(&self, mut policy: VerificationPolicy) -> VerificationPolicy {
        if !self.demands_log() {
            policy = policy.skip_tlog_unsafe();
        }
        if !self.certificates_logged {
            policy = policy.skip_sct();
        }
        policy
    }

    /// Whether a signature must be in a log: else a time stamp is what says when it was made.
    pub(super) fn demands_log(&self) -> bool {
        !self.logs.is_empty()
    }

    /// The name of the log with this ID, if it is one of these.
    pub(super) fn log(&self, id: &[u8]) -> Option<&str> {
        self.logs.iter().find(|log| log.id == id).map(|log| log.name.as_str())
    }

    /// The name of the log that signed `message`, and was in use at `time`.
    pub(super) fn signed_by(&self, message: &[u8], signature: &[u8], time: i64) -> Option<&str> {
        let holds = |log: &&Log| {
            log.key.as_ref().is_some_and(|key| key.verifies(message, signature))
                && log
                    .valid
                    .is_none_or(|(start, end)| time >= start && end.is_none_or(|end| time <= end))
        };
        self.logs.iter().find(holds).map(|log| log.name.as_str())
    }
}

/// Reads a trusted root and its logs.
fn read(bytes: &[u8]) -> Result<(TrustedRoot, Vec<Log>), TrustError> {
    let root: TrustedRoot = strict_json::parse(bytes).map_err(TrustError::Json)?;
    if !root.media_type.starts_with(MEDIA_TYPE) {
        return Err(TrustError::MediaType(root.media_type.chars().take(100).collect()));
    }
    let logs = root.tlogs.iter().map(|log| Log {
        id: log.log_id.key_id.as_bytes().to_vec(),
        name: log.base_url.clone(),
        key: PublicKey::from_der(log.public_key.raw_bytes.as_bytes().to_vec())
            .ok()
            .filter(|key| key.known().is_ok()),
        valid: log
            .public_key
            .valid_for
            .map(|range| (range.start.as_second(), range.end.map(|end| end.as_second()))),
    });
    let logs = logs.collect();
    Ok((root, logs))
}

impl fmt::Debug for Trust {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Trust").field("logs", &self.logs).finish_non_exhaustive()
    }
}

/// A log in the form that `sigstore-verify` reads; its ID is the hash of its key.
fn log_json(key: &PublicKey) -> Value {
    json!({
        "baseUrl": "",
        "hashAlgorithm": "SHA2_256",
        "publicKey": { "rawBytes": key.spki(), "keyDetails": "PKIX_ECDSA_P256_SHA_256" },
        "logId": { "keyId": sha256(key.spki().as_bytes()).to_base64() },
    })
}

/// A trusted root in the form that `sigstore-verify` reads.
fn root_json(authorities: &[Value], logs: &[Value]) -> Result<TrustedRoot, serde_json::Error> {
    serde_json::from_value(json!({
        "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
        "certificateAuthorities": authorities,
        "tlogs": logs,
    }))
}
