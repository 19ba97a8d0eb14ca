//! Containers: their records, writable layers and directories.
//!
//! Records of other programs' containers (podman, buildah) are in the same lists. They keep images
//! from being removed, and are otherwise none of this program's business.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;
use serde_json::json;
use time::OffsetDateTime;

use crate::model::change::Change;
use crate::model::ids::ContainerId;
use crate::model::ids::ImageId;
use crate::model::ids::LayerId;
use crate::oci::digest::DiffId;
use crate::storage::Store;
use crate::storage::error::StorageError;
use crate::storage::index;
use crate::storage::index::Fields;
use crate::storage::index::Record;
use crate::storage::index::Row;
use crate::storage::layers;
use crate::storage::layers::VOLATILE;
use crate::storage::lockfile::Hold;
use crate::storage::staging;
use crate::storage::staging::Staging;
use crate::sys::beneath::Directory;
use crate::sys::files;
use crate::sys::user_ns::IdMap;

/// A flag of containers that need not survive a crash of the machine.
const VOLATILE_FLAG: &str = "Volatile";

/// A container that is to be part of the store.
#[derive(Debug, Clone)]
pub struct NewContainer {
    /// Its id.
    pub id: ContainerId,
    /// Names that no other container has.
    pub names: Vec<String>,
    /// Its image.
    pub image: ImageId,
    /// The archives that the image's layers must be, lowest first.
    pub archives: Vec<DiffId>,
    /// What is kept for the caller, JSON.
    pub metadata: String,
    /// The SELinux label that its rootfs is mounted with.
    pub mount_label: Option<String>,
    /// The ids that its files belong to, if it has a user namespace.
    pub id_map: Option<IdMap>,
}

/// A container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerRecord {
    /// Its id.
    pub id: ContainerId,
    /// Its names.
    pub names: Vec<String>,
    /// The id of its image, if it has one.
    pub image: String,
    /// The id of its own layer.
    pub layer: String,
    /// What its maker keeps with it; CRI-O and this program JSON.
    pub metadata: String,
    /// When it was made.
    pub created: Option<OffsetDateTime>,
    /// Whether it need not survive a crash of the machine.
    pub(super) volatile: bool,
    /// The SELinux label that its rootfs is mounted with.
    pub(super) mount_label: Option<String>,
    /// The ids that its files belong to, if it has a user namespace.
    pub(super) id_map: Option<IdMap>,
    /// The number of the index file that it is kept in.
    pub(super) file: usize,
}

impl Record for ContainerRecord {
    fn read(fields: &Fields, file: usize) -> Option<Self> {
        let label = fields.get("flags").and_then(|flags| flags.get("MountLabel"));
        Some(Self {
            id: index::text(fields, "id").parse().ok()?,
            names: index::texts(fields, "names"),
            image: index::text(fields, "image").to_owned(),
            layer: index::text(fields, "layer").to_owned(),
            metadata: index::text(fields, "metadata").to_owned(),
            created: index::time(fields, "created"),
            volatile: index::flag(fields, VOLATILE_FLAG),
            mount_label: label.and_then(Value::as_str).map(str::to_owned),
            id_map: id_map(fields),
            file,
        })
    }
}

impl ContainerRecord {
    pub(super) fn layer_id(&self) -> Result<LayerId, StorageError> {
        self.layer.parse().map_err(|_| StorageError::ContainerMissing(self.id.clone()))
    }
}

impl Store {
    /// All containers, also those of other programs: their metadata tells.
    ///
    /// # Errors
    ///
    /// Where the index cannot be read.
    pub fn containers(&self) -> Result<Vec<ContainerRecord>, StorageError> {
        let containers = self.inner.containers.snapshot()?;
        Ok(containers.iter().map(|container| ContainerRecord::clone(container)).collect())
    }

    /// Where a container's files are that survive a reboot.
    #[must_use]
    pub fn container_dir(&self, id: &ContainerId) -> PathBuf {
        self.root().join("overlay-containers").join(id.as_str()).join("userdata")
    }

    /// Where a container's files are that do not survive a reboot.
    #[must_use]
    pub fn container_run_dir(&self, id: &ContainerId) -> PathBuf {
        self.runroot().join("overlay-containers").join(id.as_str()).join("userdata")
    }

    pub(super) fn container(&self, id: &ContainerId) -> Result<Arc<ContainerRecord>, StorageError> {
        let containers = self.inner.containers.snapshot()?;
        let found = containers.iter().find(|container| container.id == *id);
        found.map(Arc::clone).ok_or_else(|| StorageError::ContainerMissing(id.clone()))
    }

    /// Makes a container: a writable layer on top of its image, its record and its directories.
    ///
    /// # Errors
    ///
    /// [`StorageError::ImageMissing`], [`StorageError::LayerMissing`], [`StorageError::OtherLayers`],
    /// [`StorageError::ContainerExists`], [`StorageError::NameTaken`].
    pub fn create_container(&self, new: NewContainer) -> Result<(), StorageError> {
        let name = |source| StorageError::io("name a layer in", self.root())(source);
        let layer = LayerId::fresh().map_err(name)?;
        let staging = Staging::new(&self.staging())?;
        staging::make_directory(&staging.path(staging::LAYER), 0o700)?;
        staging::make_directory(&staging.path(staging::DIFF), 0o700)?;

        let mut held = self.inner.layers.hold(Hold::Write)?;
        let images = self.inner.images.hold(Hold::Read)?;
        let image = images.iter().find(|image| image.id == new.image);
        let top = match image {
            Some(image) => image.top_layer().cloned(),
            None => return Err(StorageError::ImageMissing(new.image)),
        };
        layers::must_be_of(&held, &new.image, top.as_ref(), &new.archives)?;
        let mut containers = self.inner.containers.hold(Hold::Write)?;
        for other in containers.iter() {
            if other.id == new.id {
                return Err(StorageError::ContainerExists(new.id));
            }
            if let Some(name) = new.names.iter().find(|name| other.names.contains(name)) {
                let (name, holder) = (name.clone(), other.id.to_string());
                return Err(StorageError::NameTaken { name, holder });
            }
        }
        let staged = staging.path(staging::LAYER);
        self.furnish(&staged, &layer, top.as_ref())?;
        if let Some(map) = new.id_map {
            self.open_to(map, &staged)?;
        }
        let directory = self.layer_directory(&layer);
        std::fs::rename(&staged, &directory).map_err(StorageError::io("create", &directory))?;
        self.make_link(&layer)?;
        // The container first: one whose layer is missing is seen and removed, a layer whose
        // container is missing is not.
        containers.rows().push(Row::new(container_fields(&new, &layer), VOLATILE));
        containers.save(VOLATILE)?;
        held.rows().push(Row::new(layer_fields(&new, &layer, top.as_ref()), VOLATILE));
        held.save(VOLATILE)?;
        drop((containers, images, held));
        staging::remove(&directory.join(layers::PENDING))?;
        for path in [self.container_dir(&new.id), self.container_run_dir(&new.id)] {
            crate::storage::make_directories(&path, 0o700)?;
        }
        Ok(())
    }

    /// Gives a writable layer to the ids of a user namespace, whose root must be able to walk to
    /// it: the runtime goes to the rootfs as that root. Others on the node still cannot.
    fn open_to(&self, map: IdMap, layer: &Path) -> Result<(), StorageError> {
        let diff = layer.join("diff");
        let give = |directory: Directory| {
            let now = directory.stat_self()?;
            let outside = |id| map.outside(id).unwrap_or(id);
            directory.set_self(outside(now.uid), outside(now.gid), now.mode)
        };
        Directory::open(&diff)
            .and_then(give)
            .map_err(StorageError::io("set the owner of", &diff))?;
        Directory::open(layer)
            .and_then(|directory| directory.set_self(0, map.host, 0o710))
            .map_err(StorageError::io("set the owner of", layer))?;
        let home = self.overlay();
        let opened =
            files::let_through(&home).map_err(StorageError::io("open the way to", &home))?;
        for directory in opened {
            // Once on a node, and worth a line there: it is what CRI-O does too.
            tracing::info!(
                directory = %directory.display(),
                "everybody may walk through it from now on (not list it): root in a pod's user \
                 namespace is nobody to the node, and must come to the container's root"
            );
        }
        Ok(())
    }

    /// Removes a container: its mount, layer, directories and record; and it is no user of image
    /// volumes any more.
    ///
    /// # Errors
    ///
    /// Where something cannot be removed; called again, it goes on.
    pub fn remove_container(&self, id: &ContainerId) -> Result<Change, StorageError> {
        self.unmount_images(id)?;
        let record = match self.container(id) {
            Ok(record) => record,
            Err(StorageError::ContainerMissing(_)) => return Ok(Change::Unchanged(())),
            Err(error) => return Err(error),
        };
        let mut layers = self.inner.layers.hold(Hold::Write)?;
        let mut trash = Vec::new();
        // The layer first: without its container nothing would remember it.
        if let Ok(layer) = record.layer_id() {
            trash = self.unlist_layers(&mut layers, &[layer])?;
        }
        staging::remove(&self.root().join("overlay-containers").join(id.as_str()))?;
        staging::remove(&self.runroot().join("overlay-containers").join(id.as_str()))?;
        let mut containers = self.inner.containers.hold(Hold::Write)?;
        let mine = |record: &ContainerRecord| record.id == *id;
        containers.rows().retain(|row| !row.record.as_ref().is_some_and(|record| mine(record)));
        containers.save(record.file)?;
        drop((containers, layers));
        drop(trash);
        Ok(Change::Made(()))
    }
}

fn container_fields(new: &NewContainer, layer: &LayerId) -> Fields {
    let mut fields = Fields::new();
    let mut set = |key: &str, value: Value| fields.insert(key.to_owned(), value);
    set("id", json!(new.id));
    set("names", json!(new.names));
    set("image", json!(new.image));
    set("layer", json!(layer));
    set("metadata", json!(new.metadata));
    set("created", json!(index::now()));
    let label = new.mount_label.as_deref().unwrap_or_default();
    set("flags", json!({ VOLATILE_FLAG: true, "MountLabel": label, "ProcessLabel": "" }));
    set_id_map(&mut fields, new.id_map);
    fields
}

fn layer_fields(new: &NewContainer, layer: &LayerId, top: Option<&LayerId>) -> Fields {
    let mut fields = layers::new_record(layer, top);
    if let Some(label) = &new.mount_label {
        fields.insert("mountlabel".to_owned(), json!(label));
    }
    set_id_map(&mut fields, new.id_map);
    fields
}

/// Writes the ids as containers/storage does, for containers and their layers.
fn set_id_map(fields: &mut Fields, map: Option<IdMap>) {
    let Some(map) = map else { return };
    for key in ["uidmap", "gidmap"] {
        let range = json!([{ "container_id": 0, "host_id": map.host, "size": map.length }]);
        fields.insert(key.to_owned(), range);
    }
}

/// Reads what [`set_id_map`] wrote. Other programs' maps may have more ranges: these are theirs.
fn id_map(fields: &Fields) -> Option<IdMap> {
    let range = fields.get("uidmap")?.as_array()?.first()?;
    let number = |key: &str| u32::try_from(range.get(key)?.as_u64()?).ok();
    Some(IdMap { host: number("host_id")?, length: number("size")? })
}
