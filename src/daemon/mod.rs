//! The process and its life: listen, build everything, bring records and reality together, serve,
//! stop. Containers go on without it.

mod assemble;
mod error;
mod host;
mod inspect;
mod listen;
mod metrics;
pub mod offline;
mod pause_image;
mod profile_source;
mod protections;
mod reconcile;
mod serve;
mod settings;
mod tasks;
mod wipe;

use std::future::Future;
use std::sync::Arc;

use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

pub use error::DaemonError;
pub use wipe::Wiped;
pub use wipe::wipe;

use crate::config::Config;
use crate::config::Values;
use crate::cri;
use crate::cri::ImageDoor;
use crate::cri::RuntimeDoor;
use crate::cri::api::image_service_server::ImageServiceServer;
use crate::cri::api::runtime_service_server::RuntimeServiceServer;
use crate::streaming::Streaming;

/// Runs the daemon until SIGTERM or SIGINT.
///
/// `values` is the configuration as it was written, and `warnings` are what loading it found; Status
/// shows them.
///
/// # Errors
///
/// [`DaemonError`] when it cannot start; once it serves, it ends well.
pub fn run(config: &Config, values: &Values, warnings: Vec<String>) -> Result<(), DaemonError> {
    // Modes are given where files are made; whoever started us shall not widen them.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    crate::sys::memory::limit_arenas();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_keep_alive(std::time::Duration::from_secs(2))
        .build()
        .map_err(DaemonError::Prepare)?;
    let outcome = runtime.block_on(run_until_end(config, values, warnings));
    // What still runs on other threads has no bearing on containers; records are written already.
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    outcome
}

async fn run_until_end(
    config: &Config,
    values: &Values,
    warnings: Vec<String>,
) -> Result<(), DaemonError> {
    let end = end_signal()?;
    // The socket first: two daemons on one store would be worse than one that does not start.
    let listener = listen::bind(&config.api.listen).await?;
    let parts = assemble::assemble(config, values, warnings).await?;
    metrics::serve(config, &parts.metrics).await?;
    reconcile::reconcile(&parts).await?;
    tasks::start(&parts);
    let (containers, sandboxes) = (Arc::clone(&parts.containers), Arc::clone(&parts.sandboxes));
    let (streaming, streams) =
        Streaming::listen(settings::streaming(config), containers, sandboxes)?;
    let streaming = Arc::new(streaming);
    let metric_groups = settings::metric_groups(config);
    if let Some(period) = settings::collection_period(config) {
        tasks::collect_stats_every(period, &parts.sandboxes, &metric_groups);
    }
    let inspect = inspect::routes(config, values, &parts);
    let (send, receive) =
        (config.api.grpc_max_send_msg_size.0, config.api.grpc_max_recv_msg_size.0);
    let events = Arc::clone(&parts.records.events);
    let runtime_door = RuntimeDoor {
        node: parts.node,
        sandboxes: parts.sandboxes,
        containers: parts.containers,
        streaming: Arc::clone(&streaming),
        metric_groups,
        events: config.runtime.enable_pod_events.then(|| Arc::clone(&events)),
    };
    let image_door = ImageDoor { images: parts.images, metrics: parts.metrics.clone() };
    let routes = Routes::new(
        RuntimeServiceServer::new(runtime_door)
            .max_encoding_message_size(send)
            .max_decoding_message_size(receive),
    )
    .add_service(
        ImageServiceServer::new(image_door)
            .max_encoding_message_size(send)
            .max_decoding_message_size(receive),
    );
    let routes = Routes::from(routes.into_axum_router().merge(inspect));
    let socket = config.api.listen.display();
    tracing::info!(%socket, streaming = streaming.base(), "serving");
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::debug!(%error, "no service manager was told");
    }
    let stop = CancellationToken::new();
    let stopped = stop.clone().drop_guard();
    let streams = tokio::spawn(streaming.serve(streams, stop));
    let end = async move {
        end.await;
        // Who listens has nothing more to hear, and would hold up the end.
        events.close();
        drop(stopped);
    };
    serve::serve(listener, cri::counted(routes, parts.metrics), end).await;
    if let Err(error) = streams.await {
        tracing::error!(%error, "the streaming server ended badly");
    }
    tracing::info!("stopped serving; containers go on");
    Ok(())
}

/// Completes on SIGTERM or SIGINT.
fn end_signal() -> Result<impl Future<Output = ()>, DaemonError> {
    let mut term = signal(SignalKind::terminate()).map_err(DaemonError::Prepare)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(DaemonError::Prepare)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(DaemonError::Prepare)?;
    Ok(async move {
        loop {
            tokio::select! {
                _ = term.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => tracing::warn!(
                    "SIGHUP: reloading the configuration is not built yet; restart the daemon, \
                     containers go on meanwhile"
                ),
            }
        }
        tracing::info!("asked to stop");
    })
}
