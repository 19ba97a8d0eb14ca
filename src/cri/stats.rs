//! The RPCs that count: what containers and sandboxes use.

use std::sync::Arc;

use crate::cri::api;
use crate::cri::containers;
use crate::cri::convert::stats;
use crate::cri::error::DoorError;
use crate::cri::observe::observe;
use crate::cri::pods;
use crate::cri::runtime_service::Answer;
use crate::cri::runtime_service::RuntimeDoor;
use crate::state::ContainerRecord;
use crate::state::SandboxRecord;

pub(super) async fn of_container(
    door: &RuntimeDoor,
    request: api::ContainerStatsRequest,
) -> Answer<api::ContainerStatsResponse> {
    observe("ContainerStats", &request.container_id, async {
        let record = door.containers.find(&request.container_id)?;
        // Nothing for a container that has ended.
        let found = door.containers.stats(vec![record]).await?;
        let stats = found.first().map(|stats| stats::container_to_proto(stats));
        Ok::<_, DoorError>(api::ContainerStatsResponse { stats })
    })
    .await
}

pub(super) async fn of_containers(
    door: &RuntimeDoor,
    request: api::ListContainerStatsRequest,
) -> Answer<api::ListContainerStatsResponse> {
    let filter = request.filter.unwrap_or_default();
    let subject = filter.id.clone();
    observe("ListContainerStats", &subject, async {
        let found = door.containers.stats(matching_containers(door, filter)).await?;
        let stats = found.iter().map(|stats| stats::container_to_proto(stats)).collect();
        Ok::<_, DoorError>(api::ListContainerStatsResponse { stats })
    })
    .await
}

pub(super) async fn of_pod(
    door: &RuntimeDoor,
    request: api::PodSandboxStatsRequest,
) -> Answer<api::PodSandboxStatsResponse> {
    observe("PodSandboxStats", &request.pod_sandbox_id, async {
        let record = door.sandboxes.find(&request.pod_sandbox_id)?;
        let found = door.sandboxes.stats(vec![record], Arc::default()).await?;
        let stats = found.first().map(|stats| stats::pod_to_proto(stats));
        Ok::<_, DoorError>(api::PodSandboxStatsResponse { stats })
    })
    .await
}

pub(super) async fn of_pods(
    door: &RuntimeDoor,
    request: api::ListPodSandboxStatsRequest,
) -> Answer<api::ListPodSandboxStatsResponse> {
    let filter = request.filter.unwrap_or_default();
    let subject = filter.id.clone();
    observe("ListPodSandboxStats", &subject, async {
        let records = matching_pods(door, filter);
        let found = door.sandboxes.stats(records, Arc::default()).await?;
        let stats = found.iter().map(|stats| stats::pod_to_proto(stats)).collect();
        Ok::<_, DoorError>(api::ListPodSandboxStatsResponse { stats })
    })
    .await
}

/// The containers that a filter wants.
pub(super) fn matching_containers(
    door: &RuntimeDoor,
    filter: api::ContainerStatsFilter,
) -> Vec<Arc<ContainerRecord>> {
    let filter = api::ContainerFilter {
        id: filter.id,
        pod_sandbox_id: filter.pod_sandbox_id,
        label_selector: filter.label_selector,
        state: None,
    };
    containers::matching(door, &filter)
}

/// The sandboxes that a filter wants.
pub(super) fn matching_pods(
    door: &RuntimeDoor,
    filter: api::PodSandboxStatsFilter,
) -> Vec<Arc<SandboxRecord>> {
    let filter =
        api::PodSandboxFilter { id: filter.id, label_selector: filter.label_selector, state: None };
    pods::matching(door, &filter)
}
