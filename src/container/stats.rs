//! What containers use.
//!
//! A look reads some small files of each container's cgroup, one container after another: no
//! program is started and nothing waits for anything. Nearly all of it is time of the kernel, so
//! many containers are looked at by two threads. Only the size of a writable layer can take long,
//! so that has its own ways (`layers`).
//!
//! Looks are taken when someone asks, or, where the node is configured so, by a task every some
//! seconds, and then everyone is shown the last one.

mod layers;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use futures_util::future::try_join_all;

use crate::container::Containers;
use crate::container::Parts;
use crate::container::blocking;
use crate::container::error::ContainerError;
use crate::container::now;
use crate::model::container::ContainerState;
use crate::model::ids::ContainerId;
use crate::model::stats::Details;
use crate::model::stats::MetricGroup;
use crate::model::stats::Rates;
use crate::model::stats::Usage;
use crate::model::stats::WritableLayer;
use crate::runtime::Meter;
use crate::state::ContainerRecord;

/// How many threads look at containers for one request, and how many containers are worth one.
const LOOKERS: usize = 2;
const WORTH_A_LOOKER: usize = 16;

/// What a container used at one moment.
#[derive(Debug, Clone)]
pub struct ContainerStats {
    /// The container.
    pub record: Arc<ContainerRecord>,
    /// When, in nanoseconds since 1970.
    pub taken: i64,
    /// What its cgroup counts.
    pub usage: Usage,
    /// Processor time in nanoseconds a second, lately; not known at the first look.
    pub nano_cores: Option<u64>,
    /// What it wrote.
    pub layer: Option<WritableLayer>,
    /// What only metrics show.
    pub details: Details,
}

/// What is kept between looks.
#[derive(Debug, Default)]
pub(super) struct Looks {
    rates: Rates<ContainerId>,
    layers: layers::Layers,
    /// What the task collected last; empty without it.
    collected: Mutex<HashMap<ContainerId, Arc<ContainerStats>>>,
}

impl Looks {
    /// Drops what is kept of a container that is gone.
    pub(super) fn forget(&self, id: &ContainerId) {
        self.rates.forget(id);
        self.layers.forget(id);
        self.collected.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

impl Containers {
    /// What those of these containers use that have not ended, as it was collected last, or now.
    ///
    /// # Errors
    ///
    /// [`ContainerError::Runtime`] where the host has no cgroups.
    pub async fn stats(
        &self,
        mut records: Vec<Arc<ContainerRecord>>,
    ) -> Result<Vec<Arc<ContainerStats>>, ContainerError> {
        let mut found = Vec::with_capacity(records.len());
        {
            let collected = self.looks.collected.lock().unwrap_or_else(PoisonError::into_inner);
            records.retain(|record| match collected.get(&record.id) {
                Some(stats) => {
                    found.extend(runs(record).then(|| Arc::clone(stats)));
                    false
                }
                None => runs(record),
            });
        }
        if !records.is_empty() {
            found.extend(self.look(records, Arc::default()).await?);
        }
        Ok(found)
    }

    /// Looks now at what those of these containers use that have not ended, with what metrics of
    /// these groups show.
    ///
    /// # Errors
    ///
    /// As [`Containers::stats`].
    pub async fn look(
        &self,
        records: Vec<Arc<ContainerRecord>>,
        groups: Arc<[MetricGroup]>,
    ) -> Result<Vec<Arc<ContainerStats>>, ContainerError> {
        let each = records.len().div_ceil(LOOKERS).max(WORTH_A_LOOKER);
        let some = records.chunks(each).map(|some| self.look_at(some.to_vec(), &groups));
        let stats = try_join_all(some).await?;
        self.looks.layers.measure_due();
        Ok(stats.into_iter().flatten().collect())
    }

    async fn look_at(
        &self,
        records: Vec<Arc<ContainerRecord>>,
        groups: &Arc<[MetricGroup]>,
    ) -> Result<Vec<Arc<ContainerStats>>, ContainerError> {
        let (parts, looks) = (self.parts(), Arc::clone(&self.looks));
        let groups = Arc::clone(groups);
        blocking(move || {
            let meter = parts.runtime.meter()?;
            let records = records.into_iter().filter(|record| runs(record));
            let stats = records.map(|record| {
                let stats = look(&parts, &looks, &meter, record, &groups);
                // One that is removed meanwhile has been forgotten already.
                if parts.records.containers.by_id(&stats.record.id).is_none() {
                    looks.forget(&stats.record.id);
                }
                Arc::new(stats)
            });
            Ok(stats.collect())
        })
        .await
    }

    /// Keeps what was collected; everyone who asks is shown this until the next time.
    pub fn keep_collected(&self, stats: impl Iterator<Item = Arc<ContainerStats>>) {
        let collected = stats.map(|stats| (stats.record.id.clone(), stats)).collect();
        *self.looks.collected.lock().unwrap_or_else(PoisonError::into_inner) = collected;
    }
}

/// An ended container uses nothing but its layer, and the kubelet does not want to hear of it.
fn runs(record: &ContainerRecord) -> bool {
    record.state != ContainerState::Exited
}

fn look(
    parts: &Parts,
    looks: &Arc<Looks>,
    meter: &Meter,
    record: Arc<ContainerRecord>,
    groups: &[MetricGroup],
) -> ContainerStats {
    let (id, parent) = (&record.id, record.cgroup_parent.as_str());
    let usage = meter.container(parent, id);
    let taken = now();
    let nano_cores = usage.cpu.and_then(|total| looks.rates.look(id.clone(), taken, total));
    let mut details = if groups.is_empty() {
        Details::default()
    } else {
        meter.details(parent, id, record.pid, groups)
    };
    let layer = looks.layers.look(id, &parts.store, taken);
    if groups.contains(&MetricGroup::Disk) {
        details.filesystem = looks.layers.filesystem(id);
    }
    ContainerStats { record, taken, usage, nano_cores, layer, details }
}
