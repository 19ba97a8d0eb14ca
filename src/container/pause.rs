//! Freezes the processes of a container, and lets them go on.
//!
//! The CRI has no word for it: to its clients a paused container runs. Asked for by who pauses a whole node
//! without stopping anything. A stop finds a paused container and lets it go on first.

use crate::container::Containers;
use crate::container::error::ContainerError;
use crate::model::container::ContainerState;

impl Containers {
    /// Freezes all processes of a running container.
    ///
    /// # Errors
    ///
    /// [`ContainerError::WrongState`] when it does not run, [`ContainerError::Frozen`] when that is so
    /// already, [`ContainerError::Runtime`] when the runtime fails.
    pub async fn pause(&self, id: &str) -> Result<(), ContainerError> {
        self.freeze(id, true).await
    }

    /// Lets a paused container go on.
    ///
    /// # Errors
    ///
    /// As [`Containers::pause`].
    pub async fn unpause(&self, id: &str) -> Result<(), ContainerError> {
        self.freeze(id, false).await
    }

    async fn freeze(&self, id: &str, frozen: bool) -> Result<(), ContainerError> {
        let parts = self.parts();
        // No process of a pod's own, which no client sees.
        let found = self.find(id)?;
        let (record, _turn) = parts.begin(found.id.as_str()).await?;
        let (handler, id) = (&record.handler, &record.id);
        if record.state != ContainerState::Running {
            return Err(ContainerError::WrongState {
                id: id.clone(),
                verb: if frozen { "pause" } else { "unpause" },
                state: record.state,
                needed: "running",
            });
        }
        if parts.runtime.is_frozen(&record.cgroup_parent, id)? == frozen {
            return Err(ContainerError::Frozen { id: id.clone(), frozen });
        }
        if frozen {
            parts.runtime.pause(handler, id).await?;
        } else {
            parts.runtime.resume(handler, id).await?;
        }
        Ok(())
    }
}
