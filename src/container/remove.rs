//! Removes a container and all that is its own.

use std::time::Duration;

use crate::container::Containers;
use crate::container::Parts;
use crate::container::blocking;
use crate::container::error::ContainerError;
use crate::model::change::Change;
use crate::state::ContainerRecord;

impl Containers {
    /// Removes a container; one that runs is killed first, one that is not there is removed
    /// already.
    ///
    /// # Errors
    ///
    /// [`ContainerError`] of the step that failed; the record stays, so that the next call goes on.
    pub async fn remove(&self, id: &str) -> Result<Change, ContainerError> {
        let parts = &self.parts;
        let (record, _turn) = match parts.begin(id).await {
            Ok(begun) => begun,
            Err(ContainerError::State(crate::state::StateError::Unknown { .. }))
            | Err(ContainerError::Gone(_)) => return Ok(Change::Unchanged(())),
            Err(error) => return Err(error),
        };
        parts.stop(&record, Duration::ZERO).await?;
        parts.remove_parts(&record).await?;
        Ok(Change::Made(()))
    }
}

impl Parts {
    /// Takes away what runs and lies of a container, the record last.
    pub(super) async fn remove_parts(
        &self,
        record: &ContainerRecord,
    ) -> Result<(), ContainerError> {
        self.runtime.delete(&record.handler, &record.id).await?;
        self.runtime.forget(&record.id, &record.cgroup_parent).await?;
        let (store, id) = (self.store.clone(), record.id.clone());
        // The record goes before the directory it lies in.
        self.records.containers.remove(&record.id)?;
        blocking(move || Ok(store.remove_container(&id)?)).await?;
        Ok(())
    }
}
