//! The lists as streams, in chunks (KEP-5825).

use crate::cri::api;
use crate::cri::runtime_service::Answer;
use crate::cri::runtime_service::Chunks;
use crate::cri::runtime_service::RuntimeDoor;
use crate::cri::unbuilt::unbuilt;

pub(super) async fn pods(
    _: &RuntimeDoor,
    _: api::StreamPodSandboxesRequest,
) -> Answer<Chunks<api::StreamPodSandboxesResponse>> {
    Err(unbuilt("StreamPodSandboxes"))
}

pub(super) async fn containers(
    _: &RuntimeDoor,
    _: api::StreamContainersRequest,
) -> Answer<Chunks<api::StreamContainersResponse>> {
    Err(unbuilt("StreamContainers"))
}

pub(super) async fn container_stats(
    _: &RuntimeDoor,
    _: api::StreamContainerStatsRequest,
) -> Answer<Chunks<api::StreamContainerStatsResponse>> {
    Err(unbuilt("StreamContainerStats"))
}

pub(super) async fn pod_stats(
    _: &RuntimeDoor,
    _: api::StreamPodSandboxStatsRequest,
) -> Answer<Chunks<api::StreamPodSandboxStatsResponse>> {
    Err(unbuilt("StreamPodSandboxStats"))
}

pub(super) async fn pod_metrics(
    _: &RuntimeDoor,
    _: api::StreamPodSandboxMetricsRequest,
) -> Answer<Chunks<api::StreamPodSandboxMetricsResponse>> {
    Err(unbuilt("StreamPodSandboxMetrics"))
}
