//! Records to the statuses and list items of the CRI.

use std::collections::HashMap;

use crate::cri::api;
use crate::cri::convert::container::mount_to_proto;
use crate::cri::convert::container::stop_signal_to_proto;
use crate::cri::convert::image::choice_to_proto;
use crate::cri::convert::resources;
use crate::cri::convert::security::namespaces_to_proto;
use crate::model::container::ContainerState;
use crate::model::names::SandboxMetadata;
use crate::model::sandbox::SandboxState;
use crate::state::ContainerRecord;
use crate::state::SandboxRecord;

/// A sandbox's state on the wire.
#[must_use]
pub fn sandbox_state(state: SandboxState) -> api::PodSandboxState {
    match state {
        SandboxState::Ready => api::PodSandboxState::SandboxReady,
        SandboxState::NotReady => api::PodSandboxState::SandboxNotready,
    }
}

/// A container's state on the wire.
#[must_use]
pub fn container_state(state: ContainerState) -> api::ContainerState {
    match state {
        ContainerState::Created => api::ContainerState::ContainerCreated,
        ContainerState::Running => api::ContainerState::ContainerRunning,
        ContainerState::Exited => api::ContainerState::ContainerExited,
        ContainerState::Unknown => api::ContainerState::ContainerUnknown,
    }
}

pub(super) fn sandbox_metadata(from: &SandboxMetadata) -> api::PodSandboxMetadata {
    api::PodSandboxMetadata {
        name: from.name.clone(),
        uid: from.uid.clone(),
        namespace: from.namespace.clone(),
        attempt: from.attempt,
    }
}

pub(super) fn container_metadata(record: &ContainerRecord) -> api::ContainerMetadata {
    let from = &record.config.metadata;
    api::ContainerMetadata { name: from.name.clone(), attempt: from.attempt }
}

/// A sandbox as a list shows it.
#[must_use]
pub fn sandbox_item(record: &SandboxRecord) -> api::PodSandbox {
    api::PodSandbox {
        id: record.id.to_string(),
        metadata: Some(sandbox_metadata(&record.config.metadata)),
        state: sandbox_state(record.state).into(),
        created_at: record.created,
        labels: to_map(&record.config.labels),
        annotations: to_map(&record.config.annotations),
        runtime_handler: record.config.handler.clone(),
    }
}

/// A sandbox's status.
#[must_use]
pub fn sandbox_status(record: &SandboxRecord) -> api::PodSandboxStatus {
    let mut ips = record.ips.iter().map(ToString::to_string);
    let network = api::PodSandboxNetworkStatus {
        ip: ips.next().unwrap_or_default(),
        additional_ips: ips.map(|ip| api::PodIp { ip }).collect(),
    };
    let options = namespaces_to_proto(&record.config.security.namespaces);
    api::PodSandboxStatus {
        id: record.id.to_string(),
        metadata: Some(sandbox_metadata(&record.config.metadata)),
        state: sandbox_state(record.state).into(),
        created_at: record.created,
        network: Some(network),
        linux: Some(api::LinuxPodSandboxStatus {
            namespaces: Some(api::Namespace { options: Some(options) }),
        }),
        labels: to_map(&record.config.labels),
        annotations: to_map(&record.config.annotations),
        runtime_handler: record.config.handler.clone(),
    }
}

/// A container as a list shows it.
#[must_use]
pub fn container_item(record: &ContainerRecord) -> api::Container {
    api::Container {
        id: record.id.to_string(),
        pod_sandbox_id: record.sandbox.to_string(),
        metadata: Some(container_metadata(record)),
        image: Some(choice_to_proto(&record.config.image, &record.config.image.image)),
        image_ref: record.image.reference.clone(),
        state: container_state(record.state).into(),
        created_at: record.created,
        labels: to_map(&record.config.labels),
        annotations: to_map(&record.config.annotations),
        image_id: record.image.id.to_string(),
    }
}

/// A container's status.
#[must_use]
pub fn container_status(record: &ContainerRecord) -> api::ContainerStatus {
    let exit = record.exit.as_ref();
    let (reason, message) = reason(record);
    let user = api::LinuxContainerUser {
        uid: record.user.uid.into(),
        gid: record.user.gid.into(),
        supplemental_groups: record.user.groups.iter().copied().map(i64::from).collect(),
    };
    api::ContainerStatus {
        id: record.id.to_string(),
        metadata: Some(container_metadata(record)),
        state: container_state(record.state).into(),
        created_at: record.created,
        started_at: record.started,
        finished_at: exit.map_or(0, |exit| exit.finished),
        exit_code: exit.map_or(0, |exit| exit.code),
        image: Some(choice_to_proto(&record.config.image, &record.image.name)),
        image_ref: record.image.reference.clone(),
        reason: reason.to_owned(),
        message,
        labels: to_map(&record.config.labels),
        annotations: to_map(&record.config.annotations),
        mounts: record.config.mounts.iter().map(mount_to_proto).collect(),
        log_path: record.log.to_string_lossy().into_owned(),
        resources: Some(api::ContainerResources {
            linux: Some(resources::to_proto(&record.config.resources)),
            windows: None,
        }),
        image_id: record.image.id.to_string(),
        user: Some(api::ContainerUser { linux: Some(user) }),
        stop_signal: stop_signal_to_proto(&record.stop_signal),
    }
}

/// The kubelet's word for how a container ended, and a sentence where there is one.
fn reason(record: &ContainerRecord) -> (&'static str, String) {
    if let Some(why) = &record.start_failure {
        return ("Error", why.clone());
    }
    match &record.exit {
        None => ("", String::new()),
        Some(exit) if exit.oom => ("OOMKilled", String::new()),
        Some(exit) if exit.code == 0 => ("Completed", String::new()),
        Some(_) => ("Error", String::new()),
    }
}

pub(super) fn to_map(from: &std::collections::BTreeMap<String, String>) -> HashMap<String, String> {
    from.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}
