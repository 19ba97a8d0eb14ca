//! Signatures by people and jobs that logged in somewhere: whom a policy accepts, and what an
//! attacker tries.

mod attested;
mod golden;
mod kubernetes;
mod logs;
mod pki;
mod proofs;
mod unlogged;
mod who;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::time::SystemTime;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use serde_json::Value;
use serde_json::json;

use crate::oci::digest::Digest;
use crate::oci::reference::Reference;
use crate::policy::Evidence;
use crate::policy::Outcome;
use crate::policy::Policy;
use crate::policy::PolicyError;
use crate::policy::Subject;
use crate::policy::Verdict;
use crate::policy::evaluate;
use crate::policy::tests::DIGEST;
use crate::policy::tests::IMAGE;
use crate::policy::tests::OTHER;
use crate::policy::tests::bundled;
use crate::policy::tests::found;
use crate::signature::fulcio::Fulcio;
use crate::signature::fulcio::Leaf;
use crate::signature::fulcio::Order;
use crate::signature::fulcio::Tsa;
use crate::signature::keys as signers;
use crate::signature::keys::Key;
use crate::signature::keys::Log;

/// Who signs in these tests, and where she logged in.
const DEV: &str = "dev@shop.example";
const ISSUER: &str = "https://login.example";
/// A job of a workflow.
const JOB: &str = "https://git.example/shop/api/.github/workflows/release.yml@refs/tags/v1";

/// A node that trusts one Fulcio, one log and one time stamper.
struct Node {
    fulcio: Fulcio,
    log: Log,
    tsa: Tsa,
    files: RefCell<BTreeMap<PathBuf, Vec<u8>>>,
}

impl Node {
    fn new() -> Self {
        let (fulcio, log, tsa) = (Fulcio::make(), Log::default(), Tsa::make());
        let root = fulcio.trusted_root(&[&log], Some(&tsa));
        let files = BTreeMap::from([
            (PathBuf::from("/etc/fulcio.pem"), fulcio.root.pem().into_bytes()),
            (PathBuf::from("/etc/rekor.pub"), log.key.public_pem().into_bytes()),
            (PathBuf::from("/etc/root.json"), root.to_string().into_bytes()),
        ]);
        Self { fulcio, log, tsa, files: RefCell::new(files) }
    }

    fn put(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.files.borrow_mut().insert(path.into(), bytes.into());
    }

    /// Changes the trusted root.
    fn root(&self, change: impl Fn(&mut Value)) {
        let mut root = self.fulcio.trusted_root(&[&self.log], Some(&self.tsa));
        change(&mut root);
        self.put("/etc/root.json", root.to_string());
    }

    fn parse(&self, requirement: &Value) -> Result<Policy, PolicyError> {
        let text = json!({ "default": [requirement] }).to_string();
        Policy::parse(Path::new("/p"), text.as_bytes(), &|path| {
            self.files.borrow().get(path).cloned().ok_or(io::Error::from_raw_os_error(2))
        })
    }

    fn verdict(&self, requirement: &Value, evidence: &Evidence, now: SystemTime) -> Verdict {
        let policy = self.parse(requirement).unwrap_or_else(|error| panic!("{error}"));
        let reference = Reference::parse_normalized(IMAGE).unwrap();
        let digest: Digest = DIGEST.parse().unwrap();
        let subject = Subject { reference: &reference, manifest_digest: &digest };
        evaluate(&policy, &subject, evidence, now)
    }

    /// What the one requirement says.
    fn judge(&self, requirement: &Value, evidence: &Evidence) -> Result<String, String> {
        let mut verdict = self.verdict(requirement, evidence, SystemTime::now());
        match verdict.requirements.remove(0).outcome {
            Outcome::Accepted(proof) => Ok(proof.to_string()),
            Outcome::Rejected(reason) => Err(reason.words),
        }
    }

    fn leaf(&self) -> Leaf {
        self.fulcio.issue(&Order::email(DEV))
    }

    /// Cosign v2's form, logged at `time`.
    fn signed_at(&self, leaf: &Leaf, time: i64) -> Evidence {
        let payload = signers::payload(IMAGE, DIGEST);
        let chain = [&self.fulcio.intermediate, &self.fulcio.root];
        let annotations = leaf.annotations(&payload, &chain, &self.log, time);
        found(payload, annotations)
    }

    fn signed(&self, leaf: &Leaf) -> Evidence {
        self.signed_at(leaf, Log::TIME)
    }

    /// Cosign v3's form with a Rekor v1 entry.
    fn bundle(&self, leaf: &Leaf) -> Value {
        leaf.logged_bundle(&statement(), &self.log, Log::TIME)
    }

    /// Cosign v3's form with a Rekor v2 entry and a time stamp.
    fn stamped(&self, leaf: &Leaf) -> Value {
        leaf.stamped_bundle(&statement(), &self.log, &self.tsa, Log::TIME)
    }

    /// The three forms.
    fn forms(&self, leaf: &Leaf) -> [Evidence; 3] {
        [self.signed(leaf), evidence(&self.bundle(leaf)), evidence(&self.stamped(leaf))]
    }

    /// None of the three forms by `leaf` is accepted, each with `expected` in the reason.
    #[track_caller]
    fn refuses(&self, requirement: &Value, leaf: &Leaf, expected: &str) {
        for evidence in self.forms(leaf) {
            refused(self.judge(requirement, &evidence), expected);
        }
    }
}

fn statement() -> Vec<u8> {
    signers::statement(signers::SIGN, DIGEST)
}

fn evidence(bundle: &Value) -> Evidence {
    bundled(bundle.to_string().into_bytes())
}

#[track_caller]
fn refused(judged: Result<String, String>, expected: &str) {
    let reason = judged.expect_err("accepted");
    assert!(reason.contains(expected), "{reason}");
}

/// By a trusted root, with more members of `fulcio`.
fn by_root(more: Value) -> Value {
    let mut fulcio = json!({ "trustedRootPath": "/etc/root.json", "oidcIssuer": ISSUER });
    fulcio.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({
        "type": "sigstoreSigned",
        "fulcio": fulcio,
        "signedIdentity": { "type": "matchSubjectDigest" },
    })
}

fn by_dev() -> Value {
    by_root(json!({ "subjectEmail": DEV }))
}

/// As containers-policy.json(5) has it.
fn by_authority() -> Value {
    json!({
        "type": "sigstoreSigned",
        "fulcio": { "caPath": "/etc/fulcio.pem", "oidcIssuer": ISSUER, "subjectEmail": DEV },
        "rekorPublicKeyPath": "/etc/rekor.pub",
        "signedIdentity": { "type": "matchSubjectDigest" },
    })
}

#[test]
fn all_forms_of_a_keyless_signature_are_accepted() {
    let node = Node::new();
    let told: Vec<_> =
        node.forms(&node.leaf()).iter().map(|of| node.judge(&by_dev(), of).unwrap()).collect();
    let who = format!("by {DEV:?} of {ISSUER:?}, in the log at index 0");
    assert_eq!(
        told,
        [format!("signature {who}"), format!("bundle {who}"), format!("bundle {who}")]
    );
    let [signed, bundle, _] = node.forms(&node.leaf());
    node.judge(&by_authority(), &signed).unwrap();
    // A bundle brings no intermediate with it; the policy's file can.
    refused(node.judge(&by_authority(), &bundle), "is not trusted");
    node.put("/etc/fulcio.pem", node.fulcio.root.pem() + &node.fulcio.intermediate.pem());
    node.judge(&by_authority(), &bundle).unwrap();
}

#[test]
fn bundles_of_every_version_are_accepted() {
    let node = Node::new();
    let leaf = node.leaf();
    for version in ["0.1", "0.2"] {
        let mut bundle = node.bundle(&leaf);
        bundle["mediaType"] =
            format!("application/vnd.dev.sigstore.bundle+json;version={version}").into();
        let material = bundle["verificationMaterial"].as_object_mut().unwrap();
        let certificate = material.remove("certificate").unwrap();
        let intermediate = json!({ "rawBytes": BASE64.encode(&node.fulcio.intermediate.der) });
        let chain = json!({ "certificates": [certificate, intermediate] });
        material.insert("x509CertificateChain".to_owned(), chain);
        node.judge(&by_authority(), &evidence(&bundle)).unwrap();
    }
}

#[test]
fn the_verdict_tells_who_when_and_where() {
    let node = Node::new();
    let mut order = Order::uri(JOB);
    order.claims = vec![(12, "https://git.example/shop/api".to_owned())];
    let leaf = node.fulcio.issue(&order);
    let requirement = by_root(json!({ "subjectURI": JOB }));
    let verdict = node.verdict(&requirement, &evidence(&node.stamped(&leaf)), SystemTime::now());
    assert_eq!(
        serde_json::to_value(&verdict).unwrap()["requirements"][0]["accepted"],
        json!({
            "what": "bundle",
            "signed": { "manifest": DIGEST },
            "signer": {
                "type": "certificate",
                "subjects": [JOB],
                "issuer": ISSUER,
                "claims": { "sourceRepository": "https://git.example/shop/api" },
            },
            "times": [{ "time": "2023-11-14T22:13:20Z", "source": "timestampAuthority" }],
            "entries": [{ "log": "log.example - 1", "index": 0 }],
        })
    );
}

#[test]
fn an_attestation_is_no_signature() {
    let node = Node::new();
    let sbom = signers::statement(signers::SPDX, DIGEST);
    let bundle = node.leaf().logged_bundle(&sbom, &node.log, Log::TIME);
    let expected = "A signature was required, but no signature exists (1 attestation found";
    refused(node.judge(&by_dev(), &evidence(&bundle)), expected);
}

#[test]
fn a_signature_of_another_digest_or_payload_is_not_accepted() {
    let node = Node::new();
    let leaf = node.leaf();
    let other = signers::statement(signers::SIGN, OTHER);
    let bundle = leaf.logged_bundle(&other, &node.log, Log::TIME);
    let expected = format!("is for another digest: Signature for digest {OTHER} does not match");
    refused(node.judge(&by_dev(), &evidence(&bundle)), &expected);
    // The payload is changed for the right one after signing.
    let mut swapped = bundle;
    swapped["dsseEnvelope"]["payload"] = BASE64.encode(statement()).into();
    let expected = "is not by the owner of its certificate, or was changed";
    refused(node.judge(&by_dev(), &evidence(&swapped)), expected);
    let mut signed = node.signed(&leaf);
    signed.signatures[0].payload = signers::payload(IMAGE, OTHER);
    refused(node.judge(&by_dev(), &signed), "is not true");
}

#[test]
fn a_bundle_that_calls_itself_older_needs_no_less() {
    let node = Node::new();
    let leaf = node.leaf();
    // v0.1 asks for no inclusion proof; but then the promise must be there.
    let mut bundle = node.stamped(&leaf);
    bundle["mediaType"] = "application/vnd.dev.sigstore.bundle+json;version=0.1".into();
    assert!(node.judge(&by_dev(), &evidence(&bundle)).is_err());
    // v0.3 with the promise alone.
    let mut bundle = node.bundle(&leaf);
    let entry = bundle["verificationMaterial"]["tlogEntries"][0].as_object_mut().unwrap();
    entry.remove("inclusionProof");
    assert!(node.judge(&by_dev(), &evidence(&bundle)).is_err());
    bundle["mediaType"] = "application/vnd.dev.sigstore.bundle.v0.9+json".into();
    refused(node.judge(&by_dev(), &evidence(&bundle)), "is malformed: not a sigstore bundle");
}

#[test]
fn one_good_keyless_signature_among_bad_ones_is_enough() {
    let node = Node::new();
    let mut evidence = node.signed(&node.fulcio.issue(&Order::email("other@x.example")));
    evidence.bundles.push(b"rubbish".to_vec());
    evidence.bundles.push(node.bundle(&node.leaf()).to_string().into_bytes());
    node.judge(&by_dev(), &evidence).unwrap();
}

#[test]
fn a_key_and_a_certificate_are_not_taken_for_each_other() {
    let node = Node::new();
    let key = Key::generate();
    node.put("/etc/key.pub", key.public_pem());
    let by_key = json!({
        "type": "sigstoreSigned",
        "keyPath": "/etc/key.pub",
        "signedIdentity": { "type": "matchSubjectDigest" },
    });
    let leaf = node.leaf();
    refused(node.judge(&by_key, &evidence(&node.bundle(&leaf))), "and the policy asks for a key");
    assert!(node.judge(&by_key, &node.signed(&leaf)).is_err());
    let bundle = bundled(signers::logged_bundle(&key, &node.log, &statement()));
    refused(node.judge(&by_dev(), &bundle), "and the policy asks for a certificate");
    let payload = signers::payload(IMAGE, DIGEST);
    let annotations = signers::logged_annotations(&key, &node.log, &payload);
    let expected = "missing dev.sigstore.cosign/certificate annotation";
    refused(node.judge(&by_dev(), &found(payload, annotations)), expected);
}

#[test]
fn an_authority_that_cannot_be_used_refuses_everything_and_is_a_fault() {
    let node = Node::new();
    let signed = node.signed(&node.leaf());
    for (path, bytes, requirement, expected) in [
        ("/etc/root.json", "{}", by_dev(), "the trusted root in /etc/root.json cannot be used"),
        ("/etc/fulcio.pem", "x", by_authority(), "the certificate in /etc/fulcio.pem cannot"),
        ("/etc/rekor.pub", "x", by_authority(), "the key in /etc/rekor.pub cannot be used"),
    ] {
        node.put(path, bytes);
        refused(node.judge(&requirement, &signed), expected);
        assert_eq!(node.parse(&requirement).unwrap().faults().len(), 1);
    }
    node.root(|root| {
        root["tlogs"] = json!([]);
        root["timestampAuthorities"] = json!([]);
    });
    refused(node.judge(&by_dev(), &signed), "it names no transparency log and no time stamper");
    node.root(|root| root["certificateAuthorities"] = json!([]));
    refused(node.judge(&by_dev(), &signed), "it names no certificate authority");
}
