//! A container's rootfs: its layer mounted over those of its image, and who counts on it.
//!
//! Several users may mount one container; `mountpoints.json` has their number, for all programs
//! that use the store. After a reboot the file is gone with the mounts.

use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::sync::PoisonError;

use serde_json::Value;
use serde_json::json;

use crate::model::change::Change;
use crate::model::ids::ContainerId;
use crate::model::ids::LayerId;
use crate::storage::Store;
use crate::storage::collect;
use crate::storage::error::StorageError;
use crate::storage::index;
use crate::storage::index::Fields;
use crate::storage::index::Held;
use crate::storage::index::Record;
use crate::storage::index::Row;
use crate::storage::lockfile::Hold;
use crate::storage::overlay;
use crate::storage::overlay::Access;
use crate::storage::overlay::Persistence;
use crate::storage::overlay::Place;
use crate::storage::staging;
use crate::storage::staging::Staging;
use crate::sys::idmap;
use crate::sys::idmap::Mapped;
use crate::sys::mount;

/// A layer that is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MountPoint {
    layer: String,
    path: PathBuf,
    count: u64,
}

/// How a layer is mounted.
#[derive(Clone, Copy)]
pub(super) struct How<'a> {
    pub(super) label: Option<&'a str>,
    pub(super) access: Access,
    /// Whose ids the layers below belong to.
    pub(super) user_namespace: Option<&'a File>,
}

impl Record for MountPoint {
    fn read(fields: &Fields, _: usize) -> Option<Self> {
        Some(Self {
            layer: index::text(fields, "id").to_owned(),
            path: index::text(fields, "path").into(),
            count: fields.get("count").and_then(Value::as_u64)?,
        })
    }
}

impl Store {
    /// Mounts a container's rootfs, or counts one more user of it, and returns where it is. One
    /// that was made for a user namespace needs that namespace.
    ///
    /// # Errors
    ///
    /// [`StorageError::ContainerMissing`], [`StorageError::LayerMissing`],
    /// [`StorageError::Unmapped`], and where the kernel does not mount it.
    pub fn mount(
        &self,
        id: &ContainerId,
        user_namespace: Option<&File>,
    ) -> Result<PathBuf, StorageError> {
        let container = self.container(id)?;
        let layer = container.layer_id()?;
        if container.id_map.is_some() != user_namespace.is_some() {
            return Err(StorageError::Unmapped(id.clone()));
        }
        self.own_mounts()?;
        let layers = self.inner.layers.hold(Hold::Read)?;
        let record = layers.iter().find(|known| known.id == layer && !known.incomplete);
        let record = record.ok_or_else(|| StorageError::LayerMissing(layer.clone()))?;
        let mut mounts = self.inner.mounts.hold(Hold::Write)?;
        let target = self.layer_directory(&layer).join("merged");
        let mounted =
            mount::is_mount_point(&target).map_err(StorageError::io("look at", &target))?;
        // A count without a mount is from before someone unmounted it by hand.
        let count = if mounted { count(&mounts, &layer) } else { 0 };
        if !mounted {
            let label = container.mount_label.as_deref().unwrap_or(&record.mount_label);
            let persistence =
                if container.volatile { Persistence::Volatile } else { Persistence::Durable };
            let access = Access::Writable(persistence);
            let how = How { label: Some(label), access, user_namespace };
            self.mount_layer(&layer, &target, how)?;
        }
        set_count(&mut mounts, &layer, &target, count + 1);
        if let Err(error) = mounts.save(0) {
            if !mounted {
                let _ = mount::unmount(&target);
            }
            return Err(error);
        }
        Ok(target)
    }

    /// Whether a container's files can belong to the ids of a user namespace: by trying it once in
    /// the store.
    ///
    /// # Errors
    ///
    /// [`StorageError::Io`] with the kernel's reason: that they cannot.
    pub fn can_map_owners(&self) -> Result<(), StorageError> {
        let staging = Staging::new(&self.staging())?;
        let place = staging.path("trial");
        staging::make_directory(&place, 0o700)?;
        idmap::try_in(&place).map_err(StorageError::io("map the owners of a layer in", &place))
    }

    /// Counts one user less of a container's rootfs, and unmounts it with the last.
    ///
    /// # Errors
    ///
    /// [`StorageError::ContainerMissing`], and where the kernel does not unmount it.
    pub fn unmount(&self, id: &ContainerId) -> Result<Change, StorageError> {
        let layer = self.container(id)?.layer_id()?;
        let _layers = self.inner.layers.hold(Hold::Read)?;
        let mut mounts = self.inner.mounts.hold(Hold::Write)?;
        match count(&mounts, &layer) {
            0 => return Ok(Change::Unchanged(())),
            1 => self.unmount_layer(&layer)?,
            _ => {}
        }
        let target = self.layer_directory(&layer).join("merged");
        let left = count(&mounts, &layer) - 1;
        set_count(&mut mounts, &layer, &target, left);
        mounts.save(0)?;
        Ok(Change::Made(()))
    }

    /// Unmounts a layer whoever counts on it. The lock on layers is held.
    pub(super) fn release_mount(&self, layer: &LayerId) -> Result<(), StorageError> {
        let mut mounts = self.inner.mounts.hold(Hold::Write)?;
        self.unmount_layer(layer)?;
        if count(&mounts, layer) > 0 {
            set_count(&mut mounts, layer, Path::new(""), 0);
            mounts.save(0)?;
        }
        Ok(())
    }

    /// Sees to it that `overlay` is a mount of its own. Other programs that use the store do this
    /// when they start, and would cover the mounts that are there already.
    pub(super) fn own_mounts(&self) -> Result<(), StorageError> {
        let home = self.overlay();
        let ready = || mount::is_mount_point(&home).map_err(StorageError::io("look at", &home));
        if ready()? {
            return Ok(());
        }
        let mut graph = self.inner.graph.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.root().join("storage.lock");
        graph.lock(Hold::Write).map_err(StorageError::io("lock", &path))?;
        let made = mount::make_private(&home).map_err(StorageError::io("mount", &home));
        graph.unlock();
        made
    }

    pub(super) fn unmount_layer(&self, layer: &LayerId) -> Result<(), StorageError> {
        let target = self.layer_directory(layer).join("merged");
        let mounted =
            mount::is_mount_point(&target).map_err(StorageError::io("look at", &target))?;
        if mounted {
            mount::unmount(&target).map_err(StorageError::io("unmount", &target))?;
        }
        Ok(())
    }

    pub(super) fn mount_layer(
        &self,
        layer: &LayerId,
        target: &Path,
        how: How<'_>,
    ) -> Result<(), StorageError> {
        let home = self.overlay();
        let directory = self.layer_directory(layer);
        let place = Place::read(&directory)?;
        if place.lowers_above().iter().any(|lower| !home.join(lower).exists()) {
            self.repair_links()?;
        }
        if !target.exists() {
            staging::make_directory(target, 0o700)?;
        }
        // overlayfs marks a volatile layer and refuses to mount it twice; it cannot know that
        // nobody minds (Documentation/filesystems/overlayfs.rst, "Volatile mount").
        staging::remove(&directory.join("work/work/incompat/volatile"))?;
        let mut extra = self.inner.settings.mount_options.clone();
        if how.access == Access::Writable(Persistence::Volatile) {
            extra.push("volatile".to_owned());
        }
        let try_it = |extra: &[String]| {
            let options = |place: &Place| {
                overlay::options(&home, layer.as_str(), place, (how.access, extra), how.label)
            };
            let Some(user_namespace) = how.user_namespace.filter(|_| !place.lowers.is_empty())
            else {
                return mount::mount_overlay(&home, target, &options(&place));
            };
            let layers: Vec<_> = place.lowers.iter().map(|lower| home.join(lower)).collect();
            let names = (0..layers.len()).map(|number| format!("l/{number}")).collect();
            let renamed = Place { lowers: names, ..place.clone() };
            let mapped = Mapped { layers: &layers, place: &home.join("l"), user_namespace };
            idmap::mount_overlay(&home, target, &options(&renamed), mapped)
        };
        let mut result = try_it(&extra);
        // Two things that not every kernel and filesystem can do, and nobody's data needs.
        for optional in ["metacopy=on", "volatile"] {
            let refused = result
                .as_ref()
                .is_err_and(|error| error.kind() == std::io::ErrorKind::InvalidInput);
            if refused && extra.iter().any(|option| option == optional) {
                extra.retain(|option| option != optional);
                result = try_it(&extra);
            }
        }
        result.map_err(StorageError::io("mount", target))
    }

    /// Makes the short names of layers that were lost, as happens when a machine goes down.
    fn repair_links(&self) -> Result<(), StorageError> {
        for layer in collect::ids_in::<LayerId>(&self.overlay())? {
            let Ok(place) = Place::read(&self.layer_directory(&layer)) else { continue };
            if std::fs::symlink_metadata(self.overlay().join("l").join(&place.link)).is_err() {
                self.make_link(&layer)?;
            }
        }
        Ok(())
    }
}

pub(super) fn count(mounts: &Held<'_, MountPoint>, layer: &LayerId) -> u64 {
    let found = mounts.iter().find(|mount| mount.layer == layer.as_str());
    found.map_or(0, |mount| mount.count)
}

pub(super) fn set_count(
    mounts: &mut Held<'_, MountPoint>,
    layer: &LayerId,
    path: &Path,
    count: u64,
) {
    let rows = mounts.rows();
    rows.retain(|row| row.record.as_ref().is_none_or(|mount| mount.layer != layer.as_str()));
    if count > 0 {
        let mut fields = Fields::new();
        fields.insert("id".to_owned(), json!(layer));
        fields.insert("path".to_owned(), json!(path));
        fields.insert("count".to_owned(), json!(count));
        rows.push(Row::new(fields, 0));
    }
}
