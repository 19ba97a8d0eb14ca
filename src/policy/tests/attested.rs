//! `sigstoreAttested`: what a builder or a vendor says, and what others would like to have been
//! said.

mod golden;
mod language;

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::json;

use super::*;
use crate::policy::Attachment;
use crate::policy::Attestation;
use crate::signature::statement;

const V1: &str = "https://slsa.dev/provenance/v1";
const V0_2: &str = "https://slsa.dev/provenance/v0.2";
const VEX: &str = "https://openvex.dev/ns";
const OWN: &str = "https://shop.example/tests/v1";
const BUILDER: &str = "https://github.com/shop/api/.github/workflows/release.yml@refs/heads/main";

/// A `sigstoreAttested` by the shop's key.
fn attested(predicate_type: &str, conditions: &Value) -> String {
    let mut requirement = json!({
        "type": "sigstoreAttested",
        "keyPath": "/keys/shop.pub",
        "predicateType": predicate_type,
    });
    if !conditions.is_null() {
        requirement["conditions"] = conditions.clone();
    }
    requirement.to_string()
}

fn slsa() -> String {
    let slsa = json!({
        "builderID": BUILDER,
        "sourceRepository": "https://github.com/shop/api",
        "sourceRef": "refs/heads/main",
    });
    attested(V1, &json!({ "slsa": slsa }))
}

fn equals(pointer: &str, value: Value) -> Value {
    json!({ "pointer": pointer, "equals": value })
}

fn provenance() -> Value {
    json!({
        "buildDefinition": {
            "buildType": "https://actions.github.io/buildtypes/workflow/v1",
            "externalParameters": {
                "workflow": { "repository": "https://github.com/shop/api", "ref": "refs/heads/main" },
            },
        },
        "runDetails": { "builder": { "id": BUILDER } },
    })
}

fn evidence(attestations: Vec<Vec<u8>>) -> Evidence {
    let mut evidence = Evidence::default();
    attestations.into_iter().for_each(|bundle| evidence.sort_in(bundle));
    evidence
}

/// An attestation as a bundle.
fn says(key: &Key, predicate_type: &str, predicate: &Value) -> Vec<u8> {
    signers::bundle(key, &signers::attestation(predicate_type, predicate, DIGEST))
}

/// The same as cosign 2 attaches it.
fn attached(envelope: Vec<u8>, annotations: &[(&str, &str)]) -> Evidence {
    let text = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let annotations: BTreeMap<_, _> = annotations.iter().map(text).collect();
    let attachment = Attestation::Attached(Attachment { envelope, annotations });
    Evidence { attestations: vec![attachment], ..Evidence::default() }
}

#[track_caller]
fn refused(verdict: Result<Vec<String>, String>, expected: &str) {
    let text = verdict.expect_err("allowed");
    let (_, reason) = text.split_once("sigstoreAttested: ").unwrap_or_else(|| panic!("{text}"));
    assert_eq!(reason, expected);
}

#[test]
fn provenance_of_the_right_builder_and_source_is_allowed() {
    let node = Node::new();
    let bundle = evidence(vec![says(&node.shop, V1, &provenance())]);
    let by = node.judge(&slsa(), &bundle).unwrap();
    assert_eq!(by, ["sigstoreAttested: attestation by the key in /keys/shop.pub"]);
    let statement = signers::attestation(V1, &provenance(), DIGEST);
    let envelope = signers::envelope(&node.shop, &statement);
    node.judge(&slsa(), &attached(envelope, &[])).unwrap();
    // Without conditions it is enough that it is there.
    node.judge(&attested(V1, &Value::Null), &bundle).unwrap();
}

#[test]
fn an_image_without_an_attestation_is_not_accepted() {
    let node = Node::new();
    let none = format!("An attestation of type {V1} was required, but no attestation exists");
    refused(node.judge(&slsa(), &Evidence::default()), &none);
    let other = evidence(vec![says(&node.shop, V0_2, &provenance())]);
    let beside = format!(" (1 attestation found, which is of another type: {V0_2:?})");
    refused(node.judge(&slsa(), &other), &format!("{none}{beside}"));
}

#[test]
fn attestation_by_another_key_is_not_accepted() {
    let node = Node::new();
    let found = evidence(vec![says(&node.other, V1, &provenance())]);
    refused(node.judge(&slsa(), &found), "1 attestation found, none by the key in /keys/shop.pub");
}

#[test]
fn attestation_for_another_digest_is_not_accepted() {
    let node = Node::new();
    let statement = signers::attestation(V1, &provenance(), OTHER);
    let words = format!(
        "1 attestation found, which is for another digest: Signature for digest {OTHER} does not match"
    );
    let found = evidence(vec![signers::bundle(&node.shop, &statement)]);
    refused(node.judge(&slsa(), &found), &words);
    let found = attached(signers::envelope(&node.shop, &statement), &[]);
    refused(node.judge(&slsa(), &found), &words);
}

#[test]
fn the_digest_may_be_any_of_the_subjects_but_must_be_a_sha256() {
    let node = Node::new();
    let judge = |subject: Value| {
        let mut statement: Value =
            serde_json::from_slice(&signers::attestation(V1, &provenance(), OTHER)).unwrap();
        statement["subject"] = subject;
        let bundle = signers::bundle(&node.shop, statement.to_string().as_bytes());
        node.judge(&slsa(), &evidence(vec![bundle]))
    };
    let hex = DIGEST.strip_prefix("sha256:").unwrap();
    let ours = json!({ "name": "b", "digest": { "sha512": "x", "sha256": hex } });
    let other = json!({ "digest": { "sha256": "0".repeat(64) } });
    judge(json!([other, ours])).unwrap();
    for subject in [
        json!([]),
        json!([{ "digest": {} }]),
        json!([{ "digest": { "sha1": hex } }]),
        json!([{ "digest": { "sha256": hex.to_uppercase() } }]),
        json!([{ "name": DIGEST, "digest": { "gitCommit": hex } }]),
        json!([{ "name": hex }]),
        json!({ "digest": { "sha256": hex } }),
    ] {
        judge(subject.clone()).expect_err(&subject.to_string());
    }
}

#[test]
fn predicate_type_of_another_kind_is_not_accepted() {
    let node = Node::new();
    let vex = json!({ "@context": VEX, "statements": [] });
    let found = evidence(vec![says(&node.shop, VEX, &vex)]);
    node.judge(&attested(&format!("{VEX}/v0.2.0"), &Value::Null), &found).unwrap_err();
    // Nor is one that only begins so, or is put beside its own annotation.
    let longer = says(&node.shop, &format!("{V1}.1"), &provenance());
    node.judge(&slsa(), &evidence(vec![longer])).unwrap_err();
    let statement = signers::attestation(V0_2, &provenance(), DIGEST);
    let lying = attached(signers::envelope(&node.shop, &statement), &[("predicateType", V1)]);
    node.judge(&slsa(), &lying).unwrap_err();
}

#[test]
fn a_signature_is_no_attestation() {
    let node = Node::new();
    let mut found = node.signed(&node.shop, IMAGE, DIGEST);
    let sign = signers::statement(statement::SIGN, DIGEST);
    found.sort_in(signers::bundle(&node.shop, &sign));
    let none = format!("An attestation of type {V1} was required, but no attestation exists");
    refused(node.judge(&slsa(), &found), &none);
    let found = attached(signers::envelope(&node.shop, &sign), &[]);
    let beside = format!(" (1 attestation found, which is of another type: {:?})", statement::SIGN);
    refused(node.judge(&slsa(), &found), &format!("{none}{beside}"));
}

#[test]
fn an_attestation_is_no_signature() {
    let node = Node::new();
    let signed = identity(BY_DIGEST);
    let words = "A signature was required, but no signature exists (1 attestation found, which is no signature";
    let found = evidence(vec![says(&node.shop, V1, &provenance())]);
    let reason = node.judge(&signed, &found).unwrap_err();
    assert!(reason.contains(words), "{reason}");
    // Wherever it lies, and even if it is a signature that is attached as an attestation.
    let envelope = signers::envelope(&node.shop, &signers::statement(statement::SIGN, DIGEST));
    node.judge(&signed, &attached(envelope, &[])).unwrap_err();
    let bundle = says(&node.shop, V1, &provenance());
    node.judge(&signed, &bundled(bundle)).unwrap_err();
}

#[test]
fn conditions_split_over_two_attestations_are_not_met() {
    let node = Node::new();
    let wanted =
        attested(OWN, &json!({ "json": [equals("/a", json!(1)), equals("/b", json!(2))] }));
    let half = |predicate: Value| says(&node.shop, OWN, &predicate);
    let halves = evidence(vec![half(json!({ "a": 1 })), half(json!({ "b": 2 }))]);
    refused(
        node.judge(&wanted, &halves),
        "2 attestations found: 1 has nothing at \"/b\", 1 has nothing at \"/a\"",
    );
    let whole = evidence(vec![half(json!({ "a": 1 })), half(json!({ "a": 1, "b": 2 }))]);
    node.judge(&wanted, &whole).unwrap();
    // The other half by another key counts even less.
    let foreign = says(&node.other, OWN, &json!({ "a": 1, "b": 2 }));
    let found = evidence(vec![half(json!({ "a": 1 })), foreign]);
    refused(
        node.judge(&wanted, &found),
        "2 attestations found: 1 is not by the key in /keys/shop.pub, 1 has nothing at \"/b\"",
    );
}

#[test]
fn a_good_attestation_beside_bad_ones_is_enough() {
    let node = Node::new();
    let mut other = provenance();
    other["runDetails"]["builder"]["id"] = json!("https://evil.example");
    let found = evidence(vec![
        b"{}".to_vec(),
        says(&node.other, V1, &provenance()),
        says(&node.shop, V1, &other),
        says(&node.shop, V1, &provenance()),
    ]);
    node.judge(&slsa(), &found).unwrap();
}

#[test]
fn several_requirements_must_all_hold() {
    let node = Node::new();
    let both = format!("{},{}", slsa(), attested(OWN, &Value::Null));
    let one = says(&node.shop, V1, &provenance());
    node.judge(&both, &evidence(vec![one.clone()])).unwrap_err();
    let other = says(&node.shop, OWN, &json!({}));
    node.judge(&both, &evidence(vec![other, one])).unwrap();
}

#[test]
fn vex_statement_superseded_in_another_attestation_does_not_hold() {
    let node = Node::new();
    let wanted = attested(VEX, &json!({ "vex": { "noAffected": "all", "cleared": ["CVE-1"] } }));
    let vex = |key: &Key, month: u8, status: &str| {
        let statement = json!({
            "vulnerability": { "name": "CVE-1" },
            "status": status,
            "justification": "component_not_present",
        });
        let time = format!("2026-{month:02}-01T00:00:00Z");
        says(key, VEX, &json!({ "@context": VEX, "timestamp": time, "statements": [statement] }))
    };
    let good = vex(&node.shop, 2, "not_affected");
    node.judge(&wanted, &evidence(vec![good.clone()])).unwrap();
    let later = vex(&node.shop, 3, "affected");
    let words = "2 attestations found: 2 are VEX that says affected for CVE-1";
    for order in [vec![good.clone(), later.clone()], vec![later.clone(), good.clone()]] {
        let reason = node.judge(&wanted, &evidence(order)).unwrap_err();
        assert!(reason.contains(words), "{reason}");
    }
    // A fix after that is a fix; and what another key says counts neither way.
    let fixed = vex(&node.shop, 4, "fixed");
    node.judge(&wanted, &evidence(vec![good.clone(), later.clone(), fixed])).unwrap();
    let foreign = vex(&node.other, 5, "affected");
    node.judge(&wanted, &evidence(vec![good.clone(), foreign])).unwrap();
    let foreign = vex(&node.other, 5, "fixed");
    node.judge(&wanted, &evidence(vec![good.clone(), later, foreign])).unwrap_err();
    // What the vendor says and nobody understands may be a "no".
    let odd = vex(&node.shop, 6, "mostly_harmless");
    let reason = node.judge(&wanted, &evidence(vec![good, odd])).unwrap_err();
    assert!(reason.contains("is VEX with the unknown status"), "{reason}");
}

#[test]
fn an_envelope_with_two_signatures_is_not_accepted() {
    let node = Node::new();
    let statement = signers::attestation(V1, &provenance(), DIGEST);
    let mut bundle: Value =
        serde_json::from_slice(&signers::bundle(&node.shop, &statement)).unwrap();
    let signatures = bundle["dsseEnvelope"]["signatures"].as_array_mut().unwrap();
    signatures.push(signatures[0].clone());
    let mut envelope: Value =
        serde_json::from_slice(&signers::envelope(&node.shop, &statement)).unwrap();
    envelope["signatures"] = bundle["dsseEnvelope"]["signatures"].clone();
    node.judge(&slsa(), &evidence(vec![bundle.to_string().into_bytes()])).unwrap_err();
    let reason =
        node.judge(&slsa(), &attached(envelope.to_string().into_bytes(), &[])).unwrap_err();
    assert!(reason.contains("is malformed"), "{reason}");
    envelope["signatures"] = json!([]);
    node.judge(&slsa(), &attached(envelope.to_string().into_bytes(), &[])).unwrap_err();
}

#[test]
fn a_payload_that_is_not_in_toto_is_not_accepted() {
    let node = Node::new();
    let statement = signers::attestation(V1, &provenance(), DIGEST);
    for kind in ["application/json", "application/vnd.in-toto+json ", ""] {
        let envelope = signers::envelope_json(&node.shop, kind, &statement);
        let found = attached(envelope.to_string().into_bytes(), &[]);
        let reason = node.judge(&slsa(), &found).unwrap_err();
        assert!(reason.contains("not in-toto"), "{kind}: {reason}");
    }
    // And its signature does not hold under another type than it was made for.
    let mut envelope = signers::envelope_json(&node.shop, "application/json", &statement);
    envelope["payloadType"] = json!("application/vnd.in-toto+json");
    let found = attached(envelope.to_string().into_bytes(), &[]);
    refused(node.judge(&slsa(), &found), "1 attestation found, none by the key in /keys/shop.pub");
}

#[test]
fn statements_of_both_versions_are_read_and_no_other() {
    let node = Node::new();
    let judge = |version: &str| {
        let text = String::from_utf8(signers::attestation(V1, &provenance(), DIGEST)).unwrap();
        let text = text.replace("https://in-toto.io/Statement/v0.1", version);
        node.judge(&slsa(), &evidence(vec![signers::bundle(&node.shop, text.as_bytes())]))
    };
    judge("https://in-toto.io/Statement/v0.1").unwrap();
    judge("https://in-toto.io/Statement/v1").unwrap();
    for other in ["https://in-toto.io/Statement/v2", "https://in-toto.io/Statement/v1.0", ""] {
        judge(other).expect_err(other);
    }
}

#[test]
fn a_key_twice_anywhere_in_the_predicate_is_not_accepted() {
    let node = Node::new();
    let text = String::from_utf8(signers::attestation(V1, &provenance(), DIGEST)).unwrap();
    for (from, to) in [
        (r#""ref":"refs/heads/main""#, r#""ref":"refs/heads/evil","ref":"refs/heads/main""#),
        (r#""predicate":"#, r#""predicate":{},"predicate":"#),
        (r#""builder":"#, r#""more":{"x":1,"\u0078":2},"builder":"#),
    ] {
        let twice = text.replacen(from, to, 1);
        assert_ne!(twice, text);
        let found = evidence(vec![signers::bundle(&node.shop, twice.as_bytes())]);
        let reason = node.judge(&slsa(), &found).unwrap_err();
        assert!(
            reason.contains("is malformed: its payload is not an in-toto statement"),
            "{reason}"
        );
    }
}

#[test]
fn a_predicate_that_is_deep_or_huge_is_read_without_harm() {
    let node = Node::new();
    let wanted = attested(OWN, &json!({ "json": [equals("/a", json!(1))] }));
    let judge = |predicate: &str| {
        let text = String::from_utf8(signers::attestation(OWN, &json!("here"), DIGEST)).unwrap();
        let text = text.replace("\"here\"", predicate);
        node.judge(&wanted, &evidence(vec![signers::bundle(&node.shop, text.as_bytes())]))
    };
    judge(r#"{"a":1}"#).unwrap();
    let deep = format!(r#"{{"b":{}1{},"a":1}}"#, "[".repeat(1000), "]".repeat(1000));
    let reason = judge(&deep).unwrap_err();
    assert!(reason.contains("is malformed"), "{reason}");
    // As a tree of values this would have a hundred megabytes and more.
    let huge = format!(r#"{{"b":[{}0],"a":1}}"#, r#"{"c":0},"#.repeat(200_000));
    judge(&huge).unwrap();
}

#[test]
fn a_predicate_that_is_missing_or_null_says_nothing() {
    let node = Node::new();
    for rest in [r#","predicate":null}"#, "}"] {
        let text = String::from_utf8(signers::attestation(OWN, &json!(null), DIGEST)).unwrap();
        let mut statement: Value = serde_json::from_str(&text).unwrap();
        statement.as_object_mut().unwrap().remove("predicate");
        let text = format!("{}{rest}", statement.to_string().trim_end_matches('}'));
        let text =
            if serde_json::from_str::<Value>(&text).is_ok() { text } else { statement.to_string() };
        let found = evidence(vec![signers::bundle(&node.shop, text.as_bytes())]);
        let wanted = attested(OWN, &Value::Null);
        refused(node.judge(&wanted, &found), "1 attestation found, which is without a predicate");
    }
}

#[test]
fn an_attestation_that_no_log_has_seen_is_not_accepted() {
    let node = Node::new();
    let mut wanted: Value = serde_json::from_str(&slsa()).unwrap();
    wanted["rekorPublicKeyPath"] = json!("/keys/rekor.pub");
    let wanted = wanted.to_string();
    let statement = signers::attestation(V1, &provenance(), DIGEST);
    let reason = node.judge(&wanted, &evidence(vec![signers::bundle(&node.shop, &statement)]));
    assert!(reason.unwrap_err().contains("not proven to be in the transparency log"));
    let bundle = signers::logged_bundle(&node.shop, &node.log, &statement);
    let by = node.judge(&wanted, &evidence(vec![bundle])).unwrap();
    assert!(
        by[0].starts_with("sigstoreAttested: attestation by the key in /keys/shop.pub, in the log")
    );
    // The same as cosign 2 writes it, beside the envelope.
    let envelope = signers::envelope(&node.shop, &statement);
    let promise = signers::envelope_promise(&node.shop, &node.log, &envelope);
    let set = "dev.sigstore.cosign/bundle";
    node.judge(&wanted, &attached(envelope.clone(), &[(set, &promise)])).unwrap();
    node.judge(&wanted, &attached(envelope.clone(), &[])).unwrap_err();
    // A promise for another envelope, or by another log.
    let other = signers::envelope(&node.shop, &signers::attestation(V1, &json!({}), DIGEST));
    node.judge(&wanted, &attached(other, &[(set, &promise)])).unwrap_err();
    let foreign = signers::envelope_promise(&node.shop, &Log::default(), &envelope);
    node.judge(&wanted, &attached(envelope.clone(), &[(set, &foreign)])).unwrap_err();
    for broken in ["", "{}", "[]", &promise.replace("logIndex", "logindex")] {
        node.judge(&wanted, &attached(envelope.clone(), &[(set, broken)])).expect_err(broken);
    }
}

#[test]
fn an_annotation_with_a_certificate_does_not_pass_for_a_key() {
    let node = Node::new();
    let envelope = signers::envelope(&node.shop, &signers::attestation(V1, &provenance(), DIGEST));
    for pem in ["x", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"] {
        let found = attached(envelope.clone(), &[("dev.sigstore.cosign/certificate", pem)]);
        let reason = node.judge(&slsa(), &found).unwrap_err();
        assert!(
            reason.contains("annotation dev.sigstore.cosign/certificate cannot be read"),
            "{reason}"
        );
    }
}

#[test]
fn more_attestations_than_are_looked_at_do_not_count() {
    let node = Node::new();
    let foreign = Attestation::Bundle(says(&node.other, V1, &provenance()));
    let mut found =
        Evidence { attestations: vec![foreign; Evidence::LIMIT], ..Evidence::default() };
    found.sort_in(says(&node.shop, V1, &provenance()));
    node.judge(&slsa(), &found).unwrap_err();
}
