//! What the runtime and its monitor write, and the keys that detach a terminal.

#![no_main]

use crioxide::runtime::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    fuzzing::exit_file(bytes);
    fuzzing::features(bytes);
    fuzzing::detach_keys(bytes);
});
