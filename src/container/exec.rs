//! Runs a command in a container for a client that talks to it.

use std::sync::Arc;

use oci_spec::runtime::Spec;

use crate::container::Containers;
use crate::container::error::ContainerError;
use crate::model::container::ContainerState;
use crate::model::ids::ContainerId;
use crate::model::streams::ProcessStreams;
use crate::runtime::Exec;
use crate::state::ContainerRecord;

impl Containers {
    /// Whether a command can be run in this container now; gives its whole id.
    ///
    /// # Errors
    ///
    /// [`ContainerError::State`] when there is none, [`ContainerError::WrongState`] when it does
    /// not run.
    pub fn can_exec(&self, id: &str) -> Result<ContainerId, ContainerError> {
        Ok(self.running(id)?.id.clone())
    }

    /// Runs `command` in a running container, joined to a client's streams, and gives its exit
    /// code. When this future is dropped, the command is killed with all that it started; it ends
    /// with its container too.
    ///
    /// # Errors
    ///
    /// As [`Containers::can_exec`]; [`ContainerError::Runtime`] when the command cannot be started.
    pub async fn exec(
        &self,
        id: &str,
        command: Vec<String>,
        tty: bool,
        streams: ProcessStreams,
    ) -> Result<i32, ContainerError> {
        let request = self.command(id, command, tty).await?;
        Ok(self.parts().runtime.exec(request, streams).await?)
    }

    /// A command as the runtime takes it: with the user, the environment and the rights of the
    /// container.
    pub(super) async fn command(
        &self,
        id: &str,
        command: Vec<String>,
        tty: bool,
    ) -> Result<Exec, ContainerError> {
        let record = self.running(id)?;
        let path = record.bundle.join("config.json");
        let unreadable = |source| ContainerError::File {
            action: "read the runtime spec",
            path: path.clone(),
            source,
        };
        let text = self.spec_text(&record).await?;
        let spec: Spec =
            serde_json::from_str(&text).map_err(|error| unreadable(std::io::Error::from(error)))?;
        let process = crate::spec::process::exec(&spec, command, tty)?;
        let (handler, id, first_process) = (record.handler.clone(), record.id.clone(), record.pid);
        Ok(Exec { handler, id, first_process, process })
    }

    fn running(&self, id: &str) -> Result<Arc<ContainerRecord>, ContainerError> {
        let record = self.find(id)?;
        if record.state == ContainerState::Running {
            return Ok(record);
        }
        Err(ContainerError::WrongState {
            id: record.id.clone(),
            verb: "run a command in",
            state: record.state,
            needed: "running",
        })
    }
}
