//! What CNI plugins answer, and what lies in libcni's cache.

#![no_main]

use crioxide::network::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fuzzing::answer(bytes));
