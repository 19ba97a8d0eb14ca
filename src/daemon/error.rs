//! Why the daemon does not start.

use std::path::PathBuf;

use crate::artifacts::ArtifactError;
use crate::audit::AuditError;
use crate::config::ConfigError;
use crate::container::ContainerError;
use crate::network::NetworkError;
use crate::registry::RegistryError;
use crate::runtime::RuntimeError;
use crate::spec::error::SpecError;
use crate::storage::StorageError;
use crate::streaming::StreamingError;
use crate::sys::apparmor::ApparmorError;

/// Why the daemon does not start.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The process itself.
    #[error("cannot prepare the process")]
    Prepare(#[source] std::io::Error),
    /// The configuration that was read again.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A runtime handler that is needed was to go.
    #[error(
        "the runtime handler {0} has pods or containers: it cannot be removed, nor its runtime_root \
         changed, before they are gone"
    )]
    HandlerUsed(String),
    /// The account that must be kept cannot be.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// Somebody listens on the socket.
    #[error("another daemon answers on {0}; stop it first, or give --listen another path")]
    SocketLives(PathBuf),
    /// The socket cannot be made.
    #[error("cannot listen on {path}")]
    Listen {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// An address cannot be listened on.
    #[error("cannot serve metrics on {address}")]
    Address {
        /// Host and port.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// A directory or file of the daemon.
    #[error("cannot use {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The store.
    #[error("cannot open the image store")]
    Store(#[from] StorageError),
    /// The artifacts.
    #[error("cannot open the store of artifacts")]
    Artifacts(#[from] ArtifactError),
    /// registries.conf.
    #[error("cannot set the registry client up")]
    Registry(#[from] RegistryError),
    /// runc or conmon.
    #[error("cannot set the runtime up")]
    Runtime(#[from] RuntimeError),
    /// CNI.
    #[error("cannot set the network up")]
    Network(#[from] NetworkError),
    /// Exec, attach and port-forward.
    #[error("cannot set the streaming server up")]
    Streaming(#[from] StreamingError),
    /// A hook of the node.
    #[error("cannot use the hooks of hooks_dir")]
    Hook(#[source] ContainerError),
    /// Our own AppArmor profile.
    #[error(transparent)]
    Apparmor(#[from] ApparmorError),
    /// A configured AppArmor profile.
    #[error("the AppArmor profile {0:?} of apparmor_profile is not loaded on this node")]
    ProfileNotLoaded(String),
    /// A configured seccomp profile.
    #[error("cannot use the seccomp profile {path}")]
    Seccomp {
        /// The file.
        path: PathBuf,
        /// Why.
        source: SpecError,
    },
}
