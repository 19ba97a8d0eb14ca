//! What can go wrong with a verb on sandboxes.

use std::path::PathBuf;

use crate::container::ContainerError;
use crate::failure::Classify;
use crate::failure::Kind;
use crate::failure::io_kind;
use crate::model::ids::SandboxId;
use crate::network::NetworkError;
use crate::network::NotReady;
use crate::runtime::RuntimeError;
use crate::spec::error::SpecError;
use crate::state::StateError;
use crate::sys::namespace::NamespaceError;
use crate::sys::pause::PauseError;

/// A verb on sandboxes that failed.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// No such record, or it cannot be written.
    #[error(transparent)]
    State(#[from] StateError),
    /// The runtime handler is not configured.
    #[error("runtime handler {name:?} is not configured; known are: {known}")]
    UnknownHandler {
        /// As asked for.
        name: String,
        /// The configured ones.
        known: String,
    },
    /// A pod with a user namespace of its own wants a namespace of the node that would let it act
    /// on what is not its own. The kernel would not let it mount `/proc`, or the queues.
    #[error("a pod with a user namespace cannot share the node's {0} namespace")]
    UserNamespaceOnNode(&'static str),
    /// A user namespace with ids that the administrator keeps for others.
    #[error("the user namespace begins at id {host_id} of the node; {least} is the least allowed")]
    MapTooLow {
        /// Where it begins.
        host_id: u32,
        /// Where it may.
        least: u64,
    },
    /// A sysctl that a pod may not set, or a cgroup parent of the wrong kind.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// An SELinux label that the node's policy does not know.
    #[error("the SELinux label {label:?} is not one of this node's policy")]
    Label {
        /// The label.
        label: String,
        /// What the kernel says.
        source: std::io::Error,
    },
    /// No network can be had.
    #[error("the network is not ready")]
    NetworkNotReady(#[from] NotReady),
    /// CNI failed.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The namespaces cannot be made.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// The process that holds the process namespace cannot be started.
    #[error(transparent)]
    Pause(#[from] PauseError),
    /// The configured pause image cannot be its process.
    #[error("cannot run the pod's own process from the pause image {image}")]
    PauseImage {
        /// As configured.
        image: String,
        /// Why.
        source: ContainerError,
    },
    /// The configured pause image cannot be had.
    #[error("cannot pull the pause image {image} for the pod's own process")]
    PausePull {
        /// As configured.
        image: String,
        /// What a caller can conclude.
        kind: Kind,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Cgroups.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// A file of the sandbox.
    #[error("cannot {action} {path}")]
    File {
        /// What was attempted.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A container of the sandbox is in the way.
    #[error("container {id} of the sandbox is in the way")]
    Container {
        /// Which.
        id: String,
        /// Why.
        source: ContainerError,
    },
    /// It is stopped, or its namespaces are gone.
    #[error("sandbox {0} is not ready")]
    NotReady(SandboxId),
    /// Nobody listens, or the connection does not come about.
    #[error("cannot connect to port {port} of pod {pod} (sandbox {id})")]
    Port {
        /// The port.
        port: u16,
        /// The pod's namespace and name.
        pod: String,
        /// The sandbox.
        id: SandboxId,
        /// What the kernel says.
        source: std::io::Error,
    },
    /// What its containers use cannot be found out.
    #[error("cannot look at the containers of pods")]
    Stats(#[source] ContainerError),
    /// It cannot be stopped or removed before it is there.
    #[error("sandbox {0} is still being made; ask again when it is ready")]
    BeingMade(SandboxId),
    /// The caller's time is over. The words are those that CRI-O's users know to search for.
    #[error(
        "kubelet may be retrying requests that are timing out in CRI-O due to system load. \
         Currently at stage {stage}: context deadline exceeded: pod {name} is still being made, and \
         will be the answer to the same request"
    )]
    Late {
        /// The pod.
        name: String,
        /// Where the work stands.
        stage: &'static str,
    },
    /// What failed, and what could not be taken back after it.
    #[error("{failure}; and afterwards: {}", leftovers.join("; "))]
    Leftovers {
        /// The failure.
        #[source]
        failure: Box<SandboxError>,
        /// The steps back that failed too.
        leftovers: Vec<String>,
    },
    /// The work panicked, or the daemon is shutting down.
    #[error("the work on the sandbox ended without an answer; the daemon's log says why")]
    Vanished,
}

impl Classify for SandboxError {
    fn kind(&self) -> Kind {
        match self {
            Self::State(source) => source.kind(),
            Self::UnknownHandler { .. } => Kind::NotFound,
            Self::Label { .. } | Self::UserNamespaceOnNode(_) | Self::MapTooLow { .. } => {
                Kind::InvalidRequest
            }
            Self::Spec(source) => source.kind(),
            Self::Network(source) => source.kind(),
            Self::Namespace(source) => source.kind(),
            Self::Pause(source) => source.kind(),
            Self::PausePull { kind, .. } => *kind,
            Self::Runtime(source) => source.kind(),
            Self::File { source, .. } | Self::Port { source, .. } => io_kind(source),
            Self::Container { source, .. }
            | Self::PauseImage { source, .. }
            | Self::Stats(source) => source.kind(),
            Self::BeingMade(_) | Self::NotReady(_) => Kind::WrongState,
            Self::Leftovers { failure, .. } => failure.kind(),
            Self::Late { .. } => Kind::Deadline,
            Self::NetworkNotReady(_) | Self::Vanished => Kind::Internal,
        }
    }
}
