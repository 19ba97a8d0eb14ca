//! Whole-file locks of `fcntl(2)`, which programs share by the lock file's path.
//!
//! Others use the locks of a process, which any `close` in that process drops; ours belong to the
//! open file (`F_OFD_SETLKW`), which exclude the others just the same and cannot be lost that way.
//! Someone may put another file in a lock file's place, so after each locking the path must still
//! lead to the file that is locked.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::FcntlArg;
use nix::libc;

/// How a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// With others that read.
    Read,
    /// Alone.
    Write,
}

/// Waits for the lock on the file at `path`, which is made, and holds it as long as the file given
/// is open.
///
/// # Errors
///
/// What the kernel says.
pub fn hold(path: &Path, hold: Hold) -> io::Result<File> {
    loop {
        let file = open(path)?;
        wait(&file, hold)?;
        if same(&file, path)? {
            return Ok(file);
        }
    }
}

/// Holds a lock on the file at `path`, which is made, as long as the file is open. `None` if
/// someone else holds it, or removed it meanwhile.
///
/// # Errors
///
/// What the kernel says.
pub fn try_hold(path: &Path) -> io::Result<Option<File>> {
    let file = open(path)?;
    match fcntl(&file, libc::F_WRLCK, false) {
        Ok(()) => Ok(same(&file, path)?.then_some(file)),
        Err(nix::Error::EAGAIN | nix::Error::EACCES) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Opens a lock file, and makes it where it is missing.
///
/// # Errors
///
/// What the kernel says.
pub fn open(path: &Path) -> io::Result<File> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .custom_flags(libc::O_CLOEXEC | libc::O_NOFOLLOW)
        .open(path)
}

/// Waits for the lock on an open file.
///
/// # Errors
///
/// What the kernel says.
pub fn wait(file: &File, hold: Hold) -> io::Result<()> {
    let kind = match hold {
        Hold::Read => libc::F_RDLCK,
        Hold::Write => libc::F_WRLCK,
    };
    loop {
        match fcntl(file, kind, true) {
            Ok(()) => return Ok(()),
            Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Lets the lock go.
///
/// # Errors
///
/// What the kernel says; closing the file lets it go too.
pub fn release(file: &File) -> io::Result<()> {
    Ok(fcntl(file, libc::F_UNLCK, true)?)
}

/// Whether the path still leads to this open file.
///
/// # Errors
///
/// What the kernel says.
pub fn same(file: &File, path: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    match std::fs::symlink_metadata(path) {
        Ok(named) => Ok(held.ino() == named.ino() && held.dev() == named.dev()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn fcntl(file: &File, kind: libc::c_int, wait: bool) -> nix::Result<()> {
    let lock = libc::flock {
        l_type: libc::c_short::try_from(kind).unwrap_or_default(),
        l_whence: 0,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    let request = if wait { FcntlArg::F_OFD_SETLKW(&lock) } else { FcntlArg::F_OFD_SETLK(&lock) };
    nix::fcntl::fcntl(file.as_fd(), request).map(|_| ())
}
