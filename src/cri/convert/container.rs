//! A container's request from proto, and its mounts both ways.

use crate::cri::api;
use crate::cri::convert::RequestError;
use crate::cri::convert::image;
use crate::cri::convert::resources;
use crate::cri::convert::sandbox::is_clean_absolute;
use crate::cri::convert::security;
use crate::cri::convert::security::id_mapping;
use crate::cri::convert::security::id_mapping_to_proto;
use crate::model::container::ContainerConfig;
use crate::model::container::Device;
use crate::model::container::Mount;
use crate::model::container::Propagation;
use crate::model::names::ContainerMetadata;

/// A checked request for a container.
///
/// # Errors
///
/// [`RequestError`] names the field that is missing or illegal.
pub fn from_proto(from: Option<api::ContainerConfig>) -> Result<ContainerConfig, RequestError> {
    let from = from.ok_or(RequestError::missing("config"))?;
    let metadata = from.metadata.ok_or(RequestError::missing("config.metadata"))?;
    if metadata.name.is_empty() {
        return Err(RequestError::missing("config.metadata.name"));
    }
    if metadata.name.chars().any(|c| c.is_control() || c == '/') {
        return Err(RequestError::illegal("config.metadata.name", metadata.name));
    }
    let log_path = from.log_path;
    if log_path.starts_with('/') || !is_clean_absolute(&format!("/{log_path}")) {
        return Err(RequestError::illegal("config.log_path", log_path));
    }
    let linux = from.linux.unwrap_or_default();
    Ok(ContainerConfig {
        metadata: ContainerMetadata { name: metadata.name, attempt: metadata.attempt },
        image: image::choice(&from.image.ok_or(RequestError::missing("config.image"))?)?,
        command: from.command,
        args: from.args,
        working_dir: from.working_dir,
        env: from.envs.into_iter().map(env).collect::<Result<_, _>>()?,
        mounts: from.mounts.iter().map(mount).collect::<Result<_, _>>()?,
        devices: from.devices.into_iter().map(device).collect::<Result<_, _>>()?,
        cdi_devices: from.cdi_devices.into_iter().map(|device| device.name).collect(),
        labels: from.labels.into_iter().collect(),
        annotations: from.annotations.into_iter().collect(),
        log_path,
        stdin: from.stdin,
        stdin_once: from.stdin_once,
        tty: from.tty,
        resources: linux.resources.as_ref().map(resources::from_proto).unwrap_or_default(),
        security: security::of_container(&linux.security_context.unwrap_or_default())?,
        stop_signal: stop_signal(from.stop_signal)?,
    })
}

fn stop_signal(from: i32) -> Result<String, RequestError> {
    match api::Signal::try_from(from) {
        Ok(api::Signal::RuntimeDefault) => Ok(String::new()),
        Ok(signal) => Ok(signal.as_str_name().to_owned()),
        Err(_) => Err(RequestError::illegal("config.stop_signal", from)),
    }
}

/// The stop signal as the status shows it; the default where there is none.
#[must_use]
pub fn stop_signal_to_proto(name: &str) -> i32 {
    let word = name.replace('+', "PLUS").replace('-', "MINUS");
    api::Signal::from_str_name(&word).unwrap_or(api::Signal::RuntimeDefault).into()
}

fn env(from: api::KeyValue) -> Result<(String, String), RequestError> {
    let value = String::from_utf8(from.value)
        .map_err(|_| RequestError::illegal("config.envs.value", &from.key))?;
    if from.key.is_empty() || from.key.contains(['=', '\0']) || value.contains('\0') {
        return Err(RequestError::illegal("config.envs.key", from.key));
    }
    Ok((from.key, value))
}

fn device(from: api::Device) -> Result<Device, RequestError> {
    for (field, path) in [
        ("config.devices.host_path", &from.host_path),
        ("config.devices.container_path", &from.container_path),
    ] {
        if !is_clean_absolute(path) {
            return Err(RequestError::illegal(field, path));
        }
    }
    if from.permissions.is_empty() || from.permissions.bytes().any(|byte| !b"rwm".contains(&byte)) {
        return Err(RequestError::illegal("config.devices.permissions", from.permissions));
    }
    Ok(Device {
        container_path: from.container_path,
        host_path: from.host_path,
        permissions: from.permissions,
    })
}

fn mount(from: &api::Mount) -> Result<Mount, RequestError> {
    if from.container_path.is_empty() {
        return Err(RequestError::missing("config.mounts.container_path"));
    }
    // The kubelet gives an image without a name where there is none.
    let image = from.image.as_ref().filter(|image| !image.image.is_empty());
    if from.host_path.is_empty() && image.is_none() {
        return Err(RequestError::missing("config.mounts.host_path"));
    }
    if !from.host_path.is_empty() && image.is_some() {
        return Err(RequestError::illegal("config.mounts.host_path", &from.host_path));
    }
    if !from.host_path.is_empty() && !from.host_path.starts_with('/') {
        return Err(RequestError::illegal("config.mounts.host_path", &from.host_path));
    }
    for path in [&from.container_path, &from.host_path, &from.image_sub_path] {
        if path.contains('\0') {
            return Err(RequestError::illegal("config.mounts", path));
        }
    }
    let propagation = match api::MountPropagation::try_from(from.propagation) {
        Ok(api::MountPropagation::PropagationPrivate) => Propagation::Private,
        Ok(api::MountPropagation::PropagationHostToContainer) => Propagation::HostToContainer,
        Ok(api::MountPropagation::PropagationBidirectional) => Propagation::Bidirectional,
        Err(_) => return Err(RequestError::illegal("config.mounts.propagation", from.propagation)),
    };
    Ok(Mount {
        container_path: from.container_path.clone(),
        host_path: from.host_path.clone(),
        readonly: from.readonly,
        recursive_read_only: from.recursive_read_only,
        selinux_relabel: from.selinux_relabel,
        propagation,
        uid_mappings: from.uid_mappings.iter().map(id_mapping).collect(),
        gid_mappings: from.gid_mappings.iter().map(id_mapping).collect(),
        image: image.map(image::choice).transpose()?,
        image_sub_path: from.image_sub_path.clone(),
        image_ref: String::new(),
    })
}

/// A mount as the status shows it.
#[must_use]
pub fn mount_to_proto(from: &Mount) -> api::Mount {
    let propagation = match from.propagation {
        Propagation::Private => api::MountPropagation::PropagationPrivate,
        Propagation::HostToContainer => api::MountPropagation::PropagationHostToContainer,
        Propagation::Bidirectional => api::MountPropagation::PropagationBidirectional,
    };
    api::Mount {
        container_path: from.container_path.clone(),
        host_path: from.host_path.clone(),
        readonly: from.readonly,
        recursive_read_only: from.recursive_read_only,
        selinux_relabel: from.selinux_relabel,
        propagation: propagation.into(),
        image: from.image.as_ref().map(|image| api::ImageSpec {
            image_ref: from.image_ref.clone(),
            ..image::choice_to_proto(image, &image.image)
        }),
        image_sub_path: from.image_sub_path.clone(),
        uid_mappings: from.uid_mappings.iter().map(id_mapping_to_proto).collect(),
        gid_mappings: from.gid_mappings.iter().map(id_mapping_to_proto).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_has_a_word_for_every_signal_that_an_image_can_name() {
        for (text, word) in [
            ("3", api::Signal::Sigquit),
            ("37", api::Signal::Sigrtminplus3),
            ("SIGRTMAX-1", api::Signal::Sigrtmaxminus1),
            ("", api::Signal::Sigterm),
        ] {
            let shown = stop_signal_to_proto(&crate::model::signal::name(text));
            assert_eq!(shown, i32::from(word), "{text}");
        }
    }

    fn refused(change: impl FnOnce(&mut api::ContainerConfig)) -> &'static str {
        let mut from = api::ContainerConfig {
            metadata: Some(api::ContainerMetadata { name: "web".to_owned(), attempt: 0 }),
            image: Some(api::ImageSpec { image: "busybox".to_owned(), ..Default::default() }),
            ..Default::default()
        };
        assert!(from_proto(Some(from.clone())).is_ok());
        change(&mut from);
        from_proto(Some(from)).unwrap_err().field
    }

    #[test]
    fn a_log_path_cannot_leave_the_log_directory() {
        for path in ["/etc/cron.d/x", "../x", "a/../../x", "a\nb"] {
            assert_eq!(refused(|from| from.log_path = path.into()), "config.log_path");
        }
    }

    #[test]
    fn environment_names_cannot_smuggle_a_second_variable() {
        let env = |key: &str| vec![api::KeyValue { key: key.into(), value: b"x".to_vec() }];
        assert_eq!(refused(|from| from.envs = env("A=1")), "config.envs.key");
        assert_eq!(refused(|from| from.envs = env("")), "config.envs.key");
    }

    #[test]
    fn mounts_need_a_source_and_a_target() {
        let no_source = api::Mount { container_path: "/a".into(), ..Default::default() };
        assert_eq!(refused(|from| from.mounts = vec![no_source]), "config.mounts.host_path");
        let relative =
            api::Mount { container_path: "/a".into(), host_path: "b".into(), ..Default::default() };
        assert_eq!(refused(|from| from.mounts = vec![relative]), "config.mounts.host_path");
    }
}
