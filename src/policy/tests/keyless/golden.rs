//! What the real cosign wrote, signing keylessly against authorities and logs on loopback.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::time::SystemTime;

use serde_json::Value;
use serde_json::json;

use crate::oci::digest::Digest;
use crate::oci::reference::Reference;
use crate::policy::Attachment;
use crate::policy::Attestation;
use crate::policy::Evidence;
use crate::policy::Policy;
use crate::policy::Subject;
use crate::policy::evaluate;
use crate::policy::tests::OTHER;
use crate::policy::tests::found;
use crate::policy::tests::keyless::DEV;
use crate::policy::tests::keyless::ISSUER;
use crate::policy::tests::keyless::JOB;

const IMAGE: &str = "sha256:3966454e23feafe42cd4fe7a998a20e705d67a76e02151dbed884b782bbddde5";
const TESTS: &str = "https://shop.example/tests/v1";

fn read(name: &str) -> Vec<u8> {
    let root =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/signature/cosign-keyless");
    std::fs::read(root.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn json_of(name: &str) -> Value {
    serde_json::from_slice(&read(name)).unwrap()
}

/// A requirement by someone whom the trusted root's Fulcio knows.
fn by(kind: &str, subject: &str, name: &str) -> Value {
    let mut requirement = json!({
        "type": kind,
        "fulcio": { "trustedRootPath": "/root.json", "oidcIssuer": ISSUER, subject: name },
    });
    match kind {
        "sigstoreSigned" => {
            requirement["signedIdentity"] = json!({ "type": "matchSubjectDigest" });
        }
        _ => {
            requirement["predicateType"] = TESTS.into();
            let passed = json!({ "pointer": "/passed", "equals": 214 });
            requirement["conditions"] = json!({ "json": [passed] });
        }
    }
    requirement
}

fn dev(kind: &str) -> Value {
    by(kind, "subjectEmail", DEV)
}

fn job(kind: &str) -> Value {
    by(kind, "subjectURI", JOB)
}

fn judge_of(digest: &str, requirement: &Value, evidence: &Evidence) -> Result<Value, String> {
    let text = json!({ "default": [requirement] }).to_string();
    let policy = Policy::parse(Path::new("/p"), text.as_bytes(), &|path| {
        Ok(if path.ends_with("root.json") {
            read("trusted_root.json")
        } else {
            read("cosign-3/key.pub")
        })
    });
    let reference = Reference::parse_normalized("registry.example/shop/api:1").unwrap();
    let manifest_digest: Digest = digest.parse().unwrap();
    let subject = Subject { reference: &reference, manifest_digest: &manifest_digest };
    let verdict = evaluate(&policy.unwrap(), &subject, evidence, SystemTime::now());
    let verdict = verdict.allowed().map_err(|refusal| refusal.to_string())?;
    Ok(serde_json::to_value(verdict).unwrap()["requirements"][0]["accepted"].clone())
}

fn judge(requirement: &Value, evidence: &Evidence) -> Result<Value, String> {
    judge_of(IMAGE, requirement, evidence)
}

fn bundle(bundle: &Value) -> Evidence {
    let mut evidence = Evidence::default();
    evidence.sort_in(bundle.to_string().into_bytes());
    evidence
}

fn annotations(name: &str) -> BTreeMap<String, String> {
    serde_json::from_slice(&read(&format!("{name}-annotations.json"))).unwrap()
}

/// A payload and what stands beside it.
fn payload(name: &str) -> Evidence {
    found(read(&format!("{name}.json")), annotations(name))
}

/// An envelope and what stands beside it.
fn attached(name: &str) -> Evidence {
    let (envelope, annotations) = (read(&format!("{name}.json")), annotations(name));
    let attachments = vec![Attestation::Attached(Attachment { envelope, annotations })];
    Evidence { attestations: attachments, ..Evidence::default() }
}

/// Who vouches for the times of a verdict.
fn clocks(accepted: &Value) -> Vec<&str> {
    let times = accepted["times"].as_array().into_iter().flatten();
    times.map(|time| time["source"].as_str().unwrap()).collect()
}

#[test]
fn what_cosign_3_signs_keylessly_is_accepted() {
    let one = judge(&dev("sigstoreSigned"), &bundle(&json_of("cosign-3/rekor-v1-sign.json")));
    let one = one.unwrap();
    assert_eq!(clocks(&one), ["log"]);
    assert_eq!(one["entries"][0]["log"], "https://rekor.example");
    assert_eq!(one["signer"]["subjects"], json!([DEV]));
    let two = judge(&job("sigstoreSigned"), &bundle(&json_of("cosign-3/rekor-v2-sign.json")));
    let two = two.unwrap();
    assert_eq!(clocks(&two), ["timestampAuthority"]);
    assert_eq!(two["entries"][0]["log"], "log2.example");
    assert_eq!(two["signer"]["claims"]["sourceRef"], "refs/tags/v1");
    // In the older form, with the log's promise and a time stamp.
    let old = judge(&dev("sigstoreSigned"), &payload("cosign-3/payload")).unwrap();
    assert_eq!(clocks(&old), ["timestampAuthority", "log"]);
}

#[test]
fn what_cosign_3_attests_keylessly_is_accepted() {
    let requirement = dev("sigstoreAttested");
    judge(&requirement, &bundle(&json_of("cosign-3/rekor-v1-attest.json"))).unwrap();
    judge(&requirement, &attached("cosign-3/envelope")).unwrap();
    let job = job("sigstoreAttested");
    judge(&job, &bundle(&json_of("cosign-3/rekor-v2-attest.json"))).unwrap();
    let mut more = job;
    more["conditions"]["json"][0]["equals"] = 215.into();
    judge(&more, &bundle(&json_of("cosign-3/rekor-v2-attest.json"))).unwrap_err();
}

#[test]
fn what_cosign_3_signs_by_a_key_in_rekor_v2_is_accepted() {
    let by_key = json!({
        "type": "sigstoreSigned",
        "keyPath": "/key.pub",
        "trustedRootPath": "/root.json",
        "signedIdentity": { "type": "matchSubjectDigest" },
    });
    let signed = json_of("cosign-3/key-rekor-v2-sign.json");
    let accepted = judge(&by_key, &bundle(&signed)).unwrap();
    assert_eq!(clocks(&accepted), ["timestampAuthority"]);
    assert_eq!(accepted["entries"][0]["log"], "log2.example");
    let mut unlogged = signed;
    unlogged["verificationMaterial"]["tlogEntries"] = json!([]);
    let refused = judge(&by_key, &bundle(&unlogged)).unwrap_err();
    assert!(refused.contains("the bundle has no log entry"), "{refused}");
}

#[test]
fn what_cosign_made_for_another_image_or_signer_is_not_accepted() {
    for (name, requirement) in [
        ("cosign-3/rekor-v1-sign.json", dev("sigstoreSigned")),
        ("cosign-3/rekor-v2-sign.json", job("sigstoreSigned")),
        ("cosign-3/rekor-v1-attest.json", dev("sigstoreAttested")),
        ("cosign-3/rekor-v2-attest.json", job("sigstoreAttested")),
    ] {
        let found = bundle(&json_of(name));
        let refused = judge_of(OTHER, &requirement, &found).unwrap_err();
        assert!(refused.contains("is for another digest"), "{name}: {refused}");
        let mut other = requirement;
        other["fulcio"]["oidcIssuer"] = "https://accounts.example".into();
        let refused = judge(&other, &found).unwrap_err();
        assert!(refused.contains("Unexpected Fulcio OIDC issuer"), "{name}: {refused}");
    }
    // One is not taken for the other.
    judge(&dev("sigstoreAttested"), &bundle(&json_of("cosign-3/rekor-v1-sign.json"))).unwrap_err();
    judge(&dev("sigstoreSigned"), &bundle(&json_of("cosign-3/rekor-v1-attest.json"))).unwrap_err();
}

#[test]
fn a_bundle_of_cosign_that_was_touched_is_not_accepted() {
    let of = |name: &'static str, requirement: Value| (name, requirement);
    let v1 = || of("cosign-3/rekor-v1-sign.json", dev("sigstoreSigned"));
    let v2 = || of("cosign-3/rekor-v2-sign.json", job("sigstoreSigned"));
    let material = |place: &str| format!("/verificationMaterial/{place}");
    let zeros = json!("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    for ((name, requirement), place, value) in [
        (v1(), material("tlogEntries/0/integratedTime"), json!("1700000000")),
        (v1(), material("tlogEntries/0/inclusionPromise/signedEntryTimestamp"), zeros.clone()),
        (v1(), material("tlogEntries/0/inclusionProof/hashes/0"), zeros.clone()),
        (v1(), material("tlogEntries/0/logId/keyId"), zeros.clone()),
        (v2(), material("tlogEntries/0/inclusionProof/hashes/0"), zeros.clone()),
        (v2(), material("tlogEntries"), json!([])),
        (v2(), material("timestampVerificationData"), Value::Null),
        (v2(), "/dsseEnvelope/signatures/0/sig".to_owned(), zeros),
    ] {
        let mut touched = json_of(name);
        let there = touched.pointer_mut(&place).unwrap_or_else(|| panic!("{name}{place}"));
        assert_ne!(*there, value);
        *there = value;
        assert!(judge(&requirement, &bundle(&touched)).is_err(), "{name}{place}");
    }
    // The log's entry and the stamp of another statement by the same signer.
    for (sign, attest, requirement) in [
        ("cosign-3/rekor-v1-sign.json", "cosign-3/rekor-v1-attest.json", dev("sigstoreSigned")),
        ("cosign-3/rekor-v2-sign.json", "cosign-3/rekor-v2-attest.json", job("sigstoreSigned")),
    ] {
        let mut swapped = json_of(sign);
        for part in ["tlogEntries", "timestampVerificationData"] {
            if let Some(other) = json_of(attest)["verificationMaterial"].get(part) {
                swapped["verificationMaterial"][part] = other.clone();
            }
        }
        assert!(judge(&requirement, &bundle(&swapped)).is_err(), "{sign}");
    }
}

#[test]
fn what_a_public_workflow_attested_holds_under_the_shipped_root() {
    let shipped =
        |path: &str| std::fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let judge = |repository: &str| {
        let workflow = "https://github.com/prefix-dev/sigstore-example/.github/workflows/action.yaml\
                        @refs/heads/main";
        let requirement = json!({
            "type": "sigstoreAttested",
            "fulcio": {
                "trustedRootPath": "/root.json",
                "oidcIssuer": "https://token.actions.githubusercontent.com",
                "subjectURI": workflow,
                "sourceRepository": repository,
            },
            "predicateType": "https://schemas.conda.org/attestations-publish-1.schema.json",
        });
        let text = json!({ "default": [requirement] }).to_string();
        let root = |_: &Path| Ok(shipped("policy/trust/sigstore-public-good.json"));
        let policy = Policy::parse(Path::new("/p"), text.as_bytes(), &root).unwrap();
        let reference = Reference::parse_normalized("registry.example/shop/api:1").unwrap();
        let digest = "sha256:54303491a8418fbed24344b513546182c29b43bf282ceb433af65e2299f9271f";
        let manifest_digest: Digest = digest.parse().unwrap();
        let subject = Subject { reference: &reference, manifest_digest: &manifest_digest };
        let mut found = Evidence::default();
        found.sort_in(shipped("tests/data/signature/standalone/keyless.json"));
        let verdict = evaluate(&policy, &subject, &found, SystemTime::now());
        verdict.allowed().map(drop).map_err(|refusal| refusal.to_string())
    };
    judge("https://github.com/prefix-dev/sigstore-example").unwrap();
    let refused = judge("https://github.com/thief/sigstore-example").unwrap_err();
    assert!(refused.contains("Required sourceRepository"), "{refused}");
}

#[test]
fn what_cosign_2_signs_and_attests_keylessly_is_accepted() {
    let signed = judge(&dev("sigstoreSigned"), &payload("cosign-2/payload")).unwrap();
    assert_eq!(clocks(&signed), ["log"]);
    let stamped = judge(&dev("sigstoreSigned"), &payload("cosign-2/stamped-payload")).unwrap();
    assert_eq!(clocks(&stamped), ["timestampAuthority", "log"]);
    // The stamp of an envelope is of all of it, and is not looked at.
    for name in ["cosign-2/envelope", "cosign-2/stamped-envelope"] {
        let attested = judge(&dev("sigstoreAttested"), &attached(name)).unwrap();
        assert_eq!(clocks(&attested), ["log"], "{name}");
    }
    judge(&dev("sigstoreSigned"), &bundle(&json_of("cosign-2/bundle-sign.json"))).unwrap();
    judge(&dev("sigstoreAttested"), &bundle(&json_of("cosign-2/bundle-attest.json"))).unwrap();
}

#[test]
fn what_cosign_2_wrote_and_somebody_touched_is_not_accepted() {
    let touch = |name: &str, change: &dyn Fn(&mut BTreeMap<String, String>)| {
        let mut found = payload(name);
        change(&mut found.signatures[0].annotations);
        judge(&dev("sigstoreSigned"), &found).unwrap_err()
    };
    let own = "cosign-2/payload";
    let other = annotations("cosign-2/stamped-payload");
    for part in ["certificate", "bundle"] {
        let name = format!("dev.sigstore.cosign/{part}");
        touch(own, &|of| drop(of.remove(&name)));
        // That of another signature by the same person.
        touch(own, &|of| drop(of.insert(name.clone(), other[&name].clone())));
    }
    let stamp = "dev.sigstore.cosign/rfc3161timestamp";
    let refused = touch(own, &|of| drop(of.insert(stamp.to_owned(), other[stamp].clone())));
    assert!(refused.contains("has no time that can be trusted"), "{refused}");
    let mut changed = attached("cosign-2/envelope");
    let Attestation::Attached(attachment) = &mut changed.attestations[0] else { unreachable!() };
    attachment.annotations.remove("dev.sigstore.cosign/bundle");
    let refused = judge(&dev("sigstoreAttested"), &changed).unwrap_err();
    assert!(refused.contains("the bundle has no log entry"), "{refused}");
}
