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
use crate::daemon::settings;
use crate::metrics::CONTENT_TYPE;
use crate::metrics::Metrics;
use crate::streaming::Tls;
use crate::streaming::TlsSettings;
use crate::streaming::make_self_signed;
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
/// [`DaemonError::Address`] and [`DaemonError::Listen`] when a place cannot be listened on,
/// [`DaemonError::Streaming`] when a certificate is no good.
pub(super) async fn serve(config: &Config, metrics: &Metrics) -> Result<(), DaemonError> {
    let (tls, config) = (settings::metrics_tls(config), &config.metrics);
    if !config.enable_metrics {
        return Ok(());
    }
    let (host, port) = (config.metrics_host.as_str(), config.metrics_port.0);
    let tls = tls.map(certified).transpose()?;
    let address = format!("{host}:{port}");
    let tcp = TcpListener::bind((host, port)).await;
    let tcp = tcp.map_err(|source| DaemonError::Address { address: address.clone(), source })?;
    tracing::info!(address, tls = tls.is_some(), "serving metrics");
    let routes = Router::new().route("/metrics", get(text)).with_state(metrics.clone());
    tokio::spawn(accept(routes.clone(), TcpListenerStream::new(tcp), tls));
    if let Some(path) = &config.metrics_socket {
        let unix = listen::bind(path).await?;
        tracing::info!(socket = %path.display(), "serving metrics");
        tokio::spawn(accept(routes, UnixListenerStream::new(unix), None));
    }
    Ok(())
}

/// The configured certificate; one of our own making, where there is none.
fn certified(settings: TlsSettings) -> Result<Arc<Tls>, DaemonError> {
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let host = host.as_deref().unwrap_or("localhost");
    if make_self_signed(&settings.certificate, &settings.key, host)? {
        let certificate = settings.certificate.display();
        tracing::info!(%certificate, host, "made a certificate for metrics that nobody signed");
    }
    Ok(Arc::new(Tls::new(settings)?))
}

async fn text(State(metrics): State<Metrics>) -> impl IntoResponse {
    let defunct = tokio::task::spawn_blocking(defunct::count).await;
    metrics.defunct(defunct.unwrap_or(0));
    ([("content-type", CONTENT_TYPE)], metrics.text())
}

/// Answers whoever comes, a bounded number at once.
async fn accept<S>(
    routes: Router,
    mut streams: impl Stream<Item = io::Result<S>> + Unpin,
    tls: Option<Arc<Tls>>,
) where
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
        let (builder, service, tls) = (builder.clone(), service.clone(), tls.clone());
        tokio::spawn(async move {
            let _place = place;
            let served = async {
                let Some(tls) = tls else {
                    return builder.serve_connection(TokioIo::new(stream), service).await;
                };
                let stream = tls.accept(stream).await?;
                builder.serve_connection(TokioIo::new(stream), service).await
            };
            if let Ok(Err(error)) = tokio::time::timeout(PATIENCE, served).await {
                tracing::debug!(%error, "a connection for metrics ended badly");
            }
        });
    }
}
