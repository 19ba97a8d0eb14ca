//! What things take on disk.
//!
//! Layers of images do not change, so what they take is written into their records when they are
//! unpacked, or measured once. Only a container's own layer is walked each time it is asked for.

use std::collections::HashSet;
use std::path::Path;
use std::path::PathBuf;
use std::sync::PoisonError;

use rustix::fs::AtFlags;

use crate::model::ids::ContainerId;
use crate::model::ids::LayerId;
use crate::storage::Store;
use crate::storage::error::StorageError;
use crate::storage::layers::Layer;
use crate::storage::layers::STABLE;
use crate::sys::beneath::Directory;

/// Directories deeper than this are not looked into.
const MAX_DEPTH: usize = 256;

/// Space and inodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of whole blocks.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
}

/// What the images take of their filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FsUsage {
    /// Where they are.
    pub mountpoint: PathBuf,
    /// Bytes of whole blocks.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
}

impl Store {
    /// What all images together take.
    ///
    /// # Errors
    ///
    /// Where the indexes cannot be read.
    pub fn image_fs_usage(&self) -> Result<FsUsage, StorageError> {
        let mountpoint = self.root().join("overlay-images");
        let mut usage = FsUsage { mountpoint, bytes: 0, inodes: 0 };
        for layer in self.inner.layers.snapshot()?.iter() {
            if layer.diff_id.is_none() || layer.file != STABLE || layer.incomplete {
                continue;
            }
            let Usage { bytes, inodes } = self.usage_of(layer);
            usage.bytes = usage.bytes.saturating_add(bytes);
            usage.inodes = usage.inodes.saturating_add(inodes);
        }
        for image in self.inner.images.snapshot()?.iter() {
            for item in &image.big_data {
                let blocks = item.size.unwrap_or_default().next_multiple_of(4096);
                usage.bytes = usage.bytes.saturating_add(blocks);
                usage.inodes += 1;
            }
        }
        Ok(usage)
    }

    fn usage_of(&self, layer: &Layer) -> Usage {
        if let Some(usage) = layer.usage {
            return usage;
        }
        let known = self.inner.measured.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(usage) = known.get(&layer.id) {
            return *usage;
        }
        drop(known);
        let usage = measure(&self.layer_directory(&layer.id).join("diff"));
        let mut known = self.inner.measured.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(layer.id.clone(), usage);
        usage
    }

    /// What a container has written to its own layer.
    ///
    /// # Errors
    ///
    /// [`StorageError::ContainerMissing`], and where the index cannot be read.
    pub fn layer_usage(&self, id: &ContainerId) -> Result<Usage, StorageError> {
        let layer: LayerId = self.container(id)?.layer_id()?;
        Ok(measure(&self.layer_directory(&layer).join("diff")))
    }
}

/// Adds up a tree. What cannot be looked at, or goes away meanwhile, counts as nothing; no link is
/// followed; a file with several names counts once.
fn measure(path: &Path) -> Usage {
    let mut usage = Usage::default();
    let mut seen = HashSet::new();
    if let Ok(directory) = Directory::open(path) {
        add(&directory, 0, &mut usage, &mut seen);
    }
    usage
}

fn add(directory: &Directory, depth: usize, usage: &mut Usage, seen: &mut HashSet<u64>) {
    for (name, is_directory) in directory.list().unwrap_or_default() {
        let name = name.as_slice();
        let Ok(stat) = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        if !is_directory && stat.st_nlink > 1 && !seen.insert(stat.st_ino) {
            continue;
        }
        usage.inodes += 1;
        let blocks = u64::try_from(stat.st_blocks).unwrap_or_default();
        usage.bytes = usage.bytes.saturating_add(blocks.saturating_mul(512));
        if is_directory && depth < MAX_DEPTH
            && let Ok(child) = directory.open_child(name)
        {
            add(&child, depth + 1, usage, seen);
        }
    }
}
