//! Looks for damage in the store. Reads only; what is to be done about it is `repair`'s.
//!
//! What is damaged passes up: an image has the faults of its layers, a container those of its image.
//! The questions are those of containers/storage, but that nothing is mounted to ask them, and that
//! owners, modes and times are not compared.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use time::OffsetDateTime;

use crate::model::ids::ImageId;
use crate::model::ids::LayerId;
use crate::oci::digest::Digest;
use crate::storage::Store;
use crate::storage::collect::ids_in;
use crate::storage::containers::ContainerRecord;
use crate::storage::error::StorageError;
use crate::storage::images::ImageRow;
use crate::storage::images::item_in;
use crate::storage::index;
use crate::storage::index::Index;
use crate::storage::index::Record;
use crate::storage::index::Row;
use crate::storage::index::Snapshot;
use crate::storage::layers::Layer;
use crate::storage::lockfile::Hold;
use crate::storage::overlay::Place;
use crate::storage::verify;
use crate::sys::files;
use crate::sys::files::Links;

/// The largest data item that is read, in bytes.
const ITEM_LIMIT: u64 = 64 * 1024 * 1024;

/// How thoroughly to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Depth {
    /// What the indexes say and whether it is there; no layer is read.
    Records,
    /// Every layer's files are read, and must make the archive that the layer came from.
    Digests,
    /// And there must be no other files among them.
    Contents,
}

/// What is looked for.
#[derive(Debug, Clone, Copy)]
pub struct CheckOptions {
    /// How thoroughly.
    pub depth: Depth,
    /// For how long a layer may be there that no image and no container uses: somebody may be about
    /// to.
    pub unused_for: Duration,
}

/// What a fault is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// A list of layers, images or containers.
    Index,
    /// A layer.
    Layer,
    /// An image.
    Image,
    /// A container.
    Container,
}

impl fmt::Display for Part {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Index => "index",
            Self::Layer => "layer",
            Self::Image => "image",
            Self::Container => "container",
        })
    }
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The index is no JSON, or cut.
    #[error("it cannot be read: {0}")]
    Index(String),
    /// Something could not be looked at.
    #[error("it cannot be looked at: {0}")]
    Unreadable(String),
    /// The layer's directory is not there.
    #[error("its directory is missing: {0}")]
    Directory(PathBuf),
    /// The layer cannot be mounted on those below it.
    #[error("it cannot be mounted: {0}")]
    Mount(String),
    /// The layer below is not listed.
    #[error("the layer below it, {0}, is missing")]
    Parent(String),
    /// What is needed to give the archive back is damaged.
    #[error("its tar-split cannot be used: {0}")]
    Split(String),
    /// A file of the archive is not there.
    #[error("the file {0:?} is missing")]
    FileMissing(String),
    /// A file has other bytes than in the archive.
    #[error("the file {0:?} is not what it was")]
    FileChanged(String),
    /// A file is there that the archive has not.
    #[error("the file {0:?} does not belong to it")]
    FileUnknown(String),
    /// The files make another archive.
    #[error("its digest is {found}, not {wanted}")]
    Digest {
        /// As it was.
        wanted: String,
        /// As it is.
        found: String,
    },
    /// The files make an archive of another size.
    #[error("it has {found} bytes, not {wanted}")]
    Size {
        /// As it was.
        wanted: u64,
        /// As it is.
        found: u64,
    },
    /// Nobody uses the layer, and nobody will.
    #[error("nothing uses it")]
    Unused,
    /// A directory of a layer that no index has.
    #[error("no index lists it")]
    Unlisted,
    /// A data item of an image or a container is not there.
    #[error("its data item {0:?} is missing")]
    ItemMissing(String),
    /// A data item has another size than is written down.
    #[error("its data item {key:?} has {found} bytes, not {wanted}")]
    ItemSize {
        /// Which.
        key: String,
        /// As it was.
        wanted: u64,
        /// As it is.
        found: u64,
    },
    /// A data item is another than its name says.
    #[error("its data item {0:?} is not what it was")]
    ItemChanged(String),
    /// A part that it needs is not there.
    #[error("its {0} {1} is missing")]
    Missing(Part, String),
    /// A part that it needs is damaged.
    #[error("its {0} {1} is damaged")]
    Damaged(Part, String),
}

/// A fault, and of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Of what kind.
    pub part: Part,
    /// Its id; of an index, its path.
    pub id: String,
    /// What is wrong.
    pub fault: Fault,
}

/// What a look at the store found.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The faults, indexes first and containers last.
    pub findings: Vec<Finding>,
    /// How many layers, images and containers there are.
    pub counted: [usize; 3],
}

impl Report {
    fn add(&mut self, part: Part, id: impl fmt::Display, fault: Fault) {
        self.findings.push(Finding { part, id: id.to_string(), fault });
    }

    /// What is damaged, of this kind.
    #[must_use]
    pub fn damaged(&self, part: Part) -> Vec<&str> {
        let mut found: Vec<&str> = Vec::new();
        for finding in self.findings.iter().filter(|finding| finding.part == part) {
            if !found.contains(&finding.id.as_str()) {
                found.push(&finding.id);
            }
        }
        found
    }

    fn is_damaged(&self, part: Part, id: &str) -> bool {
        self.findings.iter().any(|found| found.part == part && found.id == id)
    }
}

/// The indexes as they were at one moment.
struct Lists {
    layers: Snapshot<Layer>,
    images: Snapshot<ImageRow>,
    containers: Snapshot<ContainerRecord>,
    /// Directories of layers.
    directories: Vec<LayerId>,
}

impl Store {
    /// Looks for damage. Takes no lock for longer than it reads the indexes.
    ///
    /// # Errors
    ///
    /// [`StorageError::Io`] where the store cannot be read at all. What is wrong in it is no error.
    pub fn check(&self, options: &CheckOptions) -> Result<Report, StorageError> {
        let mut report = Report::default();
        let lists = self.lists(&mut report)?;
        report.counted = [
            lists.layers.iter().count(),
            lists.images.iter().count(),
            lists.containers.iter().count(),
        ];
        // What an unreadable index would have named looks as if nobody needed it.
        let whole = report.findings.is_empty();
        let known: HashMap<&LayerId, &Layer> =
            lists.layers.iter().map(|layer| (&layer.id, layer.as_ref())).collect();
        for layer in lists.layers.iter().filter(|layer| !layer.incomplete) {
            self.check_layer(layer, &known, options.depth, &mut report);
        }
        if whole {
            unused(&lists, &known, options.unused_for, &mut report);
            for id in lists.directories.iter().filter(|id| !known.contains_key(id)) {
                report.add(Part::Layer, id, Fault::Unlisted);
            }
        }
        self.forget_removed(&mut report, &known)?;
        for image in lists.images.iter() {
            self.check_image(image, &known, &mut report);
        }
        for row in lists.containers.rows() {
            self.check_container(row, &lists, &mut report);
        }
        Ok(report)
    }

    fn lists(&self, report: &mut Report) -> Result<Lists, StorageError> {
        let inner = &self.inner;
        let layers = readable(&inner.layers, report)?;
        let images = readable(&inner.images, report)?;
        let containers = readable(&inner.containers, report)?;
        // A layer's directory comes before its record, under this lock.
        let held = inner.layers.hold(Hold::Read);
        let listed: HashSet<LayerId> = match &held {
            Ok(held) => held.iter().map(|layer| layer.id.clone()).collect(),
            Err(_) => HashSet::new(),
        };
        let mut directories: Vec<LayerId> = ids_in(&self.overlay())?;
        directories.retain(|id| !listed.contains(id));
        Ok(Lists { layers, images, containers, directories })
    }

    fn check_layer(
        &self,
        layer: &Layer,
        known: &HashMap<&LayerId, &Layer>,
        depth: Depth,
        report: &mut Report,
    ) {
        let before = report.findings.len();
        let directory = self.layer_directory(&layer.id);
        let diff = directory.join("diff");
        if !diff.is_dir() {
            report.add(Part::Layer, &layer.id, Fault::Directory(diff.clone()));
        } else if let Err(text) = self.mountable(&directory) {
            report.add(Part::Layer, &layer.id, Fault::Mount(text));
        }
        if let Some(parent) = layer.parent.as_ref().filter(|parent| !known.contains_key(parent)) {
            report.add(Part::Layer, &layer.id, Fault::Parent(parent.to_string()));
        }
        // A container's own layer has no archive.
        let Some(diff_id) = &layer.diff_id else { return };
        if depth < Depth::Digests || report.findings.len() > before {
            return;
        }
        let split = self.tar_split(&layer.id);
        let wanted = (&diff_id.0, layer.diff_size);
        for fault in verify::layer(&split, &diff, wanted, depth == Depth::Contents) {
            report.add(Part::Layer, &layer.id, fault);
        }
    }

    /// Whether all that a mount of this layer is made of is there.
    fn mountable(&self, directory: &Path) -> Result<(), String> {
        let place = Place::read(directory).map_err(|error| crate::failure::chain(&error))?;
        let links = place.lowers_above();
        for link in links {
            let path = self.overlay().join(&link);
            if !path.is_dir() {
                return Err(format!("{} leads nowhere", path.display()));
            }
        }
        Ok(())
    }

    /// Somebody may have removed a layer while it was being read.
    fn forget_removed(
        &self,
        report: &mut Report,
        known: &HashMap<&LayerId, &Layer>,
    ) -> Result<(), StorageError> {
        if report.is_damaged_index() {
            return Ok(());
        }
        let now = self.inner.layers.snapshot()?;
        let still: HashSet<&str> = now.iter().map(|layer| layer.id.as_str()).collect();
        report.findings.retain(|found| {
            let was = found.part != Part::Layer || !known.keys().any(|id| id.as_str() == found.id);
            was || still.contains(found.id.as_str())
        });
        Ok(())
    }

    /// Whether one of the image's data items is damaged now. Nobody writes one meanwhile.
    ///
    /// # Errors
    ///
    /// Where the index cannot be read.
    pub(super) fn has_damaged_item(&self, id: &ImageId) -> Result<bool, StorageError> {
        let held = self.inner.images.hold(Hold::Read)?;
        Ok(held.iter().filter(|image| image.id == *id).any(|image| {
            image.big_data.iter().any(|item| {
                let path = self.data_path(id, &item.key);
                check_item(path.ok(), &item.key, item.size).is_some()
            })
        }))
    }

    fn check_image(
        &self,
        image: &ImageRow,
        known: &HashMap<&LayerId, &Layer>,
        report: &mut Report,
    ) {
        for item in &image.big_data {
            let path = self.data_path(&image.id, &item.key);
            if let Some(fault) = check_item(path.ok(), &item.key, item.size) {
                report.add(Part::Image, &image.id, fault);
            }
        }
        for top in image.layers() {
            let mut next = Some(top);
            // A damaged index could go round in circles.
            for _ in 0..=known.len() {
                let Some(id) = next else { break };
                if report.is_damaged(Part::Layer, id.as_str()) {
                    report.add(Part::Image, &image.id, Fault::Damaged(Part::Layer, id.to_string()));
                }
                match known.get(id) {
                    Some(layer) => next = layer.parent.as_ref(),
                    None => {
                        let fault = Fault::Missing(Part::Layer, id.to_string());
                        report.add(Part::Image, &image.id, fault);
                        break;
                    }
                }
            }
        }
    }

    fn check_container(&self, row: &Row<ContainerRecord>, lists: &Lists, report: &mut Report) {
        let Some(container) = &row.record else { return };
        let (id, image, layer) = (&container.id, &container.image, &container.layer);
        let sizes = row.fields.get("big-data-sizes");
        for key in index::texts(&row.fields, "big-data-names") {
            let size = sizes.and_then(|sizes| sizes.get(&key)?.as_u64());
            let directory = self.root().join("overlay-containers").join(id.as_str());
            if let Some(fault) = check_item(item_in(directory, &key).ok(), &key, size) {
                report.add(Part::Container, id, fault);
            }
        }
        if !lists.layers.iter().any(|known| known.id.as_str() == layer) {
            report.add(Part::Container, id, Fault::Missing(Part::Layer, layer.clone()));
        } else if report.is_damaged(Part::Layer, layer) {
            report.add(Part::Container, id, Fault::Damaged(Part::Layer, layer.clone()));
        }
        if image.is_empty() {
            return;
        }
        if !lists.images.iter().any(|known| known.id.as_str() == image) {
            report.add(Part::Container, id, Fault::Missing(Part::Image, image.clone()));
        } else if report.is_damaged(Part::Image, image) {
            report.add(Part::Container, id, Fault::Damaged(Part::Image, image.clone()));
        }
    }
}

impl Fault {
    /// Whether it is of a data item, which may be in the middle of being written when it is looked at.
    pub(super) fn is_of_item(&self) -> bool {
        matches!(self, Self::ItemMissing(_) | Self::ItemSize { .. } | Self::ItemChanged(_))
    }

    /// Whether it is that no index speaks of it, or of what needs it.
    pub(super) fn is_of_index(&self) -> bool {
        matches!(self, Self::Unused | Self::Unlisted)
    }
}

impl Report {
    fn is_damaged_index(&self) -> bool {
        self.findings.iter().any(|found| found.part == Part::Index)
    }
}

/// An index as it is now; one that is damaged is noted, and empty.
fn readable<T: Record>(index: &Index<T>, report: &mut Report) -> Result<Snapshot<T>, StorageError> {
    match index.snapshot() {
        Ok(snapshot) => {
            if let Some(path) = index.cut() {
                report.add(Part::Index, path.display(), Fault::Index("it is empty".to_owned()));
            }
            Ok(snapshot)
        }
        Err(StorageError::Damaged { path, source }) => {
            report.add(Part::Index, path.display(), Fault::Index(source.to_string()));
            Ok(Snapshot::default())
        }
        Err(error) => Err(error),
    }
}

/// Notes layers that nothing needs and that are old enough.
fn unused(
    lists: &Lists,
    known: &HashMap<&LayerId, &Layer>,
    unused_for: Duration,
    report: &mut Report,
) {
    let mut needed: HashSet<&str> = HashSet::new();
    let of_images = lists.images.iter().flat_map(|image| image.layers().map(LayerId::as_str));
    let of_containers = lists.containers.iter().map(|container| container.layer.as_str());
    let parents: BTreeMap<&str, &str> = known
        .values()
        .filter_map(|layer| Some((layer.id.as_str(), layer.parent.as_ref()?.as_str())))
        .collect();
    for top in of_images.chain(of_containers) {
        let mut next = Some(top);
        while let Some(id) = next.filter(|id| needed.insert(id)) {
            next = parents.get(id).copied();
        }
    }
    let now = OffsetDateTime::now_utc();
    for row in lists.layers.rows() {
        let Some(layer) = &row.record else { continue };
        // One without a time never gets older.
        let young = index::time(&row.fields, "created").is_some_and(|made| now - made < unused_for);
        if !needed.contains(layer.id.as_str()) && !young {
            report.add(Part::Layer, &layer.id, Fault::Unused);
        }
    }
}

fn check_item(path: Option<PathBuf>, key: &str, size: Option<u64>) -> Option<Fault> {
    let missing = || Fault::ItemMissing(key.to_owned());
    let Some(path) = path else { return Some(missing()) };
    let bytes = match files::read(&path, ITEM_LIMIT, Links::Refuse) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Some(missing()),
        Err(error) => return Some(Fault::Unreadable(format!("{}: {error}", path.display()))),
    };
    let found = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if let Some(wanted) = size.filter(|size| *size != found) {
        return Some(Fault::ItemSize { key: key.to_owned(), wanted, found });
    }
    // The config is kept under its digest.
    let named: Option<Digest> = key.parse().ok();
    let differs = named.is_some_and(|digest| !digest.matches(&bytes));
    differs.then(|| Fault::ItemChanged(key.to_owned()))
}
