//! Pinned network namespaces: whether one is there.

use std::path::Path;

/// `NSFS_MAGIC` of include/uapi/linux/magic.h: the filesystem that namespaces are files of.
const NSFS: rustix::fs::FsWord = 0x6e73_6673;

/// Whether a namespace is mounted at the path; what was left of a pin when it was undone is none.
#[must_use]
pub fn is_alive(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|found| found.f_type == NSFS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_namespace_is_alive() {
        assert!(is_alive(Path::new("/proc/self/ns/net")));
        assert!(!is_alive(Path::new("/proc/self/status")));
        assert!(!is_alive(Path::new("/missing")));
    }
}
