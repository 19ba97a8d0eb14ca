//! Whiteouts: names in a layer that say what of the layers below is gone.
//!
//! In an archive they are files whose names begin with `.wh.`
//! (OCI image specification, "Image Layer Filesystem Changeset"); in overlayfs, devices 0:0 and
//! an attribute of directories. Only this store makes the latter.

use crate::storage::error::EntryFault;

/// The attribute of a directory that hides what the layers below have in it.
pub(super) const OPAQUE: &str = "trusted.overlay.opaque";

const PREFIX: &[u8] = b".wh.";
const META: &[u8] = b".wh..wh.";
const OPAQUE_NAME: &[u8] = b".wh..wh..opq";

/// What the name of an entry means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning<'a> {
    /// Just a name.
    Plain,
    /// This name, in the same directory, is gone.
    Gone(&'a [u8]),
    /// All that the layers below have in the same directory is gone.
    Opaque,
    /// A note of AUFS to itself.
    Ignored,
}

/// What this name means.
pub(super) fn meaning(name: &[u8]) -> Result<Meaning<'_>, EntryFault> {
    if name == OPAQUE_NAME {
        return Ok(Meaning::Opaque);
    }
    if name.starts_with(META) {
        return Ok(Meaning::Ignored);
    }
    match name.strip_prefix(PREFIX) {
        None => Ok(Meaning::Plain),
        Some(b"" | b"." | b"..") => Err(EntryFault::Whiteout),
        Some(gone) => Ok(Meaning::Gone(gone)),
    }
}

/// The names of a path in an archive, from the top. A leading slash and `.` mean nothing there.
///
/// `None` for a path that goes up, or has a zero byte, or a name that no filesystem takes.
pub(super) fn names(path: &[u8]) -> Option<Vec<&[u8]>> {
    let mut names = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => return None,
            _ if name.len() > 255 || name.contains(&0) => return None,
            _ => names.push(name),
        }
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean_what_the_specification_says() {
        let check = |name: &str, expected| assert_eq!(meaning(name.as_bytes()), expected, "{name}");
        check("file", Ok(Meaning::Plain));
        check(".wh", Ok(Meaning::Plain));
        check(".wh.file", Ok(Meaning::Gone(b"file")));
        check(".wh..wh..opq", Ok(Meaning::Opaque));
        check(".wh..wh.plnk", Ok(Meaning::Ignored));
        check(".wh.", Err(EntryFault::Whiteout));
        check(".wh..", Err(EntryFault::Whiteout));
        check(".wh...", Err(EntryFault::Whiteout));
    }

    #[test]
    fn paths_that_go_up_have_no_names() {
        assert_eq!(names(b"./a//b/"), Some(vec![b"a".as_slice(), b"b"]));
        assert_eq!(names(b"/a/./b"), Some(vec![b"a".as_slice(), b"b"]));
        assert_eq!(names(b"./"), Some(vec![]));
        for path in ["..", "a/../b", "/../a", "a/.."] {
            assert_eq!(names(path.as_bytes()), None, "{path}");
        }
        assert_eq!(names(b"a\0b"), None);
        assert_eq!(names(&[b'a'; 256]), None);
    }
}
