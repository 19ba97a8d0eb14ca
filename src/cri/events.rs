//! GetContainerEvents: what happens, as it happens.

use futures_util::stream;
use tonic::Status;

use crate::cri::api;
use crate::cri::convert::status as out;
use crate::cri::error::DoorError;
use crate::cri::observe::observe;
use crate::cri::runtime_service::Answer;
use crate::cri::runtime_service::Chunks;
use crate::cri::runtime_service::RuntimeDoor;
use crate::state::Event;
use crate::state::Happened;
use crate::state::Subscription;

pub(super) async fn subscribe(
    door: &RuntimeDoor,
    _: api::GetEventsRequest,
) -> Answer<Chunks<api::ContainerEventResponse>> {
    observe("GetContainerEvents", "", async {
        // A stream that ends well at once tells the kubelet to look at the lists instead.
        let Some(events) = &door.events else {
            return Ok::<Chunks<_>, DoorError>(Box::pin(stream::empty()));
        };
        Ok(Box::pin(stream::unfold(Some(events.subscribe()?), next)))
    })
    .await
}

/// The next message of the stream; the error that ends it is the last one.
async fn next(
    listening: Option<Subscription>,
) -> Option<(Result<api::ContainerEventResponse, Status>, Option<Subscription>)> {
    let mut subscription = listening?;
    match subscription.next().await {
        Ok(event) => event.map(|event| (Ok(to_proto(&event)), Some(subscription))),
        // The kubelet asks for all lists and listens anew.
        Err(error) => Some((Err(Status::resource_exhausted(error.to_string())), None)),
    }
}

fn to_proto(event: &Event) -> api::ContainerEventResponse {
    let kind = match event.happened {
        Happened::Created => api::ContainerEventType::ContainerCreatedEvent,
        Happened::Started => api::ContainerEventType::ContainerStartedEvent,
        Happened::Stopped => api::ContainerEventType::ContainerStoppedEvent,
        Happened::Deleted => api::ContainerEventType::ContainerDeletedEvent,
    };
    api::ContainerEventResponse {
        container_id: event.id.clone(),
        container_event_type: kind.into(),
        created_at: event.at,
        pod_sandbox_status: Some(out::sandbox_status(&event.sandbox)),
        containers_statuses: event
            .containers
            .iter()
            .map(|container| out::container_status(container))
            .collect(),
    }
}
