//! How overlayfs is told of a stack of layers.
//!
//! Each layer has a short random name, its link, under `overlay/l`; `lower` lists the links of
//! all layers below, the nearest first. Short names let a long stack fit the one page that
//! `mount(2)` reads.

use std::io;
use std::path::Path;

use crate::storage::error::StorageError;
use crate::sys::files;
use crate::sys::files::Links;
use crate::sys::mount::OverlayOptions;

/// The most layers that overlayfs stacks.
pub(super) const MAX_LOWERS: usize = 500;
/// `mount(2)` reads less than one page of options.
const PAGE: usize = 4096;
/// The length of a link's name, in digits of 5 bits.
const LINK_LENGTH: usize = 26;
const DIGITS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// A new name for a link.
pub(super) fn fresh_link() -> io::Result<String> {
    let mut bytes = [0_u8; LINK_LENGTH];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| io::Error::other("no random bytes from the kernel"))?;
    let digit = |byte: &u8| DIGITS.get(usize::from(byte % 32)).copied().unwrap_or(b'A');
    Ok(bytes.iter().map(|byte| char::from(digit(byte))).collect())
}

/// What a layer's directory says of the layer's place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Its own link.
    pub(super) link: String,
    /// The links of the layers below, nearest first, as `l/…`.
    pub(super) lowers: Vec<String>,
}

impl Place {
    /// Reads what the directory of a layer says.
    pub(super) fn read(directory: &Path) -> Result<Self, StorageError> {
        let path = directory.join("link");
        let link =
            files::read(&path, 256, Links::Refuse).map_err(StorageError::io("read", &path))?;
        let link = checked(&link, &path)?;
        let path = directory.join("lower");
        let lowers = match files::read(&path, 64 * 1024, Links::Refuse) {
            Ok(lowers) => lowers,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(StorageError::io("read", &path)(source)),
        };
        let lowers = lowers
            .split(|byte| *byte == b':')
            .filter(|lower| !lower.is_empty())
            .map(|lower| {
                let name = checked(lower.strip_prefix(b"l/").unwrap_or(b"/"), &path)?;
                Ok(format!("l/{name}"))
            })
            .collect::<Result<_, StorageError>>()?;
        Ok(Self { link, lowers })
    }

    /// The `lowers` of a layer on top of this one.
    pub(super) fn lowers_above(&self) -> Vec<String> {
        let mut lowers = vec![format!("l/{}", self.link)];
        lowers.extend_from_slice(&self.lowers);
        lowers
    }
}

/// A link's name goes into mount options, where commas, colons and slashes mean something.
fn checked(name: &[u8], path: &Path) -> Result<String, StorageError> {
    let fine = !name.is_empty() && name.len() <= 64 && name.iter().all(u8::is_ascii_alphanumeric);
    match std::str::from_utf8(name) {
        Ok(name) if fine => Ok(name.to_owned()),
        _ => {
            let source = io::Error::new(io::ErrorKind::InvalidData, "not the name of a link");
            Err(StorageError::Io { action: "use", path: path.to_owned(), source })
        }
    }
}

/// Whether changes to a mount survive a crash of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Persistence {
    /// They do.
    Durable,
    /// They need not, so that nothing waits for the disk.
    Volatile,
}

/// What may be done with a layer through its mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Writes go into the layer, which is the uppermost.
    Writable(Persistence),
    /// The layer is the uppermost of those that are only read.
    ReadOnly,
}

/// The options of the mount of a layer, with paths relative to `home` if they are too long
/// otherwise.
pub(super) fn options(
    home: &Path,
    layer: &str,
    place: &Place,
    (access, extra): (Access, &[String]),
    label: Option<&str>,
) -> OverlayOptions {
    let read_only = access == Access::ReadOnly;
    let mut lowers = if read_only { place.lowers_above() } else { place.lowers.clone() };
    // Without an upper directory, overlayfs wants at least two lower ones.
    if lowers.is_empty() || (read_only && lowers.len() == 1) {
        lowers.push(format!("{layer}/empty"));
    }
    let text = |prefix: &str| {
        let mut data = String::from("lowerdir=");
        for (number, lower) in lowers.iter().enumerate() {
            if number > 0 {
                data.push(':');
            }
            data.push_str(prefix);
            data.push_str(lower);
        }
        if !read_only {
            data.push_str(&format!(",upperdir={prefix}{layer}/diff,workdir={prefix}{layer}/work"));
        }
        if let Some(label) = label.filter(|label| !label.is_empty()) {
            data.push_str(&format!(",context=\"{label}\""));
        }
        data
    };
    let rest: usize = extra.iter().map(|option| option.len() + 1).sum();
    let mut data = text(&format!("{}/", home.display()));
    let special = home.as_os_str().as_encoded_bytes().iter().any(|byte| b":,\\".contains(byte));
    if special || data.len() + rest >= PAGE {
        data = text("");
    }
    OverlayOptions { data, options: extra.to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_stack_has_whole_paths_and_a_long_one_relative_ones() {
        let home = Path::new("/var/lib/containers/storage/overlay");
        let place = |count: usize| -> Place {
            let lower = |number| format!("l/ABCDEFGHIJKLMNOPQRSTUVW{number:03}");
            Place { link: "OWN".to_owned(), lowers: (0..count).map(lower).collect() }
        };
        let writable = Access::Writable(Persistence::Durable);
        let label = Some("system_u:object_r:container_file_t:s0:c1,c2");
        let short = options(home, "id", &place(2), (writable, &["nodev".to_owned()]), label);
        assert_eq!(
            short.data,
            "lowerdir=/var/lib/containers/storage/overlay/l/ABCDEFGHIJKLMNOPQRSTUVW000:\
             /var/lib/containers/storage/overlay/l/ABCDEFGHIJKLMNOPQRSTUVW001,\
             upperdir=/var/lib/containers/storage/overlay/id/diff,\
             workdir=/var/lib/containers/storage/overlay/id/work,\
             context=\"system_u:object_r:container_file_t:s0:c1,c2\""
        );
        let long = options(home, "id", &place(127), (writable, &[]), None);
        assert!(long.data.starts_with("lowerdir=l/ABC") && long.data.len() < 4096);
        let none = options(home, "id", &place(0), (writable, &[]), None);
        assert!(none.data.starts_with("lowerdir=/var/lib/containers/storage/overlay/id/empty,"));
    }

    #[test]
    fn a_link_that_would_add_options_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("d")).unwrap();
        let link = directory.path().join("link");
        for text in ["", "../x", "A,upperdir=/etc", "A:B"] {
            let durability = files::Durability::Process;
            files::replace(&link, text.as_bytes(), 0o600, durability).unwrap();
            assert!(Place::read(directory.path()).is_err(), "{text:?}");
        }
        assert_eq!(fresh_link().unwrap().len(), 26);
    }
}
