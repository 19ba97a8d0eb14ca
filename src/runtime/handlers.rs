//! What the administrator says about runtimes: the handlers, and what they share.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use crate::runtime::error::RuntimeError;
use crate::sys::cgroup::CgroupManager;

/// What all runtime handlers share.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The handlers by name.
    pub handlers: BTreeMap<String, Handler>,
    /// The handler for a pod that names none.
    pub default_handler: String,
    /// Where monitors leave a file for each container that ended.
    pub exits_dir: PathBuf,
    /// Where monitors make their attach sockets.
    pub attach_dir: PathBuf,
    /// Who makes cgroups.
    pub cgroup_manager: CgroupManager,
    /// The size at which a container's log starts anew.
    pub log_size_max: Option<u64>,
    /// Do not use `pivot_root` (for a root that is a ramdisk).
    pub no_pivot: bool,
    /// Logs go to the journal as well.
    pub journald: bool,
}

/// A named way to run containers.
#[derive(Debug, Clone)]
pub struct Handler {
    /// The runtime's program.
    pub runtime_path: PathBuf,
    /// Where it keeps its state.
    pub runtime_root: PathBuf,
    /// The monitor's program.
    pub monitor_path: PathBuf,
    /// Where the monitor's cgroup is: `pod` for the pod's, the name of a slice, or empty for
    /// `system.slice`. With the cgroupfs manager it is the pod's in any case.
    pub monitor_cgroup: String,
    /// The environment of the monitor, which the runtime inherits.
    pub monitor_env: Vec<(String, String)>,
    /// How long the creation of a container may take.
    pub create_timeout: Duration,
    /// Do not flush the log to disk when a container ends.
    pub no_sync_log: bool,
}

impl Settings {
    /// Checks that the programs are there. A handler whose runtime is not installed is dropped,
    /// which is said in the log: a configuration may name more than a node has.
    ///
    /// # Errors
    ///
    /// [`RuntimeError::UnknownHandler`] and [`RuntimeError::Program`] for the default handler.
    pub(crate) fn checked(mut self) -> Result<Self, RuntimeError> {
        let default = self.default_handler.clone();
        let mut missing = Vec::new();
        for (name, handler) in &self.handlers {
            for path in [&handler.runtime_path, &handler.monitor_path] {
                let Err(source) = runnable(path) else { continue };
                if *name == default {
                    let (handler, path) = (name.clone(), path.to_owned());
                    return Err(RuntimeError::Program { handler, path, source });
                }
                tracing::warn!(handler = name, path = %path.display(), error = %source,
                    "runtime handler left out: its program cannot be run");
                missing.push(name.clone());
            }
        }
        for name in missing {
            self.handlers.remove(&name);
        }
        if self.handlers.contains_key(&default) {
            Ok(self)
        } else {
            Err(RuntimeError::UnknownHandler { name: default })
        }
    }
}

fn runnable(path: &Path) -> io::Result<()> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 {
        Ok(())
    } else {
        Err(io::ErrorKind::PermissionDenied.into())
    }
}
