//! The container that is a pod's own process: the first of its process namespace, run from the
//! configured pause image.
//!
//! It is made as any container is, and its image is judged as any image. It has the pod's id and no
//! rights, and no client is told of it.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use crate::container::Containers;
use crate::container::blocking;
use crate::container::error::ContainerError;
use crate::container::target;
use crate::model::change::Change;
use crate::model::container::ContainerConfig;
use crate::model::container::ContainerState;
use crate::model::container::ImageChoice;
use crate::model::ids::ContainerId;
use crate::model::ids::SandboxId;
use crate::model::in_flight::Stage;
use crate::model::names::ContainerMetadata;
use crate::model::resources::Resources;
use crate::model::security::CapabilityChanges;
use crate::model::security::NamespaceMode;
use crate::model::security::NamespaceOptions;
use crate::model::security::SecurityContext;
use crate::model::security::SecurityProfile;
use crate::state::ContainerRecord;
use crate::state::Infra;
use crate::state::SandboxRecord;
use crate::sys::pause;

/// The name that the kubelet's tools know it by.
const NAME: &str = "POD";
/// As the kubelet gives a pod's own process: one of the last to be killed.
const OOM_SCORE: i64 = -998;
/// The least there is: it waits.
const CPU_SHARES: i64 = 2;
/// What a container may not read and not write: the first stands for all that is usual.
const MASKED: &str = "/proc/kcore";
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What a pod's own process is run from.
#[derive(Debug, Clone)]
pub struct PauseImage {
    /// The image.
    pub image: String,
    /// The program in it; empty is the image's entrypoint.
    pub command: String,
}

impl Containers {
    /// Whether the pause image is on this node, and whole.
    ///
    /// # Errors
    ///
    /// [`ContainerError::Catalog`].
    pub async fn is_here(&self, pause: &PauseImage) -> Result<bool, ContainerError> {
        let (parts, image) = (self.parts(), pause.image.clone());
        blocking(move || Ok(parts.catalog.find(&image)?.is_some_and(|found| found.whole))).await
    }

    /// Runs the process of a sandbox that is being made, and pins its process namespace.
    ///
    /// # Errors
    ///
    /// [`ContainerError`] of the step that failed, as when the policy does not allow the image.
    /// [`Containers::stop_infra`] and [`Containers::remove_infra`] clear away what was made.
    pub async fn run_infra(
        &self,
        sandbox: &SandboxRecord,
        pause: &PauseImage,
        pin: &Path,
    ) -> Result<Infra, ContainerError> {
        let parts = self.parts();
        let config = config(sandbox, pause);
        let id = sandbox.id.of_infra();
        let name = config.metadata.full_name(&sandbox.config.metadata);
        parts.create(id.clone(), Arc::new(sandbox.clone()), name, config, Stage::default()).await?;
        let record = parts.records.containers.by_id(&id);
        let record = record.ok_or(ContainerError::Gone(id))?;
        let (pin, made) = (pin.to_owned(), Arc::clone(&record));
        // Before it starts: what the image has in it could end at once.
        let infra = blocking(move || held(made.pid, &made.id, pin)).await?;
        self.start(record.id.as_str()).await?;
        Ok(infra)
    }

    /// The container that is the process of a sandbox, where it has one.
    #[must_use]
    pub fn infra_of(&self, sandbox: &SandboxId) -> Option<Arc<ContainerRecord>> {
        self.parts().records.containers.by_id(&sandbox.of_infra())
    }

    /// Ends the process of a sandbox, and with it every process of its namespace. There is nothing
    /// in it to be asked first.
    ///
    /// # Errors
    ///
    /// As [`Containers::stop`].
    pub async fn stop_infra(&self, sandbox: &SandboxId) -> Result<(), ContainerError> {
        let stopped = self.parts().stop(&sandbox.of_infra(), std::time::Duration::ZERO).await;
        stopped.map(Change::value)
    }

    /// Removes what is left of the process of a sandbox.
    ///
    /// # Errors
    ///
    /// As [`Containers::remove`].
    pub async fn remove_infra(&self, sandbox: &SandboxId) -> Result<(), ContainerError> {
        self.take_away(&sandbox.of_infra()).await.map(Change::value)
    }
}

/// Pins the process namespace of the container's first process, if that is whose the number is.
fn held(pid: i32, id: &ContainerId, pin: PathBuf) -> Result<Infra, ContainerError> {
    let running = pause::adopt(pid, id.as_str(), &pin)?;
    // Looked at after it was pinned: who is in the container's cgroup now was it then.
    if !target::is_in(pid, id) || !pause::is_alive(&running) {
        return Err(ContainerError::WrongState {
            id: id.clone(),
            verb: "hold the process namespace of",
            state: ContainerState::Exited,
            needed: "created",
        });
    }
    Ok(Infra { pid: running.pid, started: running.started })
}

/// What is asked for in the name of the pod.
fn config(sandbox: &SandboxRecord, pause: &PauseImage) -> ContainerConfig {
    let pod = &sandbox.config;
    let mut config = ContainerConfig {
        metadata: ContainerMetadata { name: NAME.to_owned(), attempt: pod.metadata.attempt },
        image: ImageChoice {
            image: pause.image.clone(),
            user_specified: pause.image.clone(),
            handler: sandbox.handler.clone(),
            ..ImageChoice::default()
        },
        command: Some(&pause.command)
            .filter(|text| !text.is_empty())
            .cloned()
            .into_iter()
            .collect(),
        resources: Resources {
            cpu_shares: CPU_SHARES,
            oom_score_adj: OOM_SCORE,
            ..Resources::default()
        },
        security: security(&pod.security),
        ..ContainerConfig::default()
    };
    config.metadata.label(&mut config.labels, &pod.metadata);
    config
}

/// The pod's protections; of its rights none.
fn security(pod: &SecurityContext) -> SecurityContext {
    SecurityContext {
        namespaces: NamespaceOptions {
            pid: NamespaceMode::Container,
            target_id: String::new(),
            ..pod.namespaces.clone()
        },
        capabilities: CapabilityChanges {
            drop: vec!["ALL".to_owned()],
            ..CapabilityChanges::default()
        },
        readonly_rootfs: true,
        no_new_privs: true,
        masked_paths: vec![MASKED.to_owned()],
        readonly_paths: READ_ONLY.map(str::to_owned).to_vec(),
        seccomp: match &pod.seccomp {
            profile @ SecurityProfile::Localhost(_) => profile.clone(),
            // It needs nothing that the usual profile forbids.
            _ => SecurityProfile::RuntimeDefault,
        },
        apparmor: pod.apparmor.clone(),
        ..SecurityContext::default()
    }
}
