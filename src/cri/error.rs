//! What can go wrong behind the door.

use std::sync::Arc;

use crate::container::ContainerError;
use crate::cri::convert::RequestError;
use crate::failure::Classify;
use crate::failure::Kind;
use crate::image::ImageError;
use crate::sandbox::SandboxError;
use crate::state::TooMany;
use crate::streaming::StreamingError;

/// What can go wrong behind the door.
#[derive(Debug, thiserror::Error)]
pub(super) enum DoorError {
    /// The request.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// A verb on sandboxes.
    #[error(transparent)]
    Sandbox(#[from] Arc<SandboxError>),
    /// A verb on containers.
    #[error(transparent)]
    Container(#[from] Arc<ContainerError>),
    /// A verb on images.
    #[error(transparent)]
    Image(#[from] Arc<ImageError>),
    /// A URL to stream from.
    #[error(transparent)]
    Streaming(#[from] StreamingError),
    /// In CRI-O's words.
    #[error("checkpoint/restore support not available")]
    NoCheckpoints,
    /// Nobody else can listen to events.
    #[error(transparent)]
    Events(#[from] TooMany),
}

impl From<SandboxError> for DoorError {
    fn from(error: SandboxError) -> Self {
        Self::Sandbox(Arc::new(error))
    }
}

impl From<ContainerError> for DoorError {
    fn from(error: ContainerError) -> Self {
        Self::Container(Arc::new(error))
    }
}

impl From<ImageError> for DoorError {
    fn from(error: ImageError) -> Self {
        Self::Image(Arc::new(error))
    }
}

impl Classify for DoorError {
    fn kind(&self) -> Kind {
        match self {
            Self::Request(error) => error.kind(),
            Self::Sandbox(error) => error.kind(),
            Self::Container(error) => error.kind(),
            Self::Image(error) => error.kind(),
            Self::Streaming(error) => error.kind(),
            Self::NoCheckpoints => Kind::NotSupported,
            Self::Events(_) => Kind::NoSpace,
        }
    }
}
