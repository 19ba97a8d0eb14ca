//! OpenPGP: key files, signed messages, and the form in which signatures are stored.

#![no_main]

use std::time::SystemTime;

use crioxide::oci::stored_signature::StoredSignature;
use crioxide::signature::openpgp;
use crioxide::signature::openpgp::Keyring;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut keyring = Keyring::default();
    let _ = keyring.add(bytes);
    let _ = keyring.fingerprints();
    let _ = openpgp::claimed(bytes);
    // Nothing here is signed by a key of the same file.
    assert!(openpgp::verify(bytes, &keyring, SystemTime::UNIX_EPOCH).is_err());
    if let Ok(stored) = StoredSignature::parse(bytes) {
        let written = stored.to_bytes().expect("what was read");
        assert_eq!(StoredSignature::parse(&written).ok(), Some(stored));
    }
});
