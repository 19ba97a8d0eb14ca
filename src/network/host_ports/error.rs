//! What can go wrong with the ports of the node that lead into pods.

use std::io;
use std::path::PathBuf;

use crate::failure::Classify;
use crate::failure::Kind;
use crate::failure::io_kind;
use crate::model::ids::SandboxId;
use crate::sys::process::ProcessError;

/// A port of the node that cannot be led into a pod.
#[derive(Debug, thiserror::Error)]
pub enum HostPortError {
    /// Another pod has it.
    #[error("host port {port} is held by pod {holder} (sandbox {id})")]
    Taken {
        /// The port, with address and protocol.
        port: String,
        /// Namespace and name of the pod.
        holder: String,
        /// Its sandbox.
        id: SandboxId,
    },
    /// The request names it twice.
    #[error("host port {port} is to lead to two ports of the pod")]
    Ambiguous {
        /// The port, with address and protocol.
        port: String,
    },
    /// The request names no port of the pod.
    #[error("host port {port} is to lead to port 0 of the pod")]
    NowhereTo {
        /// The port, with address and protocol.
        port: String,
    },
    /// The node has no tool that could make the rules.
    #[error(
        "the pod wants host ports, which need nftables or iptables on the node \
         (nft: {nft}; iptables: {iptables}); disable_hostport_mapping leaves them to others"
    )]
    NoTool {
        /// Why not nft.
        nft: String,
        /// Why not iptables.
        iptables: String,
    },
    /// The tool does not make the rules.
    #[error("cannot make the rules for host ports")]
    Rules(#[from] ProcessError),
    /// A rule's text cannot be written.
    #[error("cannot write down the rules for host ports")]
    Text(#[from] serde_json::Error),
    /// The node's own loopback addresses cannot be led into the pod.
    #[error("cannot let {interface} carry packets from 127.0.0.1")]
    Localnet {
        /// The interface that leads to the pod.
        interface: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A note cannot be kept.
    #[error("cannot keep {}", path.display())]
    Note {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

impl Classify for HostPortError {
    fn kind(&self) -> Kind {
        match self {
            Self::Taken { .. } => Kind::NameTaken,
            Self::Ambiguous { .. } | Self::NowhereTo { .. } => Kind::InvalidRequest,
            Self::NoTool { .. } => Kind::NotSupported,
            Self::Rules(error) => error.kind(),
            Self::Text(_) => Kind::Internal,
            Self::Localnet { source, .. } | Self::Note { source, .. } => io_kind(source),
        }
    }
}
