//! The store of images, layers and containers, shared with podman, skopeo, buildah and CRI-O.
//!
//! The layout is that of containers/storage with its overlay driver, and only this module knows
//! it:
//!
//! ```text
//! <root>/overlay-images/images.json images.lock <image>/<data item>
//! <root>/overlay-layers/layers.json volatile-layers.json layers.lock <layer>.tar-split.gz
//! <root>/overlay-containers/containers.json volatile-containers.json containers.lock
//! <root>/overlay-containers/<container>/userdata/
//! <root>/overlay/<layer>/{diff,link,lower,work,merged,empty}   <root>/overlay/l/<link>
//! <root>/overlay/tempdirs/crio-…      what is unpacked, and what is being removed
//! <root>/overlay-layers/.crio-…      the tar-split of what is unpacked
//! <runroot>/overlay-layers/mountpoints.json mountpoints.lock
//! <runroot>/overlay-containers/<container>/userdata/
//! <runroot>/crioxide/image-volumes/<image>/<container>   who has an image mounted as a volume
//! ```
//!
//! `overlay` may be a mount of its own, so nothing is renamed between it and its neighbours.
//!
//! Locks are taken in the order graph (`storage.lock`), layers, mounts, images, containers, and
//! never the other way. What
//! an index names is whole before the index names it: a layer's files are on disk before its
//! record is written, an image's layers and data items before the image's. So a crash at any
//! moment leaves things that nothing names, never names of things that are not there; the next
//! [`Store::open`] removes what of that is this program's, and leaves alone what is not.
//!
//! An image's layers are kept from removal by the image, a container's by the container, and those
//! of a pull that is not over by [`LayerPins`].
//!
//! All calls block on disk and locks; callers keep them off the threads that serve requests.

mod apply;
mod check;
mod collect;
mod containers;
mod crc64;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod image_mounts;
mod image_write;
mod images;
mod index;
mod layers;
mod lockfile;
mod overlay;
mod repair;
mod rootfs;
mod staging;
mod stream;
mod tar_split;
mod unpack;
mod usage;
mod verify;
mod whiteout;

use std::collections::HashMap;
use std::collections::HashSet;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;

pub use crate::storage::check::CheckOptions;
pub use crate::storage::check::Depth;
pub use crate::storage::check::Fault;
pub use crate::storage::check::Finding;
pub use crate::storage::check::Part;
pub use crate::storage::check::Report;
pub use crate::storage::containers::ContainerRecord;
pub use crate::storage::containers::NewContainer;
pub use crate::storage::error::EntryFault;
pub use crate::storage::error::LayerError;
pub use crate::storage::error::StorageError;
pub use crate::storage::image_write::NewImage;
pub use crate::storage::images::BigData;
pub use crate::storage::images::Image;
pub use crate::storage::layers::Layer;
pub use crate::storage::layers::LayerCommit;
pub use crate::storage::layers::LayerPins;
pub use crate::storage::repair::Item;
pub use crate::storage::repair::Left;
pub use crate::storage::repair::Repair;
pub use crate::storage::repair::remove_all;
pub use crate::storage::staging::StagedLayer;
pub use crate::storage::staging::Unpacked;
pub use crate::storage::stream::Limits;
pub use crate::storage::usage::FsUsage;
pub use crate::storage::usage::OwnLayer;
pub use crate::storage::usage::Usage;

use crate::model::ids::LayerId;
use crate::storage::images::ImageRow;
use crate::storage::images::Listed;
use crate::storage::index::Index;
use crate::storage::index::IndexFile;
use crate::storage::lockfile::LockFile;
use crate::storage::rootfs::MountPoint;
use crate::sys::beneath;
use crate::sys::beneath::Directory;
use crate::sys::files::Durability;

/// Where a store is, and how its layers are mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What survives a reboot: `/var/lib/containers/storage`.
    pub root: PathBuf,
    /// What does not: `/run/containers/storage`.
    pub runroot: PathBuf,
    /// Options of overlay mounts, as `nodev` and `metacopy=on`.
    pub mount_options: Vec<String>,
}

/// The store. Copies of it are the same store.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: Settings,
    layers: Index<Layer>,
    mounts: Index<MountPoint>,
    images: Index<ImageRow>,
    containers: Index<ContainerRecord>,
    /// Whoever changes how `overlay` itself is mounted holds this, before all other locks.
    graph: Mutex<LockFile>,
    /// Images as they were last listed, with their sizes.
    listed: Mutex<Listed>,
    /// Layers in use by pulls, and by how many.
    pins: Arc<Mutex<HashMap<LayerId, usize>>>,
    /// Layers that only their pins kept when their image was removed.
    waiting: Mutex<HashSet<LayerId>>,
    /// What layers that others unpacked take; layers do not change.
    measured: Mutex<HashMap<LayerId, Usage>>,
}

impl Store {
    /// Opens a store, makes its directories where they are missing, and removes what an earlier
    /// run of this program left half done.
    ///
    /// # Errors
    ///
    /// [`StorageError::Io`] where directories cannot be made or indexes not be read, and
    /// [`StorageError::Damaged`] where an index is no index.
    pub fn open(settings: Settings) -> Result<Self, StorageError> {
        let (root, run) = (&settings.root, &settings.runroot);
        for (path, mode) in [
            (root.clone(), 0o700),
            (root.join("overlay"), 0o700),
            (root.join("overlay/l"), 0o755),
            (root.join("overlay/tempdirs"), 0o700),
            (root.join("overlay-layers"), 0o700),
            (root.join("overlay-images"), 0o700),
            (root.join("overlay-containers"), 0o700),
            (run.clone(), 0o700),
            (run.join("overlay-layers"), 0o700),
            (run.join("overlay-containers"), 0o700),
        ] {
            make_directories(&path, mode)?;
        }
        let store = Self::at(settings);
        store.clean_up()?;
        Ok(store)
    }

    /// A store as it lies there, to be read: nothing is made, removed or repaired.
    ///
    /// # Errors
    ///
    /// [`StorageError::Io`] where there is no store.
    pub fn look(settings: Settings) -> Result<Self, StorageError> {
        for lock in ["overlay-images/images.lock", "overlay-layers/layers.lock"] {
            let path = settings.root.join(lock);
            std::fs::metadata(&path).map_err(StorageError::io("find the store's lock", &path))?;
        }
        Ok(Self::at(settings))
    }

    fn at(settings: Settings) -> Self {
        let (root, run) = (&settings.root, &settings.runroot);
        let stable = |path: PathBuf| IndexFile { path, durability: Durability::Machine };
        let volatile = |path: PathBuf| IndexFile { path, durability: Durability::Process };
        let inner = Inner {
            layers: Index::new(
                root.join("overlay-layers/layers.lock"),
                vec![
                    stable(root.join("overlay-layers/layers.json")),
                    volatile(root.join("overlay-layers/volatile-layers.json")),
                ],
            ),
            mounts: Index::new(
                run.join("overlay-layers/mountpoints.lock"),
                vec![volatile(run.join("overlay-layers/mountpoints.json"))],
            ),
            images: Index::new(
                root.join("overlay-images/images.lock"),
                vec![stable(root.join("overlay-images/images.json"))],
            ),
            containers: Index::new(
                root.join("overlay-containers/containers.lock"),
                vec![
                    stable(root.join("overlay-containers/containers.json")),
                    volatile(root.join("overlay-containers/volatile-containers.json")),
                ],
            ),
            graph: Mutex::new(LockFile::new(root.join("storage.lock"))),
            listed: Mutex::default(),
            pins: Arc::default(),
            waiting: Mutex::default(),
            measured: Mutex::default(),
            settings,
        };
        Self { inner: Arc::new(inner) }
    }

    /// What survives a reboot.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.inner.settings.root
    }

    /// What does not survive a reboot.
    #[must_use]
    pub fn runroot(&self) -> &Path {
        &self.inner.settings.runroot
    }

    /// Waits until all of it is on disk.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn sync(&self) -> Result<(), StorageError> {
        let root = self.root();
        Directory::open(root)
            .and_then(|directory| beneath::sync_filesystem(&directory))
            .map_err(StorageError::io("sync", root))
    }

    fn overlay(&self) -> PathBuf {
        self.root().join("overlay")
    }

    fn staging(&self) -> PathBuf {
        self.root().join("overlay/tempdirs")
    }

    fn layer_directory(&self, id: &LayerId) -> PathBuf {
        self.overlay().join(id.as_str())
    }

    fn tar_split(&self, id: &LayerId) -> PathBuf {
        self.root().join("overlay-layers").join(format!("{id}.tar-split.gz"))
    }
}

fn make_directories(path: &Path, mode: u32) -> Result<(), StorageError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(StorageError::io("create the directory", path))
}
