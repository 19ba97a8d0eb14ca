//! Images come, change names and go.

use serde_json::Value;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;

use crate::model::change::Change;
use crate::model::ids::ImageId;
use crate::model::ids::LayerId;
use crate::oci::digest::Digest;
use crate::storage::Store;
use crate::storage::collect::Needs;
use crate::storage::error::StorageError;
use crate::storage::images::Image;
use crate::storage::images::ImageRow;
use crate::storage::index;
use crate::storage::index::Fields;
use crate::storage::index::Held;
use crate::storage::index::Row;
use crate::storage::layers;
use crate::storage::lockfile::Hold;
use crate::storage::staging;
use crate::sys::beneath;
use crate::sys::beneath::Directory;
use crate::sys::files;
use crate::sys::files::Durability;

/// An image that is to be part of the store.
#[derive(Debug, Clone)]
pub struct NewImage {
    /// Its id.
    pub id: ImageId,
    /// Full references that are to name it, and no other image from then on.
    pub names: Vec<String>,
    /// The uppermost of its layers, which are in the store.
    pub layer: Option<LayerId>,
    /// The digest of its manifest.
    pub digest: Digest,
    /// When it was built, RFC 3339; what is no time is now.
    pub created: Option<String>,
    /// Data items by key: `manifest`, `manifest-<digest>`, the config's digest, `signatures`…
    pub big_data: Vec<(String, Vec<u8>)>,
    /// What is kept for others, JSON; empty keeps what is there.
    pub metadata: String,
}

impl Store {
    /// Makes an image part of the store, or adds to the one that is there: names, and data items
    /// that are missing or different. A name that another image had is this one's now; and other
    /// layers than these, which another tool put under the image's ID, are the image's no more.
    ///
    /// # Errors
    ///
    /// [`StorageError::LayerMissing`] if its layers are not in the store.
    pub fn commit_image(&self, new: NewImage) -> Result<Change<Arc<Image>>, StorageError> {
        let stacks = self.inner.layers.hold(Hold::Read)?;
        let mut held = self.inner.images.hold(Hold::Write)?;
        let found = held.iter().find(|image| image.id == new.id).map(Arc::clone);
        let known = found.is_some();
        let astray = found.is_some_and(|image| {
            let (old, now) = (image.top_layer(), new.layer.as_ref());
            old != now && layers::archives(&stacks, old).ok() != layers::archives(&stacks, now).ok()
        });
        if let Some(layer) = new.layer.as_ref().filter(|_| !known || astray)
            && !stacks.iter().any(|known| known.id == *layer && !known.incomplete)
        {
            return Err(StorageError::LayerMissing(layer.clone()));
        }
        if !known {
            held.rows().push(Row::new(new_record(&new), 0));
        }
        if astray {
            tracing::warn!(image = %new.id, "it had other layers than its config names");
            edit(&mut held, &new.id, |fields| set_layer(fields, new.layer.as_ref()));
        }
        let written = self.write_items(&mut held, &new.id, &new.big_data)?;
        let named = add_names(&mut held, &new.id, &new.names);
        let noted = known
            && !new.metadata.is_empty()
            && edit(&mut held, &new.id, |fields| {
                let old = fields.insert("metadata".to_owned(), json!(new.metadata));
                old != Some(json!(new.metadata))
            });
        let changed = !known || astray || written || named || noted;
        if changed {
            held.save(0)?;
        }
        drop(held);
        drop(stacks);
        let image = self.image(&new.id)?.ok_or(StorageError::ImageMissing(new.id))?;
        Ok(if changed { Change::Made(image) } else { Change::Unchanged(image) })
    }

    /// Keeps a data item with an image; one that was there under this key is replaced.
    ///
    /// # Errors
    ///
    /// [`StorageError::ImageMissing`].
    pub fn set_big_data(&self, id: &ImageId, key: &str, bytes: &[u8]) -> Result<(), StorageError> {
        let mut held = self.inner.images.hold(Hold::Write)?;
        if !held.iter().any(|image| image.id == *id) {
            return Err(StorageError::ImageMissing(id.clone()));
        }
        if self.write_items(&mut held, id, &[(key.to_owned(), bytes.to_vec())])? {
            held.save(0)?;
        }
        Ok(())
    }

    /// Takes names away from an image. It stays, with no name if need be.
    ///
    /// # Errors
    ///
    /// [`StorageError::ImageMissing`].
    pub fn remove_names(&self, id: &ImageId, names: &[String]) -> Result<Change, StorageError> {
        let mut held = self.inner.images.hold(Hold::Write)?;
        if !held.iter().any(|image| image.id == *id) {
            return Err(StorageError::ImageMissing(id.clone()));
        }
        let changed = edit(&mut held, id, |fields| {
            let old = index::texts(fields, "names");
            let mut left = old.clone();
            left.retain(|name| !names.contains(name));
            set_texts(fields, "names", &left);
            left != old
        });
        if !changed {
            return Ok(Change::Unchanged(()));
        }
        held.save(0)?;
        Ok(Change::Made(()))
    }

    /// Removes an image, and those of its layers that nothing else needs.
    ///
    /// # Errors
    ///
    /// [`StorageError::ImageInUse`] if a container runs it, or has it mounted as a volume.
    pub fn remove_image(&self, id: &ImageId) -> Result<Change, StorageError> {
        let mut layers = self.inner.layers.hold(Hold::Write)?;
        let mut images = self.inner.images.hold(Hold::Write)?;
        let containers = self.inner.containers.snapshot()?;
        if let Some(user) = containers.iter().find(|container| container.image == id.as_str()) {
            let container = user.id.to_string();
            return Err(StorageError::ImageInUse { image: id.clone(), container });
        }
        if let Some(user) = self.image_mounted_by(id)?.first() {
            let container = user.to_string();
            return Err(StorageError::ImageInUse { image: id.clone(), container });
        }
        let Some(image) = images.iter().find(|image| image.id == *id).map(Arc::clone) else {
            return Ok(Change::Unchanged(()));
        };
        let gone = {
            let others = images.iter().filter(|other| other.id != *id).map(AsRef::as_ref);
            let needs =
                Needs { images: others.collect(), containers: &containers, pinned: self.pinned() };
            self.removable(&layers, image.layers().cloned().collect(), &needs)
        };
        images.rows().retain(|row| row.record.as_ref().is_none_or(|image| image.id != *id));
        images.save(0)?;
        staging::remove(&self.root().join("overlay-images").join(id.as_str()))?;
        // Mounts come before images in the order of locks, and removing layers may unmount.
        drop(images);
        let trash = self.unlist_layers(&mut layers, &gone)?;
        drop(layers);
        drop(trash);
        Ok(Change::Made(()))
    }

    /// Writes data items that are missing or different, and notes them in the record; whether
    /// there were any. They are on disk when this returns, the record is not.
    fn write_items(
        &self,
        held: &mut Held<'_, ImageRow>,
        id: &ImageId,
        items: &[(String, Vec<u8>)],
    ) -> Result<bool, StorageError> {
        let base = self.root().join("overlay-images");
        let directory = base.join(id.as_str());
        let mut written = Vec::new();
        for (key, bytes) in items {
            let digest = Digest::sha256(bytes);
            let same = held
                .iter()
                .find(|image| image.id == *id)
                .and_then(|image| image.big_data.iter().find(|item| item.key == *key))
                .is_some_and(|item| item.digest.as_ref() == Some(&digest));
            let path = self.data_path(id, key)?;
            if same && path.exists() {
                continue;
            }
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&directory)
                .map_err(StorageError::io("create the directory", &directory))?;
            files::replace(&path, bytes, 0o600, Durability::Process)
                .map_err(StorageError::io("write", &path))?;
            written.push((key, bytes.len(), digest));
        }
        if written.is_empty() {
            return Ok(false);
        }
        Directory::open(&base)
            .and_then(|directory| beneath::sync_filesystem(&directory))
            .map_err(StorageError::io("sync", &base))?;
        edit(held, id, |fields| {
            for (key, size, digest) in written {
                let mut names = index::texts(fields, "big-data-names");
                if !names.contains(key) {
                    names.push(key.clone());
                    set_texts(fields, "big-data-names", &names);
                }
                set_part(fields, "big-data-sizes", key, json!(size));
                set_part(fields, "big-data-digests", key, json!(digest));
            }
            true
        });
        Ok(true)
    }
}

fn new_record(new: &NewImage) -> Fields {
    // Other programs refuse a whole index for one time that they cannot read.
    let created =
        new.created.as_deref().and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
    let created = created.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(index::now);
    let mut fields = Fields::new();
    let mut set = |key: &str, value: Value| fields.insert(key.to_owned(), value);
    set("id", json!(new.id));
    set("digest", json!(new.digest));
    set("created", json!(created));
    if !new.metadata.is_empty() {
        set("metadata", json!(new.metadata));
    }
    set_layer(&mut fields, new.layer.as_ref());
    fields
}

/// Sets the uppermost layer; whether that is a change.
fn set_layer(fields: &mut Fields, layer: Option<&LayerId>) -> bool {
    let old = match layer {
        Some(layer) => fields.insert("layer".to_owned(), json!(layer)),
        None => fields.remove("layer"),
    };
    old != layer.map(|layer| json!(layer))
}

/// Gives an image names, and takes them from others; whether anything changed.
fn add_names(held: &mut Held<'_, ImageRow>, id: &ImageId, names: &[String]) -> bool {
    let mut changed = false;
    for row in held.rows() {
        let mine = row.record.as_ref().is_some_and(|image| image.id == *id);
        let old = index::texts(&row.fields, "names");
        let mut now = old.clone();
        if mine {
            let added = names.iter().filter(|name| !old.contains(name));
            now = added.chain(&old).cloned().collect();
            now.dedup();
        } else {
            now.retain(|name| !names.contains(name));
        }
        if now == old {
            continue;
        }
        changed = true;
        row.edit(|fields| {
            set_texts(fields, "names", &now);
            if mine {
                let mut history = index::texts(fields, "names-history");
                history.retain(|name| !now.contains(name));
                set_texts(fields, "names-history", &[now, history].concat());
            }
        });
    }
    changed
}

/// Changes the record of an image; what `change` answers.
fn edit(
    held: &mut Held<'_, ImageRow>,
    id: &ImageId,
    change: impl FnOnce(&mut Fields) -> bool,
) -> bool {
    let mine = |row: &&mut Row<ImageRow>| row.record.as_ref().is_some_and(|row| row.id == *id);
    let mut changed = false;
    if let Some(row) = held.rows().iter_mut().find(mine) {
        row.edit(|fields| changed = change(fields));
    }
    changed
}

/// Sets a list of texts; an empty list is left out, as others do.
fn set_texts(fields: &mut Fields, key: &str, texts: &[String]) {
    if texts.is_empty() {
        fields.remove(key);
    } else {
        fields.insert(key.to_owned(), json!(texts));
    }
}

/// Sets one entry of a map.
fn set_part(fields: &mut Fields, map: &str, key: &str, value: Value) {
    let parts = fields.entry(map).or_insert_with(|| json!({}));
    if !parts.is_object() {
        *parts = json!({});
    }
    if let Some(parts) = parts.as_object_mut() {
        parts.insert(key.to_owned(), value);
    }
}
