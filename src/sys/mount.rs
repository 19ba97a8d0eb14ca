//! Mounts of overlayfs, and their removal.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::path::PathBuf;

use nix::sched::CloneFlags;
use rustix::fs::AtFlags;
use rustix::fs::StatxAttributes;
use rustix::fs::StatxFlags;
use rustix::mount::MountFlags;
use rustix::mount::UnmountFlags;

/// The options of `mount(2)` that are flags, by name. `ro` and what else is no flag goes to the
/// filesystem as text.
const FLAGS: [(&str, MountFlags); 7] = [
    ("nodev", MountFlags::NODEV),
    ("nosuid", MountFlags::NOSUID),
    ("noexec", MountFlags::NOEXEC),
    ("ro", MountFlags::RDONLY),
    ("noatime", MountFlags::NOATIME),
    ("nodiratime", MountFlags::NODIRATIME),
    ("relatime", MountFlags::RELATIME),
];

/// The options of an overlay mount.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OverlayOptions {
    /// `lowerdir=…` and all else that overlayfs itself reads; relative to [`mount_overlay`]'s
    /// `home`.
    pub data: String,
    /// Names of flags, as in fstab; unknown ones are for overlayfs.
    pub options: Vec<String>,
}

/// Mounts an overlay on `target`, with the paths in its options relative to `home`.
///
/// The kernel takes one page of options, which relative names make enough for over a hundred
/// layers. The working directory is that of a thread of its own, not that of this program.
///
/// # Errors
///
/// What the kernel says.
pub fn mount_overlay(home: &Path, target: &Path, overlay: &OverlayOptions) -> io::Result<()> {
    let work = || -> io::Result<()> {
        nix::sched::unshare(CloneFlags::CLONE_FS)?;
        mount_overlay_here(home, target, overlay)
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("mount".to_owned());
        match thread.spawn_scoped(scope, work)?.join() {
            Ok(result) => result,
            Err(_) => Err(io::Error::other("the mounting thread panicked")),
        }
    })
}

/// The same on a thread whose working directory is its own.
pub(super) fn mount_overlay_here(
    home: &Path,
    target: &Path,
    overlay: &OverlayOptions,
) -> io::Result<()> {
    let mut flags = MountFlags::empty();
    let mut data = overlay.data.clone();
    for option in &overlay.options {
        match FLAGS.iter().find(|(name, _)| name == option) {
            Some((_, flag)) => flags |= *flag,
            None if matches!(option.as_str(), "rw" | "defaults" | "") => {}
            None => {
                data.push(',');
                data.push_str(option);
            }
        }
    }
    let data = CString::new(data)?;
    std::env::set_current_dir(home)?;
    Ok(rustix::mount::mount("overlay", target, "overlay", flags, data.as_c_str())?)
}

/// Mounts a tmpfs of at most `size` bytes on `target`, which belongs to the user and group of that
/// id: no devices, no set-user-id, no programs. Everything in it has the SELinux label, where one is
/// given.
///
/// # Errors
///
/// What the kernel says.
pub fn mount_tmpfs(
    target: &Path,
    size: u64,
    mode: u32,
    owner: u32,
    label: Option<&str>,
) -> io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let mut data = format!("mode={mode:o},size={size},uid={owner},gid={owner}");
    if let Some(label) = label {
        data.push_str(&format!(",context=\"{label}\""));
    }
    let data = CString::new(data).map_err(io::Error::other)?;
    Ok(rustix::mount::mount("shm", target, "tmpfs", flags, data.as_c_str())?)
}

/// Unmounts what is mounted on `target` now, and lets it go when its last user does. Nothing
/// mounted, or no such directory, is fine.
///
/// # Errors
///
/// What the kernel says.
pub fn unmount(target: &Path) -> io::Result<()> {
    match rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Whether something is mounted on `path` itself.
///
/// # Errors
///
/// What the kernel says, except that the path is not there, which is `false`.
pub fn is_mount_point(path: &Path) -> io::Result<bool> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    match rustix::fs::statx(rustix::fs::CWD, path, flags, StatxFlags::empty()) {
        Ok(answer) => Ok(answer.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// What is mounted beneath `path`, as this program sees it, in the order of mounting.
///
/// # Errors
///
/// What the kernel says.
pub fn beneath(path: &Path) -> io::Result<Vec<PathBuf>> {
    let bytes = std::fs::read("/proc/self/mountinfo")?;
    let points = bytes.split(|byte| *byte == b'\n').filter_map(|line| {
        let point = line.split(|byte| *byte == b' ').nth(4)?;
        Some(PathBuf::from(std::ffi::OsString::from_vec(unescaped(point))))
    });
    Ok(points.filter(|point| point.starts_with(path) && point != path).collect())
}

/// The kernel writes blanks and backslashes as three octal digits.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.filter(|_| *first == b'\\');
        match escaped.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

/// Makes a directory a mount point of its own, whose mounts others do not see, unless it is one.
///
/// # Errors
///
/// What the kernel says.
pub fn make_private(path: &Path) -> io::Result<()> {
    if !is_mount_point(path)? {
        rustix::mount::mount_bind(path, path)?;
        rustix::mount::mount_change(path, rustix::mount::MountPropagationFlags::PRIVATE)?;
    }
    Ok(())
}
