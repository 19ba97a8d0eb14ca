//! Runs a command in a container and waits for its end: the kubelet's exec probes.

use std::time::Duration;

use crate::container::Containers;
use crate::container::error::ContainerError;
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
        let request = self.command(id, command, false).await?;
        Ok(self.parts().runtime.exec_sync(request, timeout).await?)
    }
}
