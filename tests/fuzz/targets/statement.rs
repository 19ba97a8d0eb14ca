//! In-toto statements, as an envelope holds them.

#![no_main]

use crioxide::signature::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fuzzing::statement(bytes));
