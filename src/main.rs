//! The `crio` program.
fn main() {}
