//! The hidden mode of this binary: the inside of the pause program.
//!
//! Two short lives. The *maker* is this binary started anew, so it has one thread and nothing of
//! the daemon's memory. It joins the pod's namespaces, hides every mount behind an empty one, makes
//! the first process of a new process namespace as a child of its own parent, reports, and ends.
//! The *first process* waits to be let go, gives up everything, and sleeps until it is killed.
//!
//! The kernel reaps for it: with `SIGCHLD` ignored, an orphan that ends is gone at once
//! (`wait(2)`, notes), so no process in the pod can make it fall behind.
//!
//! What a container can do to it: nothing. Signals from inside the namespace are dropped by the
//! kernel, but for the two that it waits for, and those count only when they come from outside.
//!
//! Nothing here allocates after the namespaces are made, and nothing panics.

#![allow(unsafe_code, reason = "clone3, close_range, signals and seccomp have no safe form here")]

mod sleep;

use std::convert::Infallible;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::process::ExitCode;

use nix::errno::Errno;
use nix::libc;
use nix::mount::MntFlags;
use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use rustix::mount::FsMountFlags;
use rustix::mount::FsOpenFlags;
use rustix::mount::MountAttrFlags;
use rustix::mount::MoveMountFlags;

use crate::sys::pause::Start;

/// The name that the hidden mode is called by.
pub(super) const NAME: &str = "crio-pause";

/// What lets the first process go.
pub(super) const GO: u8 = b'g';

/// The size of a report.
pub(super) const REPORT: usize = 6;

/// How reports begin.
const PID: u8 = b'p';
const READY: u8 = b'r';
const FAILED: u8 = b'e';

/// How a request begins.
const MAGIC: &[u8] = b"crio-pause 2";

/// How many fields a request has: the magic, four namespaces, `oom_score_adj`, the root's label.
const FIELDS: usize = 7;

/// The user and group that a pause process has; pause images use the same.
const NOBODY: u32 = 65535;

/// The steps that can fail, by their place in a report.
const STEPS: [&str; 12] = [
    "read its request",
    "join the user namespace",
    "join the network namespace",
    "join the IPC namespace",
    "join the UTS namespace",
    "close its descriptors",
    "make a mount namespace",
    "make an empty root",
    "make the process namespace",
    "start a session",
    "give up its privileges",
    "limit its system calls",
];

/// A step that failed.
struct Failed {
    step: u8,
    errno: Errno,
}

/// Names the step, by its place in [`STEPS`], at which an error came.
fn at<E: Into<io::Error>>(step: u8) -> impl Fn(E) -> Failed {
    move |error| {
        let error: io::Error = error.into();
        Failed { step, errno: Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)) }
    }
}

/// The request as the maker reads it.
pub(super) fn message(request: &Start<'_>) -> Vec<u8> {
    let adjust = request.oom_score_adj.map(|value| value.to_string()).unwrap_or_default();
    let path = |path: Option<&Path>| path.map_or(Vec::new(), |p| p.as_os_str().as_bytes().to_vec());
    let fields = [
        MAGIC.to_vec(),
        path(request.user),
        path(request.net),
        path(request.ipc),
        path(request.uts),
        adjust.into_bytes(),
        request.label.unwrap_or_default().as_bytes().to_vec(),
    ];
    let mut message = fields.join(&0);
    message.push(0);
    message
}

/// What the hidden mode says of itself.
#[derive(Debug)]
pub(super) enum Report {
    /// The number of the first process.
    Pid(i32),
    /// It is as it is to be, but for its filter. What follows is the end of the pipe, or a failure.
    Ready,
    /// A step did not work.
    Failed {
        /// The step.
        step: &'static str,
        /// What the kernel says.
        source: io::Error,
    },
}

/// Reads a report; `None` if it is none.
pub(super) fn read_report(report: [u8; REPORT]) -> Option<Report> {
    let [kind, step, value @ ..] = report;
    let value = i32::from_le_bytes(value);
    match kind {
        PID => Some(Report::Pid(value)),
        READY => Some(Report::Ready),
        FAILED => {
            let step = STEPS.get(usize::from(step))?;
            Some(Report::Failed { step, source: io::Error::from_raw_os_error(value) })
        }
        _ => None,
    }
}

/// Runs the hidden mode if this process was started for it, and gives its exit code then.
///
/// To be called first of all in `main`: it must not meet a second thread.
#[must_use]
pub fn entry() -> Option<ExitCode> {
    let name = std::env::args_os().next()?;
    if name != OsStr::new(NAME) {
        return None;
    }
    let (stdin, stdout) = (io::stdin(), io::stdout());
    if !is_pipe(stdin.as_fd()) || !is_pipe(stdout.as_fd()) {
        let _ = writeln!(io::stderr(), "crio-pause: only crio itself can start this");
        return Some(ExitCode::from(2));
    }
    match make(stdin.as_fd(), stdout.as_fd()) {
        Ok(()) => Some(ExitCode::SUCCESS),
        Err(failed) => {
            tell(stdout.as_fd(), FAILED, failed.step, failed.errno as i32);
            Some(ExitCode::FAILURE)
        }
    }
}

fn is_pipe(descriptor: BorrowedFd<'_>) -> bool {
    let file = descriptor.try_clone_to_owned().map(File::from);
    file.and_then(|file| file.metadata()).is_ok_and(|metadata| metadata.file_type().is_fifo())
}

/// Sends a report. If nobody listens, nobody needs it.
fn tell(to: BorrowedFd<'_>, kind: u8, step: u8, value: i32) {
    let [a, b, c, d] = value.to_le_bytes();
    let _ = nix::unistd::write(to, &[kind, step, a, b, c, d]);
}

/// The maker.
fn make(stdin: BorrowedFd<'_>, stdout: BorrowedFd<'_>) -> Result<(), Failed> {
    // SAFETY: no Rust object owns a descriptor above 2 in this process: it has only just begun.
    if unsafe { libc::close_range(3, libc::c_uint::MAX, 0) } < 0 {
        return Err(at(5)(Errno::last()));
    }
    let mut buffer = [0; libc::PIPE_BUF];
    let fields = read_request(stdin, &mut buffer).map_err(at(0))?;
    let [_, user, net, ipc, uts, adjust, label] = fields;
    if !adjust.is_empty() {
        // A negative value needs CAP_SYS_RESOURCE, which a daemon in a container may not have.
        let file = File::options().write(true).open("/proc/self/oom_score_adj");
        let _ = file.and_then(|mut file| file.write_all(adjust));
    }
    let null = File::options().read(true).write(true).open("/dev/null").map_err(at(5))?;
    join(user, CloneFlags::CLONE_NEWUSER).map_err(at(1))?;
    join(net, CloneFlags::CLONE_NEWNET).map_err(at(2))?;
    join(ipc, CloneFlags::CLONE_NEWIPC).map_err(at(3))?;
    join(uts, CloneFlags::CLONE_NEWUTS).map_err(at(4))?;
    nix::sched::unshare(CloneFlags::CLONE_NEWNS).map_err(at(6))?;
    empty_root(label).map_err(at(7))?;
    match clone_first().map_err(at(8))? {
        0 => match be_first(stdin, stdout, null) {
            Ok(never) => match never {},
            Err(failed) => Err(failed),
        },
        pid => {
            tell(stdout, PID, 0, pid);
            Ok(())
        }
    }
}

/// Reads the fields of a request, each of which ends with a zero byte.
fn read_request<'a>(
    from: BorrowedFd<'_>,
    buffer: &'a mut [u8; libc::PIPE_BUF],
) -> io::Result<[&'a [u8]; FIELDS]> {
    let mut filled = 0;
    while buffer.iter().take(filled).filter(|byte| **byte == 0).count() < FIELDS {
        let rest = buffer.get_mut(filled..).unwrap_or_default();
        match nix::unistd::read(from, rest) {
            Ok(0) => return Err(Errno::EBADMSG.into()),
            Ok(count) => filled += count,
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut fields = [&[][..]; FIELDS];
    for (field, bytes) in fields.iter_mut().zip(buffer.split(|byte| *byte == 0)) {
        *field = bytes;
    }
    if fields.first() == Some(&MAGIC) { Ok(fields) } else { Err(Errno::EBADMSG.into()) }
}

/// Joins a pinned namespace, if one is named. The kernel checks that it is of the kind.
fn join(path: &[u8], kind: CloneFlags) -> io::Result<()> {
    if path.is_empty() {
        return Ok(());
    }
    let namespace = File::open(Path::new(OsStr::from_bytes(path)))?;
    Ok(nix::sched::setns(&namespace, kind)?)
}

/// Makes a read-only directory without anything in it the root, and lets go of every other mount,
/// so that none of the host's is kept busy and nobody in the pod sees one through `/proc/1/root`.
fn empty_root(label: &[u8]) -> io::Result<()> {
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
    let filesystem = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let filesystem = filesystem.as_fd();
    rustix::mount::fsconfig_set_string(filesystem, "mode", "0555")?;
    rustix::mount::fsconfig_set_string(filesystem, "size", "4k")?;
    if !label.is_empty() {
        rustix::mount::fsconfig_set_string(filesystem, "context", label)?;
    }
    rustix::mount::fsconfig_create(filesystem)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let root = rustix::mount::fsmount(filesystem, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let whole = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(&root, "", rustix::fs::CWD, "/", whole)?;
    rustix::process::fchdir(&root)?;
    match nix::unistd::pivot_root(".", ".") {
        Ok(()) => nix::mount::umount2(".", MntFlags::MNT_DETACH)?,
        // The root of the host is its initial RAM filesystem, which cannot be pivoted away from.
        // There is no way out of this one either: the right to leave it is given up below.
        Err(Errno::EINVAL) => nix::unistd::chroot(".")?,
        Err(error) => return Err(error.into()),
    }
    Ok(nix::unistd::chdir("/")?)
}

/// Makes the first process of a new process namespace, as a child of our own parent; gives 0 in it.
fn clone_first() -> nix::Result<i32> {
    // SAFETY: all fields of the structure are integers, for which zero is a value.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = (libc::CLONE_PARENT | libc::CLONE_NEWPID).cast_unsigned().into();
    let size = size_of::<libc::clone_args>();
    // SAFETY: the structure is whole and outlives the call. Memory is copied, as by fork, and this
    // process has one thread, so no lock is held by one that the copy lacks.
    let number = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size) };
    let number = Errno::result(number)?;
    i32::try_from(number).map_err(|_| Errno::EOVERFLOW)
}

/// The first process.
fn be_first(
    stdin: BorrowedFd<'_>,
    stdout: BorrowedFd<'_>,
    null: File,
) -> Result<Infallible, Failed> {
    nix::unistd::setsid().map_err(at(9))?;
    let mut go = [0];
    loop {
        match nix::unistd::read(stdin, &mut go) {
            Ok(1) if go == [GO] => break,
            Err(Errno::EINTR) => {}
            // Whoever wanted this process does not want it any more.
            _ => sleep::exit(1),
        }
    }
    let report = above_standard(stdout).map_err(at(5))?;
    let result = settle(null).and_then(|()| {
        tell(report.as_fd(), READY, 0, 0);
        sleep::limit().map_err(at(11))
    });
    if let Err(failed) = result {
        tell(report.as_fd(), FAILED, failed.step, failed.errno as i32);
        sleep::exit(1)
    }
    // The other end takes this for: ready.
    drop(report);
    sleep::forever()
}

/// A copy of a descriptor with a number above the standard three.
fn above_standard(descriptor: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    let copy = nix::fcntl::fcntl(descriptor, nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(3))?;
    // SAFETY: the descriptor was made by the call before and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Gives up everything but memory.
fn settle(null: File) -> Result<(), Failed> {
    nix::unistd::dup2_stdin(&null).map_err(at(5))?;
    nix::unistd::dup2_stdout(&null).map_err(at(5))?;
    nix::unistd::dup2_stderr(&null).map_err(at(5))?;
    drop(null);
    nix::sys::prctl::set_name(c"pause").map_err(at(9))?;
    sleep::take_signals().map_err(at(9))?;
    give_up_privileges().map_err(at(10))
}

fn give_up_privileges() -> io::Result<()> {
    use nix::sys::resource::Resource::RLIMIT_CORE;
    use nix::unistd::Gid;
    use nix::unistd::Uid;
    for capability in 0..64 {
        // SAFETY: this prctl takes one number; one that is no capability is EINVAL.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } < 0 {
            break;
        }
    }
    nix::sys::resource::setrlimit(RLIMIT_CORE, 0, 0)?;
    nix::unistd::setgroups(&[])?;
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    nix::unistd::setresgid(group, group, group)?;
    nix::unistd::setresuid(user, user, user)?;
    let none = rustix::thread::CapabilitySet::empty();
    let none =
        rustix::thread::CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, none)?;
    nix::sys::prctl::set_no_new_privs()?;
    // Others of the same user may then neither trace it nor open its files under /proc.
    Ok(nix::sys::prctl::set_dumpable(false)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_it_was_written() {
        let (from, to) = nix::unistd::pipe().unwrap();
        let request = Start {
            program: Path::new("/proc/self/exe"),
            name: "a",
            user: None,
            net: Some(Path::new("/run/netns/a b")),
            ipc: None,
            uts: Some(Path::new("/run/utsns/c")),
            label: Some("u:r:t:s0:c1,c2"),
            oom_score_adj: Some(-998),
            pin_pid_at: Path::new("/x"),
            before_run: &mut |_| Ok(()),
        };
        File::from(to).write_all(&message(&request)).unwrap();
        let mut buffer = [0; libc::PIPE_BUF];
        let fields = read_request(from.as_fd(), &mut buffer).unwrap();
        let expected: [&[u8]; FIELDS] =
            [MAGIC, b"", b"/run/netns/a b", b"", b"/run/utsns/c", b"-998", b"u:r:t:s0:c1,c2"];
        assert_eq!(fields, expected);
    }

    #[test]
    fn half_a_request_and_a_foreign_one_are_refused() {
        for bytes in [&b"crio-pause 2\0\0\0"[..], b"something\0\0\0\0\0\0\0"] {
            let (from, to) = nix::unistd::pipe().unwrap();
            File::from(to).write_all(bytes).unwrap();
            assert!(read_request(from.as_fd(), &mut [0; libc::PIPE_BUF]).is_err());
        }
    }

    #[test]
    fn a_report_names_the_step() {
        let [a, b, c, d] = libc::EPERM.to_le_bytes();
        let Some(Report::Failed { step, source }) = read_report([FAILED, 7, a, b, c, d]) else {
            panic!("a failure is one")
        };
        assert_eq!((step, source.raw_os_error()), ("make an empty root", Some(libc::EPERM)));
        assert!(matches!(read_report([PID, 0, 1, 2, 0, 0]), Some(Report::Pid(513))));
        assert!(matches!(read_report([READY, 0, 0, 0, 0, 0]), Some(Report::Ready)));
        assert!(read_report([FAILED, 200, 0, 0, 0, 0]).is_none());
        assert!(read_report([b'x', 0, 0, 0, 0, 0]).is_none());
    }
}
