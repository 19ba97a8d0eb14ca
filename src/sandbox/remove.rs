//! Removes a sandbox, stopped or not, with all its containers.

use std::sync::Arc;

use crate::model::change::Change;
use crate::model::ids::SandboxId;
use crate::model::in_flight::to_the_end;
use crate::sandbox::Parts;
use crate::sandbox::Sandboxes;
use crate::sandbox::blocking;
use crate::sandbox::error::SandboxError;
use crate::sys::files;

impl Sandboxes {
    /// Removes a sandbox and all its containers. One that is not there is removed already.
    ///
    /// # Errors
    ///
    /// [`SandboxError::BeingMade`]; [`SandboxError`] of the step that failed, and the next call goes
    /// on from there.
    pub async fn remove(&self, id: &str) -> Result<Change, SandboxError> {
        let Some((id, turn)) = self.parts.begin(id).await? else {
            return Ok(Change::Unchanged(()));
        };
        let (parts, looks) = (Arc::clone(&self.parts), Arc::clone(&self.looks));
        let work = async move {
            let _turn = turn;
            parts.clear_away(&id).await?;
            looks.forget(&id);
            Ok(Change::Made(()))
        };
        to_the_end(work).await.unwrap_or(Err(SandboxError::Vanished))
    }
}

impl Parts {
    /// Stops the sandbox, removes its containers, its directories, and its record last.
    pub(super) async fn clear_away(self: &Arc<Self>, id: &SandboxId) -> Result<(), SandboxError> {
        self.stop(id).await?;
        for record in self.records.containers_of(id) {
            let removed = self.containers.remove(record.id.as_str()).await;
            removed
                .map_err(|source| SandboxError::Container { id: record.id.to_string(), source })?;
        }
        self.records.sandboxes.remove(id)?;
        let directory = self.settings.records_dir.join(id.as_str());
        blocking(move || {
            files::remove_tree(&directory).map_err(|source| SandboxError::File {
                action: "remove",
                path: directory.clone(),
                source,
            })
        })
        .await
    }
}
