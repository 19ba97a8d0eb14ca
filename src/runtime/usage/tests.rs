use super::*;
use crate::model::stats::CpuDetails;
use crate::model::stats::MemoryDetails;
use crate::sys::files;
use crate::sys::files::Durability;

const POD: &str = "/kubepods/pod1";
const SWAP_OF_NODE: u64 = 1 << 30;

/// A host with these files in the cgroup of one container, and a meter of it.
struct Host {
    directory: tempfile::TempDir,
    meter: Meter,
    id: ContainerId,
}

impl Host {
    fn new(mounts: &[(&str, &str)], files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let line = |(name, kind): &(&str, &str)| {
            format!("1 1 0:1 / {}/{name} rw - {kind}\n", directory.path().display())
        };
        let mountinfo: String = mounts.iter().map(line).collect();
        let cgroups = Cgroups::parse(&mountinfo).unwrap();
        let meter = Meter { cgroups, manager: CgroupManager::Cgroupfs, swap_of_node: SWAP_OF_NODE };
        let id: ContainerId = "a".repeat(64).parse().unwrap();
        for (name, text) in files {
            let (mount, file) = name.split_once('/').unwrap();
            let group = directory.path().join(mount).join(format!("kubepods/pod1/crio-{id}"));
            std::fs::create_dir_all(&group).unwrap();
            files::replace(&group.join(file), text.as_bytes(), 0o600, Durability::Process).unwrap();
        }
        Self { directory, meter, id }
    }

    fn v2(files: &[(&str, &str)]) -> Self {
        Self::new(&[("unified", "cgroup2 cgroup2 rw,nsdelegate")], files)
    }

    fn v1(files: &[(&str, &str)]) -> Self {
        let mounts = [
            ("cpu", "cgroup cgroup rw,cpu,cpuacct"),
            ("memory", "cgroup cgroup rw,memory"),
            ("pids", "cgroup cgroup rw,pids"),
            ("blkio", "cgroup cgroup rw,blkio"),
            ("systemd", "cgroup cgroup rw,xattr,name=systemd"),
            ("unified", "cgroup2 cgroup2 rw"),
        ];
        Self::new(&mounts, files)
    }

    fn usage(&self) -> Usage {
        self.meter.container(POD, &self.id)
    }

    fn details(&self) -> Details {
        let groups = [
            MetricGroup::Cpu,
            MetricGroup::Memory,
            MetricGroup::Oom,
            MetricGroup::DiskIo,
            MetricGroup::Process,
        ];
        self.meter.details(POD, &self.id, i32::MAX, &groups)
    }
}

const PRESSURE: &str = "some avg10=1.50 avg60=0.36 avg300=0.08 total=168\n\
                        full avg10=0.00 avg60=0.10 avg300=0.02 total=7\n";

/// As a kernel 6.12 has them.
const V2: &[(&str, &str)] = &[
    (
        "unified/cpu.stat",
        "usage_usec 5000\nuser_usec 3000\nsystem_usec 2000\nnice_usec 0\n\
         core_sched.force_idle_usec 0\nnr_periods 10\nnr_throttled 3\nthrottled_usec 700\n\
         nr_bursts 0\nburst_usec 0\n",
    ),
    ("unified/memory.current", "10485760\n"),
    ("unified/memory.max", "67108864\n"),
    ("unified/memory.peak", "20971520\n"),
    ("unified/memory.swap.current", "4096\n"),
    ("unified/memory.swap.max", "max\n"),
    (
        "unified/memory.stat",
        "anon 4194304\nfile 3145728\nkernel 1048576\nkernel_stack 65536\npagetables 131072\n\
         file_mapped 524288\nfile_dirty 0\ninactive_anon 0\nactive_anon 4194304\n\
         inactive_file 2097152\nactive_file 1048576\npgfault 1234\npgmajfault 5\n",
    ),
    ("unified/memory.events", "low 0\nhigh 0\nmax 9\noom 2\noom_kill 1\noom_group_kill 0\n"),
    ("unified/pids.current", "7\n"),
    ("unified/pids.max", "1024\n"),
    ("unified/io.stat", "8:16 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n254:0 \n"),
    ("unified/cpu.pressure", PRESSURE),
    ("unified/memory.pressure", PRESSURE),
    ("unified/io.pressure", PRESSURE),
    ("unified/cgroup.procs", "2147483646\n2147483645\n0\n"),
];

#[test]
fn version_2_says_it_in_its_files() {
    let host = Host::v2(V2);
    let usage = host.usage();
    assert_eq!((usage.cpu, usage.tasks), (Some(5_000_000), Some(7)));
    let memory = usage.memory.unwrap();
    assert_eq!(
        memory,
        Memory {
            usage: 10_485_760,
            working_set: 10_485_760 - 2_097_152,
            rss: 4_194_304,
            limit: 67_108_864,
            faults: 1234,
            major_faults: 5,
        }
    );
    assert_eq!(memory.available(), 67_108_864 - memory.working_set);
    // No limit: what the node has.
    assert_eq!(usage.swap, Some(Swap { usage: 4096, available: SWAP_OF_NODE - 4096 }));
    let pressure = usage.io_pressure.unwrap();
    assert_eq!((pressure.some.total, pressure.full.total), (168_000, 7_000));
    assert_eq!((usage.cpu_pressure, usage.memory_pressure), (Some(pressure), Some(pressure)));

    let details = host.details();
    let io = |operation: &str, bytes, count| DeviceIo {
        major: 8,
        minor: 16,
        operation: operation.to_owned(),
        bytes: Some(bytes),
        count: Some(count),
    };
    assert_eq!(details.io, [io("read", 4096, 1), io("write", 8192, 2), io("discard", 0, 0)]);
    assert_eq!(details.oom_kills, Some(1));
    let cpu = CpuDetails {
        user: Some(3_000_000),
        system: Some(2_000_000),
        each: vec![],
        periods: Some(10),
        throttled_periods: Some(3),
        throttled: Some(700_000),
    };
    assert_eq!(details.cpu, cpu);
    let memory = MemoryDetails {
        cache: Some(3_145_728),
        kernel: Some(1_048_576),
        mapped_file: Some(524_288),
        max_usage: Some(20_971_520),
        limit_hits: Some(9),
    };
    assert_eq!(details.memory, memory);
    let processes = details.processes.unwrap();
    // Those of another PID namespace are none; of those that are gone nothing is open.
    assert_eq!((processes.processes, processes.descriptors, processes.tasks_max), (2, 0, 1024));
}

/// As a kernel 6.18 has them in the hybrid layout.
const V1: &[(&str, &str)] = &[
    ("cpu/cpuacct.usage", "5000000\n"),
    ("cpu/cpuacct.stat", "user 300\nsystem 200\n"),
    ("cpu/cpuacct.usage_percpu", "4000000 1000000 \n"),
    ("cpu/cpu.stat", "nr_periods 10\nnr_throttled 3\nthrottled_time 700000\n"),
    ("memory/memory.usage_in_bytes", "10485760\n"),
    ("memory/memory.max_usage_in_bytes", "20971520\n"),
    ("memory/memory.limit_in_bytes", "67108864\n"),
    ("memory/memory.memsw.limit_in_bytes", "134217728\n"),
    ("memory/memory.failcnt", "9\n"),
    ("memory/memory.kmem.usage_in_bytes", "1048576\n"),
    ("memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"),
    (
        "memory/memory.stat",
        "cache 1\nrss 1\nmapped_file 1\nswap 1\npgfault 1\npgmajfault 1\ninactive_file 1\n\
         hierarchical_memory_limit 67108864\ntotal_cache 3145728\ntotal_rss 4194304\n\
         total_mapped_file 524288\ntotal_swap 4096\ntotal_pgfault 1234\ntotal_pgmajfault 5\n\
         total_inactive_file 2097152\n",
    ),
    ("pids/pids.current", "7\n"),
    ("pids/pids.max", "max\n"),
    (
        "blkio/blkio.throttle.io_service_bytes_recursive",
        "8:16 Read 4096\n8:16 Write 8192\n8:16 Sync 0\n8:16 Total 12288\nTotal 12288\n",
    ),
    ("blkio/blkio.throttle.io_serviced_recursive", "8:16 Read 1\n8:16 Write 2\nTotal 3\n"),
    ("unified/cpu.pressure", PRESSURE),
];

#[test]
fn version_1_says_the_same_in_other_words() {
    let (v1, v2) = (Host::v1(V1), Host::v2(V2));
    let (usage, same) = (v1.usage(), v2.usage());
    assert_eq!(
        (usage.cpu, usage.memory, usage.tasks, usage.cpu_pressure),
        (same.cpu, same.memory, same.tasks, same.cpu_pressure)
    );
    assert_eq!((usage.memory_pressure, usage.io_pressure), (None, None));
    assert_eq!(usage.swap, Some(Swap { usage: 4096, available: 67_108_864 - 4096 }));
    let (details, same) = (v1.details(), v2.details());
    assert_eq!((details.oom_kills, &details.memory), (same.oom_kills, &same.memory));
    assert_eq!(details.io[..2], same.io[..2]);
    assert_eq!((details.io[2].operation.as_str(), details.io[2].count), ("sync", None));
    assert_eq!(details.cpu.each, [4_000_000, 1_000_000]);
    assert_eq!(
        (details.cpu.user, details.cpu.system, details.cpu.throttled),
        (Some(3_000_000_000), Some(2_000_000_000), Some(700_000))
    );
    assert_eq!(details.processes.unwrap().tasks_max, 0);
}

#[test]
fn no_limit_is_no_limit_in_both_versions() {
    for (host, limit) in [
        (Host::v1(V1), "memory/kubepods/pod1/crio-ID/memory.limit_in_bytes"),
        (Host::v2(V2), "unified/kubepods/pod1/crio-ID/memory.max"),
    ] {
        let path = host.directory.path().join(limit.replace("ID", host.id.as_str()));
        for text in ["9223372036854771712\n", "max\n"] {
            files::replace(&path, text.as_bytes(), 0o600, Durability::Process).unwrap();
            let memory = host.usage().memory.unwrap();
            let is_none = memory.limit == u64::MAX || host.meter.cgroups.version() == Version::V2;
            assert!(is_none, "{limit} {text}: {memory:?}");
        }
        assert_eq!(host.usage().memory.unwrap().available(), 0);
    }
}

#[test]
fn a_file_that_is_missing_or_garbled_takes_no_other_with_it() {
    for gone in ["unified/memory.swap.current", "unified/cpu.pressure", "unified/pids.current"] {
        let files: Vec<_> = V2.iter().filter(|(name, _)| *name != gone).copied().collect();
        let usage = Host::v2(&files).usage();
        assert!(usage.cpu.is_some() && usage.memory.is_some() && usage.io_pressure.is_some());
        let missing = [usage.swap.is_none(), usage.cpu_pressure.is_none(), usage.tasks.is_none()];
        assert_eq!(missing.iter().filter(|missing| **missing).count(), 1, "{gone}: {usage:?}");
    }
    for garbage in ["", "\n", "garbage", "-1\n", "usage_usec\n", "99999999999999999999999\n"] {
        let files: Vec<_> = V2.iter().map(|(name, _)| (*name, garbage)).collect();
        let host = Host::v2(&files);
        let usage = host.usage();
        assert_eq!(usage, Usage::default(), "{garbage:?}");
        let details = host.details();
        assert_eq!((details.oom_kills, details.io.len()), (None, 0), "{garbage:?}");
    }
    assert_eq!(Host::v2(&[]).usage(), Usage::default());
    assert_eq!(Host::v1(&[]).usage(), Usage::default());
}

#[test]
fn the_largest_numbers_do_not_wrap() {
    let large = u64::MAX.to_string();
    let stat = format!("inactive_file {large}\nanon {large}\n");
    let cpu = format!("usage_usec {large}\nuser_usec {large}\n");
    let host = Host::v2(&[
        ("unified/cpu.stat", &cpu),
        ("unified/memory.current", "4096"),
        ("unified/memory.max", "0"),
        ("unified/memory.stat", &stat),
        ("unified/memory.swap.current", &large),
    ]);
    let usage = host.usage();
    assert_eq!(usage.cpu, Some(u64::MAX));
    let memory = usage.memory.unwrap();
    assert_eq!((memory.working_set, memory.available()), (0, 0));
    assert_eq!(usage.swap, Some(Swap { usage: u64::MAX, available: 0 }));
}

#[test]
fn a_pod_has_its_own_cgroup_or_none() {
    let host = Host::v2(V2);
    assert_eq!(host.meter.pod(""), None);
    assert_eq!(host.meter.pod("/kubepods/../../etc"), None);
    assert_eq!(host.meter.pod("/kubepods/pod2"), Some(Usage::default()));
    let own = format!("/kubepods/pod1/crio-{}", host.id);
    assert_eq!(host.meter.pod(&own), Some(host.usage()));
}

#[test]
fn sizes_of_huge_pages_are_named_as_the_kernel_names_them() {
    for (directory, expected) in [
        ("hugepages-64kB", Some("64KB")),
        ("hugepages-2048kB", Some("2MB")),
        ("hugepages-1048576kB", Some("1GB")),
        ("hugepages-x", None),
        ("../etc", None),
    ] {
        assert_eq!(page_size(directory).as_deref(), expected, "{directory}");
    }
}
