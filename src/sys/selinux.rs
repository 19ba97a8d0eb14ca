//! SELinux in the kernel: whether it is on, whether it knows a label, and labels of files.
//!
//! All of it are plain files and one extended attribute; no library is needed. [`relabel`] never
//! follows a link: it goes down through directory handles and labels what stands under a name.

use std::ffi::OsString;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::Dir;
use rustix::fs::FileType;
use rustix::fs::StatVfsMountFlags;
use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::sys::beneath::Directory;
use crate::sys::files;
use crate::sys::files::Links;

/// Where the kernel shows SELinux.
const MOUNT: &str = "/sys/fs/selinux";
/// `SELINUX_MAGIC` of `statfs(2)`.
const MAGIC: u32 = 0xf97c_ff8c;
/// The attribute with a file's label.
const ATTRIBUTE: &str = "security.selinux";
/// The longest label that is read; the kernel takes one page.
const LABEL_LIMIT: usize = 4096;
/// The largest file of the policy's configuration that is read, in bytes.
const FILE_LIMIT: u64 = 256 * 1024;
/// How deep a tree is relabelled: one handle is open for each level.
const DEPTH: usize = 256;
/// Which policy is loaded.
const CONFIG: &str = "/etc/selinux/config";
/// What containers are called, where container tools have a say of their own.
const OF_TOOLS: &str = "/usr/share/containers/selinux/contexts";

/// Directories whose label the whole node lives by; a volume is never one of them.
const KEPT: [&str; 24] = [
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/etc/passwd",
    "/etc/pki",
    "/etc/shadow",
    "/home",
    "/lib",
    "/lib64",
    "/media",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/var",
    "/var/lib",
    "/var/log",
];

/// Whether processes and files have labels here.
#[must_use]
pub fn is_enabled() -> bool {
    let there = rustix::fs::statfs(MOUNT).is_ok_and(|stat| u32::try_from(stat.f_type) == Ok(MAGIC));
    // A container in which this daemon runs may see it read-only, which means: not yours.
    let writable = rustix::fs::statvfs(MOUNT)
        .is_ok_and(|stat| !stat.f_flag.contains(StatVfsMountFlags::RDONLY));
    // Without a policy every process is called so.
    let current = files::read(Path::new("/proc/self/attr/current"), FILE_LIMIT, Links::Refuse);
    there && writable && current.is_ok_and(|label| text(&label) != "kernel")
}

/// What the loaded policy calls containers: the text of its `contexts` file.
///
/// # Errors
///
/// What the kernel says of the files.
pub fn contexts() -> io::Result<String> {
    let read = |path: &Path| files::read(path, FILE_LIMIT, Links::Follow);
    let bytes = match read(Path::new(OF_TOOLS)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let config = read(Path::new(CONFIG))?;
            let policy = policy(&String::from_utf8_lossy(&config));
            read(&Path::new("/etc/selinux").join(policy).join("contexts/lxc_contexts"))?
        }
        other => other?,
    };
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The name of the policy in `/etc/selinux/config`.
fn policy(config: &str) -> String {
    let mut values =
        config.lines().rev().filter_map(|line| line.trim().strip_prefix("SELINUXTYPE="));
    let name = values.next().map(|name| name.trim_matches('"').trim()).unwrap_or_default();
    let fine = !name.is_empty() && !name.contains('/') && !name.starts_with('.');
    (if fine { name } else { "targeted" }).to_owned()
}

/// How the kernel writes a label: its categories in order, its type without an alias. Where the
/// policy does not let this program ask (Debian's does not), the label as it is: a wrong one is
/// then noticed when it is used.
///
/// # Errors
///
/// [`io::ErrorKind::InvalidInput`] for a label that the loaded policy does not know.
pub fn canonical(label: &str) -> io::Result<String> {
    let path = Path::new(MOUNT).join("context");
    let mut file = match std::fs::File::options().read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Ok(label.to_owned());
        }
        other => other?,
    };
    match file.write_all(label.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Ok(label.to_owned());
        }
        other => other?,
    }
    let mut answer = vec![0_u8; LABEL_LIMIT];
    let length = file.read(&mut answer)?;
    answer.truncate(length);
    Ok(text(&answer))
}

fn text(label: &[u8]) -> String {
    let end = label.iter().position(|byte| *byte == 0).unwrap_or(label.len());
    String::from_utf8_lossy(label.get(..end).unwrap_or_default()).trim().to_owned()
}

/// The label of a file; a link's own.
///
/// # Errors
///
/// What the kernel says; [`io::ErrorKind::Unsupported`] where the filesystem has none.
pub fn label_of(path: &Path) -> io::Result<String> {
    let mut buffer = vec![0_u8; LABEL_LIMIT];
    let length = rustix::fs::lgetxattr(path, ATTRIBUTE, buffer.as_mut_slice())?;
    buffer.truncate(length);
    Ok(text(&buffer))
}

/// Labels a file; a link itself. A filesystem without labels, and a file that is gone, are fine.
///
/// # Errors
///
/// What the kernel says.
pub fn set_label(path: &Path, label: &str) -> io::Result<()> {
    match rustix::fs::lsetxattr(path, ATTRIBUTE, label.as_bytes(), XattrFlags::empty()) {
        Ok(()) | Err(Errno::NOENT | Errno::OPNOTSUPP) => Ok(()),
        // On what is read-only, only a label that is right already can be.
        Err(_) if label_of(path).is_ok_and(|found| found == label) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Labels a file, or a directory with all in it; it itself last, so that its label tells whether
/// the work was done to its end. `path` has no links in it.
///
/// # Errors
///
/// [`io::ErrorKind::PermissionDenied`] for a directory of the system; [`io::ErrorKind::Other`] for
/// a tree that is too deep; what the kernel says.
pub fn relabel(path: &Path, label: &str) -> io::Result<()> {
    if KEPT.iter().any(|kept| Path::new(kept) == path) {
        let text = "a directory of the system is not relabelled for a container";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    match Directory::open(path) {
        Ok(directory) => relabel_below(directory, label)?,
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {}
        Err(error) => return Err(error),
    }
    set_label(path, label)
}

fn relabel_below(top: Directory, label: &str) -> io::Result<()> {
    let mut levels = vec![Level::of(top)?];
    while let Some(level) = levels.last_mut() {
        let Some(entry) = level.entries.next() else {
            levels.pop();
            continue;
        };
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        set_label(&level.path_of(name), label)?;
        if !matches!(entry.file_type(), FileType::Directory | FileType::Unknown) {
            continue;
        }
        match level.directory.open_child(name) {
            Ok(_) if levels.len() >= DEPTH => {
                return Err(io::Error::other(format!("deeper than {DEPTH} directories")));
            }
            Ok(child) => levels.push(Level::of(child)?),
            Err(error) if is_no_directory(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What was a directory a moment ago may be gone, or a file or link by now.
fn is_no_directory(error: &io::Error) -> bool {
    let number = error.raw_os_error();
    [Errno::NOENT, Errno::NOTDIR, Errno::LOOP].iter().any(|e| number == Some(e.raw_os_error()))
}

/// A directory whose entries are being labelled.
struct Level {
    directory: Directory,
    entries: Dir,
}

impl Level {
    fn of(directory: Directory) -> io::Result<Self> {
        Ok(Self { entries: Dir::read_from(&directory)?, directory })
    }

    /// What stands under a name here, whatever becomes of the path that led here.
    fn path_of(&self, name: &[u8]) -> PathBuf {
        let number = self.directory.as_fd().as_raw_fd();
        let mut path = OsString::from(format!("/proc/self/fd/{number}/"));
        path.push(std::ffi::OsStr::from_bytes(name));
        path.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_s_name() {
        for (config, expected) in [
            ("# SELINUXTYPE=x\nSELINUX=enforcing\nSELINUXTYPE=default\n", "default"),
            ("SELINUXTYPE=\"mls\"", "mls"),
            ("SELINUXTYPE=../../tmp", "targeted"),
            ("", "targeted"),
        ] {
            assert_eq!(policy(config), expected, "{config:?}");
        }
    }

    #[test]
    fn a_directory_of_the_system_is_never_relabelled() {
        for path in ["/", "/usr", "/etc", "/var/lib"] {
            let error = relabel(Path::new(path), "x").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{path}");
        }
    }

    #[test]
    fn a_label_ends_at_its_nul() {
        assert_eq!(text(b"u:r:t:s0\0junk"), "u:r:t:s0");
        assert_eq!(text(b"u:r:t:s0\n"), "u:r:t:s0");
        assert_eq!(text(b""), "");
    }

    /// Whatever this kernel makes of the attribute, the walk ends, sees each file once and goes
    /// through no link.
    #[test]
    fn the_walk_goes_through_no_link() {
        let directory = tempfile::tempdir().unwrap();
        let volume = directory.path().join("volume");
        std::fs::create_dir_all(volume.join("a/b")).unwrap();
        std::fs::File::create(volume.join("a/b/file")).unwrap();
        std::os::unix::fs::symlink(directory.path(), volume.join("a/up")).unwrap();
        let top = Directory::open(&volume).unwrap();
        relabel_below(top, "user_u:object_r:some_t:s0").ok();
        let mut level = Level::of(Directory::open(&volume.join("a")).unwrap()).unwrap();
        let names: Vec<_> = level.entries.by_ref().map(|e| e.unwrap().file_type()).collect();
        assert_eq!(names.iter().filter(|kind| **kind == FileType::Symlink).count(), 1);
        assert!(level.directory.open_child(b"up").is_err());
        assert!(level.path_of(b"up").symlink_metadata().unwrap().is_symlink());
    }
}
