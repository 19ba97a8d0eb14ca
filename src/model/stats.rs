//! What containers and pods use, as counted.
//!
//! A figure that is not known is `None`: it depends on the kernel and its configuration which
//! there are. Bytes, nanoseconds and counts; a limit of `u64::MAX` is none.

use std::collections::HashMap;
use std::hash::Hash;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;

/// Two looks that are closer than this do not give a rate: it would be noise.
const LEAST_WINDOW: i64 = 500_000_000;

/// What a cgroup uses.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Usage {
    /// Processor time of all processors together, since it was made.
    pub cpu: Option<u64>,
    /// Memory.
    pub memory: Option<Memory>,
    /// Swap.
    pub swap: Option<Swap>,
    /// Tasks: processes and their threads.
    pub tasks: Option<u64>,
    /// Waiting for processors.
    pub cpu_pressure: Option<Pressure>,
    /// Waiting for memory.
    pub memory_pressure: Option<Pressure>,
    /// Waiting for input and output.
    pub io_pressure: Option<Pressure>,
}

/// Memory in use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// All of it, the page cache too.
    pub usage: u64,
    /// All but what the kernel would drop first: file pages that nobody used lately.
    pub working_set: u64,
    /// Anonymous memory.
    pub rss: u64,
    /// How much there may be.
    pub limit: u64,
    /// Page faults.
    pub faults: u64,
    /// Page faults that had to read from disk.
    pub major_faults: u64,
}

impl Memory {
    /// What is left of the limit; 0 without one, as the whole field says it.
    #[must_use]
    pub fn available(&self) -> u64 {
        if self.limit == u64::MAX { 0 } else { self.limit.saturating_sub(self.working_set) }
    }
}

/// Swap in use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swap {
    /// In use.
    pub usage: u64,
    /// How much more there may be.
    pub available: u64,
}

/// How long tasks waited for a resource.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressure {
    /// At least one waited.
    pub some: Stall,
    /// All waited.
    pub full: Stall,
}

/// A share of time, and time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stall {
    /// Per cent of the last 10 seconds.
    pub avg10: f64,
    /// Per cent of the last 60 seconds.
    pub avg60: f64,
    /// Per cent of the last 300 seconds.
    pub avg300: f64,
    /// In all, in nanoseconds.
    pub total: u64,
}

/// The groups of pod metrics, as `included_pod_metrics` names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MetricGroup {
    /// What is always given out.
    Always,
    /// Processors.
    Cpu,
    /// The filesystem of the writable layer.
    Disk,
    /// Block devices.
    DiskIo,
    /// Huge pages.
    Hugetlb,
    /// Memory.
    Memory,
    /// Network interfaces.
    Network,
    /// Kills for want of memory.
    Oom,
    /// Waiting.
    Pressure,
    /// Processes, threads, descriptors.
    Process,
    /// What the container was asked to be.
    Spec,
}

/// Figures that only metrics show, and that cost more to find. Those that were not asked for are
/// empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// Of [`MetricGroup::Cpu`].
    pub cpu: CpuDetails,
    /// Of [`MetricGroup::Memory`].
    pub memory: MemoryDetails,
    /// Of [`MetricGroup::Oom`]: processes that the kernel killed.
    pub oom_kills: Option<u64>,
    /// Of [`MetricGroup::DiskIo`].
    pub io: Vec<DeviceIo>,
    /// Of [`MetricGroup::Hugetlb`].
    pub hugetlb: Vec<Hugetlb>,
    /// Of [`MetricGroup::Process`].
    pub processes: Option<ProcessDetails>,
    /// Of [`MetricGroup::Disk`].
    pub filesystem: Option<Filesystem>,
}

/// Where processor time goes, in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuDetails {
    /// In programs.
    pub user: Option<u64>,
    /// In the kernel.
    pub system: Option<u64>,
    /// For each processor, where the kernel tells them apart.
    pub each: Vec<u64>,
    /// Periods that a quota was counted in.
    pub periods: Option<u64>,
    /// Those in which it was used up.
    pub throttled_periods: Option<u64>,
    /// Time that tasks were held up by it.
    pub throttled: Option<u64>,
}

/// What memory is used for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryDetails {
    /// The page cache.
    pub cache: Option<u64>,
    /// The kernel's own.
    pub kernel: Option<u64>,
    /// Mapped files.
    pub mapped_file: Option<u64>,
    /// The most that was in use.
    pub max_usage: Option<u64>,
    /// How often the limit was reached.
    pub limit_hits: Option<u64>,
}

/// Traffic with a block device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceIo {
    /// Its major number.
    pub major: u64,
    /// Its minor number.
    pub minor: u64,
    /// `read`, `write`, and other words of the kernel's.
    pub operation: String,
    /// Bytes moved.
    pub bytes: Option<u64>,
    /// Operations.
    pub count: Option<u64>,
}

/// Huge pages of one size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hugetlb {
    /// In the kernel's words: `2MB`.
    pub page_size: String,
    /// Bytes in use.
    pub usage: u64,
    /// The most that was in use, where the kernel keeps it.
    pub max_usage: Option<u64>,
}

/// What the processes of a container hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProcessDetails {
    /// Processes.
    pub processes: u64,
    /// Descriptors.
    pub descriptors: u64,
    /// Those of sockets.
    pub sockets: u64,
    /// How many tasks there may be; 0 is no limit.
    pub tasks_max: u64,
    /// How many descriptors the first process may have.
    pub descriptors_max: Option<u64>,
}

/// A filesystem.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Filesystem {
    /// Its size in bytes.
    pub size: u64,
    /// Its inodes.
    pub inodes: u64,
    /// Those that are free.
    pub inodes_free: u64,
}

/// What a container wrote to its own layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WritableLayer {
    /// Where the container's root is mounted.
    pub mountpoint: PathBuf,
    /// Bytes and inodes; `None` until a large layer was measured once.
    pub used: Option<(u64, u64)>,
    /// When that was measured, in nanoseconds since 1970.
    pub measured: i64,
}

/// What went through a network interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Into the pod.
    pub received: Traffic,
    /// Out of the pod.
    pub sent: Traffic,
}

/// One direction of an interface.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Errors.
    pub errors: u64,
    /// Packets dropped.
    pub dropped: u64,
}

/// How fast counters of processor time grow, each known by a key.
///
/// The rate is that between a look and an earlier one. Callers do not know of one another, so a
/// look that comes right after another is compared with the one before that.
#[derive(Debug)]
pub struct Rates<K> {
    looks: Mutex<HashMap<K, Looks>>,
}

#[derive(Debug, Clone, Copy)]
struct Looks {
    last: Look,
    before: Option<Look>,
}

#[derive(Debug, Clone, Copy)]
struct Look {
    at: i64,
    total: u64,
}

impl<K> Default for Rates<K> {
    fn default() -> Self {
        Self { looks: Mutex::default() }
    }
}

impl<K: Eq + Hash> Rates<K> {
    /// Keeps a look, `total` at the time `at`, and gives the rate per second since an earlier one.
    /// The first look, and one at a counter that began anew, have none.
    pub fn look(&self, key: K, at: i64, total: u64) -> Option<u64> {
        let look = Look { at, total };
        let mut all = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        let looks = all.entry(key).or_insert(Looks { last: look, before: None });
        if total < looks.last.total || at < looks.last.at {
            *looks = Looks { last: look, before: None };
        }
        if at.saturating_sub(looks.last.at) >= LEAST_WINDOW {
            *looks = Looks { last: look, before: Some(looks.last) };
        }
        rate(looks.before?, look)
    }

    /// Drops what is kept under a key.
    pub fn forget(&self, key: &K) {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

fn rate(from: Look, to: Look) -> Option<u64> {
    let time = u128::try_from(to.at.checked_sub(from.at)?).ok().filter(|time| *time > 0)?;
    let used = u128::from(to.total.checked_sub(from.total)?);
    u64::try_from(used * 1_000_000_000 / time).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn a_rate_is_between_two_looks_that_are_far_enough_apart() {
        let rates = Rates::default();
        assert_eq!(rates.look("a", 0, 100), None);
        // Right after the first look there is nothing to compare with.
        assert_eq!(rates.look("a", SECOND / 10, 200), None);
        assert_eq!(rates.look("a", 2 * SECOND, 100 + 3_000_000_000), Some(1_500_000_000));
        // Someone else looks right after: the same window, and a little more.
        assert_eq!(rates.look("a", 2 * SECOND + 1, 100 + 3_000_000_000), Some(1_499_999_999));
        // The next look is compared with the last one that was kept.
        assert_eq!(rates.look("a", 4 * SECOND, 100 + 3_000_000_000), Some(0));
        assert_eq!(rates.look("b", 4 * SECOND, 7), None);
    }

    #[test]
    fn a_counter_that_began_anew_and_a_clock_set_back_have_no_rate() {
        let rates = Rates::default();
        rates.look("a", SECOND, 1000);
        assert_eq!(rates.look("a", 3 * SECOND, 10), None);
        assert_eq!(rates.look("a", 5 * SECOND, 30), Some(10));
        assert_eq!(rates.look("a", 4 * SECOND, 40), None);
        assert_eq!(rates.look("a", i64::MAX, u64::MAX), Some(2_000_000_000));
        rates.forget(&"a");
        assert_eq!(rates.look("a", i64::MAX, u64::MAX), None);
    }

    #[test]
    fn what_is_left_of_memory_never_wraps() {
        let memory = |limit, working_set| Memory { limit, working_set, ..Memory::default() };
        assert_eq!(memory(100, 30).available(), 70);
        assert_eq!(memory(100, 300).available(), 0);
        assert_eq!(memory(u64::MAX, 300).available(), 0);
    }
}
