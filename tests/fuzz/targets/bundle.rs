//! Sigstore bundles: read, and judged by a policy with a key that signed nothing.

#![no_main]

use std::path::Path;
use std::sync::LazyLock;
use std::time::SystemTime;

use crioxide::oci::digest::Digest;
use crioxide::oci::reference::Reference;
use crioxide::policy::Evidence;
use crioxide::policy::Policy;
use crioxide::policy::Subject;
use crioxide::policy::evaluate;
use libfuzzer_sys::fuzz_target;

const KEY: &str = include_str!("../../data/signature/cosign-p256/key.pub");

static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    let text = r#"{"default":[{"type":"sigstoreSigned","keyPath":"/key","rekorPublicKeyPath":"/key",
        "signedIdentity":{"type":"matchSubjectDigest"}}]}"#;
    let read = |_: &Path| Ok(KEY.as_bytes().to_vec());
    Policy::parse(Path::new("/policy.json"), text.as_bytes(), &read).expect("a policy")
});

fuzz_target!(|bytes: &[u8]| {
    let reference: Reference = "registry.example/shop/api:1".parse().expect("a reference");
    let evidence = Evidence { bundles: vec![bytes.to_vec()], ..Evidence::default() };
    let subject = Subject { reference: &reference, manifest_digest: &Digest::sha256(b"fuzz") };
    let verdict = evaluate(&POLICY, &subject, &evidence, SystemTime::UNIX_EPOCH);
    assert!(!verdict.allows(), "{verdict:?}");
});
