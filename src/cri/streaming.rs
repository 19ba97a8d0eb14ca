//! ExecSync, and the RPCs that give a URL to stream from: Exec, Attach, PortForward.

use std::time::Duration;

use crate::cri::api;
use crate::cri::convert::RequestError;
use crate::cri::error::DoorError;
use crate::cri::observe::observe;
use crate::cri::runtime_service::Answer;
use crate::cri::runtime_service::RuntimeDoor;
use crate::streaming::Wanted;

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

pub(super) async fn exec(
    door: &RuntimeDoor,
    request: api::ExecRequest,
) -> Answer<api::ExecResponse> {
    observe("Exec", &request.container_id, async {
        let wanted = Wanted {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            tty: request.tty,
        };
        check(wanted)?;
        if request.cmd.is_empty() {
            return Err(RequestError::missing("cmd").into());
        }
        let container =
            door.containers.can_exec(required("container_id", &request.container_id)?)?;
        let url = door.streaming.exec(container, request.cmd, wanted)?;
        Ok::<_, DoorError>(api::ExecResponse { url })
    })
    .await
}

pub(super) async fn attach(
    door: &RuntimeDoor,
    request: api::AttachRequest,
) -> Answer<api::AttachResponse> {
    observe("Attach", &request.container_id, async {
        let wanted = Wanted {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            tty: request.tty,
        };
        check(wanted)?;
        let id = required("container_id", &request.container_id)?;
        let container = door.containers.can_attach(id)?;
        Ok::<_, DoorError>(api::AttachResponse { url: door.streaming.attach(container, wanted)? })
    })
    .await
}

pub(super) async fn port_forward(
    door: &RuntimeDoor,
    request: api::PortForwardRequest,
) -> Answer<api::PortForwardResponse> {
    observe("PortForward", &request.pod_sandbox_id, async {
        let ports = ports(&request.port)?;
        let id = required("pod_sandbox_id", &request.pod_sandbox_id)?;
        let sandbox = door.sandboxes.can_port_forward(id)?;
        let url = door.streaming.port_forward(sandbox, ports)?;
        Ok::<_, DoorError>(api::PortForwardResponse { url })
    })
    .await
}

/// An empty id would be the beginning of any.
fn required<'r>(field: &'static str, id: &'r str) -> Result<&'r str, RequestError> {
    if id.is_empty() { Err(RequestError::missing(field)) } else { Ok(id) }
}

fn check(wanted: Wanted) -> Result<(), RequestError> {
    let fault = |field, fault: &str| Err(RequestError { field, fault: fault.to_owned() });
    if wanted.tty && wanted.stderr {
        return fault("stderr", "a terminal has no error stream of its own");
    }
    if !wanted.stdin && !wanted.stdout && !wanted.stderr {
        return fault("stdout", "one of stdin, stdout and stderr must be asked for");
    }
    Ok(())
}

/// Two channels for each, whose numbers are a byte.
const PORTS: usize = 100;

fn ports(given: &[i32]) -> Result<Vec<u16>, RequestError> {
    if given.len() > PORTS {
        let fault = format!("{PORTS} ports are the most, and these are {}", given.len());
        return Err(RequestError { field: "port", fault });
    }
    let port = |port: &i32| {
        let number = u16::try_from(*port).ok().filter(|number| *number > 0);
        number.ok_or_else(|| RequestError::illegal("port", port))
    };
    given.iter().map(port).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_and_ports_that_cannot_be_are_refused() {
        let none = Wanted { stdin: false, stdout: false, stderr: false, tty: false };
        assert!(check(none).is_err());
        assert!(check(Wanted { tty: true, ..none }).is_err());
        assert!(check(Wanted { tty: true, stdin: true, stdout: true, ..none }).is_ok());
        assert!(check(Wanted { tty: true, stdout: true, stderr: true, ..none }).is_err());
        assert_eq!(ports(&[1, 65535]), Ok(vec![1, 65535]));
        for bad in [&[0][..], &[-1], &[65536], &[1; PORTS + 1]] {
            assert!(ports(bad).is_err(), "{bad:?}");
        }
    }
}
