//! The RPCs on containers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tonic::Status;

use crate::cri::api;
use crate::cri::convert::RequestError;
use crate::cri::convert::container;
use crate::cri::convert::resources;
use crate::cri::convert::status as out;
use crate::cri::error::DoorError;
use crate::cri::filters::id_matches;
use crate::cri::filters::labels_match;
use crate::cri::observe::observe;
use crate::cri::runtime_service::Answer;
use crate::cri::runtime_service::RuntimeDoor;
use crate::state::ContainerRecord;

pub(super) async fn create(
    door: &RuntimeDoor,
    request: api::CreateContainerRequest,
    patience: Option<Duration>,
) -> Answer<api::CreateContainerResponse> {
    let metadata = request.config.as_ref().and_then(|config| config.metadata.as_ref());
    let name = metadata.map(|metadata| metadata.name.clone()).unwrap_or_default();
    let subject = format!("{name} in {}", request.pod_sandbox_id);
    observe("CreateContainer", &subject, async {
        let config = container::from_proto(request.config)?;
        let id = door.containers.create(&request.pod_sandbox_id, config, patience).await?;
        Ok::<_, DoorError>(api::CreateContainerResponse { container_id: id.to_string() })
    })
    .await
}

pub(super) async fn start(
    door: &RuntimeDoor,
    request: api::StartContainerRequest,
) -> Answer<api::StartContainerResponse> {
    let id = request.container_id;
    observe("StartContainer", &id, async {
        door.containers.start(&id).await?;
        Ok::<_, DoorError>(api::StartContainerResponse {})
    })
    .await
}

pub(super) async fn stop(
    door: &RuntimeDoor,
    request: api::StopContainerRequest,
) -> Answer<api::StopContainerResponse> {
    observe("StopContainer", &request.container_id, async {
        let patience = Duration::from_secs(request.timeout.max(0).unsigned_abs());
        door.containers.stop(&request.container_id, patience).await?;
        Ok::<_, DoorError>(api::StopContainerResponse {})
    })
    .await
}

pub(super) async fn remove(
    door: &RuntimeDoor,
    request: api::RemoveContainerRequest,
) -> Answer<api::RemoveContainerResponse> {
    let id = request.container_id;
    observe("RemoveContainer", &id, async {
        door.containers.remove(&id).await?;
        Ok::<_, DoorError>(api::RemoveContainerResponse {})
    })
    .await
}

pub(super) async fn list(
    door: &RuntimeDoor,
    request: api::ListContainersRequest,
) -> Answer<api::ListContainersResponse> {
    let filter = request.filter.unwrap_or_default();
    observe("ListContainers", &filter.id, async {
        let found = matching(door, &filter);
        let containers = found.iter().map(|record| out::container_item(record)).collect();
        Ok::<_, DoorError>(api::ListContainersResponse { containers })
    })
    .await
}

/// The containers that a filter wants.
pub(super) fn matching(
    door: &RuntimeDoor,
    filter: &api::ContainerFilter,
) -> Vec<Arc<ContainerRecord>> {
    let mut found = door.containers.list();
    found.retain(|record| {
        let state: i32 = out::container_state(record.state).into();
        id_matches(&filter.id, record.id.as_str())
            && id_matches(&filter.pod_sandbox_id, record.sandbox.as_str())
            && labels_match(&filter.label_selector, &record.config.labels)
            && filter.state.as_ref().is_none_or(|wanted| wanted.state == state)
    });
    found
}

pub(super) async fn status(
    door: &RuntimeDoor,
    request: api::ContainerStatusRequest,
) -> Answer<api::ContainerStatusResponse> {
    observe("ContainerStatus", &request.container_id, async {
        let record = door.containers.find(&request.container_id)?;
        let mut info = HashMap::new();
        if request.verbose {
            let spec = door.containers.spec_text(&record).await?;
            let spec: serde_json::Value = serde_json::from_str(&spec).unwrap_or_default();
            let value = serde_json::json!({
                "sandboxID": record.sandbox,
                "pid": record.pid,
                "runtimeSpec": spec,
                "privileged": record.config.security.privileged,
                "imageAllowed": record.image.allowed,
            });
            info.insert("info".to_owned(), value.to_string());
        }
        let status = Some(out::container_status(&record));
        Ok::<_, DoorError>(api::ContainerStatusResponse { status, info })
    })
    .await
}

pub(super) async fn update_resources(
    door: &RuntimeDoor,
    request: api::UpdateContainerResourcesRequest,
) -> Answer<api::UpdateContainerResourcesResponse> {
    observe("UpdateContainerResources", &request.container_id, async {
        let linux = request.linux.as_ref().ok_or(RequestError::missing("linux"))?;
        let wanted = resources::from_proto(linux);
        door.containers.update(&request.container_id, wanted).await?;
        Ok::<_, DoorError>(api::UpdateContainerResourcesResponse {})
    })
    .await
}

pub(super) async fn reopen_log(
    door: &RuntimeDoor,
    request: api::ReopenContainerLogRequest,
) -> Answer<api::ReopenContainerLogResponse> {
    let id = request.container_id;
    observe("ReopenContainerLog", &id, async {
        door.containers.reopen_log(&id).await?;
        Ok::<_, DoorError>(api::ReopenContainerLogResponse {})
    })
    .await
}

/// Checkpoints are not supported. The kubelet's own tests know CRI-O's sentence for that.
pub(super) async fn checkpoint(
    _: &RuntimeDoor,
    request: api::CheckpointContainerRequest,
) -> Answer<api::CheckpointContainerResponse> {
    observe("CheckpointContainer", &request.container_id, async {
        Err::<_, DoorError>(DoorError::NoCheckpoints)
    })
    .await
    .map_err(|status| Status::unknown(status.message()))
}
