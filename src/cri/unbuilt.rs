//! RPCs that are not built yet: they say so.

use tonic::Status;

/// The status of an RPC that this version does not have.
pub(super) fn unbuilt(rpc: &'static str) -> Status {
    tracing::info!(rpc, "asked for, and not built yet");
    Status::unimplemented(format!(
        "{rpc} is not built yet in crioxide {}; see the release notes for what is",
        env!("CARGO_PKG_VERSION")
    ))
}
