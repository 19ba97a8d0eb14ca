//! Starts a created container.
//!
//! One whose start fails has ended, with the reason in its status, and stays until it is removed.
//! CRI-O removes it at once. But the kubelet backs off only from a container that it sees as ended
//! (`doBackOff`), and runs one that it does not see again whatever the pod's restart policy says
//! (`ShouldContainerBeRestarted`): a job whose command does not exist would never fail.

use crate::container::Containers;
use crate::container::Parts;
use crate::container::error::ContainerError;
use crate::container::now;
use crate::failure::chain;
use crate::model::change::Change;
use crate::model::container::ContainerState;
use crate::model::in_flight::to_the_end;
use crate::state::ContainerRecord;
use crate::state::Exit;

/// What a shell gives a command that cannot be run; the kubelet shows it.
const CANNOT_START: i32 = 128;

impl Containers {
    /// Starts a container that was created and never started.
    ///
    /// # Errors
    ///
    /// [`ContainerError::WrongState`] for any other; [`ContainerError::Runtime`] when the runtime
    /// fails, and then the container counts as ended, with the reason in its status.
    pub async fn start(&self, id: &str) -> Result<Change, ContainerError> {
        let (record, turn) = self.parts().begin(id).await?;
        if record.state != ContainerState::Created {
            return Err(ContainerError::WrongState {
                id: record.id.clone(),
                verb: "start",
                state: record.state,
                needed: "created",
            });
        }
        let parts = self.parts();
        let work = async move {
            let _turn = turn;
            parts.start(&record).await
        };
        to_the_end(work).await.unwrap_or(Err(ContainerError::Vanished))
    }
}

impl Parts {
    async fn start(&self, record: &ContainerRecord) -> Result<Change, ContainerError> {
        // Written first: an end that is seen before the start is recorded must not be overwritten.
        self.records.containers.update(&record.id, |record| {
            record.started = now();
            record.state = ContainerState::Running;
        })?;
        let Err(error) = self.runtime.start(&record.handler, &record.id).await else {
            return Ok(Change::Made(()));
        };
        let why = chain(&error);
        self.records.containers.update(&record.id, |record| {
            record.state = ContainerState::Exited;
            record.start_failure = Some(why);
            record.exit = Some(Exit { code: CANNOT_START, finished: now(), oom: false });
        })?;
        if let Err(error) = self.runtime.delete(&record.handler, &record.id).await {
            tracing::warn!(container = %record.id, error = chain(&error), "left after a failed start");
        }
        Err(error.into())
    }
}
