//! What the runtime or its monitor could not do.

use std::io;
use std::path::PathBuf;

use crate::failure::Classify;
use crate::failure::Kind;
use crate::failure::io_kind;
use crate::sys::cgroup::CgroupError;
use crate::sys::process::ProcessError;
use crate::sys::systemd::SystemdError;

/// What the runtime or its monitor could not do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// There is no runtime handler of this name.
    #[error("there is no runtime handler {name:?}")]
    UnknownHandler {
        /// The name.
        name: String,
    },
    /// A program that a handler needs is not there, or cannot be run.
    #[error("{} of runtime handler {handler:?} is no program that can be run", path.display())]
    Program {
        /// The handler.
        handler: String,
        /// The program.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// A directory or file of ours cannot be used.
    #[error("cannot use {}", path.display())]
    File {
        /// The directory or file.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// The monitor of a container cannot be started.
    #[error("cannot start the monitor of container {id}")]
    StartMonitor {
        /// The container.
        id: String,
        /// Why.
        #[source]
        source: ProcessError,
    },
    /// The monitor ended before it had forked away.
    #[error("the monitor of container {id} ended with {exit}: {said}")]
    MonitorEnded {
        /// The container.
        id: String,
        /// How it ended.
        exit: crate::sys::process::Exit,
        /// What it wrote to its standard error stream.
        said: String,
    },
    /// The monitor said nothing, or nothing that can be read.
    #[error("the monitor of container {id} gave no answer that can be read ({fault})")]
    MonitorAnswer {
        /// The container.
        id: String,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// Pipes to the monitor cannot be made or used.
    #[error("cannot speak to the monitor of container {id}")]
    MonitorPipe {
        /// The container.
        id: String,
        /// What the kernel says.
        source: io::Error,
    },
    /// The setting for the monitor's cgroup does not fit the cgroup manager.
    #[error("monitor_cgroup {name:?} does not fit the {manager} cgroup manager")]
    MonitorCgroup {
        /// The setting.
        name: String,
        /// The cgroup manager.
        manager: crate::sys::cgroup::CgroupManager,
    },
    /// The cgroup of a container, its monitor or its pod is at fault.
    #[error("cannot use the cgroup of {id}")]
    Cgroup {
        /// The container or the pod.
        id: String,
        /// Why.
        #[source]
        source: CgroupError,
    },
    /// systemd gives no scope.
    #[error("cannot have a scope for {id}")]
    Scope {
        /// The container or the pod.
        id: String,
        /// Why.
        #[source]
        source: Box<SystemdError>,
    },
    /// The runtime did not create the container.
    #[error("the runtime did not create container {id}: {said}")]
    Create {
        /// The container.
        id: String,
        /// What the runtime said.
        said: String,
    },
    /// The time for creating a container is over.
    #[error("container {id} was not created within {seconds} s")]
    CreateTimeout {
        /// The container.
        id: String,
        /// The time it had.
        seconds: u64,
    },
    /// The runtime was asked for something and refused.
    #[error("the runtime did not {verb} container {id}: {said}")]
    Refused {
        /// What was asked.
        verb: &'static str,
        /// The container.
        id: String,
        /// What the runtime said.
        said: String,
    },
    /// The runtime could not be run.
    #[error("cannot run the runtime to {verb} container {id}")]
    Run {
        /// What was asked.
        verb: &'static str,
        /// The container.
        id: String,
        /// Why.
        #[source]
        source: ProcessError,
    },
    /// The runtime's answer cannot be read.
    #[error("the runtime's answer about container {id} cannot be read")]
    Answer {
        /// The container.
        id: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// There is no such container, or nothing runs in it.
    #[error("container {id} is not running: {said}")]
    NotRunning {
        /// The container.
        id: String,
        /// What the runtime said.
        said: String,
    },
    /// The monitor is gone: nobody reads its control file.
    #[error("the monitor of the container in {} is gone", bundle.display())]
    MonitorGone {
        /// The bundle.
        bundle: PathBuf,
    },
    /// The streams of a container cannot be reached.
    #[error("cannot attach to container {id}")]
    Attach {
        /// The container.
        id: String,
        /// What the kernel says.
        source: io::Error,
    },
    /// The log did not come back in time.
    #[error("{} was not reopened within {seconds} s", path.display())]
    LogNotReopened {
        /// The log.
        path: PathBuf,
        /// The time it had.
        seconds: u64,
    },
    /// Blocking work was begun on a thread that knows no reactor.
    #[error("cgroups are changed on a thread without a reactor")]
    NoReactor {
        /// What is missing.
        source: tokio::runtime::TryCurrentError,
    },
    /// An exit file does not hold a number.
    #[error("{} holds no exit code", path.display())]
    ExitFile {
        /// The file.
        path: PathBuf,
    },
}

impl Classify for RuntimeError {
    fn kind(&self) -> Kind {
        match self {
            Self::UnknownHandler { .. } => Kind::NotFound,
            Self::NotRunning { .. } => Kind::WrongState,
            Self::CreateTimeout { .. } | Self::LogNotReopened { .. } => Kind::Deadline,
            Self::StartMonitor { source, .. } | Self::Run { source, .. } => source.kind(),
            Self::Cgroup { source, .. } => source.kind(),
            Self::File { source, .. }
            | Self::MonitorPipe { source, .. }
            | Self::Attach { source, .. } => io_kind(source),
            Self::Scope { source, .. } => source.kind(),
            Self::Program { .. }
            | Self::MonitorEnded { .. }
            | Self::MonitorAnswer { .. }
            | Self::MonitorCgroup { .. }
            | Self::Create { .. }
            | Self::Refused { .. }
            | Self::Answer { .. }
            | Self::MonitorGone { .. }
            | Self::NoReactor { .. }
            | Self::ExitFile { .. } => Kind::Internal,
        }
    }
}
