//! Our requests as command lines of an OCI runtime, and its answers.
//!
//! The runtime's exit code only says yes or no; why it said no stands in its standard error
//! stream. A few of its sentences mean "there is nothing to do" and become answers.

use std::time::Duration;

use serde::Deserialize;

use crate::model::change::Change;
use crate::model::ids::ContainerId;
use crate::model::signal;
use crate::runtime::Runtime;
use crate::runtime::error::RuntimeError;
use crate::runtime::handlers::Handler;
use crate::sys::cgroup::CgroupManager;
use crate::sys::process::Command;
use crate::sys::process::Output;
use crate::sys::process::readable;

/// How long the runtime may take for what is not creating a container.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where programs are looked for when this one was started without `PATH`.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the runtime knows about a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeState {
    /// What it is doing.
    pub status: Status,
    /// Its first process, unless it has ended.
    pub pid: Option<i32>,
}

impl RuntimeState {
    /// Whether it has a process.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.status != Status::Stopped
    }

    /// Whether it was started and has not ended. A frozen one counts, as the CRI has no word for it.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self.status, Status::Running | Status::Paused)
    }
}

/// What a container is doing (runtime spec, "State").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is being created.
    Creating,
    /// It waits to be started.
    Created,
    /// Its process runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// Its process has ended.
    Stopped,
}

#[derive(Deserialize)]
struct State {
    status: Status,
    #[serde(default)]
    pid: i32,
}

impl Runtime {
    /// Starts the process of a created container.
    ///
    /// # Errors
    ///
    /// [`RuntimeError::Refused`], [`RuntimeError::Run`], [`RuntimeError::UnknownHandler`].
    pub async fn start(&self, handler: &str, id: &ContainerId) -> Result<(), RuntimeError> {
        let command = self.command(self.handler(handler)?).args(["start", id.as_str()]);
        self.ask(command, "start", id).await.map(|_| ())
    }

    /// Sends a signal, by name or number, to the first process of a container, or to all. That there is no
    /// process left is fine, and so is that there is no container.
    ///
    /// # Errors
    ///
    /// [`RuntimeError::Refused`], [`RuntimeError::Run`], [`RuntimeError::UnknownHandler`].
    pub async fn kill(
        &self,
        handler: &str,
        id: &ContainerId,
        signal: &str,
        all: bool,
    ) -> Result<Change, RuntimeError> {
        let handler = self.handler(handler)?;
        if !is_known(handler, id) {
            return Ok(Change::Unchanged(()));
        }
        let mut command = self.command(handler).arg("kill");
        if all {
            command = command.arg("--all");
        }
        // Not every runtime knows the names of real-time signals.
        let number = signal::number(signal).map(|number| number.to_string());
        let command = command.args(["--", id.as_str(), number.as_deref().unwrap_or(signal)]);
        match self.ask(command, "kill", id).await {
            Ok(_) => Ok(Change::Made(())),
            Err(RuntimeError::NotRunning { .. }) => Ok(Change::Unchanged(())),
            Err(error) => Err(error),
        }
    }

    /// Freezes the processes of a container.
    ///
    /// # Errors
    ///
    /// As [`Runtime::start`], and [`RuntimeError::NotRunning`].
    pub async fn pause(&self, handler: &str, id: &ContainerId) -> Result<(), RuntimeError> {
        let command = self.command(self.handler(handler)?).args(["pause", id.as_str()]);
        self.ask(command, "pause", id).await.map(|_| ())
    }

    /// Lets frozen processes of a container go on.
    ///
    /// # Errors
    ///
    /// As [`Runtime::pause`].
    pub async fn resume(&self, handler: &str, id: &ContainerId) -> Result<(), RuntimeError> {
        let command = self.command(self.handler(handler)?).args(["resume", id.as_str()]);
        self.ask(command, "resume", id).await.map(|_| ())
    }

    /// Lets the processes of a paused container go on: a frozen one takes no signal. Nearly none is
    /// paused, so the kernel is asked first, and the runtime only where it is so.
    ///
    /// # Errors
    ///
    /// [`RuntimeError::Cgroup`], and as [`Runtime::start`].
    pub async fn thaw(
        &self,
        handler: &str,
        cgroup_parent: &str,
        id: &ContainerId,
    ) -> Result<Change, RuntimeError> {
        if !self.is_frozen(cgroup_parent, id)? {
            return Ok(Change::Unchanged(()));
        }
        match self.resume(handler, id).await {
            Ok(()) => Ok(Change::Made(())),
            Err(RuntimeError::NotRunning { .. }) => Ok(Change::Unchanged(())),
            Err(error) => Err(error),
        }
    }

    /// Kills what is left of a container and makes the runtime forget it.
    ///
    /// # Errors
    ///
    /// [`RuntimeError::Refused`], [`RuntimeError::Run`], [`RuntimeError::UnknownHandler`].
    pub async fn delete(&self, handler: &str, id: &ContainerId) -> Result<Change, RuntimeError> {
        let handler = self.handler(handler)?;
        if !is_known(handler, id) {
            return Ok(Change::Unchanged(()));
        }
        let command = self.command(handler).args(["delete", "--force", id.as_str()]);
        match self.ask(command, "delete", id).await {
            Ok(_) => Ok(Change::Made(())),
            Err(RuntimeError::NotRunning { .. }) if !is_known(handler, id) => {
                Ok(Change::Unchanged(()))
            }
            Err(error) => Err(error),
        }
    }

    /// What the runtime knows about a container; nothing if it does not know it.
    ///
    /// # Errors
    ///
    /// [`RuntimeError::Answer`], and as [`Runtime::start`].
    pub async fn state(
        &self,
        handler: &str,
        id: &ContainerId,
    ) -> Result<Option<RuntimeState>, RuntimeError> {
        let handler = self.handler(handler)?;
        if !is_known(handler, id) {
            return Ok(None);
        }
        let command = self.command(handler).args(["state", id.as_str()]);
        let output = match self.ask(command, "tell the state of", id).await {
            Ok(output) => output,
            Err(RuntimeError::NotRunning { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let state: State = serde_json::from_slice(&output.stdout)
            .map_err(|source| RuntimeError::Answer { id: id.to_string(), source })?;
        let pid = (state.pid > 0 && state.status != Status::Stopped).then_some(state.pid);
        Ok(Some(RuntimeState { status: state.status, pid }))
    }

    /// Changes the limits of a container.
    ///
    /// # Errors
    ///
    /// As [`Runtime::start`].
    pub async fn update(
        &self,
        handler: &str,
        id: &ContainerId,
        resources: &oci_spec::runtime::LinuxResources,
    ) -> Result<(), RuntimeError> {
        let resources = serde_json::to_vec(resources)
            .map_err(|source| RuntimeError::Answer { id: id.to_string(), source })?;
        let command = self.command(self.handler(handler)?);
        let command = command.args(["update", "--resources", "-", id.as_str()]).stdin(resources);
        self.ask(command, "update", id).await.map(|_| ())
    }

    /// The runtime's program with what every request begins with.
    pub(crate) fn command(&self, handler: &Handler) -> Command {
        let mut command = Command::new(&handler.runtime_path)
            .env("PATH", path_variable())
            .arg("--root")
            .arg(&handler.runtime_root)
            .timeout(PATIENCE);
        if self.settings().cgroup_manager == CgroupManager::Systemd {
            command = command.arg("--systemd-cgroup");
        }
        command
    }

    async fn ask(
        &self,
        command: Command,
        verb: &'static str,
        id: &ContainerId,
    ) -> Result<Output, RuntimeError> {
        let output = command.run().await.map_err(|source| RuntimeError::Run {
            verb,
            id: id.to_string(),
            source,
        })?;
        if output.status.is_success() {
            return Ok(output);
        }
        Err(refusal(verb, id, &output.stderr))
    }
}

/// `PATH` as this program has it: hooks, and helpers such as criu, are looked for in it.
pub(crate) fn path_variable() -> std::ffi::OsString {
    std::env::var_os("PATH").unwrap_or_else(|| PATH.into())
}

/// Whether the runtime keeps state for a container. Both runc and crun keep it in a directory of
/// the container's name, which saves us from starting them for nothing.
fn is_known(handler: &Handler, id: &ContainerId) -> bool {
    handler.runtime_root.join(id.as_str()).exists()
}

/// Turns what the runtime said into an error.
pub(crate) fn refusal(verb: &'static str, id: &ContainerId, stderr: &[u8]) -> RuntimeError {
    let (id, said) = (id.to_string(), said(stderr));
    let lower = said.to_ascii_lowercase();
    let nothing = [
        "no such process",
        "not running",
        "does not exist",
        "invalid process",
        "process already finished",
        "stopped container",
    ];
    if nothing.iter().any(|words| lower.contains(words)) {
        RuntimeError::NotRunning { id, said }
    } else {
        RuntimeError::Refused { verb, id, said }
    }
}

/// The runtime's last error, out of a log line (`time=".." level=error msg=".."`) if it is one.
pub(crate) fn said(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let line = text.lines().rev().find(|line| line.contains("level=error")).unwrap_or(&text);
    let message = line.split_once("msg=").map_or(line, |(_, message)| message.trim());
    let quoted = message.strip_prefix('"').and_then(|message| message.strip_suffix('"'));
    let plain = quoted.map_or_else(|| message.to_owned(), |quoted| quoted.replace("\\\"", "\""));
    readable(plain.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runtimes_words_become_answers() {
        let id = ContainerId::fresh().unwrap();
        for (stderr, is_nothing, expected) in [
            (
                "time=\"2026-01-01T00:00:00Z\" level=error msg=\"container does not exist\"\n",
                true,
                "container does not exist",
            ),
            (
                "level=warning msg=\"x\"\ntime=\"1\" level=error msg=\"exec: \\\"no\\\" missing\"",
                false,
                "exec: \"no\" missing",
            ),
            ("kill container: No such process\n", true, "kill container: No such process"),
            ("\u{1b}[1mbad\n", false, "[1mbad"),
            ("", false, ""),
        ] {
            assert_eq!(said(stderr.as_bytes()), expected);
            let error = refusal("kill", &id, stderr.as_bytes());
            assert_eq!(matches!(error, RuntimeError::NotRunning { .. }), is_nothing, "{error}");
        }
    }
}
