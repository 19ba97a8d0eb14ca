//! What can go wrong with artifacts on disk.

use std::path::PathBuf;

use crate::failure::Classify;
use crate::failure::Kind;
use crate::failure::io_kind;
use crate::oci::digest::Digest;
use crate::oci::document::DocumentError;

/// Work on artifacts that failed.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// A file or directory.
    #[error("cannot {action} {path}")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The index is no index.
    #[error("the index of artifacts {path} is damaged")]
    Index {
        /// The index.
        path: PathBuf,
        /// The fault.
        source: serde_json::Error,
    },
    /// A manifest in the store is none that can be used.
    #[error("the manifest of artifact {digest} cannot be used")]
    Manifest {
        /// The artifact.
        digest: Digest,
        /// Why.
        source: DocumentError,
    },
    /// Bytes are not those that their digest names.
    #[error("blob {digest}: {fault}")]
    Blob {
        /// What was promised.
        digest: Digest,
        /// What is there.
        fault: String,
    },
    /// There is less room than the artifact needs.
    #[error("the artifact needs {needed} bytes, and {free} are free below {path}")]
    NoSpace {
        /// Its size.
        needed: u64,
        /// What is free.
        free: u64,
        /// Where.
        path: PathBuf,
    },
    /// A container has it mounted.
    #[error("artifact {digest} is in use by container {user}")]
    InUse {
        /// The artifact.
        digest: Digest,
        /// One container that uses it.
        user: String,
    },
    /// It lies in a store that is only read.
    #[error("artifact {0} is in an additional store, which is only read")]
    ReadOnly(Digest),
    /// A file of it cannot be mounted under the name that it gives itself.
    #[error("artifact {digest} cannot be mounted: its file {title:?} {fault}")]
    Title {
        /// The artifact.
        digest: Digest,
        /// The name.
        title: String,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// None of its files has a name.
    #[error("artifact {0} cannot be mounted: none of its layers has a title")]
    NoFiles(Digest),
    /// None of its files lies below the path.
    #[error("sub path {sub_path:?} does not exist in OCI artifact volume {digest}")]
    SubPath {
        /// The path.
        sub_path: String,
        /// The artifact.
        digest: Digest,
    },
}

impl Classify for ArtifactError {
    fn kind(&self) -> Kind {
        match self {
            Self::Io { source, .. } => io_kind(source),
            Self::Index { .. } | Self::Manifest { .. } | Self::Blob { .. } => Kind::Corrupt,
            Self::NoSpace { .. } => Kind::NoSpace,
            Self::InUse { .. } | Self::ReadOnly(_) => Kind::WrongState,
            Self::Title { .. } | Self::NoFiles(_) | Self::SubPath { .. } => Kind::InvalidRequest,
        }
    }
}
