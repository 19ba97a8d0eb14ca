//! The RPCs on sandboxes.

use std::collections::HashMap;
use std::sync::Arc;

use crate::cri::api;
use crate::cri::convert::sandbox;
use crate::cri::convert::status as out;
use crate::cri::error::DoorError;
use crate::cri::filters::id_matches;
use crate::cri::filters::labels_match;
use crate::cri::observe::observe;
use crate::cri::runtime_service::Answer;
use crate::cri::runtime_service::RuntimeDoor;
use crate::cri::unbuilt::unbuilt;
use crate::state::SandboxRecord;

pub(super) async fn run(
    door: &RuntimeDoor,
    request: api::RunPodSandboxRequest,
) -> Answer<api::RunPodSandboxResponse> {
    let metadata = request.config.as_ref().and_then(|config| config.metadata.as_ref());
    let subject = metadata.map(|m| format!("{}/{}", m.namespace, m.name)).unwrap_or_default();
    observe("RunPodSandbox", &subject, async {
        let config = sandbox::from_proto(request.config, request.runtime_handler)?;
        let id = door.sandboxes.run(config).await?;
        Ok::<_, DoorError>(api::RunPodSandboxResponse { pod_sandbox_id: id.to_string() })
    })
    .await
}

pub(super) async fn stop(
    door: &RuntimeDoor,
    request: api::StopPodSandboxRequest,
) -> Answer<api::StopPodSandboxResponse> {
    let id = request.pod_sandbox_id;
    observe("StopPodSandbox", &id, async {
        door.sandboxes.stop(&id).await?;
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
    _: &RuntimeDoor,
    _: api::UpdatePodSandboxResourcesRequest,
) -> Answer<api::UpdatePodSandboxResourcesResponse> {
    Err(unbuilt("UpdatePodSandboxResources"))
}
