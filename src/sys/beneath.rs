//! Work inside one directory that nothing can lead out of.
//!
//! A [`Directory`] is an open handle. Its methods take single names, never paths; the few that
//! take a path let the kernel resolve it with that directory as the root (`openat2`,
//! `RESOLVE_IN_ROOT`), so that `..`, absolute links and links made a moment ago all end inside.
//! That is the only defence that holds against a tar that makes a link and then writes through it
//! (CVE-2026-33056 and its many elder sisters).
//!
//! Needs Linux 5.6 for `openat2(2)`.

mod places;

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs as kernel;
use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use rustix::io::Errno;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// How deep a tree is removed with one handle a level; what lies deeper is first moved up.
const REMOVE_DEPTH: usize = 48;

/// An open directory, and the root of all that is done with it.
#[derive(Debug)]
pub struct Directory(OwnedFd);

/// What stands under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// For a device: its number.
    pub device: u64,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// The kinds of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A socket, or something this program does not know.
    Other,
}

/// A device node or pipe to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// A character device: major, minor.
    CharDevice(u32, u32),
    /// A block device: major, minor.
    BlockDevice(u32, u32),
    /// A named pipe.
    Fifo,
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Directory {
    /// Opens a directory of the host; the last component may not be a link.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(kernel::open(path, DIRECTORY, Mode::empty())?))
    }

    /// Opens the directory at `path`, resolved with this directory as the root.
    ///
    /// # Errors
    ///
    /// What the kernel says; `EXDEV` where the path leads onto another mount.
    pub fn open_in_root(&self, path: &[u8]) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(self.resolve_in_root(path, flags)?))
    }

    fn resolve_in_root(&self, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        let path = if path.is_empty() { b".".as_slice() } else { path };
        // The kernel gives up with EAGAIN when something is renamed while it resolves `..`.
        let mut tries = 0;
        loop {
            match kernel::openat2(&self.0, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN) if tries < 32 => tries += 1,
                other => return Ok(other?),
            }
        }
    }

    /// Reads the regular file at `path`, at most `limit` bytes, with this directory as the root:
    /// no link leads out, and a FIFO or device does not block (CVE-2024-9676).
    ///
    /// # Errors
    ///
    /// As [`crate::sys::files::read_open`], and what the kernel says.
    pub fn read_in_root(&self, path: &[u8], limit: u64) -> io::Result<Vec<u8>> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = kernel::openat2(&self.0, path, flags, Mode::empty(), resolve)?;
        crate::sys::files::read_open(&File::from(file), limit)
    }

    /// Opens the directory of this name.
    ///
    /// # Errors
    ///
    /// `ENOTDIR` or `ELOOP` if it is something else, and what the kernel says.
    pub fn open_child(&self, name: &[u8]) -> io::Result<Self> {
        Ok(Self(kernel::openat(&self.0, checked(name)?, DIRECTORY, Mode::empty())?))
    }

    /// Makes a file that was not there, empty and open for writing.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::AlreadyExists`], and what the kernel says.
    pub fn create_file(&self, name: &[u8], mode: u32) -> io::Result<File> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = kernel::openat(&self.0, checked(name)?, flags, Mode::from_raw_mode(mode))?;
        Ok(File::from(file))
    }

    /// Opens a regular file for reading; a link, pipe or device is an error.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn open_file(&self, name: &[u8]) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        Ok(File::from(kernel::openat(&self.0, checked(name)?, flags, Mode::empty())?))
    }

    /// Makes a directory that was not there.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::AlreadyExists`], and what the kernel says.
    pub fn make_directory(&self, name: &[u8], mode: u32) -> io::Result<()> {
        Ok(kernel::mkdirat(&self.0, checked(name)?, Mode::from_raw_mode(mode))?)
    }

    /// Makes a symbolic link. Its target is text and is not looked at.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::AlreadyExists`], and what the kernel says.
    pub fn make_link(&self, name: &[u8], target: &[u8]) -> io::Result<()> {
        Ok(kernel::symlinkat(target, &self.0, checked(name)?)?)
    }

    /// Makes `name` another name of `old_name` in `old`. A link is linked itself, not followed.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::AlreadyExists`], and what the kernel says.
    pub fn hard_link(&self, name: &[u8], old: &Directory, old_name: &[u8]) -> io::Result<()> {
        let (old_name, name) = (checked(old_name)?, checked(name)?);
        Ok(kernel::linkat(&old.0, old_name, &self.0, name, AtFlags::empty())?)
    }

    /// Makes a device node or pipe.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::AlreadyExists`], and what the kernel says.
    pub fn make_node(&self, name: &[u8], node: Node, mode: u32) -> io::Result<()> {
        let (kind, device) = match node {
            Node::CharDevice(major, minor) => {
                (FileType::CharacterDevice, kernel::makedev(major, minor))
            }
            Node::BlockDevice(major, minor) => {
                (FileType::BlockDevice, kernel::makedev(major, minor))
            }
            Node::Fifo => (FileType::Fifo, 0),
        };
        Ok(kernel::mknodat(&self.0, checked(name)?, kind, Mode::from_raw_mode(mode), device)?)
    }

    /// What stands under this name; a link is not followed.
    ///
    /// # Errors
    ///
    /// What the kernel says, except that nothing is there, which is `None`.
    pub fn entry(&self, name: &[u8]) -> io::Result<Option<Entry>> {
        match kernel::statat(&self.0, checked(name)?, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Entry {
                kind: kind_of(FileType::from_raw_mode(stat.st_mode)),
                device: stat.st_rdev,
                mode: stat.st_mode & 0o7777,
                uid: stat.st_uid,
                gid: stat.st_gid,
            })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives what stands under this name to an owner; a link itself, not what it leads to.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn set_owner(&self, name: &[u8], uid: u32, gid: u32) -> io::Result<()> {
        let (uid, gid) = (Some(kernel::Uid::from_raw(uid)), Some(kernel::Gid::from_raw(gid)));
        Ok(kernel::chownat(&self.0, checked(name)?, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Sets the permission bits of what stands under this name, which is known to be no link:
    /// it was made under this name a moment ago, in a directory that only we write to.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn set_mode(&self, name: &[u8], mode: u32) -> io::Result<()> {
        let mode = Mode::from_raw_mode(mode);
        Ok(kernel::chmodat(&self.0, checked(name)?, mode, AtFlags::empty())?)
    }

    /// Sets the times of what stands under this name; of a link itself, not of what it leads to.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn set_time(&self, name: &[u8], time: Time) -> io::Result<()> {
        let times = time.to_kernel();
        Ok(kernel::utimensat(&self.0, checked(name)?, &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Renames `name` to `new_name` in `new`; what stood there is replaced.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn rename(&self, name: &[u8], new: &Directory, new_name: &[u8]) -> io::Result<()> {
        Ok(kernel::renameat(&self.0, checked(name)?, &new.0, checked(new_name)?)?)
    }

    /// Removes what stands under this name, with all in it; that nothing is there is fine.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn remove(&self, name: &[u8]) -> io::Result<()> {
        match kernel::unlinkat(&self.0, checked(name)?, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR | Errno::PERM) => self.remove_tree(name),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a directory however deep it is: what is deeper than a bound is moved up first, so
    /// that neither the stack nor the number of open files grows with what a container left.
    fn remove_tree(&self, name: &[u8]) -> io::Result<()> {
        let mut waiting = vec![name.to_vec()];
        while let Some(name) = waiting.pop() {
            self.empty(&name, self, REMOVE_DEPTH, &mut waiting)?;
            match kernel::unlinkat(&self.0, name.as_slice(), AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Removes all in the directory `name` of `self`; directories at the depth bound are renamed
    /// into `top`, and named in `moved`.
    fn empty(
        &self,
        name: &[u8],
        top: &Self,
        depth: usize,
        moved: &mut Vec<Vec<u8>>,
    ) -> io::Result<()> {
        let directory = match kernel::openat(&self.0, name, DIRECTORY, Mode::empty()) {
            Ok(fd) => Self(fd),
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for (child, is_directory) in directory.list()? {
            if is_directory && depth == 0 {
                let name = deep_name();
                kernel::renameat(&directory.0, child.as_slice(), &top.0, name.as_slice())?;
                moved.push(name);
            } else if is_directory {
                directory.empty(&child, top, depth - 1, moved)?;
                kernel::unlinkat(&directory.0, child.as_slice(), AtFlags::REMOVEDIR)?;
            } else {
                kernel::unlinkat(&directory.0, child.as_slice(), AtFlags::empty())?;
            }
        }
        Ok(())
    }

    /// The names in this directory, and whether each is a directory.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn list(&self) -> io::Result<Vec<(Vec<u8>, bool)>> {
        let mut names = Vec::new();
        for entry in kernel::Dir::read_from(&self.0)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let is_directory = match entry.file_type() {
                FileType::Directory => true,
                FileType::Unknown => {
                    self.entry(name)?.is_some_and(|entry| entry.kind == Kind::Directory)
                }
                _ => false,
            };
            names.push((name.to_vec(), is_directory));
        }
        Ok(names)
    }

    /// Sets owner and permission bits of this directory itself.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn set_self(&self, uid: u32, gid: u32, mode: u32) -> io::Result<()> {
        set_owner_and_mode(&self.0, uid, gid, mode)
    }

    /// Owner, permission bits and kind of this directory itself.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn stat_self(&self) -> io::Result<Entry> {
        let stat = kernel::fstat(&self.0)?;
        Ok(Entry {
            kind: Kind::Directory,
            device: stat.st_dev,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
        })
    }

    /// Makes the names in this directory survive a crash of the machine.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn sync(&self) -> io::Result<()> {
        Ok(kernel::fsync(&self.0)?)
    }
}

/// A time of modification.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Time {
    /// Seconds since 1970.
    pub seconds: i64,
    /// And nanoseconds, below 10⁹.
    pub nanoseconds: u32,
}

impl Time {
    fn to_kernel(self) -> kernel::Timestamps {
        let time = rustix::fs::Timespec { tv_sec: self.seconds, tv_nsec: self.nanoseconds.into() };
        kernel::Timestamps { last_access: time, last_modification: time }
    }
}

/// Sets the times of an open file.
///
/// # Errors
///
/// What the kernel says.
pub fn set_time(file: impl AsFd, time: Time) -> io::Result<()> {
    Ok(kernel::futimens(file, &time.to_kernel())?)
}

/// Sets owner and permission bits of an open file. In this order: a change of owner clears setuid.
///
/// # Errors
///
/// What the kernel says.
pub fn set_owner_and_mode(file: impl AsFd, uid: u32, gid: u32, mode: u32) -> io::Result<()> {
    let file = file.as_fd();
    if uid != 0 || gid != 0 || !rustix::process::geteuid().is_root() {
        let owner = (Some(kernel::Uid::from_raw(uid)), Some(kernel::Gid::from_raw(gid)));
        kernel::fchown(file, owner.0, owner.1)?;
    }
    Ok(kernel::fchmod(file, Mode::from_raw_mode(mode))?)
}

/// Writes what is dirty on the filesystem of `directory` to disk.
///
/// # Errors
///
/// What the kernel says.
pub fn sync_filesystem(directory: &Directory) -> io::Result<()> {
    Ok(kernel::syncfs(&directory.0)?)
}

/// A name that no other removal in this or another process uses.
fn deep_name() -> Vec<u8> {
    use std::sync::atomic::AtomicU64;
    use std::sync::atomic::Ordering;
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!(".deep-{}-{number}", std::process::id()).into_bytes()
}

fn kind_of(kind: FileType) -> Kind {
    match kind {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Link,
        FileType::CharacterDevice => Kind::CharDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        FileType::Fifo => Kind::Fifo,
        FileType::Socket | FileType::Unknown => Kind::Other,
    }
}

/// A single name, and neither the directory itself nor the one above.
fn checked(name: &[u8]) -> io::Result<&[u8]> {
    if matches!(name, b"" | b"." | b"..") || name.iter().any(|byte| matches!(byte, b'/' | 0)) {
        let text = format!("{:?} is not a single name", String::from_utf8_lossy(name));
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_leads_out_ends_inside() {
        let temporary = tempfile::tempdir().unwrap();
        let root = Directory::open(temporary.path()).unwrap();
        root.make_directory(b"etc", 0o755).unwrap();
        for (name, target) in [("absolute", "/etc"), ("climbing", "../../../../etc")] {
            root.make_link(name.as_bytes(), target.as_bytes()).unwrap();
            let inside = root.open_in_root(name.as_bytes()).unwrap();
            inside.create_file(name.as_bytes(), 0o600).unwrap();
            assert!(temporary.path().join("etc").join(name).exists());
        }
        assert!(root.open_child(b"absolute").is_err());
    }

    #[test]
    fn names_are_single() {
        let temporary = tempfile::tempdir().unwrap();
        let root = Directory::open(temporary.path()).unwrap();
        for name in ["", ".", "..", "a/b", "/etc", "a\0b"] {
            assert!(root.create_file(name.as_bytes(), 0o600).is_err(), "{name:?}");
            assert!(root.remove(name.as_bytes()).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_very_deep_tree_is_removed_and_links_in_it_are_not_followed() {
        let temporary = tempfile::tempdir().unwrap();
        let root = Directory::open(temporary.path()).unwrap();
        root.make_directory(b"keep", 0o755).unwrap();
        root.open_child(b"keep").unwrap().create_file(b"file", 0o600).unwrap();
        root.make_directory(b"deep", 0o755).unwrap();
        let mut place = root.open_child(b"deep").unwrap();
        for _ in 0..3000 {
            place.make_link(b"out", b"/keep").unwrap();
            place.make_directory(b"d", 0o755).unwrap();
            place = place.open_child(b"d").unwrap();
        }
        root.remove(b"deep").unwrap();
        let left: Vec<_> = root.list().unwrap();
        assert_eq!(left, [(b"keep".to_vec(), true)]);
        assert_eq!(root.open_child(b"keep").unwrap().list().unwrap().len(), 1);
    }
}
