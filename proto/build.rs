//! Generates the CRI v1 server, and the client that the tests use, from `api.proto`.
//!
//! The proto is compiled by protox, so no protoc is needed on the machine that builds.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("proto/runtime/v1");
    println!("cargo::rerun-if-changed={}", root.join("api.proto").display());
    let files = protox::compile([root.join("api.proto")], [&root])?;
    tonic_prost_build::configure().build_server(true).build_client(true).compile_fds(files)?;
    Ok(())
}
