//! Where layers are unpacked before they are part of the store.
//!
//! A directory of its own under `overlay/staging`, with a lock held on its `staging.lock`: as
//! long as it is held, no other user of the store takes the directory for left over, and when this
//! program is gone, it is. What is removed from the store goes the same way: renamed into such a
//! directory under the store's locks, which is fast, and removed after them, which may be slow.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::path::PathBuf;

use crate::model::ids::LayerId;
use crate::oci::digest::Algorithm;
use crate::oci::digest::DiffId;
use crate::oci::digest::Digest;
use crate::oci::media_type::Compression;
use crate::storage::error::StorageError;
use crate::storage::lockfile;
use crate::storage::stream::Limits;
use crate::storage::tar_split::TarSplit;
use crate::storage::unpack;
use crate::sys::beneath::Directory;

/// The name of staging directories of this program begins so.
const PREFIX: &str = "crio-";
/// What other users of the store try to lock.
const LOCK: &str = "staging.lock";

/// A staging directory. It is removed when this is dropped.
#[derive(Debug)]
pub(super) struct Staging {
    path: PathBuf,
    _lock: File,
}

impl Staging {
    /// Makes a staging directory below `base`.
    pub(super) fn new(base: &Path) -> Result<Self, StorageError> {
        let name = LayerId::fresh().map_err(StorageError::io("name a directory in", base))?;
        let path = base.join(format!("{PREFIX}{}", name.short()));
        make_directory(&path, 0o700)?;
        let lock = path.join(LOCK);
        match lockfile::try_hold(&lock).map_err(StorageError::io("lock", &lock))? {
            Some(lock) => Ok(Self { path, _lock: lock }),
            None => {
                let source = std::io::ErrorKind::AlreadyExists.into();
                Err(StorageError::Io { action: "lock", path: lock, source })
            }
        }
    }

    /// Where a thing of this name is put.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What cannot be removed now is when the store is next opened.
        let _ = remove(&self.path);
    }
}

/// Removes the staging directories of this program that no process uses.
pub(super) fn remove_stale(base: &Path) -> Result<(), StorageError> {
    let list = std::fs::read_dir(base).map_err(StorageError::io("list", base))?;
    for entry in list.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let path = entry.path();
        if let Ok(Some(_lock)) = lockfile::try_hold(&path.join(LOCK)) {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Makes a directory of exactly this mode.
pub(super) fn make_directory(path: &Path, mode: u32) -> Result<(), StorageError> {
    std::fs::DirBuilder::new()
        .mode(mode)
        .create(path)
        .map_err(StorageError::io("create the directory", path))
}

/// Removes a file, or a directory with all in it; that it is gone already is fine.
pub(super) fn remove(path: &Path) -> Result<(), StorageError> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let removed = match Directory::open(parent) {
        Ok(directory) => directory.remove(name.as_encoded_bytes()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    removed.map_err(StorageError::io("remove", path))
}

/// A place to unpack one layer. What was unpacked is removed when this is dropped.
#[derive(Debug)]
pub struct StagedLayer {
    staging: Staging,
    algorithms: (Algorithm, Algorithm),
}

/// A layer that is unpacked and not yet part of the store. It is removed when this is dropped.
#[derive(Debug)]
pub struct Unpacked {
    /// The digest of the blob as it came.
    pub blob_digest: Digest,
    /// The size of the blob as it came.
    pub blob_size: u64,
    /// The digest of the archive in it.
    pub diff_id: DiffId,
    /// The size of the archive in it.
    pub diff_size: u64,
    /// How the blob was compressed.
    pub compression: Compression,
    /// Users that own something in the layer.
    pub uids: Vec<u32>,
    /// Groups that own something in the layer.
    pub gids: Vec<u32>,
    /// Space and inodes that it takes, in blocks of 4096 bytes.
    pub usage: crate::storage::usage::Usage,
    pub(super) staging: Staging,
}

impl StagedLayer {
    /// A new place below `base`.
    pub(super) fn new(base: &Path) -> Result<Self, StorageError> {
        let staging = Staging::new(base)?;
        make_directory(&staging.path(LAYER), 0o700)?;
        make_directory(&staging.path(DIFF), 0o700)?;
        Ok(Self { staging, algorithms: (Algorithm::Sha256, Algorithm::Sha256) })
    }

    /// Hashes the blob and the archive so; both with SHA-256 unless this is said.
    #[must_use]
    pub fn hashing(mut self, blob: Algorithm, archive: Algorithm) -> Self {
        self.algorithms = (blob, archive);
        self
    }

    /// Unpacks a blob, which is read to its end.
    ///
    /// Whether it is the blob that was wanted is for the caller to say, by the digests in the
    /// answer, before it is committed.
    ///
    /// # Errors
    ///
    /// [`StorageError::Layer`] for what cannot be read, unpacked or written.
    pub fn unpack(
        self,
        blob: &mut dyn Read,
        compression: Compression,
        limits: &Limits,
    ) -> Result<Unpacked, StorageError> {
        let diff = self.staging.path(DIFF);
        let root = Directory::open(&diff).map_err(StorageError::io("open", &diff))?;
        let split = self.staging.path(TAR_SPLIT);
        let file = File::create_new(&split).map_err(StorageError::io("create", &split))?;
        let target = (root, TarSplit::new(file));
        let (totals, tally) =
            unpack::unpack(blob, compression, self.algorithms, limits, target)?;
        Ok(Unpacked {
            blob_digest: totals.blob,
            blob_size: totals.blob_size,
            diff_id: DiffId(totals.diff),
            diff_size: totals.diff_size,
            compression,
            uids: tally.uids.into_iter().collect(),
            gids: tally.gids.into_iter().collect(),
            usage: crate::storage::usage::Usage { bytes: tally.bytes, inodes: tally.inodes },
            staging: self.staging,
        })
    }
}

/// In a staging directory: what becomes the layer's directory,
pub(super) const LAYER: &str = "layer";
/// its files,
pub(super) const DIFF: &str = "layer/diff";
/// and the layer's tar-split.
pub(super) const TAR_SPLIT: &str = "tar-split.gz";
