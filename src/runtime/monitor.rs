//! Creates containers below a monitor: conmon, by its exact protocol.
//!
//! The order is the protocol's. The monitor is started and waits for a byte on its start pipe;
//! meanwhile it is moved to a cgroup of its own, so that a stop of our service does not find it.
//! With the byte it forks away from us; what we started ends. The fork has the runtime create the
//! container and says on the sync pipe which process it is, or why there is none.
//!
//! A creation that fails, takes too long or is given up leaves nothing: no monitor, no container,
//! no cgroup, no file outside the bundle.

use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;

use serde::Deserialize;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;

use crate::model::ids::ContainerId;
use crate::runtime::Runtime;
use crate::runtime::error::RuntimeError;
use crate::runtime::handlers::Handler;
use crate::runtime::runc;
use crate::sys::cgroup;
use crate::sys::cgroup::CgroupManager;
use crate::sys::files;
use crate::sys::process::Command;
use crate::sys::process::readable;
use crate::sys::process::started;
use crate::sys::systemd::Scope;

/// conmon's answer: a number, and at most 8 KiB of the runtime's words, escaped.
const ANSWER_LIMIT: u64 = 64 * 1024;

/// How much a monitor tells the system's log.
const LOG_LEVEL: &str = "info";

/// The slice of monitors that have none configured, as systemd's own services have.
const NODE_SLICE: &str = "system.slice";

/// A container to create.
#[derive(Debug, Clone)]
pub struct Create {
    /// Its id.
    pub id: ContainerId,
    /// Its name, for the monitor's messages.
    pub name: String,
    /// The runtime handler.
    pub handler: String,
    /// The directory with `config.json`; the monitor's files go there.
    pub bundle: PathBuf,
    /// Where the monitor leaves the exit code for good.
    pub persist_dir: PathBuf,
    /// The log.
    pub log: PathBuf,
    /// Whether its three streams are a terminal.
    pub tty: bool,
    /// Whether it has a standard input.
    pub stdin: bool,
    /// Whether that ends when its first client goes.
    pub stdin_once: bool,
    /// The pod's cgroup, as the kubelet names it.
    pub cgroup_parent: String,
}

/// A container that was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Created {
    /// Its first process.
    pub pid: i32,
    /// When that was started, in clock ticks since boot: with the number it names one process.
    pub started: u64,
    /// Its monitor.
    pub monitor_pid: i32,
    /// When the monitor was started.
    pub monitor_started: u64,
}

#[derive(Deserialize)]
struct Answer {
    pid: i32,
    #[serde(default)]
    message: String,
}

/// Our ends of the pipes to a monitor, and its own.
struct Pipes {
    start: UnixStream,
    sync: UnixStream,
    its_start: OwnedFd,
    its_sync: OwnedFd,
}

impl Runtime {
    /// Creates a container below a monitor of its own. It waits to be started.
    ///
    /// # Errors
    ///
    /// [`RuntimeError`]; nothing is left then. When this future is dropped, what is there is
    /// cleared away in the background.
    pub async fn create(&self, request: Create) -> Result<Created, RuntimeError> {
        let handler = self.handler(&request.handler)?.clone();
        let undo = Undo { runtime: self.clone(), request: Some(request.clone()) };
        let seconds = handler.create_timeout.as_secs();
        let created =
            tokio::time::timeout(handler.create_timeout, self.monitored(&request, &handler)).await;
        let id = request.id.to_string();
        match created.unwrap_or(Err(RuntimeError::CreateTimeout { id, seconds })) {
            Ok(created) => {
                undo.forget();
                Ok(created)
            }
            Err(error) => {
                undo.now().await;
                Err(error)
            }
        }
    }

    async fn monitored(
        &self,
        request: &Create,
        handler: &Handler,
    ) -> Result<Created, RuntimeError> {
        let id = &request.id;
        let pipe = |source| RuntimeError::MonitorPipe { id: id.to_string(), source };
        let Pipes { mut start, sync, its_start, its_sync } = pipes().map_err(pipe)?;
        let command = self.conmon(request, handler, its_start, its_sync);
        let mut child = command
            .spawn(Stdio::null(), Stdio::null(), Stdio::piped())
            .map_err(|source| RuntimeError::StartMonitor { id: id.to_string(), source })?;
        let pid = child.pid().unwrap_or_default();
        self.give_cgroup(id, handler, &request.cgroup_parent, pid).await?;
        start.write_all(&[0]).await.map_err(pipe)?;

        let stderr = child.take_stderr().map(pipe::Receiver::from_owned_fd);
        let mut said = Vec::new();
        if let Some(stderr) = stderr.transpose().map_err(pipe)? {
            // What forks away closes its end, so this ends; a fault in it must not stop the rest.
            let _ = stderr.take(ANSWER_LIMIT).read_to_end(&mut said).await;
        }
        let exit = child.wait().await.map_err(pipe)?;
        if !exit.is_success() {
            let said = readable(&said);
            return Err(RuntimeError::MonitorEnded { id: id.to_string(), exit, said });
        }
        let answer = answer(sync, id).await?;
        if answer.pid <= 0 {
            let said = runc::said(answer.message.as_bytes());
            return Err(RuntimeError::Create { id: id.to_string(), said });
        }
        let gone = |fault| RuntimeError::MonitorAnswer { id: id.to_string(), fault };
        let monitor_pid = pid_in(&request.bundle, "conmon-pidfile")
            .ok_or_else(|| gone("it left no number of its own"))?;
        let started_at = |pid| started(pid).map_err(|_| gone("a process it named is gone"));
        Ok(Created {
            pid: answer.pid,
            started: started_at(answer.pid)?,
            monitor_pid,
            monitor_started: started_at(monitor_pid)?,
        })
    }

    /// conmon's command line (`conmon(8)`), in the order and with the words that CRI-O uses.
    fn conmon(
        &self,
        request: &Create,
        handler: &Handler,
        its_start: OwnedFd,
        its_sync: OwnedFd,
    ) -> Command {
        let settings = self.settings();
        let (id, bundle) = (request.id.as_str(), &request.bundle);
        let mut root = std::ffi::OsString::from("--root=");
        root.push(&handler.runtime_root);
        let mut command = Command::new(&handler.monitor_path).directory(bundle);
        for (name, value) in &handler.monitor_env {
            command = command.env(name, value);
        }
        command = command.env("CRI_O_EXTERNAL", "1").env("PATH", runc::path_variable());
        if let Some(directory) = std::env::var_os("XDG_RUNTIME_DIR") {
            command = command.env("XDG_RUNTIME_DIR", directory);
        }
        // conmon reads the numbers of its pipes from these.
        command = command
            .env("_OCI_SYNCPIPE", its_sync.as_raw_fd().to_string())
            .env("_OCI_STARTPIPE", its_start.as_raw_fd().to_string())
            .inherit(its_sync)
            .inherit(its_start);
        command = command.arg("-b").arg(bundle).args(["-c", id]);
        command = command.arg("--exit-dir").arg(&settings.exits_dir);
        command = command.arg("-l").arg(&request.log);
        command = command.args(["--log-level", LOG_LEVEL, "-n", &request.name]);
        command = command.arg("-P").arg(bundle.join("conmon-pidfile"));
        command = command.arg("-p").arg(bundle.join("pidfile"));
        command = command.arg("--persist-dir").arg(&request.persist_dir);
        command = command.arg("-r").arg(&handler.runtime_path);
        command = command.arg("--runtime-arg").arg(root);
        command = command.arg("--socket-dir-path").arg(&settings.attach_dir);
        command = command.args(["--syslog", "-u", id]);
        if settings.cgroup_manager == CgroupManager::Systemd {
            command = command.arg("-s");
        }
        if let Some(size) = settings.log_size_max {
            command = command.args(["--log-size-max", &size.to_string()]);
        }
        if handler.no_sync_log {
            command = command.arg("--no-sync-log");
        }
        if settings.journald {
            command = command.args(["--log-path", "journald:"]);
        }
        if settings.no_pivot {
            command = command.arg("--no-pivot");
        }
        command.args(match (request.tty, request.stdin, request.stdin_once) {
            (true, ..) => &["-t"][..],
            (false, false, _) => &[],
            (false, true, true) => &["-i"],
            (false, true, false) => &["--leave-stdin-open", "-i"],
        })
    }

    /// Moves a monitor out of our own cgroup: a service manager that stops us by cgroup must not
    /// find it.
    async fn give_cgroup(
        &self,
        id: &ContainerId,
        handler: &Handler,
        parent: &str,
        pid: i32,
    ) -> Result<(), RuntimeError> {
        let failed = |source| RuntimeError::Cgroup { id: id.to_string(), source };
        let manager = self.settings().cgroup_manager;
        let name = handler.monitor_cgroup.as_str();
        match (manager, name) {
            (CgroupManager::Cgroupfs, "" | "pod") => {
                let path = cgroup::monitor_path(parent, id.as_str()).map_err(failed)?;
                let cgroups = self.cgroups().map_err(failed)?;
                cgroups.create(&path).and_then(|()| cgroups.attach(&path, pid)).map_err(failed)
            }
            (CgroupManager::Systemd, _) if scoped_in(name, parent).is_some() => {
                let slice = scoped_in(name, parent).unwrap_or(NODE_SLICE);
                let (slice, name) =
                    cgroup::scope(slice, "crio-conmon", id.as_str()).map_err(failed)?;
                // conmon ignores SIGPIPE: it is to see its container's end when the machine stops.
                let stop_signal = nix::libc::SIGPIPE;
                self.start_scope(&Scope { slice, name, pid, stop_signal }).await.map_err(|source| {
                    RuntimeError::Scope { id: id.to_string(), source: Box::new(source) }
                })
            }
            _ => Err(RuntimeError::MonitorCgroup { name: name.to_owned(), manager }),
        }
    }

    /// Takes away what a container's monitor had outside the bundle: its cgroup, its way to the
    /// attach socket, its exit file. For a container that the runtime has forgotten.
    ///
    /// # Errors
    ///
    /// [`RuntimeError::Cgroup`], [`RuntimeError::File`].
    pub async fn forget(&self, id: &ContainerId, cgroup_parent: &str) -> Result<(), RuntimeError> {
        let link = self.settings().attach_dir.join(id.as_str());
        files::remove(&link).map_err(|source| RuntimeError::File { path: link, source })?;
        self.remove_exit_event(id)?;
        // systemd removes a scope itself when it is empty.
        if self.settings().cgroup_manager == CgroupManager::Systemd {
            return Ok(());
        }
        let failed = |source| RuntimeError::Cgroup { id: id.to_string(), source };
        let path = cgroup::monitor_path(cgroup_parent, id.as_str()).map_err(failed)?;
        self.cgroups().map_err(failed)?.remove(&path).await.map_err(failed)
    }

    /// Clears away a container whose creation did not come to its end.
    async fn clear(&self, request: &Create) {
        let Create { id, handler, bundle, cgroup_parent, .. } = request;
        let _ = files::remove(&request.persist_dir.join("exit"));
        let _ = files::remove(&request.log);
        // The caller is told why the creation failed; what is left is told here.
        if let Err(error) = self.abandon(id, handler, bundle, cgroup_parent).await {
            tracing::warn!(container = %id, error = crate::failure::chain(&error),
                "a container that could not be created is not cleared away");
        }
    }

    /// Ends a container whose creation did not come to its end, here or in a daemon before us: its
    /// monitor, what the runtime keeps of it, its cgroups. All steps are tried.
    ///
    /// # Errors
    ///
    /// [`RuntimeError`] of the first step that failed.
    pub async fn abandon(
        &self,
        id: &ContainerId,
        handler: &str,
        bundle: &Path,
        cgroup_parent: &str,
    ) -> Result<(), RuntimeError> {
        if let Some(pid) = pid_in(bundle, "conmon-pidfile") {
            kill_monitor(pid, id).await;
        }
        // One that has not forked yet has written no number; its runtime dies with it.
        let ended = self.empty_monitor_cgroup(id, cgroup_parent);
        let deleted = self.delete(handler, id).await;
        let emptied = self.empty_cgroup(id, cgroup_parent).await;
        let forgotten = self.forget(id, cgroup_parent).await;
        ended.and(deleted.map(|_| ())).and(emptied).and(forgotten)
    }

    fn empty_monitor_cgroup(&self, id: &ContainerId, parent: &str) -> Result<(), RuntimeError> {
        if self.settings().cgroup_manager == CgroupManager::Systemd {
            return Ok(());
        }
        let failed = |source| RuntimeError::Cgroup { id: id.to_string(), source };
        let monitor = cgroup::monitor_path(parent, id.as_str()).map_err(failed)?;
        self.cgroups().and_then(|cgroups| cgroups.kill(&monitor)).map_err(failed)
    }

    /// Kills what is in the cgroup of a container, and removes it. A runtime that was killed early
    /// knows nothing of the cgroup it made.
    async fn empty_cgroup(&self, id: &ContainerId, parent: &str) -> Result<(), RuntimeError> {
        let failed = |source| RuntimeError::Cgroup { id: id.to_string(), source };
        let manager = self.settings().cgroup_manager;
        let cgroups = self.cgroups().map_err(failed)?;
        let container = cgroup::container_path(manager, parent, id.as_str()).map_err(failed)?;
        cgroups.kill(&container).map_err(failed)?;
        cgroups.remove(&container).await.map_err(failed)
    }
}

/// Clears a creation away unless it came to its end, also when the future is dropped.
struct Undo {
    runtime: Runtime,
    request: Option<Create>,
}

impl Undo {
    fn forget(mut self) {
        self.request = None;
    }

    async fn now(mut self) {
        if let Some(request) = self.request.take() {
            self.runtime.clear(&request).await;
        }
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        let (runtime, request) = (self.runtime.clone(), self.request.take());
        if let (Some(request), Ok(handle)) = (request, tokio::runtime::Handle::try_current()) {
            handle.spawn(async move { runtime.clear(&request).await });
        }
    }
}

/// The parent that the setting for monitors' cgroups means, if it fits systemd.
fn scoped_in<'a>(setting: &'a str, parent: &'a str) -> Option<&'a str> {
    match setting {
        "" => Some(NODE_SLICE),
        "pod" => Some(parent),
        slice => slice.ends_with(".slice").then_some(slice),
    }
}

fn pipes() -> io::Result<Pipes> {
    let (start, its_start) = std::os::unix::net::UnixStream::pair()?;
    let (sync, its_sync) = std::os::unix::net::UnixStream::pair()?;
    start.set_nonblocking(true)?;
    sync.set_nonblocking(true)?;
    Ok(Pipes {
        start: UnixStream::from_std(start)?,
        sync: UnixStream::from_std(sync)?,
        its_start: its_start.into(),
        its_sync: its_sync.into(),
    })
}

/// Reads one line of JSON from a monitor, bounded; the time is the caller's business.
async fn answer(sync: UnixStream, id: &ContainerId) -> Result<Answer, RuntimeError> {
    let fault = |fault| RuntimeError::MonitorAnswer { id: id.to_string(), fault };
    let mut sync = sync.take(ANSWER_LIMIT);
    let mut bytes = Vec::new();
    while !bytes.contains(&b'\n') {
        match sync.read_buf(&mut bytes).await {
            Ok(0) => break,
            Ok(_) => {}
            Err(source) => {
                return Err(RuntimeError::MonitorPipe { id: id.to_string(), source });
            }
        }
    }
    if bytes.is_empty() {
        return Err(fault("it ended without a word"));
    }
    // It passes the runtime's bytes on: some may be no UTF-8 or control characters.
    let text = String::from_utf8_lossy(&bytes).replace(|c: char| c.is_control(), " ");
    serde_json::from_str(&text).map_err(|_| fault("it is not the JSON that conmon writes"))
}

/// The process number in a file of the bundle.
fn pid_in(bundle: &Path, name: &str) -> Option<i32> {
    let bytes = files::read(&bundle.join(name), 32, files::Links::Refuse).ok()?;
    std::str::from_utf8(&bytes).ok()?.trim().parse().ok().filter(|pid| *pid > 1)
}

/// Kills a monitor that forked away from us, and waits for its end. The runtime that it may be
/// waiting for dies with it (conmon sets `PR_SET_PDEATHSIG`).
async fn kill_monitor(pid: i32, id: &ContainerId) {
    let Ok(monitor) = crate::sys::process::Stranger::open(pid) else { return };
    // The number is from a file: it must be this container's monitor, not whoever has it now.
    if monitor.has_argument(id.as_str()) {
        monitor.kill().await;
    }
}
