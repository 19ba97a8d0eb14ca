//! The process that is PID 1 of a pod's shared process namespace.
//!
//! It is run from the pause image that the configuration names, which is pulled if need be, or from
//! the default one where that is on this node and whole. Otherwise it is the built-in program; never
//! because the policy refuses the image, or because it cannot be had or does not run.

use std::fmt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::container::ContainerError;
use crate::failure::chain;
use crate::model::names::SandboxMetadata;
use crate::model::sandbox::SandboxConfig;
use crate::model::security::NamespaceMode;
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

/// Brings the pause image onto the node.
pub trait PauseSource: fmt::Debug + Send + Sync {
    /// Pulls it as for this pod, whose namespace may have a policy of its own.
    ///
    /// # Errors
    ///
    /// [`SandboxError::PausePull`].
    fn pull<'a>(&'a self, pod: &SandboxMetadata) -> BoxFuture<'a, Result<(), SandboxError>>;
}

impl Parts {
    /// Whether a pod has a process of its own.
    pub(super) fn needs_process(&self, config: &SandboxConfig) -> bool {
        self.settings.always_infra || config.security.namespaces.pid == NamespaceMode::Pod
    }

    /// Pulls the pause image, where one must be used that is not here.
    pub(super) async fn bring_pause(&self, pod: &SandboxMetadata) -> Result<(), SandboxError> {
        let Some(source) = &self.pause else { return Ok(()) };
        if self.is_pause_here().await? {
            return Ok(());
        }
        source.pull(pod).await
    }

    async fn is_pause_here(&self) -> Result<bool, SandboxError> {
        let pause = &self.settings.pause;
        self.containers.is_here(pause).await.map_err(|source| self.no_pause(source))
    }

    fn no_pause(&self, source: ContainerError) -> SandboxError {
        SandboxError::PauseImage { image: self.settings.pause.image.clone(), source }
    }

    /// Starts it and pins its namespace, where the pod has one of its own.
    pub(super) async fn start_infra(
        self: &Arc<Self>,
        record: &SandboxRecord,
    ) -> Result<Option<Infra>, SandboxError> {
        let Some(pin) = record.namespaces.pid.clone() else { return Ok(None) };
        // One that must be used and went meanwhile is missed by name.
        if self.pause.is_some() || self.is_pause_here().await? {
            let infra = self.containers.run_infra(record, &self.settings.pause, &pin).await;
            return infra.map(Some).map_err(|source| self.no_pause(source));
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
    } else {
        runtime.unmark_pod(&record.config.cgroup_parent, &record.id)?;
    }
    Ok(())
}

/// Whether it still runs.
pub(super) fn is_alive(record: &SandboxRecord) -> bool {
    record.infra.is_none_or(|infra| {
        pause::is_alive(&pause::Running { pid: infra.pid, started: infra.started })
    })
}
