//! The built-in pause program: PID 1 of a pod's shared process namespace.
//!
//! A pod whose containers share a process namespace needs a process that is there before the
//! first of them, stays until the last is gone, and reaps what they orphan. No image is pulled for
//! it: [`start`] runs this same binary in a hidden mode (see `program`), which makes the namespace
//! and stays in it with an empty root, no capability, no user and almost no system call.
//!
//! The process leads a session of its own, so it outlives this program. While this program lives
//! it is its child (`CLONE_PARENT`): its number cannot be given to another process before [`stop`]
//! reaped it. When this program ends, PID 1 (or the nearest subreaper) takes it over, and a later
//! run of this program knows it by number and start time: a [`Running`] is to be kept on disk.
//! It is true until the machine boots again.
//!
//! Failing leaves nothing: no process, no mount, no file.
//!
//! Not here: how a namespace is unpinned, and which pod needs this program.

mod error;
mod program;

use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use nix::libc;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::process::Pid;
use rustix::process::PidfdFlags;
use rustix::process::Signal;
use rustix::process::WaitId;
use rustix::process::WaitIdOptions;

pub use error::PauseError;
use program::Report;
pub use program::entry;

/// This program itself: what [`Start::program`] is outside tests. It is the binary that runs, even
/// if a package has replaced the file since.
pub const THIS_PROGRAM: &str = "/proc/self/exe";

/// How long any one step may take.
const STEP: Duration = Duration::from_secs(10);

/// What is to be started.
pub struct Start<'a> {
    /// The binary that knows the hidden mode: [`THIS_PROGRAM`].
    pub program: &'a Path,
    /// Shown in its command line, for the eyes of an administrator.
    pub name: &'a str,
    /// The pinned user namespace that is to own the process namespace.
    pub user: Option<&'a Path>,
    /// The pinned network namespace to join.
    pub net: Option<&'a Path>,
    /// The pinned IPC namespace to join.
    pub ipc: Option<&'a Path>,
    /// The pinned UTS namespace to join.
    pub uts: Option<&'a Path>,
    /// The SELinux label of its empty root; the containers of the pod see that root.
    pub label: Option<&'a str>,
    /// Its `oom_score_adj`, as far as the kernel lets this program set it.
    pub oom_score_adj: Option<i32>,
    /// The file to pin the process namespace at; it must not exist.
    pub pin_pid_at: &'a Path,
    /// Called with its number before it is let go: the place to move it into a cgroup. It is PID 1
    /// of its namespace by then, and still root.
    pub before_run: &'a mut dyn FnMut(i32) -> io::Result<()>,
}

impl std::fmt::Debug for Start<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Start")
            .field("name", &self.name)
            .field("pin_pid_at", &self.pin_pid_at)
            .finish_non_exhaustive()
    }
}

/// A pause process, by a name that is never given twice until the machine boots again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Running {
    /// Its process number.
    pub pid: i32,
    /// When it started: field 22 of `/proc/<pid>/stat`, in clock ticks since boot.
    pub started: u64,
}

/// Starts a pause process and pins its namespace. Blocks for a few milliseconds.
///
/// # Errors
///
/// [`PauseError`]; nothing is left then.
pub fn start(request: Start<'_>) -> Result<Running, PauseError> {
    let name = request.name;
    let follow = |source| PauseError::Follow { name: name.to_owned(), source };
    let mut starting = Starting::spawn(&request)?;
    let died = || PauseError::Died { name: name.to_owned() };
    let Some(Report::Pid(pid)) = starting.hear(name)? else { return Err(died()) };
    starting.first = Some(pid);
    // It is our child and not reaped: the number is its own.
    let started = Stat::of(pid).map_err(follow)?.started;
    (request.before_run)(pid).map_err(|source| PauseError::BeforeRun {
        name: name.to_owned(),
        pid,
        source,
    })?;
    pin(pid, request.pin_pid_at).map_err(|source| PauseError::Pin {
        name: name.to_owned(),
        path: request.pin_pid_at.to_owned(),
        source,
    })?;
    starting.file = Some(request.pin_pid_at.to_owned());
    starting.let_go().map_err(follow)?;
    let Some(Report::Ready) = starting.hear(name)? else { return Err(died()) };
    // One step is left that may fail; then it closes its end.
    let None = starting.hear(name)? else { return Err(died()) };
    starting.done();
    Ok(Running { pid, started })
}

/// Pins the process namespace of a first process that somebody else, a container runtime, has made.
///
/// Whose process it is, its number does not tell for long: the caller looks when it is pinned.
///
/// # Errors
///
/// [`PauseError`]; nothing is left then.
pub fn adopt(pid: i32, name: &str, path: &Path) -> Result<Running, PauseError> {
    let follow = |source| PauseError::Follow { name: name.to_owned(), source };
    let started = Stat::of(pid).map_err(follow)?.started;
    pin(pid, path).map_err(|source| PauseError::Pin {
        name: name.to_owned(),
        path: path.to_owned(),
        source,
    })?;
    Ok(Running { pid, started })
}

/// Mounts a process namespace on a new file, so that it can be joined by that name.
fn pin(pid: i32, path: &Path) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    }
    File::options().write(true).create_new(true).mode(0o444).open(path)?;
    let mounted = rustix::mount::mount_bind(format!("/proc/{pid}/ns/pid"), path);
    if mounted.is_err() {
        let _ = std::fs::remove_file(path);
    }
    Ok(mounted?)
}

/// Kills a pause process, and with it everything in its namespace, and waits until all is gone.
///
/// That it is gone already is fine. A process that was given its number since is left alone.
///
/// # Errors
///
/// [`io::ErrorKind::TimedOut`] after ten seconds, and what the kernel says.
pub fn stop(running: &Running) -> io::Result<()> {
    let process = match open(running.pid) {
        Ok(process) => process,
        Err(error) if is_gone(&error) => return Ok(()),
        Err(error) => return Err(error),
    };
    // In this order the descriptor and the start time are of the same process, or it is gone.
    match Stat::of(running.pid) {
        Ok(stat) if stat.started == running.started => end(process.as_fd()),
        Ok(_) => Ok(()),
        Err(error) if is_gone(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The same with the first process of the namespace that is pinned at `path`, of which nothing else is
/// known any more. That nothing is pinned there is fine.
///
/// # Errors
///
/// As [`stop`].
pub fn stop_pinned(path: &Path) -> io::Result<()> {
    let pinned = match std::fs::metadata(path) {
        Ok(pinned) => (pinned.dev(), pinned.ino()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let of = |pid: i32| std::fs::metadata(format!("/proc/{pid}/ns/pid")).ok();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // The start time first: what is seen after it is of the same process, or it is gone.
        let Ok(stat) = Stat::of(pid) else { continue };
        if of(pid).is_some_and(|own| (own.dev(), own.ino()) == pinned) && is_first(pid) {
            stop(&Running { pid, started: stat.started })?;
        }
    }
    Ok(())
}

/// Whether a process is the first one of its process namespace.
fn is_first(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    numbers.and_then(|numbers| numbers.split_whitespace().last()) == Some("1")
}

/// Whether a pause process is there and not a zombie.
#[must_use]
pub fn is_alive(running: &Running) -> bool {
    Stat::of(running.pid)
        .is_ok_and(|stat| stat.started == running.started && !matches!(stat.state, 'Z' | 'X'))
}

/// Kills a process, waits until it is gone, and reaps it if it is our child.
fn end(process: BorrowedFd<'_>) -> io::Result<()> {
    match rustix::process::pidfd_send_signal(process, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => return Err(error.into()),
    }
    if !wait_for(process, STEP)? {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let reaped = rustix::process::waitid(
        WaitId::PidFd(process),
        WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
    );
    match reaped {
        Ok(_) | Err(rustix::io::Errno::CHILD) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn open(pid: i32) -> io::Result<OwnedFd> {
    // A number out of a damaged record: PID 1 is never ours.
    let pid = Some(pid).filter(|pid| *pid > 1).and_then(Pid::from_raw);
    let pid = pid.ok_or(io::ErrorKind::NotFound)?;
    Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)
}

/// Whether an error says that a process is not there. The number may belong to a thread by now,
/// which `pidfd_open` says with `EINVAL` (`ENOENT` since Linux 6.9).
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || matches!(error.raw_os_error(), Some(libc::ESRCH | libc::EINVAL))
}

/// Waits until a descriptor has something to say; `false` when the time is over.
fn wait_for(descriptor: BorrowedFd<'_>, time: Duration) -> io::Result<bool> {
    let deadline = Instant::now() + time;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = rustix::event::Timespec {
            tv_sec: left.as_secs().cast_signed(),
            tv_nsec: left.subsec_nanos().into(),
        };
        let mut watched = [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)];
        match rustix::event::poll(&mut watched, Some(&left)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// What the kernel tells of a process.
struct Stat {
    state: char,
    started: u64,
}

impl Stat {
    fn of(pid: i32) -> io::Result<Self> {
        let mut text = Vec::new();
        File::open(format!("/proc/{pid}/stat"))?.take(4096).read_to_end(&mut text)?;
        Self::parse(&String::from_utf8_lossy(&text))
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not a process status"))
    }

    /// proc_pid_stat(5): the name in field 2 may hold anything, so fields are counted after it.
    fn parse(text: &str) -> Option<Self> {
        let (_, fields) = text.rsplit_once(')')?;
        let mut fields = fields.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        Some(Self { state, started: fields.nth(18)?.parse().ok()? })
    }
}

/// A start under way. Dropped before it is done, it takes back all that was made.
struct Starting {
    /// The process that makes the namespace and the first process in it, and ends.
    maker: std::process::Child,
    maker_process: Option<OwnedFd>,
    to: Option<std::process::ChildStdin>,
    from: Option<std::process::ChildStdout>,
    /// The number of the pause process. It is our child, so the number is its own until we reap it.
    first: Option<i32>,
    file: Option<PathBuf>,
}

impl Starting {
    fn spawn(request: &Start<'_>) -> Result<Self, PauseError> {
        let name = || request.name.to_owned();
        let message = program::message(request);
        // A message of this size goes into the pipe at once, whether or not it is read.
        if message.len() > libc::PIPE_BUF {
            return Err(PauseError::PathTooLong { name: name() });
        }
        #[allow(
            clippy::disallowed_methods,
            reason = "sys::process needs a tokio runtime; this must not"
        )]
        let maker = std::process::Command::new(request.program)
            .arg0(program::NAME)
            .arg(request.name)
            .env_clear()
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut maker = maker.map_err(|source| {
            let program = request.program.to_owned();
            PauseError::Spawn { program, source }
        })?;
        let (to, from) = (maker.stdin.take(), maker.stdout.take());
        let mut starting = Self { maker, maker_process: None, to, from, first: None, file: None };
        let number = i32::try_from(starting.maker.id()).unwrap_or(0);
        let follow = |source| PauseError::Follow { name: name(), source };
        starting.maker_process = Some(open(number).map_err(follow)?);
        starting.say(&message).map_err(follow)?;
        Ok(starting)
    }

    fn say(&mut self, message: &[u8]) -> io::Result<()> {
        match self.to.as_mut().map(|to| to.write_all(message)) {
            // It has ended: what it said before that tells why.
            Some(Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            _ => Ok(()),
        }
    }

    /// The next report, or `None` when nobody is left who could send one.
    fn hear(&mut self, name: &str) -> Result<Option<Report>, PauseError> {
        let name = || name.to_owned();
        let follow = |source| PauseError::Follow { name: name(), source };
        let Some(from) = self.from.as_mut() else { return Ok(None) };
        if !wait_for(from.as_fd(), STEP).map_err(follow)? {
            return Err(PauseError::TimedOut { name: name() });
        }
        let mut report = [0; program::REPORT];
        // A report is written by one call and is smaller than what a pipe may split.
        match (from.read(&mut report).map_err(follow)?, program::read_report(report)) {
            (0, _) => Ok(None),
            (program::REPORT, Some(Report::Failed { step, source })) => {
                Err(PauseError::Setup { name: name(), step, source })
            }
            (program::REPORT, Some(report)) => Ok(Some(report)),
            _ => Err(PauseError::Died { name: name() }),
        }
    }

    fn let_go(&mut self) -> io::Result<()> {
        self.say(&[program::GO])?;
        self.to = None;
        Ok(())
    }

    /// Keeps what was made. The maker has said all and is about to end.
    fn done(mut self) {
        self.file = None;
        self.first = None;
        self.from = None;
    }

    fn unpin(&self) {
        let Some(path) = &self.file else { return };
        let _ = rustix::mount::unmount(path, rustix::mount::UnmountFlags::DETACH);
        let _ = std::fs::remove_file(path);
    }

    /// Waits for the end of the maker, or brings it about, and reaps it.
    fn reap_maker(&mut self) {
        let ended = |process: &OwnedFd, time| wait_for(process.as_fd(), time).unwrap_or(false);
        match self.maker_process.take() {
            Some(process) if ended(&process, Duration::from_secs(1)) => {}
            Some(process) => {
                let _ = self.maker.kill();
                let _ = ended(&process, STEP);
            }
            None => {
                let _ = self.maker.kill();
                let _ = self.maker.wait();
            }
        }
        let _ = self.maker.try_wait();
    }

    /// The number of a pause process that was made when nobody listened any more.
    fn unheard(&mut self) -> Option<i32> {
        let from = self.from.as_mut()?;
        let mut report = [0; program::REPORT];
        let is_there = wait_for(from.as_fd(), Duration::ZERO).ok()?;
        if !is_there || from.read(&mut report).ok()? != program::REPORT {
            return None;
        }
        match program::read_report(report)? {
            Report::Pid(pid) => Some(pid),
            Report::Ready | Report::Failed { .. } => None,
        }
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        // Whoever of the two still waits for us sees the end of the pipe, and ends.
        self.to = None;
        self.unpin();
        self.reap_maker();
        let Some(pid) = self.first.take().or_else(|| self.unheard()) else { return };
        if let Ok(process) = open(pid) {
            let _ = end(process.as_fd());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_blanks_does_not_shift_the_fields() {
        let text = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 9 10\n";
        let stat = Stat::parse(text).unwrap();
        assert_eq!((stat.state, stat.started), ('S', 4242));
        assert!(Stat::parse("7 (a) S 1 7").is_none());
    }

    #[test]
    fn this_process_is_alive_only_with_its_own_start_time() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let started = Stat::of(pid).unwrap().started;
        assert!(is_alive(&Running { pid, started }));
        assert!(!is_alive(&Running { pid, started: started + 1 }));
    }

    #[test]
    fn a_stranger_with_the_number_is_not_killed() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let started = Stat::of(pid).unwrap().started + 1;
        stop(&Running { pid, started }).unwrap();
        stop(&Running { pid: i32::MAX, started }).unwrap();
        for pid in [i32::MIN, -1, 0, 1] {
            stop(&Running { pid, started }).unwrap();
        }
    }
}
