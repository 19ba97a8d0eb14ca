//! Whom keyless signatures are trusted by: certificate authorities, logs, time stampers.
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
use crate::signature::key::PublicKey;

/// How the media type of a trusted root begins, whatever its version.
const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.trustedroot";

/// Authorities, logs and time stampers, ready to verify with.
pub struct Trust {
    pub(super) verifier: Verifier,
    pub(super) policy: VerificationPolicy,
    /// Whether it has time stampers; without one, time stamps prove nothing.
    pub(super) stamps: bool,
    /// Whether it has CT logs, so that a certificate must be in one.
    pub(super) certificates_logged: bool,
    /// The ID of each log, and the name an administrator knows it by.
    logs: Vec<(Vec<u8>, String)>,
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
    /// [`TrustError`] when it is none, or has no authority or no log.
    pub fn from_json(bytes: &[u8]) -> Result<Self, TrustError> {
        let root: TrustedRoot = strict_json::parse(bytes).map_err(TrustError::Json)?;
        if !root.media_type.starts_with(MEDIA_TYPE) {
            return Err(TrustError::MediaType(root.media_type.chars().take(100).collect()));
        }
        let logs = root
            .tlogs
            .iter()
            .map(|log| (log.log_id.key_id.as_bytes().to_vec(), log.base_url.clone()))
            .collect();
        Self::new(&root, logs)
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
        let tlogs: Vec<Value> = logs.iter().map(|(key, _)| log_json(key)).collect();
        let root = root_json(&authorities, &tlogs).map_err(TrustError::Json)?;
        let named = |(key, name): &(&PublicKey, &str)| {
            (sha256(key.spki().as_bytes()).as_bytes().to_vec(), (*name).to_owned())
        };
        Self::new(&root, logs.iter().map(named).collect())
    }

    fn new(root: &TrustedRoot, logs: Vec<(Vec<u8>, String)>) -> Result<Self, TrustError> {
        if root.certificate_authorities.is_empty() {
            return Err(TrustError::Without("certificate authority"));
        }
        if root.tlogs.is_empty() {
            return Err(TrustError::Without("transparency log"));
        }
        // Who signed is for the caller to judge: this proves only that it was signed as it says.
        let mut policy = VerificationPolicy::any_identity();
        if root.ctlogs.is_empty() {
            policy = policy.skip_sct();
        }
        let verifier = Verifier::new(root).map_err(TrustError::Unusable)?;
        Ok(Self {
            verifier,
            policy,
            stamps: !root.timestamp_authorities.is_empty(),
            certificates_logged: !root.ctlogs.is_empty(),
            logs,
        })
    }

    /// The name of the log with this ID.
    pub(super) fn log(&self, id: &[u8]) -> String {
        let known = self.logs.iter().find(|(of, _)| of == id);
        known.map_or_else(String::new, |(_, name)| name.clone())
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Trust").field("logs", &self.logs).finish_non_exhaustive()
    }
}

/// A log in the form that `sigstore-verify` reads; its ID is the hash of its key.
pub(super) fn log_json(key: &PublicKey) -> Value {
    json!({
        "baseUrl": "",
        "hashAlgorithm": "SHA2_256",
        "publicKey": { "rawBytes": key.spki(), "keyDetails": "PKIX_ECDSA_P256_SHA_256" },
        "logId": { "keyId": sha256(key.spki().as_bytes()).to_base64() },
    })
}

/// A trusted root in the form that `sigstore-verify` reads.
pub(super) fn root_json(
    authorities: &[Value],
    logs: &[Value],
) -> Result<TrustedRoot, serde_json::Error> {
    serde_json::from_value(json!({
        "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
        "certificateAuthorities": authorities,
        "tlogs": logs,
    }))
}
