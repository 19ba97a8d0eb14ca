//! Conditions on what an attestation says: a policy's words and a predicate, parted by a newline.
//! Words are also tried that a policy really has.

#![no_main]

use crioxide::oci::digest::Digest;
use crioxide::oci::reference::Reference;
use crioxide::policy::Subject;
use crioxide::policy::fuzzing::holds;
use libfuzzer_sys::fuzz_target;

const KINDS: [(&str, &str); 5] = [
    (
        r#"{"slsa":{"builderID":"https://b.example/1","sourceRepository":"https://git.example/a/b","sourceRef":"refs/heads/main"}}"#,
        "https://slsa.dev/provenance/v1",
    ),
    (
        r#"{"slsa":{"builderID":"https://b.example/1","sourceRepository":"https://git.example/a/b","sourceRef":"refs/heads/main"}}"#,
        "https://slsa.dev/provenance/v0.2",
    ),
    (r#"{"vex":{"noAffected":"all"}}"#, "https://openvex.dev/ns/v0.2.0"),
    (r#"{"sbom":{}}"#, "https://spdx.dev/Document"),
    (r#"{"json":[{"pointer":"/a/0/b","equals":1}]}"#, "https://tests.example/v1"),
];

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (conditions, predicate) = text.split_once('\n').unwrap_or(("{}", text));
    let reference: Reference = "registry.example/shop/api:1".parse().expect("a reference");
    let subject = Subject { reference: &reference, manifest_digest: &Digest::sha256(b"x") };
    for (known, kind) in KINDS {
        let _ = holds(conditions, kind, predicate, &subject);
        let _ = holds(known, kind, text, &subject);
        // What says nothing fulfils nothing.
        if text.trim() == "{}" {
            assert_ne!(holds(known, kind, text, &subject), Some(true), "{known}");
        }
    }
});
