//! Where layers are unpacked before they are part of the store.
//!
//! A directory of its own under `overlay/tempdirs`, with a lock held on a file beside it: when
//! nobody holds the lock, it is left over. What is removed from the store goes the same way: renamed into
//! such a directory under the store's locks, which is fast, and removed after them, which may be
//! slow.
//!
//! Not under `overlay/staging`: podman up to version 4.3 removes that whenever it ends. Other users
//! of the store know `tempdirs` too, and there leave alone what has not their own prefix.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::OpenOptionsExt;
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
/// Beside each directory, with this extension, the file on which its user holds a lock.
const LOCK: &str = "lock";

/// A staging directory. It is removed when this is dropped.
#[derive(Debug)]
pub(super) struct Staging {
    path: PathBuf,
    /// A file that is elsewhere.
    beside: Option<PathBuf>,
    _lock: File,
}

impl Staging {
    /// Makes a staging directory below `base`.
    pub(super) fn new(base: &Path) -> Result<Self, StorageError> {
        loop {
            let name = LayerId::fresh().map_err(StorageError::io("name a directory in", base))?;
            let path = base.join(format!("{PREFIX}{}", name.short()));
            let lock = path.with_extension(LOCK);
            // The lock comes first: someone who removes what is left over may be faster, and then
            // takes this for it.
            let held = lockfile::try_hold(&lock).map_err(StorageError::io("lock", &lock))?;
            if let Some(held) = held {
                let staging = Self { path, beside: None, _lock: held };
                make_directory(&staging.path, 0o700)?;
                return Ok(staging);
            }
        }
    }

    /// Where a thing of this name is put.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Where a layer's tar-split is put.
    pub(super) fn tar_split(&self) -> &Path {
        self.beside.as_deref().unwrap_or(&self.path)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What cannot be removed now is when the store is next opened.
        if let Some(file) = &self.beside {
            let _ = remove(file);
        }
        if remove(&self.path).is_ok() {
            let _ = remove(&self.path.with_extension(LOCK));
        }
    }
}

/// Removes the staging directories of this program that no process uses, below `base`, and what
/// belonged to them in `beside`.
pub(super) fn remove_stale(base: &Path, beside: &Path) -> Result<(), StorageError> {
    // Listed first: a directory is made before what is beside it, and removed after it.
    let files = std::fs::read_dir(beside).map_err(StorageError::io("list", beside))?;
    let files: Vec<_> = files.flatten().map(|entry| entry.file_name()).collect();
    let list = std::fs::read_dir(base).map_err(StorageError::io("list", base))?;
    for entry in list.flatten() {
        let lock = entry.path();
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        if !ours || lock.extension().is_none_or(|extension| extension != LOCK) {
            continue;
        }
        if let Ok(Some(_held)) = lockfile::try_hold(&lock) {
            remove(&lock.with_extension(""))?;
            remove(&lock)?;
        }
    }
    for file in files {
        let owner = file.to_str().and_then(|name| name.strip_prefix('.'));
        if owner.is_some_and(|owner| owner.starts_with(PREFIX) && !base.join(owner).exists()) {
            remove(&beside.join(file))?;
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
    /// Directories that the archive only implies.
    pub(super) implied: Vec<Vec<u8>>,
    pub(super) staging: Staging,
}

impl StagedLayer {
    /// A new place below `base`, with the tar-split in `beside`.
    pub(super) fn new(base: &Path, beside: &Path) -> Result<Self, StorageError> {
        let mut staging = Staging::new(base)?;
        let name = staging.path.file_name().unwrap_or_default().to_string_lossy();
        staging.beside = Some(beside.join(format!(".{name}")));
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
        let split = self.staging.tar_split();
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(split)
            .map_err(StorageError::io("create", split))?;
        let target = (root, TarSplit::new(file));
        let (totals, tally) = unpack::unpack(blob, compression, self.algorithms, limits, target)?;
        Ok(Unpacked {
            blob_digest: totals.blob,
            blob_size: totals.blob_size,
            diff_id: DiffId(totals.diff),
            diff_size: totals.diff_size,
            compression,
            uids: tally.uids.into_iter().collect(),
            gids: tally.gids.into_iter().collect(),
            usage: crate::storage::usage::Usage { bytes: tally.bytes, inodes: tally.inodes },
            implied: tally.implied,
            staging: self.staging,
        })
    }
}

/// In a staging directory: what becomes the layer's directory,
pub(super) const LAYER: &str = "layer";
/// and its files.
pub(super) const DIFF: &str = "layer/diff";
