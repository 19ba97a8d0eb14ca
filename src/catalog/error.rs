//! What can go wrong when an image is looked up.

use crate::failure::Classify;
use crate::failure::Kind;
use crate::model::ids::ImageId;
use crate::oci::document::DocumentError;
use crate::storage::StorageError;

/// A look-up that failed; that nothing was found is no error.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The store cannot be read.
    #[error("the image store cannot be read")]
    Store(#[from] StorageError),
    /// Several images have IDs that begin so.
    #[error("more than one image has an ID that begins with {0:?}; give more digits")]
    Ambiguous(String),
    /// The image has no config: it is no container image, or only half there.
    #[error("image {0} has no image config in the store; remove it and pull it again")]
    NoConfig(ImageId),
    /// The config is not the bytes that the ID names.
    #[error("the image config of {0} was changed on disk; remove the image and pull it again")]
    Altered(ImageId),
    /// The config is malformed.
    #[error("the image config of {id} is malformed; remove the image and pull it again")]
    Damaged {
        /// The image.
        id: ImageId,
        /// Why.
        source: DocumentError,
    },
}

impl Classify for CatalogError {
    fn kind(&self) -> Kind {
        match self {
            Self::Store(source) => source.kind(),
            Self::Ambiguous(_) => Kind::InvalidRequest,
            Self::NoConfig(_) | Self::Altered(_) | Self::Damaged { .. } => Kind::Corrupt,
        }
    }
}
