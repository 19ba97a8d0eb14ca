//! Limits of a container or pod, as the kubelet states them. Zero and empty mean "not stated".

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Serialize;

/// Limits on processor, memory and huge pages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// The period of the processor quota, in microseconds.
    pub cpu_period: i64,
    /// Processor time in each period, in microseconds; below zero is no limit.
    pub cpu_quota: i64,
    /// Weight against others, 2 to 262144.
    pub cpu_shares: i64,
    /// Memory, in bytes.
    pub memory_limit: i64,
    /// Memory and swap together, in bytes.
    pub memory_swap_limit: i64,
    /// −1000 to 1000.
    pub oom_score_adj: i64,
    /// Processors, as `0-3,7`.
    pub cpuset_cpus: String,
    /// Memory nodes, as `0-1`.
    pub cpuset_mems: String,
    /// Huge pages by size (`2MB`), in bytes.
    pub hugepages: Vec<HugepageLimit>,
    /// cgroup v2 files and what to write there.
    pub unified: BTreeMap<String, String>,
}

/// The limit for huge pages of one size.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HugepageLimit {
    /// The size in the kernel's words: `2MB`, `1GB`.
    pub page_size: String,
    /// In bytes.
    pub limit: u64,
}
