//! Limits on memory, processor, huge pages and processes, in the runtime's form.
//!
//! The same function serves a new container and an update of a running one.

use std::collections::BTreeMap;
use std::collections::HashMap;

use oci_spec::runtime::LinuxCpu;
use oci_spec::runtime::LinuxHugepageLimit;
use oci_spec::runtime::LinuxMemory;
use oci_spec::runtime::LinuxPids;
use oci_spec::runtime::LinuxResources;

use crate::model::resources::HugepageLimit;
use crate::model::resources::Resources;
use crate::spec::error::SpecError;
use crate::spec::facts::ContainerFacts;
use crate::spec::facts::HostFacts;

/// The lowest memory limit with which runc starts a container: 12 MiB, as CRI-O sets it.
pub const LEAST_MEMORY: i64 = 12 << 20;

/// Gives the limits in the runtime's form; what is not stated is left out.
///
/// `least_memory` is the runtime handler's; zero takes [`LEAST_MEMORY`].
///
/// # Errors
///
/// [`SpecError::MemoryTooLow`], [`SpecError::SwapBelowMemory`], and [`SpecError::Field`] for a
/// number or text that no cgroup file takes.
pub fn linux_resources(
    wanted: &Resources,
    host: &HostFacts,
    least_memory: i64,
) -> Result<LinuxResources, SpecError> {
    let mut resources = LinuxResources::default();
    resources.set_memory(memory(wanted, host, least_memory)?);
    resources.set_cpu(cpu(wanted)?);
    resources.set_hugepage_limits(hugepages(&wanted.hugepages, host)?);
    if host.cgroup_v2 && !wanted.unified.is_empty() {
        resources.set_unified(Some(unified(&wanted.unified)?));
    }
    Ok(resources)
}

/// Makes the limits of a container: those asked for, and the node's limit on processes.
pub(super) fn container(facts: &ContainerFacts<'_>) -> Result<LinuxResources, SpecError> {
    let least = facts.handler.least_memory;
    let mut resources = linux_resources(&facts.config.resources, facts.host, least)?;
    if facts.host.pids && facts.defaults.pids_limit > 0 {
        let mut pids = LinuxPids::default();
        pids.set_limit(facts.defaults.pids_limit);
        resources.set_pids(Some(pids));
    }
    Ok(resources)
}

fn memory(
    wanted: &Resources,
    host: &HostFacts,
    least: i64,
) -> Result<Option<LinuxMemory>, SpecError> {
    let limit = wanted.memory_limit;
    if limit == 0 {
        return Ok(None);
    }
    let least = if least > 0 { least } else { LEAST_MEMORY };
    if limit > 0 && limit < least {
        return Err(SpecError::MemoryTooLow { limit, least });
    }
    let swap = if wanted.memory_swap_limit == 0 { limit } else { wanted.memory_swap_limit };
    if limit > 0 && swap > 0 && swap < limit {
        return Err(SpecError::SwapBelowMemory { swap, memory: limit });
    }
    let mut memory = LinuxMemory::default();
    memory.set_limit(Some(limit));
    // Equal limits leave no swap. Without swap accounting the file does not exist and the
    // runtime would fail.
    memory.set_swap(host.swap_accounting.then_some(swap));
    Ok(Some(memory))
}

fn cpu(wanted: &Resources) -> Result<Option<LinuxCpu>, SpecError> {
    let positive = |field, value: i64| match u64::try_from(value) {
        Ok(0) => Ok(None),
        Ok(value) => Ok(Some(value)),
        Err(_) => Err(SpecError::field(field, &value.to_string(), "is below zero")),
    };
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(positive("cpu_shares", wanted.cpu_shares)?);
    cpu.set_period(positive("cpu_period", wanted.cpu_period)?);
    cpu.set_quota((wanted.cpu_quota != 0).then_some(wanted.cpu_quota));
    cpu.set_cpus(list("cpuset_cpus", &wanted.cpuset_cpus)?);
    cpu.set_mems(list("cpuset_mems", &wanted.cpuset_mems)?);
    Ok((cpu != LinuxCpu::default()).then_some(cpu))
}

fn list(field: &'static str, text: &str) -> Result<Option<String>, SpecError> {
    let number = |text: &str| text.parse::<u32>().is_ok();
    let range = |part: &str| match part.split_once('-') {
        Some((from, to)) => number(from) && number(to),
        None => number(part),
    };
    if !text.is_empty() && !text.split(',').all(range) {
        return Err(SpecError::field(field, text, "is no list such as 0-3,7"));
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

fn hugepages(
    wanted: &[HugepageLimit],
    host: &HostFacts,
) -> Result<Option<Vec<LinuxHugepageLimit>>, SpecError> {
    // Without the controller nothing can be limited, and nothing could be used beyond it either.
    if host.hugepage_sizes.is_empty() {
        return Ok(None);
    }
    let mut limits = Vec::new();
    for limit in wanted {
        let known = host.hugepage_sizes.contains(&limit.page_size);
        if !known && limit.limit == 0 {
            continue;
        }
        if !known {
            let fault = "is no size of huge pages on this node";
            return Err(SpecError::field("hugepage_limits", &limit.page_size, fault));
        }
        let mut written = LinuxHugepageLimit::default();
        written.set_page_size(limit.page_size.clone());
        written.set_limit(i64::try_from(limit.limit).unwrap_or(i64::MAX));
        limits.push(written);
    }
    Ok((!limits.is_empty()).then_some(limits))
}

/// Checks names and values of cgroup files: a name with a slash would be a file elsewhere.
fn unified(wanted: &BTreeMap<String, String>) -> Result<HashMap<String, String>, SpecError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_');
    for (key, value) in wanted {
        let controller = key.split('.').next().unwrap_or_default();
        if !key.chars().all(legal) || key.contains("..") || controller.len() >= key.len() {
            return Err(SpecError::field("unified", key, "is no cgroup file"));
        }
        // `cgroup.procs` moves processes, `cgroup.subtree_control` takes controllers away.
        if controller.is_empty() || controller == "cgroup" {
            return Err(SpecError::field("unified", key, "is no limit"));
        }
        if value.chars().any(|c| c != '\n' && (c.is_control() || !c.is_ascii())) {
            return Err(SpecError::field("unified", value, "has a control character"));
        }
    }
    Ok(wanted.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> HostFacts {
        HostFacts {
            cgroup_v2: true,
            swap_accounting: true,
            hugepage_sizes: ["2MB".to_owned()].into(),
            ..HostFacts::default()
        }
    }

    fn limits(wanted: Resources) -> Result<LinuxResources, SpecError> {
        linux_resources(&wanted, &host(), 0)
    }

    #[test]
    fn what_is_not_stated_is_left_out() {
        assert_eq!(limits(Resources::default()).unwrap(), LinuxResources::default());
    }

    #[test]
    fn no_swap_unless_asked_for_and_only_with_accounting() {
        let wanted = Resources { memory_limit: 64 << 20, ..Resources::default() };
        let swap = |wanted: &Resources, host: &HostFacts| {
            let limits = linux_resources(wanted, host, 0).unwrap();
            limits.memory().as_ref().unwrap().swap()
        };
        assert_eq!(swap(&wanted, &host()), Some(64 << 20));
        assert_eq!(swap(&wanted, &HostFacts::default()), None);
        let more = Resources { memory_swap_limit: 65 << 20, ..wanted.clone() };
        assert_eq!(swap(&more, &host()), Some(65 << 20));
        let no_limit = Resources { memory_swap_limit: -1, ..wanted.clone() };
        assert_eq!(swap(&no_limit, &host()), Some(-1));
        let less = Resources { memory_swap_limit: 63 << 20, ..wanted };
        assert!(matches!(limits(less), Err(SpecError::SwapBelowMemory { .. })));
    }

    #[test]
    fn a_limit_too_low_to_start_is_refused() {
        let wanted = Resources { memory_limit: LEAST_MEMORY - 1, ..Resources::default() };
        let error = limits(wanted.clone()).unwrap_err();
        assert!(error.to_string().contains("12582912"), "{error}");
        assert!(linux_resources(&wanted, &host(), 500 << 10).is_ok());
    }

    #[test]
    fn processor_limits_are_written() {
        let wanted = Resources {
            cpu_period: 100_000,
            cpu_quota: -1,
            cpu_shares: 512,
            cpuset_cpus: "0-3,7".into(),
            ..Resources::default()
        };
        let limits_found = limits(wanted.clone()).unwrap();
        let cpu = limits_found.cpu().as_ref().unwrap();
        assert_eq!((cpu.period(), cpu.quota()), (Some(100_000), Some(-1)));
        assert_eq!((cpu.shares(), cpu.cpus().as_deref()), (Some(512), Some("0-3,7")));
        for bad in ["0-", "a", "1,,2", "0\n1", "-1"] {
            let wanted = Resources { cpuset_cpus: bad.into(), ..wanted.clone() };
            assert!(limits(wanted).is_err(), "{bad:?}");
        }
        assert!(limits(Resources { cpu_shares: -1, ..wanted }).is_err());
    }

    #[test]
    fn huge_pages_of_this_node_only() {
        let page = |size: &str, limit| HugepageLimit { page_size: size.into(), limit };
        let wanted = |pages: &[HugepageLimit]| Resources {
            hugepages: pages.to_vec(),
            ..Resources::default()
        };
        let found = limits(wanted(&[page("2MB", u64::MAX), page("1GB", 0)])).unwrap();
        let found = found.hugepage_limits().as_ref().unwrap();
        assert_eq!((found.len(), found[0].limit()), (1, i64::MAX));
        assert!(limits(wanted(&[page("../x", 1)])).is_err());
    }

    #[test]
    fn a_unified_key_is_a_limit_in_the_container_s_own_cgroup_cve_2023_6476() {
        let one = |key: &str, value: &str| {
            let unified = BTreeMap::from([(key.to_owned(), value.to_owned())]);
            limits(Resources { unified, ..Resources::default() })
        };
        assert!(one("memory.high", "10485760").unwrap().unified().is_some());
        assert!(one("io.max", "8:0 rbps=1\n8:1 rbps=2\n").is_ok());
        for key in ["../x.max", "cgroup.procs", "memory", "", ".x", "a/b.c", "memory..x"] {
            assert!(one(key, "1").is_err(), "{key}");
        }
        assert!(one("memory.high", "1\0").is_err());
    }
}
