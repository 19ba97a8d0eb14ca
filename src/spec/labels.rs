//! The names by which AppArmor and SELinux know a container.

use crate::model::security::NamespaceMode;
use crate::model::security::SecurityProfile;
use crate::model::security::SelinuxOptions;
use crate::spec::error::SpecError;
use crate::spec::facts::ContainerFacts;

/// Gives the AppArmor profile; `None` is none.
///
/// Whether a named profile is loaded is for the caller to look up; the kernel refuses one that is
/// not.
pub(super) fn apparmor(facts: &ContainerFacts<'_>) -> Result<Option<String>, SpecError> {
    let security = &facts.config.security;
    let asked = match &security.apparmor {
        SecurityProfile::Localhost(name) => {
            Some(name.strip_prefix("localhost/").unwrap_or(name).to_owned())
        }
        SecurityProfile::RuntimeDefault | SecurityProfile::Unset => {
            Some(facts.defaults.apparmor.clone())
        }
        SecurityProfile::Unconfined => None,
    };
    if !facts.host.apparmor {
        // Running without a protection that was named is worse than not running.
        return match security.apparmor {
            SecurityProfile::Localhost(_) => Err(SpecError::HostLacks { what: "AppArmor" }),
            SecurityProfile::RuntimeDefault
            | SecurityProfile::Unset
            | SecurityProfile::Unconfined => Ok(None),
        };
    }
    let Some(name) = asked.filter(|_| !security.privileged) else { return Ok(None) };
    if name.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(SpecError::field("apparmor", &name, "is no name of a profile"));
    }
    if name.is_empty() && matches!(security.apparmor, SecurityProfile::Localhost(_)) {
        return Err(SpecError::field("apparmor", "", "names no profile"));
    }
    Ok((!name.is_empty()).then_some(name))
}

/// Gives the SELinux label of the process; `None` is none.
pub(super) fn selinux_process(facts: &ContainerFacts<'_>) -> Option<String> {
    let security = &facts.config.security;
    let label = labels(facts)?.process.clone();
    let host_network = facts.sandbox.namespaces.network.is_none();
    let free = security.privileged
        || shares_processes(facts)
        || (host_network && facts.defaults.hostnetwork_disable_selinux);
    (!free).then(|| changed(&label, security.selinux.as_ref())).filter(|label| !label.is_empty())
}

/// Gives the SELinux label of mounts; `None` is none.
pub(super) fn selinux_mount(facts: &ContainerFacts<'_>) -> Option<String> {
    let label = labels(facts)?.mount.clone();
    Some(label).filter(|label| !label.is_empty() && !shares_processes(facts))
}

fn labels<'a>(facts: &ContainerFacts<'a>) -> Option<&'a crate::spec::facts::SelinuxLabels> {
    facts.sandbox.selinux.filter(|_| facts.host.selinux)
}

fn shares_processes(facts: &ContainerFacts<'_>) -> bool {
    let namespaces = &facts.config.security.namespaces;
    namespaces.pid == NamespaceMode::Node || namespaces.ipc == NamespaceMode::Node
}

/// Puts the container's own parts in the place of the sandbox's; the level may have colons.
fn changed(label: &str, options: Option<&SelinuxOptions>) -> String {
    let Some(options) = options else { return label.to_owned() };
    let mut parts: Vec<&str> = label.splitn(4, ':').collect();
    let own = [&options.user, &options.role, &options.kind, &options.level];
    for (part, own) in parts.iter_mut().zip(own).filter(|(_, own)| !own.is_empty()) {
        *part = own;
    }
    parts.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_parts_take_the_place_of_the_sandbox_s() {
        let label = "system_u:system_r:container_t:s0:c1,c2";
        let options = SelinuxOptions { kind: "spc_t".into(), ..SelinuxOptions::default() };
        assert_eq!(changed(label, Some(&options)), "system_u:system_r:spc_t:s0:c1,c2");
        let options = SelinuxOptions { level: "s0:c3".into(), ..SelinuxOptions::default() };
        assert_eq!(changed(label, Some(&options)), "system_u:system_r:container_t:s0:c3");
        assert_eq!(changed(label, None), label);
    }
}
