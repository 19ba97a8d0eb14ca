//! A started process: its end, its reaping, and its group's.
//!
//! What a process number means is only certain while the process is not reaped. So signals are
//! sent first and the reaping comes last, and both are done here.

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;

use nix::libc;
use tokio::io::unix::AsyncFd;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It ended by itself, with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl Exit {
    /// Whether it ended by itself with 0.
    #[must_use]
    pub fn is_success(self) -> bool {
        self == Self::Code(0)
    }

    /// The one number a shell would give: the code, or 128 and the signal.
    #[must_use]
    pub fn shell_code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }

    fn new(status: std::process::ExitStatus) -> Self {
        status.code().map_or(Self::Signal(status.signal().unwrap_or(libc::SIGKILL)), Self::Code)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(out, "exit status {code}"),
            Self::Signal(signal) => write!(out, "signal {signal}"),
        }
    }
}

/// A process that was started. Dropped before it was waited for, it is killed with its group and
/// reaped.
#[derive(Debug)]
pub struct Child {
    /// `None` once it is reaped.
    process: Option<std::process::Child>,
    end: AsyncFd<OwnedFd>,
}

impl Child {
    pub(super) fn new(process: std::process::Child) -> io::Result<Self> {
        let mut process = Unfollowed(Some(process));
        let number = process.0.as_ref().map_or(0, std::process::Child::id);
        // The process is our child and not reaped, so the number is still its own.
        let pid = i32::try_from(number).ok().and_then(rustix::process::Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("a child without a number"))?;
        let end = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::NONBLOCK)?;
        // SAFETY: an owned descriptor stays the same open one for as long as it lives.
        let end = unsafe { AsyncFd::register_with_interest(end, tokio::io::Interest::READABLE)? };
        Ok(Self { process: process.0.take(), end })
    }

    /// Its process number, until it is reaped.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        self.process.as_ref().and_then(|process| i32::try_from(process.id()).ok())
    }

    /// The descriptor that stands for the process.
    #[must_use]
    pub fn pidfd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.end.get_ref().as_fd()
    }

    /// Our end of its standard input, if that was asked to be a pipe, once.
    pub fn take_stdin(&mut self) -> Option<OwnedFd> {
        self.process.as_mut()?.stdin.take().map(OwnedFd::from)
    }

    /// Our end of its standard output, if that was asked to be a pipe, once.
    pub fn take_stdout(&mut self) -> Option<OwnedFd> {
        self.process.as_mut()?.stdout.take().map(OwnedFd::from)
    }

    /// Our end of its standard error stream, if that was asked to be a pipe, once.
    pub fn take_stderr(&mut self) -> Option<OwnedFd> {
        self.process.as_mut()?.stderr.take().map(OwnedFd::from)
    }

    /// Waits until it has ended, and leaves it unreaped.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub async fn ended(&self) -> io::Result<()> {
        self.end.readable().await.map(|mut guard| guard.retain_ready())
    }

    /// Waits until it has ended, reaps it, and says how it ended.
    ///
    /// # Errors
    ///
    /// What the kernel says, and [`io::ErrorKind::NotFound`] the second time.
    pub async fn wait(&mut self) -> io::Result<Exit> {
        self.ended().await?;
        let process = self.process.as_mut().ok_or(io::ErrorKind::NotFound)?;
        let status = process.wait()?;
        self.process = None;
        Ok(Exit::new(status))
    }

    /// Gives up following it: whoever takes it reaps it.
    pub(super) fn disown(&mut self) -> Option<std::process::Child> {
        self.process.take()
    }

    /// Kills it and all that is in its group. The process itself is not reaped yet, so the group's
    /// number cannot belong to anyone else.
    pub fn kill_group(&self) {
        if let Some(process) = &self.process {
            kill_group_of(process);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        drop(Unfollowed(self.process.take()));
    }
}

/// A child that nobody waits for any more: dropped, it is killed with its group and reaped.
pub(super) struct Unfollowed(pub(super) Option<std::process::Child>);

impl Drop for Unfollowed {
    fn drop(&mut self) {
        let Some(mut process) = self.0.take() else { return };
        kill_group_of(&process);
        if !matches!(process.try_wait(), Ok(None)) {
            return;
        }
        // Killed, it ends soon, but a process in the middle of disk I/O may take its time.
        let reaper = std::thread::Builder::new().name("reaper".to_owned());
        let _ = reaper.spawn(move || process.wait());
    }
}

fn kill_group_of(process: &std::process::Child) {
    if let Ok(number) = i32::try_from(process.id()) {
        let group = nix::unistd::Pid::from_raw(number);
        let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
    }
}
