//! What a pod is, in the words of a runtime spec.
//!
//! No runtime is given it: a pod's namespaces are made by the daemon. It is for who inspects a pod and
//! looks there for the paths of its namespaces, its cgroup and CRI-O's annotations.

use std::collections::HashMap;

use oci_spec::runtime::Linux;
use oci_spec::runtime::LinuxNamespaceType;
use oci_spec::runtime::Spec;

use crate::spec::VERSION;
use crate::spec::annotations;
use crate::spec::error::SpecError;
use crate::spec::facts::SandboxFacts;
use crate::spec::namespaces;

/// Gives a pod in the words of a runtime spec.
///
/// # Errors
///
/// [`SpecError`], for an id map that cannot be written.
pub fn sandbox(
    facts: &SandboxFacts<'_>,
    cgroups_path: &str,
    created: &str,
) -> Result<Spec, SpecError> {
    let shared = facts.namespaces;
    let pinned = [
        (LinuxNamespaceType::User, shared.user),
        (LinuxNamespaceType::Network, shared.network),
        (LinuxNamespaceType::Ipc, shared.ipc),
        (LinuxNamespaceType::Uts, shared.uts),
        (LinuxNamespaceType::Pid, shared.pid),
    ];
    let pinned = pinned.into_iter().filter_map(|(kind, path)| Some((kind, path?)));
    let map = facts.config.security.namespaces.user_namespace;
    let map = map.map(|map| namespaces::mappings(&[map])).transpose()?;
    let sysctls: HashMap<String, String> = facts.config.sysctls.clone().into_iter().collect();
    let mut linux = Linux::default();
    linux
        .set_cgroups_path(Some(cgroups_path.into()))
        .set_namespaces(Some(
            pinned.map(|(kind, path)| namespaces::namespace(kind, Some(path))).collect(),
        ))
        .set_uid_mappings(map.clone())
        .set_gid_mappings(map)
        .set_sysctl(Some(sysctls))
        .set_resources(None)
        .set_devices(None)
        .set_masked_paths(None)
        .set_readonly_paths(None);
    let mut spec = Spec::default();
    spec.set_version(VERSION.to_owned())
        .set_hostname(Some(facts.hostname.to_owned()))
        .set_annotations(Some(annotations::sandbox(facts, created)?))
        .set_linux(Some(linux))
        .set_root(None)
        .set_process(None)
        .set_mounts(None);
    Ok(spec)
}
