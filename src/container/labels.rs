//! SELinux labels of a container and of the files that it sees. Blocks.

use std::path::Path;

use crate::container::Settings;
use crate::container::error::ContainerError;
use crate::model::container::ContainerConfig;
use crate::spec::facts::ResolvedMount;
use crate::spec::selinux;
use crate::spec::selinux::ContainerLabels;
use crate::spec::wishes;
use crate::state::SandboxRecord;
use crate::sys::selinux as kernel;

/// The labels of a container, which the node's policy knows.
pub(super) fn of(
    config: &ContainerConfig,
    sandbox: &SandboxRecord,
    settings: &Settings,
) -> Result<ContainerLabels, ContainerError> {
    let Some(pod) = sandbox.selinux.as_ref().filter(|_| settings.host.selinux) else {
        return Ok(ContainerLabels::default());
    };
    let on_host_network = sandbox.namespaces.net.is_none();
    let free = on_host_network && settings.defaults.hostnetwork_disable_selinux;
    let labels = selinux::of_container(&config.security, pod, free)?;
    for label in [&labels.process, &labels.mount].into_iter().flatten() {
        kernel::canonical(label)
            .map_err(|source| ContainerError::Label { label: label.clone(), source })?;
    }
    Ok(labels)
}

/// Labels files that were made for the container.
pub(super) fn label<'a>(
    paths: impl Iterator<Item = &'a Path>,
    label: Option<&str>,
) -> Result<(), ContainerError> {
    let Some(label) = label else { return Ok(()) };
    for path in paths {
        kernel::set_label(path, label).map_err(|source| ContainerError::File {
            action: "label",
            path: path.to_path_buf(),
            source,
        })?;
    }
    Ok(())
}

/// Gives the volumes that the kubelet wants relabelled the container's label.
pub(super) fn volumes(
    mounts: &[ResolvedMount<'_>],
    label: Option<&str>,
    config: &ContainerConfig,
    sandbox: &SandboxRecord,
    settings: &Settings,
) -> Result<(), ContainerError> {
    let Some(label) = label else { return Ok(()) };
    let pod = &sandbox.config;
    let own = config.security.selinux.as_ref();
    if selinux::keeps_volumes(pod.security.selinux.as_ref(), own) {
        return Ok(());
    }
    let allowed = settings.allowed_annotations(&sandbox.handler);
    let may_skip = wishes::SKIP_RELABEL.is_true(&pod.annotations, allowed);
    let right = kernel::canonical(label).unwrap_or_default();
    let wanted = |resolved: &&ResolvedMount<'_>| {
        resolved.mount.selinux_relabel && resolved.mount.image.is_none()
    };
    for resolved in mounts.iter().filter(wanted) {
        let path = &resolved.source;
        if may_skip && kernel::label_of(path).is_ok_and(|found| found == right) {
            continue;
        }
        kernel::relabel(path, label).map_err(|source| ContainerError::File {
            action: "relabel the volume",
            path: path.clone(),
            source,
        })?;
    }
    Ok(())
}
