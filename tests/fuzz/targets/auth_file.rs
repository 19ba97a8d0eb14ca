//! auth.json, as podman login and docker login write it.

#![no_main]

use crioxide::registry::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fuzzing::auth_file(bytes));
