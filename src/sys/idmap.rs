//! Overlays whose layers belong, to those who look, to the ids of a user namespace.
//!
//! The layers of an image are stored with the ids of the image. For a pod with a user namespace of
//! its own each layer is mounted once more with its owners mapped (`mount_setattr(2)`,
//! `MOUNT_ATTR_IDMAP`), and the overlay is made of these mounts; overlayfs itself cannot be mapped.
//! Nothing is copied, and nothing on disk changes. The writable layer is not mapped: what is
//! written there gets the ids on the node, as with other programs that use the store.
//!
//! The mapped mounts are made in a mount namespace that no one else sees and that goes with the
//! thread: overlayfs keeps what it needs of them, so nothing can be left behind.

#![allow(unsafe_code, reason = "no crate has mount_setattr")]

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::libc;
use nix::sched::CloneFlags;
use rustix::mount::MountFlags;
use rustix::mount::MountPropagationFlags;
use rustix::mount::MoveMountFlags;
use rustix::mount::OpenTreeFlags;

use crate::sys::mount;
use crate::sys::mount::OverlayOptions;
use crate::sys::user_ns::Holder;
use crate::sys::user_ns::IdMap;

/// Layers whose owners are mapped.
#[derive(Debug, Clone, Copy)]
pub struct Mapped<'a> {
    /// The directories of the layers below, the nearest first.
    pub layers: &'a [PathBuf],
    /// A directory that is out of sight for the overlay's sake: layer number `n` is `n` in it, and
    /// the overlay's options call it so.
    pub place: &'a Path,
    /// The user namespace with the map.
    pub user_namespace: &'a File,
}

/// Mounts an overlay of mapped layers on `target`, as [`mount::mount_overlay`] does one of plain
/// layers.
///
/// # Errors
///
/// What the kernel says: before Linux 5.19, and for a filesystem that cannot map owners, `EINVAL`.
pub fn mount_overlay(
    home: &Path,
    target: &Path,
    overlay: &OverlayOptions,
    mapped: Mapped<'_>,
) -> io::Result<()> {
    let made = apart(|| {
        let layers = mapped.layers.iter();
        let layers = layers.map(|layer| clone_mapped(layer, mapped.user_namespace.as_fd()));
        let layers = layers.collect::<io::Result<Vec<_>>>()?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        rustix::mount::mount("layers", mapped.place, "tmpfs", flags, c"mode=700,size=1m")?;
        for (number, layer) in layers.iter().enumerate() {
            let place = mapped.place.join(number.to_string());
            std::fs::create_dir(&place)?;
            attach(layer.as_fd(), &place)?;
        }
        mount::mount_overlay_here(home, target, overlay)?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        Ok(rustix::mount::open_tree(rustix::fs::CWD, target, flags)?)
    })?;
    attach(made.as_fd(), target)
}

/// Whether overlays of mapped layers can be had in a directory, by making one in it. The directory
/// is empty, and what stays in it is the caller's to remove.
///
/// # Errors
///
/// What the kernel says to the step that failed: that they cannot be had.
pub fn try_in(root: &Path) -> io::Result<()> {
    for part in ["l", "0", "diff", "work", "merged"] {
        std::fs::create_dir(root.join(part))?;
    }
    let holder = Holder::start(CloneFlags::empty(), IdMap { host: 100_000, length: 65_536 })?;
    let user_namespace = holder.user_namespace()?;
    let data = "lowerdir=l/0,upperdir=diff,workdir=work".to_owned();
    let overlay = OverlayOptions { data, options: Vec::new() };
    let layers = [root.join("0")];
    let (place, target) = (root.join("l"), root.join("merged"));
    let mapped = Mapped { layers: &layers, place: &place, user_namespace: &user_namespace };
    mount_overlay(root, &target, &overlay, mapped)?;
    mount::unmount(&target)
}

/// A mount of a directory that is attached nowhere, its owners mapped.
fn clone_mapped(path: &Path, user_namespace: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = rustix::mount::open_tree(rustix::fs::CWD, path, flags)?;
    // SAFETY: all fields of the structure are integers, for which zero is a value.
    let mut attributes: libc::mount_attr = unsafe { std::mem::zeroed() };
    attributes.attr_set = libc::MOUNT_ATTR_IDMAP;
    attributes.userns_fd = u64::from(user_namespace.as_raw_fd().cast_unsigned());
    // SAFETY: both descriptors are open, the path is the empty one and ends with a zero byte, and
    // the kernel reads one whole structure, which outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    Errno::result(result)?;
    Ok(tree)
}

fn attach(tree: BorrowedFd<'_>, target: &Path) -> io::Result<()> {
    let whole = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(rustix::mount::move_mount(tree, "", rustix::fs::CWD, target, whole)?)
}

/// Does something on a thread with a mount namespace of its own, a copy of this one.
fn apart<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let in_there = || {
        nix::sched::unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)?;
        let all = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", all)?;
        work()
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("mount".to_owned());
        match thread.spawn_scoped(scope, in_there)?.join() {
            Ok(result) => result,
            Err(_) => Err(io::Error::other("the mounting thread panicked")),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn put(path: &Path, text: &str) {
        std::io::Write::write_all(&mut File::create(path).unwrap(), text.as_bytes()).unwrap();
    }

    #[test]
    fn layers_show_the_owners_of_the_namespace_and_keep_their_own() {
        if !nix::unistd::Uid::effective().is_root() {
            eprintln!("NOT TESTED: needs root");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        if let Err(error) = try_in(root) {
            eprintln!("NOT TESTED: this kernel cannot map owners of layers: {error}");
            return;
        }
        assert!(!mount::is_mount_point(&root.join("merged")).unwrap());
        std::fs::remove_dir_all(root.join("work")).unwrap();
        for part in ["a", "b", "work"] {
            std::fs::create_dir(root.join(part)).unwrap();
        }
        put(&root.join("a/near"), "a");
        put(&root.join("b/near"), "b");
        put(&root.join("b/far"), "b");
        std::os::unix::fs::chown(root.join("b/far"), Some(7), Some(8)).unwrap();
        let map = IdMap { host: 300_000, length: 1000 };
        let holder = Holder::start(CloneFlags::empty(), map).unwrap();
        let user_namespace = holder.user_namespace().unwrap();
        let data = "lowerdir=l/0:l/1,upperdir=diff,workdir=work".to_owned();
        let overlay = OverlayOptions { data, options: Vec::new() };
        let layers = [root.join("a"), root.join("b")];
        let (place, target) = (root.join("l"), root.join("merged"));
        let mapped = Mapped { layers: &layers, place: &place, user_namespace: &user_namespace };
        mount_overlay(root, &target, &overlay, mapped).unwrap();
        drop(holder);
        let owner = |path: &str| {
            let found = std::fs::metadata(root.join(path)).unwrap();
            (found.uid(), found.gid())
        };
        assert_eq!(std::fs::read_to_string(target.join("near")).unwrap(), "a");
        assert_eq!(owner("merged/near"), (300_000, 300_000));
        assert_eq!(owner("merged/far"), (300_007, 300_008));
        put(&target.join("far"), "changed");
        assert_eq!(owner("diff/far"), (300_007, 300_008), "what is copied up has the node's ids");
        assert_eq!(owner("b/far"), (7, 8));
        assert_eq!(std::fs::read_to_string(root.join("b/far")).unwrap(), "b");
        mount::unmount(&target).unwrap();
        assert_eq!(std::fs::read_dir(&place).unwrap().count(), 0);
    }
}
