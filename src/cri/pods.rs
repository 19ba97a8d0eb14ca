//! The RPCs on sandboxes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use crate::cri::api;
use crate::cri::convert::resources;
use crate::cri::convert::sandbox;
use crate::cri::convert::status as out;
use crate::cri::error::DoorError;
use crate::cri::filters::id_matches;
use crate::cri::filters::labels_match;
use crate::cri::observe::observe;
use crate::cri::runtime_service::Answer;
use crate::cri::runtime_service::RuntimeDoor;
use crate::state::SandboxRecord;

pub(super) async fn run(
    door: &RuntimeDoor,
    request: api::RunPodSandboxRequest,
    patience: Option<Duration>,
) -> Answer<api::RunPodSandboxResponse> {
    let metadata = request.config.as_ref().and_then(|config| config.metadata.as_ref());
    let subject = metadata.map(|m| format!("{}/{}", m.namespace, m.name)).unwrap_or_default();
    observe("RunPodSandbox", &subject, async {
        let config = sandbox::from_proto(request.config, request.runtime_handler)?;
        let id = door.sandboxes.run(config, patience).await?;
        Ok::<_, DoorError>(api::RunPodSandboxResponse { pod_sandbox_id: id.to_string() })
    })
    .await
}

pub(super) async fn stop(
    door: &RuntimeDoor,
    request: api::StopPodSandboxRequest,
    patience: Option<Duration>,
) -> Answer<api::StopPodSandboxResponse> {
    let id = request.pod_sandbox_id;
    observe("StopPodSandbox", &id, async {
        door.sandboxes.stop(&id, patience).await?;
        Ok::<_, DoorError>(api::StopPodSandboxResponse {})
    })
    .await
}

pub(super) async fn remove(
    door: &RuntimeDoor,
    request: api::RemovePodSandboxRequest,
) -> Answer<api::RemovePodSandboxResponse> {
    let id = request.pod_sandbox_id;
    observe("RemovePodSandbox", &id, async {
        door.sandboxes.remove(&id).await?;
        Ok::<_, DoorError>(api::RemovePodSandboxResponse {})
    })
    .await
}

pub(super) async fn status(
    door: &RuntimeDoor,
    request: api::PodSandboxStatusRequest,
) -> Answer<api::PodSandboxStatusResponse> {
    observe("PodSandboxStatus", &request.pod_sandbox_id, async {
        let record = door.sandboxes.find(&request.pod_sandbox_id)?;
        let mut info = HashMap::new();
        if request.verbose {
            info.insert("info".to_owned(), inspected(door, &record).await?.to_string());
        }
        let mut answer = api::PodSandboxStatusResponse {
            status: Some(out::sandbox_status(&record)),
            info,
            ..api::PodSandboxStatusResponse::default()
        };
        // A kubelet that listens to events takes this for all there is to know, as of that time.
        if door.events.is_some() {
            answer.timestamp = now();
            answer.containers_statuses = door
                .containers
                .list()
                .iter()
                .filter(|container| container.sandbox == record.id)
                .map(|container| out::container_status(container))
                .collect();
        }
        Ok::<_, DoorError>(answer)
    })
    .await
}

/// The details of a pod in CRI-O's shape. One without a process of its own has no image either; the
/// built-in process stands for the configured one.
async fn inspected(
    door: &RuntimeDoor,
    record: &SandboxRecord,
) -> Result<serde_json::Value, DoorError> {
    let own = door.containers.infra_of(&record.id);
    let text = match &own {
        Some(own) => door.containers.spec_text(own).await?,
        None => door.sandboxes.spec_text(record)?,
    };
    let spec: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let node = door.node.now();
    let image = own.as_ref().map_or(&node.pause_image, |own| &own.image.name);
    Ok(match record.infra {
        Some(infra) => serde_json::json!({
            "image": image,
            "pid": infra.pid,
            "runtimeSpec": spec,
        }),
        None => serde_json::json!({ "runtimeSpec": spec }),
    })
}

pub(super) async fn list(
    door: &RuntimeDoor,
    request: api::ListPodSandboxRequest,
) -> Answer<api::ListPodSandboxResponse> {
    let filter = request.filter.unwrap_or_default();
    observe("ListPodSandbox", &filter.id, async {
        let found = matching(door, &filter);
        let items = found.iter().map(|record| out::sandbox_item(record)).collect();
        Ok::<_, DoorError>(api::ListPodSandboxResponse { items })
    })
    .await
}

/// The sandboxes that a filter wants.
pub(super) fn matching(
    door: &RuntimeDoor,
    filter: &api::PodSandboxFilter,
) -> Vec<Arc<SandboxRecord>> {
    let mut found = door.sandboxes.list();
    found.retain(|record| {
        let state: i32 = out::sandbox_state(record.state).into();
        id_matches(&filter.id, record.id.as_str())
            && labels_match(&filter.label_selector, &record.config.labels)
            && filter.state.as_ref().is_none_or(|wanted| wanted.state == state)
    });
    found
}

pub(super) async fn update_resources(
    door: &RuntimeDoor,
    request: api::UpdatePodSandboxResourcesRequest,
) -> Answer<api::UpdatePodSandboxResourcesResponse> {
    let id = request.pod_sandbox_id;
    observe("UpdatePodSandboxResources", &id, async {
        let overhead = request.overhead.as_ref().map(resources::from_proto);
        let sum = request.resources.as_ref().map(resources::from_proto);
        door.sandboxes.update_resources(&id, overhead, sum)?;
        Ok::<_, DoorError>(api::UpdatePodSandboxResourcesResponse {})
    })
    .await
}

/// Now, in nanoseconds since 1970.
fn now() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}
