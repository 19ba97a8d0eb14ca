//! Runs a command in a container and waits for its end: the kubelet's exec probes.

use std::time::Duration;

use oci_spec::runtime::Spec;

use crate::container::Containers;
use crate::container::error::ContainerError;
use crate::model::container::ContainerState;
use crate::runtime::ExecSync;
use crate::runtime::Executed;

impl Containers {
    /// Runs `command` in a running container.
    ///
    /// A command that outlives `timeout` is killed, and that is an answer: exit code −1 and
    /// `command timed out`. Output beyond 16 MiB is dropped (CVE-2022-1708).
    ///
    /// # Errors
    ///
    /// [`ContainerError::WrongState`] when the container does not run.
    pub async fn exec_sync(
        &self,
        id: &str,
        command: Vec<String>,
        timeout: Option<Duration>,
    ) -> Result<Executed, ContainerError> {
        let record = self.find(id)?;
        if record.state != ContainerState::Running {
            return Err(ContainerError::WrongState {
                id: record.id.clone(),
                verb: "run a command in",
                state: record.state,
                needed: "running",
            });
        }
        let path = record.bundle.join("config.json");
        let unreadable = |source| ContainerError::File {
            action: "read the runtime spec",
            path: path.clone(),
            source,
        };
        let text = self.spec_text(&record).await?;
        let spec: Spec =
            serde_json::from_str(&text).map_err(|error| unreadable(std::io::Error::from(error)))?;
        let process = crate::spec::exec_process(&spec, command, false)?;
        let request =
            ExecSync { handler: record.handler.clone(), id: record.id.clone(), process, timeout };
        Ok(self.parts.runtime.exec_sync(request).await?)
    }
}
