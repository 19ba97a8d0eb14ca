//! `WWW-Authenticate`.

#![no_main]

use crioxide::registry::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| fuzzing::challenge(text));
