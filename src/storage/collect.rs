//! Removing what nothing needs: layers, and what a crash left behind.
//!
//! A record goes before the files that it names. The files are then renamed away under the lock,
//! and removed after it.

use std::collections::HashSet;
use std::path::Path;
use std::path::PathBuf;
use std::sync::PoisonError;

use crate::model::ids::LayerId;
use crate::storage::Store;
use crate::storage::containers::ContainerRecord;
use crate::storage::error::StorageError;
use crate::storage::images::ImageRow;
use crate::storage::index::Held;
use crate::storage::index::Snapshot;
use crate::storage::layers::Layer;
use crate::storage::layers::PENDING;
use crate::storage::lockfile::Hold;
use crate::storage::overlay::Place;
use crate::storage::staging;
use crate::storage::staging::Staging;

/// What keeps layers from being removed, beside the layers on top of them.
pub(super) struct Needs<'a> {
    pub(super) images: Vec<&'a ImageRow>,
    pub(super) containers: &'a Snapshot<ContainerRecord>,
    pub(super) pinned: HashSet<LayerId>,
}

impl Needs<'_> {
    pub(super) fn has(&self, id: &LayerId) -> bool {
        self.images.iter().any(|image| image.layers().any(|layer| layer == id))
            || self.containers.iter().any(|container| container.layer == id.as_str())
            || self.pinned.contains(id)
    }
}

impl Store {
    /// Removes layers that this program unpacked and no image, container or pull needs: those of
    /// a pull that failed or was cut off between its layers and its image. Returns their number.
    ///
    /// To be called when no other process pulls for this daemon: at its start, and after a pull
    /// that failed. Layers that others made are theirs to remove.
    ///
    /// # Errors
    ///
    /// Where the indexes cannot be read or written.
    pub fn collect_layers(&self) -> Result<usize, StorageError> {
        let mut held = self.inner.layers.hold(Hold::Write)?;
        let images = self.inner.images.snapshot()?;
        let containers = self.inner.containers.snapshot()?;
        let waiting = self.inner.waiting.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let needs = Needs {
            images: images.iter().map(AsRef::as_ref).collect(),
            containers: &containers,
            pinned: self.pinned(),
        };
        let mut gone: Vec<LayerId> = Vec::new();
        loop {
            let parents: HashSet<&LayerId> = held
                .iter()
                .filter(|layer| !gone.contains(&layer.id))
                .filter_map(|layer| layer.parent.as_ref())
                .collect();
            let more: Vec<LayerId> = held
                .iter()
                .filter(|layer| layer.usage.is_some() || waiting.contains(&layer.id))
                .map(|layer| &layer.id)
                .filter(|id| !gone.contains(id) && !parents.contains(id) && !needs.has(id))
                .cloned()
                .collect();
            if more.is_empty() {
                break;
            }
            gone.extend(more);
        }
        let trash = self.unlist_layers(&mut held, &gone)?;
        drop(held);
        drop(trash);
        let mut waiting = self.inner.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|id| !gone.contains(id));
        Ok(gone.len())
    }

    /// The layers of a stack, from the top, that go when its image does. Those that only a pull
    /// still holds are noted for [`Store::collect_layers`].
    pub(super) fn removable(
        &self,
        held: &Held<'_, Layer>,
        tops: Vec<LayerId>,
        needs: &Needs<'_>,
    ) -> Vec<LayerId> {
        let mut gone: Vec<LayerId> = Vec::new();
        for top in tops {
            let mut next = Some(top);
            while let Some(id) = next.take() {
                let has_child = held
                    .iter()
                    .any(|layer| layer.parent.as_ref() == Some(&id) && !gone.contains(&layer.id));
                if needs.pinned.contains(&id) {
                    let waiting = self.inner.waiting.lock();
                    waiting.unwrap_or_else(PoisonError::into_inner).insert(id);
                    break;
                }
                if has_child || needs.has(&id) || gone.contains(&id) {
                    break;
                }
                let layer = held.iter().find(|layer| layer.id == id);
                // An index that was put aside may name it, and what lies on it.
                if layer.is_none() && self.inner.layers.aside().is_some() {
                    break;
                }
                next = layer.and_then(|layer| layer.parent.clone());
                gone.push(id);
            }
        }
        gone
    }

    /// The layers that pulls hold.
    pub(super) fn pinned(&self) -> HashSet<LayerId> {
        let pins = self.inner.pins.lock().unwrap_or_else(PoisonError::into_inner);
        pins.keys().cloned().collect()
    }

    /// Removes the records of layers and renames their files away. What is returned is to be
    /// dropped when no lock is held.
    pub(super) fn unlist_layers(
        &self,
        held: &mut Held<'_, Layer>,
        ids: &[LayerId],
    ) -> Result<Vec<Staging>, StorageError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let listed = |layer: &Layer| ids.contains(&layer.id);
        let files: HashSet<usize> =
            held.iter().filter(|layer| listed(layer)).map(|layer| layer.file).collect();
        for id in ids {
            self.release_mount(id)?;
            self.mark_pending(id)?;
        }
        held.rows().retain(|row| !row.record.as_ref().is_some_and(|layer| listed(layer)));
        for file in files {
            held.save(file)?;
        }
        let mut trash = Vec::with_capacity(ids.len());
        for id in ids {
            trash.push(self.displace_layer(id)?);
        }
        Ok(trash)
    }

    /// Whether the store has this layer. What it has of it that is not whole is renamed away.
    pub(super) fn is_whole(
        &self,
        held: &mut Held<'_, Layer>,
        id: &LayerId,
        trash: &mut Vec<Staging>,
    ) -> Result<bool, StorageError> {
        let found = held.iter().find(|layer| layer.id == *id).map(|layer| layer.incomplete);
        match found {
            Some(false) => return Ok(true),
            Some(true) => {
                trash.extend(self.unlist_layers(held, std::slice::from_ref(id))?);
            }
            None if self.layer_directory(id).exists() || self.tar_split(id).exists() => {
                trash.push(self.displace_layer(id)?);
            }
            None => {}
        }
        Ok(false)
    }

    /// Notes in a layer's directory that it is to have no record, so that the next
    /// [`Store::open`] removes it if this is cut off.
    fn mark_pending(&self, id: &LayerId) -> Result<(), StorageError> {
        let path = self.layer_directory(id).join(PENDING);
        match std::fs::File::create(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(StorageError::io("create", &path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Renames all files of a layer that has no record into a staging directory.
    pub(super) fn displace_layer(&self, id: &LayerId) -> Result<Staging, StorageError> {
        let trash = Staging::new(&self.staging())?;
        let directory = self.layer_directory(id);
        for link in self.links_to(id, &directory)? {
            staging::remove(&link)?;
        }
        staging::remove(&self.tar_split(id))?;
        staging::remove(&self.root().join("overlay-layers").join(id.as_str()))?;
        // The directory last: as long as it is there, the rest is found again.
        match std::fs::rename(&directory, trash.path("layer")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(StorageError::io("remove", &directory)(error));
            }
            _ => {}
        }
        Ok(trash)
    }

    /// The short name of a layer, among those of all. A directory that is damaged, or gone, does not
    /// tell it; then it is the one that leads there.
    fn links_to(&self, id: &LayerId, directory: &Path) -> Result<Vec<PathBuf>, StorageError> {
        let links = self.overlay().join("l");
        if let Ok(place) = Place::read(directory) {
            return Ok(vec![links.join(place.link)]);
        }
        let target = Path::new("..").join(id.as_str()).join("diff");
        let entries = match std::fs::read_dir(&links) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(StorageError::io("read", &links)(error)),
        };
        let paths = entries.flatten().map(|entry| entry.path());
        Ok(paths.filter(|path| std::fs::read_link(path).is_ok_and(|to| to == target)).collect())
    }

    /// Removes what an earlier run left: see the head of [`crate::storage`].
    pub(super) fn clean_up(&self) -> Result<(), StorageError> {
        staging::remove_stale(&self.staging(), &self.root().join("overlay-layers"))?;
        let mut held = self.inner.layers.hold(Hold::Write)?;
        let incomplete: Vec<LayerId> =
            held.iter().filter(|layer| layer.incomplete).map(|layer| layer.id.clone()).collect();
        let mut trash = self.unlist_layers(&mut held, &incomplete)?;
        for id in ids_in::<LayerId>(&self.overlay())? {
            let pending = self.layer_directory(&id).join(PENDING);
            if !pending.exists() {
                continue;
            }
            if held.iter().any(|layer| layer.id == id) {
                staging::remove(&pending)?;
            } else {
                trash.push(self.displace_layer(&id)?);
            }
        }
        remove_temporaries(&self.root().join("overlay-layers"))?;
        drop(held);
        let held = self.inner.containers.hold(Hold::Write)?;
        remove_temporaries(&self.root().join("overlay-containers"))?;
        drop(held);
        let held = self.inner.images.hold(Hold::Write)?;
        let base = self.root().join("overlay-images");
        for id in ids_in(&base)? {
            if held.iter().any(|image| image.id == id) {
                remove_temporaries(&base.join(id.as_str()))?;
            } else if self.inner.images.aside().is_none() {
                // An index that was put aside may name it.
                staging::remove(&base.join(id.as_str()))?;
            }
        }
        remove_temporaries(&base)?;
        drop(held);
        drop(trash);
        Ok(())
    }
}

/// Removes files that were being written when their writer died. The lock on what they are for is
/// held, so nobody writes one now.
fn remove_temporaries(path: &Path) -> Result<(), StorageError> {
    let list = std::fs::read_dir(path).map_err(StorageError::io("list", path))?;
    for entry in list.flatten() {
        if entry.file_name().to_string_lossy().starts_with(".tmp-") {
            staging::remove(&entry.path())?;
        }
    }
    Ok(())
}

/// The names in a directory that are ids.
pub(super) fn ids_in<T: std::str::FromStr>(path: &Path) -> Result<Vec<T>, StorageError> {
    let list = std::fs::read_dir(path).map_err(StorageError::io("list", path))?;
    let ids = list.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(ids.collect())
}
