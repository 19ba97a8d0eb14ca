//! Image configs.

#![no_main]

use crioxide::oci::image_config::ImageConfig;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(config) = ImageConfig::parse(bytes) {
        let _ = config.run();
    }
});
