//! A process that is not our child: found by a number that someone wrote down.
//!
//! A number alone may have gone to another process since. So a stranger is opened first, then
//! looked at, and only what was opened is signalled.

#![allow(unsafe_code, reason = "a descriptor is registered with the event loop")]

use std::io;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::process::Pid;
use rustix::process::PidfdFlags;
use rustix::process::Signal;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// How long a killed process may take to end: one in the middle of disk I/O is not interrupted.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest environment that is looked through, in bytes: execve(2) takes no longer variable.
const ENVIRONMENT: u64 = 256 * 1024;

/// A process that is not our child.
#[derive(Debug)]
pub struct Stranger {
    pid: i32,
    end: AsyncFd<OwnedFd>,
}

impl Stranger {
    /// Opens the process that has this number now.
    ///
    /// # Errors
    ///
    /// What the kernel says: `ESRCH` when there is none.
    pub fn open(pid: i32) -> io::Result<Self> {
        let number = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
        let end = rustix::process::pidfd_open(number, PidfdFlags::NONBLOCK)?;
        // SAFETY: an owned descriptor stays the same open one for as long as it lives.
        let end = unsafe { AsyncFd::register_with_interest(end, Interest::READABLE)? };
        Ok(Self { pid, end })
    }

    /// The processes that were started with this `NAME=value` in their environment, but for children
    /// of this process. Blocks; within a runtime.
    #[must_use]
    pub fn with_variable(variable: &str) -> Vec<Self> {
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let has_it = |pid: i32| {
            let mut bytes = Vec::new();
            let file = std::fs::File::open(format!("/proc/{pid}/environ"));
            let _ = file.and_then(|file| file.take(ENVIRONMENT).read_to_end(&mut bytes));
            bytes.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes())
        };
        let own = std::process::id().to_string();
        let is_child = |pid: i32| {
            fields(pid).is_ok_and(|stat| stat.split_ascii_whitespace().nth(1) == Some(&*own))
        };
        numbers
            .filter(|pid| has_it(*pid))
            .filter_map(|pid| Self::open(pid).ok())
            // Looked at again after it was opened: the number may have been another's before.
            .filter(|stranger| has_it(stranger.pid) && !is_child(stranger.pid))
            .collect()
    }

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether it was started with this argument. A zombie has none.
    #[must_use]
    pub fn has_argument(&self, argument: &str) -> bool {
        let line = std::fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == argument.as_bytes())
    }

    /// Whether it was started then, in clock ticks since boot.
    #[must_use]
    pub fn has_started(&self, ticks: u64) -> bool {
        started(self.pid).is_ok_and(|found| found == ticks)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    ///
    /// What the kernel says: `ESRCH` when it has ended.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        let signal = Signal::from_named_raw(signal).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(rustix::process::pidfd_send_signal(self.end.get_ref(), signal)?)
    }

    /// Waits until it has ended. It may still be a zombie: its parent reaps it.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub async fn ended(&self) -> io::Result<()> {
        self.end.readable().await.map(|mut guard| guard.retain_ready())
    }

    /// Kills it and waits for its end, for some seconds at most.
    pub async fn kill(&self) {
        let _ = rustix::process::pidfd_send_signal(self.end.get_ref(), Signal::KILL);
        let _ = tokio::time::timeout(PATIENCE, self.ended()).await;
    }
}

/// When a process was started, in clock ticks since boot: with its number it names one process for
/// as long as the machine runs (`proc_pid_stat(5)`, field 22).
///
/// # Errors
///
/// What the kernel says, and [`io::ErrorKind::InvalidData`].
pub fn started(pid: i32) -> io::Result<u64> {
    let fields = fields(pid)?;
    let ticks = fields.split_ascii_whitespace().nth(19).and_then(|field| field.parse().ok());
    ticks.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The fields of `/proc/<pid>/stat` from the third, the state, on.
pub(super) fn fields(pid: i32) -> io::Result<String> {
    let stat = std::fs::read(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold anything, a parenthesis too (proc_pid_stat(5)).
    let end = stat.iter().rposition(|byte| *byte == b')').ok_or(io::ErrorKind::InvalidData)?;
    let rest = stat.get(end + 1..).unwrap_or_default();
    String::from_utf8(rest.to_vec()).map_err(|_| io::ErrorKind::InvalidData.into())
}
