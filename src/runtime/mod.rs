//! Runs containers: the only code that knows runc and conmon.
//!
//! Each container has a monitor, conmon, which outlives this program: it holds the container's
//! streams, writes the log and leaves the exit code in a file. The runtime, runc or its like, is a
//! program that is asked for one thing and ends. So nothing here is held in memory; after a
//! restart the same questions have the same answers.
//!
//! What every verb promises: it may be asked again, it bounds what it reads, and a request that is
//! given up kills what it had started.
//!
//! Not here: what is in a bundle (`spec`, `storage`), what a container is to a pod (`container`).

mod attach;
mod command;
mod control;
mod error;
mod exec;
mod exec_sync;
mod exit_file;
mod features;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod handlers;
mod log;
mod monitor;
mod pod_cgroup;
mod runc;
mod usage;

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

pub use crate::runtime::attach::Attach;
pub use crate::runtime::attach::Stdin;
pub use crate::runtime::command::Exec;
pub use crate::runtime::error::RuntimeError;
pub use crate::runtime::exec_sync::Executed;
pub use crate::runtime::exit_file::Exit;
pub use crate::runtime::features::Features;
pub use crate::runtime::handlers::Handler;
pub use crate::runtime::handlers::Settings;
pub use crate::runtime::monitor::Create;
pub use crate::runtime::monitor::Created;
pub use crate::runtime::runc::RuntimeState;
pub use crate::runtime::runc::Status;
pub use crate::runtime::usage::Meter;
pub use crate::sys::cgroup::CgroupManager;

use crate::sys::cgroup::CgroupError;
use crate::sys::cgroup::Cgroups;
use crate::sys::systemd::Scope;
use crate::sys::systemd::Systemd;
use crate::sys::systemd::SystemdError;

/// The runtimes of this node and their monitors.
#[derive(Debug, Clone)]
pub struct Runtime {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: Settings,
    exec_directory: PathBuf,
    systemd: Arc<tokio::sync::Mutex<Option<Systemd>>>,
}

impl Runtime {
    /// Checks the settings and makes the directories that monitors use.
    ///
    /// # Errors
    ///
    /// [`RuntimeError::UnknownHandler`] and [`RuntimeError::Program`] when the default handler
    /// cannot work, [`RuntimeError::File`].
    pub fn new(settings: Settings) -> Result<Self, RuntimeError> {
        let settings = settings.checked()?;
        let exec_directory = settings.attach_dir.join("exec");
        // What commands of an earlier life left when it was killed.
        crate::sys::files::remove_tree(&exec_directory)
            .map_err(|source| file(&exec_directory, source))?;
        for path in [&settings.exits_dir, &settings.attach_dir, &exec_directory] {
            std::fs::create_dir_all(path).map_err(|source| file(path, source))?;
        }
        // What commands are run with is nobody else's business.
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&exec_directory, private)
            .map_err(|source| file(&exec_directory, source))?;
        let systemd = Arc::default();
        Ok(Self { shared: Arc::new(Shared { settings, exec_directory, systemd }) })
    }

    /// The same with other settings, for what begins from now on. Where monitors leave their files stays.
    ///
    /// # Errors
    ///
    /// [`RuntimeError::UnknownHandler`] and [`RuntimeError::Program`] when the default handler
    /// cannot work.
    pub fn with(&self, settings: Settings) -> Result<Self, RuntimeError> {
        let settings = settings.checked()?;
        let exec_directory = self.shared.exec_directory.clone();
        let systemd = Arc::clone(&self.shared.systemd);
        Ok(Self { shared: Arc::new(Shared { settings, exec_directory, systemd }) })
    }

    /// Where the runtime of a handler keeps its state; `None` where there is no such handler.
    #[must_use]
    pub fn state_root(&self, handler: &str) -> Option<&Path> {
        Some(self.handler(handler).ok()?.runtime_root.as_path())
    }

    /// Whether there is a runtime handler of this name; the empty name means the default.
    #[must_use]
    pub fn has_handler(&self, name: &str) -> bool {
        self.handler(name).is_ok()
    }

    /// The names of the runtime handlers that can be used, the default among them.
    #[must_use]
    pub fn handlers(&self) -> Vec<String> {
        self.settings().handlers.keys().cloned().collect()
    }

    /// The name of the default handler.
    #[must_use]
    pub fn default_handler(&self) -> &str {
        &self.settings().default_handler
    }

    fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    fn exec_directory(&self) -> &Path {
        &self.shared.exec_directory
    }

    fn handler(&self, name: &str) -> Result<&Handler, RuntimeError> {
        let name = if name.is_empty() { self.default_handler() } else { name };
        let unknown = || RuntimeError::UnknownHandler { name: name.chars().take(256).collect() };
        self.settings().handlers.get(name).ok_or_else(unknown)
    }

    /// Read anew each time: it takes microseconds, and mounts may change.
    fn cgroups(&self) -> Result<Cgroups, CgroupError> {
        Cgroups::mounted()
    }

    /// Asks systemd for a scope. The connection is made when it is first needed, and once more
    /// when it turns out to be cut: the bus may have been restarted.
    async fn start_scope(&self, scope: &Scope) -> Result<(), SystemdError> {
        // Not held while systemd works: pods start side by side.
        let known = self.shared.systemd.lock().await.clone();
        if let Some(systemd) = known {
            match systemd.start_scope(scope).await {
                Err(error) if error.is_cut() => {}
                answer => return answer,
            }
        }
        let systemd = Systemd::connect().await?;
        *self.shared.systemd.lock().await = Some(systemd.clone());
        systemd.start_scope(scope).await
    }
}

fn file(path: &Path, source: std::io::Error) -> RuntimeError {
    RuntimeError::File { path: path.to_owned(), source }
}
