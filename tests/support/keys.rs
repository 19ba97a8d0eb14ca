//! Keys made on the spot, and signatures by them in cosign's two forms.
//!
//! No private key lies in the tree: a test makes its own. The forms are those that cosign 2.6
//! (layers with annotations) and cosign 3.1 (sigstore bundles v0.3) were seen to write; the files
//! in `tests/data/signature` are theirs.
#![allow(dead_code, unreachable_pub, reason = "each test takes its own part, from where it is")]

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;
use serde_json::json;
use sigstore_verify::crypto::KeyPair;

/// The predicate type of an image signature.
pub const SIGN: &str = "https://sigstore.dev/cosign/sign/v1";
/// The payload type of an envelope around a statement.
const IN_TOTO: &str = "application/vnd.in-toto+json";
/// The predicate type of an SBOM.
pub const SPDX: &str = "https://spdx.dev/Document";

/// An ECDSA P-256 key pair that lives as long as the test.
#[derive(Debug)]
pub struct Key(KeyPair);

impl Default for Key {
    fn default() -> Self {
        Self::generate()
    }
}

impl Key {
    /// A new key pair.
    pub fn generate() -> Self {
        Self(KeyPair::generate_ecdsa_p256().expect("a new key"))
    }

    /// The public half, as `cosign generate-key-pair` writes it into `cosign.pub`.
    pub fn public_pem(&self) -> String {
        self.0.public_key_der().expect("a public key").to_pem()
    }

    /// The `SubjectPublicKeyInfo` in DER.
    pub fn public_der(&self) -> Vec<u8> {
        self.0.public_key_der().expect("a public key").as_bytes().to_vec()
    }

    /// A signature in ASN.1.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).expect("a signature").as_bytes().to_vec()
    }
}

/// Cosign's simple signing payload: `digest` is signed under the name `docker_reference`.
pub fn payload(docker_reference: &str, digest: &str) -> Vec<u8> {
    let critical = json!({
        "identity": { "docker-reference": docker_reference },
        "image": { "docker-manifest-digest": digest },
        "type": "cosign container image signature",
    });
    json!({ "critical": critical, "optional": null }).to_string().into_bytes()
}

/// The annotations that cosign puts beside a payload.
pub fn annotations(key: &Key, payload: &[u8]) -> BTreeMap<String, String> {
    let signature = BASE64.encode(key.sign(payload));
    BTreeMap::from([("dev.cosignproject.cosign/signature".to_owned(), signature)])
}

/// The same with the signed entry timestamp of `log`.
pub fn logged_annotations(key: &Key, log: &Log, payload: &[u8]) -> BTreeMap<String, String> {
    let mut annotations = annotations(key, payload);
    let signature = annotations["dev.cosignproject.cosign/signature"].clone();
    let body = hashedrekord(key, &signature, payload);
    annotations.insert("dev.sigstore.cosign/bundle".to_owned(), log.set(&body));
    annotations
}

/// The log's entry for a signature of a payload.
pub fn hashedrekord(key: &Key, signature: &str, payload: &[u8]) -> Value {
    hashedrekord_by(&key.public_pem(), signature, payload)
}

/// The same by whoever has the PEM `verifier`.
pub fn hashedrekord_by(verifier: &str, signature: &str, payload: &[u8]) -> Value {
    json!({
        "apiVersion": "0.0.1",
        "kind": "hashedrekord",
        "spec": {
            "data": { "hash": { "algorithm": "sha256", "value": hex(&sha256(payload)) } },
            "signature": {
                "content": signature,
                "publicKey": { "content": BASE64.encode(verifier) },
            },
        },
    })
}

/// An in-toto statement about `digest` (`sha256:…`).
pub fn statement(predicate_type: &str, digest: &str) -> Vec<u8> {
    let hex = digest.strip_prefix("sha256:").expect("a sha256 digest");
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{ "digest": { "sha256": hex }, "annotations": {} }],
        "predicateType": predicate_type,
        "predicate": {},
    })
    .to_string()
    .into_bytes()
}

/// An attestation as cosign 2 and 3 make it: an older statement, and something said in it.
pub fn attestation(predicate_type: &str, predicate: &Value, digest: &str) -> Vec<u8> {
    let hex = digest.strip_prefix("sha256:").expect("a sha256 digest");
    json!({
        "_type": "https://in-toto.io/Statement/v0.1",
        "subject": [{ "name": "registry.example/shop/api", "digest": { "sha256": hex } }],
        "predicateType": predicate_type,
        "predicate": predicate,
    })
    .to_string()
    .into_bytes()
}

/// A DSSE envelope by `key`, as cosign 2 attaches it to an image.
pub fn envelope(key: &Key, statement: &[u8]) -> Vec<u8> {
    envelope_json(key, IN_TOTO, statement).to_string().into_bytes()
}

/// The annotation that holds the promise of `log` for such an envelope.
pub fn envelope_promise(key: &Key, log: &Log, envelope: &[u8]) -> String {
    let envelope: Value = serde_json::from_slice(envelope).expect("an envelope");
    log.set(&dsse_entry(key, &envelope))
}

/// A sigstore bundle v0.3 by `key`: a DSSE envelope around `statement`, no log.
pub fn bundle(key: &Key, statement: &[u8]) -> Vec<u8> {
    bundle_json(key, statement, Vec::new()).to_string().into_bytes()
}

/// The same with an entry of `log`: inclusion promise, and inclusion proof with checkpoint.
pub fn logged_bundle(key: &Key, log: &Log, statement: &[u8]) -> Vec<u8> {
    let mut bundle = bundle_json(key, statement, Vec::new());
    let body = dsse_entry(key, &bundle["dsseEnvelope"]);
    bundle["verificationMaterial"]["tlogEntries"] = json!([log.entry(&body)]);
    bundle.to_string().into_bytes()
}

/// The same with an entry of `log` as Rekor v2 has it: no promise, and no time.
pub fn logged_bundle_v2(key: &Key, log: &Log, statement: &[u8]) -> Value {
    let mut bundle = bundle_json(key, statement, Vec::new());
    let body = json!({
        "apiVersion": "0.0.2",
        "kind": "hashedrekord",
        "spec": { "hashedRekordV002": {
            "data": { "algorithm": "SHA2_256", "digest": BASE64.encode(sha256(&pae(statement))) },
            "signature": {
                "content": bundle["dsseEnvelope"]["signatures"][0]["sig"],
                "verifier": {
                    "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                    "publicKey": { "rawBytes": BASE64.encode(key.public_der()) },
                },
            },
        } },
    });
    bundle["verificationMaterial"]["tlogEntries"] = json!([log.entry_v2(&body)]);
    bundle
}

/// What is signed of a statement in an envelope (DSSE's PAE).
pub fn pae(statement: &[u8]) -> Vec<u8> {
    let kind = "application/vnd.in-toto+json";
    let head = format!("DSSEv1 {} {kind} {} ", kind.len(), statement.len());
    [head.as_bytes(), statement].concat()
}

fn bundle_json(key: &Key, statement: &[u8], entries: Vec<Value>) -> Value {
    let hint = BASE64.encode(sha256(&key.public_der()));
    json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": { "publicKey": { "hint": hint }, "tlogEntries": entries },
        "dsseEnvelope": envelope_json(key, IN_TOTO, statement),
    })
}

/// A DSSE envelope around a payload of any kind.
pub fn envelope_json(key: &Key, kind: &str, payload: &[u8]) -> Value {
    let mut signed = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    signed.extend_from_slice(payload);
    json!({
        "payloadType": kind,
        "payload": BASE64.encode(payload),
        "signatures": [{ "sig": BASE64.encode(key.sign(&signed)) }],
    })
}

/// The log's entry for an envelope.
fn dsse_entry(key: &Key, envelope: &Value) -> Value {
    let payload = BASE64.decode(envelope["payload"].as_str().expect("a payload"));
    let payload = sha256(&payload.expect("base64"));
    let signature = &envelope["signatures"][0]["sig"];
    json!({
        "apiVersion": "0.0.1",
        "kind": "dsse",
        "spec": {
            "envelopeHash": { "algorithm": "sha256", "value": hex(&sha256(b"not verifiable")) },
            "payloadHash": { "algorithm": "sha256", "value": hex(&payload) },
            "signatures": [{ "signature": signature, "verifier": BASE64.encode(key.public_pem()) }],
        },
    })
}

/// A transparency log of two entries, the second of which is not ours.
#[derive(Debug, Default)]
pub struct Log {
    /// What the log signs with.
    pub key: Key,
}

impl Log {
    /// When the log takes in every entry.
    pub const TIME: i64 = 1_700_000_000;

    /// Cosign's annotation `dev.sigstore.cosign/bundle` for an entry.
    pub fn set(&self, body: &Value) -> String {
        self.set_at(body, Self::TIME)
    }

    /// The same, taken in at `time`.
    pub fn set_at(&self, body: &Value, time: i64) -> String {
        let body = BASE64.encode(body.to_string());
        let timestamp = BASE64.encode(self.key.sign(self.promised(&body, time).as_bytes()));
        json!({
            "SignedEntryTimestamp": timestamp,
            "Payload": {
                "body": body, "integratedTime": time, "logIndex": 0, "logID": self.id_hex(),
            },
        })
        .to_string()
    }

    /// A bundle's `tlogEntries` element for an entry.
    pub fn entry(&self, body: &Value) -> Value {
        self.entry_at(body, Self::TIME)
    }

    /// The same, taken in at `time`.
    pub fn entry_at(&self, body: &Value, time: i64) -> Value {
        let text = BASE64.encode(body.to_string());
        let promise = self.key.sign(self.promised(&text, time).as_bytes());
        let mut entry = self.entry_v2(body);
        entry["integratedTime"] = time.to_string().into();
        entry["inclusionPromise"] = json!({ "signedEntryTimestamp": BASE64.encode(promise) });
        entry
    }

    /// The same as a log of Rekor v2 gives it: no promise and no time.
    pub fn entry_v2(&self, body: &Value) -> Value {
        let text = body.to_string();
        let leaf = sha256(&[&[0], text.as_bytes()].concat());
        let other = sha256(&[&[0], b"another entry".as_slice()].concat());
        let root = sha256(&[&[1], leaf.as_slice(), other.as_slice()].concat());
        json!({
            "logIndex": "0",
            "logId": { "keyId": BASE64.encode(sha256(&self.key.public_der())) },
            "kindVersion": { "kind": body["kind"], "version": body["apiVersion"] },
            "inclusionProof": {
                "logIndex": "0",
                "treeSize": "2",
                "rootHash": BASE64.encode(&root),
                "hashes": [BASE64.encode(other)],
                "checkpoint": { "envelope": self.checkpoint(&root) },
            },
            "canonicalizedBody": BASE64.encode(&text),
        })
    }

    fn checkpoint(&self, root: &[u8]) -> String {
        let note = format!("log.example - 1\n2\n{}\n", BASE64.encode(root));
        let mut signature = sha256(&self.key.public_der())[..4].to_vec();
        signature.extend(self.key.sign(note.as_bytes()));
        format!("{note}\n\u{2014} log.example {}\n", BASE64.encode(signature))
    }

    fn promised(&self, body: &str, time: i64) -> String {
        let id = self.id_hex();
        format!(r#"{{"body":"{body}","integratedTime":{time},"logID":"{id}","logIndex":0}}"#)
    }

    fn id_hex(&self) -> String {
        hex(&sha256(&self.key.public_der()))
    }
}

/// The SHA-256 of some bytes.
pub fn sha256(bytes: &[u8]) -> Vec<u8> {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
