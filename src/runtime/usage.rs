//! What a container or a pod uses: which files of its cgroup have it, and what they mean.
//!
//! The two versions of cgroups count nearly the same under other names. Each figure is read on its
//! own, so one that this kernel does not have takes no other with it.

use rustix::system::sysinfo;

use crate::model::ids::ContainerId;
use crate::model::stats;
use crate::model::stats::Details;
use crate::model::stats::DeviceIo;
use crate::model::stats::Hugetlb;
use crate::model::stats::Memory;
use crate::model::stats::MetricGroup;
use crate::model::stats::ProcessDetails;
use crate::model::stats::Swap;
use crate::model::stats::Usage;
use crate::runtime::CgroupManager;
use crate::runtime::Runtime;
use crate::runtime::error::RuntimeError;
use crate::runtime::pod_cgroup::of;
use crate::sys::cgroup;
use crate::sys::cgroup::Cgroups;
use crate::sys::cgroup::DeviceFigure;
use crate::sys::cgroup::Group;
use crate::sys::cgroup::Table;
use crate::sys::cgroup::Version;
use crate::sys::held;

/// From here on a limit of version 1 is none: the kernel rounds the largest number to pages.
const UNLIMITED: u64 = 1 << 62;
/// Clock ticks a second, as the kernel tells times to programs.
const TICK: u64 = 1_000_000_000 / 100;
/// Nanoseconds.
const MICROSECOND: u64 = 1_000;
/// Where the kernel lists the sizes of huge pages.
const HUGE_PAGES: &str = "/sys/kernel/mm/hugepages";

/// Looks at cgroups; made for one request. All calls block, for less than a millisecond each.
#[derive(Debug)]
pub struct Meter {
    cgroups: Cgroups,
    manager: CgroupManager,
    swap_of_node: u64,
}

impl Runtime {
    /// A meter over the cgroups that are mounted now.
    ///
    /// # Errors
    ///
    /// [`RuntimeError::Cgroup`] where there are none.
    pub fn meter(&self) -> Result<Meter, RuntimeError> {
        let cgroups = self.cgroups().map_err(of("the node"))?;
        let node = sysinfo();
        let swap_of_node = (node.totalswap as u64).saturating_mul(node.mem_unit.into());
        Ok(Meter { cgroups, manager: self.settings().cgroup_manager, swap_of_node })
    }
}

impl Meter {
    /// What a container uses; nothing is known of one whose cgroup is gone.
    #[must_use]
    pub fn container(&self, parent: &str, id: &ContainerId) -> Usage {
        let path = cgroup::container_path(self.manager, parent, id.as_str());
        path.map(|path| self.usage(&self.cgroups.group(&path))).unwrap_or_default()
    }

    /// What a pod uses, with all that is in its cgroup. `None` for a pod without one of its own.
    #[must_use]
    pub fn pod(&self, parent: &str) -> Option<Usage> {
        if parent.is_empty() {
            return None;
        }
        let path = cgroup::parent_path(self.manager, parent).ok()?;
        Some(self.usage(&self.cgroups.group(&path)))
    }

    /// What metrics show of a container beyond that; `first` is its first process.
    #[must_use]
    pub fn details(
        &self,
        parent: &str,
        id: &ContainerId,
        first: i32,
        groups: &[MetricGroup],
    ) -> Details {
        let mut details = Details::default();
        let Ok(path) = cgroup::container_path(self.manager, parent, id.as_str()) else {
            return details;
        };
        let group = self.cgroups.group(&path);
        let is_v1 = self.cgroups.version() == Version::V1;
        for wanted in groups {
            match wanted {
                MetricGroup::Cpu => details.cpu = cpu(&group, is_v1),
                MetricGroup::Memory => details.memory = memory_details(&group, is_v1),
                MetricGroup::Oom => {
                    let file = if is_v1 { "memory.oom_control" } else { "memory.events" };
                    let table = group.table("memory", file);
                    details.oom_kills = table.and_then(|table| table.value("oom_kill"));
                }
                MetricGroup::DiskIo => details.io = io(&group, is_v1),
                MetricGroup::Hugetlb => details.hugetlb = hugetlb(&group, is_v1),
                MetricGroup::Process => details.processes = Some(processes(&group, first)),
                MetricGroup::Always
                | MetricGroup::Disk
                | MetricGroup::Network
                | MetricGroup::Pressure
                | MetricGroup::Spec => {}
            }
        }
        details
    }

    fn usage(&self, group: &Group<'_>) -> Usage {
        let (cpu, memory, swap) = match self.cgroups.version() {
            Version::V1 => {
                let (memory, swap) = self.memory_v1(group).unzip();
                (group.number("cpuacct", "cpuacct.usage"), memory, swap.flatten())
            }
            Version::V2 => {
                let table = group.table("cpu", "cpu.stat");
                let cpu = table.and_then(|table| table.value("usage_usec"));
                let cpu = cpu.map(|time| time.saturating_mul(MICROSECOND));
                (cpu, memory_v2(group), self.swap_v2(group))
            }
        };
        Usage {
            cpu,
            memory,
            swap,
            tasks: group.number("pids", "pids.current"),
            cpu_pressure: pressure(group, "cpu"),
            memory_pressure: pressure(group, "memory"),
            io_pressure: pressure(group, "io"),
        }
    }

    fn memory_v1(&self, group: &Group<'_>) -> Option<(Memory, Option<Swap>)> {
        let usage = group.number("memory", "memory.usage_in_bytes")?;
        let table = group.table("memory", "memory.stat")?;
        let limit = group.number("memory", "memory.limit_in_bytes").map_or(u64::MAX, limit_v1);
        let memory = memory(usage, limit, &table, "total_", "rss");
        // Where swap is not counted there is no such file.
        let both = group.number("memory", "memory.memsw.limit_in_bytes").map(limit_v1);
        let swap = both.and_then(|both| {
            let limit = if both == u64::MAX { both } else { both.saturating_sub(limit) };
            Some(self.swap(table.value("total_swap")?, limit))
        });
        Some((memory, swap))
    }

    fn swap_v2(&self, group: &Group<'_>) -> Option<Swap> {
        let limit = group.number("memory", "memory.swap.max").unwrap_or(u64::MAX);
        Some(self.swap(group.number("memory", "memory.swap.current")?, limit))
    }

    /// Nobody can swap more than the node has.
    fn swap(&self, usage: u64, limit: u64) -> Swap {
        Swap { usage, available: limit.min(self.swap_of_node).saturating_sub(usage) }
    }
}

fn memory_v2(group: &Group<'_>) -> Option<Memory> {
    let usage = group.number("memory", "memory.current")?;
    let table = group.table("memory", "memory.stat")?;
    let limit = group.number("memory", "memory.max").unwrap_or(u64::MAX);
    Some(memory(usage, limit, &table, "", "anon"))
}

/// The keys of version 1 count with what is below only behind a prefix.
fn memory(usage: u64, limit: u64, table: &Table, prefix: &str, rss: &str) -> Memory {
    let value = |key: &str| table.value(&format!("{prefix}{key}")).unwrap_or_default();
    Memory {
        usage,
        working_set: usage.saturating_sub(value("inactive_file")),
        rss: value(rss),
        limit,
        faults: value("pgfault"),
        major_faults: value("pgmajfault"),
    }
}

fn limit_v1(limit: u64) -> u64 {
    if limit >= UNLIMITED { u64::MAX } else { limit }
}

fn pressure(group: &Group<'_>, resource: &str) -> Option<stats::Pressure> {
    let stall = |from: cgroup::Stall| stats::Stall {
        avg10: from.avg10,
        avg60: from.avg60,
        avg300: from.avg300,
        total: from.total.saturating_mul(MICROSECOND),
    };
    let read = group.pressure(resource)?;
    Some(stats::Pressure { some: stall(read.some), full: stall(read.full) })
}

fn cpu(group: &Group<'_>, is_v1: bool) -> stats::CpuDetails {
    let table = group.table("cpu", "cpu.stat").unwrap_or_default();
    let scaled = |table: &Table, key: &str, unit: u64| {
        table.value(key).map(|value| value.saturating_mul(unit))
    };
    let (periods, throttled_periods) = (table.value("nr_periods"), table.value("nr_throttled"));
    if !is_v1 {
        return stats::CpuDetails {
            user: scaled(&table, "user_usec", MICROSECOND),
            system: scaled(&table, "system_usec", MICROSECOND),
            each: Vec::new(),
            periods,
            throttled_periods,
            throttled: scaled(&table, "throttled_usec", MICROSECOND),
        };
    }
    let times = group.table("cpuacct", "cpuacct.stat").unwrap_or_default();
    stats::CpuDetails {
        user: scaled(&times, "user", TICK),
        system: scaled(&times, "system", TICK),
        each: group.numbers("cpuacct", "cpuacct.usage_percpu").unwrap_or_default(),
        periods,
        throttled_periods,
        throttled: table.value("throttled_time"),
    }
}

fn memory_details(group: &Group<'_>, is_v1: bool) -> stats::MemoryDetails {
    let table = group.table("memory", "memory.stat").unwrap_or_default();
    if is_v1 {
        return stats::MemoryDetails {
            cache: table.value("total_cache"),
            kernel: group.number("memory", "memory.kmem.usage_in_bytes"),
            mapped_file: table.value("total_mapped_file"),
            max_usage: group.number("memory", "memory.max_usage_in_bytes"),
            limit_hits: group.number("memory", "memory.failcnt"),
        };
    }
    let events = group.table("memory", "memory.events");
    stats::MemoryDetails {
        cache: table.value("file"),
        kernel: table.value("kernel"),
        mapped_file: table.value("file_mapped"),
        max_usage: group.number("memory", "memory.peak"),
        limit_hits: events.and_then(|events| events.value("max")),
    }
}

fn io(group: &Group<'_>, is_v1: bool) -> Vec<DeviceIo> {
    let mut found = Vec::new();
    if is_v1 {
        let read = |file: &str| group.devices("blkio", file).unwrap_or_default();
        for figure in read("blkio.throttle.io_service_bytes_recursive") {
            add_io(&mut found, &figure, &figure.name.to_lowercase(), |io| &mut io.bytes);
        }
        for figure in read("blkio.throttle.io_serviced_recursive") {
            add_io(&mut found, &figure, &figure.name.to_lowercase(), |io| &mut io.count);
        }
        return found;
    }
    for figure in group.devices("io", "io.stat").unwrap_or_default() {
        match figure.name.as_str() {
            "rbytes" => add_io(&mut found, &figure, "read", |io| &mut io.bytes),
            "wbytes" => add_io(&mut found, &figure, "write", |io| &mut io.bytes),
            "dbytes" => add_io(&mut found, &figure, "discard", |io| &mut io.bytes),
            "rios" => add_io(&mut found, &figure, "read", |io| &mut io.count),
            "wios" => add_io(&mut found, &figure, "write", |io| &mut io.count),
            "dios" => add_io(&mut found, &figure, "discard", |io| &mut io.count),
            _ => {}
        }
    }
    found
}

fn add_io(
    found: &mut Vec<DeviceIo>,
    figure: &DeviceFigure,
    operation: &str,
    slot: fn(&mut DeviceIo) -> &mut Option<u64>,
) {
    let (major, minor) = (figure.major, figure.minor);
    // The kernel's sum of the others.
    if operation == "total" {
        return;
    }
    let same =
        |io: &&mut DeviceIo| io.major == major && io.minor == minor && io.operation == operation;
    if let Some(io) = found.iter_mut().find(same) {
        *slot(io) = Some(figure.value);
        return;
    }
    let operation = operation.to_owned();
    let mut io = DeviceIo { major, minor, operation, bytes: None, count: None };
    *slot(&mut io) = Some(figure.value);
    found.push(io);
}

fn hugetlb(group: &Group<'_>, is_v1: bool) -> Vec<Hugetlb> {
    let sizes = std::fs::read_dir(HUGE_PAGES).into_iter().flatten().flatten();
    let names = sizes.filter_map(|size| page_size(size.file_name().to_str()?));
    let usage = if is_v1 { "usage_in_bytes" } else { "current" };
    let of_size = |page_size: String| {
        let number = |file: &str| group.number("hugetlb", &format!("hugetlb.{page_size}.{file}"));
        let (usage, max_usage) = (number(usage)?, number("max_usage_in_bytes"));
        Some(Hugetlb { usage, max_usage, page_size })
    };
    names.filter_map(of_size).collect()
}

/// `hugepages-2048kB` is `2MB` in the names of cgroup files (`mem_fmt` of the kernel).
fn page_size(directory: &str) -> Option<String> {
    let kilobytes = directory.strip_prefix("hugepages-")?.strip_suffix("kB")?;
    let kilobytes: u64 = kilobytes.parse().ok()?;
    Some(match kilobytes {
        0..1024 => format!("{kilobytes}KB"),
        1024..1_048_576 => format!("{}MB", kilobytes >> 10),
        _ => format!("{}GB", kilobytes >> 20),
    })
}

fn processes(group: &Group<'_>, first: i32) -> ProcessDetails {
    let pids = group.processes("pids");
    let held = held::by_processes(&pids);
    let tasks_max = group.number("pids", "pids.max").filter(|max| *max != u64::MAX);
    ProcessDetails {
        processes: pids.len() as u64,
        descriptors: held.descriptors,
        sockets: held.sockets,
        tasks_max: tasks_max.unwrap_or(0),
        descriptors_max: pids.contains(&first).then(|| held::descriptors_max(first)).flatten(),
    }
}

#[cfg(test)]
mod tests;
