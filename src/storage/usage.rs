//! What things take on disk.
//!
//! Layers of images do not change, so what they take is written into their records when they are
//! unpacked, or measured once. Only a container's own layer is walked anew when it is asked for; how
//! far, and how often, is the caller's to say.

use std::collections::HashSet;
use std::path::Path;
use std::path::PathBuf;
use std::sync::PoisonError;

use rustix::fs::AtFlags;
use rustix::fs::FileType;

use crate::model::ids::ContainerId;
use crate::model::ids::LayerId;
use crate::model::stats::Filesystem;
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

    /// The layer that is a container's own, to be measured now and then.
    ///
    /// # Errors
    ///
    /// [`StorageError::ContainerMissing`], and where the index cannot be read.
    pub fn own_layer(&self, id: &ContainerId) -> Result<OwnLayer, StorageError> {
        let layer: LayerId = self.container(id)?.layer_id()?;
        let directory = self.layer_directory(&layer);
        Ok(OwnLayer { mountpoint: directory.join("merged"), diff: directory.join("diff") })
    }
}

/// The layer that a container writes to. It stays where it is as long as the container is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnLayer {
    mountpoint: PathBuf,
    diff: PathBuf,
}

impl OwnLayer {
    /// Where the container's root is mounted.
    #[must_use]
    pub fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    /// What was written to it.
    #[must_use]
    pub fn measure(&self) -> Usage {
        measure(&self.diff)
    }

    /// What was written to it, if that is in no more than `most` files and directories.
    #[must_use]
    pub fn measure_small(&self, most: u64) -> Option<Usage> {
        measure_up_to(&self.diff, most)
    }

    /// The filesystem that it is on.
    #[must_use]
    pub fn filesystem(&self) -> Option<Filesystem> {
        let found = rustix::fs::statfs(&self.diff).ok()?;
        let block = u64::try_from(found.f_bsize).ok()?;
        Some(Filesystem {
            size: found.f_blocks.saturating_mul(block),
            inodes: found.f_files,
            inodes_free: found.f_ffree,
        })
    }
}

/// Adds up a tree. What cannot be looked at, or goes away meanwhile, counts as nothing; no link is
/// followed; a file with several names counts once.
fn measure(path: &Path) -> Usage {
    measure_up_to(path, u64::MAX).unwrap_or_default()
}

/// As [`measure`]; `None` beyond that many inodes, found without looking at more.
fn measure_up_to(path: &Path, most: u64) -> Option<Usage> {
    let mut walk = Walk { usage: Usage::default(), seen: HashSet::new(), most };
    if let Ok(directory) = Directory::open(path) {
        walk.add(&directory, 0)?;
    }
    Some(walk.usage)
}

struct Walk {
    usage: Usage,
    seen: HashSet<u64>,
    most: u64,
}

impl Walk {
    fn add(&mut self, directory: &Directory, depth: usize) -> Option<()> {
        let Ok(entries) = rustix::fs::Dir::read_from(directory) else { return Some(()) };
        for entry in entries {
            // What else is in a directory that cannot be read on is not known.
            let Ok(entry) = entry else { return Some(()) };
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let Ok(stat) = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            if !is_directory && stat.st_nlink > 1 && !self.seen.insert(stat.st_ino) {
                continue;
            }
            if self.usage.inodes == self.most {
                return None;
            }
            self.usage.inodes += 1;
            let blocks = u64::try_from(stat.st_blocks).unwrap_or_default();
            self.usage.bytes = self.usage.bytes.saturating_add(blocks.saturating_mul(512));
            if is_directory
                && depth < MAX_DEPTH
                && let Ok(child) = directory.open_child(name.to_bytes())
            {
                self.add(&child, depth + 1)?;
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_added_up_and_not_beyond_a_bound() {
        let directory = tempfile::tempdir().unwrap();
        let diff = directory.path().join("diff");
        std::fs::create_dir_all(diff.join("a/b")).unwrap();
        std::fs::File::create(diff.join("a/empty")).unwrap();
        let mut file = std::fs::File::create(diff.join("a/b/full")).unwrap();
        std::io::Write::write_all(&mut file, &[7; 100_000]).unwrap();
        file.sync_all().unwrap();
        std::fs::hard_link(diff.join("a/b/full"), diff.join("again")).unwrap();
        std::os::unix::fs::symlink("/usr", diff.join("link")).unwrap();
        let layer = OwnLayer { mountpoint: directory.path().join("merged"), diff };
        let usage = layer.measure();
        assert_eq!(usage.inodes, 5);
        assert!((100_000..200_000).contains(&usage.bytes), "{usage:?}");
        assert_eq!(layer.measure_small(5), Some(usage));
        assert_eq!(layer.measure_small(4), None);
        let found = layer.filesystem().unwrap();
        assert!(found.size > usage.bytes && found.inodes >= found.inodes_free, "{found:?}");
        let gone = OwnLayer { mountpoint: "/nowhere".into(), diff: "/nowhere".into() };
        assert_eq!((gone.measure(), gone.filesystem()), (Usage::default(), None));
    }
}
