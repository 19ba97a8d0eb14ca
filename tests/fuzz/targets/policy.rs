//! policy.json, and a verdict by what came of it: no text accepts an image without evidence but the
//! one that says so.

#![no_main]

use std::path::Path;
use std::time::SystemTime;

use crioxide::oci::digest::Digest;
use crioxide::oci::reference::Reference;
use crioxide::policy::Evidence;
use crioxide::policy::Policy;
use crioxide::policy::Subject;
use crioxide::policy::evaluate;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let read = |_: &Path| Ok(b"no key".to_vec());
    let Ok(policy) = Policy::parse(Path::new("/policy.json"), bytes, &read) else { return };
    let _ = policy.faults();
    let reference: Reference = "registry.example/shop/api:1".parse().expect("a reference");
    let subject = Subject { reference: &reference, manifest_digest: &Digest::sha256(b"x") };
    let verdict = evaluate(&policy, &subject, &Evidence::default(), SystemTime::UNIX_EPOCH);
    if verdict.allows() {
        // The word may be written with escapes, so it is looked for in what was read.
        let shown = format!("{policy:?}");
        assert!(shown.contains("AcceptAnything"), "{shown}");
    }
});
