//! The process that is PID 1 of a pod's shared process namespace. Blocks.

use std::path::Path;
use std::path::PathBuf;

use crate::failure::chain;
use crate::runtime::Runtime;
use crate::sandbox::error::SandboxError;
use crate::sandbox::labels;
use crate::state::Infra;
use crate::state::SandboxRecord;
use crate::sys::namespace;
use crate::sys::pause;

/// As the kubelet gives a pod's own process: one of the last to be killed.
const OOM_SCORE: i32 = -998;

/// Starts it in the pod's cgroup and pins its namespace, where the pod has one of its own.
pub(super) fn start(
    record: &SandboxRecord,
    runtime: &Runtime,
) -> Result<Option<Infra>, SandboxError> {
    let namespaces = &record.namespaces;
    let Some(pin) = &namespaces.pid else { return Ok(None) };
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
    Ok(Some(Infra { pid: running.pid, started: running.started }))
}

/// Ends it, and with it every process of its namespace.
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
