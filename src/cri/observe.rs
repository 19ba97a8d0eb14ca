//! The one wrapper around every request: its log line, its status, and the end of a panic.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::Instant;
use tonic::Response;
use tonic::Status;

use crate::cri::status;
use crate::failure::Classify;
use crate::failure::Kind;
use crate::failure::chain;

/// Runs a verb for the RPC `rpc` about `subject`, and gives the answer or the status.
///
/// One line is logged for each request: what was asked, what happened, and why. A panic is a bug;
/// it ends the request and not the daemon.
pub(super) async fn observe<T, E: Classify + 'static>(
    rpc: &'static str,
    subject: &str,
    verb: impl Future<Output = Result<T, E>>,
) -> Result<Response<T>, Status> {
    let begun = Instant::now();
    let Ok(outcome) = AssertUnwindSafe(verb).catch_unwind().await else {
        tracing::error!(rpc, subject, "the request panicked; this is a bug of the daemon");
        return Err(Status::internal(format!("{rpc} panicked; the daemon's log has the place")));
    };
    let took = begun.elapsed();
    match outcome {
        Ok(answer) => {
            log_success(rpc, subject, took);
            Ok(Response::new(answer))
        }
        Err(error) => {
            log_failure(rpc, subject, took, &error);
            Err(status::of(&error))
        }
    }
}

/// Questions are asked every second and are worth a line only to who debugs.
fn log_success(rpc: &'static str, subject: &str, took: Duration) {
    let ms = took.as_millis();
    let begins = ["List", "Stream"].iter().any(|word| rpc.starts_with(word));
    let asks = begins || ["Status", "FsInfo", "Stats"].iter().any(|word| rpc.ends_with(word));
    if asks || matches!(rpc, "Version" | "RuntimeConfig" | "ExecSync") {
        tracing::debug!(rpc, subject, ms, "done");
    } else {
        tracing::info!(rpc, subject, ms, "done");
    }
}

fn log_failure<E: Classify + 'static>(rpc: &'static str, subject: &str, took: Duration, error: &E) {
    let ms = took.as_millis();
    let why = chain(error);
    match error.kind() {
        Kind::NotFound => tracing::debug!(rpc, subject, ms, why, "not found"),
        Kind::InvalidRequest | Kind::WrongState | Kind::NotSupported | Kind::RecursiveReadOnly => {
            tracing::info!(rpc, subject, ms, why, "refused the request");
        }
        Kind::Refused => tracing::warn!(rpc, subject, ms, why, "the policy refused the image"),
        Kind::NameTaken
        | Kind::ImageVolume
        | Kind::RegistryUnavailable
        | Kind::Unauthenticated
        | Kind::Busy
        | Kind::Deadline
        | Kind::Cancelled => tracing::warn!(rpc, subject, ms, why, "failed"),
        Kind::NoSpace | Kind::Corrupt | Kind::Internal => {
            tracing::error!(rpc, subject, ms, why, "failed");
        }
    }
}
