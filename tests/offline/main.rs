//! Tests that need neither root nor a network: everything foreign is played by the test.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets what it did not expect should stop there"
)]

#[path = "../support/registry.rs"]
mod test_registry;

mod registry;
