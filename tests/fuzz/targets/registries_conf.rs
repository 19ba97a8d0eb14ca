//! registries.conf, of both versions, and what names mean by it.

#![no_main]

use crioxide::registry::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fuzzing::registries_conf(bytes));
