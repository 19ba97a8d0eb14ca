//! Serves the socket until it is time to end: gRPC over HTTP/2, and questions over plain HTTP.
//!
//! The server of the gRPC library ends a request at the client's deadline with a status of its own
//! (CANCELLED), which races with the client's; a kubelet that gives up knows it by itself. So
//! connections are served here, and a request ends when its client goes.

use std::future::Future;
use std::time::Duration;

use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::UnixListener;
use tonic::service::Routes;

/// How long requests under way may take once the daemon is asked to stop.
const LAST_REQUESTS: Duration = Duration::from_secs(10);
/// How long to wait after an accept that failed, as for want of descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// How long a client of plain HTTP may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many requests one connection may have under way.
const STREAMS: u32 = 1024;

/// Answers requests on `listener` until `end`, and then those under way.
pub(super) async fn serve(listener: UnixListener, routes: Routes, end: impl Future<Output = ()>) {
    let service = TowerToHyperService::new(routes.prepare());
    let graceful = GracefulShutdown::new();
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http2().max_concurrent_streams(STREAMS);
    builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    tokio::pin!(end);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut end => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::error!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        let connection = builder.serve_connection(TokioIo::new(stream), service.clone());
        let connection = graceful.watch(connection.into_owned());
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended badly");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(LAST_REQUESTS, graceful.shutdown()).await.is_err() {
        tracing::warn!(
            "requests under way were cut off; what they began is found at the next start"
        );
    }
}
