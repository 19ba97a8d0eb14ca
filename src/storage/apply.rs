//! Entries of a layer become files, beneath one directory handle.
//!
//! The directory an entry goes to is resolved by the kernel with the layer's own directory as the
//! root, so a link in the layer, absolute or climbing, ends inside it; the entry itself is then
//! made under a single name. No path of a layer is ever given to the kernel as a path of the host.
//!
//! What later entries replace is removed first. Owners, modes, times and a few attributes are
//! kept; attributes that overlayfs or the host's security modules read are not taken from an
//! archive.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use crate::storage::error::EntryFault;
use crate::storage::error::LayerError;
use crate::storage::whiteout::OPAQUE;
use crate::sys::beneath;
use crate::sys::beneath::Directory;
use crate::sys::beneath::Entry;
use crate::sys::beneath::Kind;
use crate::sys::beneath::Node;
use crate::sys::beneath::Time;
use crate::sys::xattr;

/// Directories that a layer has no entry for.
const IMPLIED_MODE: u32 = 0o755;
/// So many of them get the attributes that they have in a layer below.
const MAX_IMPLIED: usize = 1024;
/// So many owners are told of; beyond, those with the highest numbers, which are what matters to who
/// reserves numbers for a user namespace.
const MAX_OWNERS: usize = 1024;
/// Space is counted in blocks of this size.
const BLOCK: u64 = 4096;

/// Who owns a file, and what is known of it beside its content.
#[derive(Debug, Clone, Default)]
pub(super) struct Attributes {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mode: u32,
    pub(super) time: Time,
    /// Extended attributes that may be set.
    pub(super) extended: Vec<(String, Vec<u8>)>,
}

/// What to make of an entry that has no content.
#[derive(Debug)]
pub(super) enum Shape<'a> {
    Directory,
    Link(&'a [u8]),
    HardLink(&'a [&'a [u8]]),
    Node(Node),
}

/// What a layer came to on disk.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    pub(super) uids: BTreeSet<u32>,
    pub(super) gids: BTreeSet<u32>,
    pub(super) inodes: u64,
    pub(super) bytes: u64,
    /// Directories that no entry names, as far as [`MAX_IMPLIED`] goes.
    pub(super) implied: Vec<Vec<u8>>,
}

/// Makes the files of one layer.
pub(super) struct Applier {
    root: Directory,
    /// The directory that the last entry went to. Neighbours in an archive are mostly neighbours
    /// on disk, and it cannot be replaced while the entries go into it.
    place: Option<(Vec<u8>, Directory)>,
    directories: Vec<(Vec<u8>, Time)>,
    /// Bytes of their paths.
    pub(super) directory_bytes: u64,
    pub(super) tally: Tally,
}

/// Why an entry could not be made.
#[derive(Debug)]
pub(super) enum Failure {
    Entry(EntryFault),
    Write(&'static str, io::Error),
}

impl Failure {
    /// The same, with the path of the entry.
    pub(super) fn at(self, path: &[u8]) -> LayerError {
        let path = shown(path);
        match self {
            Self::Entry(fault) => LayerError::Entry { path, fault },
            Self::Write(action, source) => LayerError::Write { action, path, source },
        }
    }
}

/// A path of an archive as it can be shown.
pub(super) fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).chars().take(256).collect()
}

fn cannot(action: &'static str) -> impl FnOnce(io::Error) -> Failure {
    move |source| Failure::Write(action, source)
}

impl Applier {
    /// Makes files in `root`.
    pub(super) fn new(root: Directory) -> Self {
        Self {
            root,
            place: None,
            directories: Vec::new(),
            directory_bytes: 0,
            tally: Tally::default(),
        }
    }

    /// Makes a file without content yet, open for writing.
    pub(super) fn create(&mut self, names: &[&[u8]]) -> Result<File, Failure> {
        let (place, name) = self.enter(names)?;
        match place.create_file(name, 0o600) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                place.remove(name).map_err(cannot("replace"))?;
                place.create_file(name, 0o600).map_err(cannot("create"))
            }
            other => other.map_err(cannot("create")),
        }
    }

    /// Gives a file whose content is written its attributes.
    pub(super) fn finish(
        &mut self,
        file: &File,
        size: u64,
        attributes: &Attributes,
    ) -> Result<(), Failure> {
        set_attributes(file, attributes)?;
        beneath::set_time(file, attributes.time).map_err(cannot("set the times of"))?;
        self.count(attributes, size.next_multiple_of(BLOCK));
        Ok(())
    }

    /// Makes an entry that has no content.
    pub(super) fn make(
        &mut self,
        names: &[&[u8]],
        shape: &Shape<'_>,
        attributes: &Attributes,
    ) -> Result<(), Failure> {
        match shape {
            Shape::Directory => return self.make_directory(names, attributes),
            Shape::HardLink(target) => return self.make_hard_link(names, target),
            Shape::Link(_) | Shape::Node(_) => {}
        }
        let (place, name) = self.enter(names)?;
        if place.entry(name).map_err(cannot("look at"))?.is_some() {
            place.remove(name).map_err(cannot("replace"))?;
        }
        match shape {
            Shape::Link(target) => place.make_link(name, target).map_err(cannot("link"))?,
            Shape::Node(node) => {
                // The bits are set again because the process' umask took some.
                place.make_node(name, *node, 0o600).map_err(cannot("create"))?;
            }
            Shape::Directory | Shape::HardLink(_) => {}
        }
        place
            .set_owner(name, attributes.uid, attributes.gid)
            .map_err(cannot("set the owner of"))?;
        if matches!(shape, Shape::Node(_)) {
            place.set_mode(name, attributes.mode).map_err(cannot("set the mode of"))?;
        }
        place.set_time(name, attributes.time).map_err(cannot("set the times of"))?;
        self.count(attributes, 0);
        Ok(())
    }

    fn make_directory(&mut self, names: &[&[u8]], attributes: &Attributes) -> Result<(), Failure> {
        let (place, name) = self.enter(names)?;
        let directory = open_or_make(place, name)?;
        set_attributes(&directory, attributes)?;
        let path = names.join(&b'/');
        self.directory_bytes += u64::try_from(path.len()).unwrap_or_default();
        self.directories.push((path, attributes.time));
        self.count(attributes, BLOCK);
        Ok(())
    }

    fn make_hard_link(&mut self, names: &[&[u8]], target: &[&[u8]]) -> Result<(), Failure> {
        let (old_name, old_place) =
            target.split_last().ok_or(Failure::Entry(EntryFault::LinkTarget))?;
        let old = self.root.open_in_root(&old_place.join(&b'/')).map_err(cannot("link"))?;
        let found = old.entry(old_name).map_err(cannot("link"))?;
        if found.is_some_and(is_whiteout) {
            return Err(Failure::Entry(EntryFault::LinkTarget));
        }
        let (place, name) = self.enter(names)?;
        match place.hard_link(name, &old, old_name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                place.remove(name).map_err(cannot("replace"))?;
                place.hard_link(name, &old, old_name).map_err(cannot("link"))
            }
            other => other.map_err(cannot("link")),
        }
    }

    /// Hides what the layers below have under the name `gone` beside the entry.
    ///
    /// A whiteout speaks of the layers below and never of its own: where this layer has a
    /// directory of that name, the directory hides them.
    pub(super) fn hide(
        &mut self,
        names: &[&[u8]],
        gone: &[u8],
        attributes: &Attributes,
    ) -> Result<(), Failure> {
        let place = match self.enter(names) {
            Ok((place, _)) => place,
            // What it lies in is gone itself.
            Err(Failure::Entry(EntryFault::Parent)) => return Ok(()),
            Err(failure) => return Err(failure),
        };
        match place.entry(gone).map_err(cannot("hide"))? {
            None => {
                place.make_node(gone, Node::CharDevice(0, 0), 0).map_err(cannot("hide"))?;
                place.set_owner(gone, attributes.uid, attributes.gid).map_err(cannot("hide"))?;
                self.tally.inodes += 1;
            }
            Some(entry) if entry.kind == Kind::Directory => {
                let directory = place.open_child(gone).map_err(cannot("hide"))?;
                xattr::set(&directory, OPAQUE, b"y").map_err(cannot("hide"))?;
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// Hides all that the layers below have beside the entry.
    pub(super) fn hide_all(&mut self, names: &[&[u8]]) -> Result<(), Failure> {
        let (place, _) = self.enter(names)?;
        xattr::set(place, OPAQUE, b"y").map_err(cannot("hide what is below"))
    }

    /// Sets the times of directories, which every entry made in them changed.
    pub(super) fn close(self) -> Result<Tally, LayerError> {
        for (path, time) in &self.directories {
            // What became of a directory that a later entry replaced is not its business.
            if let Ok(directory) = self.root.open_in_root(path) {
                beneath::set_time(&directory, *time)
                    .map_err(|error| cannot("set the times of")(error).at(path))?;
            }
        }
        Ok(self.tally)
    }

    /// Opens the directory that an entry goes to, and makes it where it is only implied.
    fn enter<'n>(&mut self, names: &[&'n [u8]]) -> Result<(&Directory, &'n [u8]), Failure> {
        let (name, above) = names.split_last().ok_or(Failure::Entry(EntryFault::Path))?;
        let path = above.join(&b'/');
        let place = match self.place.take() {
            Some((known, place)) if known == path => place,
            _ => self.open_place(above, &path)?,
        };
        let (_, place) = self.place.insert((path, place));
        Ok((place, name))
    }

    fn open_place(&mut self, above: &[&[u8]], path: &[u8]) -> Result<Directory, Failure> {
        match self.root.open_in_root(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err(Failure::Entry(EntryFault::Parent));
            }
            other => return other.map_err(cannot("enter the directory of")),
        }
        let mut place = self.root.open_in_root(b"").map_err(cannot("enter the directory of"))?;
        for (depth, name) in above.iter().enumerate() {
            let path = || above.get(..=depth).unwrap_or_default().join(&b'/');
            // From the directory above, unless there is a link: from the root each time, a path of a
            // thousand names would cost a million look-ups.
            let found = place.open_child(name);
            let found = match found {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    self.root.open_in_root(&path())
                }
                found => found,
            };
            place = match found {
                Ok(found) => found,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    match place.make_directory(name, IMPLIED_MODE) {
                        Ok(()) => {}
                        // A link that leads nowhere.
                        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                            return Err(Failure::Entry(EntryFault::Parent));
                        }
                        Err(error) => return Err(Failure::Write("create the directory of", error)),
                    }
                    self.tally.inodes += 1;
                    self.tally.bytes += BLOCK;
                    if self.tally.implied.len() < MAX_IMPLIED {
                        self.tally.implied.push(path());
                    }
                    let made = place.open_child(name).map_err(cannot("enter the directory of"))?;
                    made.set_self(0, 0, IMPLIED_MODE).map_err(cannot("create the directory of"))?;
                    made
                }
                Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                    return Err(Failure::Entry(EntryFault::Parent));
                }
                Err(error) => return Err(Failure::Write("enter the directory of", error)),
            };
        }
        Ok(place)
    }

    fn count(&mut self, attributes: &Attributes, bytes: u64) {
        for (owners, owner) in
            [(&mut self.tally.uids, attributes.uid), (&mut self.tally.gids, attributes.gid)]
        {
            owners.insert(owner);
            if owners.len() > MAX_OWNERS {
                owners.pop_first();
            }
        }
        self.tally.inodes += 1;
        self.tally.bytes += bytes;
    }
}

/// The directory of this name, which is made if need be. One that takes the place of a whiteout
/// of its own layer hides what is below, as the whiteout did.
fn open_or_make(place: &Directory, name: &[u8]) -> Result<Directory, Failure> {
    let mut opaque = false;
    match place.make_directory(name, 0o700) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let entry = place.entry(name).map_err(cannot("look at"))?;
            if entry.is_some_and(|entry| entry.kind != Kind::Directory) {
                opaque = entry.is_some_and(is_whiteout);
                place.remove(name).map_err(cannot("replace"))?;
                place.make_directory(name, 0o700).map_err(cannot("create"))?;
            }
        }
        Err(error) => return Err(Failure::Write("create", error)),
    }
    let directory = place.open_child(name).map_err(cannot("open"))?;
    if opaque {
        xattr::set(&directory, OPAQUE, b"y").map_err(cannot("hide what is below"))?;
    }
    Ok(directory)
}

fn is_whiteout(entry: Entry) -> bool {
    entry.kind == Kind::CharDevice && entry.device == 0
}

fn set_attributes(file: &impl AsFd, attributes: &Attributes) -> Result<(), Failure> {
    let Attributes { uid, gid, mode, extended, .. } = attributes;
    beneath::set_owner_and_mode(file, *uid, *gid, *mode).map_err(cannot("set the owner of"))?;
    for (name, value) in extended {
        match xattr::set(file, name, value) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
            other => other.map_err(cannot("set an attribute of"))?,
        }
    }
    Ok(())
}

/// Whether an archive may set this attribute. `trusted.*` steers overlayfs and `user.overlay.*`
/// would where it is mounted without privileges; labels are this host's to give.
pub(super) fn may_set(name: &str) -> bool {
    name == "security.capability"
        || (name.starts_with("user.") && !name.starts_with("user.overlay.") && name.len() <= 255)
}
