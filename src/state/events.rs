//! What happens to sandboxes and containers, told to everyone who listens.
//!
//! An event is made where a record changes, whichever verb or watcher changed it, so none is missed
//! and none is told twice. It carries the records as they are at that moment. Whoever listens has a
//! bounded queue and never holds up a change: one who does not keep up is let go, and says so when
//! his queue is read to its end. He must look at everything anew then.
//!
//! A sandbox takes no more containers as soon as its stop begins, but it is told of as stopped when
//! the last of its containers is: who hears that expects no more of the pod.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::metrics::Metrics;
use crate::model::container::ContainerState;
use crate::model::ids::ContainerId;
use crate::model::ids::SandboxId;
use crate::model::sandbox::SandboxState;
use crate::state::ContainerRecord;
use crate::state::SandboxRecord;
use crate::state::table::Rows;

/// How many events may wait for one listener.
const QUEUE: usize = 1000;
/// How many may listen at once.
const LISTENERS: usize = 128;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    /// It is there.
    Created,
    /// It runs.
    Started,
    /// It is over.
    Stopped,
    /// It is gone.
    Deleted,
}

/// One thing that happened, and its pod as it was right after.
#[derive(Debug)]
pub struct Event {
    /// What.
    pub happened: Happened,
    /// To which container; a sandbox counts as one, under its own id.
    pub id: String,
    /// When, in nanoseconds since 1970; each event is later than the one before.
    pub at: i64,
    /// The sandbox.
    pub sandbox: Arc<SandboxRecord>,
    /// All containers of the pod, of its earlier sandboxes too.
    pub containers: Vec<Arc<ContainerRecord>>,
}

/// Nobody else can listen: too many do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{LISTENERS} clients listen to events already")]
pub struct TooMany;

/// The listener did not keep up and missed events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {QUEUE} events waited to be read; those after them are lost")]
pub struct FellBehind;

/// Where events are made and given out.
#[derive(Debug)]
pub struct Events {
    sandboxes: Arc<Rows<SandboxId, SandboxRecord>>,
    containers: Arc<Rows<ContainerId, ContainerRecord>>,
    metrics: Metrics,
    listeners: Mutex<Listeners>,
}

#[derive(Debug, Default)]
struct Listeners {
    queues: Vec<Queue>,
    next: u64,
    last: i64,
    closed: bool,
}

#[derive(Debug)]
struct Queue {
    number: u64,
    sender: mpsc::Sender<Arc<Event>>,
    behind: Arc<AtomicBool>,
}

/// One listener's place, free again when it is dropped.
#[derive(Debug)]
pub struct Subscription {
    events: Weak<Events>,
    number: u64,
    queue: mpsc::Receiver<Arc<Event>>,
    behind: Arc<AtomicBool>,
}

impl Events {
    pub(super) fn new(
        sandboxes: Arc<Rows<SandboxId, SandboxRecord>>,
        containers: Arc<Rows<ContainerId, ContainerRecord>>,
        metrics: Metrics,
    ) -> Self {
        Self { sandboxes, containers, metrics, listeners: Mutex::default() }
    }

    /// Listens to all that happens from now on.
    ///
    /// # Errors
    ///
    /// [`TooMany`].
    pub fn subscribe(self: &Arc<Self>) -> Result<Subscription, TooMany> {
        let mut listeners = self.lock();
        if listeners.queues.len() >= LISTENERS {
            return Err(TooMany);
        }
        let (sender, queue) = mpsc::channel(QUEUE);
        let behind = Arc::new(AtomicBool::new(false));
        let number = listeners.next;
        listeners.next += 1;
        // After the end there is nothing more to hear: the sender is dropped at once.
        if !listeners.closed {
            listeners.queues.push(Queue { number, sender, behind: Arc::clone(&behind) });
        }
        Ok(Subscription { events: Arc::downgrade(self), number, queue, behind })
    }

    /// Ends all subscriptions, as before the end of the daemon.
    pub fn close(&self) {
        let mut listeners = self.lock();
        listeners.closed = true;
        listeners.queues.clear();
    }

    /// A container's record changed; nothing stands for none.
    pub(super) fn container_changed(
        &self,
        before: Option<&Arc<ContainerRecord>>,
        after: Option<&Arc<ContainerRecord>>,
    ) {
        let steps = container_steps(before.map(AsRef::as_ref), after.map(AsRef::as_ref));
        let Some(record) = after.or(before) else { return };
        let Some(sandbox) = self.sandboxes.by_id(&record.sandbox) else { return };
        self.tell(&steps, record.id.as_str(), &sandbox);
        let stopping = sandbox.state == SandboxState::NotReady && sandbox.ready_since.is_some();
        if stopping && steps.contains(&Happened::Stopped) && !self.has_living(&sandbox) {
            self.tell(&[Happened::Stopped], sandbox.id.as_str(), &sandbox);
        }
    }

    /// A sandbox's record changed; nothing stands for none.
    pub(super) fn sandbox_changed(
        &self,
        before: Option<&Arc<SandboxRecord>>,
        after: Option<&Arc<SandboxRecord>>,
    ) {
        let mut steps = sandbox_steps(before.map(AsRef::as_ref), after.map(AsRef::as_ref));
        let Some(record) = after.or(before) else { return };
        if steps == [Happened::Stopped] && self.has_living(record) {
            // Told with the end of the last one.
            steps.clear();
        }
        self.tell(&steps, record.id.as_str(), record);
    }

    fn tell(&self, steps: &[Happened], id: &str, sandbox: &Arc<SandboxRecord>) {
        let mut listeners = self.lock();
        if steps.is_empty() || listeners.queues.is_empty() {
            return;
        }
        let containers = self.containers_of_pod(sandbox);
        for happened in steps {
            let at = now().max(listeners.last + 1);
            listeners.last = at;
            let event = Arc::new(Event {
                happened: *happened,
                id: id.to_owned(),
                at,
                sandbox: Arc::clone(sandbox),
                containers: containers.clone(),
            });
            listeners.queues.retain(|queue| match queue.sender.try_send(Arc::clone(&event)) {
                Ok(()) => true,
                Err(TrySendError::Closed(_)) => false,
                Err(TrySendError::Full(_)) => {
                    self.metrics.event_dropped();
                    queue.behind.store(true, Ordering::Release);
                    false
                }
            });
        }
    }

    /// Whether a container of the sandbox that a client knows of is not over.
    fn has_living(&self, sandbox: &SandboxRecord) -> bool {
        self.containers.all().iter().any(|record| {
            record.answered
                && record.sandbox == sandbox.id
                && record.state != ContainerState::Exited
        })
    }

    /// The containers that a client knows of, of all sandboxes of this pod, oldest first.
    fn containers_of_pod(&self, sandbox: &SandboxRecord) -> Vec<Arc<ContainerRecord>> {
        let pod = &sandbox.config.metadata;
        let same = |other: &SandboxRecord| {
            let other = &other.config.metadata;
            (&other.uid, &other.namespace, &other.name) == (&pod.uid, &pod.namespace, &pod.name)
        };
        let sandboxes = self.sandboxes.all();
        let mut of_pod: BTreeSet<&SandboxId> =
            sandboxes.iter().filter(|other| same(other)).map(|other| &other.id).collect();
        of_pod.insert(&sandbox.id);
        let mut containers = self.containers.all();
        containers.retain(|record| record.answered && of_pod.contains(&record.sandbox));
        containers.sort_by_key(|record| record.created);
        containers
    }

    fn lock(&self) -> MutexGuard<'_, Listeners> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscription {
    /// The next event; nothing when the daemon ends. May be dropped and called again.
    ///
    /// # Errors
    ///
    /// [`FellBehind`] after the last event before those that were lost.
    pub async fn next(&mut self) -> Result<Option<Arc<Event>>, FellBehind> {
        match self.queue.recv().await {
            Some(event) => Ok(Some(event)),
            None if self.behind.load(Ordering::Acquire) => Err(FellBehind),
            None => Ok(None),
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(events) = self.events.upgrade() {
            events.lock().queues.retain(|queue| queue.number != self.number);
        }
    }
}

/// What a change of a container's record means to a client. One that it was never told of is not
/// there for it.
fn container_steps(
    before: Option<&ContainerRecord>,
    after: Option<&ContainerRecord>,
) -> Vec<Happened> {
    let stage = |record: &ContainerRecord| match record.state {
        ContainerState::Created => 1,
        ContainerState::Running | ContainerState::Unknown => 2,
        ContainerState::Exited => 3,
    };
    let before = before.filter(|record| record.answered);
    let Some(after) = after.filter(|record| record.answered) else {
        return before.map(|_| Happened::Deleted).into_iter().collect();
    };
    let from = before.map_or(0, stage);
    let all = [(1, Happened::Created), (2, Happened::Started), (3, Happened::Stopped)];
    all.into_iter()
        .filter(|(number, _)| (from + 1..=stage(after)).contains(number))
        // One that was killed before its start did not start.
        .filter(|(number, _)| *number != 2 || after.started != 0)
        .map(|(_, happened)| happened)
        .collect()
}

/// What a change of a sandbox's record means to a client. One that is being made is not there yet.
fn sandbox_steps(before: Option<&SandboxRecord>, after: Option<&SandboxRecord>) -> Vec<Happened> {
    let before = before.filter(|record| record.ready_since.is_some());
    let after = after.filter(|record| record.ready_since.is_some());
    match (before, after) {
        (None, None) => Vec::new(),
        (None, Some(_)) => vec![Happened::Created, Happened::Started],
        (Some(_), None) => vec![Happened::Deleted],
        (Some(before), Some(after)) if before.state != after.state => match after.state {
            SandboxState::NotReady => vec![Happened::Stopped],
            SandboxState::Ready => vec![Happened::Started],
        },
        (Some(_), Some(_)) => Vec::new(),
    }
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
