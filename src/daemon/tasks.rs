//! The background tasks of the daemon, by name. One that panics is logged and started again.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::signal::unix::Signal;
use tokio::signal::unix::SignalKind;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::container::Containers;
use crate::daemon::assemble::Parts;
use crate::daemon::reload::Reloader;
use crate::failure::chain;
use crate::model::ids::ContainerId;
use crate::model::stats::MetricGroup;
use crate::runtime::Runtime;
use crate::sandbox::Sandboxes;

/// How long to wait before a task that ended is started again.
const AGAIN: Duration = Duration::from_secs(1);

/// How often is looked whether the network provider has started, and for what ended unseen.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// How often all rules for host ports are made, whatever is known of them.
const RULES_AGAIN: Duration = Duration::from_secs(60);
/// The longest pause before something that failed is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// How long a container that was made for a caller who went away is kept for the caller's next try;
/// the kubelet tries again within seconds.
const UNASKED: Duration = Duration::from_secs(120);

/// Starts all tasks.
pub(super) fn start(parts: &Parts) {
    let (runtime, containers) =
        (parts.containers.parts().runtime.clone(), Arc::clone(&parts.containers));
    supervise("exits", move || watch_exits(runtime.clone(), Arc::clone(&containers)));
    let (sandboxes, containers) = (Arc::clone(&parts.sandboxes), Arc::clone(&parts.containers));
    supervise("lost", move || watch_lost(Arc::clone(&sandboxes), Arc::clone(&containers)));
    let sandboxes = Arc::clone(&parts.sandboxes);
    supervise("left-over networks", move || collect_networks(Arc::clone(&sandboxes)));
    let sandboxes = Arc::clone(&parts.sandboxes);
    supervise("owed networks", move || stop_again(Arc::clone(&sandboxes)));
    let sandboxes = Arc::clone(&parts.sandboxes);
    supervise("host ports", move || keep_host_ports(Arc::clone(&sandboxes)));
}

/// Takes the signals at which CRI-O writes its goroutines and frees memory, and which end a program
/// that does not take them.
pub(super) fn take_user_signals() -> std::io::Result<()> {
    for (kind, name) in
        [(SignalKind::user_defined1(), "SIGUSR1"), (SignalKind::user_defined2(), "SIGUSR2")]
    {
        let mut signals = tokio::signal::unix::signal(kind)?;
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                tracing::info!(signal = name, "nothing is done at this signal");
            }
        });
    }
    Ok(())
}

/// Makes the rules for host ports at the start, again when a change of them failed, and all of them
/// now and then: somebody may have flushed the node's rules, and pods would be cut off for good.
async fn keep_host_ports(sandboxes: Arc<Sandboxes>) {
    let mut pause = LOOK_AGAIN;
    let mut sure = Instant::now();
    loop {
        if sure.elapsed() >= RULES_AGAIN {
            sandboxes.doubt_network().await;
            sure = Instant::now();
        }
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

/// When the network is ready: undoes attachments of pods that are not there any more; and again, ever
/// more seldom, what could not be undone.
async fn collect_networks(sandboxes: Arc<Sandboxes>) {
    let mut pause = LOOK_AGAIN;
    let mut begun = false;
    loop {
        let first = !begun && sandboxes.network_ready().await.is_ok();
        if first || sandboxes.network_owes() {
            begun |= first;
            sandboxes.collect_networks().await;
            let owes = sandboxes.network_owes();
            pause = if owes { LONGEST_PAUSE.min(pause * 2) } else { LOOK_AGAIN };
        }
        tokio::time::sleep(pause).await;
    }
}

/// Stops pods again whose stop failed at the network, and removes those that never were whole, ever
/// more seldom: the kubelet may have given up, or be away.
async fn stop_again(sandboxes: Arc<Sandboxes>) {
    let mut pause = LOOK_AGAIN;
    loop {
        tokio::time::sleep(pause).await;
        let mut failed = false;
        for id in sandboxes.owing() {
            if let Err(error) = sandboxes.go_on(&id).await {
                tracing::warn!(sandbox = %id, error = chain(&error), "its network stays");
                failed = true;
            }
        }
        pause = if failed { LONGEST_PAUSE.min(pause * 2) } else { LOOK_AGAIN };
    }
}

/// Reads the configuration again whenever that is asked for.
pub(super) fn reload(reloader: &Arc<Reloader>, asked: Signal) {
    let (reloader, asked) = (Arc::clone(reloader), Arc::new(Mutex::new(asked)));
    supervise("reload", move || Arc::clone(&reloader).watch(Arc::clone(&asked)));
}

fn supervise<F>(name: &'static str, task: impl Fn() -> F + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(async move {
        loop {
            match tokio::spawn(task()).await {
                Ok(()) => tracing::error!(task = name, "ended; it is started again"),
                // The daemon ends.
                Err(error) if error.is_cancelled() => return,
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
    let mut waiting = Waiting::default();
    loop {
        tokio::time::sleep(LOOK_AGAIN).await;
        for id in waiting.overdue(Instant::now(), &containers.unanswered()) {
            tracing::warn!(container = %id, "nobody asked for it again; it is removed");
            if let Err(error) = containers.remove_unanswered(&id).await {
                tracing::error!(container = %id, error = chain(&error), "cannot remove it");
            }
        }
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

/// Since when containers wait for somebody to ask for them again.
#[derive(Default)]
struct Waiting(BTreeMap<ContainerId, Instant>);

impl Waiting {
    /// Those of `all` that have waited too long.
    fn overdue(&mut self, now: Instant, all: &[ContainerId]) -> Vec<ContainerId> {
        self.0.retain(|id, _| all.contains(id));
        for id in all {
            self.0.entry(id.clone()).or_insert(now);
        }
        let late = |since: &Instant| now.duration_since(*since) >= UNASKED;
        self.0.iter().filter(|(_, since)| late(since)).map(|(id, _)| id.clone()).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_waits_all_the_time_is_overdue() {
        let [a, b] = ["a", "b"].map(|digit| digit.repeat(64).parse::<ContainerId>().unwrap());
        let mut waiting = Waiting::default();
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        assert_eq!(waiting.overdue(at(0), &[a.clone(), b.clone()]), []);
        assert_eq!(waiting.overdue(at(60), std::slice::from_ref(&a)), []);
        assert_eq!(waiting.overdue(at(119), &[a.clone(), b.clone()]), []);
        assert_eq!(waiting.overdue(at(120), &[a.clone(), b]), [a]);
    }
}
