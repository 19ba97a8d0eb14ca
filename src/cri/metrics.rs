//! The RPCs behind the kubelet's `/metrics/cadvisor` (KEP-2371).

use crate::cri::api;
use crate::cri::runtime_service::Answer;
use crate::cri::runtime_service::RuntimeDoor;
use crate::cri::unbuilt::unbuilt;

pub(super) async fn descriptors(
    _: &RuntimeDoor,
    _: api::ListMetricDescriptorsRequest,
) -> Answer<api::ListMetricDescriptorsResponse> {
    Err(unbuilt("ListMetricDescriptors"))
}

pub(super) async fn of_pods(
    _: &RuntimeDoor,
    _: api::ListPodSandboxMetricsRequest,
) -> Answer<api::ListPodSandboxMetricsResponse> {
    Err(unbuilt("ListPodSandboxMetrics"))
}
