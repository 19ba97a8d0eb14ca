//! The process behind a socket: its memory, its processor time, its program.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::unistd::SysconfVar;

/// How often memory is looked at while something runs.
const LOOK: Duration = Duration::from_millis(5);

/// A daemon's process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process {
    pid: i32,
}

/// Watches how much anonymous memory a process and its children have at most.
pub(crate) struct Watch {
    over: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Process {
    /// The process that listens on a socket, as the kernel names it (`SO_PEERCRED`, unix(7)).
    pub(crate) fn behind(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).expect("a connection");
        Self { pid: getsockopt(&stream, PeerCredentials).expect("who listens").pid() }
    }

    /// Processor time of it and of its children that have ended, in seconds.
    pub(crate) fn cpu_seconds(self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).expect("its stat");
        // The name, in brackets, may have blanks (proc_pid_stat(5)): utime is the 12th after it.
        let after = stat.rsplit_once(')').expect("its name").1;
        let ticks: u64 = after
            .split_whitespace()
            .skip(11)
            .take(4)
            .map(|text| text.parse::<u64>().expect("a number of ticks"))
            .sum();
        let each = nix::unistd::sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
        to_f64(ticks) / to_f64(each.unsigned_abs())
    }

    /// Its resident memory, in megabytes.
    pub(crate) fn resident(self) -> f64 {
        megabytes(field(self.pid, "VmRSS").unwrap_or(0))
    }

    /// Its anonymous resident memory, in megabytes.
    pub(crate) fn anonymous(self) -> f64 {
        megabytes(field(self.pid, "RssAnon").unwrap_or(0))
    }

    /// The size of its program, in megabytes.
    pub(crate) fn program(self) -> f64 {
        let file = std::fs::metadata(format!("/proc/{}/exe", self.pid)).expect("its program");
        to_f64(file.len()) / 1e6
    }

    /// Begins to watch its anonymous memory.
    pub(crate) fn watch(self) -> Watch {
        let over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let mut peak = 0;
            while !seen.load(Ordering::Relaxed) {
                let pids = family(self.pid);
                peak = peak.max(pids.iter().filter_map(|pid| field(*pid, "RssAnon")).sum());
                std::thread::sleep(LOOK);
            }
            peak
        });
        Watch { over, thread }
    }
}

impl Watch {
    /// The most there was, in megabytes.
    pub(crate) fn peak(self) -> f64 {
        self.over.store(true, Ordering::Relaxed);
        megabytes(self.thread.join().expect("the watch"))
    }
}

/// A line of a process's status, in KiB.
fn field(pid: i32, name: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// A process and its children that run the same program: helpers that unpack. What it runs for
/// containers, such as monitors, is not its own.
fn family(pid: i32) -> Vec<i32> {
    let program = std::fs::read_link(format!("/proc/{pid}/exe")).ok();
    let mut found = vec![pid];
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    for task in tasks {
        let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|text| text.parse().ok());
        found.extend(children.filter(|child: &i32| {
            std::fs::read_link(format!("/proc/{child}/exe")).ok() == program
        }));
    }
    found
}

fn megabytes(kibibytes: u64) -> f64 {
    to_f64(kibibytes) * 1024.0 / 1e6
}

/// Exact for what is measured here: below 2^53.
#[allow(clippy::cast_precision_loss, reason = "sizes and ticks are far below 2^53")]
fn to_f64(number: u64) -> f64 {
    number as f64
}

/// Removes the cgroup that pods were below, in every hierarchy: that is for who named it, as the
/// kubelet does.
pub(crate) fn remove_cgroup(name: &str) {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for line in mounts.lines() {
        let mut fields = line.split(' ').skip(1);
        let (Some(path), Some(kind)) = (fields.next(), fields.next()) else { continue };
        if kind.starts_with("cgroup") {
            let _ = std::fs::remove_dir(Path::new(path).join(name));
        }
    }
}
