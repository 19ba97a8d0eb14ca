//! Stops a container: its stop signal, patience, then KILL.

use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use crate::container::Containers;
use crate::container::Parts;
use crate::container::error::ContainerError;
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

impl Containers {
    /// Stops a container: its stop signal first, KILL after `patience`. One that does not run, or
    /// is not there, is stopped already.
    ///
    /// # Errors
    ///
    /// [`ContainerError::WillNotDie`] when it outlives KILL.
    pub async fn stop(&self, id: &str, patience: Duration) -> Result<Change, ContainerError> {
        let parts = &self.parts;
        let Ok(record) = parts.records.containers.find(id) else {
            return Ok(Change::Unchanged(()));
        };
        parts.stop(&record, patience).await
    }
}

impl Parts {
    /// Not in turn with other verbs: a stop with less patience may overtake one with more.
    pub(super) async fn stop(
        &self,
        record: &ContainerRecord,
        patience: Duration,
    ) -> Result<Change, ContainerError> {
        if !self.lives(&record.id) {
            return Ok(Change::Unchanged(()));
        }
        let mut exits = self.exited.subscribe();
        let never_started = record.state == ContainerState::Created;
        if !never_started && !patience.is_zero() {
            self.runtime.kill(&record.handler, &record.id, &record.stop_signal, false).await?;
            if self.wait(&record.id, &mut exits, patience).await {
                return Ok(Change::Made(()));
            }
        }
        self.runtime.kill(&record.handler, &record.id, "SIGKILL", false).await?;
        if self.wait(&record.id, &mut exits, AFTER_KILL).await {
            return Ok(Change::Made(()));
        }
        Err(ContainerError::WillNotDie(record.id.clone()))
    }

    fn lives(&self, id: &ContainerId) -> bool {
        let record = self.records.containers.by_id(id);
        record.is_some_and(|record| record.state != ContainerState::Exited)
    }

    /// Whether the container's end is recorded within `patience`.
    async fn wait(
        &self,
        id: &ContainerId,
        exits: &mut tokio::sync::broadcast::Receiver<ContainerId>,
        patience: Duration,
    ) -> bool {
        let deadline = Instant::now() + patience.min(LONGEST);
        let mut looks = 0_u32;
        while self.lives(id) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            match tokio::time::timeout(left.min(LOOK_AGAIN), exits.recv()).await {
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
