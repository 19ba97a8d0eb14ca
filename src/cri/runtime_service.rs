//! The runtime RPCs: convert, call, convert back.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio_stream::Stream;
use tonic::Request;
use tonic::Response;
use tonic::Status;

use crate::container::ContainerError;
use crate::container::Containers;
use crate::cri::api;
use crate::cri::api::runtime_service_server::RuntimeService;
use crate::cri::convert::RequestError;
use crate::cri::convert::container;
use crate::cri::convert::resources;
use crate::cri::convert::sandbox;
use crate::cri::convert::status as out;
use crate::cri::filters::id_matches;
use crate::cri::filters::labels_match;
use crate::cri::node::Node;
use crate::cri::observe::observe;
use crate::cri::unbuilt::unbuilt;
use crate::failure::Classify;
use crate::failure::Kind;
use crate::image::ImageError;
use crate::sandbox::SandboxError;
use crate::sandbox::Sandboxes;

/// What can go wrong behind the door.
#[derive(Debug, thiserror::Error)]
pub(super) enum DoorError {
    /// The request.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// A verb on sandboxes.
    #[error(transparent)]
    Sandbox(#[from] Arc<SandboxError>),
    /// A verb on containers.
    #[error(transparent)]
    Container(#[from] Arc<ContainerError>),
    /// A verb on images.
    #[error(transparent)]
    Image(#[from] Arc<ImageError>),
}

impl From<SandboxError> for DoorError {
    fn from(error: SandboxError) -> Self {
        Self::Sandbox(Arc::new(error))
    }
}

impl From<ContainerError> for DoorError {
    fn from(error: ContainerError) -> Self {
        Self::Container(Arc::new(error))
    }
}

impl From<ImageError> for DoorError {
    fn from(error: ImageError) -> Self {
        Self::Image(Arc::new(error))
    }
}

impl Classify for DoorError {
    fn kind(&self) -> Kind {
        match self {
            Self::Request(error) => error.kind(),
            Self::Sandbox(error) => error.kind(),
            Self::Container(error) => error.kind(),
            Self::Image(error) => error.kind(),
        }
    }
}

/// The runtime service.
#[derive(Debug)]
pub struct RuntimeDoor {
    /// What the node says of itself.
    pub node: Node,
    /// The use cases on sandboxes.
    pub sandboxes: Arc<Sandboxes>,
    /// The use cases on containers.
    pub containers: Arc<Containers>,
}

type Answer<T> = Result<Response<T>, Status>;
type Chunks<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl RuntimeService for RuntimeDoor {
    type StreamPodSandboxesStream = Chunks<api::StreamPodSandboxesResponse>;
    type StreamContainersStream = Chunks<api::StreamContainersResponse>;
    type StreamContainerStatsStream = Chunks<api::StreamContainerStatsResponse>;
    type StreamPodSandboxStatsStream = Chunks<api::StreamPodSandboxStatsResponse>;
    type StreamPodSandboxMetricsStream = Chunks<api::StreamPodSandboxMetricsResponse>;
    type GetContainerEventsStream = Chunks<api::ContainerEventResponse>;

    async fn version(&self, _: Request<api::VersionRequest>) -> Answer<api::VersionResponse> {
        Ok(Response::new(self.node.version()))
    }

    async fn status(&self, request: Request<api::StatusRequest>) -> Answer<api::StatusResponse> {
        let verbose = request.into_inner().verbose;
        Ok(Response::new(self.node.status(&self.sandboxes, verbose).await))
    }

    async fn runtime_config(
        &self,
        _: Request<api::RuntimeConfigRequest>,
    ) -> Answer<api::RuntimeConfigResponse> {
        Ok(Response::new(self.node.runtime_config()))
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
        let request = request.into_inner();
        let metadata = request.config.as_ref().and_then(|config| config.metadata.as_ref());
        let subject = metadata.map(|m| format!("{}/{}", m.namespace, m.name)).unwrap_or_default();
        observe("RunPodSandbox", &subject, async {
            let config = sandbox::from_proto(request.config, request.runtime_handler)?;
            let id = self.sandboxes.run(config).await?;
            Ok::<_, DoorError>(api::RunPodSandboxResponse { pod_sandbox_id: id.to_string() })
        })
        .await
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<api::StopPodSandboxRequest>,
    ) -> Answer<api::StopPodSandboxResponse> {
        let id = request.into_inner().pod_sandbox_id;
        observe("StopPodSandbox", &id, async {
            self.sandboxes.stop(&id).await?;
            Ok::<_, DoorError>(api::StopPodSandboxResponse {})
        })
        .await
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<api::RemovePodSandboxRequest>,
    ) -> Answer<api::RemovePodSandboxResponse> {
        let id = request.into_inner().pod_sandbox_id;
        observe("RemovePodSandbox", &id, async {
            self.sandboxes.remove(&id).await?;
            Ok::<_, DoorError>(api::RemovePodSandboxResponse {})
        })
        .await
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<api::PodSandboxStatusRequest>,
    ) -> Answer<api::PodSandboxStatusResponse> {
        let request = request.into_inner();
        observe("PodSandboxStatus", &request.pod_sandbox_id, async {
            let record = self.sandboxes.find(&request.pod_sandbox_id)?;
            let mut info = HashMap::new();
            if request.verbose {
                let pid = record.infra.map_or(0, |infra| infra.pid);
                info.insert("info".to_owned(), serde_json::json!({ "pid": pid }).to_string());
            }
            Ok::<_, DoorError>(api::PodSandboxStatusResponse {
                status: Some(out::sandbox_status(&record)),
                info,
                ..api::PodSandboxStatusResponse::default()
            })
        })
        .await
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<api::ListPodSandboxRequest>,
    ) -> Answer<api::ListPodSandboxResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        observe("ListPodSandbox", &filter.id, async {
            let items = self
                .sandboxes
                .list()
                .iter()
                .filter(|record| id_matches(&filter.id, record.id.as_str()))
                .filter(|record| labels_match(&filter.label_selector, &record.config.labels))
                .filter(|record| {
                    let state: i32 = out::sandbox_state(record.state).into();
                    filter.state.as_ref().is_none_or(|wanted| wanted.state == state)
                })
                .map(|record| out::sandbox_item(record))
                .collect();
            Ok::<_, DoorError>(api::ListPodSandboxResponse { items })
        })
        .await
    }

    async fn create_container(
        &self,
        request: Request<api::CreateContainerRequest>,
    ) -> Answer<api::CreateContainerResponse> {
        let request = request.into_inner();
        let metadata = request.config.as_ref().and_then(|config| config.metadata.as_ref());
        let name = metadata.map(|metadata| metadata.name.clone()).unwrap_or_default();
        let subject = format!("{name} in {}", request.pod_sandbox_id);
        observe("CreateContainer", &subject, async {
            let config = container::from_proto(request.config)?;
            let id = self.containers.create(&request.pod_sandbox_id, config).await?;
            Ok::<_, DoorError>(api::CreateContainerResponse { container_id: id.to_string() })
        })
        .await
    }

    async fn start_container(
        &self,
        request: Request<api::StartContainerRequest>,
    ) -> Answer<api::StartContainerResponse> {
        let id = request.into_inner().container_id;
        observe("StartContainer", &id, async {
            self.containers.start(&id).await?;
            Ok::<_, DoorError>(api::StartContainerResponse {})
        })
        .await
    }

    async fn stop_container(
        &self,
        request: Request<api::StopContainerRequest>,
    ) -> Answer<api::StopContainerResponse> {
        let request = request.into_inner();
        observe("StopContainer", &request.container_id, async {
            let patience = Duration::from_secs(request.timeout.max(0).unsigned_abs());
            self.containers.stop(&request.container_id, patience).await?;
            Ok::<_, DoorError>(api::StopContainerResponse {})
        })
        .await
    }

    async fn remove_container(
        &self,
        request: Request<api::RemoveContainerRequest>,
    ) -> Answer<api::RemoveContainerResponse> {
        let id = request.into_inner().container_id;
        observe("RemoveContainer", &id, async {
            self.containers.remove(&id).await?;
            Ok::<_, DoorError>(api::RemoveContainerResponse {})
        })
        .await
    }

    async fn list_containers(
        &self,
        request: Request<api::ListContainersRequest>,
    ) -> Answer<api::ListContainersResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        observe("ListContainers", &filter.id, async {
            let containers = self
                .containers
                .list()
                .iter()
                .filter(|record| id_matches(&filter.id, record.id.as_str()))
                .filter(|record| id_matches(&filter.pod_sandbox_id, record.sandbox.as_str()))
                .filter(|record| labels_match(&filter.label_selector, &record.config.labels))
                .filter(|record| {
                    let state: i32 = out::container_state(record.state).into();
                    filter.state.as_ref().is_none_or(|wanted| wanted.state == state)
                })
                .map(|record| out::container_item(record))
                .collect();
            Ok::<_, DoorError>(api::ListContainersResponse { containers })
        })
        .await
    }

    async fn container_status(
        &self,
        request: Request<api::ContainerStatusRequest>,
    ) -> Answer<api::ContainerStatusResponse> {
        let request = request.into_inner();
        observe("ContainerStatus", &request.container_id, async {
            let record = self.containers.find(&request.container_id)?;
            let mut info = HashMap::new();
            if request.verbose {
                let spec = self.containers.spec_text(&record).await?;
                let spec: serde_json::Value = serde_json::from_str(&spec).unwrap_or_default();
                let value = serde_json::json!({
                    "sandboxID": record.sandbox,
                    "pid": record.pid,
                    "runtimeSpec": spec,
                    "privileged": record.config.security.privileged,
                });
                info.insert("info".to_owned(), value.to_string());
            }
            let status = Some(out::container_status(&record));
            Ok::<_, DoorError>(api::ContainerStatusResponse { status, info })
        })
        .await
    }

    async fn update_container_resources(
        &self,
        request: Request<api::UpdateContainerResourcesRequest>,
    ) -> Answer<api::UpdateContainerResourcesResponse> {
        let request = request.into_inner();
        observe("UpdateContainerResources", &request.container_id, async {
            let linux = request.linux.as_ref().ok_or(RequestError::missing("linux"))?;
            let wanted = resources::from_proto(linux);
            self.containers.update(&request.container_id, wanted).await?;
            Ok::<_, DoorError>(api::UpdateContainerResourcesResponse {})
        })
        .await
    }

    async fn reopen_container_log(
        &self,
        request: Request<api::ReopenContainerLogRequest>,
    ) -> Answer<api::ReopenContainerLogResponse> {
        let id = request.into_inner().container_id;
        observe("ReopenContainerLog", &id, async {
            self.containers.reopen_log(&id).await?;
            Ok::<_, DoorError>(api::ReopenContainerLogResponse {})
        })
        .await
    }

    async fn exec_sync(
        &self,
        request: Request<api::ExecSyncRequest>,
    ) -> Answer<api::ExecSyncResponse> {
        let request = request.into_inner();
        observe("ExecSync", &request.container_id, async {
            if request.cmd.is_empty() {
                return Err(RequestError::missing("cmd").into());
            }
            let seconds = u64::try_from(request.timeout).unwrap_or(0);
            let timeout = (seconds > 0).then(|| Duration::from_secs(seconds));
            let done =
                self.containers.exec_sync(&request.container_id, request.cmd, timeout).await?;
            Ok::<_, DoorError>(api::ExecSyncResponse {
                stdout: done.stdout,
                stderr: done.stderr,
                exit_code: done.exit_code,
            })
        })
        .await
    }

    async fn exec(&self, _: Request<api::ExecRequest>) -> Answer<api::ExecResponse> {
        Err(unbuilt("Exec"))
    }

    async fn attach(&self, _: Request<api::AttachRequest>) -> Answer<api::AttachResponse> {
        Err(unbuilt("Attach"))
    }

    async fn port_forward(
        &self,
        _: Request<api::PortForwardRequest>,
    ) -> Answer<api::PortForwardResponse> {
        Err(unbuilt("PortForward"))
    }

    async fn stream_pod_sandboxes(
        &self,
        _: Request<api::StreamPodSandboxesRequest>,
    ) -> Answer<Self::StreamPodSandboxesStream> {
        Err(unbuilt("StreamPodSandboxes"))
    }

    async fn stream_containers(
        &self,
        _: Request<api::StreamContainersRequest>,
    ) -> Answer<Self::StreamContainersStream> {
        Err(unbuilt("StreamContainers"))
    }

    async fn container_stats(
        &self,
        _: Request<api::ContainerStatsRequest>,
    ) -> Answer<api::ContainerStatsResponse> {
        Err(unbuilt("ContainerStats"))
    }

    async fn list_container_stats(
        &self,
        _: Request<api::ListContainerStatsRequest>,
    ) -> Answer<api::ListContainerStatsResponse> {
        Err(unbuilt("ListContainerStats"))
    }

    async fn stream_container_stats(
        &self,
        _: Request<api::StreamContainerStatsRequest>,
    ) -> Answer<Self::StreamContainerStatsStream> {
        Err(unbuilt("StreamContainerStats"))
    }

    async fn pod_sandbox_stats(
        &self,
        _: Request<api::PodSandboxStatsRequest>,
    ) -> Answer<api::PodSandboxStatsResponse> {
        Err(unbuilt("PodSandboxStats"))
    }

    async fn list_pod_sandbox_stats(
        &self,
        _: Request<api::ListPodSandboxStatsRequest>,
    ) -> Answer<api::ListPodSandboxStatsResponse> {
        Err(unbuilt("ListPodSandboxStats"))
    }

    async fn stream_pod_sandbox_stats(
        &self,
        _: Request<api::StreamPodSandboxStatsRequest>,
    ) -> Answer<Self::StreamPodSandboxStatsStream> {
        Err(unbuilt("StreamPodSandboxStats"))
    }

    async fn checkpoint_container(
        &self,
        _: Request<api::CheckpointContainerRequest>,
    ) -> Answer<api::CheckpointContainerResponse> {
        Err(unbuilt("CheckpointContainer"))
    }

    async fn get_container_events(
        &self,
        _: Request<api::GetEventsRequest>,
    ) -> Answer<Self::GetContainerEventsStream> {
        Err(unbuilt("GetContainerEvents"))
    }

    async fn list_metric_descriptors(
        &self,
        _: Request<api::ListMetricDescriptorsRequest>,
    ) -> Answer<api::ListMetricDescriptorsResponse> {
        Err(unbuilt("ListMetricDescriptors"))
    }

    async fn list_pod_sandbox_metrics(
        &self,
        _: Request<api::ListPodSandboxMetricsRequest>,
    ) -> Answer<api::ListPodSandboxMetricsResponse> {
        Err(unbuilt("ListPodSandboxMetrics"))
    }

    async fn stream_pod_sandbox_metrics(
        &self,
        _: Request<api::StreamPodSandboxMetricsRequest>,
    ) -> Answer<Self::StreamPodSandboxMetricsStream> {
        Err(unbuilt("StreamPodSandboxMetrics"))
    }

    async fn update_pod_sandbox_resources(
        &self,
        _: Request<api::UpdatePodSandboxResourcesRequest>,
    ) -> Answer<api::UpdatePodSandboxResourcesResponse> {
        Err(unbuilt("UpdatePodSandboxResources"))
    }
}
