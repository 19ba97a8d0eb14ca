//! Stops a sandbox: its containers, its network, its namespaces.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use crate::model::change::Change;
use crate::model::ids::SandboxId;
use crate::model::in_flight::to_the_end;
use crate::model::sandbox::SandboxState;
use crate::sandbox::Parts;
use crate::sandbox::Sandboxes;
use crate::sandbox::blocking;
use crate::sandbox::error::SandboxError;
use crate::sandbox::files;
use crate::sandbox::infra;
use crate::sandbox::pod_network;
use crate::state::NamespacePaths;
use crate::state::NetworkState;
use crate::state::SandboxRecord;
use crate::sys::namespace;

/// How much of the caller's time is for what comes after the containers.
const REST: Duration = Duration::from_secs(1);

impl Sandboxes {
    /// Stops a sandbox and all in it. One that is stopped, or not there, is stopped already. For a
    /// caller that waits for `patience` only, its containers are killed in time for an answer:
    /// `kubeadm reset` waits for two seconds.
    ///
    /// # Errors
    ///
    /// [`SandboxError::BeingMade`]; [`SandboxError`] of the step that failed, and the next call goes
    /// on from there.
    pub async fn stop(&self, id: &str, patience: Option<Duration>) -> Result<Change, SandboxError> {
        let parts = self.parts();
        if id.is_empty() {
            return Err(parts
                .records
                .sandboxes
                .find(id)
                .err()
                .map_or(SandboxError::Vanished, Into::into));
        }
        let Some((id, turn)) = parts.begin(id).await? else { return Ok(Change::Unchanged(())) };
        let parts = Arc::clone(&parts);
        let work = async move {
            let _turn = turn;
            parts.stop(&id, patience).await
        };
        to_the_end(work).await.unwrap_or(Err(SandboxError::Vanished))
    }

    /// Whether a sandbox that should be ready still is: its infra process lives, its namespaces and
    /// its files are there. One that is not becomes not ready.
    ///
    /// # Errors
    ///
    /// [`SandboxError::State`] when the record cannot be written.
    pub fn reconcile(&self, id: &SandboxId) -> Result<(), SandboxError> {
        let Some(record) = self.parts().records.sandboxes.by_id(id) else { return Ok(()) };
        let namespaces = &record.namespaces;
        let NamespacePaths { net, ipc, uts, pid, user } = namespaces;
        let pins = [net, ipc, uts, pid, user];
        let pinned = pins.into_iter().flatten().all(|path| namespace::is_pinned(path));
        // A pod that shares all namespaces with the node has nothing but its files to tell a reboot.
        let whole = pinned && record.run_dir.is_dir() && infra::is_alive(&record);
        if record.state == SandboxState::Ready && !whole {
            tracing::warn!(sandbox = %id, "its namespaces, files or infra process are gone");
            self.parts().records.sandboxes.update(id, |record| {
                record.state = SandboxState::NotReady;
            })?;
        }
        Ok(())
    }
}

impl Parts {
    pub(super) async fn stop(
        self: &Arc<Self>,
        id: &SandboxId,
        patience: Option<Duration>,
    ) -> Result<Change, SandboxError> {
        // Not ready first: no container can come while the others are stopped.
        let record = self.records.sandboxes.update(id, |record| {
            record.state = SandboxState::NotReady;
        })?;
        let Some(record) = record else { return Ok(Change::Unchanged(())) };
        let (containers, network) =
            tokio::join!(self.stop_containers(id, patience), self.disconnect(&record));
        containers?;
        network?;
        self.release(record).await?;
        Ok(Change::Made(()))
    }

    async fn stop_containers(
        &self,
        id: &SandboxId,
        patience: Option<Duration>,
    ) -> Result<(), SandboxError> {
        let records = self.records.containers_of(id);
        let patience = before_kill(self.settings.stop_patience, patience);
        let stops = records.iter().map(|record| async move {
            let stopped = self.containers.stop(record.id.as_str(), patience).await;
            stopped.map_err(|source| SandboxError::Container { id: record.id.to_string(), source })
        });
        join_all(stops).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(())
    }

    /// CNI DEL, while the namespace is still there. It is owed until it succeeds.
    async fn disconnect(&self, record: &SandboxRecord) -> Result<(), SandboxError> {
        if !matches!(record.network, NetworkState::Up | NetworkState::Owed) {
            return Ok(());
        }
        if let Some(pod) = pod_network(record)
            && let Err(error) = self.network.remove(&pod).await
        {
            self.records.sandboxes.update(&record.id, |record| {
                record.network = NetworkState::Owed;
            })?;
            return Err(error.into());
        }
        self.records.sandboxes.update(&record.id, |record| {
            record.network = NetworkState::Down;
            record.ips = Vec::new();
        })?;
        Ok(())
    }

    /// Ends the infra process and unpins the namespaces, which then go with their last process. A
    /// step that fails does not keep the others from being taken.
    async fn release(self: &Arc<Self>, record: Arc<SandboxRecord>) -> Result<(), SandboxError> {
        let parts = Arc::clone(self);
        let id = record.id.clone();
        let stopped = self.containers.stop_infra(&id).await;
        let stopped =
            stopped.map_err(|source| SandboxError::Container { id: record.id.to_string(), source });
        blocking(move || {
            let mut done = stopped.and(infra::stop(&record, &parts.runtime));
            let namespaces = &record.namespaces;
            // The user namespace last: the others belong to it.
            let NamespacePaths { net, ipc, uts, user, .. } = namespaces;
            for path in [net, ipc, uts, user].into_iter().flatten() {
                done = done.and(namespace::unpin(path).map_err(SandboxError::from));
            }
            done.and(files::remove(&record.run_dir))
        })
        .await?;
        self.records.sandboxes.update(&id, |record| {
            record.namespaces = NamespacePaths::default();
            record.infra = None;
        })?;
        Ok(())
    }
}

/// How long containers may take to end by themselves.
fn before_kill(usual: Duration, caller: Option<Duration>) -> Duration {
    caller.map_or(usual, |caller| usual.min(caller.saturating_sub(REST.min(caller / 2))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_killed_before_the_caller_goes() {
        let usual = Duration::from_secs(10);
        for (caller, expected) in
            [(None, 10_000), (Some(119_500), 10_000), (Some(4_000), 3_000), (Some(1_800), 900)]
        {
            let caller = caller.map(Duration::from_millis);
            assert_eq!(before_kill(usual, caller), Duration::from_millis(expected), "{caller:?}");
        }
    }
}
