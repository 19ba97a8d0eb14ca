//! Paths beneath a directory: where one leads, and how one is made.

use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use rustix::io::Errno;

use crate::sys::beneath::Directory;
use crate::sys::beneath::Kind;
use crate::sys::beneath::kind_of;

impl Directory {
    /// Where `path` leads, resolved with this directory as the root: a path of the host without
    /// links. It holds for as long as nobody changes the tree.
    ///
    /// # Errors
    ///
    /// `EXDEV` where it leads onto another mount, [`io::ErrorKind::InvalidInput`] for what is
    /// neither a directory nor a regular file, and what the kernel says.
    pub fn find_in_root(&self, path: &[u8]) -> io::Result<PathBuf> {
        let found = self.resolve_in_root(path, OFlags::PATH | OFlags::CLOEXEC)?;
        let kind = kind_of(FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode));
        if !matches!(kind, Kind::Directory | Kind::File) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no directory and no file"));
        }
        let place = |fd: &OwnedFd| std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        let (root, found) = (place(&self.0)?, place(&found)?);
        if !found.starts_with(&root) {
            return Err(Errno::XDEV.into());
        }
        Ok(found)
    }

    /// Where a path of the node leads that is meant to lie below this directory, as which a node's
    /// root may be mounted: whatever stands there, on whichever mount. No link leads out.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn find_on_node(&self, path: &[u8]) -> io::Result<PathBuf> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let mut tries = 0;
        let found = loop {
            match rustix::fs::openat2(&self.0, path, flags, Mode::empty(), resolve) {
                // As when something is renamed while the kernel resolves `..`.
                Err(Errno::AGAIN) if tries < 32 => tries += 1,
                other => break other?,
            }
        };
        std::fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()))
    }

    /// Makes the directory at `path`, a path of plain names, and those above it where they are
    /// missing, with this directory as the root. Only what was made gets the mode and the owner.
    ///
    /// # Errors
    ///
    /// What the kernel says: something that is no directory is in the way.
    pub fn make_in_root(&self, path: &Path, mode: u32, uid: u32, gid: u32) -> io::Result<()> {
        let mut above = self.open_in_root(b"")?;
        let mut walked = PathBuf::new();
        for name in path.iter() {
            walked.push(name);
            let bytes = walked.as_os_str().as_encoded_bytes();
            above = match self.open_in_root(bytes) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    above.make_directory(name.as_encoded_bytes(), mode)?;
                    let made = above.open_child(name.as_encoded_bytes())?;
                    made.set_self(uid, gid, mode)?;
                    made
                }
                other => other?,
            };
        }
        Ok(())
    }
}
