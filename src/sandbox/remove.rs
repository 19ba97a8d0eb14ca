//! Removes a sandbox, stopped or not, with all its containers.

use std::sync::Arc;

use crate::failure::chain;
use crate::model::change::Change;
use crate::model::ids::SandboxId;
use crate::model::in_flight::to_the_end;
use crate::sandbox::Parts;
use crate::sandbox::Sandboxes;
use crate::sandbox::Settings;
use crate::sandbox::blocking;
use crate::sandbox::error::SandboxError;
use crate::sandbox::files as own_files;
use crate::sys::files;
use crate::sys::namespace;
use crate::sys::pause;

impl Sandboxes {
    /// Removes a sandbox and all its containers. One that is not there is removed already.
    ///
    /// # Errors
    ///
    /// [`SandboxError::BeingMade`]; [`SandboxError`] of the step that failed, and the next call goes
    /// on from there.
    pub async fn remove(&self, id: &str) -> Result<Change, SandboxError> {
        let Some((id, turn)) = self.parts().begin(id).await? else {
            return Ok(Change::Unchanged(()));
        };
        let (parts, looks) = (self.parts(), Arc::clone(&self.looks));
        let work = async move {
            let _turn = turn;
            parts.clear_away(&id).await?;
            looks.forget(&id);
            Ok(Change::Made(()))
        };
        to_the_end(work).await.unwrap_or(Err(SandboxError::Vanished))
    }
}

impl Sandboxes {
    /// Begins to remove what a daemon that died left half made. Nobody sees it meanwhile, and nobody
    /// waits for it: a plugin of its network may hang.
    pub async fn remove_half_made(&self, id: &SandboxId) {
        let Ok(Some((id, turn))) = self.parts().begin(id.as_str()).await else { return };
        let parts = self.parts();
        tokio::spawn(async move {
            let _turn = turn;
            if let Err(error) = parts.clear_away(&id).await {
                let error = chain(&error);
                tracing::warn!(sandbox = %id, error, "what is left of a half-made pod stays for now");
            }
        });
    }

    /// Takes away what is left of a sandbox whose record was cut: nobody can say what it was. What the
    /// network keeps for it goes with what it keeps for other pods that are not there.
    ///
    /// # Errors
    ///
    /// [`SandboxError`] of the step that failed; the next start tries again.
    pub async fn remove_unreadable(&self, id: &SandboxId) -> Result<(), SandboxError> {
        let parts = self.parts();
        let failed = |source| SandboxError::Container { id: id.to_string(), source };
        for record in parts.records.containers_of(id) {
            parts.containers.remove(record.id.as_str()).await.map_err(failed)?;
        }
        parts.containers.remove_infra(id).await.map_err(failed)?;
        let id = id.to_string();
        blocking(move || {
            let Settings { namespaces_dir, run_dir, records_dir, .. } = &parts.settings;
            let pause = namespaces_dir.join("pidns").join(&id);
            pause::stop_pinned(&pause).map_err(|source| SandboxError::File {
                action: "end the process of",
                path: pause,
                source,
            })?;
            // The user namespace last: the others belong to it.
            for kind in ["netns", "ipcns", "utsns", "pidns", "userns"] {
                namespace::unpin(&namespaces_dir.join(kind).join(&id))?;
            }
            own_files::remove(&run_dir.join(&id))?;
            let path = records_dir.join(&id);
            files::remove_tree(&path).map_err(|source| SandboxError::File {
                action: "remove",
                path,
                source,
            })
        })
        .await
    }

    /// Goes on where the stop or the removal of a sandbox failed at the network.
    ///
    /// # Errors
    ///
    /// As [`Sandboxes::stop`] and [`Sandboxes::remove`].
    pub async fn go_on(&self, id: &SandboxId) -> Result<Change, SandboxError> {
        let record = self.parts().records.sandboxes.by_id(id);
        // One that was never ready is nobody's: no kubelet is going to remove it.
        if record.is_some_and(|record| record.ready_since.is_none()) {
            return self.remove(id.as_str()).await;
        }
        self.stop(id.as_str(), None).await
    }
}

impl Parts {
    /// Stops the sandbox, removes its containers, its directories, and its record last.
    pub(super) async fn clear_away(self: &Arc<Self>, id: &SandboxId) -> Result<(), SandboxError> {
        self.stop(id, None).await?;
        for record in self.records.containers_of(id) {
            let removed = self.containers.remove(record.id.as_str()).await;
            removed
                .map_err(|source| SandboxError::Container { id: record.id.to_string(), source })?;
        }
        let removed = self.containers.remove_infra(id).await;
        removed.map_err(|source| SandboxError::Container { id: id.to_string(), source })?;
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
