//! A trusted root without transparency logs, as GitHub's for private repositories: a time stamp says
//! when it was signed, and no log is demanded.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use serde_json::Value;
use serde_json::json;

use crate::policy::Outcome;
use crate::policy::tests::DIGEST;
use crate::policy::tests::IMAGE;
use crate::policy::tests::found;
use crate::policy::tests::keyless::DEV;
use crate::policy::tests::keyless::Node;
use crate::policy::tests::keyless::by_dev;
use crate::policy::tests::keyless::evidence;
use crate::policy::tests::keyless::refused;
use crate::policy::tests::keyless::statement;
use crate::signature::fulcio::Fulcio;
use crate::signature::fulcio::Leaf;
use crate::signature::fulcio::Order;
use crate::signature::fulcio::Tsa;
use crate::signature::keys as signers;
use crate::signature::keys::Log;

fn node() -> Node {
    let node = Node::new();
    node.root(|root| {
        root["tlogs"] = json!([]);
        root["ctlogs"] = json!([]);
    });
    node
}

/// A bundle that no log has, stamped at `time`.
fn stamped(leaf: &Leaf, tsa: &Tsa, time: i64) -> Value {
    let mut bundle = leaf.bundle(&statement());
    let signature = bundle["dsseEnvelope"]["signatures"][0]["sig"].as_str().unwrap();
    let stamp = tsa.stamp(&BASE64.decode(signature).unwrap(), time);
    bundle["verificationMaterial"]["timestampVerificationData"] =
        json!({ "rfc3161Timestamps": [{ "signedTimestamp": BASE64.encode(stamp) }] });
    bundle
}

#[test]
fn a_signature_that_is_stamped_and_in_no_log_is_accepted_where_the_root_has_none() {
    let node = node();
    let bundle = stamped(&node.leaf(), &node.tsa, Log::TIME);
    let proof = node.judge(&by_dev(), &evidence(&bundle)).unwrap();
    assert!(proof.contains(DEV), "{proof}");
    // Where it has one, the same is in none.
    node.root(|_| ());
    refused(node.judge(&by_dev(), &evidence(&bundle)), "the bundle has no log entry");
}

#[test]
fn a_signature_of_cosign_2_that_is_stamped_and_in_no_log_is_accepted_too() {
    let node = node();
    let leaf = node.leaf();
    let payload = signers::payload(IMAGE, DIGEST);
    let chain = [&node.fulcio.intermediate, &node.fulcio.root];
    let mut annotations = leaf.annotations(&payload, &chain, &node.log, Log::TIME);
    annotations.remove("dev.sigstore.cosign/bundle").unwrap();
    let bare = found(payload.clone(), annotations.clone());
    refused(node.judge(&by_dev(), &bare), "has no time that can be trusted");
    let stamp = node.tsa.annotation(&annotations, Log::TIME);
    annotations.insert("dev.sigstore.cosign/rfc3161timestamp".to_owned(), stamp);
    let stamped = found(payload, annotations);
    node.judge(&by_dev(), &stamped).unwrap();
    node.root(|_| ());
    refused(node.judge(&by_dev(), &stamped), "missing dev.sigstore.cosign/bundle annotation");
}

#[test]
fn without_a_log_the_stamp_must_be_there_and_hold_with_the_certificate() {
    let node = node();
    let leaf = node.leaf();
    let bare = leaf.bundle(&statement());
    refused(node.judge(&by_dev(), &evidence(&bare)), "has no time that can be trusted");
    let by_another = stamped(&leaf, &Tsa::make(), Log::TIME);
    refused(node.judge(&by_dev(), &evidence(&by_another)), "has no time that can be trusted");
    let late = stamped(&leaf, &node.tsa, Log::TIME + 100_000);
    node.judge(&by_dev(), &evidence(&late)).unwrap_err();
    let thief =
        stamped(&node.fulcio.issue(&Order::email("thief@evil.example")), &node.tsa, Log::TIME);
    refused(node.judge(&by_dev(), &evidence(&thief)), "is by someone else");
    let evil = stamped(&Fulcio::make().issue(&Order::email(DEV)), &node.tsa, Log::TIME);
    refused(node.judge(&by_dev(), &evidence(&evil)), "has a certificate that is not trusted");
    // The stamp is of this signature.
    let mut moved = stamped(&leaf, &node.tsa, Log::TIME);
    moved["dsseEnvelope"] = leaf.bundle(&statement())["dsseEnvelope"].take();
    node.judge(&by_dev(), &evidence(&moved)).unwrap_err();
}

#[test]
fn the_entry_of_a_log_that_nobody_trusts_proves_no_time_and_is_not_shown() {
    let node = node();
    let logged = node.bundle(&node.leaf());
    refused(node.judge(&by_dev(), &evidence(&logged)), "has no time that can be trusted");
    let both = node.stamped(&node.leaf());
    let verdict = node.verdict(&by_dev(), &evidence(&both), std::time::SystemTime::now());
    let Outcome::Accepted(proof) = &verdict.requirements[0].outcome else { panic!("{verdict:?}") };
    assert!(proof.entries.is_empty() && proof.times.len() == 1, "{proof:?}");
}
