//! The metrics of pods and containers under cAdvisor's names: one row each, with its group, name,
//! help, labels and what gives its value.
//!
//! Names, labels and their order are CRI-O's: dashboards know them, and the kubelet puts keys and
//! values together by their place. Values are whole numbers (the CRI has no others), times in
//! seconds. A figure that is not known is no metric.

use api::MetricType::Counter;
use api::MetricType::Gauge;

use crate::container::ContainerStats;
use crate::cri::api;
use crate::model::stats::DeviceIo;
use crate::model::stats::Interface;
use crate::model::stats::Memory;
use crate::model::stats::MetricGroup;
use crate::model::stats::MetricGroup::Always;
use crate::model::stats::MetricGroup::Cpu;
use crate::model::stats::MetricGroup::Disk;
use crate::model::stats::MetricGroup::DiskIo;
use crate::model::stats::MetricGroup::Hugetlb;
use crate::model::stats::MetricGroup::Memory as OfMemory;
use crate::model::stats::MetricGroup::Network;
use crate::model::stats::MetricGroup::Oom;
use crate::model::stats::MetricGroup::Pressure;
use crate::model::stats::MetricGroup::Process;
use crate::model::stats::MetricGroup::Spec;
use crate::sandbox::PodStats;

/// The labels that every metric begins with.
const BASE: [&str; 5] = ["id", "image", "namespace", "pod", "container"];
/// What stands for a container where a metric is of the whole pod.
const POD: &str = "POD";
const SECOND: u64 = 1_000_000_000;
/// A limit beyond this is none; cAdvisor says 0 then.
const UNLIMITED: i64 = 1 << 62;

struct Row {
    group: MetricGroup,
    name: &'static str,
    help: &'static str,
    kind: api::MetricType,
    value: Value,
}

/// A value, behind its own labels.
type Labelled = (Vec<String>, u64);

/// What gives a row's values, and its labels behind the base.
enum Value {
    One(fn(&ContainerStats) -> Option<u64>),
    Many(&'static [&'static str], fn(&ContainerStats) -> Vec<Labelled>),
    Interface(fn(&Interface) -> u64),
}

impl Row {
    fn labels(&self) -> &'static [&'static str] {
        match self.value {
            Value::One(_) => &[],
            Value::Many(labels, _) => labels,
            Value::Interface(_) => &["interface"],
        }
    }
}

/// What is said of the metrics of these groups.
#[must_use]
pub fn descriptors(groups: &[MetricGroup]) -> Vec<api::MetricDescriptor> {
    let describe = |row: &Row| api::MetricDescriptor {
        name: row.name.to_owned(),
        help: row.help.to_owned(),
        label_keys: BASE.iter().chain(row.labels()).map(|&key| key.to_owned()).collect(),
    };
    rows(groups).map(describe).collect()
}

/// The metrics of a pod and of its containers.
#[must_use]
pub fn to_proto(from: &PodStats, groups: &[MetricGroup]) -> api::PodSandboxMetrics {
    let metadata = &from.record.config.metadata;
    // 0 says that it was looked at just now.
    let timestamp = if from.is_kept { from.taken } else { 0 };
    let metric = |row: &Row, labels: Vec<String>, value: u64| api::Metric {
        name: row.name.to_owned(),
        timestamp,
        metric_type: row.kind.into(),
        label_values: labels,
        value: Some(api::UInt64Value { value }),
    };
    let base = |id: &str, image: &str, name: &str| {
        [id, image, &metadata.namespace, &metadata.name, name].map(str::to_owned)
    };
    let own = base(from.record.id.as_str(), "", POD);
    let mut metrics = Vec::new();
    for row in rows(groups) {
        let Value::Interface(value) = row.value else { continue };
        for interface in from.interfaces.iter().flatten() {
            let labels = own.iter().chain([&interface.name]).cloned().collect();
            metrics.push(metric(row, labels, value(interface)));
        }
    }
    let of_container = |stats: &ContainerStats| {
        let record = &stats.record;
        let base = base(record.id.as_str(), &record.image.name, &record.config.metadata.name);
        let mut metrics = Vec::new();
        for row in rows(groups) {
            let values = match row.value {
                Value::One(value) => {
                    value(stats).map(|value| (Vec::new(), value)).into_iter().collect()
                }
                Value::Many(_, values) => values(stats),
                Value::Interface(_) => Vec::new(),
            };
            for (more, value) in values {
                let labels = base.iter().cloned().chain(more).collect();
                metrics.push(metric(row, labels, value));
            }
        }
        api::ContainerMetrics { container_id: record.id.to_string(), metrics }
    };
    api::PodSandboxMetrics {
        pod_sandbox_id: from.record.id.to_string(),
        metrics,
        container_metrics: from.containers.iter().map(|stats| of_container(stats)).collect(),
    }
}

fn rows(groups: &[MetricGroup]) -> impl Iterator<Item = &'static Row> {
    ROWS.iter().filter(|row| row.group == Always || groups.contains(&row.group))
}

const fn row(
    group: MetricGroup,
    kind: api::MetricType,
    name: &'static str,
    help: &'static str,
    value: Value,
) -> Row {
    Row { group, name, help, kind, value }
}

fn seconds(nanoseconds: u64) -> u64 {
    nanoseconds / SECOND
}

fn memory(stats: &ContainerStats, figure: fn(&Memory) -> u64) -> Option<u64> {
    stats.usage.memory.as_ref().map(figure)
}

/// A limit of the request as cAdvisor says it: none is 0.
fn limit(value: i64) -> Option<u64> {
    Some(u64::try_from(value).ok().filter(|_| value <= UNLIMITED).unwrap_or(0))
}

/// A stated number; what is not stated is 0.
fn stated(value: i64) -> Option<u64> {
    Some(u64::try_from(value).unwrap_or(0))
}

/// What went to or from each block device.
fn device(
    stats: &ContainerStats,
    operation: &str,
    figure: fn(&DeviceIo) -> Option<u64>,
) -> Vec<Labelled> {
    let wanted = stats.details.io.iter().filter(|io| io.operation == operation);
    wanted
        .filter_map(|io| Some((vec![format!("{}:{}", io.major, io.minor)], figure(io)?)))
        .collect()
}

fn each_processor(stats: &ContainerStats) -> Vec<Labelled> {
    let each = &stats.details.cpu.each;
    if each.is_empty() {
        let total = stats.usage.cpu.iter();
        return total.map(|total| (vec!["total".to_owned()], seconds(*total))).collect();
    }
    let used = each.iter().enumerate().filter(|(_, time)| **time > 0);
    used.map(|(number, time)| (vec![format!("cpu{number:02}")], seconds(*time))).collect()
}

fn page_faults(stats: &ContainerStats) -> Vec<Labelled> {
    let Some(memory) = &stats.usage.memory else { return Vec::new() };
    let mut values = Vec::new();
    for (kind, count) in [("pgfault", memory.faults), ("pgmajfault", memory.major_faults)] {
        for scope in ["container", "hierarchy"] {
            values.push((vec![kind.to_owned(), scope.to_owned()], count));
        }
    }
    values
}

fn blkio(stats: &ContainerStats) -> Vec<Labelled> {
    let value = |io: &DeviceIo| {
        let (major, minor) = (io.major.to_string(), io.minor.to_string());
        let device = format!("{major}:{minor}");
        Some((vec![device, major, minor, io.operation.clone()], io.bytes?))
    };
    stats.details.io.iter().filter_map(value).collect()
}

fn spec_reservation(stats: &ContainerStats) -> Option<u64> {
    match stats.record.config.resources.unified.get("memory.min") {
        Some(text) => limit(text.parse().ok()?),
        None => Some(0),
    }
}

fn started(stats: &ContainerStats) -> Option<u64> {
    let record = &stats.record;
    let moment = if record.started > 0 { record.started } else { record.created };
    u64::try_from(moment).ok().map(seconds)
}

#[rustfmt::skip]
const ROWS: &[Row] = &[
    row(Always, Gauge, "container_last_seen", "Last time a container was seen by the exporter",
        Value::One(|s| u64::try_from(s.taken).ok().map(seconds))),

    row(Cpu, Counter, "container_cpu_user_seconds_total", "Cumulative user CPU time consumed in seconds.",
        Value::One(|s| s.details.cpu.user.map(seconds))),
    row(Cpu, Counter, "container_cpu_system_seconds_total", "Cumulative system CPU time consumed in seconds.",
        Value::One(|s| s.details.cpu.system.map(seconds))),
    row(Cpu, Counter, "container_cpu_usage_seconds_total", "Cumulative CPU time consumed in seconds.",
        Value::Many(&["cpu"], each_processor)),
    row(Cpu, Counter, "container_cpu_cfs_periods_total", "Number of elapsed enforcement period intervals.",
        Value::One(|s| s.details.cpu.periods)),
    row(Cpu, Counter, "container_cpu_cfs_throttled_periods_total", "Number of throttled period intervals.",
        Value::One(|s| s.details.cpu.throttled_periods)),
    row(Cpu, Counter, "container_cpu_cfs_throttled_seconds_total", "Total time duration the container has been throttled.",
        Value::One(|s| s.details.cpu.throttled.map(seconds))),

    row(Disk, Gauge, "container_fs_inodes_free", "Number of free inodes.",
        Value::One(|s| Some(s.details.filesystem?.inodes_free))),
    row(Disk, Gauge, "container_fs_inodes_total", "Total number of inodes.",
        Value::One(|s| Some(s.details.filesystem?.inodes))),
    row(Disk, Gauge, "container_fs_limit_bytes", "Filesystem limit in bytes.",
        Value::One(|s| Some(s.details.filesystem?.size))),
    row(Disk, Gauge, "container_fs_usage_bytes", "Current filesystem usage in bytes.",
        Value::One(|s| s.layer.as_ref()?.used.map(|(bytes, _)| bytes))),

    row(DiskIo, Counter, "container_fs_reads_bytes_total", "Cumulative count of bytes read",
        Value::Many(&["device"], |s| device(s, "read", |io| io.bytes))),
    row(DiskIo, Counter, "container_fs_reads_total", "Cumulative count of reads completed",
        Value::Many(&["device"], |s| device(s, "read", |io| io.count))),
    row(DiskIo, Counter, "container_fs_writes_bytes_total", "Cumulative count of bytes written",
        Value::Many(&["device"], |s| device(s, "write", |io| io.bytes))),
    row(DiskIo, Counter, "container_fs_writes_total", "Cumulative count of writes completed",
        Value::Many(&["device"], |s| device(s, "write", |io| io.count))),
    row(DiskIo, Counter, "container_blkio_device_usage_total", "Blkio Device bytes usage",
        Value::Many(&["device", "major", "minor", "operation"], blkio)),

    row(Hugetlb, Gauge, "container_hugetlb_usage_bytes", "Current hugepage usage",
        Value::Many(&["pagesize"], |s| {
            s.details.hugetlb.iter().map(|pages| (vec![pages.page_size.clone()], pages.usage)).collect()
        })),
    row(Hugetlb, Gauge, "container_hugetlb_max_usage_bytes", "Maximum hugepage usages recorded",
        Value::Many(&["pagesize"], |s| {
            let value = |pages: &crate::model::stats::Hugetlb| {
                Some((vec![pages.page_size.clone()], pages.max_usage?))
            };
            s.details.hugetlb.iter().filter_map(value).collect()
        })),

    row(OfMemory, Gauge, "container_memory_cache", "Number of bytes of page cache memory.",
        Value::One(|s| s.details.memory.cache)),
    row(OfMemory, Gauge, "container_memory_rss", "Size of RSS in bytes.",
        Value::One(|s| memory(s, |memory| memory.rss))),
    row(OfMemory, Gauge, "container_memory_kernel_usage", "Size of kernel memory allocated in bytes.",
        Value::One(|s| s.details.memory.kernel)),
    row(OfMemory, Gauge, "container_memory_mapped_file", "Size of memory mapped files in bytes.",
        Value::One(|s| s.details.memory.mapped_file)),
    row(OfMemory, Gauge, "container_memory_swap", "Container swap usage in bytes.",
        Value::One(|s| Some(s.usage.swap?.usage))),
    row(OfMemory, Counter, "container_memory_failcnt", "Number of memory usage hits limits",
        Value::One(|s| s.details.memory.limit_hits)),
    row(OfMemory, Gauge, "container_memory_usage_bytes", "Current memory usage in bytes, including all memory regardless of when it was accessed",
        Value::One(|s| memory(s, |memory| memory.usage))),
    row(OfMemory, Gauge, "container_memory_max_usage_bytes", "Maximum memory usage recorded in bytes",
        Value::One(|s| s.details.memory.max_usage)),
    row(OfMemory, Gauge, "container_memory_working_set_bytes", "Current working set in bytes.",
        Value::One(|s| memory(s, |memory| memory.working_set))),
    row(OfMemory, Counter, "container_memory_failures_total", "Cumulative count of memory allocation failures.",
        Value::Many(&["failure_type", "scope"], page_faults)),

    row(Network, Counter, "container_network_receive_bytes_total", "Cumulative count of bytes received",
        Value::Interface(|i| i.received.bytes)),
    row(Network, Counter, "container_network_receive_packets_total", "Cumulative count of packets received",
        Value::Interface(|i| i.received.packets)),
    row(Network, Counter, "container_network_receive_packets_dropped_total", "Cumulative count of packets dropped while receiving",
        Value::Interface(|i| i.received.dropped)),
    row(Network, Counter, "container_network_receive_errors_total", "Cumulative count of errors encountered while receiving",
        Value::Interface(|i| i.received.errors)),
    row(Network, Counter, "container_network_transmit_bytes_total", "Cumulative count of bytes transmitted",
        Value::Interface(|i| i.sent.bytes)),
    row(Network, Counter, "container_network_transmit_packets_total", "Cumulative count of packets transmitted",
        Value::Interface(|i| i.sent.packets)),
    row(Network, Counter, "container_network_transmit_packets_dropped_total", "Cumulative count of packets dropped while transmitting",
        Value::Interface(|i| i.sent.dropped)),
    row(Network, Counter, "container_network_transmit_errors_total", "Cumulative count of errors encountered while transmitting",
        Value::Interface(|i| i.sent.errors)),

    row(Oom, Counter, "container_oom_events_total", "Count of out of memory events observed for the container",
        Value::One(|s| s.details.oom_kills)),

    row(Process, Gauge, "container_file_descriptors", "Number of open file descriptors for the container.",
        Value::One(|s| Some(s.details.processes?.descriptors))),
    row(Process, Gauge, "container_processes", "Number of processes running inside the container.",
        Value::One(|s| Some(s.details.processes?.processes))),
    row(Process, Gauge, "container_sockets", "Number of open sockets for the container.",
        Value::One(|s| Some(s.details.processes?.sockets))),
    row(Process, Gauge, "container_threads", "Number of threads running inside the container",
        Value::One(|s| s.usage.tasks)),
    row(Process, Gauge, "container_threads_max", "Maximum number of threads allowed inside the container, infinity if value is zero",
        Value::One(|s| Some(s.details.processes?.tasks_max))),
    row(Process, Gauge, "container_ulimits_soft", "Soft ulimit values for the container root process. Unlimited if -1, except priority and nice",
        Value::Many(&["ulimit"], |s| {
            let most = s.details.processes.and_then(|processes| processes.descriptors_max);
            most.map(|most| (vec!["max_open_files".to_owned()], most)).into_iter().collect()
        })),

    row(Spec, Gauge, "container_spec_cpu_period", "CPU period of the container.",
        Value::One(|s| stated(s.record.config.resources.cpu_period))),
    row(Spec, Gauge, "container_spec_cpu_shares", "CPU share of the container.",
        Value::One(|s| stated(s.record.config.resources.cpu_shares))),
    row(Spec, Gauge, "container_spec_cpu_quota", "CPU quota of the container.",
        Value::One(|s| stated(s.record.config.resources.cpu_quota).filter(|quota| *quota > 0))),
    row(Spec, Gauge, "container_spec_memory_limit_bytes", "Memory limit for the container in bytes.",
        Value::One(|s| limit(s.record.config.resources.memory_limit))),
    row(Spec, Gauge, "container_spec_memory_reservation_limit_bytes", "Memory reservation limit for the container.",
        Value::One(spec_reservation)),
    row(Spec, Gauge, "container_spec_memory_swap_limit_bytes", "Memory swap limit for the container.",
        Value::One(|s| limit(s.record.config.resources.memory_swap_limit))),
    row(Spec, Gauge, "container_start_time_seconds", "Start time of the container since unix epoch in seconds.",
        Value::One(started)),

    row(Pressure, Counter, "container_pressure_cpu_stalled_seconds_total", "Total time duration no tasks in the container could make progress due to CPU congestion.",
        Value::One(|s| Some(seconds(s.usage.cpu_pressure?.full.total)))),
    row(Pressure, Counter, "container_pressure_cpu_waiting_seconds_total", "Total time duration tasks in the container have waited due to CPU congestion.",
        Value::One(|s| Some(seconds(s.usage.cpu_pressure?.some.total)))),
    row(Pressure, Counter, "container_pressure_memory_stalled_seconds_total", "Total time duration no tasks in the container could make progress due to memory congestion.",
        Value::One(|s| Some(seconds(s.usage.memory_pressure?.full.total)))),
    row(Pressure, Counter, "container_pressure_memory_waiting_seconds_total", "Total time duration tasks in the container have waited due to memory congestion.",
        Value::One(|s| Some(seconds(s.usage.memory_pressure?.some.total)))),
    row(Pressure, Counter, "container_pressure_io_stalled_seconds_total", "Total time duration no tasks in the container could make progress due to IO congestion.",
        Value::One(|s| Some(seconds(s.usage.io_pressure?.full.total)))),
    row(Pressure, Counter, "container_pressure_io_waiting_seconds_total", "Total time duration tasks in the container have waited due to IO congestion.",
        Value::One(|s| Some(seconds(s.usage.io_pressure?.some.total)))),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const ALL: [MetricGroup; 10] =
        [Cpu, Disk, DiskIo, Hugetlb, OfMemory, Network, Oom, Pressure, Process, Spec];

    #[test]
    fn all_names_are_described_once_and_only_those_asked_for() {
        let all = descriptors(&ALL);
        let names: BTreeSet<_> = all.iter().map(|descriptor| &descriptor.name).collect();
        assert_eq!((all.len(), names.len()), (56, 56));
        for descriptor in &all {
            assert_eq!(descriptor.label_keys[..5], BASE, "{}", descriptor.name);
            assert!(!descriptor.help.is_empty(), "{}", descriptor.name);
        }
        let none = descriptors(&[]);
        assert_eq!(none.len(), 1);
        assert_eq!(none[0].name, "container_last_seen");
        for (group, count) in [
            (Cpu, 6),
            (Disk, 4),
            (DiskIo, 5),
            (Hugetlb, 2),
            (OfMemory, 10),
            (Network, 8),
            (Oom, 1),
            (Pressure, 6),
            (Process, 6),
            (Spec, 7),
        ] {
            assert_eq!(descriptors(&[group]).len(), count + 1, "{group:?}");
        }
    }

    #[test]
    fn a_limit_that_is_none_is_zero() {
        for (value, expected) in [(0, 0), (-1, 0), (4096, 4096), (i64::MAX, 0), (1 << 62, 1 << 62)]
        {
            assert_eq!(limit(value), Some(expected), "{value}");
        }
    }
}
