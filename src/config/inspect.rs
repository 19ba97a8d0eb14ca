//! The configuration of the runtime as CRI-O's `Status` shows it (`crictl info`): an object under the
//! names that the fields have in CRI-O's own code, which people search for.

use serde_json::Map;
use serde_json::Value as Json;
use serde_json::json;

use super::check::Config;
use super::key::Key;
use super::layers::Values;
use super::tables::Handler;
use super::tables::Runtime;
use super::tables::Workload;
use super::tables::WorkloadResources;
use super::value::Value;

/// Words of a key that are not spelt with one capital letter.
const SPELT: [(&str, &str); 12] = [
    ("blockio", "BlockIO"),
    ("cdi", "CDI"),
    ("cpu", "CPU"),
    ("cpuset", "CPUSet"),
    ("gid", "GID"),
    ("gomaxprocs", "GOMAXPROCS"),
    ("hostnetwork", "HostNetwork"),
    ("hostport", "HostPort"),
    ("irqbalance", "IrqBalance"),
    ("manager", "ManagerName"),
    ("selinux", "SELinux"),
    ("uid", "UID"),
];

/// What is configured for the runtime.
#[must_use]
pub fn inspect(config: &Config, values: &Values) -> Json {
    let mut shown = table(values, Runtime::TABLE, Runtime::KEYS);
    let handlers = config.handlers.iter().map(|(name, handler)| {
        let mut one = table(values, &Handler::TABLE.replace('*', name), Handler::KEYS);
        // As found, where nothing or only a name was written.
        one.insert("RuntimePath".to_owned(), json!(handler.path));
        one.insert("RuntimeRoot".to_owned(), json!(handler.root));
        one.insert("MonitorPath".to_owned(), json!(handler.monitor.path));
        (name.clone(), Json::Object(one))
    });
    shown.insert("Runtimes".to_owned(), Json::Object(handlers.collect()));
    let workloads = values.workloads().map(|name| {
        let mut one = table(values, &Workload::TABLE.replace('*', name), Workload::KEYS);
        let at = WorkloadResources::TABLE.replace('*', name);
        let resources = WorkloadResources::KEYS.iter().map(|key| {
            let value = value(values, &at, key);
            (key.name.to_owned(), value)
        });
        one.insert("Resources".to_owned(), Json::Object(resources.collect()));
        (name.to_owned(), Json::Object(one))
    });
    shown.insert("Workloads".to_owned(), Json::Object(workloads.collect()));
    Json::Object(shown)
}

fn table(values: &Values, at: &str, keys: &[Key]) -> Map<String, Json> {
    keys.iter().map(|key| (spelt(key.name), value(values, at, key))).collect()
}

fn value(values: &Values, at: &str, key: &Key) -> Json {
    match values.value(at, key.name).cloned().unwrap_or_else(|| key.fallback.value()) {
        Value::Text(text) => json!(text),
        Value::Bool(flag) => json!(flag),
        Value::Integer(number) => json!(number),
        Value::List(list) => json!(list),
        Value::Map(map) => json!(map),
    }
}

/// `uid_mappings` is `UIDMappings`.
fn spelt(key: &str) -> String {
    let word = |word: &str| match SPELT.iter().find(|(lower, _)| *lower == word) {
        Some((_, spelt)) => (*spelt).to_owned(),
        None => {
            let mut letters = word.chars();
            let first = letters.next().map(|letter| letter.to_ascii_uppercase());
            first.into_iter().chain(letters).collect()
        }
    };
    key.split('_').map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_names_of_crio_s_own_fields() {
        for (key, expected) in [
            ("selinux", "SELinux"),
            ("cdi_spec_dirs", "CDISpecDirs"),
            ("cgroup_manager", "CgroupManagerName"),
            ("minimum_mappable_uid", "MinimumMappableUID"),
            ("infra_ctr_cpuset", "InfraCtrCPUSet"),
            ("hostnetwork_disable_selinux", "HostNetworkDisableSELinux"),
            ("irqbalance_config_restore_file", "IrqBalanceConfigRestoreFile"),
            ("min_injected_gomaxprocs", "MinInjectedGOMAXPROCS"),
            ("disable_hostport_mapping", "DisableHostPortMapping"),
            ("exec_cpu_affinity", "ExecCPUAffinity"),
            ("no_sync_log", "NoSyncLog"),
        ] {
            assert_eq!(spelt(key), expected);
        }
    }
}
