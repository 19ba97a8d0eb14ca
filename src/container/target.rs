//! The process namespace of another container of the pod, for one that is to look at it
//! (`kubectl debug --target`).
//!
//! It is held open until the runtime has joined it: a number of a process may have another owner a
//! moment later, whose processes are nobody's business here.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use crate::container::Parts;
use crate::container::error::ContainerError;
use crate::container::facts::failed;
use crate::model::container::ContainerConfig;
use crate::model::container::ContainerState;
use crate::model::ids::ContainerId;
use crate::model::security::NamespaceMode;
use crate::state::SandboxRecord;
use crate::sys::files;
use crate::sys::files::Links;

/// The largest list of a process's cgroups that is read, in bytes.
const CGROUPS_LIMIT: u64 = 64 * 1024;

/// A process namespace that is held.
#[derive(Debug)]
pub(super) struct Target(File);

impl Target {
    /// A path that leads to it for as long as it is held.
    pub(super) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()))
    }
}

impl Parts {
    /// Opens the process namespace of the container that a request targets.
    pub(super) fn target(
        &self,
        sandbox: &SandboxRecord,
        config: &ContainerConfig,
    ) -> Result<Option<Target>, ContainerError> {
        let options = &config.security.namespaces;
        if options.pid != NamespaceMode::Target {
            return Ok(None);
        }
        let target = self.records.containers.find(&options.target_id)?;
        if target.sandbox != sandbox.id {
            let (target, sandbox) = (target.id.clone(), sandbox.id.clone());
            return Err(ContainerError::TargetElsewhere { target, sandbox });
        }
        let state = |state| ContainerError::WrongState {
            id: target.id.clone(),
            verb: "share the process namespace of",
            state,
            needed: "running",
        };
        if target.state != ContainerState::Running {
            return Err(state(target.state));
        }
        let path = PathBuf::from(format!("/proc/{}/ns/pid", target.pid));
        let held = File::open(&path).map_err(failed("open the process namespace", &path))?;
        // Looked at after it was opened: who is in the container's cgroup now was it then.
        if !is_in(target.pid, &target.id) {
            return Err(state(ContainerState::Exited));
        }
        Ok(Some(Target(held)))
    }
}

/// Whether this process is in the container's cgroup.
pub(super) fn is_in(pid: i32, id: &ContainerId) -> bool {
    let path = PathBuf::from(format!("/proc/{pid}/cgroup"));
    let cgroups = files::read(&path, CGROUPS_LIMIT, Links::Refuse).unwrap_or_default();
    String::from_utf8_lossy(&cgroups).contains(&format!("crio-{id}"))
}
