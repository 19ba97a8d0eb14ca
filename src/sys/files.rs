//! Reading and replacing whole files, with a bound and without following links where it matters.

use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

/// Whether the last component of a path may be a symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// An administrator's file: links are his business.
    Follow,
    /// Anything else: a link is an error (`ELOOP`).
    Refuse,
}

/// Reads a regular file of at most `limit` bytes.
///
/// A FIFO or device put in the file's place neither blocks nor is read.
///
/// # Errors
///
/// [`io::ErrorKind::FileTooLarge`] beyond the limit, [`io::ErrorKind::InvalidInput`] for what is no
/// regular file, and what the kernel says.
pub fn read(path: &Path, limit: u64, links: Links) -> io::Result<Vec<u8>> {
    let no_follow = if links == Links::Refuse { nix::libc::O_NOFOLLOW } else { 0 };
    let file = File::options()
        .read(true)
        .custom_flags(nix::libc::O_CLOEXEC | nix::libc::O_NONBLOCK | no_follow)
        .open(path)?;
    read_open(&file, limit)
}

/// Reads an open regular file of at most `limit` bytes from where it stands.
///
/// # Errors
///
/// As [`read`].
pub fn read_open(file: &File, limit: u64) -> io::Result<Vec<u8>> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
        let text = format!("larger than {limit} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    Ok(bytes)
}

/// Opens a file to add to its end, and makes it with this mode where it is missing.
///
/// # Errors
///
/// [`io::ErrorKind::InvalidInput`] for what is no regular file, one that says so for a link, and what
/// the kernel says.
pub fn append(path: &Path, mode: u32) -> io::Result<File> {
    let file = File::options()
        .read(true)
        .append(true)
        .create(true)
        .mode(mode)
        .custom_flags(nix::libc::O_CLOEXEC | nix::libc::O_NONBLOCK | nix::libc::O_NOFOLLOW)
        .open(path)
        .map_err(|error| match error.raw_os_error() {
            // The kernel's words for it are about something else.
            Some(nix::libc::ELOOP) => {
                io::Error::new(error.kind(), "a symbolic link, which is not followed")
            }
            _ => error,
        })?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(file)
}

/// Tells one version of a file from another: also one that was put in its place with the same size and
/// the time of the other, as a backup or a package brings it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
    modified: (i64, i64),
}

/// Which version of a file is at `path`; `None` where there is none. Follows links.
///
/// # Errors
///
/// What the kernel says.
pub fn stamp(path: &Path) -> io::Result<Option<Stamp>> {
    match std::fs::metadata(path) {
        Ok(found) => Ok(Some(Stamp {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            changed: (found.ctime(), found.ctime_nsec()),
            modified: (found.mtime(), found.mtime_nsec()),
        })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// How much a replaced file must survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// A crash of this program.
    Process,
    /// A crash of the machine: the bytes and the name are on disk when the call returns.
    Machine,
}

/// Replaces the file at `path` as a whole: readers see the old bytes or the new ones.
///
/// # Errors
///
/// What the kernel says; the old file is then still there.
pub fn replace(path: &Path, bytes: &[u8], mode: u32, durability: Durability) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = directory.join(format!(".tmp-{name}-{}", unique()));
    let result = write_new(&temporary, bytes, mode, durability)
        .and_then(|()| std::fs::rename(&temporary, path));
    if result.is_err() {
        let _ = std::fs::remove_file(&temporary);
    } else if durability == Durability::Machine {
        File::open(directory)?.sync_all()?;
    }
    result
}

fn write_new(path: &Path, bytes: &[u8], mode: u32, durability: Durability) -> io::Result<()> {
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(mode)
        .custom_flags(nix::libc::O_CLOEXEC | nix::libc::O_NOFOLLOW)
        .open(path)?;
    file.write_all(bytes)?;
    if durability == Durability::Machine {
        file.sync_data()?;
    }
    Ok(())
}

/// A number that no other call in this or another process has.
fn unique() -> String {
    use std::sync::atomic::AtomicU64;
    use std::sync::atomic::Ordering;
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Removes a file; that it is gone already is fine.
///
/// # Errors
///
/// What else the kernel says.
pub fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes a directory and all in it; that it is gone already is fine. Follows no link.
///
/// # Errors
///
/// What else the kernel says.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// How many bytes this program may still write to the filesystem that `path` lies on.
///
/// # Errors
///
/// What the kernel says.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(path)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Lets everybody walk through a directory and those above it; whoever may not list them still
/// may not. Gives those that were closed.
///
/// # Errors
///
/// What the kernel says.
pub fn let_through(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut opened = Vec::new();
    for directory in path.ancestors() {
        let mode = std::fs::metadata(directory)?.permissions().mode();
        if mode & 0o001 == 0 {
            let more = std::fs::Permissions::from_mode(mode | 0o011);
            std::fs::set_permissions(directory, more)?;
            opened.push(directory.to_owned());
        }
    }
    Ok(opened)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_is_whole_and_leaves_no_temporary() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("record.json");
        for text in ["old", "new"] {
            replace(&path, text.as_bytes(), 0o600, Durability::Machine).unwrap();
            assert_eq!(read(&path, 10, Links::Refuse).unwrap(), text.as_bytes());
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn links_fifos_and_large_files_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        replace(&file, b"12345", 0o600, Durability::Process).unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(read(&link, 10, Links::Refuse).is_err());
        assert!(read(&link, 10, Links::Follow).is_ok());
        assert_eq!(read(&file, 4, Links::Follow).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(read(&fifo, 10, Links::Follow).is_err());
    }
}
