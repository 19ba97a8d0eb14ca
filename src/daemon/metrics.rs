//! Serves the metrics over HTTP, on an address and on a unix socket, as configured.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use futures_util::StreamExt;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_stream::Stream;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::wrappers::UnixListenerStream;

use crate::config::Config;
use crate::daemon::error::DaemonError;
use crate::daemon::listen;
use crate::metrics::CONTENT_TYPE;
use crate::metrics::Metrics;
use crate::sys::defunct;

/// How many clients may be connected at once; a further one waits until another goes.
const AT_ONCE: usize = 32;
/// How long a client may take to say what it wants, and to read the answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long to wait after an accept that failed, as for want of descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Starts to serve, if that is configured.
///
/// # Errors
///
/// [`DaemonError::Address`] and [`DaemonError::Listen`] when a place cannot be listened on.
pub(super) async fn serve(config: &Config, metrics: &Metrics) -> Result<(), DaemonError> {
    let config = &config.metrics;
    if !config.enable_metrics {
        return Ok(());
    }
    let (host, port) = (config.metrics_host.as_str(), config.metrics_port.0);
    let address = format!("{host}:{port}");
    let tcp = TcpListener::bind((host, port)).await;
    let tcp = tcp.map_err(|source| DaemonError::Address { address: address.clone(), source })?;
    tracing::info!(address, "serving metrics");
    let routes = Router::new().route("/metrics", get(text)).with_state(metrics.clone());
    tokio::spawn(accept(routes.clone(), TcpListenerStream::new(tcp)));
    if let Some(path) = &config.metrics_socket {
        let unix = listen::bind(path).await?;
        tracing::info!(socket = %path.display(), "serving metrics");
        tokio::spawn(accept(routes, UnixListenerStream::new(unix)));
    }
    Ok(())
}

async fn text(State(metrics): State<Metrics>) -> impl IntoResponse {
    let defunct = tokio::task::spawn_blocking(defunct::count).await;
    metrics.defunct(defunct.unwrap_or(0));
    ([("content-type", CONTENT_TYPE)], metrics.text())
}

/// Answers whoever comes, a bounded number at once.
async fn accept<S>(routes: Router, mut streams: impl Stream<Item = io::Result<S>> + Unpin)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let service = TowerToHyperService::new(routes);
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE).keep_alive(false);
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match streams.next().await {
            None => return,
            Some(Ok(stream)) => stream,
            Some(Err(error)) => {
                tracing::error!(%error, "cannot accept a connection for metrics");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        let connection = builder.serve_connection(TokioIo::new(stream), service.clone());
        let connection = connection.into_owned();
        tokio::spawn(async move {
            let _place = place;
            if let Ok(Err(error)) = tokio::time::timeout(PATIENCE, connection).await {
                tracing::debug!(%error, "a connection for metrics ended badly");
            }
        });
    }
}
