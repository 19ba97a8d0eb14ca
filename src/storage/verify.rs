//! Whether a layer's files are still those of its archive: the archive is put together again from its
//! tar-split and the files, and its digest compared. Nothing is written.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::read::MultiGzDecoder;
use serde::Deserialize;

use crate::oci::digest::Algorithm;
use crate::oci::digest::Digest;
use crate::oci::digest::Hasher;
use crate::storage::check::Fault;
use crate::storage::crc64::Crc64;
use crate::storage::whiteout;
use crate::storage::whiteout::Meaning;
use crate::sys::beneath::Directory;
use crate::sys::beneath::Kind;

/// The longest line of a tar-split that is read: a piece of the archive in base64.
const LINE_LIMIT: u64 = 64 * 1024 * 1024;
/// How many files of one layer are named.
const NAMED: usize = 16;

/// A line of a tar-split.
#[derive(Debug, Deserialize)]
struct Line {
    r#type: u8,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    name_raw: Option<String>,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    payload: Option<String>,
}

/// What the archive has, by the paths of its entries.
type Names = HashSet<Vec<u8>>;

/// Compares a layer's files with its archive. `contents` also looks for files that are not of it.
pub(super) fn layer(
    split: &Path,
    diff: &Path,
    (digest, size): (&Digest, Option<u64>),
    contents: bool,
) -> Vec<Fault> {
    let opened = File::open(split).map_err(|error| Fault::Split(error.to_string()));
    let opened = opened.and_then(|file| {
        let root = Directory::open(diff).map_err(|error| Fault::Unreadable(error.to_string()))?;
        Ok((file, root))
    });
    let (file, root) = match opened {
        Ok(opened) => opened,
        Err(fault) => return vec![fault],
    };
    let mut names = contents.then(Names::new);
    let mut faults = match assemble(file, &root, digest.algorithm(), names.as_mut()) {
        Err(fault) => return vec![fault],
        Ok((found, length)) => {
            let mut faults = Vec::new();
            if found != *digest {
                let (wanted, found) = (digest.to_string(), found.to_string());
                faults.push(Fault::Digest { wanted, found });
            }
            if size.is_some_and(|size| size != length) {
                faults.push(Fault::Size { wanted: size.unwrap_or_default(), found: length });
            }
            faults
        }
    };
    if let Some(names) = names {
        match compare(&root, &names) {
            Ok(more) => faults.extend(more),
            Err(error) => faults.push(Fault::Unreadable(error.to_string())),
        }
    }
    faults
}

/// The digest and the length of the archive that these files make.
fn assemble(
    split: File,
    root: &Directory,
    algorithm: Algorithm,
    mut names: Option<&mut Names>,
) -> Result<(Digest, u64), Fault> {
    let fault = |error: io::Error| Fault::Split(error.to_string());
    let mut hasher = Hasher::new(algorithm);
    let mut length = 0_u64;
    let mut lines = BufReader::new(MultiGzDecoder::new(BufReader::new(split)));
    let mut text = Vec::new();
    loop {
        text.clear();
        let read = lines.by_ref().take(LINE_LIMIT).read_until(b'\n', &mut text).map_err(fault)?;
        if read == 0 {
            break;
        }
        let line: Line = serde_json::from_slice(&text).map_err(|error| fault(error.into()))?;
        let bytes =
            |text: &str| STANDARD.decode(text).map_err(|error| Fault::Split(error.to_string()));
        if line.r#type == 2 {
            let piece = bytes(line.payload.as_deref().unwrap_or_default())?;
            hasher.update(&piece);
            length += u64::try_from(piece.len()).unwrap_or_default();
            continue;
        }
        let name = match (line.name, line.name_raw) {
            (_, Some(raw)) => bytes(&raw)?,
            (name, None) => name.unwrap_or_default().into_bytes(),
        };
        if line.size > 0 {
            let sum = bytes(line.payload.as_deref().unwrap_or_default())?;
            file(root, &name, (line.size, &sum), &mut hasher)?;
            length += line.size;
        }
        if let Some(names) = names.as_deref_mut() {
            names.insert(joined(&name));
        }
    }
    Ok((hasher.finish(), length))
}

/// Takes the content of one file in.
fn file(
    root: &Directory,
    name: &[u8],
    (size, sum): (u64, &[u8]),
    hasher: &mut Hasher,
) -> Result<(), Fault> {
    let shown = || String::from_utf8_lossy(name).into_owned();
    let parts = whiteout::names(name).unwrap_or_default();
    let Some((last, directories)) = parts.split_last() else {
        return Err(Fault::Split(format!("it has a file of the name {:?}", shown())));
    };
    let missing = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Fault::FileMissing(shown()),
        _ => Fault::Unreadable(format!("{:?}: {error}", shown())),
    };
    let open = |root: &Directory| {
        if directories.is_empty() {
            return root.open_file(last);
        }
        root.open_in_root(&directories.join(&b'/'))?.open_file(last)
    };
    let mut opened = open(root).map_err(missing)?.take(size);
    let (mut crc, mut left) = (Crc64::new(), size);
    let mut buffer = vec![0; 128 * 1024];
    while left > 0 {
        let count = opened.read(&mut buffer).map_err(missing)?;
        let part = buffer.get(..count).unwrap_or_default();
        if part.is_empty() {
            return Err(Fault::FileChanged(shown()));
        }
        crc.update(part);
        hasher.update(part);
        left = left.saturating_sub(u64::try_from(count).unwrap_or(left));
    }
    if crc.finish() == *sum { Ok(()) } else { Err(Fault::FileChanged(shown())) }
}

/// A path without what means nothing in it.
fn joined(name: &[u8]) -> Vec<u8> {
    whiteout::names(name).unwrap_or_default().join(&b'/')
}

/// Names of the archive that no file has, and files that the archive has not.
fn compare(root: &Directory, names: &Names) -> io::Result<Vec<Fault>> {
    let mut wanted: Names = names.clone();
    let mut implied = Names::new();
    for name in names {
        let mut parent = name.as_slice();
        while let Some(at) = parent.iter().rposition(|byte| *byte == b'/') {
            parent = parent.get(..at).unwrap_or_default();
            implied.insert(parent.to_vec());
        }
    }
    let mut unknown = Vec::new();
    let mut waiting = vec![Vec::new()];
    while let Some(at) = waiting.pop() {
        let directory =
            if at.is_empty() { root.open_in_root(b".")? } else { root.open_in_root(&at)? };
        for (name, is_directory) in directory.list()? {
            let mut path = at.clone();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&name);
            let known = wanted.remove(&path) || implied.contains(&path);
            if !known && !is_whiteout(&directory, &name, (&at, names))? {
                unknown.push(path.clone());
            }
            if is_directory {
                waiting.push(path);
            }
        }
    }
    // A whiteout is another thing on disk than in the archive, and takes what it names with it.
    let gone = |path: &Vec<u8>| {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        path.is_empty()
            || !matches!(whiteout::meaning(name), Ok(Meaning::Plain))
            || names.contains(&beside(path, name))
    };
    let mut missing: Vec<Vec<u8>> = wanted.into_iter().filter(|path| !gone(path)).collect();
    missing.sort();
    unknown.sort();
    let text = |path: Vec<u8>| String::from_utf8_lossy(&path).into_owned();
    let missing = missing.into_iter().take(NAMED).map(|path| Fault::FileMissing(text(path)));
    let unknown = unknown.into_iter().take(NAMED).map(|path| Fault::FileUnknown(text(path)));
    Ok(missing.chain(unknown).collect())
}

/// The path of the whiteout of this path.
fn beside(path: &[u8], name: &[u8]) -> Vec<u8> {
    let mut marker = path.get(..path.len() - name.len()).unwrap_or_default().to_vec();
    marker.extend_from_slice(b".wh.");
    marker.extend_from_slice(name);
    marker
}

/// Whether what has this name says that a lower file is gone, as the archive does.
fn is_whiteout(
    directory: &Directory,
    name: &[u8],
    (at, names): (&[u8], &Names),
) -> io::Result<bool> {
    let mut path = at.to_vec();
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    let entry = directory.entry(name)?;
    let device = entry.is_some_and(|entry| entry.kind == Kind::CharDevice && entry.device == 0);
    Ok(device && names.contains(&beside(&path, name)))
}
