//! GetContainerEvents: what happens, as it happens.

use crate::cri::api;
use crate::cri::runtime_service::Answer;
use crate::cri::runtime_service::Chunks;
use crate::cri::runtime_service::RuntimeDoor;
use crate::cri::unbuilt::unbuilt;

pub(super) async fn subscribe(
    _: &RuntimeDoor,
    _: api::GetEventsRequest,
) -> Answer<Chunks<api::ContainerEventResponse>> {
    Err(unbuilt("GetContainerEvents"))
}
