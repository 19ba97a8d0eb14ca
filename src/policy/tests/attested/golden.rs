//! What cosign 2 and 3 wrote.

use std::path::PathBuf;

use super::*;

const GOLDEN: &str = "sha256:c9a0c5dd93dafee5521cd2a64b9a9fce65e3da331495085430b33de78553fc62";

fn read(name: &str) -> Vec<u8> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/attestation");
    std::fs::read(root.join(name)).unwrap()
}

fn judge(requirement: &str, evidence: &Evidence) -> Result<Vec<String>, String> {
    let text = format!(r#"{{"default":[{requirement}]}}"#);
    let policy = Policy::parse(Path::new("/p"), text.as_bytes(), &|_| Ok(read("key.pub"))).unwrap();
    let reference = Reference::parse_normalized("127.0.0.1:5717/shop/api:1").unwrap();
    let manifest_digest: Digest = GOLDEN.parse().unwrap();
    let subject = Subject { reference: &reference, manifest_digest: &manifest_digest };
    let verdict = evaluate(&policy, &subject, evidence, SystemTime::UNIX_EPOCH);
    let verdict = verdict.allowed().map_err(|refusal| refusal.to_string())?;
    Ok(verdict.requirements.iter().map(ToString::to_string).collect())
}

/// The conditions that hold, and the same with one of them wrong.
fn cases() -> Vec<(&'static str, &'static str, Value, Value)> {
    let slsa = |repository: &str, git_ref: &str| json!({ "slsa": { "sourceRepository": repository, "sourceRef": git_ref } });
    let api = "https://github.com/shop/api";
    let vex = |name: &str| json!({ "vex": { "noAffected": "all", "cleared": [name] } });
    let sbom = |least: usize| json!({ "sbom": { "minComponents": least } });
    let passed = |count: u64| json!({ "json": [equals("/tests/passed", json!(count))] });
    vec![
        ("provenance-v1", V1, slsa(api, "refs/heads/main"), slsa(api, "refs/tags/main")),
        (
            "provenance-v0.2",
            V0_2,
            slsa(api, "refs/tags/v1.4.0"),
            slsa("https://github.com/shop/web", "refs/tags/v1.4.0"),
        ),
        ("openvex", VEX, vex("CVE-2021-44228"), vex("CVE-2021-44229")),
        ("cyclonedx", "https://cyclonedx.org/bom", sbom(2), sbom(3)),
        ("spdx", "https://spdx.dev/Document", sbom(1), sbom(2)),
        ("own-type", OWN, passed(214), passed(215)),
        // Of `custom` cosign makes a text.
        (
            "custom",
            "https://cosign.sigstore.dev/attestation/v1",
            Value::Null,
            json!({ "json": [equals("/Data/tests/passed", json!(214))] }),
        ),
    ]
}

#[test]
fn what_cosign_3_attests_is_judged() {
    for (name, kind, good, bad) in cases() {
        let found = evidence(vec![read(&format!("cosign-3/{name}.json"))]);
        judge(&attested(kind, &good), &found).unwrap_or_else(|error| panic!("{name}: {error}"));
        judge(&attested(kind, &bad), &found).expect_err(name);
    }
}

#[test]
fn what_cosign_2_attests_is_judged() {
    for (name, kind, good, bad) in cases().into_iter().filter(|case| case.0 != "own-type") {
        let annotations = [("dev.cosignproject.cosign/signature", ""), ("predicateType", kind)];
        let found = attached(read(&format!("cosign-2/{name}.json")), &annotations);
        judge(&attested(kind, &good), &found).unwrap_or_else(|error| panic!("{name}: {error}"));
        judge(&attested(kind, &bad), &found).expect_err(name);
    }
}
