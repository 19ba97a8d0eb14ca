//! Keeps a process whose starter goes away: its end is known, and nothing of it outlives its time.
//!
//! A runtime asked to run a command in a container starts it, with our pipes as its own streams,
//! and leaves. The command then has no parent who would tell us how it ended. So a keeper stands
//! between: a fork of ours that runs no program, takes in what is orphaned below it
//! (`PR_SET_CHILD_SUBREAPER`), reaps it and reports each end through a pipe. This program itself
//! is no subreaper, so its other children's orphans never come back to it.

#![allow(unsafe_code, reason = "the keeper is a bare fork: it may only make system calls")]

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::time::Duration;

use nix::libc;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use crate::sys::process::Child;
use crate::sys::process::Command;
use crate::sys::process::Exit;
use crate::sys::process::ProcessError;
use crate::sys::process::child::Unfollowed;

/// How long killed processes may take to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// A process under a keeper. Dropped, everything below the keeper is killed.
#[derive(Debug)]
pub struct Kept {
    keeper: Child,
    reports: pipe::Receiver,
    /// The ends of its streams that were given out: what is being killed must not die of a pipe
    /// that nobody reads before its children were found.
    streams: Vec<OwnedFd>,
    /// Whether what is below the keeper may live on.
    released: bool,
}

/// The end of one process below a keeper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Its number. It is reaped, so the number may be someone else's by now.
    pub pid: i32,
    /// How it ended.
    pub exit: Exit,
}

impl Command {
    /// Starts it below a keeper. It leads its own process group; a failure to start it is found
    /// here, as without a keeper.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Start`] and [`ProcessError::Follow`].
    pub fn spawn_kept(
        self,
        stdin: Stdio,
        stdout: Stdio,
        stderr: Stdio,
    ) -> Result<Kept, ProcessError> {
        let text = self.text();
        let follow = |source| ProcessError::Follow { command: text.clone(), source };
        let (receiver, sender) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(|error| follow(error.into()))?;
        let reports = pipe::Receiver::from_owned_fd(receiver).map_err(follow)?;
        let number = sender.as_raw_fd();
        let keeper = self.start(stdin, stdout, stderr, |command| {
            // SAFETY: the closure runs between fork and exec, makes only system calls, allocates
            // nothing and takes no lock. The keeper never returns from it.
            unsafe {
                command.pre_exec(move || keep(number));
            }
        })?;
        drop(sender);
        Ok(Kept { keeper, reports, streams: Vec::new(), released: false })
    }
}

impl Kept {
    /// Our end of the standard input, if that was asked to be a pipe, once.
    pub fn take_stdin(&mut self) -> Option<OwnedFd> {
        self.keeper.take_stdin()
    }

    /// Our end of the standard output, if that was asked to be a pipe, once.
    pub fn take_stdout(&mut self) -> Option<OwnedFd> {
        let stream = self.keeper.take_stdout()?;
        self.hold(stream)
    }

    /// Our end of the standard error stream, if that was asked to be a pipe, once.
    pub fn take_stderr(&mut self) -> Option<OwnedFd> {
        let stream = self.keeper.take_stderr()?;
        self.hold(stream)
    }

    fn hold(&mut self, stream: OwnedFd) -> Option<OwnedFd> {
        self.streams.push(stream.try_clone().ok()?);
        Some(stream)
    }

    /// The next process that ended; `None` when there are none left. The first number that is
    /// reported as [`Exit::Code`]`(-1)` is that of the program, at its start. May be dropped and
    /// called again.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub async fn report(&mut self) -> io::Result<Option<Report>> {
        let mut bytes = [0_u8; 8];
        // A report is written whole: it is smaller than PIPE_BUF (pipe(7)).
        if let Err(error) = self.reports.read_exact(&mut bytes).await {
            let ended = error.kind() == io::ErrorKind::UnexpectedEof;
            return if ended { Ok(None) } else { Err(error) };
        }
        let [a, b, c, d, e, f, g, h] = bytes;
        let (pid, status) = (i32::from_ne_bytes([a, b, c, d]), i32::from_ne_bytes([e, f, g, h]));
        Ok(Some(Report { pid, exit: decode(status) }))
    }

    /// Kills everything below the keeper, as [`Kept::kill_all`], and waits until it is gone: some
    /// seconds at most, as a process in the middle of disk I/O is not interrupted.
    pub async fn end(self) {
        let gone = async {
            loop {
                // A second time for what was just being started.
                self.kill_all();
                let ended = tokio::time::timeout(Duration::from_millis(50), self.keeper.ended());
                if ended.await.is_ok() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(PATIENCE, gone).await;
    }

    /// Lets what is still below the keeper live on, without it.
    pub fn release(mut self) {
        self.released = true;
    }

    /// Kills everything below the keeper: the children of what is there, whatever their process
    /// group, and the sessions that they lead. All are stopped before the first is killed, so none
    /// can start another meanwhile, and a child is found before its parent is gone.
    ///
    /// What forked twice and left its session before this call has left for good, as everywhere.
    pub fn kill_all(&self) {
        if let Some(keeper) = self.keeper.pid() {
            kill_below(keeper);
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if self.released {
            // The keeper alone is killed and reaped, by its own drop.
            return;
        }
        self.kill_all();
        let keeper = Unfollowed(self.keeper.disown());
        let streams = std::mem::take(&mut self.streams);
        let cleaner = std::thread::Builder::new().name("cleaner".to_owned());
        let _ = cleaner.spawn(move || {
            clean(keeper);
            drop(streams);
        });
    }
}

/// Kills what is below a keeper until it ends because there is nothing left. A process that was
/// just being started when its starter was killed becomes the keeper's child in that moment.
fn clean(mut keeper: Unfollowed) {
    let Some(process) = keeper.0.as_mut() else { return };
    let Ok(number) = i32::try_from(process.id()) else { return };
    let begun = std::time::Instant::now();
    while begun.elapsed() < PATIENCE && matches!(process.try_wait(), Ok(None)) {
        kill_below(number);
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Turns a status of `wait(2)` into an end. −1 is none of them: the keeper's first report.
fn decode(status: i32) -> Exit {
    if status != -1 && libc::WIFSIGNALED(status) {
        Exit::Signal(libc::WTERMSIG(status))
    } else if status == -1 {
        Exit::Code(-1)
    } else {
        Exit::Code(libc::WEXITSTATUS(status))
    }
}

/// Splits the calling process into a keeper, which never returns, and the process to be kept,
/// which does. Only for use between fork and exec.
fn keep(reports: RawFd) -> io::Result<()> {
    // SAFETY: this only sets an attribute of this process.
    let adopts = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    if adopts < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a plain fork, without the handlers of the C library, which could take locks that
    // another thread of the parent held.
    let child = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
    if child < 0 {
        return Err(io::Error::last_os_error());
    }
    if child == 0 {
        // SAFETY: this only makes this process the leader of its own group.
        let led = unsafe { libc::setpgid(0, 0) };
        return if led < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
    }
    watch(reports, child)
}

/// The life of a keeper.
fn watch(reports: RawFd, program: libc::c_long) -> ! {
    // SAFETY: the name is a C string literal.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"crio-keeper".as_ptr(), 0, 0, 0) };
    // SAFETY: the numbers are those of this process alone; it needs none but the pipe, and must
    // not hold the streams of what it keeps, nor the pipe by which the parent waits for the exec.
    unsafe { libc::dup2(reports, 0) };
    // SAFETY: as above.
    unsafe { libc::close_range(1, libc::c_uint::MAX, 0) };
    let program = i32::try_from(program).unwrap_or(0);
    tell(program, -1);
    loop {
        let mut status = 0;
        // SAFETY: the kernel writes one integer, which outlives the call.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, 0) };
        if pid > 0 {
            tell(pid, status);
        } else if io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
            // SAFETY: ends this process without running anything of the program it was forked from.
            unsafe { libc::_exit(0) };
        }
    }
}

fn tell(pid: i32, status: i32) {
    let report = [pid, status];
    // SAFETY: eight bytes are read from an array of eight bytes.
    unsafe { libc::write(0, report.as_ptr().cast(), size_of_val(&report)) };
}

/// What `/proc/<pid>/stat` says about whose a process is.
struct Kin {
    parent: i32,
    group: i32,
    session: i32,
}

fn kill_below(keeper: i32) {
    let mut found = BTreeMap::new();
    loop {
        let before = found.len();
        for (pid, kin) in processes() {
            let is_kin = kin.parent == keeper
                || [kin.parent, kin.group, kin.session].iter().any(|pid| found.contains_key(pid));
            if is_kin && !found.contains_key(&pid) {
                let handle = handle(pid);
                signal(handle.as_ref(), rustix::process::Signal::STOP);
                found.insert(pid, handle);
            }
        }
        if found.len() == before {
            break;
        }
    }
    for handle in found.values() {
        signal(handle.as_ref(), rustix::process::Signal::KILL);
    }
}

fn handle(pid: i32) -> Option<OwnedFd> {
    let pid = rustix::process::Pid::from_raw(pid)?;
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()
}

fn signal(handle: Option<&OwnedFd>, signal: rustix::process::Signal) {
    if let Some(handle) = handle {
        let _ = rustix::process::pidfd_send_signal(handle, signal);
    }
}

fn processes() -> Vec<(i32, Kin)> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.filter_map(|pid| kin(pid).map(|kin| (pid, kin))).collect()
}

fn kin(pid: i32) -> Option<Kin> {
    let fields = crate::sys::process::stranger::fields(pid).ok()?;
    let mut fields = fields.split_ascii_whitespace().skip(1).map(str::parse);
    let mut next = || fields.next()?.ok();
    Some(Kin { parent: next()?, group: next()?, session: next()? })
}
