//! An exit file appeared: record the end, and tell those who wait for it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use crate::container::Containers;
use crate::container::Parts;
use crate::container::error::ContainerError;
use crate::container::now;
use crate::failure::chain;
use crate::model::container::ContainerState;
use crate::model::ids::ContainerId;
use crate::runtime::Status;
use crate::state::ContainerRecord;
use crate::state::Exit;

/// The exit code of a container whose end nobody saw, as the field reports it.
const UNKNOWN_CODE: i32 = 255;

impl Containers {
    /// Records the end of a container, if its monitor has written it down.
    ///
    /// # Errors
    ///
    /// [`ContainerError::Runtime`] when the exit file is unreadable; [`ContainerError::State`] when
    /// the record cannot be written.
    pub async fn note_exit(&self, id: &ContainerId) -> Result<(), ContainerError> {
        if self.parts().is_gone(id) {
            // Its monitor came to its last word after it was removed.
            return Ok(self.parts().runtime.remove_exit_event(id)?);
        }
        self.parts().note_exit(id).await?;
        let (parts, id) = (self.parts(), id.clone());
        tokio::spawn(async move { parts.let_go(&id).await });
        Ok(())
    }

    /// Brings a record in step with what really runs, as after a restart of the daemon.
    ///
    /// # Errors
    ///
    /// [`ContainerError::Runtime`] when the runtime cannot be asked.
    pub async fn reconcile(&self, id: &ContainerId) -> Result<(), ContainerError> {
        let parts = self.parts();
        let Some(record) = parts.records.containers.by_id(id) else { return Ok(()) };
        if record.state == ContainerState::Exited {
            return Ok(());
        }
        parts.note_exit(id).await?;
        let Some(record) = parts.records.containers.by_id(id) else { return Ok(()) };
        if record.state == ContainerState::Exited {
            return Ok(());
        }
        match parts.runtime.state(&record.handler, id).await? {
            Some(state) if matches!(state.status, Status::Running | Status::Paused) => {
                parts.records.containers.update(id, |record| {
                    record.state = ContainerState::Running;
                })?;
                Ok(())
            }
            Some(state) if matches!(state.status, Status::Creating | Status::Created) => {
                // The last daemon wrote the start down and died before the runtime had it.
                parts.records.containers.update(id, |record| {
                    record.started = 0;
                    record.state = ContainerState::Created;
                })?;
                Ok(())
            }
            // Its end was not written down: the machine was reset, or its monitor was killed.
            Some(_) | None => parts.record_exit(&record, unknown_end()),
        }
    }

    /// Records the ends that no monitor wrote down: of containers that should run, whose first
    /// process was not there at the last look either. Gives those that are to be looked at again.
    ///
    /// # Errors
    ///
    /// As [`Containers::reconcile`].
    pub async fn note_lost(
        &self,
        missed: &BTreeSet<ContainerId>,
    ) -> Result<BTreeSet<ContainerId>, ContainerError> {
        let mut missing = BTreeSet::new();
        for record in self.parts().records.containers.all() {
            let runs = record.state == ContainerState::Running;
            if !runs || Path::new("/proc").join(record.pid.to_string()).exists() {
                continue;
            }
            if !missed.contains(&record.id) {
                missing.insert(record.id.clone());
                continue;
            }
            self.parts().note_lost(&record.id).await?;
        }
        Ok(missing)
    }
}

/// The end of a container that nobody saw end.
fn unknown_end() -> Exit {
    Exit { code: UNKNOWN_CODE, finished: now(), oom: false }
}

impl Parts {
    /// Whether there is nothing of a container: one that is being made has no record yet.
    fn is_gone(&self, id: &ContainerId) -> bool {
        self.records.containers.by_id(id).is_none() && !self.store.container_dir(id).exists()
    }

    pub(super) async fn note_exit(&self, id: &ContainerId) -> Result<(), ContainerError> {
        let Some(record) = self.records.containers.by_id(id) else { return Ok(()) };
        let (runtime, looked_up) = (self.runtime.clone(), Arc::clone(&record));
        let exit = crate::container::blocking(move || {
            Ok(runtime.exit_of(&looked_up.id, &looked_up.persist_dir, &looked_up.bundle)?)
        })
        .await?;
        let Some(exit) = exit else { return Ok(()) };
        let finished = i64::try_from(exit.finished.unix_timestamp_nanos()).unwrap_or(i64::MAX);
        self.record_exit(&record, Exit { code: exit.code, finished, oom: exit.oom })
    }

    /// Has the runtime forget a container that is over: what it left running goes, its cgroup is
    /// free, and who removes it later need not wait for that.
    async fn let_go(self: Arc<Self>, id: &ContainerId) {
        let Ok((record, _turn)) = self.begin(id.as_str()).await else { return };
        if record.state != ContainerState::Exited {
            return;
        }
        if let Err(error) = self.runtime.delete(&record.handler, id).await {
            // Its removal tries again, and answers for it.
            tracing::warn!(container = %id, error = chain(&error), "left after its end");
        }
    }

    /// Records the end of a container that the runtime says is over, whether or not a monitor saw.
    pub(super) async fn note_lost(&self, id: &ContainerId) -> Result<(), ContainerError> {
        self.note_exit(id).await?;
        let Some(record) = self.records.containers.by_id(id) else { return Ok(()) };
        if record.state == ContainerState::Exited {
            return Ok(());
        }
        let state = self.runtime.state(&record.handler, id).await?;
        if state.is_none_or(|state| !state.is_alive()) {
            tracing::warn!(container = %id, "it ended, and no monitor wrote down how");
            self.record_exit(&record, unknown_end())?;
        }
        Ok(())
    }

    fn record_exit(&self, record: &ContainerRecord, exit: Exit) -> Result<(), ContainerError> {
        let mut killed_for_memory = false;
        self.records.containers.update(&record.id, |record| {
            record.state = ContainerState::Exited;
            if record.exit.is_none() {
                killed_for_memory = exit.oom;
                record.exit = Some(exit);
            }
        })?;
        if killed_for_memory {
            self.metrics.out_of_memory(&record.name);
        }
        // Nobody may be waiting.
        let _ = self.exited.send(record.id.clone());
        Ok(())
    }
}
