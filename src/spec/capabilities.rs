//! Which capabilities a container gets: none, then the configured ones, then the pod's changes.
//!
//! Inheritable and ambient sets are empty, so that a program that drops root keeps nothing
//! (CVE-2022-27652, CVE-2022-24769), unless a container asks for ambient capabilities by name or
//! the administrator for inheritable ones.

use oci_spec::runtime::Capabilities;
use oci_spec::runtime::Capability;
use oci_spec::runtime::LinuxCapabilities;
use oci_spec::runtime::LinuxCapabilitiesBuilder;

use crate::model::security::CapabilityChanges;
use crate::spec::error::SpecError;
use crate::spec::facts::HostFacts;

/// CRI-O's defaults: enough for images that start as root, own their files and drop root.
pub const DEFAULT: [&str; 9] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "KILL",
];

/// Which capabilities a program with file capabilities may take over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Inheritable {
    /// Those that are ambient: none, usually.
    #[default]
    Ambient,
    /// All that the container has, as before CVE-2022-27652.
    All,
}

/// Reads a capability's name, in any case, with or without `CAP_`.
#[must_use]
pub fn parse(name: &str) -> Option<Capability> {
    let upper = name.to_ascii_uppercase();
    upper.strip_prefix("CAP_").unwrap_or(&upper).parse().ok()
}

/// Gives the bounding set of a container.
///
/// What the host's own bounding set lacks is left out: the kernel gives no child more than its
/// parent may have, and the runtime fails when asked to.
///
/// # Errors
///
/// [`SpecError::Field`] for a name that the kernel does not know. A misspelt drop must not pass:
/// the container would run with what it was to lose.
pub fn set(
    defaults: &[String],
    changes: &CapabilityChanges,
    host: &HostFacts,
) -> Result<Capabilities, SpecError> {
    let all = |names: &[String]| names.iter().any(|name| name.eq_ignore_ascii_case("ALL"));
    let mut set = match (all(&changes.drop), all(&changes.add)) {
        (true, _) => Capabilities::new(),
        (false, true) => host.capabilities.clone(),
        (false, false) => named("default_capabilities", defaults, host)?.into_iter().collect(),
    };
    set.extend(named("add_capabilities", &changes.add, host)?);
    for capability in named("drop_capabilities", &changes.drop, host)? {
        set.remove(&capability);
    }
    set.retain(|capability| host.bounding.contains(capability));
    Ok(set)
}

/// Gives every capability that this host can give: a privileged container's.
#[must_use]
pub fn privileged(host: &HostFacts) -> Capabilities {
    host.capabilities.intersection(&host.bounding).copied().collect()
}

fn named(
    field: &'static str,
    names: &[String],
    host: &HostFacts,
) -> Result<Vec<Capability>, SpecError> {
    let one = |name: &String| {
        parse(name)
            .filter(|capability| host.capabilities.contains(capability))
            .ok_or_else(|| SpecError::field(field, name, "is no capability of this kernel"))
    };
    names.iter().filter(|name| !name.eq_ignore_ascii_case("ALL")).map(one).collect()
}

/// Gives the ambient set: what a container asks to keep when it is not root. It must have it.
///
/// # Errors
///
/// [`SpecError::Field`] for a name that the kernel does not know, `ALL` among them, and for a
/// capability that the container does not get.
pub fn ambient(
    set: &Capabilities,
    changes: &CapabilityChanges,
    host: &HostFacts,
) -> Result<Capabilities, SpecError> {
    let one = |name: &String| {
        let fault = |fault| SpecError::field("add_ambient_capabilities", name, fault);
        let capability = parse(name).filter(|capability| host.capabilities.contains(capability));
        let capability = capability.ok_or_else(|| fault("is no capability of this kernel"))?;
        // What the host may not give is left out here as it is in the set.
        if set.contains(&capability) || !host.bounding.contains(&capability) {
            Ok(capability)
        } else {
            Err(fault("is not among the container's capabilities"))
        }
    };
    let named = changes.ambient.iter().map(one).collect::<Result<Capabilities, _>>()?;
    Ok(named.intersection(set).copied().collect())
}

/// Writes the sets of a process. The kernel wants what is ambient to be inheritable too.
pub(super) fn write(
    set: &Capabilities,
    ambient: Capabilities,
    inheritable: Inheritable,
) -> Result<LinuxCapabilities, SpecError> {
    LinuxCapabilitiesBuilder::default()
        .bounding(set.clone())
        .effective(set.clone())
        .permitted(set.clone())
        .inheritable(match inheritable {
            Inheritable::Ambient => ambient.clone(),
            Inheritable::All => set.clone(),
        })
        .ambient(ambient)
        .build()
        .map_err(|source| SpecError::Build { part: "capabilities", source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> HostFacts {
        let capabilities: Capabilities = [
            "CHOWN",
            "DAC_OVERRIDE",
            "FSETID",
            "FOWNER",
            "SETGID",
            "SETUID",
            "SETPCAP",
            "NET_BIND_SERVICE",
            "KILL",
            "NET_ADMIN",
            "SYS_ADMIN",
            "SYS_RESOURCE",
        ]
        .iter()
        .filter_map(|name| parse(name))
        .collect();
        let mut bounding = capabilities.clone();
        bounding.remove(&Capability::SysResource);
        HostFacts { capabilities, bounding, ..HostFacts::default() }
    }

    fn check(add: &[&str], drop: &[&str], expected: Result<&[&str], &str>) {
        let texts = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let changes = CapabilityChanges { add: texts(add), drop: texts(drop), ambient: Vec::new() };
        let found = set(&texts(&DEFAULT), &changes, &host());
        match expected {
            Ok(names) => {
                let expected: Capabilities = names.iter().filter_map(|name| parse(name)).collect();
                assert_eq!(found.unwrap(), expected, "+{add:?} -{drop:?}");
            }
            Err(word) => {
                let error = found.unwrap_err().to_string();
                assert!(error.contains(word), "{error}");
            }
        }
    }

    #[test]
    fn adds_and_drops_work_on_the_defaults() {
        check(&[], &[], Ok(&DEFAULT));
        check(&[], &["ALL"], Ok(&[]));
        check(&["cap_Net_Admin"], &["all"], Ok(&["NET_ADMIN"]));
        check(&["NET_ADMIN"], &["NET_ADMIN", "KILL"], Ok(&DEFAULT[..8]));
        check(&["ALL"], &["ALL"], Ok(&[]));
        let mut all = DEFAULT[1..].to_vec();
        all.extend(["NET_ADMIN", "SYS_ADMIN"]);
        check(&["ALL"], &["CHOWN"], Ok(&all));
    }

    #[test]
    fn a_misspelt_drop_does_not_leave_the_capability() {
        check(&[], &["NET_ROW"], Err("NET_ROW"));
        check(&["CAP_"], &[], Err("CAP_"));
        check(&["MAC_ADMIN"], &[], Err("no capability of this kernel"));
    }

    #[test]
    fn what_the_daemon_may_not_give_is_left_out() {
        check(&["SYS_RESOURCE"], &["ALL"], Ok(&[]));
        assert!(!privileged(&host()).contains(&Capability::SysResource));
    }

    #[test]
    fn no_capability_survives_a_change_of_user_cve_2022_27652() {
        let all = privileged(&host());
        let sets = write(&all, Capabilities::new(), Inheritable::default()).unwrap();
        assert!(sets.inheritable().as_ref().unwrap().is_empty());
        assert!(sets.ambient().as_ref().unwrap().is_empty());
        assert_eq!(sets.bounding(), sets.permitted());
        let sets = write(&all, Capabilities::new(), Inheritable::All).unwrap();
        assert_eq!(sets.inheritable(), sets.permitted());
        assert!(sets.ambient().as_ref().unwrap().is_empty());
    }

    #[test]
    fn what_is_ambient_is_asked_for_by_name_and_had() {
        let ask = |add: &[&str], names: &[&str]| {
            let texts = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
            let changes =
                CapabilityChanges { add: texts(add), drop: texts(&["ALL"]), ambient: texts(names) };
            let set = set(&[], &changes, &host())?;
            ambient(&set, &changes, &host())
        };
        let bind: Capabilities = [Capability::NetBindService].into();
        let found = ask(&["NET_BIND_SERVICE", "CHOWN"], &["cap_net_bind_service"]).unwrap();
        assert_eq!(found, bind);
        assert_eq!(ask(&["SYS_RESOURCE"], &["SYS_RESOURCE"]).unwrap(), Capabilities::new());
        for name in ["KILL", "NET_BINDD", "ALL", "MAC_ADMIN"] {
            assert!(ask(&["CHOWN"], &[name]).unwrap_err().to_string().contains(name), "{name}");
        }
        let sets = write(&bind, bind.clone(), Inheritable::default()).unwrap();
        assert_eq!((sets.ambient(), sets.inheritable()), (&Some(bind.clone()), &Some(bind)));
    }
}
