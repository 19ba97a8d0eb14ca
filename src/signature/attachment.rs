//! Attestations as cosign v2 attaches them to an image: DSSE envelopes as layers, and annotations
//! beside them.
//!
//! What the annotations carry is what a bundle carries, in another form. So an attachment is
//! rewritten into a bundle of version 0.1, and is judged as any bundle is; nothing of it is
//! believed by that. A time stamp beside it is left out: cosign 2 has the whole envelope stamped, where
//! in a bundle it is the signature. The log's promise has a time, and is always there.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;
use serde_json::value::RawValue;

use crate::oci::strict_json;
use crate::signature::SignatureError;
use crate::signature::bundle::Bundle;
use crate::signature::sigstore::CERTIFICATE;
use crate::signature::sigstore::CHAIN;
use crate::signature::sigstore::SET;
use crate::signature::sigstore::base64_bytes;

/// The media type of the layer that holds an envelope.
pub const MEDIA_TYPE: &str = "application/vnd.dsse.envelope.v1+json";
/// The annotation that names the predicate type: a claim.
pub const PREDICATE_TYPE: &str = "predicateType";
/// The version of bundles whose log entries have a promise and no proof, as the annotations have.
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle+json;version=0.1";

/// An attestation as found: nothing in it is proven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attachment {
    /// The bytes of the layer.
    #[serde(with = "base64_bytes")]
    pub envelope: Vec<u8>,
    /// The annotations of its descriptor.
    pub annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Promise {
    #[serde(rename = "SignedEntryTimestamp")]
    timestamp: String,
    #[serde(rename = "Payload")]
    entry: Entry,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    body: String,
    #[serde(rename = "integratedTime")]
    time: i64,
    #[serde(rename = "logIndex")]
    index: i64,
    #[serde(rename = "logID")]
    log: String,
}

#[derive(Deserialize)]
struct Kind {
    kind: String,
    #[serde(rename = "apiVersion")]
    version: String,
}

impl Attachment {
    /// The same as a bundle.
    ///
    /// # Errors
    ///
    /// [`SignatureError`] when envelope or annotations are not what cosign writes.
    pub fn bundle(&self) -> Result<Bundle, SignatureError> {
        let envelope: &RawValue =
            strict_json::parse(&self.envelope).map_err(SignatureError::Envelope)?;
        let (signer, of_signer) = match self.certificates()? {
            Some(certificates) => ("x509CertificateChain", json!({ "certificates": certificates })),
            None => ("publicKey", json!({ "hint": "" })),
        };
        let material = json!({
            "tlogEntries": self.entries()?,
            signer: of_signer,
        });
        let bundle = format!(
            r#"{{"mediaType":"{BUNDLE}","verificationMaterial":{material},"dsseEnvelope":{envelope}}}"#
        );
        Bundle::parse(bundle.as_bytes())
    }

    fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// The signer's certificate and those above it, or none where a key signed.
    fn certificates(&self) -> Result<Option<Vec<Value>>, SignatureError> {
        let Some(leaf) = self.annotation(CERTIFICATE) else {
            return Ok(None);
        };
        let certificates = [Some(leaf), self.annotation(CHAIN)].into_iter().flatten();
        let mut raw = Vec::new();
        for pem in certificates {
            raw.extend(der_of_pem(pem).ok_or(SignatureError::Malformed(CERTIFICATE))?);
        }
        Ok(Some(raw.iter().map(|der| json!({ "rawBytes": BASE64.encode(der) })).collect()))
    }

    /// The log's promise as a bundle has it.
    fn entries(&self) -> Result<Vec<Value>, SignatureError> {
        let Some(text) = self.annotation(SET) else {
            return Ok(Vec::new());
        };
        let malformed = || SignatureError::Malformed(SET);
        let promise: Promise = strict_json::parse(text.as_bytes()).map_err(|_| malformed())?;
        let body = BASE64.decode(&promise.entry.body).map_err(|_| malformed())?;
        let kind: Kind = strict_json::parse(&body).map_err(|_| malformed())?;
        let log = hex(&promise.entry.log).ok_or_else(malformed)?;
        Ok(vec![json!({
            "logIndex": promise.entry.index.to_string(),
            "logId": { "keyId": BASE64.encode(log) },
            "kindVersion": { "kind": kind.kind, "version": kind.version },
            "integratedTime": promise.entry.time.to_string(),
            "inclusionPromise": { "signedEntryTimestamp": promise.timestamp },
            "canonicalizedBody": promise.entry.body,
        })])
    }
}

/// The certificates of a PEM file. Only the marks are looked at; what is between is base64.
fn der_of_pem(pem: &str) -> Option<Vec<Vec<u8>>> {
    let mut rest = pem.trim_start();
    let mut found = Vec::new();
    while !rest.is_empty() {
        let body = rest.strip_prefix("-----BEGIN CERTIFICATE-----")?;
        let (body, after) = body.split_once("-----END CERTIFICATE-----")?;
        let text: String = body.chars().filter(|letter| !letter.is_ascii_whitespace()).collect();
        found.push(BASE64.decode(text).ok()?);
        rest = after.trim_start();
    }
    (!found.is_empty()).then_some(found)
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let byte = |two: &[u8]| match two {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    text.as_bytes().chunks(2).map(byte).collect()
}
