//! Manifests and indexes, served as whatever the first byte says.

#![no_main]

use crioxide::oci::document::Document;
use crioxide::oci::media_type;
use crioxide::oci::platform::Platform;
use libfuzzer_sys::fuzz_target;

const SERVED: [&str; 4] =
    ["", media_type::OCI_MANIFEST, media_type::OCI_INDEX, media_type::DOCKER_MANIFEST];

fuzz_target!(|input: &[u8]| {
    let Some((first, bytes)) = input.split_first() else { return };
    let served = SERVED[usize::from(*first) % SERVED.len()];
    if let Ok(Document::Index(index)) = Document::parse(served, bytes) {
        let _ = index.select(&Platform::host());
    }
});
