//! CDI specifications, in JSON and YAML.

#![no_main]

use crioxide::spec::cdi;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, &str)| {
    let _ = cdi::parse(input.1, input.0);
});
