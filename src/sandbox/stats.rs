//! What pods use: their cgroup, their network, and their containers.
//!
//! As with containers, a look is taken when someone asks, or by a task every some seconds.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use crate::container::ContainerStats;
use crate::model::ids::SandboxId;
use crate::model::sandbox::SandboxState;
use crate::model::stats::Interface;
use crate::model::stats::Memory;
use crate::model::stats::MetricGroup;
use crate::model::stats::Rates;
use crate::model::stats::Usage;
use crate::network;
use crate::sandbox::Sandboxes;
use crate::sandbox::blocking;
use crate::sandbox::error::SandboxError;
use crate::sandbox::now;
use crate::state::ContainerRecord;
use crate::state::SandboxRecord;

/// What a pod used at one moment.
#[derive(Debug, Clone)]
pub struct PodStats {
    /// The sandbox.
    pub record: Arc<SandboxRecord>,
    /// When, in nanoseconds since 1970.
    pub taken: i64,
    /// Whether a task took it some time before it was asked for.
    pub is_kept: bool,
    /// What its cgroup counts, or its containers' together.
    pub usage: Usage,
    /// Processor time in nanoseconds a second, lately; not known at the first look.
    pub nano_cores: Option<u64>,
    /// Its interfaces; the node's for a pod in the node's network. `None` for a pod without one.
    pub interfaces: Option<Vec<Interface>>,
    /// Its containers that have not ended.
    pub containers: Vec<Arc<ContainerStats>>,
}

/// What is kept between looks.
#[derive(Debug, Default)]
pub(super) struct Looks {
    rates: Rates<SandboxId>,
    /// What the task collected last; empty without it.
    collected: Mutex<HashMap<SandboxId, Arc<PodStats>>>,
}

impl Looks {
    /// Drops what is kept of a sandbox that is gone.
    pub(super) fn forget(&self, id: &SandboxId) {
        self.rates.forget(id);
        self.collected.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

impl Sandboxes {
    /// What these pods use, as it was collected last, or now.
    ///
    /// # Errors
    ///
    /// [`SandboxError`] where the host has no cgroups or no thread.
    pub async fn stats(
        &self,
        mut records: Vec<Arc<SandboxRecord>>,
        groups: Arc<[MetricGroup]>,
    ) -> Result<Vec<Arc<PodStats>>, SandboxError> {
        let mut found = Vec::with_capacity(records.len());
        {
            let collected = self.looks.collected.lock().unwrap_or_else(PoisonError::into_inner);
            records.retain(|record| {
                let kept = collected.get(&record.id);
                found.extend(kept.map(Arc::clone));
                kept.is_none()
            });
        }
        if !records.is_empty() {
            found.extend(self.look(records, groups, false).await?);
        }
        Ok(found)
    }

    /// Looks at all pods and their containers, and keeps what it saw for those who ask.
    ///
    /// # Errors
    ///
    /// As [`Sandboxes::stats`].
    pub async fn collect_stats(&self, groups: Arc<[MetricGroup]>) -> Result<(), SandboxError> {
        let stats = self.look(self.list(), groups, true).await?;
        let containers = stats.iter().flat_map(|pod| pod.containers.iter().map(Arc::clone));
        self.parts().containers.keep_collected(containers);
        let collected = stats.into_iter().map(|stats| (stats.record.id.clone(), stats)).collect();
        *self.looks.collected.lock().unwrap_or_else(PoisonError::into_inner) = collected;
        Ok(())
    }

    async fn look(
        &self,
        records: Vec<Arc<SandboxRecord>>,
        groups: Arc<[MetricGroup]>,
        is_kept: bool,
    ) -> Result<Vec<Arc<PodStats>>, SandboxError> {
        let mut containers = self.containers_of(&records, groups).await?;
        let (parts, looks) = (self.parts(), Arc::clone(&self.looks));
        blocking(move || {
            let meter = parts.runtime.meter()?;
            let networks = records.iter().filter(|record| has_network(record));
            let networks = networks.map(|record| record.namespaces.net.clone()).collect();
            let mut interfaces = network::counters(networks)?.into_iter();
            let stats = records.into_iter().map(|record| {
                let containers = containers.remove(&record.id).unwrap_or_default();
                let usage = meter.pod(&record.config.cgroup_parent);
                let usage = usage.unwrap_or_else(|| sum(&containers));
                let taken = now();
                let rate = |total| looks.rates.look(record.id.clone(), taken, total);
                let nano_cores = usage.cpu.and_then(rate);
                // One that is removed meanwhile has been forgotten already.
                if parts.records.sandboxes.by_id(&record.id).is_none() {
                    looks.forget(&record.id);
                }
                let interfaces = has_network(&record).then(|| interfaces.next()).flatten();
                Arc::new(PodStats {
                    interfaces: interfaces.flatten(),
                    record,
                    taken,
                    is_kept,
                    usage,
                    nano_cores,
                    containers,
                })
            });
            Ok(stats.collect())
        })
        .await
    }

    /// What the containers of these pods use, by pod, oldest first.
    async fn containers_of(
        &self,
        records: &[Arc<SandboxRecord>],
        groups: Arc<[MetricGroup]>,
    ) -> Result<HashMap<SandboxId, Vec<Arc<ContainerStats>>>, SandboxError> {
        let mut all: HashMap<SandboxId, Vec<_>> =
            records.iter().map(|record| (record.id.clone(), Vec::new())).collect();
        let mut wanted: Vec<Arc<ContainerRecord>> = self.parts().containers.list();
        wanted.retain(|record| all.contains_key(&record.sandbox));
        wanted.sort_by_key(|record| record.created);
        let looked = self.parts().containers.look(wanted, groups).await;
        for stats in looked.map_err(SandboxError::Stats)? {
            all.entry(stats.record.sandbox.clone()).or_default().push(stats);
        }
        Ok(all)
    }
}

/// A stopped pod has none any more, wherever its namespace was pinned.
fn has_network(record: &SandboxRecord) -> bool {
    record.state == SandboxState::Ready
}

/// A pod that shares the default parent with others uses what its containers use.
fn sum(containers: &[Arc<ContainerStats>]) -> Usage {
    let mut sum = Usage::default();
    let add = |to: &mut Option<u64>, more: Option<u64>| {
        if let Some(more) = more {
            *to = Some(to.unwrap_or_default().saturating_add(more));
        }
    };
    for usage in containers.iter().map(|stats| &stats.usage) {
        add(&mut sum.cpu, usage.cpu);
        add(&mut sum.tasks, usage.tasks);
        if let Some(more) = &usage.memory {
            let known = sum.memory.unwrap_or_default();
            sum.memory = Some(Memory {
                usage: known.usage.saturating_add(more.usage),
                working_set: known.working_set.saturating_add(more.working_set),
                rss: known.rss.saturating_add(more.rss),
                limit: u64::MAX,
                faults: known.faults.saturating_add(more.faults),
                major_faults: known.major_faults.saturating_add(more.major_faults),
            });
        }
    }
    sum
}
