//! Which capabilities a container gets: none, then the configured ones, then the pod's changes.
//!
//! Inheritable and ambient sets are always empty, so that a program that drops root keeps nothing
//! (CVE-2022-27652, CVE-2022-24769).

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
    if !changes.ambient.is_empty() {
        return Err(SpecError::NotBuilt { what: "ambient capabilities" });
    }
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

/// Writes the sets of a process.
pub(super) fn write(set: &Capabilities) -> Result<LinuxCapabilities, SpecError> {
    LinuxCapabilitiesBuilder::default()
        .bounding(set.clone())
        .effective(set.clone())
        .permitted(set.clone())
        .inheritable(Capabilities::new())
        .ambient(Capabilities::new())
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
        let sets = write(&privileged(&host())).unwrap();
        assert!(sets.inheritable().as_ref().unwrap().is_empty());
        assert!(sets.ambient().as_ref().unwrap().is_empty());
        assert_eq!(sets.bounding(), sets.permitted());
        let changes = CapabilityChanges { ambient: vec!["CHOWN".into()], ..Default::default() };
        assert!(set(&[], &changes, &host()).is_err());
    }
}
