//! SELinux: which labels a pod and its containers have.
//!
//! A label is `user:role:type:level`. The policy says what a container's process and its files are
//! called; what keeps pods from each other is the level: each pod has two categories of its own,
//! and its containers have the same.
//!
//! Not here: whether the loaded policy knows a label, and labels of files (`crate::sys::selinux`).

use std::collections::BTreeSet;

use crate::model::security::NamespaceMode;
use crate::model::security::SecurityContext;
use crate::model::security::SelinuxLabels;
use crate::model::security::SelinuxOptions;
use crate::spec::error::SpecError;
use crate::spec::facts::ContainerFacts;

/// The type of a container that SELinux does not keep from anything.
const FREE: &str = "spc_t";
/// Categories of a policy: `c0` to `c1023`.
const CATEGORIES: u32 = 1024;
/// How many pairs there are.
const PAIRS: u32 = CATEGORIES * (CATEGORIES - 1) / 2;

/// What the policy calls containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contexts {
    process: String,
    file: String,
    shared: Option<String>,
}

impl Contexts {
    /// Reads the policy's file of `name = "label"` lines; `None` where it does not speak of
    /// containers.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let value = |wanted: &str| {
            let mut lines = text.lines().filter_map(|line| line.trim().split_once('='));
            let (_, value) = lines.find(|(name, _)| name.trim() == wanted)?;
            let value = value.trim().trim_matches('"');
            (value.split(':').count() >= 3).then(|| value.to_owned())
        };
        let shared = value("ro_file");
        Some(Self { process: value("process")?, file: value("file")?, shared })
    }

    /// The label of files that every container may read and none may write, as those of images.
    #[must_use]
    pub fn shared(&self) -> Option<&str> {
        self.shared.as_deref()
    }

    /// The labels of a pod with this level, changed as it asks.
    ///
    /// # Errors
    ///
    /// [`SpecError::Field`] for what can be no part of a label.
    pub fn of_sandbox(
        &self,
        level: &str,
        options: Option<&SelinuxOptions>,
    ) -> Result<SelinuxLabels, SpecError> {
        let with_level = |label: &str| match label.splitn(4, ':').count() {
            4 => replaced(label, [None, None, None, Some(level)]),
            _ => label.to_owned(),
        };
        let labels =
            SelinuxLabels { process: with_level(&self.process), mount: with_level(&self.file) };
        changed(&labels, options)
    }
}

/// What a container's spec says of SELinux; `None` is nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerLabels {
    /// Its process.
    pub process: Option<String>,
    /// What is mounted for it.
    pub mount: Option<String>,
}

/// The labels of a container in a pod with these labels.
///
/// What shares the node's processes or queues cannot be kept from them and has no label;
/// a privileged one has none for its process, and so has one in the node's network if
/// `free_on_host_network`.
///
/// # Errors
///
/// As [`Contexts::of_sandbox`].
pub fn of_container(
    security: &SecurityContext,
    sandbox: &SelinuxLabels,
    free_on_host_network: bool,
) -> Result<ContainerLabels, SpecError> {
    let node = |mode| mode == NamespaceMode::Node;
    let namespaces = &security.namespaces;
    if node(namespaces.pid) || node(namespaces.ipc) {
        return Ok(ContainerLabels::default());
    }
    let labels = changed(sandbox, security.selinux.as_ref())?;
    let free = security.privileged || free_on_host_network;
    let some = |label: String| (!label.is_empty()).then_some(label);
    Ok(ContainerLabels {
        process: some(labels.process).filter(|_| !free),
        mount: some(labels.mount),
    })
}

/// The same from the facts of its spec.
pub(super) fn container(facts: &ContainerFacts<'_>) -> Result<ContainerLabels, SpecError> {
    let sandbox = facts.sandbox;
    let Some(labels) = sandbox.selinux.filter(|_| facts.host.selinux) else {
        return Ok(ContainerLabels::default());
    };
    let on_host_network = sandbox.namespaces.network.is_none();
    let free = on_host_network && facts.defaults.hostnetwork_disable_selinux;
    of_container(&facts.config.security, labels, free)
}

/// Whether volumes keep their labels: a container that nothing is kept from needs no other.
#[must_use]
pub fn keeps_volumes(pod: Option<&SelinuxOptions>, own: Option<&SelinuxOptions>) -> bool {
    let kind = |options: Option<&SelinuxOptions>| {
        options.map(|options| options.kind.clone()).filter(|kind| !kind.is_empty())
    };
    kind(own).or_else(|| kind(pod)).is_some_and(|kind| kind == FREE)
}

/// A level of two categories that none of `used` has, beginning to look at `start`.
///
/// # Errors
///
/// [`SpecError::NoLevelLeft`].
pub fn free_level(used: &BTreeSet<String>, start: u32) -> Result<String, SpecError> {
    (0..PAIRS)
        // The last pair is what podman gives the files of containers that no other may read.
        .map(|step| (start % PAIRS + step) % PAIRS)
        .filter(|number| *number != PAIRS - 1)
        .map(level)
        .find(|level| !used.contains(level))
        .ok_or(SpecError::NoLevelLeft)
}

/// The level with the pair of this number, in the order of the first category, then the second.
fn level(number: u32) -> String {
    let (mut first, mut rest) = (0, number);
    while rest >= CATEGORIES - 1 - first {
        rest -= CATEGORIES - 1 - first;
        first += 1;
    }
    format!("s0:c{first},c{}", first + 1 + rest)
}

/// The level of a label.
#[must_use]
pub fn level_of(label: &str) -> Option<&str> {
    label.splitn(4, ':').nth(3)
}

/// Labels with the parts that were asked for: the process all of them, mounts those that say who
/// and at which level.
fn changed(
    labels: &SelinuxLabels,
    options: Option<&SelinuxOptions>,
) -> Result<SelinuxLabels, SpecError> {
    let Some(options) = options else { return Ok(labels.clone()) };
    let user = part("selinux_options.user", &options.user)?;
    let role = part("selinux_options.role", &options.role)?;
    let kind = part("selinux_options.type", &options.kind)?;
    let level = part("selinux_options.level", &options.level)?;
    Ok(SelinuxLabels {
        process: replaced(&labels.process, [user, role, kind, level]),
        mount: replaced(&labels.mount, [user, None, None, level]),
    })
}

/// A label is written into mount options, where quotes, commas and spaces mean something. The comma
/// of a level stands in quotes there.
fn part<'a>(field: &'static str, text: &'a str) -> Result<Option<&'a str>, SpecError> {
    let more = if field.ends_with("level") { ":,-." } else { "-." };
    let fine = |c: char| c.is_ascii_alphanumeric() || c == '_' || more.contains(c);
    if !text.chars().all(fine) {
        return Err(SpecError::field(field, text, "is no part of a label"));
    }
    Ok((!text.is_empty()).then_some(text))
}

/// A label with some of its parts replaced. An empty one stays: there is nothing to change.
fn replaced(label: &str, parts: [Option<&str>; 4]) -> String {
    if label.is_empty() {
        return String::new();
    }
    let mut old = label.splitn(4, ':');
    let new: Vec<&str> = parts
        .into_iter()
        .map(|part| {
            let old = old.next();
            part.or(old)
        })
        .map_while(|part| part)
        .collect();
    new.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# of the policy\nprocess = \"system_u:system_r:container_t:s0\"\n\
                        content = \"x:y:z:s0\"\nro_file = \"u:r:ro:s0\"\nfile=\"system_u:object_r:container_file_t:s0\"\n";

    fn options(user: &str, kind: &str, level: &str) -> SelinuxOptions {
        SelinuxOptions {
            user: user.into(),
            kind: kind.into(),
            level: level.into(),
            ..SelinuxOptions::default()
        }
    }

    fn sandbox() -> SelinuxLabels {
        Contexts::parse(FILE).unwrap().of_sandbox("s0:c1,c2", None).unwrap()
    }

    #[test]
    fn the_labels_of_a_pod() {
        let contexts = Contexts::parse(FILE).unwrap();
        for (asked, process, mount) in [
            (
                None,
                "system_u:system_r:container_t:s0:c1,c2",
                "system_u:object_r:container_file_t:s0:c1,c2",
            ),
            (
                Some(options("", "spc_t", "")),
                "system_u:system_r:spc_t:s0:c1,c2",
                "system_u:object_r:container_file_t:s0:c1,c2",
            ),
            (
                Some(options("staff_u", "", "s0:c7")),
                "staff_u:system_r:container_t:s0:c7",
                "staff_u:object_r:container_file_t:s0:c7",
            ),
        ] {
            let found = contexts.of_sandbox("s0:c1,c2", asked.as_ref()).unwrap();
            assert_eq!((found.process.as_str(), found.mount.as_str()), (process, mount));
        }
        assert_eq!(contexts.shared(), Some("u:r:ro:s0"));
        let without_levels = Contexts::parse("process = \"u:r:t\"\nfile = \"u:o:f\"").unwrap();
        assert_eq!(without_levels.shared(), None);
        assert_eq!(without_levels.of_sandbox("s0:c1,c2", None).unwrap().process, "u:r:t");
        for text in ["", "process = \"u:r:t\"", "process = \"\"\nfile = \"u:o:f\""] {
            assert_eq!(Contexts::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_part_of_a_label_cannot_become_a_mount_option() {
        for bad in ["s0\",upperdir=/etc", "s0 x", "s0\n", "a\\b"] {
            for asked in [options(bad, "", ""), options("", bad, ""), options("", "", bad)] {
                assert!(changed(&sandbox(), Some(&asked)).is_err(), "{bad:?}");
            }
        }
        assert!(changed(&sandbox(), Some(&options("a:b", "", ""))).is_err());
    }

    #[test]
    fn who_shares_with_the_node_is_not_kept_from_it() {
        let process = "system_u:system_r:container_t:s0:c1,c2";
        let mount = "system_u:object_r:container_file_t:s0:c1,c2";
        let check = |security: &SecurityContext, free, expected: (Option<&str>, Option<&str>)| {
            let found = of_container(security, &sandbox(), free).unwrap();
            assert_eq!((found.process.as_deref(), found.mount.as_deref()), expected);
        };
        let mut security = SecurityContext::default();
        check(&security, false, (Some(process), Some(mount)));
        check(&security, true, (None, Some(mount)));
        security.privileged = true;
        check(&security, false, (None, Some(mount)));
        security.privileged = false;
        security.namespaces.pid = NamespaceMode::Node;
        check(&security, false, (None, None));
        security.namespaces.pid = NamespaceMode::Pod;
        security.namespaces.ipc = NamespaceMode::Node;
        check(&security, false, (None, None));
        let own = of_container(&SecurityContext::default(), &SelinuxLabels::default(), false);
        assert_eq!(own.unwrap(), ContainerLabels::default());
    }

    #[test]
    fn volumes_of_a_free_container_keep_their_labels() {
        let free = options("", "spc_t", "");
        let usual = options("", "container_t", "");
        let none = options("", "", "s0");
        for (pod, own, expected) in [
            (None, None, false),
            (Some(&free), None, true),
            (Some(&free), Some(&none), true),
            (Some(&free), Some(&usual), false),
            (Some(&usual), Some(&free), true),
        ] {
            assert_eq!(keeps_volumes(pod, own), expected, "{pod:?} {own:?}");
        }
    }

    #[test]
    fn every_pair_of_categories_is_there_once() {
        let mut seen = BTreeSet::new();
        for number in 0..PAIRS {
            assert!(seen.insert(level(number)));
        }
        assert_eq!((level(0), level(PAIRS - 1)), ("s0:c0,c1".into(), "s0:c1022,c1023".into()));
        let used: BTreeSet<String> = ["s0:c0,c1", "s0:c0,c2"].map(String::from).into();
        assert_eq!(free_level(&used, 0).unwrap(), "s0:c0,c3");
        assert_eq!(free_level(&used, PAIRS - 1).unwrap(), "s0:c0,c3");
        assert_eq!(free_level(&used, u32::MAX).unwrap(), level(u32::MAX % PAIRS));
        seen.remove("s0:c5,c9");
        assert_eq!(free_level(&seen, 77).unwrap(), "s0:c5,c9");
        seen.insert("s0:c5,c9".into());
        assert!(matches!(free_level(&seen, 77), Err(SpecError::NoLevelLeft)));
    }

    #[test]
    fn the_level_is_all_after_the_third_colon() {
        assert_eq!(level_of("u:r:t:s0:c1,c2"), Some("s0:c1,c2"));
        assert_eq!(level_of("u:r:t"), None);
    }
}
