//! Security contexts from proto, and namespace options both ways.

use crate::cri::api;
use crate::cri::convert::RequestError;
use crate::cri::convert::id32;
use crate::model::security::CapabilityChanges;
use crate::model::security::IdMapping;
use crate::model::security::NamespaceMode;
use crate::model::security::NamespaceOptions;
use crate::model::security::RunAs;
use crate::model::security::SecurityContext;
use crate::model::security::SecurityProfile;
use crate::model::security::SelinuxOptions;
use crate::model::security::SupplementalGroupsPolicy;

/// The security context of a sandbox.
///
/// # Errors
///
/// [`RequestError`] for ids that do not fit, and profiles or modes of a newer API.
pub fn of_sandbox(
    from: &api::LinuxSandboxSecurityContext,
) -> Result<SecurityContext, RequestError> {
    Ok(SecurityContext {
        privileged: from.privileged,
        namespaces: namespaces(from.namespace_options.as_ref())?,
        run_as: RunAs {
            user: optional_id("run_as_user", from.run_as_user.as_ref())?,
            group: optional_id("run_as_group", from.run_as_group.as_ref())?,
            username: String::new(),
            supplemental_groups: groups(&from.supplemental_groups)?,
            groups_policy: groups_policy(from.supplemental_groups_policy)?,
        },
        readonly_rootfs: from.readonly_rootfs,
        seccomp: profile(from.seccomp.as_ref())?,
        apparmor: profile(from.apparmor.as_ref())?,
        selinux: from.selinux_options.as_ref().map(selinux),
        ..SecurityContext::default()
    })
}

/// The security context of a container.
///
/// # Errors
///
/// As [`of_sandbox`], and a group without a user.
pub fn of_container(
    from: &api::LinuxContainerSecurityContext,
) -> Result<SecurityContext, RequestError> {
    let run_as = RunAs {
        user: optional_id("run_as_user", from.run_as_user.as_ref())?,
        group: optional_id("run_as_group", from.run_as_group.as_ref())?,
        username: from.run_as_username.clone(),
        supplemental_groups: groups(&from.supplemental_groups)?,
        groups_policy: groups_policy(from.supplemental_groups_policy)?,
    };
    if run_as.group.is_some() && run_as.user.is_none() && run_as.username.is_empty() {
        let fault = "is given without run_as_user or run_as_username".to_owned();
        return Err(RequestError { field: "run_as_group", fault });
    }
    let capabilities = from.capabilities.clone().unwrap_or_default();
    Ok(SecurityContext {
        privileged: from.privileged,
        namespaces: namespaces(from.namespace_options.as_ref())?,
        run_as,
        capabilities: CapabilityChanges {
            add: capabilities.add_capabilities,
            drop: capabilities.drop_capabilities,
            ambient: capabilities.add_ambient_capabilities,
        },
        readonly_rootfs: from.readonly_rootfs,
        no_new_privs: from.no_new_privs,
        masked_paths: from.masked_paths.clone(),
        readonly_paths: from.readonly_paths.clone(),
        seccomp: profile(from.seccomp.as_ref())?,
        apparmor: apparmor(from)?,
        selinux: from.selinux_options.as_ref().map(selinux),
    })
}

/// The message's field wins; the deprecated text (`runtime/default`, `localhost/x`) serves else.
#[allow(deprecated, reason = "old kubelets only send the text")]
fn apparmor(from: &api::LinuxContainerSecurityContext) -> Result<SecurityProfile, RequestError> {
    if from.apparmor.is_some() {
        return profile(from.apparmor.as_ref());
    }
    match from.apparmor_profile.as_str() {
        "" => Ok(SecurityProfile::Unset),
        "runtime/default" => Ok(SecurityProfile::RuntimeDefault),
        "unconfined" => Ok(SecurityProfile::Unconfined),
        text => match text.strip_prefix("localhost/") {
            Some(name) if !name.is_empty() => Ok(SecurityProfile::Localhost(name.to_owned())),
            _ => Err(RequestError::illegal("apparmor_profile", text)),
        },
    }
}

fn profile(from: Option<&api::SecurityProfile>) -> Result<SecurityProfile, RequestError> {
    use api::security_profile::ProfileType;
    let Some(from) = from else { return Ok(SecurityProfile::Unset) };
    match ProfileType::try_from(from.profile_type) {
        Ok(ProfileType::RuntimeDefault) => Ok(SecurityProfile::RuntimeDefault),
        Ok(ProfileType::Unconfined) => Ok(SecurityProfile::Unconfined),
        Ok(ProfileType::Localhost) if from.localhost_ref.is_empty() => {
            Err(RequestError::missing("localhost_ref"))
        }
        Ok(ProfileType::Localhost) => {
            let name = from.localhost_ref.strip_prefix("localhost/").unwrap_or(&from.localhost_ref);
            if name.split('/').any(|part| part == "..") || name.chars().any(char::is_control) {
                return Err(RequestError::illegal("localhost_ref", name));
            }
            Ok(SecurityProfile::Localhost(name.to_owned()))
        }
        Err(_) => Err(RequestError::illegal("profile_type", from.profile_type)),
    }
}

fn selinux(from: &api::SeLinuxOption) -> SelinuxOptions {
    SelinuxOptions {
        user: from.user.clone(),
        role: from.role.clone(),
        kind: from.r#type.clone(),
        level: from.level.clone(),
    }
}

fn optional_id(
    field: &'static str,
    value: Option<&api::Int64Value>,
) -> Result<Option<u32>, RequestError> {
    value.map(|value| id32(field, value.value)).transpose()
}

fn groups(from: &[i64]) -> Result<Vec<u32>, RequestError> {
    from.iter().map(|group| id32("supplemental_groups", *group)).collect()
}

fn groups_policy(from: i32) -> Result<SupplementalGroupsPolicy, RequestError> {
    match api::SupplementalGroupsPolicy::try_from(from) {
        Ok(api::SupplementalGroupsPolicy::Merge) => Ok(SupplementalGroupsPolicy::Merge),
        Ok(api::SupplementalGroupsPolicy::Strict) => Ok(SupplementalGroupsPolicy::Strict),
        Err(_) => Err(RequestError::illegal("supplemental_groups_policy", from)),
    }
}

fn namespaces(from: Option<&api::NamespaceOption>) -> Result<NamespaceOptions, RequestError> {
    let Some(from) = from else { return Ok(NamespaceOptions::default()) };
    Ok(NamespaceOptions {
        network: mode("namespace_options.network", from.network)?,
        pid: mode("namespace_options.pid", from.pid)?,
        ipc: mode("namespace_options.ipc", from.ipc)?,
        target_id: from.target_id.clone(),
        user_namespace: user_namespace(from.userns_options.as_ref())?,
    })
}

fn mode(field: &'static str, from: i32) -> Result<NamespaceMode, RequestError> {
    match api::NamespaceMode::try_from(from) {
        Ok(api::NamespaceMode::Pod) => Ok(NamespaceMode::Pod),
        Ok(api::NamespaceMode::Container) => Ok(NamespaceMode::Container),
        Ok(api::NamespaceMode::Node) => Ok(NamespaceMode::Node),
        Ok(api::NamespaceMode::Target) => Ok(NamespaceMode::Target),
        Err(_) => Err(RequestError::illegal(field, from)),
    }
}

/// The one map of a user namespace. More ranges, or different ones for groups, are legal to the
/// kernel, but not in the CRI; the kubelet never asks for them.
fn user_namespace(from: Option<&api::UserNamespace>) -> Result<Option<IdMapping>, RequestError> {
    let Some(from) = from else { return Ok(None) };
    match mode("userns_options.mode", from.mode)? {
        NamespaceMode::Node => return Ok(None),
        NamespaceMode::Pod => {}
        NamespaceMode::Container | NamespaceMode::Target => {
            return Err(RequestError::illegal("userns_options.mode", from.mode));
        }
    }
    let uids = single_map("userns_options.uids", &from.uids)?;
    let gids = single_map("userns_options.gids", &from.gids)?;
    if uids != gids {
        let fault = "is not the same map as userns_options.uids".to_owned();
        return Err(RequestError { field: "userns_options.gids", fault });
    }
    Ok(Some(uids))
}

fn single_map(field: &'static str, from: &[api::IdMapping]) -> Result<IdMapping, RequestError> {
    let fault = |fault: String| RequestError { field, fault };
    let [range] = from else {
        return Err(fault(format!("has {} ranges, and one is wanted", from.len())));
    };
    let range = id_mapping(range);
    if range.container_id != 0 {
        return Err(fault(format!("begins at {} inside, and not at 0", range.container_id)));
    }
    // The highest id of all means "no id" to the kernel.
    let end = range.host_id.checked_add(range.length).filter(|_| range.length > 0);
    if end.is_none() || range.host_id == 0 {
        let IdMapping { host_id, length, .. } = range;
        return Err(fault(format!("{length} ids from {host_id} up are no map for a pod")));
    }
    Ok(range)
}

/// One range of an id map.
pub(super) fn id_mapping(from: &api::IdMapping) -> IdMapping {
    IdMapping { host_id: from.host_id, container_id: from.container_id, length: from.length }
}

/// The namespace options as the status shows them.
#[must_use]
pub fn namespaces_to_proto(from: &NamespaceOptions) -> api::NamespaceOption {
    let mode = |mode: NamespaceMode| match mode {
        NamespaceMode::Pod => api::NamespaceMode::Pod.into(),
        NamespaceMode::Container => api::NamespaceMode::Container.into(),
        NamespaceMode::Node => api::NamespaceMode::Node.into(),
        NamespaceMode::Target => api::NamespaceMode::Target.into(),
    };
    api::NamespaceOption {
        network: mode(from.network),
        pid: mode(from.pid),
        ipc: mode(from.ipc),
        target_id: from.target_id.clone(),
        userns_options: from.user_namespace.as_ref().map(user_namespace_to_proto),
    }
}

fn user_namespace_to_proto(from: &IdMapping) -> api::UserNamespace {
    let range = id_mapping_to_proto(from);
    let mode = api::NamespaceMode::Pod.into();
    api::UserNamespace { mode, uids: vec![range], gids: vec![range] }
}

/// One range of an id map, as a status shows it.
pub(super) fn id_mapping_to_proto(from: &IdMapping) -> api::IdMapping {
    let IdMapping { host_id, container_id, length } = *from;
    api::IdMapping { host_id, container_id, length }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_beyond_31_bits_does_not_wrap_to_root() {
        for value in [1_i64 << 32, -1, i64::from(u32::MAX)] {
            let from = api::LinuxContainerSecurityContext {
                run_as_user: Some(api::Int64Value { value }),
                ..Default::default()
            };
            assert_eq!(of_container(&from).unwrap_err().field, "run_as_user", "{value}");
        }
    }

    #[test]
    fn a_user_namespace_has_one_map_from_zero_for_users_and_groups() {
        let map = |container_id, host_id, length| api::IdMapping { host_id, container_id, length };
        let asked = |mode: api::NamespaceMode, uids: &[api::IdMapping], gids: &[api::IdMapping]| {
            let (uids, gids) = (uids.to_vec(), gids.to_vec());
            user_namespace(Some(&api::UserNamespace { mode: mode.into(), uids, gids }))
        };
        use api::NamespaceMode::Pod;
        let good = [map(0, 65_536, 65_536)];
        let found = asked(Pod, &good, &good).unwrap().unwrap();
        assert_eq!(user_namespace_to_proto(&found).uids, good);
        assert_eq!(asked(api::NamespaceMode::Node, &[], &[]).unwrap(), None);
        for (what, uids, gids) in [
            ("none", &[][..], &[][..]),
            ("no gids", &good, &[]),
            ("two", &[map(0, 1000, 10), map(10, 2000, 10)], &good),
            ("without 0", &[map(1, 1000, 10)], &[map(1, 1000, 10)]),
            ("empty", &[map(0, 1000, 0)], &[map(0, 1000, 0)]),
            ("different", &good, &[map(0, 131_072, 65_536)]),
            ("root of the node", &[map(0, 0, 65_536)], &[map(0, 0, 65_536)]),
            ("past the end", &[map(0, 4_294_967_000, 1000)], &[map(0, 4_294_967_000, 1000)]),
        ] {
            let error = asked(Pod, uids, gids).unwrap_err();
            assert!(error.field.starts_with("userns_options."), "{what}: {error}");
        }
        for mode in [api::NamespaceMode::Container, api::NamespaceMode::Target] {
            assert_eq!(asked(mode, &good, &good).unwrap_err().field, "userns_options.mode");
        }
    }

    #[test]
    fn a_group_needs_a_user() {
        let from = api::LinuxContainerSecurityContext {
            run_as_group: Some(api::Int64Value { value: 1 }),
            ..Default::default()
        };
        assert_eq!(of_container(&from).unwrap_err().field, "run_as_group");
    }

    #[test]
    fn a_local_profile_cannot_lead_out_of_its_directory() {
        for name in ["../../../etc/shadow", "localhost/a/../../x", "a\nb"] {
            let profile = api::SecurityProfile {
                profile_type: api::security_profile::ProfileType::Localhost.into(),
                localhost_ref: name.into(),
            };
            let from =
                api::LinuxContainerSecurityContext { seccomp: Some(profile), ..Default::default() };
            assert_eq!(of_container(&from).unwrap_err().field, "localhost_ref", "{name:?}");
        }
    }

    #[test]
    fn no_seccomp_field_is_not_the_default_profile() {
        let context = of_container(&api::LinuxContainerSecurityContext::default()).unwrap();
        assert_eq!(context.seccomp, SecurityProfile::Unset);
        let from = api::LinuxContainerSecurityContext {
            seccomp: Some(api::SecurityProfile::default()),
            ..Default::default()
        };
        assert_eq!(of_container(&from).unwrap().seccomp, SecurityProfile::RuntimeDefault);
    }
}
