//! The RPCs behind the kubelet's `/metrics/cadvisor` (KEP-2371).

use std::sync::Arc;

use crate::cri::api;
use crate::cri::convert::metrics;
use crate::cri::error::DoorError;
use crate::cri::observe::observe;
use crate::cri::runtime_service::Answer;
use crate::cri::runtime_service::RuntimeDoor;

pub(super) async fn descriptors(
    door: &RuntimeDoor,
    _: api::ListMetricDescriptorsRequest,
) -> Answer<api::ListMetricDescriptorsResponse> {
    observe("ListMetricDescriptors", "", async {
        let descriptors = metrics::descriptors(&door.metric_groups);
        Ok::<_, DoorError>(api::ListMetricDescriptorsResponse { descriptors })
    })
    .await
}

pub(super) async fn of_pods(
    door: &RuntimeDoor,
    _: api::ListPodSandboxMetricsRequest,
) -> Answer<api::ListPodSandboxMetricsResponse> {
    observe("ListPodSandboxMetrics", "", async {
        let groups = &door.metric_groups;
        let found = door.sandboxes.stats(door.sandboxes.list(), Arc::clone(groups)).await?;
        let pod_metrics = found.iter().map(|pod| metrics::to_proto(pod, groups)).collect();
        Ok::<_, DoorError>(api::ListPodSandboxMetricsResponse { pod_metrics })
    })
    .await
}
