//! Which namespaces a container joins, gets, or shares with the node.
//!
//! Network, IPC and host name are the sandbox's, always. A container that asks for the node's
//! where its sandbox has its own is refused: the sandbox is what was admitted and is shown.

use std::path::Path;

use oci_spec::runtime::LinuxNamespace;
use oci_spec::runtime::LinuxNamespaceType;

use crate::model::security::NamespaceMode;
use crate::spec::error::SpecError;
use crate::spec::facts::ContainerFacts;

/// Gives the namespaces of a container.
pub(super) fn container(facts: &ContainerFacts<'_>) -> Result<Vec<LinuxNamespace>, SpecError> {
    let security = &facts.config.security;
    let sandbox = facts.sandbox;
    if security.namespaces.user_namespace.is_some()
        || sandbox.config.security.namespaces.user_namespace.is_some()
    {
        return Err(SpecError::NotBuilt { what: "user namespaces" });
    }
    let shared = sandbox.namespaces;
    let wanted = &security.namespaces;
    follow(facts, "network", wanted.network, shared.network.is_none())?;
    follow(facts, "ipc", wanted.ipc, shared.ipc.is_none())?;
    let joined = [
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

fn namespace(kind: LinuxNamespaceType, path: Option<&Path>) -> LinuxNamespace {
    let mut namespace = LinuxNamespace::default();
    namespace.set_typ(kind).set_path(path.map(Path::to_path_buf));
    namespace
}
