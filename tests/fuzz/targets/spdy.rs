//! SPDY frames and their packed headers, as they come from a client of exec and attach.

#![no_main]

use crioxide::streaming::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fuzzing::spdy(bytes));
