//! ExecSync, and the RPCs that give a URL to stream from: Exec, Attach, PortForward.

use std::time::Duration;

use crate::cri::api;
use crate::cri::convert::RequestError;
use crate::cri::error::DoorError;
use crate::cri::observe::observe;
use crate::cri::runtime_service::Answer;
use crate::cri::runtime_service::RuntimeDoor;
use crate::cri::unbuilt::unbuilt;

pub(super) async fn exec_sync(
    door: &RuntimeDoor,
    request: api::ExecSyncRequest,
) -> Answer<api::ExecSyncResponse> {
    observe("ExecSync", &request.container_id, async {
        if request.cmd.is_empty() {
            return Err(RequestError::missing("cmd").into());
        }
        let seconds = u64::try_from(request.timeout).unwrap_or(0);
        let timeout = (seconds > 0).then(|| Duration::from_secs(seconds));
        let done = door.containers.exec_sync(&request.container_id, request.cmd, timeout).await?;
        Ok::<_, DoorError>(api::ExecSyncResponse {
            stdout: done.stdout,
            stderr: done.stderr,
            exit_code: done.exit_code,
        })
    })
    .await
}

pub(super) async fn exec(_: &RuntimeDoor, _: api::ExecRequest) -> Answer<api::ExecResponse> {
    Err(unbuilt("Exec"))
}

pub(super) async fn attach(_: &RuntimeDoor, _: api::AttachRequest) -> Answer<api::AttachResponse> {
    Err(unbuilt("Attach"))
}

pub(super) async fn port_forward(
    _: &RuntimeDoor,
    _: api::PortForwardRequest,
) -> Answer<api::PortForwardResponse> {
    Err(unbuilt("PortForward"))
}
