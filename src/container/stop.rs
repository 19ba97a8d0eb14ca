//! Stops a container: its stop signal, patience, then KILL.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::container::Containers;
use crate::container::Parts;
use crate::container::error::ContainerError;
use crate::failure::chain;
use crate::model::change::Change;
use crate::model::container::ContainerState;
use crate::model::ids::ContainerId;
use crate::state::ContainerRecord;

/// How long a killed process may take to be gone.
const AFTER_KILL: Duration = Duration::from_secs(60);
/// The longest patience there is: a pod may ask for more seconds than a clock can count.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// How often the exit file is looked for while waiting, in case its event was lost.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How a stop ended; whoever asked for it sees the same.
type Outcome = Result<(), Arc<ContainerError>>;

/// The stops that go on, by container.
#[derive(Debug, Default)]
pub struct Stops {
    running: Mutex<HashMap<ContainerId, Stop>>,
}

/// A stop that goes on.
#[derive(Debug)]
struct Stop {
    /// When patience ends; who has less patience brings it forward.
    deadline: watch::Sender<Instant>,
    outcome: watch::Receiver<Option<Outcome>>,
}

/// The side of a stop that carries it out. Dropped, by a panic too, it takes the stop from the list.
struct Turn {
    stops: Arc<Stops>,
    id: ContainerId,
    deadline: watch::Receiver<Instant>,
    outcome: watch::Sender<Option<Outcome>>,
}

impl Stops {
    /// Joins the stop of a container that goes on, or begins one, which the turn is for.
    fn join(
        self: &Arc<Self>,
        id: &ContainerId,
        until: Instant,
    ) -> (watch::Receiver<Option<Outcome>>, Option<Turn>) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stop) = running.get(id) {
            stop.deadline.send_if_modified(|deadline| {
                let sooner = until < *deadline;
                *deadline = until.min(*deadline);
                sooner
            });
            return (stop.outcome.clone(), None);
        }
        let (deadline, its_deadline) = watch::channel(until);
        let (its_outcome, outcome) = watch::channel(None);
        running.insert(id.clone(), Stop { deadline, outcome: outcome.clone() });
        let (stops, id) = (Arc::clone(self), id.clone());
        (outcome, Some(Turn { stops, id, deadline: its_deadline, outcome: its_outcome }))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.stops.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

impl Containers {
    /// Stops a container: its stop signal first, KILL after `patience`. One that does not run, or
    /// is not there, is stopped already.
    ///
    /// One stop goes on for all who ask: the signal is sent once, since many programs take a second
    /// one as "at once", and who asks with less patience shortens the wait of all. It comes to its
    /// end also when nobody waits for it any more.
    ///
    /// # Errors
    ///
    /// [`ContainerError::WillNotDie`] when it outlives KILL.
    pub async fn stop(&self, id: &str, patience: Duration) -> Result<Change, ContainerError> {
        let Ok(record) = self.find(id) else { return Ok(Change::Unchanged(())) };
        self.parts().stop(&record.id, patience).await
    }
}

impl Parts {
    /// Not in turn with other verbs: it may have to end what another one waits for.
    pub(super) async fn stop(
        self: &Arc<Self>,
        id: &ContainerId,
        patience: Duration,
    ) -> Result<Change, ContainerError> {
        if !self.lives(id) {
            return Ok(Change::Unchanged(()));
        }
        let (mut outcome, turn) = self.stops.join(id, Instant::now() + patience.min(LONGEST));
        if let Some(turn) = turn {
            let parts = Arc::clone(self);
            tokio::spawn(async move {
                let ended = parts.carry_out(&turn).await.map_err(Arc::new);
                turn.outcome.send_replace(Some(ended));
            });
        }
        let ended = outcome.wait_for(Option::is_some).await.map(|ended| ended.clone());
        match ended {
            Ok(Some(ended)) => Ok(ended.map(Change::Made)?),
            Ok(None) | Err(_) => Err(ContainerError::Vanished),
        }
    }

    /// Sends the stop signal, waits for the deadline, which may come nearer, and kills.
    async fn carry_out(&self, turn: &Turn) -> Result<(), ContainerError> {
        let mut exits = self.exited.subscribe();
        // Read now: it may have been started, or have ended, since it was asked for.
        let Some(record) = self.records.containers.by_id(&turn.id) else { return Ok(()) };
        self.thaw(&record).await;
        let mut deadline = turn.deadline.clone();
        let patient = *deadline.borrow_and_update() > Instant::now();
        if patient && record.state == ContainerState::Running {
            self.runtime.kill(&record.handler, &record.id, &record.stop_signal, false).await?;
            if self.wait(&record.id, &mut exits, &mut deadline).await {
                return Ok(());
            }
        }
        self.runtime.kill(&record.handler, &record.id, "SIGKILL", false).await?;
        // Paused while we waited: under cgroup version 1 not even KILL reaches it.
        self.thaw(&record).await;
        let (_kept, mut after_kill) = watch::channel(Instant::now() + AFTER_KILL);
        if self.wait(&record.id, &mut exits, &mut after_kill).await {
            return Ok(());
        }
        Err(ContainerError::WillNotDie(record.id.clone()))
    }

    /// Lets a container go on that somebody paused, through us or by the runtime's own command.
    async fn thaw(&self, record: &ContainerRecord) {
        let thawed = self.runtime.thaw(&record.handler, &record.cgroup_parent, &record.id).await;
        if let Err(error) = thawed {
            tracing::warn!(container = %record.id, error = chain(&error), "it may be paused still");
        }
    }

    fn lives(&self, id: &ContainerId) -> bool {
        let record = self.records.containers.by_id(id);
        record.is_some_and(|record| record.state != ContainerState::Exited)
    }

    /// Whether the container's end is recorded before the deadline, wherever that is moved to.
    async fn wait(
        &self,
        id: &ContainerId,
        exits: &mut broadcast::Receiver<ContainerId>,
        deadline: &mut watch::Receiver<Instant>,
    ) -> bool {
        let mut looks = 0_u32;
        while self.lives(id) {
            let left = deadline.borrow_and_update().saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let exit = tokio::select! {
                Ok(()) = deadline.changed() => continue,
                exit = tokio::time::timeout(left.min(LOOK_AGAIN), exits.recv()) => exit,
            };
            match exit {
                Ok(Ok(_) | Err(RecvError::Lagged(_))) => {}
                Ok(Err(RecvError::Closed)) => return false,
                Err(_) => {
                    // A monitor that lives has written the end down by the second look.
                    looks += 1;
                    let noted = match looks {
                        1 => self.note_exit(id).await,
                        _ => self.note_lost(id).await,
                    };
                    if let Err(error) = noted {
                        tracing::warn!(container = %id, %error, "cannot read how it ended");
                    }
                }
            }
        }
        true
    }
}
