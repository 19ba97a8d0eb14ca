//! A layer's blob becomes a directory: decompressed, checked, written, in one pass.
//!
//! The digests of the blob and of the archive come out at the end; whoever asked compares them
//! with what was promised *before* the layer is committed. Until then nothing refers to what was
//! written, and dropping it removes it.

use std::io::Read;
use std::io::Write;

use tar_core::EntryType;
use tar_core::PaxExtensions;
use tar_core::parse::ParseEvent;
use tar_core::parse::ParsedEntry;
use tar_core::parse::Parser;

use crate::oci::digest::Algorithm;
use crate::oci::media_type::Compression;
use crate::storage::apply;
use crate::storage::apply::Applier;
use crate::storage::apply::Attributes;
use crate::storage::apply::Failure;
use crate::storage::apply::Shape;
use crate::storage::apply::Tally;
use crate::storage::crc64::Crc64;
use crate::storage::error::EntryFault;
use crate::storage::error::LayerError;
use crate::storage::stream::Limits;
use crate::storage::stream::Stream;
use crate::storage::stream::Totals;
use crate::storage::tar_split::TarSplit;
use crate::storage::whiteout;
use crate::storage::whiteout::Meaning;
use crate::sys::beneath::Directory;
use crate::sys::beneath::Node;
use crate::sys::beneath::Time;

/// The blocks of an archive.
const BLOCK: u64 = 512;
/// The most that the extensions of one entry may take, in bytes.
const MAX_EXTENSIONS: u32 = 1024 * 1024;

/// The most that may stand before the content of an entry: header, extensions, a sparse map.
const MAX_HEADER: u64 = 4 * 1024 * 1024;

/// What an entry is, owned, so that the window can move on.
struct Item {
    path: Vec<u8>,
    link: Vec<u8>,
    kind: EntryType,
    /// A file whose name ends in a slash, in the oldest format, which knows no directories.
    old_directory: bool,
    size: u64,
    attributes: Attributes,
    device: (u32, u32),
}

/// Everything one layer's unpacking works with.
struct Unpacking<'a> {
    stream: Stream<'a>,
    split: TarSplit,
    applier: Applier,
    limits: Limits,
}

/// Unpacks a layer beneath `root` and writes its tar-split.
///
/// # Errors
///
/// See [`LayerError`]; what was written until then stays.
pub(super) fn unpack(
    blob: &mut dyn Read,
    compression: Compression,
    algorithms: (Algorithm, Algorithm),
    limits: &Limits,
    (root, split): (Directory, TarSplit),
) -> Result<(Totals, Tally), LayerError> {
    let stream = Stream::new(blob, compression, algorithms, *limits)?;
    let applier = Applier::new(root);
    let mut unpacking = Unpacking { stream, split, applier, limits: *limits };
    unpacking.entries()?;
    unpacking.rest()?;
    let Unpacking { stream, split, applier, .. } = unpacking;
    split.finish().map_err(cannot_split)?;
    Ok((stream.finish(), applier.close()?))
}

fn cannot_split(source: std::io::Error) -> LayerError {
    LayerError::Write { action: "write the tar-split", path: String::new(), source }
}

impl Unpacking<'_> {
    fn entries(&mut self) -> Result<(), LayerError> {
        let mut parser = Parser::new(tar_core::parse::Limits {
            max_metadata_size: MAX_EXTENSIONS,
            max_path_len: Some(4096),
            ..tar_core::parse::Limits::default()
        });
        let mut entries = 0;
        loop {
            let event = parser.parse(self.stream.window())?;
            let (consumed, item) = match event {
                ParseEvent::NeedData { min_bytes } => {
                    // Who has what is asked for and asks again reads a sparse map whose line has no
                    // end, anew for every piece that a registry sends of it.
                    if min_bytes <= self.stream.window().len() {
                        return Err(Failure::Entry(EntryFault::Sparse).at(b""));
                    }
                    let wanted = u64::try_from(min_bytes).unwrap_or(u64::MAX);
                    self.check(wanted, "bytes before the content of an entry", MAX_HEADER)?;
                    if self.stream.need(min_bytes)? {
                        continue;
                    }
                    // Some writers leave out the end marker, and some half of it.
                    if self.stream.window().iter().all(|byte| *byte == 0) {
                        return Ok(());
                    }
                    return Err(LayerError::Short("a header".to_owned()));
                }
                ParseEvent::GlobalExtensions { consumed, .. } => (consumed, None),
                ParseEvent::SparseEntry { entry, .. } => {
                    return Err(Failure::Entry(EntryFault::Sparse).at(&entry.path));
                }
                ParseEvent::Entry { consumed, entry } => (consumed, Some(read(&entry)?)),
                ParseEvent::End { consumed } => {
                    self.raw(consumed)?;
                    return Ok(());
                }
            };
            self.raw(consumed)?;
            let Some(item) = item else { continue };
            entries += 1;
            self.check(entries, "entries", self.limits.max_entries)?;
            self.entry(&item)?;
            // One entry can imply two thousand directories.
            self.check(self.applier.tally.inodes, "files", self.limits.max_entries)?;
            let names = "bytes in the paths of its directories";
            self.check(self.applier.directory_bytes, names, self.limits.max_paths)?;
        }
    }

    fn check(&self, count: u64, what: &'static str, limit: u64) -> Result<(), LayerError> {
        if count > limit { Err(LayerError::TooMany { what, limit }) } else { Ok(()) }
    }

    /// What follows the end marker belongs to the layer's digest as well.
    fn rest(&mut self) -> Result<(), LayerError> {
        while self.stream.need(1)? {
            let length = self.stream.window().len();
            self.raw(length)?;
        }
        Ok(())
    }

    fn raw(&mut self, length: usize) -> Result<(), LayerError> {
        let bytes = self.stream.window().get(..length).unwrap_or_default();
        self.split.raw(bytes).map_err(cannot_split)?;
        self.stream.advance(length);
        Ok(())
    }

    fn entry(&mut self, item: &Item) -> Result<(), LayerError> {
        let fault = |fault| Failure::Entry(fault).at(&item.path);
        let names = whiteout::names(&item.path).ok_or_else(|| fault(EntryFault::Path))?;
        if !self.split.is_new(&names) {
            return Err(fault(EntryFault::Twice));
        }
        if item.size > self.stream.allowance() {
            return Err(LayerError::TooLarge { limit: self.stream.limit() });
        }
        let mut sum = Crc64::new();
        if is_file(item) {
            self.file(item, &names, &mut sum)?;
        } else if let Some(name) = names.last() {
            // The root itself is the store's business; all else has a name.
            match whiteout::meaning(name).map_err(fault)? {
                Meaning::Plain => self.other(item, &names)?,
                Meaning::Gone(_) | Meaning::Opaque | Meaning::Ignored => {
                    return Err(fault(EntryFault::Whiteout));
                }
            }
        }
        self.split.entry(&item.path, item.size, sum.finish()).map_err(cannot_split)?;
        let padding = usize::try_from(item.size.next_multiple_of(BLOCK) - item.size);
        let padding = padding.unwrap_or_default();
        if !self.stream.need(padding)? {
            return Err(LayerError::Short(apply::shown(&item.path)));
        }
        self.raw(padding)
    }

    fn file(&mut self, item: &Item, names: &[&[u8]], sum: &mut Crc64) -> Result<(), LayerError> {
        let fault = |fault| Failure::Entry(fault).at(&item.path);
        let name = names.last().ok_or_else(|| fault(EntryFault::Path))?;
        let mut file = None;
        let applier = &mut self.applier;
        let done = match whiteout::meaning(name).map_err(fault)? {
            Meaning::Plain => applier.create(names).map(|created| file = Some(created)),
            Meaning::Gone(gone) => applier.hide(names, gone, &item.attributes),
            Meaning::Opaque => applier.hide_all(names),
            Meaning::Ignored => Ok(()),
        };
        done.map_err(|failure| failure.at(&item.path))?;
        let mut left = item.size;
        while left > 0 {
            if !self.stream.need(1)? {
                return Err(LayerError::Short(apply::shown(&item.path)));
            }
            let window = self.stream.window();
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(window.len());
            let bytes = window.get(..length).unwrap_or_default();
            sum.update(bytes);
            if let Some(file) = &mut file {
                file.write_all(bytes)
                    .map_err(|source| Failure::Write("write", source).at(&item.path))?;
            }
            self.stream.advance(length);
            left -= u64::try_from(length).unwrap_or(left);
        }
        if let Some(file) = &file {
            self.applier
                .finish(file, item.size, &item.attributes)
                .map_err(|failure| failure.at(&item.path))?;
        }
        Ok(())
    }

    fn other(&mut self, item: &Item, names: &[&[u8]]) -> Result<(), LayerError> {
        let fault = |fault| Failure::Entry(fault).at(&item.path);
        let target;
        let (major, minor) = item.device;
        let shape = match item.kind {
            EntryType::Directory | EntryType::Regular => Shape::Directory,
            EntryType::Symlink => {
                if item.link.is_empty() || item.link.contains(&0) {
                    return Err(fault(EntryFault::LinkTarget));
                }
                Shape::Link(&item.link)
            }
            EntryType::Link => {
                target = whiteout::names(&item.link)
                    .filter(|names| !names.is_empty())
                    .ok_or_else(|| fault(EntryFault::LinkTarget))?;
                Shape::HardLink(&target)
            }
            EntryType::Char if (major, minor) == (0, 0) => {
                return Err(fault(EntryFault::OverlayWhiteout));
            }
            EntryType::Char => Shape::Node(Node::CharDevice(major, minor)),
            EntryType::Block => Shape::Node(Node::BlockDevice(major, minor)),
            EntryType::Fifo => Shape::Node(Node::Fifo),
            _ => return Err(fault(EntryFault::Kind)),
        };
        self.applier.make(names, &shape, &item.attributes).map_err(|failure| failure.at(&item.path))
    }
}

fn is_file(item: &Item) -> bool {
    item.kind == EntryType::Regular && !item.old_directory
}

/// Takes what matters out of an entry.
fn read(entry: &ParsedEntry<'_>) -> Result<Item, LayerError> {
    let fault = |fault| Failure::Entry(fault).at(&entry.path);
    let id = |id: u64| match u32::try_from(id) {
        // The last one means "leave it" to the kernel.
        Ok(id) if id != u32::MAX => Ok(id),
        _ => Err(fault(EntryFault::Owner)),
    };
    let extended = entry.xattrs.iter().filter_map(|(name, value)| {
        let name = std::str::from_utf8(name).ok().filter(|name| apply::may_set(name))?;
        Some((name.to_owned(), value.to_vec()))
    });
    let item = Item {
        path: entry.path.to_vec(),
        link: entry.link_target.as_deref().unwrap_or_default().to_vec(),
        kind: entry.entry_type,
        old_directory: entry.header.as_bytes().get(156) == Some(&0) && entry.path.ends_with(b"/"),
        size: 0,
        attributes: Attributes {
            uid: id(entry.uid)?,
            gid: id(entry.gid)?,
            mode: entry.mode & 0o7777,
            time: time(entry),
            extended: extended.collect(),
        },
        device: (entry.dev_major.unwrap_or_default(), entry.dev_minor.unwrap_or_default()),
    };
    // Only files have content, whatever the size field of another entry says: that is how Go's
    // archive/tar, and with it all the other users of the store, read an archive.
    let size = if is_file(&item) { entry.size } else { 0 };
    Ok(Item { size, ..item })
}

/// The time of an entry, with the fraction that only its extension has.
fn time(entry: &ParsedEntry<'_>) -> Time {
    let fraction = entry
        .pax
        .and_then(|pax| PaxExtensions::new(pax).get("mtime"))
        .and_then(|text| text.split_once('.'))
        .and_then(|(_, fraction)| format!("{fraction:0<9.9}").parse().ok());
    Time {
        seconds: i64::try_from(entry.mtime).unwrap_or_default(),
        nanoseconds: fraction.filter(|fraction| *fraction < 1_000_000_000).unwrap_or_default(),
    }
}
