//! What can go wrong in the store.

use std::io;
use std::path::Path;
use std::path::PathBuf;

use crate::failure::Classify;
use crate::failure::Kind;
use crate::failure::io_kind;
use crate::model::ids::ContainerId;
use crate::model::ids::ImageId;
use crate::model::ids::LayerId;

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The kernel did not let us.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// An index of the store is not the JSON that it should be.
    #[error("{path} is damaged")]
    Damaged {
        /// The index.
        path: PathBuf,
        /// The fault.
        source: serde_json::Error,
    },
    /// Something of the store is in use.
    #[error("{0} is mounted: something of the store is in use")]
    Mounted(PathBuf),
    /// No image has this id.
    #[error("no image {0} in the store")]
    ImageMissing(ImageId),
    /// A container needs this image.
    #[error("image {image} is in use by container {container}")]
    ImageInUse {
        /// The image.
        image: ImageId,
        /// One container that uses it.
        container: String,
    },
    /// An image of no layers has nothing to mount.
    #[error("image {0} has no layers to mount")]
    NoLayers(ImageId),
    /// The layers under the ID of an image are not those that its config names.
    #[error(
        "image {0} is in the store with other layers than its config names; remove it and pull it again"
    )]
    OtherLayers(ImageId),
    /// No layer has this id.
    #[error("no layer {0} in the store")]
    LayerMissing(LayerId),
    /// The layers given are not a stack: this one does not lie on the one before it.
    #[error("layer {layer} does not lie on the layer below it in this image")]
    NotAStack {
        /// The layer.
        layer: LayerId,
    },
    /// More layers than overlayfs can stack.
    #[error("layer {layer} has {count} layers below it; {limit} can be mounted")]
    TooDeep {
        /// The layer.
        layer: String,
        /// Layers below it.
        count: usize,
        /// What can be mounted.
        limit: usize,
    },
    /// No container has this id.
    #[error("no container {0} in the store")]
    ContainerMissing(ContainerId),
    /// A rootfs made for a user namespace, mounted without one, or the other way round.
    #[error("the rootfs of container {0} and its mount do not agree on a user namespace")]
    Unmapped(ContainerId),
    /// A container has this id already.
    #[error("container {0} is in the store already")]
    ContainerExists(ContainerId),
    /// A container has this name already.
    #[error("the name {name:?} is held by container {holder}")]
    NameTaken {
        /// The name.
        name: String,
        /// Who has it.
        holder: String,
    },
    /// A data item of an image is larger than the caller is ready to read.
    #[error("data item {key:?} of image {image} is larger than {limit} bytes")]
    TooLarge {
        /// The image.
        image: ImageId,
        /// Which item.
        key: String,
        /// The bound.
        limit: u64,
    },
    /// A layer could not be unpacked.
    #[error(transparent)]
    Layer(#[from] LayerError),
}

/// Why a layer could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The bytes did not arrive.
    #[error("cannot read the layer")]
    Read(#[source] io::Error),
    /// The bytes are no stream of this compression, or end early, or something follows them.
    #[error("the layer is no valid {what} stream")]
    Compression {
        /// `gzip` or `zstd`.
        what: &'static str,
        /// The fault.
        source: io::Error,
    },
    /// The archive is malformed.
    #[error("the layer is no valid tar archive")]
    Tar(#[from] tar_core::parse::ParseError),
    /// The archive ends inside an entry.
    #[error("the layer ends inside {0:?}")]
    Short(String),
    /// An entry that has no place in a layer.
    #[error("entry {path:?} of the layer {fault}")]
    Entry {
        /// The entry's path, as far as it can be shown.
        path: String,
        /// What is wrong with it.
        fault: EntryFault,
    },
    /// The layer is larger than allowed once it is unpacked.
    #[error("the layer unpacks to more than {limit} bytes")]
    TooLarge {
        /// The bound.
        limit: u64,
    },
    /// The layer grows more than allowed when it is unpacked.
    #[error("the layer unpacks to more than {limit} times its size")]
    Bomb {
        /// The bound.
        limit: u64,
    },
    /// The layer has more of something than allowed.
    #[error("the layer has more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
    /// An entry could not be made on disk.
    #[error("cannot {action} {path:?} of the layer")]
    Write {
        /// What was tried, as a verb.
        action: &'static str,
        /// The entry's path, as far as it can be shown.
        path: String,
        /// The cause.
        source: io::Error,
    },
}

/// What is wrong with an entry of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryFault {
    /// A path with `..`, or without any name, or with a zero byte.
    Path,
    /// A hard link whose target has such a path, or none.
    LinkTarget,
    /// The same path twice: two readers could see two images.
    Twice,
    /// A whiteout that hides no single name.
    Whiteout,
    /// A character device 0:0, which is overlayfs' own whiteout.
    OverlayWhiteout,
    /// An owner outside of what the kernel knows.
    Owner,
    /// A sparse file.
    Sparse,
    /// A kind of entry that layers do not have.
    Kind,
    /// Something that is no directory stands where a directory is needed.
    Parent,
}

impl std::fmt::Display for EntryFault {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Path => "has a path that does not stay inside",
            Self::LinkTarget => "is a hard link whose target does not stay inside",
            Self::Twice => "is there twice",
            Self::Whiteout => "is a whiteout that hides no single name",
            Self::OverlayWhiteout => "is a device 0:0, which only the store may make",
            Self::Owner => "has an owner outside of 0 to 4294967294",
            Self::Sparse => "is a sparse file, which layers may not have",
            Self::Kind => "is of a kind that layers may not have",
            Self::Parent => "lies below something that is no directory",
        })
    }
}

impl StorageError {
    /// A closure that says what was tried when the kernel did not let us.
    pub(super) fn io<'a>(
        action: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}

impl Classify for LayerError {
    fn kind(&self) -> Kind {
        match self {
            Self::Read(_) => Kind::RegistryUnavailable,
            Self::Write { source, .. } => io_kind(source),
            Self::Compression { .. }
            | Self::Tar(_)
            | Self::Short(_)
            | Self::Entry { .. }
            | Self::TooLarge { .. }
            | Self::Bomb { .. }
            | Self::TooMany { .. } => Kind::Corrupt,
        }
    }
}

impl Classify for StorageError {
    fn kind(&self) -> Kind {
        match self {
            Self::Io { source, .. } => io_kind(source),
            Self::Damaged { .. } | Self::TooLarge { .. } | Self::OtherLayers(_) => Kind::Corrupt,
            Self::ImageMissing(_) | Self::LayerMissing(_) | Self::ContainerMissing(_) => {
                Kind::NotFound
            }
            Self::ImageInUse { .. } | Self::Mounted(_) => Kind::WrongState,
            Self::NotAStack { .. } | Self::Unmapped(_) => Kind::Internal,
            Self::TooDeep { .. } | Self::NoLayers(_) => Kind::NotSupported,
            Self::ContainerExists(_) | Self::NameTaken { .. } => Kind::NameTaken,
            Self::Layer(error) => error.kind(),
        }
    }
}
