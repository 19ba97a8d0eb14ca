//! Certificates: the fields that a policy looks at, and authorities that signed none of them.

#![no_main]

use std::sync::LazyLock;
use std::time::SystemTime;

use crioxide::signature::certificate;
use crioxide::signature::certificate::Authorities;
use crioxide::signature::certificate::Certificate;
use crioxide::signature::trust::Trust;
use libfuzzer_sys::fuzz_target;

const NOBODY: &str = include_str!("../seeds/certificate/ca.pem");

static AUTHORITIES: LazyLock<Authorities> =
    LazyLock::new(|| Authorities::from_pem(NOBODY.as_bytes(), b"").expect("an authority"));

fuzz_target!(|bytes: &[u8]| {
    if let Ok(read) = Certificate::parse(bytes) {
        let _ = read.subjects();
        for host in &read.hosts {
            let _ = certificate::is_for_host(bytes, host);
        }
    }
    let _ = certificate::key(bytes);
    let _ = certificate::is_for_host(bytes, "registry.example");
    let chain = certificate::several(bytes).unwrap_or_default();
    assert!(AUTHORITIES.vouch_for(bytes, chain, SystemTime::UNIX_EPOCH).is_err());
    let _ = Authorities::from_pem(bytes, bytes);
    let _ = Trust::from_json(bytes);
});
