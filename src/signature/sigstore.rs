//! Cosign's signatures as layers: a payload, and annotations beside it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde::Serialize;

use crate::oci::strict_json;
use crate::signature::SignatureError;
use crate::signature::key::PublicKey;
use crate::signature::simple_signing::Kind;
use crate::signature::simple_signing::Payload;
use crate::signature::transparency;
use crate::signature::transparency::Logged;
use crate::signature::trust::Trust;

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
/// The annotation that holds a time stamp (RFC 3161) of the signature.
const TIMESTAMP: &str = "dev.sigstore.cosign/rfc3161timestamp";

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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stamp {
    #[serde(rename = "SignedRFC3161Timestamp")]
    token: String,
}

/// What a true signature says.
#[derive(Debug)]
pub struct Proven {
    /// What is signed.
    pub payload: Payload,
    /// Which of the keys signed it.
    pub key: usize,
    /// Where it is in the log, if that was asked for.
    pub logged: Logged,
}

impl SimpleSigning {
    /// Proves the signature with one of `keys`; and, if `logs` are given, that one of these logs
    /// has seen this very signature, of this payload, by this key. A time stamp is not looked at:
    /// a key has no time.
    ///
    /// # Errors
    ///
    /// [`SignatureError`] says what does not hold.
    pub fn verify(
        &self,
        keys: &[PublicKey],
        logs: Option<&Trust>,
    ) -> Result<Proven, SignatureError> {
        let signature = self.signature()?;
        let (index, key) = keys
            .iter()
            .enumerate()
            .find(|(_, key)| key.verifies(&self.payload, &signature))
            .ok_or(SignatureError::NotByAnyKey)?;
        let mut logged = Logged::default();
        if let Some(trust) = logs {
            let seen = transparency::Seen { key, signature: &signature, payload: &self.payload };
            logged = transparency::verify_set(self.annotation(SET)?.as_bytes(), trust, &seen)
                .map_err(SignatureError::Log)?;
        }
        Ok(Proven { payload: Payload::parse(&self.payload, Kind::Cosign)?, key: index, logged })
    }

    /// The bytes of the signature.
    pub(super) fn signature(&self) -> Result<Vec<u8>, SignatureError> {
        BASE64.decode(self.annotation(SIGNATURE)?).map_err(SignatureError::Base64)
    }

    /// The time stamp beside it, as base64; nothing of it is proven.
    pub(super) fn stamp(&self) -> Result<Option<String>, SignatureError> {
        let text = self.annotations.get(TIMESTAMP).filter(|text| !text.is_empty());
        let stamp = text.map(|text| strict_json::parse::<Stamp>(text.as_bytes())).transpose();
        let stamp = stamp.map_err(|_| SignatureError::Malformed(TIMESTAMP))?;
        Ok(stamp.map(|stamp| stamp.token))
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
