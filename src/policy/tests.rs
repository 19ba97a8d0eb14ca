//! What an administrator writes, what an attacker tries, and the words in between.

mod attested;
mod causes;
mod index;
mod keyless;
mod language;
mod signed_by;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use crate::oci::digest::Digest;
use crate::oci::reference::Reference;
use crate::policy::Evidence;
use crate::policy::Policy;
use crate::policy::PolicyError;
use crate::policy::SimpleSigning;
use crate::policy::Subject;
use crate::policy::evaluate;
use crate::signature::keys as signers;
use crate::signature::keys::Key;
use crate::signature::keys::Log;

const DIGEST: &str = "sha256:9b2c9b2c9b2c9b2c9b2c9b2c9b2c9b2c9b2c9b2c9b2c9b2c9b2c9b2c9b2c9b2c";
const OTHER: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
const IMAGE: &str = "registry.example/shop/api:1.4";

/// A node: the keys in its files, and a signer for each.
struct Node {
    shop: Key,
    other: Key,
    log: Log,
}

impl Node {
    fn new() -> Self {
        Self { shop: Key::generate(), other: Key::generate(), log: Log::default() }
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match path.to_str() {
            Some("/keys/shop.pub") => Ok(self.shop.public_pem().into_bytes()),
            Some("/keys/other.pub") => Ok(self.other.public_pem().into_bytes()),
            Some("/keys/rekor.pub") => Ok(self.log.key.public_pem().into_bytes()),
            Some("/keys/empty.pub") => Ok(Vec::new()),
            _ => Err(io::Error::from_raw_os_error(2)),
        }
    }

    fn policy(&self, text: &str) -> Policy {
        self.parse(text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    fn parse(&self, text: &str) -> Result<Policy, PolicyError> {
        Policy::parse(Path::new("/etc/policy.json"), text.as_bytes(), &|path| self.read(path))
    }

    /// Judges `IMAGE` by one requirement of the scope `registry.example/shop`.
    fn judge(&self, requirement: &str, evidence: &Evidence) -> Result<Vec<String>, String> {
        self.judge_as(IMAGE, requirement, evidence)
    }

    fn judge_as(
        &self,
        image: &str,
        requirement: &str,
        evidence: &Evidence,
    ) -> Result<Vec<String>, String> {
        let policy = self.policy(&format!(
            r#"{{"default":[{{"type":"reject"}}],
                 "transports":{{"docker":{{"registry.example/shop":[{requirement}]}}}}}}"#
        ));
        judge(&policy, image, evidence)
    }

    fn signed(&self, key: &Key, name: &str, digest: &str) -> Evidence {
        let payload = signers::payload(name, digest);
        let annotations = signers::annotations(key, &payload);
        found(payload, annotations)
    }

    fn logged(&self) -> Evidence {
        let payload = signers::payload(IMAGE, DIGEST);
        let annotations = signers::logged_annotations(&self.shop, &self.log, &payload);
        found(payload, annotations)
    }
}

fn found(payload: Vec<u8>, annotations: BTreeMap<String, String>) -> Evidence {
    let signatures = vec![SimpleSigning { payload, annotations }];
    Evidence { signatures, ..Evidence::default() }
}

fn bundled(bundle: Vec<u8>) -> Evidence {
    Evidence { bundles: vec![bundle], ..Evidence::default() }
}

fn judge(policy: &Policy, image: &str, evidence: &Evidence) -> Result<Vec<String>, String> {
    let reference = Reference::parse_normalized(image).unwrap();
    let digest: Digest = DIGEST.parse().unwrap();
    let subject = Subject { reference: &reference, manifest_digest: &digest };
    let verdict = evaluate(policy, &subject, evidence, SystemTime::UNIX_EPOCH);
    let verdict = verdict.allowed().map_err(|refusal| refusal.to_string())?;
    Ok(verdict.requirements.iter().map(ToString::to_string).collect())
}

/// A `sigstoreSigned` by the shop's key, with more keys of JSON in it.
fn by_shop(more: &str) -> String {
    format!(r#"{{"type":"sigstoreSigned","keyPath":"/keys/shop.pub"{more}}}"#)
}

fn identity(of: &str) -> String {
    by_shop(&format!(r#","signedIdentity":{of}"#))
}

const BY_DIGEST: &str = r#"{"type":"matchSubjectDigest"}"#;

#[track_caller]
fn check(verdict: Result<Vec<String>, String>, expected: &str) {
    let text = verdict.expect_err("allowed");
    let whole = format!(
        "registry.example/shop/api:1.4@{DIGEST} is refused by /etc/policy.json \
         (scope registry.example/shop): sigstoreSigned: {expected}"
    );
    assert_eq!(text, whole);
}

#[test]
fn a_signed_image_is_allowed_and_the_verdict_names_the_key() {
    let node = Node::new();
    let by = node.judge(&by_shop(""), &node.signed(&node.shop, IMAGE, DIGEST)).unwrap();
    assert_eq!(by, ["sigstoreSigned: signature by the key in /keys/shop.pub"]);
}

#[test]
fn an_unsigned_image_is_not_accepted() {
    let node = Node::new();
    let verdict = node.judge(&by_shop(""), &Evidence::default());
    check(verdict, "A signature was required, but no signature exists");
}

#[test]
fn signature_by_another_key_is_not_accepted() {
    let node = Node::new();
    let mut evidence = node.signed(&node.other, IMAGE, DIGEST);
    let verdict = node.judge(&by_shop(""), &evidence);
    check(verdict, "1 signature found, none by the key in /keys/shop.pub");
    evidence.signatures.extend(evidence.signatures.clone());
    let verdict = node.judge(&by_shop(""), &evidence);
    check(verdict, "2 signatures found, none by the key in /keys/shop.pub");
}

#[test]
fn signature_for_another_repository_is_not_accepted() {
    let node = Node::new();
    let verdict = node.judge(&by_shop(""), &node.signed(&node.shop, "q.io/a:1.4", DIGEST));
    check(
        verdict,
        "1 signature found, which is for another repository: Signature for identity \
         \"q.io/a:1.4\" is not accepted by matchRepoDigestOrExact",
    );
}

#[test]
fn signature_for_another_tag_is_not_accepted() {
    let node = Node::new();
    let signed = node.signed(&node.shop, "registry.example/shop/api:1.3", DIGEST);
    check(
        node.judge(&by_shop(""), &signed),
        "1 signature found, which is for another tag: Signature for identity \
         \"registry.example/shop/api:1.3\" is not accepted by matchRepoDigestOrExact",
    );
}

#[test]
fn signature_without_a_tag_is_refused_with_the_line_that_accepts_it() {
    let node = Node::new();
    let signed = node.signed(&node.shop, "registry.example/shop/api", DIGEST);
    check(
        node.judge(&by_shop(""), &signed),
        "1 signature found, which is for no tag, as cosign writes it: Signature for identity \
         \"registry.example/shop/api\" is not accepted by matchRepoDigestOrExact; to accept it, \
         write \"signedIdentity\": {\"type\": \"matchRepository\"}",
    );
    node.judge(&identity(r#"{"type":"matchRepository"}"#), &signed).unwrap();
}

#[test]
fn signature_for_another_digest_is_not_accepted() {
    let node = Node::new();
    for (requirement, evidence) in [
        (by_shop(""), node.signed(&node.shop, IMAGE, OTHER)),
        (
            identity(BY_DIGEST),
            bundled(signers::bundle(&node.shop, &signers::statement(signers::SIGN, OTHER))),
        ),
    ] {
        check(
            node.judge(&requirement, &evidence),
            &format!(
                "1 signature found, which is for another digest: Signature for digest {OTHER} \
                 does not match"
            ),
        );
    }
}

#[test]
fn swapped_payload_is_not_accepted() {
    let node = Node::new();
    let mut evidence = node.signed(&node.shop, IMAGE, OTHER);
    evidence.signatures[0].payload = signers::payload(IMAGE, DIGEST);
    check(
        node.judge(&by_shop(""), &evidence),
        "1 signature found, none by the key in /keys/shop.pub",
    );
}

#[test]
fn swapped_signature_is_not_accepted() {
    let node = Node::new();
    let mut evidence = node.signed(&node.shop, IMAGE, DIGEST);
    let foreign = node.signed(&node.other, IMAGE, DIGEST);
    evidence.signatures[0].annotations = foreign.signatures[0].annotations.clone();
    assert!(node.judge(&by_shop(""), &evidence).is_err());
    evidence.signatures[0].annotations.clear();
    check(
        node.judge(&by_shop(""), &evidence),
        "1 signature found, which is incomplete: missing dev.cosignproject.cosign/signature \
         annotation",
    );
}

#[test]
fn a_signed_document_that_is_no_image_signature_is_not_accepted() {
    let node = Node::new();
    let text = String::from_utf8(signers::payload(IMAGE, DIGEST)).unwrap();
    for (payload, expected) in [
        (text.replace("cosign container", "atomic container"), "is no image signature: its"),
        (
            text.replace("\"optional\":null", "\"optional\":null,\"x\":1"),
            "is malformed: its payload",
        ),
        ("hello".to_owned(), "is malformed: its payload"),
    ] {
        let payload = payload.into_bytes();
        let annotations = signers::annotations(&node.shop, &payload);
        let error = node.judge(&by_shop(""), &found(payload, annotations)).unwrap_err();
        assert!(error.contains(&format!("1 signature found, which {expected}")), "{error}");
    }
}

#[test]
fn sbom_attestation_is_not_a_signature() {
    let node = Node::new();
    let sbom = signers::bundle(&node.shop, &signers::statement(signers::SPDX, DIGEST));
    check(
        node.judge(&identity(BY_DIGEST), &bundled(sbom)),
        "A signature was required, but no signature exists (1 attestation found, which is no \
         signature: \"https://spdx.dev/Document\")",
    );
}

#[test]
fn one_good_signature_among_bad_ones_is_enough() {
    let node = Node::new();
    let mut evidence = node.signed(&node.other, IMAGE, DIGEST);
    evidence.signatures.extend(node.signed(&node.shop, IMAGE, DIGEST).signatures);
    evidence.bundles.push(b"rubbish".to_vec());
    node.judge(&by_shop(""), &evidence).unwrap();
}

#[test]
fn the_refusal_says_of_each_signature_what_is_wrong() {
    let node = Node::new();
    let mut evidence = node.signed(&node.shop, "q.io/a:1", DIGEST);
    evidence.signatures.extend(node.signed(&node.other, IMAGE, DIGEST).signatures);
    evidence.signatures.extend(node.signed(&node.other, IMAGE, DIGEST).signatures);
    evidence.bundles.push(b"rubbish".to_vec());
    check(
        node.judge(&by_shop(""), &evidence),
        "4 signatures found: 1 is for another repository: Signature for identity \"q.io/a:1\" is \
         not accepted by matchRepoDigestOrExact, 2 are not by the key in /keys/shop.pub, 1 is \
         malformed: not a sigstore bundle v0.1 to v0.3",
    );
}

#[test]
fn more_signatures_than_the_limit_are_not_looked_at() {
    let node = Node::new();
    let foreign = node.signed(&node.other, IMAGE, DIGEST).signatures.remove(0);
    let mut evidence =
        Evidence { signatures: vec![foreign; Evidence::LIMIT], ..Evidence::default() };
    evidence.signatures.extend(node.signed(&node.shop, IMAGE, DIGEST).signatures);
    assert!(node.judge(&by_shop(""), &evidence).unwrap_err().contains("100 signatures found"));
}

#[test]
fn a_bundle_needs_an_identity_that_looks_at_no_name() {
    let node = Node::new();
    let evidence = bundled(signers::bundle(&node.shop, &signers::statement(signers::SIGN, DIGEST)));
    check(
        node.judge(&by_shop(""), &evidence),
        "1 signature found, which is a sigstore bundle, which names no repository, so \
         matchRepoDigestOrExact cannot accept it; to accept it, write \
         \"signedIdentity\": {\"type\": \"matchSubjectDigest\"}",
    );
    let by = node.judge(&identity(BY_DIGEST), &evidence).unwrap();
    assert_eq!(by, ["sigstoreSigned: bundle by the key in /keys/shop.pub"]);
    let foreign = bundled(signers::bundle(&node.other, &signers::statement(signers::SIGN, DIGEST)));
    check(
        node.judge(&identity(BY_DIGEST), &foreign),
        "1 signature found, none by the key in /keys/shop.pub",
    );
}

#[test]
fn a_required_log_must_have_seen_the_signature() {
    let node = Node::new();
    let logged = by_shop(r#","rekorPublicKeyPath":"/keys/rekor.pub""#);
    let by = node.judge(&logged, &node.logged()).unwrap();
    assert_eq!(
        by,
        ["sigstoreSigned: signature by the key in /keys/shop.pub, in the log at index 0 \
          (at a time that is still to come by this node's clock)"]
    );
    check(
        node.judge(&logged, &node.signed(&node.shop, IMAGE, DIGEST)),
        "1 signature found, which is incomplete: missing dev.sigstore.cosign/bundle annotation",
    );
    let foreign = by_shop(r#","rekorPublicKeyPath":"/keys/other.pub""#);
    check(
        node.judge(&foreign, &node.logged()),
        "1 signature found, which is not proven to be in the transparency log: cryptographic \
         signature verification of Rekor SET failed",
    );
    let statement = signers::statement(signers::SIGN, DIGEST);
    let both = by_shop(&format!(
        r#","rekorPublicKeyPaths":["/keys/other.pub","/keys/rekor.pub"],"signedIdentity":{BY_DIGEST}"#
    ));
    node.judge(&both, &bundled(signers::logged_bundle(&node.shop, &node.log, &statement))).unwrap();
    check(
        node.judge(&both, &bundled(signers::bundle(&node.shop, &statement))),
        "1 signature found, which is not proven to be in the transparency log: the bundle has no \
         log entry",
    );
}

#[test]
fn keys_come_from_files_and_from_the_policy_itself() {
    use base64::Engine as _;
    let node = Node::new();
    let inline = |key: &Key| base64::prelude::BASE64_STANDARD.encode(key.public_pem());
    let (shop, other) = (inline(&node.shop), inline(&node.other));
    let signed = node.signed(&node.shop, IMAGE, DIGEST);
    for (keys, name) in [
        (r#""keyPaths":["/keys/other.pub","/keys/shop.pub"]"#.to_owned(), "/keys/shop.pub"),
        (format!(r#""keyData":"{shop}""#), "keyData"),
        (format!(r#""keyDatas":["{other}","{shop}"]"#), "keyDatas[1]"),
    ] {
        let requirement = format!(r#"{{"type":"sigstoreSigned",{keys}}}"#);
        let by = node.judge(&requirement, &signed).unwrap();
        assert_eq!(by, [format!("sigstoreSigned: signature by the key in {name}")]);
    }
    let others = r#"{"type":"sigstoreSigned","keyPaths":["/keys/other.pub","/keys/rekor.pub"]}"#;
    check(
        node.judge(others, &signed),
        "1 signature found, none by any of the keys in /keys/other.pub, /keys/rekor.pub",
    );
}

#[test]
fn a_key_that_cannot_be_used_refuses_everything_and_is_a_fault() {
    let node = Node::new();
    let signed = node.signed(&node.shop, IMAGE, DIGEST);
    let missing = r#"{"type":"sigstoreSigned","keyPaths":["/keys/shop.pub","/keys/none.pub"]}"#;
    let fault = "the key in /keys/none.pub cannot be used: No such file or directory (os error 2)";
    check(node.judge(missing, &signed), fault);
    let policy = node.policy(&format!(r#"{{"default":[{missing}]}}"#));
    assert_eq!(policy.faults(), [format!("scope default: {fault}")]);
    let empty = r#"{"type":"sigstoreSigned","keyPath":"/keys/empty.pub"}"#;
    assert!(node.judge(empty, &signed).unwrap_err().contains("cannot be used: not a PEM file"));
    let log = by_shop(r#","rekorPublicKeyPath":"/keys/none.pub""#);
    check(node.judge(&log, &node.logged()), fault);
}

#[test]
fn every_requirement_of_a_scope_must_hold() {
    let node = Node::new();
    let both = format!(
        r#"{},{{"type":"sigstoreSigned","keyPath":"/keys/other.pub"}},{{"type":"insecureAcceptAnything"}}"#,
        by_shop("")
    );
    let mut evidence = node.signed(&node.shop, IMAGE, DIGEST);
    check(node.judge(&both, &evidence), "1 signature found, none by the key in /keys/other.pub");
    evidence.signatures.extend(node.signed(&node.other, IMAGE, DIGEST).signatures);
    assert_eq!(node.judge(&both, &evidence).unwrap().len(), 3);
    let rejected = format!(r#"{},{{"type":"reject"}}"#, by_shop(""));
    let error = node.judge(&rejected, &evidence).unwrap_err();
    assert!(error.ends_with(&format!("reject: Running image {IMAGE} is rejected by policy.")));
}

#[test]
fn a_refusal_still_says_of_every_requirement_what_was_found() {
    let node = Node::new();
    let text = format!(
        r#"{{"default":[{},{{"type":"reject"}}]}}"#,
        by_shop(r#","rekorPublicKeyPath":"/keys/rekor.pub""#)
    );
    let reference = Reference::parse_normalized(IMAGE).unwrap();
    let digest: Digest = DIGEST.parse().unwrap();
    let subject = Subject { reference: &reference, manifest_digest: &digest };
    let policy = node.policy(&text);
    let verdict = evaluate(&policy, &subject, &node.logged(), SystemTime::now());
    assert!(!verdict.allows());
    let told = serde_json::to_value(&verdict).unwrap();
    assert_eq!(
        told["requirements"],
        serde_json::json!([
            {
                "requirement": "sigstoreSigned",
                "accepted": {
                    "what": "signature",
                    "signed": { "manifest": DIGEST },
                    "signer": { "type": "key", "key": "/keys/shop.pub" },
                    "times": [{ "time": "2023-11-14T22:13:20Z", "source": "log" }],
                    "entries": [{ "log": "/keys/rekor.pub", "index": 0 }],
                },
            },
            {
                "requirement": "reject",
                "rejected": format!("Running image {IMAGE} is rejected by policy."),
            },
        ])
    );
}
