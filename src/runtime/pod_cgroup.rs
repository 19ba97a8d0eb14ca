//! Which cgroups a pod's containers and its own process are in.

use crate::model::ids::ContainerId;
use crate::model::ids::SandboxId;
use crate::runtime::Runtime;
use crate::runtime::error::RuntimeError;
use crate::sys::cgroup;
use crate::sys::cgroup::CgroupError;
use crate::sys::cgroup::CgroupManager;
use crate::sys::cgroup::CgroupPath;
use crate::sys::systemd::Scope;

impl Runtime {
    /// What a runtime spec says about a container's cgroup.
    ///
    /// # Errors
    ///
    /// [`RuntimeError::Cgroup`] for a parent of the other cgroup manager's kind.
    pub fn cgroups_path(&self, parent: &str, id: &ContainerId) -> Result<String, RuntimeError> {
        cgroup::cgroups_path(self.manager(), parent, id.as_str()).map_err(of(id.as_str()))
    }

    /// What a runtime spec would say about a pod's own cgroup, where its parent is of the kind that
    /// our cgroup manager takes.
    ///
    /// # Errors
    ///
    /// [`RuntimeError::Cgroup`].
    pub fn cgroups_path_of_pod(
        &self,
        parent: &str,
        id: &SandboxId,
    ) -> Result<String, RuntimeError> {
        cgroup::cgroups_path(self.manager(), parent, id.as_str()).map_err(of(id.as_str()))
    }

    /// Moves a process of the pod's own into the pod's cgroup, beside its containers'. Blocks: not
    /// for a thread that drives requests.
    ///
    /// # Errors
    ///
    /// [`RuntimeError::Cgroup`], [`RuntimeError::Scope`], [`RuntimeError::NoReactor`].
    pub fn enter_pod_cgroup(
        &self,
        parent: &str,
        id: &SandboxId,
        pid: i32,
    ) -> Result<(), RuntimeError> {
        let failed = of(id.as_str());
        let path = cgroup::container_path(self.manager(), parent, id.as_str()).map_err(&failed)?;
        if self.manager() == CgroupManager::Cgroupfs {
            let cgroups = self.cgroups().map_err(&failed)?;
            let entered = cgroups.create(&path).and_then(|()| cgroups.attach(&path, pid));
            return entered.map_err(&failed);
        }
        let (slice, name) = cgroup::scope(parent, "crio", id.as_str()).map_err(&failed)?;
        let scope = Scope { slice, name, pid, stop_signal: nix::libc::SIGTERM };
        let handle = reactor()?;
        handle
            .block_on(self.start_scope(&scope))
            .map_err(|source| RuntimeError::Scope { id: id.to_string(), source: Box::new(source) })
    }

    /// Removes the cgroup that [`Runtime::enter_pod_cgroup`] made, and kills what is still in it.
    /// Blocks: not for a thread that drives requests.
    ///
    /// # Errors
    ///
    /// [`RuntimeError::Cgroup`], [`RuntimeError::NoReactor`].
    pub fn leave_pod_cgroup(&self, parent: &str, id: &SandboxId) -> Result<(), RuntimeError> {
        let failed = of(id.as_str());
        let path = cgroup::container_path(self.manager(), parent, id.as_str()).map_err(&failed)?;
        let cgroups = self.cgroups().map_err(&failed)?;
        cgroups.kill(&path).map_err(&failed)?;
        if self.manager() == CgroupManager::Systemd {
            // systemd removes a scope itself when it is empty.
            return Ok(());
        }
        reactor()?.block_on(cgroups.remove(&path)).map_err(&failed)
    }

    /// Makes an empty cgroup for a pod that has no process of its own. By its name cAdvisor, and so a
    /// kubelet on this socket, finds the pod, asks the socket whose it is, and counts its network; it
    /// counts none by the cgroups of containers. A pod without a parent gets none, as with CRI-O. Blocks.
    ///
    /// # Errors
    ///
    /// [`RuntimeError::Cgroup`].
    pub fn mark_pod(&self, parent: &str, id: &SandboxId) -> Result<(), RuntimeError> {
        if parent.is_empty() {
            return Ok(());
        }
        let failed = of(id.as_str());
        let path = self.mark(parent, id).map_err(&failed)?;
        self.cgroups().and_then(|cgroups| cgroups.create(&path)).map_err(&failed)
    }

    /// Removes the cgroup that [`Runtime::mark_pod`] made. Blocks: not for a thread that drives
    /// requests.
    ///
    /// # Errors
    ///
    /// [`RuntimeError::Cgroup`], [`RuntimeError::NoReactor`].
    pub fn unmark_pod(&self, parent: &str, id: &SandboxId) -> Result<(), RuntimeError> {
        if parent.is_empty() {
            return Ok(());
        }
        let failed = of(id.as_str());
        let path = self.mark(parent, id).map_err(&failed)?;
        let cgroups = self.cgroups().map_err(&failed)?;
        reactor()?.block_on(cgroups.remove(&path)).map_err(&failed)
    }

    /// No scope, with either cgroup manager: systemd would not keep an empty one.
    fn mark(&self, parent: &str, id: &SandboxId) -> Result<CgroupPath, CgroupError> {
        let parent = cgroup::parent_path(self.manager(), parent)?;
        Ok(parent.join(&cgroup::container_name(CgroupManager::Cgroupfs, id.as_str())))
    }

    /// How much memory a container uses now, in bytes, the page cache included: what the kernel holds
    /// against its limit. `None` where nobody counts it.
    ///
    /// # Errors
    ///
    /// [`RuntimeError::Cgroup`].
    pub fn memory_in_use(
        &self,
        parent: &str,
        id: &ContainerId,
    ) -> Result<Option<u64>, RuntimeError> {
        let failed = of(id.as_str());
        let path = cgroup::container_path(self.manager(), parent, id.as_str()).map_err(&failed)?;
        let cgroups = self.cgroups().map_err(&failed)?;
        let group = cgroups.group(&path);
        let v2 = group.number("memory", "memory.current");
        Ok(v2.or_else(|| group.number("memory", "memory.usage_in_bytes")))
    }

    /// Whether a container's processes are frozen.
    ///
    /// # Errors
    ///
    /// [`RuntimeError::Cgroup`].
    pub fn is_frozen(&self, parent: &str, id: &ContainerId) -> Result<bool, RuntimeError> {
        let failed = of(id.as_str());
        let path = cgroup::container_path(self.manager(), parent, id.as_str()).map_err(&failed)?;
        Ok(self.cgroups().map_err(&failed)?.group(&path).is_frozen())
    }

    fn manager(&self) -> CgroupManager {
        self.settings().cgroup_manager
    }
}

pub(super) fn of(id: &str) -> impl Fn(CgroupError) -> RuntimeError {
    move |source| RuntimeError::Cgroup { id: id.to_owned(), source }
}

fn reactor() -> Result<tokio::runtime::Handle, RuntimeError> {
    tokio::runtime::Handle::try_current().map_err(|source| RuntimeError::NoReactor { source })
}
