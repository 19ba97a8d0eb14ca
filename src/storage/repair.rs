//! Removes what is damaged, so that it can be had again: images are pulled anew, layers with them.
//!
//! Nothing that is in use goes: not a container whose rootfs is mounted, not an image that a container
//! needs, not a layer that something lies on. What had to stay is told, with the reason. An index that
//! is no index is not removed but put aside, and an empty one takes its place. As long as it lies there,
//! what it may have named stays: other tools keep what nobody can bring again.

use std::fmt;
use std::path::Path;
use std::path::PathBuf;

use serde::Serialize;

use crate::failure::chain;
use crate::model::ids::ContainerId;
use crate::model::ids::ImageId;
use crate::model::ids::LayerId;
use crate::storage::Settings;
use crate::storage::Store;
use crate::storage::check::Fault;
use crate::storage::check::Part;
use crate::storage::check::Report;
use crate::storage::collect::Needs;
use crate::storage::error::StorageError;
use crate::storage::lockfile::Hold;
use crate::storage::staging;
use crate::sys::mount;

/// What a repair did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Repair {
    /// What was removed, or put aside.
    pub removed: Vec<Item>,
    /// What is damaged and stays.
    pub left: Vec<Left>,
}

/// A part of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// Of what kind.
    pub part: Part,
    /// Its id; of an index, its path.
    pub id: String,
}

/// A part that is damaged and stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Left {
    /// Which.
    #[serde(flatten)]
    pub item: Item,
    /// Why it stays.
    pub why: String,
}

impl Repair {
    fn note(&mut self, part: Part, id: &str, outcome: Result<(), String>) {
        let item = Item { part, id: id.to_owned() };
        match outcome {
            Ok(()) => self.removed.push(item),
            Err(why) => self.left.push(Left { item, why }),
        }
    }
}

impl Store {
    /// Puts the damaged indexes of a report aside. The report has nothing to say of what they listed:
    /// the store is to be looked at again.
    pub fn put_aside(&self, report: &Report) -> Repair {
        let mut repair = Repair::default();
        for path in report.damaged(Part::Index) {
            repair.note(Part::Index, path, self.put_index_aside(Path::new(path)));
        }
        repair
    }

    fn put_index_aside(&self, path: &Path) -> Result<(), String> {
        let inner = &self.inner;
        let seconds = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
        let to = path.with_extension(format!("json.damaged-{seconds}"));
        let done = inner.layers.put_aside(path, &to).map_err(said)?
            || inner.mounts.put_aside(path, &to).map_err(said)?
            || inner.images.put_aside(path, &to).map_err(said)?
            || inner.containers.put_aside(path, &to).map_err(said)?;
        if done { Ok(()) } else { Err("it is no index of this store".to_owned()) }
    }

    /// Removes what is damaged: images, the layers that nothing else needs, and, where `containers`
    /// says so, containers that are not mounted.
    pub fn repair(&self, report: &Report, containers: bool) -> Repair {
        let mut repair = Repair::default();
        for id in report.damaged(Part::Container) {
            let outcome = if containers {
                self.remove_damaged_container(id)
            } else {
                Err("containers are not removed unless --force is given".to_owned())
            };
            repair.note(Part::Container, id, outcome);
        }
        for id in report.damaged(Part::Image) {
            let only_items = of(report, id).all(Fault::is_of_item);
            match self.remove_damaged_image(id, only_items) {
                Ok(true) => repair.note(Part::Image, id, Ok(())),
                Ok(false) => {}
                Err(why) => repair.note(Part::Image, id, Err(why)),
            }
        }
        self.remove_damaged_layers(report, &mut repair);
        repair
    }

    fn remove_damaged_container(&self, id: &str) -> Result<(), String> {
        let id: ContainerId = id.parse().map_err(said)?;
        let record = match self.container(&id) {
            Ok(record) => record,
            Err(StorageError::ContainerMissing(_)) => return Ok(()),
            Err(error) => return Err(chain(&error)),
        };
        if record.layer_id().is_ok_and(|layer| self.is_mounted(&layer)) {
            return Err("its rootfs is mounted: it runs, or did not end well".to_owned());
        }
        self.remove_container(&id).map(drop).map_err(|error| chain(&error))
    }

    /// `false` where it was written while it was looked at, and is whole.
    fn remove_damaged_image(&self, id: &str, only_items: bool) -> Result<bool, String> {
        let id: ImageId = id.parse().map_err(said)?;
        if only_items && !self.has_damaged_item(&id).map_err(|error| chain(&error))? {
            return Ok(false);
        }
        self.remove_image(&id).map(|_| true).map_err(|error| chain(&error))
    }

    fn is_mounted(&self, layer: &LayerId) -> bool {
        let merged = self.layer_directory(layer).join("merged");
        // What cannot be looked at could be in use.
        mount::is_mount_point(&merged).unwrap_or(true)
    }

    /// An index that was put aside and lies there.
    fn index_aside(&self) -> Option<PathBuf> {
        let inner = &self.inner;
        inner.layers.aside().or_else(|| inner.images.aside()).or_else(|| inner.containers.aside())
    }

    /// The uppermost first: what lies on a layer keeps it.
    fn remove_damaged_layers(&self, report: &Report, repair: &mut Repair) {
        let mut damaged = report.damaged(Part::Layer);
        if let Some(aside) = self.index_aside() {
            let (unnamed, others): (Vec<&str>, Vec<&str>) =
                damaged.into_iter().partition(|id| of(report, id).any(Fault::is_of_index));
            for id in unnamed {
                let why =
                    format!("{} may name it; it goes once that file is removed", aside.display());
                repair.note(Part::Layer, id, Err(why));
            }
            damaged = others;
        }
        let unlisted = |id: &str| of(report, id).any(|fault| *fault == Fault::Unlisted);
        let (loose, mut left): (Vec<&str>, Vec<&str>) =
            damaged.into_iter().partition(|id| unlisted(id));
        loop {
            let mut later = Vec::new();
            let before = left.len();
            for id in left {
                match self.remove_damaged_layer(id) {
                    Ok(()) => repair.note(Part::Layer, id, Ok(())),
                    Err(why) => later.push((id, why)),
                }
            }
            if later.len() == before || later.is_empty() {
                for (id, why) in later {
                    repair.note(Part::Layer, id, Err(why));
                }
                break;
            }
            left = later.into_iter().map(|(id, _)| id).collect();
        }
        for id in loose {
            repair.note(Part::Layer, id, self.remove_unlisted(id));
        }
    }

    fn remove_damaged_layer(&self, id: &str) -> Result<(), String> {
        let id: LayerId = id.parse().map_err(said)?;
        let removed = || {
            let mut held = self.inner.layers.hold(Hold::Write)?;
            if !held.iter().any(|layer| layer.id == id) {
                return Ok(Ok(()));
            }
            if let Some(above) = held.iter().find(|layer| layer.parent.as_ref() == Some(&id)) {
                return Ok(Err(format!("layer {} lies on it", above.id)));
            }
            let images = self.inner.images.snapshot()?;
            let containers = self.inner.containers.snapshot()?;
            let needs = Needs {
                images: images.iter().map(AsRef::as_ref).collect(),
                containers: &containers,
                pinned: self.pinned(),
            };
            if needs.has(&id) {
                return Ok(Err("an image or a container needs it".to_owned()));
            }
            if self.is_mounted(&id) {
                return Ok(Err("it is mounted".to_owned()));
            }
            let trash = self.unlist_layers(&mut held, std::slice::from_ref(&id))?;
            drop(held);
            drop(trash);
            Ok::<_, StorageError>(Ok(()))
        };
        removed().unwrap_or_else(|error| Err(chain(&error)))
    }

    fn remove_unlisted(&self, id: &str) -> Result<(), String> {
        let id: LayerId = id.parse().map_err(said)?;
        let removed = || {
            let held = self.inner.layers.hold(Hold::Write)?;
            if held.iter().any(|layer| layer.id == id) {
                return Ok(Err("an index lists it now".to_owned()));
            }
            if self.is_mounted(&id) {
                return Ok(Err("it is mounted".to_owned()));
            }
            let trash = self.displace_layer(&id)?;
            drop(held);
            drop(trash);
            Ok::<_, StorageError>(Ok(()))
        };
        removed().unwrap_or_else(|error| Err(chain(&error)))
    }
}

/// Removes all that is in a store, whoever made it. Without `force`, not while anything of it is mounted.
///
/// # Errors
///
/// [`StorageError::Mounted`], and what cannot be removed.
pub fn remove_all(settings: &Settings, force: bool) -> Result<(), StorageError> {
    let wrap = |action| StorageError::io(action, &settings.root);
    // The kernel lists mounts under paths without links.
    let root = &settings.root.canonicalize().map_err(wrap("find"))?;
    let own = root.join("overlay");
    let mut mounted = mount::beneath(root).map_err(wrap("look for mounts in"))?;
    if let Some(path) = mounted.iter().find(|path| **path != own).filter(|_| !force) {
        return Err(StorageError::Mounted(path.clone()));
    }
    // The innermost first.
    mounted.sort();
    for path in mounted.iter().rev() {
        mount::unmount(path).map_err(StorageError::io("unmount", path))?;
    }
    for entry in std::fs::read_dir(root).map_err(wrap("list"))? {
        staging::remove(&entry.map_err(wrap("list"))?.path())?;
    }
    Ok(())
}

/// What is wrong with the part of this id.
fn of<'a>(report: &'a Report, id: &'a str) -> impl Iterator<Item = &'a Fault> {
    report.findings.iter().filter(move |found| found.id == id).map(|found| &found.fault)
}

fn said(error: impl fmt::Display) -> String {
    error.to_string()
}
