//! Attestations by people and jobs that logged in somewhere, in cosign's forms.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use serde_json::Value;
use serde_json::json;

use crate::policy::Attachment;
use crate::policy::Attestation;
use crate::policy::Evidence;
use crate::policy::tests::DIGEST;
use crate::policy::tests::OTHER;
use crate::policy::tests::keyless::DEV;
use crate::policy::tests::keyless::ISSUER;
use crate::policy::tests::keyless::JOB;
use crate::policy::tests::keyless::Node;
use crate::policy::tests::keyless::refused;
use crate::signature::fulcio::Leaf;
use crate::signature::fulcio::Order;
use crate::signature::fulcio::Tsa;
use crate::signature::keys as signers;
use crate::signature::keys::Key;
use crate::signature::keys::Log;

const TESTS: &str = "https://shop.example/tests/v1";

/// What is wanted: tests that passed, says someone whom `fulcio` names beside the trusted root.
fn attested(fulcio: Value) -> Value {
    let mut by = json!({ "trustedRootPath": "/etc/root.json", "oidcIssuer": ISSUER });
    by.as_object_mut().unwrap().extend(fulcio.as_object().unwrap().clone());
    json!({
        "type": "sigstoreAttested",
        "fulcio": by,
        "predicateType": TESTS,
        "conditions": { "json": [{ "pointer": "/passed", "equals": 214 }] },
    })
}

fn by_dev() -> Value {
    attested(json!({ "subjectEmail": DEV }))
}

/// The same in the words of containers-policy.json(5).
fn by_authority() -> Value {
    let mut requirement = by_dev();
    requirement["fulcio"].as_object_mut().unwrap().remove("trustedRootPath");
    requirement["fulcio"]["caPath"] = "/etc/fulcio.pem".into();
    requirement["rekorPublicKeyPath"] = "/etc/rekor.pub".into();
    requirement
}

fn passed(count: u64) -> Vec<u8> {
    signers::attestation(TESTS, &json!({ "passed": count }), DIGEST)
}

fn found(attestation: Attestation) -> Evidence {
    Evidence { attestations: vec![attestation], ..Evidence::default() }
}

fn bundled(bundle: &Value) -> Evidence {
    found(Attestation::Bundle(bundle.to_string().into_bytes()))
}

fn attached(node: &Node, leaf: &Leaf, statement: &[u8], log: &Log, time: i64) -> Evidence {
    let chain = [&node.fulcio.intermediate, &node.fulcio.root];
    let (envelope, annotations) = leaf.attached(statement, &chain, log, time);
    found(Attestation::Attached(Attachment { envelope, annotations }))
}

/// The three forms: as cosign v2 attaches it; a bundle with an entry of Rekor v1; one with an entry
/// of Rekor v2 and a time stamp.
fn forms_at(node: &Node, leaf: &Leaf, statement: &[u8], log: &Log, time: i64) -> [Evidence; 3] {
    [
        attached(node, leaf, statement, log, time),
        bundled(&leaf.logged_bundle(statement, log, time)),
        bundled(&leaf.stamped_bundle(statement, log, &node.tsa, time)),
    ]
}

fn forms(node: &Node, leaf: &Leaf, statement: &[u8]) -> [Evidence; 3] {
    forms_at(node, leaf, statement, &node.log, Log::TIME)
}

/// No form of what `leaf` says is accepted.
#[track_caller]
fn refuses(node: &Node, leaf: &Leaf, statement: &[u8], expected: &str) {
    for evidence in forms(node, leaf, statement) {
        refused(node.judge(&by_dev(), &evidence), expected);
    }
}

#[test]
fn all_forms_of_a_keyless_attestation_are_accepted() {
    let node = Node::new();
    let leaf = node.leaf();
    for evidence in forms(&node, &leaf, &passed(214)) {
        let told = node.judge(&by_dev(), &evidence).unwrap();
        let who = format!("attestation by {DEV:?} of {ISSUER:?}, in the log at index 0");
        assert_eq!(told, who);
    }
    node.judge(&by_authority(), &forms(&node, &leaf, &passed(214))[0]).unwrap();
}

#[test]
fn an_attestation_by_a_job_is_accepted_for_what_fulcio_says_of_it() {
    let node = Node::new();
    let mut order = Order::uri(JOB);
    order.claims = vec![(12, "https://git.example/shop/api".to_owned())];
    let leaf = node.fulcio.issue(&order);
    let by =
        |repository: &str| attested(json!({ "subjectURI": JOB, "sourceRepository": repository }));
    for evidence in forms(&node, &leaf, &passed(214)) {
        node.judge(&by("https://git.example/shop/api"), &evidence).unwrap();
        let other = node.judge(&by("https://git.example/shop/web"), &evidence);
        refused(other, "which is by someone else: Required sourceRepository");
    }
}

#[test]
fn an_attestation_by_another_identity_or_issuer_is_not_accepted() {
    let node = Node::new();
    let other = node.fulcio.issue(&Order::email("dev@shop.example.evil.example"));
    let expected = format!("which is by someone else: Required email {DEV:?} not found");
    refuses(&node, &other, &passed(214), &expected);
    let mut order = Order::email(DEV);
    order.issuer = Some("https://evil.example".to_owned());
    let expected = "which is by someone else: Unexpected Fulcio OIDC issuer";
    refuses(&node, &node.fulcio.issue(&order), &passed(214), expected);
}

#[test]
fn an_attestation_of_another_type_or_image_is_not_accepted() {
    let node = Node::new();
    let leaf = node.leaf();
    let predicate = json!({ "passed": 214 });
    let other = signers::attestation("https://shop.example/tests/v2", &predicate, DIGEST);
    refuses(&node, &leaf, &other, "of another type: \"https://shop.example/tests/v2\"");
    refuses(&node, &leaf, &signers::statement(signers::SIGN, DIGEST), "no attestation exists");
    let other = signers::attestation(TESTS, &predicate, OTHER);
    refuses(&node, &leaf, &other, &format!("for another digest: Signature for digest {OTHER}"));
    refuses(&node, &leaf, &passed(213), "which has another value at \"/passed\": 213");
}

#[test]
fn an_attestation_by_another_authority_is_not_accepted() {
    let node = Node::new();
    let evil = crate::signature::fulcio::Fulcio::make();
    let leaf = evil.intermediate.issue_logged(&Order::email(DEV), &node.fulcio.ct);
    refuses(&node, &leaf, &passed(214), "has a certificate that is not trusted");
}

#[test]
fn an_attestation_with_a_certificate_that_had_expired_when_it_was_logged_is_not_accepted() {
    let node = Node::new();
    let leaf = node.leaf();
    for time in [Log::TIME + 700, Log::TIME - 100] {
        for evidence in forms_at(&node, &leaf, &passed(214), &node.log, time) {
            refused(node.judge(&by_dev(), &evidence), "has a certificate that is not trusted");
        }
    }
}

#[test]
fn an_attestation_that_no_log_or_another_log_has_seen_is_not_accepted() {
    let node = Node::new();
    let leaf = node.leaf();
    for evidence in forms_at(&node, &leaf, &passed(214), &Log::default(), Log::TIME) {
        refused(node.judge(&by_dev(), &evidence), "not proven to be in the transparency log");
    }
    let [mut attached, _, _] = forms(&node, &leaf, &passed(214));
    let Attestation::Attached(attachment) = &mut attached.attestations[0] else { unreachable!() };
    attachment.annotations.remove("dev.sigstore.cosign/bundle");
    refused(node.judge(&by_dev(), &attached), "the bundle has no log entry");
    // A time stamp alone.
    let mut bundle = leaf.stamped_bundle(&passed(214), &node.log, &node.tsa, Log::TIME);
    bundle["verificationMaterial"]["tlogEntries"] = json!([]);
    refused(node.judge(&by_dev(), &bundled(&bundle)), "the bundle has no log entry");
    // The entry of another attestation by the same owner.
    let mut bundle = leaf.logged_bundle(&passed(214), &node.log, Log::TIME);
    let other = leaf.logged_bundle(&passed(1), &node.log, Log::TIME);
    bundle["verificationMaterial"]["tlogEntries"] =
        other["verificationMaterial"]["tlogEntries"].clone();
    refused(node.judge(&by_dev(), &bundled(&bundle)), "log entry does not match the bundle");
}

#[test]
fn an_attestation_with_a_time_by_a_stranger_is_not_accepted() {
    let node = Node::new();
    let leaf = node.leaf();
    let bundle = leaf.stamped_bundle(&passed(214), &node.log, &Tsa::make(), Log::TIME);
    refused(node.judge(&by_dev(), &bundled(&bundle)), "has no time that can be trusted");
    let mut bundle = leaf.stamped_bundle(&passed(214), &node.log, &node.tsa, Log::TIME);
    bundle["verificationMaterial"]["timestampVerificationData"] = Value::Null;
    refused(node.judge(&by_dev(), &bundled(&bundle)), "has no time that can be trusted");
}

#[test]
fn an_attestation_with_a_certificate_that_no_ct_log_has_is_not_accepted() {
    let node = Node::new();
    let order = Order::email(DEV);
    let sct = "invalid signed certificate timestamp";
    refuses(&node, &node.fulcio.intermediate.issue(&order), &passed(214), sct);
    let foreign = node.fulcio.intermediate.issue_logged(&order, &Key::generate());
    refuses(&node, &foreign, &passed(214), sct);
    node.root(|root| root["ctlogs"] = json!([]));
    let missing = node.fulcio.intermediate.issue(&order);
    for evidence in forms(&node, &missing, &passed(214)) {
        node.judge(&by_dev(), &evidence).unwrap();
    }
}

#[test]
fn an_attestation_that_was_changed_after_signing_is_not_accepted() {
    let node = Node::new();
    let leaf = node.leaf();
    let better = BASE64.encode(passed(214));
    let expected = "which is not by the owner of its certificate, or was changed";
    for mut bundle in [
        leaf.logged_bundle(&passed(1), &node.log, Log::TIME),
        leaf.stamped_bundle(&passed(1), &node.log, &node.tsa, Log::TIME),
    ] {
        bundle["dsseEnvelope"]["payload"] = better.clone().into();
        refused(node.judge(&by_dev(), &bundled(&bundle)), expected);
    }
    // By a key, which has no certificate.
    let bundle = signers::logged_bundle(&Key::generate(), &node.log, &passed(214));
    let bundle = found(Attestation::Bundle(bundle));
    refused(node.judge(&by_dev(), &bundle), "and the policy asks for a certificate");
}

#[test]
fn a_statement_that_would_take_hundreds_of_megabytes_is_refused_before_it_is_read() {
    let node = Node::new();
    let many = vec![json!({ "": 0 }); 110_000];
    let statement = signers::attestation(TESTS, &json!({ "passed": 214, "more": many }), DIGEST);
    refuses(&node, &node.leaf(), &statement, "is too intricate to be judged");
    // Of a stranger's it is not even counted.
    let other = node.fulcio.issue(&Order::email("other@x.example"));
    refuses(&node, &other, &statement, "which is by someone else");
}
