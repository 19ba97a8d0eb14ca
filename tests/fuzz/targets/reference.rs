//! Image names as users write them: what is read is written the same, and read again as the same.

#![no_main]

use crioxide::oci::reference::Reference;
use crioxide::oci::reference::Written;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = Written::parse(text);
    if let Ok(reference) = text.parse::<Reference>() {
        let again: Reference = reference.to_string().parse().expect("what was written");
        assert_eq!(again, reference);
        assert!(!reference.path().split('/').any(|part| part == ".." || part.is_empty()));
    }
});
