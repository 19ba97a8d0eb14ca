//! The process that is PID 1 of a pod's shared process namespace.
//!
//! It is run from the configured pause image where that is on this node and whole. Otherwise it is
//! the built-in program; never because the policy refuses the image, or because it does not run.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use crate::failure::chain;
use crate::runtime::Runtime;
use crate::sandbox::Parts;
use crate::sandbox::blocking;
use crate::sandbox::error::SandboxError;
use crate::sandbox::labels;
use crate::state::Infra;
use crate::state::SandboxRecord;
use crate::sys::namespace;
use crate::sys::pause;

/// As the kubelet gives a pod's own process: one of the last to be killed.
const OOM_SCORE: i32 = -998;

impl Parts {
    /// Starts it and pins its namespace, where the pod has one of its own.
    pub(super) async fn start_infra(
        self: &Arc<Self>,
        record: &SandboxRecord,
    ) -> Result<Option<Infra>, SandboxError> {
        let Some(pin) = record.namespaces.pid.clone() else { return Ok(None) };
        let pause = &self.settings.pause;
        let failed = |source| SandboxError::PauseImage { image: pause.image.clone(), source };
        if self.containers.is_here(pause).await.map_err(failed)? {
            let infra = self.containers.run_infra(record, pause, &pin).await;
            return infra.map(Some).map_err(failed);
        }
        let (parts, record) = (Arc::clone(self), record.clone());
        blocking(move || built_in(&record, &pin, &parts.runtime)).await.map(Some)
    }
}

/// Starts the built-in program in the pod's cgroup. Blocks.
fn built_in(record: &SandboxRecord, pin: &Path, runtime: &Runtime) -> Result<Infra, SandboxError> {
    let namespaces = &record.namespaces;
    let label = labels::of_mounts(record)?;
    let parent = record.config.cgroup_parent.clone();
    let mut enter = |pid: i32| {
        runtime
            .enter_pod_cgroup(&parent, &record.id, pid)
            .map_err(|error| std::io::Error::other(chain(&error)))
    };
    let running = pause::start(pause::Start {
        program: Path::new(pause::THIS_PROGRAM),
        name: record.id.as_str(),
        label: label.as_deref(),
        user: namespaces.user.as_deref(),
        oom_score_adj: Some(OOM_SCORE),
        net: namespaces.net.as_deref(),
        ipc: namespaces.ipc.as_deref(),
        uts: namespaces.uts.as_deref(),
        pin_pid_at: pin,
        before_run: &mut enter,
    })?;
    Ok(Infra { pid: running.pid, started: running.started })
}

/// Ends it, and with it every process of its namespace. Blocks.
pub(super) fn stop(record: &SandboxRecord, runtime: &Runtime) -> Result<(), SandboxError> {
    if let Some(infra) = &record.infra {
        let running = pause::Running { pid: infra.pid, started: infra.started };
        pause::stop(&running).map_err(|source| SandboxError::File {
            action: "stop the process that holds the process namespace",
            path: PathBuf::from(format!("/proc/{}", infra.pid)),
            source,
        })?;
    }
    if let Some(pin) = &record.namespaces.pid {
        // One that was started just before the daemon died is in no record, but in this cgroup.
        runtime.leave_pod_cgroup(&record.config.cgroup_parent, &record.id)?;
        namespace::unpin(pin)?;
    }
    Ok(())
}

/// Whether it still runs.
pub(super) fn is_alive(record: &SandboxRecord) -> bool {
    record.infra.is_none_or(|infra| {
        pause::is_alive(&pause::Running { pid: infra.pid, started: infra.started })
    })
}
