//! The cgroups of pods: their names in a spec, and that of a pod's own process.
//!
//! A pod's own process (the pause program) is no container of the runtime's, so its cgroup is made
//! here, beside those of the pod's containers and named like them.

use crate::model::ids::ContainerId;
use crate::model::ids::SandboxId;
use crate::runtime::Runtime;
use crate::runtime::error::RuntimeError;
use crate::sys::cgroup;
use crate::sys::cgroup::CgroupManager;

impl Runtime {
    /// What `linux.cgroupsPath` of a container's spec says.
    ///
    /// # Errors
    ///
    /// [`RuntimeError::PodCgroup`] for a parent of the other cgroup manager's kind.
    pub fn cgroups_path(&self, parent: &str, id: &ContainerId) -> Result<String, RuntimeError> {
        let manager = self.settings().cgroup_manager;
        cgroup::cgroups_path(manager, parent, id.as_str()).map_err(failed(parent))
    }

    /// Checks that the cgroup parent of a pod is one that our manager can use.
    ///
    /// # Errors
    ///
    /// [`RuntimeError::PodCgroup`].
    pub fn check_cgroup_parent(&self, parent: &str) -> Result<(), RuntimeError> {
        let manager = self.settings().cgroup_manager;
        cgroup::parent_path(manager, parent).map(|_| ()).map_err(failed(parent))
    }

    /// Moves a pod's own process into a cgroup made for it.
    ///
    /// # Errors
    ///
    /// [`RuntimeError::PodCgroup`], [`RuntimeError::Scope`].
    pub async fn enter_pod_cgroup(
        &self,
        parent: &str,
        id: &SandboxId,
        pid: i32,
    ) -> Result<(), RuntimeError> {
        let scope = |source| RuntimeError::Scope { id: id.to_string(), source };
        match self.settings().cgroup_manager {
            CgroupManager::Systemd => {
                let (slice, name) =
                    cgroup::container_scope(parent, id.as_str()).map_err(failed(parent))?;
                let pid = u32::try_from(pid).unwrap_or_default();
                let systemd = self.systemd().await.map_err(scope)?;
                systemd.start_scope(&slice, &name, pid).await.map_err(scope)
            }
            CgroupManager::Cgroupfs => {
                let path = self.pod_path(parent, id)?;
                let cgroups = self.cgroups().map_err(failed(parent))?;
                let entered = cgroups.create(&path).and_then(|()| cgroups.attach(&path, pid));
                entered.map_err(failed(parent))
            }
        }
    }

    /// Takes the cgroup of a pod's own process away, once that is gone. Gone already is fine.
    ///
    /// # Errors
    ///
    /// [`RuntimeError::PodCgroup`].
    pub async fn leave_pod_cgroup(&self, parent: &str, id: &SandboxId) -> Result<(), RuntimeError> {
        // systemd removes a scope itself when it is empty.
        if self.settings().cgroup_manager == CgroupManager::Systemd {
            return Ok(());
        }
        let path = self.pod_path(parent, id)?;
        let cgroups = self.cgroups().map_err(failed(parent))?;
        cgroups.remove(&path).await.map_err(failed(parent))
    }

    fn pod_path(&self, parent: &str, id: &SandboxId) -> Result<cgroup::CgroupPath, RuntimeError> {
        let manager = self.settings().cgroup_manager;
        cgroup::container_path(manager, parent, id.as_str()).map_err(failed(parent))
    }
}

fn failed(parent: &str) -> impl FnOnce(cgroup::CgroupError) -> RuntimeError {
    let parent = parent.to_owned();
    move |source| RuntimeError::PodCgroup { parent, source }
}
