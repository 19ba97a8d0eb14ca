//! Starts a created container.

use crate::container::Containers;
use crate::container::error::ContainerError;
use crate::container::now;
use crate::failure::chain;
use crate::model::change::Change;
use crate::model::container::ContainerState;
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
        let parts = &self.parts;
        let (record, _turn) = parts.begin(id).await?;
        if record.state != ContainerState::Created {
            return Err(ContainerError::WrongState {
                id: record.id.clone(),
                verb: "start",
                state: record.state,
                needed: "created",
            });
        }
        // Written first: an end that is seen before the start is recorded must not be overwritten.
        parts.records.containers.update(&record.id, |record| {
            record.started = now();
            record.state = ContainerState::Running;
        })?;
        let Err(error) = parts.runtime.start(&record.handler, &record.id).await else {
            return Ok(Change::Made(()));
        };
        let why = chain(&error);
        parts.records.containers.update(&record.id, |record| {
            record.state = ContainerState::Exited;
            record.start_failure = Some(why);
            record.exit = Some(Exit { code: CANNOT_START, finished: now(), oom: false });
        })?;
        if let Err(error) = parts.runtime.delete(&record.handler, &record.id).await {
            tracing::warn!(container = %record.id, error = chain(&error), "left after a failed start");
        }
        Err(error.into())
    }
}
