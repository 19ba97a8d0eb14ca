//! Limits, both ways.

use std::collections::BTreeMap;

use crate::cri::api;
use crate::model::resources::HugepageLimit;
use crate::model::resources::Resources;

/// Our limits from the kubelet's.
#[must_use]
pub fn from_proto(from: &api::LinuxContainerResources) -> Resources {
    Resources {
        cpu_period: from.cpu_period,
        cpu_quota: from.cpu_quota,
        cpu_shares: from.cpu_shares,
        memory_limit: from.memory_limit_in_bytes,
        memory_swap_limit: from.memory_swap_limit_in_bytes,
        oom_score_adj: from.oom_score_adj,
        cpuset_cpus: from.cpuset_cpus.clone(),
        cpuset_mems: from.cpuset_mems.clone(),
        hugepages: from
            .hugepage_limits
            .iter()
            .map(|limit| HugepageLimit { page_size: limit.page_size.clone(), limit: limit.limit })
            .collect(),
        unified: from.unified.clone().into_iter().collect::<BTreeMap<_, _>>(),
    }
}

/// The kubelet's limits from ours.
#[must_use]
pub fn to_proto(from: &Resources) -> api::LinuxContainerResources {
    api::LinuxContainerResources {
        cpu_period: from.cpu_period,
        cpu_quota: from.cpu_quota,
        cpu_shares: from.cpu_shares,
        memory_limit_in_bytes: from.memory_limit,
        memory_swap_limit_in_bytes: from.memory_swap_limit,
        oom_score_adj: from.oom_score_adj,
        cpuset_cpus: from.cpuset_cpus.clone(),
        cpuset_mems: from.cpuset_mems.clone(),
        hugepage_limits: from
            .hugepages
            .iter()
            .map(|limit| api::HugepageLimit {
                page_size: limit.page_size.clone(),
                limit: limit.limit,
            })
            .collect(),
        unified: from.unified.clone().into_iter().collect(),
    }
}
