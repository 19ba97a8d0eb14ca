//! Which kernel parameters a pod may set: those that belong to its own namespaces, and no other.
//!
//! Key and value are checked as texts too. A value with a separator in it once set a parameter of
//! the host through a helper's command line (CVE-2022-0811).

use std::collections::BTreeMap;

use crate::model::security::IdMapping;
use crate::spec::error::SpecError;

/// The result of a check.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// What may be written into the pod's namespaces. Parts of a key are separated by dots; a
    /// slash stands for a dot within a part (`net.ipv4.conf.eth0/1.forwarding`).
    pub allowed: BTreeMap<String, String>,
    /// What is left out, with the reason: for a warning, as the reference gives.
    pub skipped: Vec<(String, &'static str)>,
}

/// Which namespaces of the node a pod shares.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shared {
    /// The network.
    pub network: bool,
    /// System V IPC and POSIX queues.
    pub ipc: bool,
}

/// Tells which of the parameters may be set.
///
/// Those of a namespace that the pod shares with the node, and those that no namespace has, are
/// skipped: the kubelet has its own list and has already told the user.
///
/// # Errors
///
/// [`SpecError::Field`] for a key or value that is no plain one.
pub fn check(wanted: &BTreeMap<String, String>, shared: Shared) -> Result<Checked, SpecError> {
    let mut checked = Checked::default();
    for (key, value) in wanted {
        plain(key, value)?;
        // sysctl(8): where the first separator is a slash, dots and slashes change places.
        let slashed = key.find(['.', '/']).is_some_and(|at| key[at..].starts_with('/'));
        let dotted = if slashed { swap(key) } else { key.clone() };
        match refusal(&dotted, shared) {
            Some(reason) => checked.skipped.push((dotted, reason)),
            None => drop(checked.allowed.insert(dotted, value.clone())),
        }
    }
    Ok(checked)
}

/// Keeps the groups that may ping within those of a user namespace: the kernel takes no other. The
/// usual setting names every group there could be. The ids become those of the node, where it is
/// written from.
pub fn map_groups(wanted: &mut BTreeMap<String, String>, map: IdMapping) {
    for (key, value) in wanted {
        if key.replace('/', ".") != "net.ipv4.ping_group_range" {
            continue;
        }
        let groups: Vec<_> = value.split_whitespace().map(str::parse::<u32>).collect();
        if let [Ok(first), Ok(last)] = groups.as_slice()
            && first <= last
        {
            let of_node =
                |group: u32| map.host_id.saturating_add(group.min(map.length.saturating_sub(1)));
            *value = format!("{} {}", of_node(*first), of_node(*last));
        }
    }
}

/// Reads the configured `key=value` texts; an empty text is none.
///
/// # Errors
///
/// [`SpecError::Field`] without `=`, or with spaces around a part.
pub fn parse(texts: &[String]) -> Result<BTreeMap<String, String>, SpecError> {
    let pair = |text: &String| {
        let fault = |fault| SpecError::field("default_sysctls", text, fault);
        let (key, value) = text.split_once('=').ok_or_else(|| fault("is not key=value"))?;
        if key.trim() != key || value.trim() != value {
            return Err(fault("has spaces around the key or the value"));
        }
        Ok((key.to_owned(), value.to_owned()))
    };
    texts.iter().filter(|text| !text.is_empty()).map(pair).collect()
}

fn swap(key: &str) -> String {
    let swapped = |character| match character {
        '/' => '.',
        '.' => '/',
        other => other,
    };
    key.chars().map(swapped).collect()
}

fn plain(key: &str, value: &str) -> Result<(), SpecError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    let parts = || key.split(['.', '/']);
    if key.len() > 253 || !key.chars().all(legal) || parts().any(str::is_empty) {
        return Err(SpecError::field("sysctls", key, "is no name of a parameter"));
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || " \t.,:_-/".contains(c);
    if value.is_empty() || value.len() > 1024 || !value.chars().all(legal) {
        return Err(SpecError::field("sysctls", value, "is no value of a parameter"));
    }
    Ok(())
}

fn refusal(key: &str, shared: Shared) -> Option<&'static str> {
    let ipc = key == "kernel.sem"
        || ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|start| key.starts_with(start));
    if ipc {
        return shared.ipc.then_some("the pod shares the node's IPC namespace");
    }
    if key.starts_with("net.") {
        return shared.network.then_some("the pod shares the node's network");
    }
    Some("it belongs to no namespace of a pod")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(key: &str, value: &str, shared: Shared) -> Result<Checked, SpecError> {
        check(&BTreeMap::from([(key.to_owned(), value.to_owned())]), shared)
    }

    #[test]
    fn parameters_of_the_pod_s_namespaces_are_allowed() {
        let host_network = Shared { network: true, ipc: false };
        let host_ipc = Shared { network: false, ipc: true };
        for (key, shared, allowed) in [
            ("net.ipv4.ip_unprivileged_port_start", Shared::default(), true),
            ("net.ipv4.ip_unprivileged_port_start", host_network, false),
            ("kernel.sem", Shared::default(), true),
            ("kernel.shm_rmid_forced", host_network, true),
            ("kernel.msgmax", host_ipc, false),
            ("fs.mqueue.msg_max", host_ipc, false),
            ("kernel.core_pattern", Shared::default(), false),
            ("vm.swappiness", Shared::default(), false),
            ("network.x", Shared::default(), false),
        ] {
            let checked = one(key, "1", shared).unwrap();
            assert_eq!(checked.allowed.contains_key(key), allowed, "{key}");
            assert_eq!(checked.skipped.is_empty(), allowed, "{key}");
        }
    }

    #[test]
    fn a_separator_in_a_value_sets_nothing_else_cve_2022_0811() {
        for value in ["1+kernel.core_pattern=|/bin/evil", "1\nkernel.x=1", "a;b", "$(x)", "", "|x"]
        {
            assert!(one("kernel.shm_rmid_forced", value, Shared::default()).is_err(), "{value:?}");
        }
        let range = one("net.ipv4.ping_group_range", "0 2147483647", Shared::default());
        assert_eq!(range.unwrap().allowed.len(), 1);
    }

    #[test]
    fn a_key_does_not_climb_out_of_its_directory() {
        for key in ["net/../kernel/core_pattern", "net..x", ".net", "net.", "net. x", "net.x\n", ""]
        {
            assert!(one(key, "1", Shared::default()).is_err(), "{key:?}");
        }
        // Dots and slashes change places: this is a parameter of the interface `eth0.1`.
        let found = one("net/ipv4/conf/eth0.1/forwarding", "1", Shared::default()).unwrap();
        assert!(found.allowed.contains_key("net.ipv4.conf.eth0/1.forwarding"));
        let found = one("net.ipv4.conf.eth0/1.forwarding", "1", Shared::default()).unwrap();
        assert!(found.allowed.contains_key("net.ipv4.conf.eth0/1.forwarding"));
        assert!(one("kernel/core_pattern", "1", Shared::default()).unwrap().allowed.is_empty());
    }

    #[test]
    fn only_groups_of_the_user_namespace_may_ping() {
        for (value, expected) in [
            ("0 2147483647", "300000 365535"),
            ("0\t100", "300000 300100"),
            ("70000 80000", "365535 365535"),
            // This means: nobody.
            ("1 0", "1 0"),
            ("all", "all"),
        ] {
            let key = "net.ipv4.ping_group_range";
            let mut wanted = BTreeMap::from([(key.to_owned(), value.to_owned())]);
            map_groups(
                &mut wanted,
                IdMapping { host_id: 300_000, container_id: 0, length: 65_536 },
            );
            assert_eq!(wanted[key], expected);
        }
    }

    #[test]
    fn configured_texts_are_read() {
        let found = parse(&["a.b=1 2".into(), String::new()]).unwrap();
        assert_eq!(found["a.b"], "1 2");
        assert!(parse(&["a.b = 1".into()]).is_err());
        assert!(parse(&["a.b".into()]).is_err());
    }
}
