//! Cosign's signatures as layers: a payload, and annotations beside it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde::Serialize;

use crate::signature::SignatureError;
use crate::signature::error::LogFault;
use crate::signature::key::PublicKey;
use crate::signature::simple_signing::Kind;
use crate::signature::simple_signing::Payload;
use crate::signature::transparency;
use crate::signature::transparency::LogEntry;

/// The media type of the layer that holds a payload.
pub const MEDIA_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The annotation that holds the signature of the payload.
pub const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// The annotation that holds the certificate of who signed.
pub const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
/// The annotation that holds the log's signed entry timestamp.
pub const SET: &str = "dev.sigstore.cosign/bundle";
/// The annotation that holds the certificates above it, as PEM.
pub const CHAIN: &str = "dev.sigstore.cosign/chain";

/// A signature as found: nothing in it is proven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimpleSigning {
    /// The bytes of the layer.
    #[serde(with = "base64_bytes")]
    pub payload: Vec<u8>,
    /// The annotations of its descriptor.
    pub annotations: BTreeMap<String, String>,
}

/// What a true signature says.
#[derive(Debug)]
pub struct Proven {
    /// What is signed.
    pub payload: Payload,
    /// Which of the keys signed it.
    pub key: usize,
    /// Where it is in the log, if that was asked for.
    pub entry: Option<LogEntry>,
}

impl SimpleSigning {
    /// Proves the signature with one of `keys`; and, if `logs` are given, that one of these logs
    /// has seen this very signature, of this payload, by this key.
    ///
    /// # Errors
    ///
    /// [`SignatureError`] says what does not hold.
    pub fn verify(&self, keys: &[PublicKey], logs: &[PublicKey]) -> Result<Proven, SignatureError> {
        let signature = self.signature()?;
        let (index, key) = keys
            .iter()
            .enumerate()
            .find(|(_, key)| key.verifies(&self.payload, &signature))
            .ok_or(SignatureError::NotByAnyKey)?;
        let entry = if logs.is_empty() {
            None
        } else {
            let seen = transparency::Seen { key, signature: &signature, payload: &self.payload };
            let entry = transparency::verify_set(self.annotation(SET)?.as_bytes(), logs, &seen);
            Some(entry.map_err(|fault: LogFault| SignatureError::Log(fault))?)
        };
        Ok(Proven { payload: Payload::parse(&self.payload, Kind::Cosign)?, key: index, entry })
    }

    /// The bytes of the signature.
    pub(super) fn signature(&self) -> Result<Vec<u8>, SignatureError> {
        BASE64.decode(self.annotation(SIGNATURE)?).map_err(SignatureError::Base64)
    }

    /// An annotation that must be there.
    pub(super) fn annotation(&self, name: &'static str) -> Result<&str, SignatureError> {
        let found = self.annotations.get(name).ok_or(SignatureError::Annotation(name))?;
        Ok(found)
    }
}

/// Bytes as base64 text in JSON.
pub mod base64_bytes {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD as BASE64;
    use serde::Deserialize;
    use serde::Deserializer;
    use serde::Serializer;
    use serde::de::Error as _;

    /// Writes `bytes` as base64.
    ///
    /// # Errors
    ///
    /// What the serializer says.
    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(bytes))
    }

    /// Reads base64.
    ///
    /// # Errors
    ///
    /// When the text is none.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        BASE64.decode(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
