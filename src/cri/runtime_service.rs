//! The runtime RPCs: one line for each, that names who answers it.

use std::pin::Pin;
use std::sync::Arc;

use tokio_stream::Stream;
use tonic::Request;
use tonic::Response;
use tonic::Status;

use crate::container::Containers;
use crate::cri::api;
use crate::cri::api::runtime_service_server::RuntimeService;
use crate::cri::containers;
use crate::cri::events;
use crate::cri::lists;
use crate::cri::metrics;
use crate::cri::node::Node;
use crate::cri::patience;
use crate::cri::pods;
use crate::cri::stats;
use crate::cri::streaming;
use crate::model::current::Current;
use crate::model::stats::MetricGroup;
use crate::sandbox::Sandboxes;
use crate::state::Events;
use crate::streaming::Streaming;

/// The runtime service.
#[derive(Debug)]
pub struct RuntimeDoor {
    /// What the node says of itself.
    pub node: Arc<Current<Node>>,
    /// The use cases on sandboxes.
    pub sandboxes: Arc<Sandboxes>,
    /// The use cases on containers.
    pub containers: Arc<Containers>,
    /// Where exec, attach and port-forward are served.
    pub streaming: Arc<Streaming>,
    /// The groups of pod metrics that are given out.
    pub metric_groups: Arc<[MetricGroup]>,
    /// What happens, if clients may listen to it.
    pub events: Option<Arc<Events>>,
}

pub(super) type Answer<T> = Result<Response<T>, Status>;
pub(super) type Chunks<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl RuntimeService for RuntimeDoor {
    type StreamPodSandboxesStream = Chunks<api::StreamPodSandboxesResponse>;
    type StreamContainersStream = Chunks<api::StreamContainersResponse>;
    type StreamContainerStatsStream = Chunks<api::StreamContainerStatsResponse>;
    type StreamPodSandboxStatsStream = Chunks<api::StreamPodSandboxStatsResponse>;
    type StreamPodSandboxMetricsStream = Chunks<api::StreamPodSandboxMetricsResponse>;
    type GetContainerEventsStream = Chunks<api::ContainerEventResponse>;

    async fn version(&self, _: Request<api::VersionRequest>) -> Answer<api::VersionResponse> {
        Ok(Response::new(self.node.now().version()))
    }

    async fn status(&self, request: Request<api::StatusRequest>) -> Answer<api::StatusResponse> {
        let verbose = request.into_inner().verbose;
        Ok(Response::new(self.node.now().status(&self.sandboxes, verbose).await))
    }

    async fn runtime_config(
        &self,
        _: Request<api::RuntimeConfigRequest>,
    ) -> Answer<api::RuntimeConfigResponse> {
        Ok(Response::new(self.node.now().runtime_config()))
    }

    /// The kubelet tells the node's pod CIDR; CNI does not need it.
    async fn update_runtime_config(
        &self,
        _: Request<api::UpdateRuntimeConfigRequest>,
    ) -> Answer<api::UpdateRuntimeConfigResponse> {
        Ok(Response::new(api::UpdateRuntimeConfigResponse {}))
    }

    async fn run_pod_sandbox(
        &self,
        request: Request<api::RunPodSandboxRequest>,
    ) -> Answer<api::RunPodSandboxResponse> {
        let patience = patience::of(request.metadata());
        pods::run(self, request.into_inner(), patience).await
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<api::StopPodSandboxRequest>,
    ) -> Answer<api::StopPodSandboxResponse> {
        let patience = patience::of(request.metadata());
        pods::stop(self, request.into_inner(), patience).await
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<api::RemovePodSandboxRequest>,
    ) -> Answer<api::RemovePodSandboxResponse> {
        pods::remove(self, request.into_inner()).await
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<api::PodSandboxStatusRequest>,
    ) -> Answer<api::PodSandboxStatusResponse> {
        pods::status(self, request.into_inner()).await
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<api::ListPodSandboxRequest>,
    ) -> Answer<api::ListPodSandboxResponse> {
        pods::list(self, request.into_inner()).await
    }

    async fn create_container(
        &self,
        request: Request<api::CreateContainerRequest>,
    ) -> Answer<api::CreateContainerResponse> {
        let patience = patience::of(request.metadata());
        containers::create(self, request.into_inner(), patience).await
    }

    async fn start_container(
        &self,
        request: Request<api::StartContainerRequest>,
    ) -> Answer<api::StartContainerResponse> {
        containers::start(self, request.into_inner()).await
    }

    async fn stop_container(
        &self,
        request: Request<api::StopContainerRequest>,
    ) -> Answer<api::StopContainerResponse> {
        containers::stop(self, request.into_inner()).await
    }

    async fn remove_container(
        &self,
        request: Request<api::RemoveContainerRequest>,
    ) -> Answer<api::RemoveContainerResponse> {
        containers::remove(self, request.into_inner()).await
    }

    async fn list_containers(
        &self,
        request: Request<api::ListContainersRequest>,
    ) -> Answer<api::ListContainersResponse> {
        containers::list(self, request.into_inner()).await
    }

    async fn container_status(
        &self,
        request: Request<api::ContainerStatusRequest>,
    ) -> Answer<api::ContainerStatusResponse> {
        containers::status(self, request.into_inner()).await
    }

    async fn update_container_resources(
        &self,
        request: Request<api::UpdateContainerResourcesRequest>,
    ) -> Answer<api::UpdateContainerResourcesResponse> {
        containers::update_resources(self, request.into_inner()).await
    }

    async fn reopen_container_log(
        &self,
        request: Request<api::ReopenContainerLogRequest>,
    ) -> Answer<api::ReopenContainerLogResponse> {
        containers::reopen_log(self, request.into_inner()).await
    }

    async fn exec_sync(
        &self,
        request: Request<api::ExecSyncRequest>,
    ) -> Answer<api::ExecSyncResponse> {
        streaming::exec_sync(self, request.into_inner()).await
    }

    async fn exec(&self, request: Request<api::ExecRequest>) -> Answer<api::ExecResponse> {
        streaming::exec(self, request.into_inner()).await
    }

    async fn attach(&self, request: Request<api::AttachRequest>) -> Answer<api::AttachResponse> {
        streaming::attach(self, request.into_inner()).await
    }

    async fn port_forward(
        &self,
        request: Request<api::PortForwardRequest>,
    ) -> Answer<api::PortForwardResponse> {
        streaming::port_forward(self, request.into_inner()).await
    }

    async fn stream_pod_sandboxes(
        &self,
        request: Request<api::StreamPodSandboxesRequest>,
    ) -> Answer<Self::StreamPodSandboxesStream> {
        lists::pods(self, request.into_inner()).await
    }

    async fn stream_containers(
        &self,
        request: Request<api::StreamContainersRequest>,
    ) -> Answer<Self::StreamContainersStream> {
        lists::containers(self, request.into_inner()).await
    }

    async fn container_stats(
        &self,
        request: Request<api::ContainerStatsRequest>,
    ) -> Answer<api::ContainerStatsResponse> {
        stats::of_container(self, request.into_inner()).await
    }

    async fn list_container_stats(
        &self,
        request: Request<api::ListContainerStatsRequest>,
    ) -> Answer<api::ListContainerStatsResponse> {
        stats::of_containers(self, request.into_inner()).await
    }

    async fn stream_container_stats(
        &self,
        request: Request<api::StreamContainerStatsRequest>,
    ) -> Answer<Self::StreamContainerStatsStream> {
        lists::container_stats(self, request.into_inner()).await
    }

    async fn pod_sandbox_stats(
        &self,
        request: Request<api::PodSandboxStatsRequest>,
    ) -> Answer<api::PodSandboxStatsResponse> {
        stats::of_pod(self, request.into_inner()).await
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: Request<api::ListPodSandboxStatsRequest>,
    ) -> Answer<api::ListPodSandboxStatsResponse> {
        stats::of_pods(self, request.into_inner()).await
    }

    async fn stream_pod_sandbox_stats(
        &self,
        request: Request<api::StreamPodSandboxStatsRequest>,
    ) -> Answer<Self::StreamPodSandboxStatsStream> {
        lists::pod_stats(self, request.into_inner()).await
    }

    async fn checkpoint_container(
        &self,
        request: Request<api::CheckpointContainerRequest>,
    ) -> Answer<api::CheckpointContainerResponse> {
        containers::checkpoint(self, request.into_inner()).await
    }

    async fn get_container_events(
        &self,
        request: Request<api::GetEventsRequest>,
    ) -> Answer<Self::GetContainerEventsStream> {
        events::subscribe(self, request.into_inner()).await
    }

    async fn list_metric_descriptors(
        &self,
        request: Request<api::ListMetricDescriptorsRequest>,
    ) -> Answer<api::ListMetricDescriptorsResponse> {
        metrics::descriptors(self, request.into_inner()).await
    }

    async fn list_pod_sandbox_metrics(
        &self,
        request: Request<api::ListPodSandboxMetricsRequest>,
    ) -> Answer<api::ListPodSandboxMetricsResponse> {
        metrics::of_pods(self, request.into_inner()).await
    }

    async fn stream_pod_sandbox_metrics(
        &self,
        request: Request<api::StreamPodSandboxMetricsRequest>,
    ) -> Answer<Self::StreamPodSandboxMetricsStream> {
        lists::pod_metrics(self, request.into_inner()).await
    }

    async fn update_pod_sandbox_resources(
        &self,
        request: Request<api::UpdatePodSandboxResourcesRequest>,
    ) -> Answer<api::UpdatePodSandboxResourcesResponse> {
        pods::update_resources(self, request.into_inner()).await
    }
}
