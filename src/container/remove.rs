//! Removes a container and all that is its own.

use std::sync::Arc;
use std::time::Duration;

use crate::container::Containers;
use crate::container::Parts;
use crate::container::blocking;
use crate::container::error::ContainerError;
use crate::model::change::Change;
use crate::model::ids::ContainerId;
use crate::model::in_flight::to_the_end;
use crate::state::ContainerRecord;
use crate::state::SandboxRecord;
use crate::state::StateError;

impl Containers {
    /// Removes a container; one that runs is killed first, one that is not there is removed
    /// already.
    ///
    /// # Errors
    ///
    /// [`ContainerError`] of the step that failed; the record stays, so that the next call goes on.
    pub async fn remove(&self, id: &str) -> Result<Change, ContainerError> {
        match self.find(id) {
            Ok(record) => self.take_away(&record.id).await,
            Err(ContainerError::State(StateError::Unknown { .. })) => Ok(Change::Unchanged(())),
            Err(error) => Err(error),
        }
    }

    /// Removes a container, a pod's own process too.
    pub(super) async fn take_away(&self, id: &ContainerId) -> Result<Change, ContainerError> {
        let (record, turn) = match self.parts().begin(id.as_str()).await {
            Ok(begun) => begun,
            Err(ContainerError::State(StateError::Unknown { .. }) | ContainerError::Gone(_)) => {
                return Ok(Change::Unchanged(()));
            }
            Err(error) => return Err(error),
        };
        let (parts, looks) = (self.parts(), Arc::clone(&self.looks));
        let work = async move {
            let _turn = turn;
            parts.stop(&record.id, Duration::ZERO).await?;
            parts.remove_parts(&record).await?;
            looks.forget(&record.id);
            Ok(Change::Made(()))
        };
        to_the_end(work).await.unwrap_or(Err(ContainerError::Vanished))
    }

    /// The containers whose creator was not told of them: it went away, or will be told soon.
    #[must_use]
    pub fn unanswered(&self) -> Vec<ContainerId> {
        let all = self.parts().records.containers.all();
        let unanswered = all.iter().filter(|record| !record.answered && !record.is_infra());
        unanswered.map(|record| record.id.clone()).collect()
    }

    /// Removes a container that nobody was told of, unless somebody was by now.
    ///
    /// # Errors
    ///
    /// As [`Containers::remove`].
    pub async fn remove_unanswered(&self, id: &ContainerId) -> Result<(), ContainerError> {
        let known = self.parts().records.containers.by_id(id).is_none_or(|record| record.answered);
        if known {
            return Ok(());
        }
        self.remove(id.as_str()).await.map(Change::value)
    }

    /// Takes away what a daemon that died while it created a container left of it. `sandbox` is
    /// the one it was for.
    ///
    /// # Errors
    ///
    /// [`ContainerError`] of the step that failed; the next start tries again.
    pub async fn remove_half_made(
        &self,
        id: &ContainerId,
        sandbox: Option<&SandboxRecord>,
    ) -> Result<(), ContainerError> {
        let runtime = &self.parts().runtime;
        let bundle = self.parts().store.container_run_dir(id);
        let handler = sandbox.map_or(runtime.default_handler(), |sandbox| &sandbox.handler);
        let parent = sandbox.map_or("", |sandbox| &sandbox.config.cgroup_parent);
        runtime.abandon(id, handler, &bundle, parent).await?;
        let (parts, id) = (self.parts(), id.clone());
        blocking(move || parts.forget_stored(&id)).await
    }
}

impl Parts {
    /// Takes away what runs and lies of a container, the record last.
    pub(super) async fn remove_parts(
        self: &Arc<Self>,
        record: &ContainerRecord,
    ) -> Result<(), ContainerError> {
        self.runtime.delete(&record.handler, &record.id).await?;
        self.runtime.forget(&record.id, &record.cgroup_parent).await?;
        let (parts, id) = (Arc::clone(self), record.id.clone());
        blocking(move || parts.forget_stored(&id)).await?;
        // Its file is gone with the directory; until here another call finds what is left.
        self.records.containers.remove(&record.id)?;
        // A monitor may have written it down after the runtime forgot the container; one that does
        // so from here on is told of a container that is not there.
        self.runtime.remove_exit_event(&record.id)?;
        self.metrics.container_gone(&record.name);
        Ok(())
    }
}
