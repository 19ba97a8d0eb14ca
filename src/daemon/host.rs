//! What this host, and this daemon on it, can do.

use std::collections::BTreeSet;
use std::path::Path;

use caps::CapSet;
use caps::Capability;
use nix::sys::resource::Resource;
use nix::sys::resource::getrlimit;
use oci_spec::runtime::Capabilities;
use oci_spec::runtime::PosixRlimitType;

use crate::spec::facts::HostFacts;
use crate::spec::process::Ulimit;

/// Looks at the host. The second part is what an administrator should know.
pub(super) fn look() -> (HostFacts, Vec<String>) {
    let bounding = caps::read(None, CapSet::Bounding).unwrap_or_default();
    let known = caps::all();
    let may_raise = bounding.contains(&Capability::CAP_SYS_RESOURCE);
    let mut warnings = Vec::new();
    let missing: Vec<String> = known
        .iter()
        .filter(|capability| !bounding.contains(*capability) && is_supported(**capability))
        .map(ToString::to_string)
        .collect();
    if !missing.is_empty() {
        warnings.push(format!(
            "this daemon's bounding set lacks {}: containers cannot have them either, and limits \
             that need them are clamped",
            missing.join(", ")
        ));
    }
    let facts = HostFacts {
        cgroup_v2: Path::new("/sys/fs/cgroup/cgroup.controllers").exists(),
        swap_accounting: swap_accounting(),
        pids: Path::new("/sys/fs/cgroup/pids").exists() || controller_v2("pids"),
        hugepage_sizes: hugepage_sizes(),
        capabilities: named(&known.into_iter().filter(|c| is_supported(*c)).collect::<Vec<_>>()),
        bounding: named(&bounding.into_iter().collect::<Vec<_>>()),
        oom_score_floor: (!may_raise).then(own_oom_score),
        hard_limits: if may_raise { Vec::new() } else { hard_limits() },
        seccomp: Path::new("/proc/sys/kernel/seccomp").exists(),
        apparmor: crate::sys::apparmor::is_enabled(),
        selinux: crate::sys::selinux::is_enabled(),
        // They come and go: who makes a privileged container looks.
        devices: Vec::new(),
        masked_paths: thermal_throttles(),
    };
    (facts, warnings)
}

/// The kernel may be older than the list of capabilities: it says the last one it knows.
fn is_supported(capability: Capability) -> bool {
    let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap");
    let last: u8 = last.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(40);
    capability.index() <= last
}

fn named(capabilities: &[Capability]) -> Capabilities {
    capabilities
        .iter()
        .filter_map(|capability| crate::spec::capabilities::parse(&capability.to_string()))
        .collect()
}

fn swap_accounting() -> bool {
    let v1 = Path::new("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists();
    let slice = Path::new("/sys/fs/cgroup/system.slice/memory.swap.max").exists();
    v1 || slice || (controller_v2("memory") && Path::new("/proc/swaps").exists())
}

fn controller_v2(name: &str) -> bool {
    let text = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    text.split_whitespace().any(|controller| controller == name)
}

/// `hugepages-2048kB` in the kernel is `2MB` in a limit. The kubelet sends limits for all sizes,
/// also where cgroups cannot limit any.
fn hugepage_sizes() -> BTreeSet<String> {
    if !Path::new("/sys/fs/cgroup/hugetlb/cgroup.procs").exists() && !controller_v2("hugetlb") {
        return BTreeSet::new();
    }
    let Ok(entries) = std::fs::read_dir("/sys/kernel/mm/hugepages") else { return BTreeSet::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| {
            let kilobytes: u64 =
                name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            Some(match kilobytes {
                size if size >= 1024 * 1024 => format!("{}GB", size / 1024 / 1024),
                size if size >= 1024 => format!("{}MB", size / 1024),
                size => format!("{size}KB"),
            })
        })
        .collect()
}

fn own_oom_score() -> i32 {
    let text = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

fn hard_limits() -> Vec<Ulimit> {
    let kinds = [
        (Resource::RLIMIT_AS, PosixRlimitType::RlimitAs),
        (Resource::RLIMIT_CORE, PosixRlimitType::RlimitCore),
        (Resource::RLIMIT_CPU, PosixRlimitType::RlimitCpu),
        (Resource::RLIMIT_DATA, PosixRlimitType::RlimitData),
        (Resource::RLIMIT_FSIZE, PosixRlimitType::RlimitFsize),
        (Resource::RLIMIT_LOCKS, PosixRlimitType::RlimitLocks),
        (Resource::RLIMIT_MEMLOCK, PosixRlimitType::RlimitMemlock),
        (Resource::RLIMIT_MSGQUEUE, PosixRlimitType::RlimitMsgqueue),
        (Resource::RLIMIT_NICE, PosixRlimitType::RlimitNice),
        (Resource::RLIMIT_NOFILE, PosixRlimitType::RlimitNofile),
        (Resource::RLIMIT_NPROC, PosixRlimitType::RlimitNproc),
        (Resource::RLIMIT_RTPRIO, PosixRlimitType::RlimitRtprio),
        (Resource::RLIMIT_SIGPENDING, PosixRlimitType::RlimitSigpending),
        (Resource::RLIMIT_STACK, PosixRlimitType::RlimitStack),
    ];
    let limit = |(resource, kind): (Resource, PosixRlimitType)| {
        let (soft, hard) = getrlimit(resource).ok()?;
        Some(Ulimit { kind, soft, hard })
    };
    kinds.into_iter().filter_map(limit).collect()
}

/// These tell a container what its neighbours do (as the field masks them).
fn thermal_throttles() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/sys/devices/system/cpu") else { return Vec::new() };
    entries
        .flatten()
        .map(|entry| entry.path().join("thermal_throttle"))
        .filter(|path| path.exists())
        .filter_map(|path| path.to_str().map(str::to_owned))
        .collect()
}
