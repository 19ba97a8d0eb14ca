//! Simple signing: the payload, and the annotations beside it.

#![no_main]

use crioxide::policy::Evidence;
use crioxide::policy::SimpleSigning;
use crioxide::signature::key::PublicKey;
use crioxide::signature::simple_signing::Kind;
use crioxide::signature::simple_signing::Payload;
use crioxide::signature::trust::Trust;
use libfuzzer_sys::fuzz_target;

const KEY: &str = include_str!("../../data/signature/cosign-p256/key.pub");

fuzz_target!(|bytes: &[u8]| {
    let _ = Payload::parse(bytes, Kind::Cosign);
    let _ = Payload::parse(bytes, Kind::Atomic);
    let _ = PublicKey::from_pem(bytes);
    let _ = serde_json::from_slice::<Evidence>(bytes);
    if let Ok(signature) = serde_json::from_slice::<SimpleSigning>(bytes) {
        let key = PublicKey::from_pem(KEY.as_bytes()).expect("a key");
        let keys = std::slice::from_ref(&key);
        let log = Trust::of_logs(&[(&key, "log")]).expect("a log");
        assert!(signature.verify(keys, Some(&log)).is_err());
    }
});
