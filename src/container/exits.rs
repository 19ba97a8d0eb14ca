//! An exit file appeared: record the end, and tell those who wait for it.

use std::sync::Arc;

use crate::container::Containers;
use crate::container::Parts;
use crate::container::error::ContainerError;
use crate::container::now;
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
        self.parts.note_exit(id).await
    }

    /// Brings a record in step with what really runs, as after a restart of the daemon.
    ///
    /// # Errors
    ///
    /// [`ContainerError::Runtime`] when the runtime cannot be asked.
    pub async fn reconcile(&self, id: &ContainerId) -> Result<(), ContainerError> {
        let parts = &self.parts;
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
}

/// The end of a container that nobody saw end.
fn unknown_end() -> Exit {
    Exit { code: UNKNOWN_CODE, finished: now(), oom: false }
}

impl Parts {
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

    fn record_exit(&self, record: &ContainerRecord, exit: Exit) -> Result<(), ContainerError> {
        self.records.containers.update(&record.id, |record| {
            record.state = ContainerState::Exited;
            if record.exit.is_none() {
                record.exit = Some(exit);
            }
        })?;
        // Nobody may be waiting.
        let _ = self.exited.send(record.id.clone());
        Ok(())
    }
}
