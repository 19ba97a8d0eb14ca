//! The background tasks of the daemon, by name. One that panics is logged and started again.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;

use crate::container::Containers;
use crate::daemon::assemble::Parts;
use crate::failure::chain;
use crate::model::stats::MetricGroup;
use crate::runtime::Runtime;
use crate::sandbox::Sandboxes;

/// How long to wait before a task that ended is started again.
const AGAIN: Duration = Duration::from_secs(1);

/// How often is looked whether the network provider has started, and for what ended unseen.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// The longest pause before something that failed is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Starts all tasks.
pub(super) fn start(parts: &Parts) {
    let (runtime, containers) = (parts.runtime.clone(), Arc::clone(&parts.containers));
    supervise("exits", move || watch_exits(runtime.clone(), Arc::clone(&containers)));
    let (sandboxes, containers) = (Arc::clone(&parts.sandboxes), Arc::clone(&parts.containers));
    supervise("lost", move || watch_lost(Arc::clone(&sandboxes), Arc::clone(&containers)));
    tokio::spawn(collect_networks(Arc::clone(&parts.sandboxes)));
    let sandboxes = Arc::clone(&parts.sandboxes);
    supervise("host ports", move || keep_host_ports(Arc::clone(&sandboxes)));
}

/// Makes the rules for host ports at the start, and again when a change of them failed.
async fn keep_host_ports(sandboxes: Arc<Sandboxes>) {
    let mut pause = LOOK_AGAIN;
    loop {
        match sandboxes.settle_network().await {
            Ok(()) => pause = LOOK_AGAIN,
            Err(error) => {
                tracing::warn!(error = chain(&error), "rules for host ports; tried again");
                pause = LONGEST_PAUSE.min(pause * 2);
            }
        }
        tokio::time::sleep(pause).await;
    }
}

/// Starts the task that looks at all pods every `period`.
pub(super) fn collect_stats_every(
    period: Duration,
    sandboxes: &Arc<Sandboxes>,
    groups: &Arc<[MetricGroup]>,
) {
    let (sandboxes, groups) = (Arc::clone(sandboxes), Arc::clone(groups));
    supervise("stats", move || collect_stats(Arc::clone(&sandboxes), Arc::clone(&groups), period));
}

/// Once, when the network is ready: undoes attachments of pods that are not there any more.
async fn collect_networks(sandboxes: Arc<Sandboxes>) {
    while sandboxes.network_ready().await.is_err() {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    sandboxes.collect_networks().await;
}

fn supervise<F>(name: &'static str, task: impl Fn() -> F + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(async move {
        loop {
            match tokio::spawn(task()).await {
                Ok(()) => tracing::error!(task = name, "ended; it is started again"),
                Err(error) => tracing::error!(task = name, %error, "it is started again"),
            }
            tokio::time::sleep(AGAIN).await;
        }
    });
}

/// Now and then looks for what ended without a word: a pod whose own process was killed, a
/// container whose monitor was.
async fn watch_lost(sandboxes: Arc<Sandboxes>, containers: Arc<Containers>) {
    let mut missed = BTreeSet::new();
    loop {
        tokio::time::sleep(LOOK_AGAIN).await;
        for sandbox in sandboxes.list() {
            if let Err(error) = sandboxes.reconcile(&sandbox.id) {
                tracing::error!(sandbox = %sandbox.id, error = chain(&error), "cannot record its end");
            }
        }
        match containers.note_lost(&missed).await {
            Ok(missing) => missed = missing,
            Err(error) => {
                tracing::error!(error = chain(&error), "cannot record the end of a container");
            }
        }
    }
}

/// Looks at what pods and containers use every `period`, for those who ask meanwhile.
async fn collect_stats(sandboxes: Arc<Sandboxes>, groups: Arc<[MetricGroup]>, period: Duration) {
    loop {
        tokio::time::sleep(period).await;
        if let Err(error) = sandboxes.collect_stats(Arc::clone(&groups)).await {
            tracing::error!(error = chain(&error), "cannot collect statistics");
        }
    }
}

/// Records every exit that a monitor writes down.
async fn watch_exits(runtime: Runtime, containers: Arc<Containers>) {
    let mut exits = match runtime.exits() {
        Ok(exits) => exits,
        Err(error) => {
            tracing::error!(error = chain(&error), "cannot watch for exits");
            return;
        }
    };
    while let Some(id) = exits.next().await {
        if let Err(error) = containers.note_exit(&id).await {
            tracing::error!(container = %id, error = chain(&error), "cannot record its exit");
        }
    }
}
