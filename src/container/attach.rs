//! Joins a client to the streams of a container's first process.

use std::sync::Arc;

use crate::container::Containers;
use crate::container::error::ContainerError;
use crate::model::container::ContainerState;
use crate::model::ids::ContainerId;
use crate::model::streams::ProcessStreams;
use crate::runtime::Attach;
use crate::runtime::Stdin;
use crate::state::ContainerRecord;

impl Containers {
    /// Whether a client can be joined to this container now; gives its whole id.
    ///
    /// # Errors
    ///
    /// [`ContainerError::State`] when there is none, [`ContainerError::WrongState`] when it has
    /// ended.
    pub fn can_attach(&self, id: &str) -> Result<ContainerId, ContainerError> {
        Ok(self.attachable(id)?.id.clone())
    }

    /// Joins a client to a container until one of them goes: the container ends, a client with a
    /// terminal (`tty`) types the keys for it, or a client without one comes to the end of its
    /// input, where that stays open for others. When this future is dropped, the client has gone.
    ///
    /// # Errors
    ///
    /// As [`Containers::can_attach`]; [`ContainerError::Runtime`] when the monitor is not there.
    pub async fn attach(
        &self,
        id: &str,
        tty: bool,
        streams: ProcessStreams,
    ) -> Result<(), ContainerError> {
        let record = self.attachable(id)?;
        let request = Attach {
            id: record.id.clone(),
            first_process: record.pid,
            bundle: record.bundle.clone(),
            stdin: stdin(&record, tty),
        };
        Ok(self.parts().runtime.attach(request, streams).await?)
    }

    fn attachable(&self, id: &str) -> Result<Arc<ContainerRecord>, ContainerError> {
        let record = self.find(id)?;
        if matches!(record.state, ContainerState::Created | ContainerState::Running) {
            return Ok(record);
        }
        Err(ContainerError::WrongState {
            id: record.id.clone(),
            verb: "attach to",
            state: record.state,
            needed: "created or running",
        })
    }
}

fn stdin(record: &ContainerRecord, tty: bool) -> Stdin {
    let config = &record.config;
    // A client's terminal says how it types, also to a container that has none.
    if config.tty || (tty && config.stdin) {
        Stdin::Terminal { once: config.stdin_once }
    } else if !config.stdin {
        Stdin::None
    } else if config.stdin_once {
        Stdin::Once
    } else {
        Stdin::KeptOpen
    }
}
