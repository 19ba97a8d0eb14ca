//! What is written down about a container that is being made: for the runtime, for other tools that
//! read the store, and for us.

use oci_spec::runtime::Spec;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Draft;
use super::Prepared;
use crate::container::error::ContainerError;
use crate::container::judged::Judged;
use crate::model::container::ContainerConfig;
use crate::model::container::ContainerState;
use crate::state::ContainerRecord;
use crate::sys::files;
use crate::sys::files::Durability;

/// Writes `config.json` for the runtime, and again where it outlives a reboot.
pub(super) fn write_spec(draft: &Draft, spec: &Spec) -> Result<(), ContainerError> {
    for directory in [&draft.bundle, &draft.persist_dir] {
        let path = directory.join("config.json");
        let wrap = |source| ContainerError::File { action: "write", path: path.clone(), source };
        let bytes = serde_json::to_vec(spec).map_err(|error| wrap(error.into()))?;
        files::replace(&path, &bytes, 0o600, Durability::Process).map_err(wrap)?;
    }
    Ok(())
}

/// A moment as text.
pub(super) fn moment(nanoseconds: i64) -> String {
    let moment = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds.into());
    moment.ok().and_then(|moment| moment.format(&Rfc3339).ok()).unwrap_or_default()
}

/// What containers/storage keeps of a container, in CRI-O's fields, so that other tools know it.
pub(super) fn metadata(draft: &Draft, judged: &Judged) -> String {
    let pod = &draft.sandbox.config.metadata;
    serde_json::json!({
        "pod-name": pod.full_name(),
        "pod-id": draft.sandbox.id,
        "image-name": judged.image.name,
        "image-id": judged.image.id,
        "name": draft.name,
        "metadata-name": draft.config.metadata.name,
        "uid": pod.uid,
        "namespace": pod.namespace,
        "mountlabel": "",
        "created-at": draft.created / 1_000_000_000,
        "attempt": draft.config.metadata.attempt,
        "pod": draft.is_infra(),
        "privileged": draft.config.security.privileged,
        "made-by": "crioxide",
    })
    .to_string()
}

/// Our own record of it.
pub(super) fn record(draft: &Draft, prepared: Prepared, pid: i32) -> ContainerRecord {
    ContainerRecord {
        id: draft.id.clone(),
        sandbox: draft.sandbox.id.clone(),
        name: draft.name.clone(),
        config: ContainerConfig { mounts: prepared.mounts, ..draft.config.clone() },
        image: prepared.judged.image,
        handler: draft.sandbox.handler.clone(),
        created: draft.created,
        started: 0,
        state: ContainerState::Created,
        exit: None,
        start_failure: None,
        pid,
        bundle: draft.bundle.clone(),
        persist_dir: draft.persist_dir.clone(),
        log: draft.log.clone(),
        user: prepared.user,
        stop_signal: prepared.stop_signal,
        cgroup_parent: draft.sandbox.config.cgroup_parent.clone(),
        answered: false,
    }
}
