//! Certificates of ordinary authorities.

use std::time::SystemTime;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use serde_json::Value;
use serde_json::json;

use crate::policy::tests::DIGEST;
use crate::policy::tests::IMAGE;
use crate::policy::tests::OTHER;
use crate::policy::tests::found;
use crate::policy::tests::keyless::DEV;
use crate::policy::tests::keyless::Node;
use crate::policy::tests::keyless::by_dev;
use crate::policy::tests::keyless::evidence;
use crate::policy::tests::keyless::refused;
use crate::policy::tests::keyless::statement;
use crate::signature::fulcio::Ca;
use crate::signature::fulcio::Fulcio;
use crate::signature::fulcio::Leaf;
use crate::signature::fulcio::Order;
use crate::signature::keys as signers;
use crate::signature::keys::Log;

/// A requirement by the certificates of an ordinary authority.
fn by_pki(more: Value) -> Value {
    let mut pki = json!({ "caRootsPath": "/etc/fulcio.pem" });
    pki.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({
        "type": "sigstoreSigned",
        "pki": pki,
        "signedIdentity": { "type": "matchSubjectDigest" },
    })
}

#[test]
fn a_certificate_of_an_ordinary_authority_must_hold_now() {
    let node = Node::new();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
    let mut order = Order::email(DEV);
    order.names.extend(Order::host("build.shop.example").names);
    order.from = now - 60;
    // Ordinary intermediates name no purpose.
    let intermediate = Ca::make("ordinary", Some(&node.fulcio.root));
    let leaf = intermediate.issue(&order);
    let by_dev = by_pki(json!({ "subjectEmail": DEV }));
    let both = by_pki(json!({ "subjectEmail": DEV, "subjectHostname": "build.shop.example" }));
    let sign = |leaf: &Leaf| {
        let payload = signers::payload(IMAGE, DIGEST);
        let chain = [&intermediate, &node.fulcio.root];
        let mut annotations = leaf.annotations(&payload, &chain, &node.log, Log::TIME);
        annotations.remove("dev.sigstore.cosign/bundle");
        found(payload, annotations)
    };
    let signed = sign(&leaf);
    for requirement in [&by_dev, &both] {
        node.judge(requirement, &signed).unwrap();
    }
    // A bundle brings no intermediate; the policy can.
    let bundle = evidence(&leaf.bundle(&statement()));
    refused(node.judge(&both, &bundle), "verifying leaf certificate failed");
    let pem = BASE64.encode(intermediate.pem());
    let helped = by_pki(json!({ "subjectEmail": DEV, "caIntermediatesData": pem }));
    node.judge(&helped, &bundle).unwrap();
    for (more, expected) in [
        (json!({ "subjectEmail": "x@y.example" }), "Required email \"x@y.example\" not found"),
        (json!({ "subjectHostname": "shop.example" }), "Unexpected subject hostname"),
    ] {
        refused(node.judge(&by_pki(more), &signed), expected);
    }
    let expired = intermediate.issue(&Order::email(DEV));
    refused(node.judge(&by_dev, &sign(&expired)), "verifying leaf certificate failed");
    order.purpose = rcgen::ExtendedKeyUsagePurpose::ServerAuth;
    let server = intermediate.issue(&order);
    refused(node.judge(&by_dev, &sign(&server)), "it is not for signing code");
    order.purpose = rcgen::ExtendedKeyUsagePurpose::CodeSigning;
    let early = node.verdict(&by_dev, &signed, SystemTime::UNIX_EPOCH);
    assert!(!early.allows());
    let evil = Fulcio::make().intermediate.issue(&order);
    refused(node.judge(&by_dev, &sign(&evil)), "verifying leaf certificate failed");
    let mut swapped = signed;
    swapped.signatures[0].payload = signers::payload(IMAGE, OTHER);
    refused(node.judge(&by_dev, &swapped), "is not by the owner of its certificate");
}

#[test]
fn a_key_on_p521_counts_in_an_ordinary_certificate_and_is_refused_by_name_in_one_of_fulcio() {
    let node = Node::new();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
    let leaf = node.fulcio.root.issue_p521(&Order { from: now - 60, ..Order::email(DEV) });
    let payload = signers::payload(IMAGE, DIGEST);
    let mut annotations = leaf.annotations(&payload, &[], &node.log, Log::TIME);
    annotations.remove("dev.sigstore.cosign/bundle");
    let by_owner = by_pki(json!({ "subjectEmail": DEV }));
    node.judge(&by_owner, &found(payload, annotations)).unwrap();
    node.judge(&by_owner, &evidence(&leaf.bundle(&statement()))).unwrap();
    let other = evidence(&leaf.bundle(&signers::statement(signers::SIGN, OTHER)));
    refused(node.judge(&by_owner, &other), "is for another digest");

    let leaf = node.fulcio.intermediate.issue_p521(&Order::email(DEV));
    for form in node.forms(&leaf) {
        refused(node.judge(&by_dev(), &form), "on the curve P-521 are not supported");
    }
}
