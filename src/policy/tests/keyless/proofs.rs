//! What proves a signature: authorities, times, logs, and what is left when one is missing.

use std::collections::BTreeMap;
use std::time::SystemTime;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use serde_json::Value;
use serde_json::json;

use crate::policy::Evidence;
use crate::policy::tests::DIGEST;
use crate::policy::tests::IMAGE;
use crate::policy::tests::found;
use crate::policy::tests::keyless::DEV;
use crate::policy::tests::keyless::Node;
use crate::policy::tests::keyless::by_authority;
use crate::policy::tests::keyless::by_dev;
use crate::policy::tests::keyless::evidence;
use crate::policy::tests::keyless::refused;
use crate::policy::tests::keyless::statement;
use crate::signature::fulcio::Ca;
use crate::signature::fulcio::Fulcio;
use crate::signature::fulcio::Order;
use crate::signature::fulcio::Tsa;
use crate::signature::keys as signers;
use crate::signature::keys::Key;
use crate::signature::keys::Log;

#[test]
fn a_certificate_by_another_authority_is_not_accepted() {
    let node = Node::new();
    let evil = Fulcio::make();
    let leaf = evil.intermediate.issue_logged(&Order::email(DEV), &node.fulcio.ct);
    node.refuses(&by_dev(), &leaf, "has a certificate that is not trusted");
    // With its own chain beside it.
    let payload = signers::payload(IMAGE, DIGEST);
    let chain = [&evil.intermediate, &evil.root];
    let annotations = leaf.annotations(&payload, &chain, &node.log, Log::TIME);
    let evidence = found(payload, annotations);
    refused(node.judge(&by_dev(), &evidence), "is not trusted");
    refused(node.judge(&by_authority(), &evidence), "is not trusted");
}

#[test]
fn a_signers_certificate_is_no_authority() {
    let node = Node::new();
    // The owner of a certificate signs another, with a better name in it.
    let mallory = Ca::make("mallory", None);
    let leaf = mallory.issue_logged(&Order::email(DEV), &node.fulcio.ct);
    let payload = signers::payload(IMAGE, DIGEST);
    let own = node.fulcio.issue(&Order::email("mallory@evil.example"));
    let mut annotations = leaf.annotations(&payload, &[&mallory], &node.log, Log::TIME);
    annotations.insert("dev.sigstore.cosign/chain".to_owned(), own.pem() + &mallory.pem());
    refused(node.judge(&by_dev(), &found(payload, annotations)), "is not trusted");
}

#[test]
fn a_certificate_for_another_purpose_is_not_accepted() {
    let node = Node::new();
    let mut order = Order::email(DEV);
    order.purpose = rcgen::ExtendedKeyUsagePurpose::ServerAuth;
    node.refuses(&by_dev(), &node.fulcio.issue(&order), "is not trusted");
}

#[test]
fn a_certificate_is_judged_at_the_time_of_signing() {
    let node = Node::new();
    let leaf = node.leaf();
    // It has expired long ago, and that does not matter.
    node.judge(&by_dev(), &node.signed(&leaf)).unwrap();
    for (time, words) in [(Log::TIME + 700, "expired"), (Log::TIME - 100, "yet")] {
        for evidence in [
            node.signed_at(&leaf, time),
            evidence(&leaf.logged_bundle(&statement(), &node.log, time)),
            evidence(&leaf.stamped_bundle(&statement(), &node.log, &node.tsa, time)),
        ] {
            let reason = node.judge(&by_dev(), &evidence).unwrap_err();
            assert!(reason.contains("has a certificate that is not trusted"), "{words}: {reason}");
        }
        refused(node.judge(&by_authority(), &node.signed_at(&leaf, time)), "is not trusted");
    }
}

#[test]
fn a_time_that_the_maker_of_the_bundle_chose_is_not_accepted() {
    let node = Node::new();
    // An expired certificate, and a time inside its life written over the log's.
    let leaf = node.leaf();
    let late = leaf.logged_bundle(&statement(), &node.log, Log::TIME + 7000);
    let mut touched = late.clone();
    let inside = Log::TIME.to_string();
    touched["verificationMaterial"]["tlogEntries"][0]["integratedTime"] = inside.into();
    refused(node.judge(&by_dev(), &evidence(&touched)), "verification of Rekor SET failed");
    // Without the promise, the time is only a number.
    let entry = touched["verificationMaterial"]["tlogEntries"][0].as_object_mut().unwrap();
    entry.remove("inclusionPromise");
    refused(node.judge(&by_dev(), &evidence(&touched)), "has no time that can be trusted");
    // The same in cosign v2's form.
    let mut signed = node.signed_at(&leaf, Log::TIME + 7000);
    let set = signed.signatures[0].annotations.get_mut("dev.sigstore.cosign/bundle").unwrap();
    *set = set.replace(&(Log::TIME + 7000).to_string(), &Log::TIME.to_string());
    for requirement in [by_dev(), by_authority()] {
        let expected = "cryptographic signature verification of Rekor SET failed";
        refused(node.judge(&requirement, &signed), expected);
    }
}

#[test]
fn a_time_stamp_by_a_stranger_or_for_something_else_is_not_accepted() {
    let node = Node::new();
    let leaf = node.leaf();
    let stranger = leaf.stamped_bundle(&statement(), &node.log, &Tsa::make(), Log::TIME);
    refused(node.judge(&by_dev(), &evidence(&stranger)), "has no time that can be trusted");
    let mut other = node.stamped(&leaf);
    let stamp = BASE64.encode(node.tsa.stamp(b"something else", Log::TIME));
    let stamps = &mut other["verificationMaterial"]["timestampVerificationData"];
    stamps["rfc3161Timestamps"][0]["signedTimestamp"] = stamp.into();
    refused(node.judge(&by_dev(), &evidence(&other)), "has no time that can be trusted");
    let mut none = node.stamped(&leaf);
    none["verificationMaterial"]["timestampVerificationData"] = Value::Null;
    refused(node.judge(&by_dev(), &evidence(&none)), "has no time that can be trusted");
    // A policy that names no time stamper has no time for a Rekor v2 entry.
    node.put("/etc/fulcio.pem", node.fulcio.root.pem() + &node.fulcio.intermediate.pem());
    let stamped = evidence(&node.stamped(&leaf));
    refused(node.judge(&by_authority(), &stamped), "has no time that can be trusted");
}

/// Cosign v2's form with the time stamp `stamp` beside it.
fn with_stamp(node: &Node, stamp: impl Fn(&BTreeMap<String, String>) -> String) -> Evidence {
    let mut signed = node.signed(&node.leaf());
    let annotations = &mut signed.signatures[0].annotations;
    let stamp = stamp(annotations);
    annotations.insert("dev.sigstore.cosign/rfc3161timestamp".to_owned(), stamp);
    signed
}

#[test]
fn a_time_stamp_beside_a_payload_is_told() {
    let node = Node::new();
    let signed = with_stamp(&node, |of| node.tsa.annotation(of, Log::TIME + 5));
    let verdict = node.verdict(&by_dev(), &signed, SystemTime::now());
    assert_eq!(
        serde_json::to_value(&verdict).unwrap()["requirements"][0]["accepted"]["times"],
        json!([
            { "time": "2023-11-14T22:13:25Z", "source": "timestampAuthority" },
            { "time": "2023-11-14T22:13:20Z", "source": "log" },
        ])
    );
    // A policy that names no time stamper does not look at it.
    node.judge(&by_authority(), &signed).unwrap();
    node.judge(&by_authority(), &with_stamp(&node, |of| Tsa::make().annotation(of, 0))).unwrap();
}

#[test]
fn a_time_stamp_beside_a_payload_that_says_otherwise_is_not_accepted() {
    let node = Node::new();
    let stranger = with_stamp(&node, |of| Tsa::make().annotation(of, Log::TIME));
    refused(node.judge(&by_dev(), &stranger), "has no time that can be trusted");
    let of_another = node.signed(&node.leaf()).signatures.remove(0).annotations;
    let other = with_stamp(&node, |_| node.tsa.annotation(&of_another, Log::TIME));
    refused(node.judge(&by_dev(), &other), "has no time that can be trusted");
    // The certificate must hold at every time that is proven.
    let late = with_stamp(&node, |of| node.tsa.annotation(of, Log::TIME + 7000));
    refused(node.judge(&by_dev(), &late), "has a certificate that is not trusted");
    for nonsense in ["x", "{}", r#"{"SignedRFC3161Timestamp":"","more":1}"#] {
        let found = with_stamp(&node, |_| nonsense.to_owned());
        let expected = "the annotation dev.sigstore.cosign/rfc3161timestamp cannot be read";
        refused(node.judge(&by_dev(), &found), expected);
    }
    // A stamp is no log.
    let mut unlogged = with_stamp(&node, |of| node.tsa.annotation(of, Log::TIME));
    unlogged.signatures[0].annotations.remove("dev.sigstore.cosign/bundle");
    refused(node.judge(&by_dev(), &unlogged), "missing dev.sigstore.cosign/bundle annotation");
}

#[test]
fn a_signature_that_no_log_has_seen_is_not_accepted() {
    let node = Node::new();
    let leaf = node.leaf();
    let mut signed = node.signed(&leaf);
    signed.signatures[0].annotations.remove("dev.sigstore.cosign/bundle");
    for requirement in [by_dev(), by_authority()] {
        let expected = "is incomplete: missing dev.sigstore.cosign/bundle annotation";
        refused(node.judge(&requirement, &signed), expected);
    }
    let mut bundle = node.stamped(&leaf);
    bundle["verificationMaterial"]["tlogEntries"] = json!([]);
    refused(node.judge(&by_dev(), &evidence(&bundle)), "the bundle has no log entry");
    let mut bundle = node.stamped(&leaf);
    let entry = bundle["verificationMaterial"]["tlogEntries"][0].as_object_mut().unwrap();
    entry.remove("inclusionProof");
    refused(node.judge(&by_dev(), &evidence(&bundle)), "with neither a promise nor a proof");
}

#[test]
fn an_entry_without_a_proof_beside_a_proven_one_is_not_accepted() {
    let node = Node::new();
    let mut bundle = node.stamped(&node.leaf());
    let entries = &mut bundle["verificationMaterial"]["tlogEntries"];
    let mut bare = entries[0].clone();
    bare.as_object_mut().unwrap().remove("inclusionProof");
    entries.as_array_mut().unwrap().push(bare);
    refused(node.judge(&by_dev(), &evidence(&bundle)), "with neither a promise nor a proof");
}

#[test]
fn the_log_of_another_is_not_accepted() {
    let node = Node::new();
    let (leaf, evil) = (node.leaf(), Log::default());
    let payload = signers::payload(IMAGE, DIGEST);
    let annotations = leaf.annotations(&payload, &[], &evil, Log::TIME);
    for (evidence, expected) in [
        (found(payload, annotations), "verification of Rekor SET failed"),
        (
            evidence(&leaf.logged_bundle(&statement(), &evil, Log::TIME)),
            "verification of Rekor SET failed",
        ),
        (
            evidence(&leaf.stamped_bundle(&statement(), &evil, &node.tsa, Log::TIME)),
            "is not proven to be in the transparency log: invalid checkpoint",
        ),
    ] {
        refused(node.judge(&by_dev(), &evidence), expected);
    }
}

#[test]
fn the_entry_of_another_signature_is_not_accepted() {
    let node = Node::new();
    // Mallory's own signature is logged in time; with it she wants to use a stolen, expired key.
    let mallory = node.fulcio.issue(&Order::email("mallory@evil.example"));
    let leaf = node.leaf();
    let mut signed = node.signed_at(&leaf, Log::TIME + 7000);
    let hers = node.signed(&mallory).signatures.remove(0).annotations;
    let set = hers["dev.sigstore.cosign/bundle"].clone();
    signed.signatures[0].annotations.insert("dev.sigstore.cosign/bundle".to_owned(), set);
    assert!(node.judge(&by_dev(), &signed).is_err());
    assert!(node.judge(&by_authority(), &signed).is_err());
    for (mine, hers) in
        [(node.bundle(&leaf), node.bundle(&mallory)), (node.stamped(&leaf), node.stamped(&mallory))]
    {
        let mut bundle = mine;
        bundle["verificationMaterial"]["tlogEntries"] =
            hers["verificationMaterial"]["tlogEntries"].clone();
        refused(node.judge(&by_dev(), &evidence(&bundle)), "not");
    }
}

#[test]
fn a_touched_inclusion_proof_is_not_accepted() {
    let node = Node::new();
    let leaf = node.leaf();
    let zeros = BASE64.encode([0; 32]);
    for bundle in [node.bundle(&leaf), node.stamped(&leaf)] {
        for (place, value) in [
            ("/inclusionProof/hashes/0", json!(zeros)),
            ("/inclusionProof/checkpoint/envelope", json!("log.example\n2\nAAAA\n")),
            ("/logIndex", json!("1")),
        ] {
            let mut bundle = bundle.clone();
            let entry = &mut bundle["verificationMaterial"]["tlogEntries"][0];
            *entry.pointer_mut(place).unwrap() = value;
            assert!(node.judge(&by_dev(), &evidence(&bundle)).is_err(), "{place}");
        }
    }
}

#[test]
fn a_certificate_that_no_ct_log_has_is_not_accepted() {
    let node = Node::new();
    let order = Order::email(DEV);
    let sct = "invalid signed certificate timestamp";
    let missing = node.fulcio.intermediate.issue(&order);
    node.refuses(&by_dev(), &missing, sct);
    let foreign = node.fulcio.intermediate.issue_logged(&order, &Key::generate());
    node.refuses(&by_dev(), &foreign, sct);
    // The reference does not look at it; with its members we do not either.
    node.judge(&by_authority(), &node.signed(&missing)).unwrap();
    // A trusted root without CT logs asks for none.
    node.root(|root| root["ctlogs"] = json!([]));
    node.judge(&by_dev(), &node.signed(&missing)).unwrap();
}

#[test]
fn what_a_trusted_root_holds_for_is_looked_at() {
    let node = Node::new();
    let leaf = node.leaf();
    let over = json!({ "start": "2020-01-01T00:00:00Z", "end": "2023-01-01T00:00:00Z" });
    for (place, form) in [
        ("/certificateAuthorities/0/validFor", 1),
        ("/tlogs/0/publicKey/validFor", 1),
        ("/timestampAuthorities/0/validFor", 2),
        ("/ctlogs/0/publicKey/validFor", 1),
    ] {
        node.root(|root| *root.pointer_mut(place).unwrap() = over.clone());
        assert!(node.judge(&by_dev(), &node.forms(&leaf)[form]).is_err(), "{place}");
    }
}
