//! Tests that need neither root nor a network: everything foreign is played by the test.

#[path = "../support/registry.rs"]
mod test_registry;

mod registry;
