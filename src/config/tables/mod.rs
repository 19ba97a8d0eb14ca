//! Every key there is, each written once.
//!
//! The names, types and defaults are those of CRI-O 1.36 (crio.conf(5)), so that its files load
//! here; where a default differs, the key's text says so. A key whose meaning is not built yet is
//! [`super::key::Effect::Later`]: it is checked, and setting it is warned of.

mod api;
mod command;
mod handler;
mod image;
mod network;
mod observe;
mod plugins;
mod root;
mod runtime;

pub use api::Api;
pub use command::Command;
pub use handler::Handler;
pub use handler::Workload;
pub use handler::WorkloadResources;
pub use image::Image;
pub use network::Network;
pub use observe::Audit;
pub use observe::Metrics;
pub use observe::Stats;
pub use observe::Tracing;
pub use plugins::Checkpoint;
pub use plugins::Nri;
pub use plugins::NriValidator;
pub use root::Root;
pub use runtime::Runtime;

use super::key::Key;

/// All keys, table by table, in the order they are printed in.
pub(super) const TABLES: &[&[Key]] = &[
    Command::KEYS,
    Root::KEYS,
    Api::KEYS,
    Runtime::KEYS,
    Handler::KEYS,
    Workload::KEYS,
    WorkloadResources::KEYS,
    Checkpoint::KEYS,
    Image::KEYS,
    Network::KEYS,
    Metrics::KEYS,
    Audit::KEYS,
    Tracing::KEYS,
    Stats::KEYS,
    Nri::KEYS,
    NriValidator::KEYS,
];

/// Keys that files of older versions have, CRI-O dropped, and why they are missed by nobody.
pub(super) const RETIRED: &[(&str, &str)] = &[
    ("crio.file_locking", "the store's locks are always taken"),
    ("crio.file_locking_path", "the store's locks are always taken"),
    ("crio.api.host_ip", "the addresses of the node are not asked for any more"),
    ("crio.runtime.default_mounts", "use default_mounts_file"),
    ("crio.runtime.manage_network_ns_lifecycle", "namespaces are always pinned"),
    ("crio.runtime.manage_ns_lifecycle", "namespaces are always pinned"),
    ("crio.runtime.seccomp_use_default_when_empty", "the kubelet's seccompDefault decides"),
    ("crio.image.registries", "use unqualified-search-registries in registries.conf"),
];

/// All keys.
pub fn keys() -> impl Iterator<Item = &'static Key> {
    TABLES.iter().flat_map(|table| table.iter())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::keys;

    #[test]
    fn no_name_is_used_twice() {
        let (mut paths, mut flags, mut variables) =
            (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for key in keys() {
            assert!(paths.insert(key.path()), "{}", key.path());
            for flag in key.flag().into_iter().chain(key.row.alias.map(str::to_owned)) {
                assert!(flags.insert(flag.clone()), "--{flag}");
            }
            if let Some(variable) = key.variable() {
                assert!(variables.insert(variable.clone()), "{variable}");
            }
        }
        assert!(paths.len() > 140, "{}", paths.len());
    }

    #[test]
    fn no_key_is_retired_and_used() {
        for (path, _) in super::RETIRED {
            assert!(keys().all(|key| key.path() != *path), "{path}");
        }
    }

    #[test]
    fn every_key_has_a_sentence() {
        for key in keys() {
            let doc = key.doc.trim();
            assert!(doc.ends_with('.') && doc.len() > 10, "{}: {doc}", key.path());
        }
    }
}
