//! The process and its life: listen, build everything, bring records and reality together, serve,
//! stop. Containers go on without it.

mod assemble;
mod check;
mod error;
mod host;
mod inspect;
mod listen;
mod live;
mod metrics;
pub mod offline;
mod pause_image;
mod profile_source;
mod protections;
mod reconcile;
mod recover;
mod reload;
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

pub use check::Ask;
pub use check::Checked;
pub use check::check;
pub use error::DaemonError;
pub use recover::Due;
pub use recover::due;
pub use reload::Relog;
pub use wipe::Wiped;
pub use wipe::wipe;

use crate::config::Config;
use crate::config::Inputs;
use crate::config::Values;
use crate::cri;
use crate::cri::ImageDoor;
use crate::cri::RuntimeDoor;
use crate::cri::api::image_service_server::ImageServiceServer;
use crate::cri::api::runtime_service_server::RuntimeServiceServer;
use crate::daemon::assemble::Parts;
use crate::daemon::reload::Reloader;
use crate::model::current::Current;
use crate::model::stats::MetricGroup;
use crate::streaming::Streaming;

/// What a daemon begins with.
pub struct Start {
    /// The configuration.
    pub config: Config,
    /// The configuration as it was written.
    pub values: Values,
    /// What reading it found; Status shows it.
    pub warnings: Vec<String>,
    /// What it is made from, to be read again on SIGHUP.
    pub inputs: Inputs,
    /// Tells the log what a configuration says of it.
    pub relog: Relog,
}

impl std::fmt::Debug for Start {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Start").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Runs the daemon until SIGTERM or SIGINT.
///
/// # Errors
///
/// [`DaemonError`] when it cannot start; once it serves, it ends well.
pub fn run(start: Start) -> Result<(), DaemonError> {
    // Modes are given where files are made; whoever started us shall not widen them.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    crate::sys::memory::limit_arenas();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_keep_alive(std::time::Duration::from_secs(2))
        .build()
        .map_err(DaemonError::Prepare)?;
    let outcome = runtime.block_on(run_until_end(start));
    // What still runs on other threads has no bearing on containers; records are written already.
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    outcome
}

async fn run_until_end(start: Start) -> Result<(), DaemonError> {
    let Start { config, values, warnings, inputs, relog } = start;
    let end = end_signal()?;
    let reloads = signal(SignalKind::hangup()).map_err(DaemonError::Prepare)?;
    tasks::take_user_signals().map_err(DaemonError::Prepare)?;
    // The socket first: two daemons on one store would be worse than one that does not start.
    let listener = listen::bind(&config.api.listen).await?;
    let recovery = recover::begin(&config);
    let parts = assemble::assemble(&config, &values, warnings).await?;
    metrics::serve(&config, &parts.metrics).await?;
    reconcile::reconcile(&parts).await?;
    recover::finish(recovery, &parts, &config).await?;
    tasks::start(&parts);
    let (containers, sandboxes) = (Arc::clone(&parts.containers), Arc::clone(&parts.sandboxes));
    let (streaming, streams) =
        Streaming::listen(settings::streaming(&config), containers, sandboxes)?;
    let streaming = Arc::new(streaming);
    let metric_groups = settings::metric_groups(&config);
    if let Some(period) = settings::collection_period(&config) {
        tasks::collect_stats_every(period, &parts.sandboxes, &metric_groups);
    }
    let text = Arc::new(Current::new(reload::text(&values)));
    let inspect = inspect::routes(&config, Arc::clone(&text), &parts);
    let routes =
        doors(&config, &parts, &streaming, metric_groups).merge(inspect).fallback(inspect::unknown);
    let reloader = Reloader::new((inputs, relog), parts.clone(), values, text);
    tasks::reload(&Arc::new(reloader), reloads);
    let socket = config.api.listen.display();
    tracing::info!(%socket, streaming = streaming.base(), "serving");
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::debug!(%error, "no service manager was told");
    }
    let stop = CancellationToken::new();
    let stopped = stop.clone().drop_guard();
    let streams = tokio::spawn(streaming.serve(streams, stop));
    let events = Arc::clone(&parts.records.events);
    let end = async move {
        end.await;
        // Who listens has nothing more to hear, and would hold up the end.
        events.close();
        drop(stopped);
    };
    serve::serve(listener, cri::counted(Routes::from(routes), parts.metrics.clone()), end).await;
    if let Err(error) = streams.await {
        tracing::error!(%error, "the streaming server ended badly");
    }
    recover::end_clean(&config, &parts.store);
    tracing::info!("stopped serving; containers go on");
    Ok(())
}

/// The services of the CRI.
fn doors(
    config: &Config,
    parts: &Parts,
    streaming: &Arc<Streaming>,
    metric_groups: Arc<[MetricGroup]>,
) -> axum::Router {
    let (send, receive) =
        (config.api.grpc_max_send_msg_size.0, config.api.grpc_max_recv_msg_size.0);
    let events = Arc::clone(&parts.records.events);
    let runtime_door = RuntimeDoor {
        node: Arc::clone(&parts.node),
        sandboxes: Arc::clone(&parts.sandboxes),
        containers: Arc::clone(&parts.containers),
        streaming: Arc::clone(streaming),
        metric_groups,
        events: config.runtime.enable_pod_events.then_some(events),
    };
    let image_door =
        ImageDoor { images: Arc::clone(&parts.images), metrics: parts.metrics.clone() };
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
    routes.into_axum_router()
}

/// Completes on SIGTERM or SIGINT.
fn end_signal() -> Result<impl Future<Output = ()>, DaemonError> {
    let mut term = signal(SignalKind::terminate()).map_err(DaemonError::Prepare)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(DaemonError::Prepare)?;
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("asked to stop");
    })
}
