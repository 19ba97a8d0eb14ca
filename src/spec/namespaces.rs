//! Which namespaces a container joins, gets, or shares with the node.
//!
//! Network, IPC, host name and users are the sandbox's, always. A container that asks for the node's
//! where its sandbox has its own is refused: the sandbox is what was admitted and is shown.

use std::path::Path;

use oci_spec::runtime::LinuxIdMapping;
use oci_spec::runtime::LinuxIdMappingBuilder;
use oci_spec::runtime::LinuxNamespace;
use oci_spec::runtime::LinuxNamespaceType;

use crate::model::security::IdMapping;
use crate::model::security::NamespaceMode;
use crate::spec::error::SpecError;
use crate::spec::facts::ContainerFacts;

/// Gives the namespaces of a container.
pub(super) fn container(facts: &ContainerFacts<'_>) -> Result<Vec<LinuxNamespace>, SpecError> {
    let security = &facts.config.security;
    let sandbox = facts.sandbox;
    let shared = sandbox.namespaces;
    let wanted = &security.namespaces;
    follow(facts, "network", wanted.network, shared.network.is_none())?;
    follow(facts, "ipc", wanted.ipc, shared.ipc.is_none())?;
    let joined = [
        (LinuxNamespaceType::User, shared.user),
        (LinuxNamespaceType::Network, shared.network),
        (LinuxNamespaceType::Ipc, shared.ipc),
        (LinuxNamespaceType::Uts, shared.uts),
    ];
    let mut namespaces: Vec<LinuxNamespace> = joined
        .into_iter()
        .filter_map(|(kind, path)| path.map(|path| namespace(kind, Some(path))))
        .collect();
    namespaces.push(namespace(LinuxNamespaceType::Mount, None));
    namespaces.extend(processes(facts)?);
    if facts.host.cgroup_v2 && !security.privileged {
        namespaces.push(namespace(LinuxNamespaceType::Cgroup, None));
    }
    Ok(namespaces)
}

/// Gives the map of the user namespace, which the runtime wants to know though it joins one that
/// has it already.
///
/// The pod's namespace is every container's. A request may leave it out, or name the same.
pub(super) fn id_map(facts: &ContainerFacts<'_>) -> Result<Option<Vec<LinuxIdMapping>>, SpecError> {
    let of_sandbox = facts.sandbox.config.security.namespaces.user_namespace;
    let asked = facts.config.security.namespaces.user_namespace;
    if asked.is_some() && asked != of_sandbox {
        let sandbox = facts.sandbox.id.to_string();
        return Err(SpecError::UserNamespace { sandbox });
    }
    let Some(map) = of_sandbox else { return Ok(None) };
    let user = facts.user;
    let ids = [user.uid, user.gid].into_iter().chain(user.additional_gids.iter().copied());
    if let Some(id) = ids.into_iter().find(|id| *id >= map.length) {
        return Err(SpecError::UnmappedId { id, length: map.length });
    }
    mappings(&[map]).map(Some)
}

/// Writes an id map.
pub(super) fn mappings(from: &[IdMapping]) -> Result<Vec<LinuxIdMapping>, SpecError> {
    let one = |map: &IdMapping| {
        LinuxIdMappingBuilder::default()
            .container_id(map.container_id)
            .host_id(map.host_id)
            .size(map.length)
            .build()
            .map_err(|source| SpecError::Build { part: "an id map", source })
    };
    from.iter().map(one).collect()
}

fn follow(
    facts: &ContainerFacts<'_>,
    namespace: &'static str,
    mode: NamespaceMode,
    sandbox_on_node: bool,
) -> Result<(), SpecError> {
    if mode == NamespaceMode::Node && !sandbox_on_node {
        return Err(SpecError::NodeNamespace { namespace, sandbox: facts.sandbox.id.to_string() });
    }
    Ok(())
}

fn processes(facts: &ContainerFacts<'_>) -> Result<Option<LinuxNamespace>, SpecError> {
    let none =
        |whose| SpecError::NoProcessNamespace { whose, sandbox: facts.sandbox.id.to_string() };
    let path = match facts.config.security.namespaces.pid {
        NamespaceMode::Container => None,
        NamespaceMode::Node => {
            let of_sandbox = facts.sandbox.config.security.namespaces.pid;
            follow(facts, "pid", NamespaceMode::Node, of_sandbox == NamespaceMode::Node)?;
            return Ok(None);
        }
        NamespaceMode::Pod => Some(facts.sandbox.namespaces.pid.ok_or_else(|| none("pod's"))?),
        NamespaceMode::Target => Some(facts.target_pid.ok_or_else(|| none("target's"))?),
    };
    Ok(Some(namespace(LinuxNamespaceType::Pid, path)))
}

/// A namespace: one of its own, or that at the path.
pub(super) fn namespace(kind: LinuxNamespaceType, path: Option<&Path>) -> LinuxNamespace {
    let mut namespace = LinuxNamespace::default();
    namespace.set_typ(kind).set_path(path.map(Path::to_path_buf));
    namespace
}
