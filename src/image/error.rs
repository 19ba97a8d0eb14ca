//! What can go wrong with a verb on images.

use crate::artifacts::ArtifactError;
use crate::catalog::CatalogError;
use crate::failure::Classify;
use crate::failure::Kind;
use crate::judge::JudgeError;
use crate::oci::digest::Digest;
use crate::oci::document::DocumentError;
use crate::oci::reference::ReferenceError;
use crate::registry::RegistryError;
use crate::storage::StorageError;

/// A verb on images that failed.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The text names no image.
    #[error("cannot pull {image:?}")]
    Name {
        /// As asked for.
        image: String,
        /// Why.
        source: RegistryError,
    },
    /// No reference can be made of it.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The registry did not give what a step needs.
    #[error("cannot {step} of {reference}")]
    Registry {
        /// What was being fetched.
        step: &'static str,
        /// Of which image.
        reference: String,
        /// Why.
        source: RegistryError,
    },
    /// A document of the image cannot be used.
    #[error("cannot use {reference}")]
    Document {
        /// Of which image.
        reference: String,
        /// Why.
        source: DocumentError,
    },
    /// Index in index: nobody needs it, and it can be a loop.
    #[error("{0} is an index whose entry is another index")]
    NestedIndex(String),
    /// The signatures cannot be read as what they claim to be.
    #[error("the signatures of {reference} cannot be judged: {fault}")]
    Evidence {
        /// Of which image.
        reference: String,
        /// What is wrong with them.
        fault: String,
    },
    /// Judging ended with a no, or could not be done.
    #[error(transparent)]
    Judge(#[from] JudgeError),
    /// The manifest points at something that is no container image.
    #[error("{reference} is no container image: {fault}")]
    NotAnImage {
        /// Which.
        reference: String,
        /// Why.
        fault: String,
    },
    /// A seccomp profile is wanted, and it is none.
    #[error("{reference} cannot be used as a seccomp profile: {fault}")]
    NoProfile {
        /// Which.
        reference: String,
        /// Why.
        fault: String,
    },
    /// A layer's bytes are not those that were promised.
    #[error("layer {digest} of {reference}: {fault}")]
    Layer {
        /// Of which image.
        reference: String,
        /// The layer's blob.
        digest: Digest,
        /// Expected and actual.
        fault: String,
    },
    /// A layer cannot be unpacked.
    #[error("cannot unpack layer {digest} of {reference}")]
    Unpack {
        /// Of which image.
        reference: String,
        /// The layer's blob.
        digest: Digest,
        /// Why.
        source: StorageError,
    },
    /// The store of artifacts failed, or the registry sent other bytes than it promised.
    #[error("cannot keep artifact {reference}")]
    Artifact {
        /// Which.
        reference: String,
        /// Why.
        source: ArtifactError,
    },
    /// The store failed.
    #[error("the image store failed")]
    Store(#[from] StorageError),
    /// A look-up failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The work panicked, or the daemon is shutting down.
    #[error("the work on the image ended without an answer; the daemon's log says why")]
    Vanished,
}

impl Classify for ImageError {
    fn kind(&self) -> Kind {
        match self {
            Self::Name { source, .. } | Self::Registry { source, .. } => source.kind(),
            Self::Reference(_) | Self::NoProfile { .. } => Kind::InvalidRequest,
            Self::Document { source, .. } => source.kind(),
            Self::NestedIndex(_) | Self::NotAnImage { .. } => Kind::NotSupported,
            Self::Evidence { .. } => Kind::Refused,
            Self::Judge(source) => source.kind(),
            Self::Layer { .. } => Kind::Corrupt,
            Self::Unpack { source, .. } | Self::Store(source) => source.kind(),
            Self::Artifact { source, .. } => source.kind(),
            Self::Catalog(source) => source.kind(),
            Self::Vanished => Kind::Internal,
        }
    }
}
