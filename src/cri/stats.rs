//! The RPCs that count: what containers and sandboxes use.

use crate::cri::api;
use crate::cri::runtime_service::Answer;
use crate::cri::runtime_service::RuntimeDoor;
use crate::cri::unbuilt::unbuilt;

pub(super) async fn of_container(
    _: &RuntimeDoor,
    _: api::ContainerStatsRequest,
) -> Answer<api::ContainerStatsResponse> {
    Err(unbuilt("ContainerStats"))
}

pub(super) async fn of_containers(
    _: &RuntimeDoor,
    _: api::ListContainerStatsRequest,
) -> Answer<api::ListContainerStatsResponse> {
    Err(unbuilt("ListContainerStats"))
}

pub(super) async fn of_pod(
    _: &RuntimeDoor,
    _: api::PodSandboxStatsRequest,
) -> Answer<api::PodSandboxStatsResponse> {
    Err(unbuilt("PodSandboxStats"))
}

pub(super) async fn of_pods(
    _: &RuntimeDoor,
    _: api::ListPodSandboxStatsRequest,
) -> Answer<api::ListPodSandboxStatsResponse> {
    Err(unbuilt("ListPodSandboxStats"))
}
