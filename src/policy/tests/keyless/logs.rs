//! Signatures by a key that logs of a trusted root must have seen.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use serde_json::Value;
use serde_json::json;
use std::time::SystemTime;

use crate::policy::Evidence;
use crate::policy::tests::DIGEST;
use crate::policy::tests::IMAGE;
use crate::policy::tests::bundled;
use crate::policy::tests::found;
use crate::policy::tests::keyless::Node;
use crate::policy::tests::keyless::by_dev;
use crate::policy::tests::keyless::evidence;
use crate::policy::tests::keyless::refused;
use crate::policy::tests::keyless::statement;
use crate::signature::fulcio::Tsa;
use crate::signature::keys as signers;
use crate::signature::keys::Key;
use crate::signature::keys::Log;

/// By the key in a file, and in a log of the trusted root.
fn by_key() -> Value {
    json!({
        "type": "sigstoreSigned",
        "keyPath": "/etc/key.pub",
        "trustedRootPath": "/etc/root.json",
        "signedIdentity": { "type": "matchSubjectDigest" },
    })
}

fn node() -> (Node, Key) {
    let (node, key) = (Node::new(), Key::generate());
    node.put("/etc/key.pub", key.public_pem());
    (node, key)
}

fn signed(key: &Key, log: &Log) -> Evidence {
    let payload = signers::payload(IMAGE, DIGEST);
    let annotations = signers::logged_annotations(key, log, &payload);
    found(payload, annotations)
}

/// A bundle with an entry of Rekor v2, and a time stamp by `tsa`.
fn stamped(key: &Key, log: &Log, tsa: &Tsa) -> Value {
    let mut bundle = signers::logged_bundle_v2(key, log, &statement());
    let signature = bundle["dsseEnvelope"]["signatures"][0]["sig"].as_str().unwrap();
    let stamp = tsa.stamp(&BASE64.decode(signature).unwrap(), Log::TIME + 5);
    bundle["verificationMaterial"]["timestampVerificationData"] =
        json!({ "rfc3161Timestamps": [{ "signedTimestamp": BASE64.encode(stamp) }] });
    bundle
}

/// Cosign v2's form; a bundle with an entry of Rekor v1; one of Rekor v2; the same with a time stamp.
fn forms(node: &Node, key: &Key, log: &Log) -> [Evidence; 4] {
    [
        signed(key, log),
        bundled(signers::logged_bundle(key, log, &statement())),
        evidence(&signers::logged_bundle_v2(key, log, &statement())),
        evidence(&stamped(key, log, &node.tsa)),
    ]
}

#[test]
fn a_signature_by_a_key_in_a_log_of_the_trusted_root_is_accepted() {
    let (node, key) = node();
    for evidence in forms(&node, &key, &node.log) {
        let told = node.judge(&by_key(), &evidence).unwrap();
        assert!(told.ends_with("by the key in /etc/key.pub, in the log at index 0"), "{told}");
    }
    let mut attested = by_key();
    attested["type"] = "sigstoreAttested".into();
    attested["predicateType"] = signers::SPDX.into();
    attested.as_object_mut().unwrap().remove("signedIdentity");
    let sbom = signers::statement(signers::SPDX, DIGEST);
    let bundle = |log: &Log| {
        let mut evidence = Evidence::default();
        evidence.sort_in(signers::logged_bundle(&key, log, &sbom));
        evidence
    };
    node.judge(&attested, &bundle(&node.log)).unwrap();
    node.judge(&attested, &bundle(&Log::default())).unwrap_err();
}

#[test]
fn the_verdict_tells_the_log_and_the_times() {
    let (node, key) = node();
    let told = |evidence: &Evidence| {
        let verdict = node.verdict(&by_key(), evidence, SystemTime::now());
        let accepted = &serde_json::to_value(&verdict).unwrap()["requirements"][0]["accepted"];
        (accepted["entries"][0]["log"].clone(), accepted["times"].clone())
    };
    let [signed, bundle, unstamped, stamped] = forms(&node, &key, &node.log);
    let logged = json!([{ "time": "2023-11-14T22:13:20Z", "source": "log" }]);
    assert_eq!(told(&signed), (json!("https://log.example"), logged.clone()));
    assert_eq!(told(&bundle), (json!("https://log.example"), logged));
    assert_eq!(told(&unstamped), (json!("log.example - 1"), Value::Null));
    let stamp = json!([{ "time": "2023-11-14T22:13:25Z", "source": "timestampAuthority" }]);
    assert_eq!(told(&stamped), (json!("log.example - 1"), stamp));
}

#[test]
fn a_signature_by_a_key_in_no_log_of_the_trusted_root_is_not_accepted() {
    let (node, key) = node();
    for evidence in forms(&node, &key, &Log::default()) {
        refused(node.judge(&by_key(), &evidence), "not proven to be in the transparency log");
    }
    let unlogged = bundled(signers::bundle(&key, &statement()));
    refused(node.judge(&by_key(), &unlogged), "the bundle has no log entry");
    let mut unlogged = signed(&key, &node.log);
    unlogged.signatures[0].annotations.remove("dev.sigstore.cosign/bundle");
    refused(node.judge(&by_key(), &unlogged), "missing dev.sigstore.cosign/bundle annotation");
    // An entry that nothing proves, alone and before one that is proven.
    let mut bundle = signers::logged_bundle_v2(&key, &node.log, &statement());
    let entries = &mut bundle["verificationMaterial"]["tlogEntries"];
    let good = entries[0].clone();
    entries[0].as_object_mut().unwrap().remove("inclusionProof");
    refused(node.judge(&by_key(), &evidence(&bundle)), "neither a promise nor a proof");
    bundle["verificationMaterial"]["tlogEntries"].as_array_mut().unwrap().push(good);
    refused(node.judge(&by_key(), &evidence(&bundle)), "neither a promise nor a proof");
}

#[test]
fn a_signature_by_another_key_in_the_log_is_not_accepted() {
    let (node, key) = node();
    let other = Key::generate();
    for evidence in forms(&node, &other, &node.log) {
        refused(node.judge(&by_key(), &evidence), "none by the key in /etc/key.pub");
    }
    // With the entry of somebody else's signature.
    let mut bundle = signers::logged_bundle_v2(&key, &node.log, &statement());
    let hers = signers::logged_bundle_v2(&other, &node.log, &statement());
    bundle["verificationMaterial"]["tlogEntries"] =
        hers["verificationMaterial"]["tlogEntries"].clone();
    node.judge(&by_key(), &evidence(&bundle)).unwrap_err();
}

#[test]
fn the_time_that_a_log_of_the_trusted_root_holds_for_is_looked_at() {
    let (node, key) = node();
    node.root(|root| {
        root["tlogs"][0]["publicKey"]["validFor"] =
            json!({ "start": "2020-01-01T00:00:00Z", "end": "2023-01-01T00:00:00Z" });
    });
    let [signed, bundle, _, _] = forms(&node, &key, &node.log);
    for evidence in [signed, bundle] {
        refused(node.judge(&by_key(), &evidence), "verification of Rekor SET failed");
    }
}

#[test]
fn a_time_stamp_of_a_signature_by_a_key_must_hold_if_it_is_there() {
    let (node, key) = node();
    let bundle = stamped(&key, &node.log, &Tsa::make());
    node.judge(&by_key(), &evidence(&bundle)).unwrap_err();
    // Without time stampers in the root it is not looked at.
    node.root(|root| root["timestampAuthorities"] = json!([]));
    node.judge(&by_key(), &evidence(&bundle)).unwrap();
}

#[test]
fn a_trusted_root_for_logs_needs_no_authority_and_must_have_a_log() {
    let (node, key) = node();
    node.root(|root| root["certificateAuthorities"] = json!([]));
    let evidence = signed(&key, &node.log);
    node.judge(&by_key(), &evidence).unwrap();
    node.root(|root| root["tlogs"] = json!([]));
    refused(node.judge(&by_key(), &evidence), "it names no transparency log");
    node.put("/etc/root.json", "{}");
    let expected = "the trusted root in /etc/root.json cannot be used";
    refused(node.judge(&by_key(), &evidence), expected);
    assert_eq!(node.parse(&by_key()).unwrap().faults().len(), 1);
    let mut inline = by_key();
    inline.as_object_mut().unwrap().remove("trustedRootPath");
    let root = node.fulcio.trusted_root(&[&node.log], None).to_string();
    inline["trustedRootData"] = BASE64.encode(root).into();
    node.judge(&inline, &evidence).unwrap();
}

#[test]
fn a_trusted_root_for_logs_stands_in_one_place_only() {
    let (node, _) = node();
    let with = |mut requirement: Value, member: &str, value: &str| {
        requirement[member] = value.into();
        node.parse(&requirement).map(drop).map_err(|error| error.to_string())
    };
    let mut pki = by_key();
    pki.as_object_mut().unwrap().remove("keyPath");
    pki["pki"] = json!({ "caRootsPath": "/etc/fulcio.pem", "subjectEmail": "a@b.example" });
    for (requirement, member, value, expected) in [
        (by_key(), "rekorPublicKeyPath", "/etc/rekor.pub", "at most one of rekorPublicKeyPath"),
        (by_key(), "trustedRootData", "e30=", "at most one of rekorPublicKeyPath"),
        (by_key(), "trustedRootPath", "", "trustedRootPath must not be empty"),
        (by_dev(), "trustedRootPath", "/etc/root.json", "stand in fulcio where it is used"),
        (pki, "trustedRootPath", "/etc/root.json", "are not supported for pki"),
    ] {
        let error = with(requirement, member, value).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}
