//! What evidence says of itself. None of it is proven: it is for showing, never for judging.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::oci::digest::Digest;
use crate::oci::strict_json;
use crate::oci::strict_json::Unfit;
use crate::policy::Attachment;
use crate::policy::Attestation;
use crate::policy::Evidence;
use crate::policy::SimpleSigning;
use crate::policy::proof::Signer;
use crate::signature::SignatureError;
use crate::signature::certificate;
use crate::signature::certificate::Certificate;
use crate::signature::openpgp::claimed;
use crate::signature::sigstore::CERTIFICATE;
use crate::signature::sigstore::SET;
use crate::signature::simple_signing::Kind;
use crate::signature::simple_signing::Payload;

/// What the tree of a document may take, in bytes: nearly all of a real one is one text.
const HEAVIEST: usize = 16 * 1024 * 1024;

/// A piece of evidence, and what it says of itself.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    /// What it is.
    pub kind: &'static str,
    /// The digest of its bytes.
    pub digest: Digest,
    /// How many they are.
    pub size: usize,
    /// The digest of what it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The name under which that is signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The predicate type of a statement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicate: Option<String>,
    /// Who signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signer: Option<String>,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// Where in transparency logs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub log_indexes: Vec<i64>,
    /// Why it cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// Of a statement what is shown; the rest has megabytes.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    predicate_type: Option<String>,
    #[serde(default)]
    subject: Vec<Subject>,
}

#[derive(Deserialize)]
struct Subject {
    #[serde(default)]
    digest: Sha256,
}

#[derive(Deserialize, Default)]
struct Sha256 {
    sha256: Option<String>,
}

/// A stranger's document as a tree, if that is not far larger than the text. What it means twice is
/// refused by the same walk.
fn tree(bytes: &[u8]) -> Result<Value, SignatureError> {
    strict_json::refuse_heavy(bytes, HEAVIEST).map_err(|unfit| match unfit {
        Unfit::Heavy => SignatureError::Intricate,
        Unfit::Json(error) => SignatureError::Statement(error),
    })?;
    serde_json::from_slice(bytes).map_err(SignatureError::Statement)
}

impl Evidence {
    /// Every piece, with what it says of itself.
    #[must_use]
    pub fn claims(&self) -> Vec<Item> {
        let signatures = self.signatures.iter().map(signature);
        let bundles = self.bundles.iter().map(|bytes| bundle("sigstore bundle", bytes));
        let openpgp = self.openpgp.iter().map(|bytes| openpgp(bytes));
        let attestations = self.attestations.iter().map(|found| match found {
            Attestation::Bundle(bytes) => bundle("attestation", bytes),
            Attestation::Attached(attachment) => attached(attachment),
        });
        let indexes = self.indexes.iter().map(|bytes| Item::of("image index", bytes));
        signatures.chain(bundles).chain(openpgp).chain(attestations).chain(indexes).collect()
    }
}

impl Item {
    /// One that says nothing of itself.
    fn of(kind: &'static str, bytes: &[u8]) -> Self {
        Self {
            kind,
            digest: Digest::sha256(bytes),
            size: bytes.len(),
            subject: None,
            reference: None,
            predicate: None,
            signer: None,
            time: None,
            log_indexes: Vec::new(),
            fault: None,
        }
    }

    /// What the statement says whose text is at `at` of a document.
    fn statement(&mut self, document: &Value, at: &str) {
        let payload = text(document, at).and_then(|text| BASE64.decode(text).ok());
        if let Some(Ok(statement)) = payload.map(|bytes| strict_json::parse::<Statement>(&bytes)) {
            self.predicate = statement.predicate_type;
            let digest = statement.subject.into_iter().next().and_then(|first| first.digest.sha256);
            self.subject = digest.map(|hex| format!("sha256:{hex}"));
        }
    }

    /// What the log's promise beside a signature says.
    fn promise(&mut self, annotation: Option<&String>) {
        let set = annotation.map(|text| tree(text.as_bytes()));
        if let Some(Ok(set)) = set {
            let number = |name: &str| set.pointer(name).and_then(Value::as_i64);
            self.time = number("/Payload/integratedTime").and_then(moment);
            self.log_indexes.extend(number("/Payload/logIndex"));
        }
    }
}

fn signature(from: &SimpleSigning) -> Item {
    let mut item = Item::of("cosign signature", &from.payload);
    item.signer = from.annotations.get(CERTIFICATE).map(|pem| owner(certificate::one(pem)));
    match Payload::parse(&from.payload, Kind::Cosign) {
        Ok(payload) => {
            item.subject = Some(payload.digest.to_string());
            item.reference = Some(payload.docker_reference);
        }
        Err(error) => item.fault = Some(error.to_string()),
    }
    item.promise(from.annotations.get(SET));
    item
}

/// An attestation as cosign v2 attaches it.
fn attached(from: &Attachment) -> Item {
    let mut item = Item::of("attached attestation", &from.envelope);
    item.signer = from.annotations.get(CERTIFICATE).map(|pem| owner(certificate::one(pem)));
    match tree(&from.envelope) {
        Ok(envelope) => item.statement(&envelope, "/payload"),
        Err(error) => item.fault = Some(error.to_string()),
    }
    item.promise(from.annotations.get(SET));
    item
}

fn openpgp(bytes: &[u8]) -> Item {
    let mut item = Item::of("OpenPGP signature", bytes);
    match claimed(bytes) {
        Ok(claimed) => {
            item.signer = Some(format!("the OpenPGP key {}", claimed.issuer));
            item.time = OffsetDateTime::from(claimed.time).format(&Rfc3339).ok();
            item.subject = Some(claimed.payload.digest.to_string());
            item.reference = Some(claimed.payload.docker_reference);
        }
        Err(error) => item.fault = Some(error.to_string()),
    }
    item
}

fn bundle(kind: &'static str, bytes: &[u8]) -> Item {
    let mut item = Item::of(kind, bytes);
    let bundle = match tree(bytes) {
        Ok(bundle) => bundle,
        Err(error) => return Item { fault: Some(error.to_string()), ..item },
    };
    item.statement(&bundle, "/dsseEnvelope/payload");
    let material = "/verificationMaterial";
    let hint = text(&bundle, &format!("{material}/publicKey/hint"));
    item.signer = hint.map(|hint| format!("the key with the hint {hint}"));
    let certificate = ["certificate", "x509CertificateChain/certificates/0"]
        .iter()
        .find_map(|at| text(&bundle, &format!("{material}/{at}/rawBytes")));
    if let Some(text) = certificate {
        let der = BASE64.decode(text).map_err(SignatureError::Base64);
        item.signer = Some(owner(der));
    }
    let entries = bundle.pointer(&format!("{material}/tlogEntries")).and_then(Value::as_array);
    for entry in entries.into_iter().flatten() {
        item.log_indexes.extend(number(entry.get("logIndex")));
        let time = number(entry.get("integratedTime")).filter(|time| *time > 0);
        item.time = item.time.or(time.and_then(moment));
    }
    item
}

/// The owner of a certificate, as it says.
fn owner(der: Result<Vec<u8>, SignatureError>) -> String {
    match der.and_then(|der| Certificate::parse(&der)) {
        Ok(certificate) => format!("a certificate for {}", Signer::from(certificate)),
        Err(_) => "a certificate that cannot be read".to_owned(),
    }
}

fn text(of: &Value, at: &str) -> Option<String> {
    of.pointer(at).and_then(Value::as_str).map(str::to_owned)
}

/// A number, which protobuf's JSON writes as text.
fn number(value: Option<&Value>) -> Option<i64> {
    let value = value?;
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

fn moment(seconds: i64) -> Option<String> {
    OffsetDateTime::from_unix_timestamp(seconds).ok()?.format(&Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::fulcio::Fulcio;
    use crate::signature::fulcio::Order;
    use crate::signature::keys;
    use crate::signature::keys::Log;

    #[test]
    fn the_owner_of_a_certificate_is_named_with_where_he_logged_in() {
        let (fulcio, log, time) = (Fulcio::make(), Log::default(), Log::TIME);
        let leaf = fulcio.issue(&Order::email("dev@shop.example"));
        let digest = format!("sha256:{}", "1".repeat(64));
        let payload = keys::payload("q.io/a", &digest);
        let signed = |change: &dyn Fn(&mut String)| {
            let mut annotations = leaf.annotations(&payload, &[], &log, time);
            change(annotations.get_mut(CERTIFICATE).unwrap());
            SimpleSigning { payload: payload.clone(), annotations }
        };
        let statement = keys::statement(keys::SIGN, &digest);
        let mut chained = leaf.bundle(&statement);
        let material = chained["verificationMaterial"].as_object_mut().unwrap();
        let certificate = material.remove("certificate").unwrap();
        material.insert(
            "x509CertificateChain".to_owned(),
            serde_json::json!({ "certificates": [certificate] }),
        );
        let evidence = Evidence {
            signatures: vec![signed(&|_| ()), signed(&|pem| pem.insert(40, '!'))],
            bundles: vec![
                leaf.logged_bundle(&statement, &log, time).to_string().into_bytes(),
                chained.to_string().into_bytes(),
            ],
            ..Evidence::default()
        };
        let signers = evidence.claims().into_iter().map(|item| item.signer.unwrap());
        let named = r#"a certificate for "dev@shop.example" of "https://login.example""#;
        let unread = "a certificate that cannot be read";
        assert_eq!(signers.collect::<Vec<_>>(), [named, unread, named, named]);
    }

    #[test]
    fn what_is_kept_says_what_it_claims_and_what_cannot_be_read_says_so() {
        let payload = br#"{"critical":{"identity":{"docker-reference":"q.io/a"},"image":
            {"docker-manifest-digest":"sha256:1111111111111111111111111111111111111111111111111111111111111111"},
            "type":"cosign container image signature"},"optional":null}"#;
        let set = r#"{"SignedEntryTimestamp":"x","Payload":{"body":"","integratedTime":1700000000,
            "logIndex":7,"logID":"a"}}"#;
        let statement = r#"{"predicateType":"https://slsa.dev/provenance/v1",
            "subject":[{"digest":{"sha256":"22"}}]}"#;
        let bundle = serde_json::json!({
            "verificationMaterial": {
                "publicKey": {"hint": "h"},
                "tlogEntries": [{"logIndex": "8", "integratedTime": "1700000000"}],
            },
            "dsseEnvelope": {"payload": BASE64.encode(statement)},
        });
        let evidence = Evidence {
            signatures: vec![SimpleSigning {
                payload: payload.to_vec(),
                annotations: [(SET.to_owned(), set.to_owned())].into(),
            }],
            bundles: vec![bundle.to_string().into_bytes(), b"{".to_vec()],
            ..Evidence::default()
        };
        let items = evidence.claims();
        assert_eq!(items[0].reference.as_deref(), Some("q.io/a"));
        assert_eq!(items[0].time.as_deref(), Some("2023-11-14T22:13:20Z"));
        assert_eq!((&items[0].log_indexes, &items[1].log_indexes), (&vec![7], &vec![8]));
        assert_eq!(items[1].predicate.as_deref(), Some("https://slsa.dev/provenance/v1"));
        assert_eq!(items[1].subject.as_deref(), Some("sha256:22"));
        assert!(items[2].fault.is_some() && items[2].size == 1);
    }
}
