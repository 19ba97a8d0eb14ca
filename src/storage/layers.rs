//! Layers: their records, and how unpacked ones become part of the store.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use serde_json::Value;
use serde_json::json;

use crate::model::ids::ImageId;
use crate::model::ids::LayerId;
use crate::oci::digest::Algorithm;
use crate::oci::digest::DiffId;
use crate::oci::digest::Digest;
use crate::oci::media_type::Compression;
use crate::storage::Store;
use crate::storage::error::StorageError;
use crate::storage::index;
use crate::storage::index::Fields;
use crate::storage::index::Held;
use crate::storage::index::Record;
use crate::storage::index::Row;
use crate::storage::lockfile::Hold;
use crate::storage::overlay;
use crate::storage::overlay::Place;
use crate::storage::staging;
use crate::storage::staging::StagedLayer;
use crate::storage::staging::Unpacked;
use crate::storage::usage::Usage;
use crate::sys::beneath;
use crate::sys::beneath::Directory;

/// The number of the index file for layers of images.
pub(super) const STABLE: usize = 0;
/// The number of the index file for layers of containers that need not survive a crash.
pub(super) const VOLATILE: usize = 1;
/// A flag of layers that are not whole; any user of the store removes them.
const INCOMPLETE: &str = "incomplete";
/// A flag of layers that this program unpacked: what they take on disk.
const USAGE: &str = "crio-usage";
/// In the directory of a layer that has no record yet, or has none any more.
pub(super) const PENDING: &str = "crio-pending";
/// The root directory of an image's lowest layer has this mode, whatever its archive says.
const ROOT_MODE: u32 = 0o555;

/// A layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Its id.
    pub id: LayerId,
    /// The layer below.
    pub parent: Option<LayerId>,
    /// The digest of its archive; a container's own layer has none.
    pub diff_id: Option<DiffId>,
    /// The size of its archive.
    pub diff_size: Option<u64>,
    /// The digest of the blob that it was unpacked from.
    pub blob_digest: Option<Digest>,
    /// The size of that blob.
    pub blob_size: Option<u64>,
    /// The SELinux label that it is mounted with.
    pub mount_label: String,
    /// What it takes on disk, if this program unpacked it.
    pub usage: Option<Usage>,
    /// Not whole: nothing may be built on it.
    pub(super) incomplete: bool,
    /// The number of the index file that it is kept in.
    pub(super) file: usize,
}

/// One layer of a stack that is to be committed.
#[derive(Debug)]
pub enum LayerCommit {
    /// One that is in the store already.
    Existing(LayerId),
    /// A new one.
    New(Box<Unpacked>),
}

/// Keeps layers from being removed as long as it lives.
#[derive(Debug)]
pub struct LayerPins {
    pins: Arc<Mutex<HashMap<LayerId, usize>>>,
    layers: Vec<LayerId>,
}

impl Drop for LayerPins {
    fn drop(&mut self) {
        let mut pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        for layer in &self.layers {
            if let Some(count) = pins.get_mut(layer) {
                *count = count.saturating_sub(1);
            }
        }
        pins.retain(|_, count| *count > 0);
    }
}

impl Record for Layer {
    fn read(fields: &Fields, file: usize) -> Option<Self> {
        let number = |key: &str| fields.get(key).and_then(Value::as_u64);
        let usage = fields.get("flags").and_then(|flags| flags.get(USAGE));
        let usage = usage.and_then(|usage| {
            let part = |key: &str| usage.get(key).and_then(Value::as_u64);
            Some(Usage { bytes: part("bytes")?, inodes: part("inodes")? })
        });
        let diff_id: Option<Digest> = index::text(fields, "diff-digest").parse().ok();
        let blob_digest = index::text(fields, "compressed-diff-digest").parse().ok();
        let parent = match index::text(fields, "parent") {
            "" => None,
            parent => Some(parent.parse().ok()?),
        };
        Some(Self {
            id: index::text(fields, "id").parse().ok()?,
            parent,
            // An empty size is left out, so none beside a digest is zero.
            diff_size: diff_id.is_some().then(|| number("diff-size").unwrap_or_default()),
            diff_id: diff_id.map(DiffId),
            blob_size: number("compressed-size"),
            blob_digest,
            mount_label: index::text(fields, "mountlabel").to_owned(),
            usage,
            incomplete: index::flag(fields, INCOMPLETE),
            file,
        })
    }
}

impl Store {
    /// The layer of this id.
    ///
    /// # Errors
    ///
    /// Where the index cannot be read.
    pub fn layer(&self, id: &LayerId) -> Result<Option<Layer>, StorageError> {
        let layers = self.inner.layers.snapshot()?;
        let found = layers.iter().find(|layer| layer.id == *id && !layer.incomplete);
        Ok(found.map(|layer| Layer::clone(layer)))
    }

    /// The ids that layers of these archives have when they are stacked, lowest first.
    #[must_use]
    pub fn layer_chain(diff_ids: &[DiffId]) -> Vec<LayerId> {
        let mut chain: Vec<LayerId> = Vec::with_capacity(diff_ids.len());
        for diff_id in diff_ids {
            chain.extend(id_on(chain.last(), diff_id));
        }
        chain
    }

    /// Keeps these layers, and so all below them, from being removed as long as the answer lives.
    #[must_use]
    pub fn pin_layers(&self, layers: &[LayerId]) -> LayerPins {
        let mut pins = self.inner.pins.lock().unwrap_or_else(PoisonError::into_inner);
        for layer in layers {
            *pins.entry(layer.clone()).or_default() += 1;
        }
        LayerPins { pins: Arc::clone(&self.inner.pins), layers: layers.to_vec() }
    }

    /// A place to unpack a layer. Layers may be unpacked side by side, in any order.
    ///
    /// # Errors
    ///
    /// [`StorageError::Io`].
    pub fn stage(&self) -> Result<StagedLayer, StorageError> {
        StagedLayer::new(&self.staging(), &self.root().join("overlay-layers"))
    }

    /// Commits a stack of layers, lowest first, and returns their ids.
    ///
    /// Where the store got the same layer from someone else meanwhile, ours is dropped. The caller
    /// has compared the digests of new layers with what was promised, and holds pins on the
    /// existing ones.
    ///
    /// # Errors
    ///
    /// [`StorageError::LayerMissing`] for an existing layer that is gone, and
    /// [`StorageError::NotAStack`] for one that lies on another layer than the one before it.
    pub fn commit_layers(&self, chain: Vec<LayerCommit>) -> Result<Vec<LayerId>, StorageError> {
        let overlay = self.overlay();
        let home = Directory::open(&overlay).map_err(StorageError::io("open", &overlay))?;
        let sync = || beneath::sync_filesystem(&home).map_err(StorageError::io("sync", &overlay));
        let is_new = |commit: &LayerCommit| matches!(commit, LayerCommit::New(_));
        if chain.iter().any(is_new) {
            // Nobody waits for this one: what was unpacked goes to disk before the lock is taken.
            sync()?;
        }
        let mut held = self.inner.layers.hold(Hold::Write)?;
        let mut ids: Vec<LayerId> = Vec::with_capacity(chain.len());
        // Kept until the lock is let go: removing what is left over of them is slow.
        let mut left_over = Vec::new();
        let mut placed = Vec::new();
        for commit in chain {
            let below = ids.last();
            let id = match commit {
                LayerCommit::Existing(id) => existing(&held, id, below)?,
                LayerCommit::New(layer) => {
                    let Some(id) = id_on(below, &layer.diff_id) else { continue };
                    if self.is_whole(&mut held, &id, &mut left_over)? {
                        left_over.push(layer.staging);
                    } else {
                        self.place(&layer, &id, below)?;
                        let fields = record(&layer, &id, below);
                        held.rows().push(Row::new(fields, STABLE));
                        placed.push(id.clone());
                        left_over.push(layer.staging);
                    }
                    id
                }
            };
            ids.push(id);
        }
        if !placed.is_empty() {
            sync()?;
            held.save(STABLE)?;
        }
        drop(held);
        for id in &placed {
            staging::remove(&self.layer_directory(id).join(PENDING))?;
        }
        Ok(ids)
    }

    /// Puts the files of a layer in their place. The store's lock is held.
    fn place(
        &self,
        layer: &Unpacked,
        id: &LayerId,
        below: Option<&LayerId>,
    ) -> Result<(), StorageError> {
        let staged = layer.staging.path(staging::LAYER);
        self.furnish(&staged, id, below)?;
        self.adopt(&staged, &layer.implied)?;
        // The directory first: should this be cut off, it is found, and with it the rest.
        let target = self.layer_directory(id);
        std::fs::rename(&staged, &target).map_err(StorageError::io("create", &target))?;
        let split = self.tar_split(id);
        std::fs::rename(layer.staging.tar_split(), &split)
            .map_err(StorageError::io("create", &split))?;
        self.make_link(id)
    }

    /// Gives directories that a layer only implies the attributes that they have below, which the
    /// layer would hide: `/tmp` stays open to all when a layer removes a file in it.
    fn adopt(&self, staged: &Path, implied: &[Vec<u8>]) -> Result<(), StorageError> {
        if implied.is_empty() {
            return Ok(());
        }
        let diff = staged.join("diff");
        let root = Directory::open(&diff).map_err(StorageError::io("open", &diff))?;
        for lower in Place::read(staged)?.lowers.iter().rev() {
            // From the lowest up, so that the nearest one has the last word.
            let lower = self.overlay().join(lower);
            let Ok(lower) = std::fs::canonicalize(&lower).and_then(|path| Directory::open(&path))
            else {
                continue;
            };
            for path in implied {
                let Ok(stat) = lower.open_in_root(path).and_then(|found| found.stat_self()) else {
                    continue;
                };
                root.open_in_root(path)
                    .and_then(|directory| directory.set_self(stat.uid, stat.gid, stat.mode))
                    .map_err(StorageError::io("set the mode of a directory in", &diff))?;
            }
        }
        Ok(())
    }

    /// Makes a directory that has the files of a layer, `diff`, all that a layer's directory has.
    /// The `diff` directory itself is as in the layer below, which it will hide.
    pub(super) fn furnish(
        &self,
        directory: &Path,
        id: &LayerId,
        below: Option<&LayerId>,
    ) -> Result<(), StorageError> {
        let diff = directory.join("diff");
        let (mut owner, mut mode) = ((0, 0), ROOT_MODE);
        let mut lowers = Vec::new();
        if let Some(below) = below {
            let below = self.layer_directory(below);
            let path = below.join("diff");
            let stat = Directory::open(&path)
                .and_then(|directory| directory.stat_self())
                .map_err(StorageError::io("look at", &path))?;
            (owner, mode) = ((stat.uid, stat.gid), stat.mode);
            lowers = Place::read(&below)?.lowers_above();
        }
        if lowers.len() > overlay::MAX_LOWERS {
            let (count, limit) = (lowers.len(), overlay::MAX_LOWERS);
            return Err(StorageError::TooDeep { layer: id.to_string(), count, limit });
        }
        Directory::open(&diff)
            .and_then(|directory| directory.set_self(owner.0, owner.1, mode))
            .map_err(StorageError::io("set the mode of", &diff))?;
        let write = |name: &str, text: &str| {
            let path = directory.join(name);
            std::fs::File::create_new(&path)
                .and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
                .map_err(StorageError::io("create", &path))
        };
        write(PENDING, "")?;
        write("link", &overlay::fresh_link().map_err(StorageError::io("name", directory))?)?;
        if lowers.is_empty() {
            staging::make_directory(&directory.join("empty"), 0o700)?;
        } else {
            write("lower", &lowers.join(":"))?;
        }
        staging::make_directory(&directory.join("work"), 0o700)?;
        staging::make_directory(&directory.join("merged"), 0o700)
    }

    /// Makes the short name that other layers know this one by.
    pub(super) fn make_link(&self, id: &LayerId) -> Result<(), StorageError> {
        let link = Place::read(&self.layer_directory(id))?.link;
        let path = self.overlay().join("l").join(link);
        std::os::unix::fs::symlink(format!("../{id}/diff"), &path)
            .map_err(StorageError::io("create", &path))
    }
}

/// The id of a layer on top of another.
fn id_on(below: Option<&LayerId>, diff_id: &DiffId) -> Option<LayerId> {
    match (below, diff_id.0.algorithm()) {
        (None, Algorithm::Sha256) => diff_id.0.hex().parse().ok(),
        (below, _) => {
            let below = below.map_or("", LayerId::as_str);
            let text = format!("{below}+{}", diff_id.0.hex());
            Digest::sha256(text.as_bytes()).hex().parse().ok()
        }
    }
}

/// The archives that a stack was unpacked from, lowest first; `None` for a layer that is no archive's.
///
/// # Errors
///
/// [`StorageError::LayerMissing`], also for a layer that is not whole.
pub(super) fn archives<'a>(
    held: &'a Held<'_, Layer>,
    top: Option<&'a LayerId>,
) -> Result<Vec<Option<&'a DiffId>>, StorageError> {
    let mut found = Vec::new();
    let mut next = top;
    // A damaged index could go round in circles.
    while let Some(id) = next.filter(|_| found.len() <= overlay::MAX_LOWERS) {
        let layer = held.iter().find(|layer| layer.id == *id && !layer.incomplete);
        let layer = layer.ok_or_else(|| StorageError::LayerMissing(id.clone()))?;
        found.push(layer.diff_id.as_ref());
        next = layer.parent.as_ref();
    }
    found.reverse();
    Ok(found)
}

/// Requires that a stack was unpacked from these archives. Other tools put an image into the store
/// without comparing its layers with its config, and the ID of an image is that of its config alone.
pub(super) fn must_be_of(
    held: &Held<'_, Layer>,
    image: &ImageId,
    top: Option<&LayerId>,
    wanted: &[DiffId],
) -> Result<(), StorageError> {
    if archives(held, top)?.into_iter().eq(wanted.iter().map(Some)) {
        return Ok(());
    }
    Err(StorageError::OtherLayers(image.clone()))
}

fn existing(
    held: &Held<'_, Layer>,
    id: LayerId,
    below: Option<&LayerId>,
) -> Result<LayerId, StorageError> {
    match held.iter().find(|layer| layer.id == id && !layer.incomplete) {
        None => Err(StorageError::LayerMissing(id)),
        Some(layer) if layer.parent.as_ref() != below => Err(StorageError::NotAStack { layer: id }),
        Some(_) => Ok(id),
    }
}

/// The record of a new layer of an image.
fn record(layer: &Unpacked, id: &LayerId, below: Option<&LayerId>) -> Fields {
    let mut fields = new_record(id, below);
    let mut set = |key: &str, value: Value| fields.insert(key.to_owned(), value);
    set("compressed-diff-digest", json!(layer.blob_digest));
    set("compressed-size", json!(layer.blob_size));
    set("diff-digest", json!(layer.diff_id));
    set("diff-size", json!(layer.diff_size));
    // The numbers of containers/storage, pkg/archive.
    match layer.compression {
        Compression::Plain => None,
        Compression::Gzip => set("compression", json!(2)),
        Compression::Zstd => set("compression", json!(4)),
    };
    set("uidset", json!(layer.uids));
    set("gidset", json!(layer.gids));
    let Usage { bytes, inodes } = layer.usage;
    set("flags", json!({ USAGE: { "bytes": bytes, "inodes": inodes } }));
    fields
}

/// The record of any new layer.
pub(super) fn new_record(id: &LayerId, below: Option<&LayerId>) -> Fields {
    let mut fields = Fields::new();
    fields.insert("id".to_owned(), json!(id));
    if let Some(below) = below {
        fields.insert("parent".to_owned(), json!(below));
    }
    fields.insert("created".to_owned(), json!(index::now()));
    fields
}
