//! User namespaces: how one is made for others to live in, and being somebody else for a moment.
//!
//! A program with more than one thread can neither make nor join a user namespace
//! (`user_namespaces(7)`). So a [`Holder`] does it: a process that does nothing but be there, until
//! its namespaces are pinned or joined by their files. The kernel makes the user namespace first
//! and the others in it, so they belong to it, whatever the order they are asked for in.

#![allow(
    unsafe_code,
    reason = "clone3 with new namespaces, and ids of one thread, have no safe form"
)]

use std::fs::File;
use std::io;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::libc;
use nix::sched::CloneFlags;
use rustix::process::Signal;
use rustix::process::WaitId;
use rustix::process::WaitIdOptions;

/// The one range of ids that a user namespace has, from 0 up inside; the same for users and groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdMap {
    /// The id on the node that is 0 inside.
    pub host: u32,
    /// How many ids there are.
    pub length: u32,
}

impl IdMap {
    /// The id on the node of an id inside; `None` where there is none.
    #[must_use]
    pub fn outside(self, inside: u32) -> Option<u32> {
        (inside < self.length).then(|| self.host.checked_add(inside)).flatten()
    }
}

/// A process that holds a new user namespace, and those made with it. Dropped, it ends.
#[derive(Debug)]
pub struct Holder {
    process: OwnedFd,
    pid: i32,
    /// Its other end tells the process, by being closed, that nobody needs it any more: so it does
    /// not outlive this program either.
    _needed: OwnedFd,
}

impl Holder {
    /// Makes a user namespace with this map, and the other namespaces of `more` in it.
    ///
    /// # Errors
    ///
    /// What the kernel says; nothing is left then.
    pub fn start(more: CloneFlags, map: IdMap) -> io::Result<Self> {
        let (awaited, needed) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let mut pidfd: libc::c_int = -1;
        // SAFETY: all fields of the structure are integers, for which zero is a value.
        let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
        let flags = libc::CLONE_NEWUSER | libc::CLONE_PIDFD | more.bits();
        arguments.flags = u64::from(flags.cast_unsigned()) | CLEAR_SIGHAND;
        arguments.pidfd = (&raw mut pidfd).expose_provenance() as u64;
        arguments.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
        let size = size_of::<libc::clone_args>();
        // SAFETY: the structure is whole, and it and the place for the descriptor outlive the call.
        // The child has a copy of this program's memory and one thread, whose locks nobody will
        // open: it makes system calls only, and never returns.
        let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size) };
        if pid == 0 {
            wait_and_end(&awaited, &needed);
        }
        let pid = Errno::result(pid)?;
        // SAFETY: the call before made the descriptor, and nothing else owns it.
        let process = unsafe { OwnedFd::from_raw_fd(pidfd) };
        let pid = i32::try_from(pid).map_err(io::Error::other)?;
        let holder = Self { process, pid, _needed: needed };
        // Each is one write: the kernel takes the first as the whole map.
        let map = format!("0 {} {}\n", map.host, map.length);
        for name in ["uid_map", "gid_map"] {
            let file = File::options().write(true).open(format!("/proc/{pid}/{name}"));
            file?.write_all(map.as_bytes())?;
        }
        Ok(holder)
    }

    /// Where the kernel shows a namespace of the process: `user`, `net`, ...
    #[must_use]
    pub fn path_of(&self, kind: &str) -> String {
        format!("/proc/{}/ns/{kind}", self.pid)
    }

    /// The user namespace.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn user_namespace(&self) -> io::Result<File> {
        File::open(self.path_of("user"))
    }
}

/// The life of the process: until the other end of the pipe is closed.
fn wait_and_end(awaited: &OwnedFd, needed: &OwnedFd) -> ! {
    // SAFETY: the descriptor is this process's own copy, and nothing here uses it again.
    unsafe { libc::syscall(libc::SYS_close, needed.as_raw_fd()) };
    let mut byte = 0_u8;
    loop {
        // SAFETY: the kernel writes one byte at most, into a place that outlives the call.
        let count = unsafe { libc::syscall(libc::SYS_read, awaited.as_raw_fd(), &raw mut byte, 1) };
        if count >= 0 || Errno::last() != Errno::EINTR {
            // SAFETY: it ends this process, which has one thread and nothing to clean up.
            unsafe { libc::_exit(0) };
        }
    }
}

/// Signal handlers are this program's business: what they touch is shared with it.
const CLEAR_SIGHAND: u64 = 1 << 32;

impl Drop for Holder {
    fn drop(&mut self) {
        let process = self.process.as_fd();
        let _ = rustix::process::pidfd_send_signal(process, Signal::KILL);
        // It is our child and nobody else waits for it.
        let _ = rustix::process::waitid(WaitId::PidFd(process), WaitIdOptions::EXITED);
    }
}

/// Does something with another effective user id, on this thread only.
///
/// Root of the node is not root of a user namespace to every file of the kernel: those under
/// `/proc/sys` that belong to an IPC namespace let only the latter write (`ipc_permissions` in
/// `ipc/ipc_sysctl.c`). Real and saved id stay, so there is a way back.
///
/// # Errors
///
/// What the kernel says, or what the work says.
pub(super) fn as_user<T>(uid: u32, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let become_user = |uid: u32| -> io::Result<()> {
        let keep = u32::MAX;
        // SAFETY: the call takes numbers. The wrapper of the C library would change all threads.
        let result = unsafe { libc::syscall(libc::SYS_setresuid, keep, uid, keep) };
        Ok(Errno::result(result).map(drop)?)
    };
    let before = rustix::process::geteuid().as_raw();
    become_user(uid)?;
    let done = work();
    become_user(before)?;
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: IdMap = IdMap { host: 300_000, length: 1000 };

    #[test]
    fn an_id_beyond_the_map_has_no_outside() {
        assert_eq!(MAP.outside(0), Some(300_000));
        assert_eq!(MAP.outside(999), Some(300_999));
        assert_eq!(MAP.outside(1000), None);
        assert_eq!(IdMap { host: u32::MAX, length: 9 }.outside(1), None);
    }

    #[test]
    fn a_holder_has_the_map_and_ends_with_its_owner() {
        if !nix::unistd::Uid::effective().is_root() {
            eprintln!("NOT TESTED: needs root");
            return;
        }
        let holder = Holder::start(CloneFlags::CLONE_NEWUTS, MAP).unwrap();
        let pid = holder.pid;
        for name in ["uid_map", "gid_map"] {
            let map = std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
            let words: Vec<_> = map.split_whitespace().collect();
            assert_eq!(words, ["0", "300000", "1000"], "{name}");
        }
        let of = |path: &str| std::fs::read_link(path).unwrap();
        assert_ne!(of(&holder.path_of("user")), of("/proc/self/ns/user"));
        assert_ne!(of(&holder.path_of("uts")), of("/proc/self/ns/uts"));
        assert_eq!(of(&holder.path_of("net")), of("/proc/self/ns/net"));
        drop(holder);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn another_user_for_a_moment_is_this_thread_s_business() {
        if !nix::unistd::Uid::effective().is_root() {
            eprintln!("NOT TESTED: needs root");
            return;
        }
        let seen = as_user(300_000, || Ok(rustix::process::geteuid().as_raw())).unwrap();
        assert_eq!(seen, 300_000);
        assert!(nix::unistd::Uid::effective().is_root());
    }
}
