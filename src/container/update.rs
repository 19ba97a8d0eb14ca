//! Changes a container's limits while it lives.

use crate::container::Containers;
use crate::container::error::ContainerError;
use crate::model::container::ContainerState;
use crate::model::resources::Resources;
use crate::spec::resources::linux_resources;

impl Containers {
    /// Gives a container new limits; what `wanted` does not state stays as it is.
    ///
    /// # Errors
    ///
    /// [`ContainerError::WrongState`] when the container is over, [`ContainerError::Spec`] for
    /// limits that cannot be, [`ContainerError::MemoryInUse`] for a limit below what is used,
    /// [`ContainerError::Runtime`] when the kernel refuses them.
    pub async fn update(&self, id: &str, wanted: Resources) -> Result<(), ContainerError> {
        let parts = self.parts();
        let (record, _turn) = parts.begin(id).await?;
        if !matches!(record.state, ContainerState::Created | ContainerState::Running) {
            return Err(ContainerError::WrongState {
                id: record.id.clone(),
                verb: "change the limits of",
                state: record.state,
                needed: "created or running",
            });
        }
        let handler = parts.settings.handlers.get(&record.handler);
        let least = handler.map_or(0, |handler| handler.least_memory);
        let limits = linux_resources(&wanted, &parts.settings.host, least)?;
        if let Some(used) = parts.runtime.memory_in_use(&record.cgroup_parent, &record.id)?
            && u64::try_from(wanted.memory_limit).is_ok_and(|limit| limit > 0 && limit < used)
        {
            let (id, limit) = (record.id.clone(), wanted.memory_limit);
            return Err(ContainerError::MemoryInUse { id, used, limit });
        }
        parts.runtime.update(&record.handler, &record.id, &limits).await?;
        parts.records.containers.update(&record.id, |record| {
            merge(&mut record.config.resources, wanted);
        })?;
        Ok(())
    }
}

/// Takes over what is stated.
fn merge(kept: &mut Resources, wanted: Resources) {
    let number = |kept: &mut i64, wanted: i64| {
        if wanted != 0 {
            *kept = wanted;
        }
    };
    number(&mut kept.cpu_period, wanted.cpu_period);
    number(&mut kept.cpu_quota, wanted.cpu_quota);
    number(&mut kept.cpu_shares, wanted.cpu_shares);
    number(&mut kept.memory_limit, wanted.memory_limit);
    number(&mut kept.memory_swap_limit, wanted.memory_swap_limit);
    number(&mut kept.oom_score_adj, wanted.oom_score_adj);
    if !wanted.cpuset_cpus.is_empty() {
        kept.cpuset_cpus = wanted.cpuset_cpus;
    }
    if !wanted.cpuset_mems.is_empty() {
        kept.cpuset_mems = wanted.cpuset_mems;
    }
    for limit in wanted.hugepages {
        kept.hugepages.retain(|kept| kept.page_size != limit.page_size);
        kept.hugepages.push(limit);
    }
    kept.unified.extend(wanted.unified);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_stated_stays() {
        let mut kept = Resources { cpu_shares: 10, memory_limit: 5, ..Resources::default() };
        merge(&mut kept, Resources { cpu_shares: 20, ..Resources::default() });
        assert_eq!((kept.cpu_shares, kept.memory_limit), (20, 5));
    }
}
