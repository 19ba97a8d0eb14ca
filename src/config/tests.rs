//! Whole configurations: files, drop-ins and flags, through to the checked types.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use super::value::Value;
use super::*;
use crate::sys::files::Durability;
use crate::sys::files::replace;

/// A directory with a configuration in it.
struct Node {
    directory: TempDir,
    given: Vec<Given>,
}

impl Node {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), given: Vec::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn with(self, name: &str, text: &str) -> Self {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        replace(&path, text.as_bytes(), 0o755, Durability::Process).unwrap();
        self
    }

    fn flag(mut self, flag: &str, text: &str) -> Self {
        let key = keys().find(|key| key.flag().as_deref() == Some(flag)).unwrap();
        let source = Source::Flag(flag.to_owned());
        self.given.push(Given { key, texts: vec![text.to_owned()], source });
        self
    }

    fn load(&self) -> Result<Loaded, ConfigError> {
        load(&self.inputs())
    }

    fn inputs(&self) -> Inputs {
        let place = |flag: &str, name: &str| {
            let key = keys().find(|key| key.flag().as_deref() == Some(flag)).unwrap();
            let texts = vec![self.path(name).display().to_string()];
            Given { key, texts, source: Source::Default }
        };
        let mut given = vec![place("config", "crio.conf"), place("config-dir", "crio.conf.d")];
        given.extend(self.given.clone());
        Inputs {
            given,
            storage_conf: vec![self.path("etc/storage.conf"), self.path("usr/storage.conf")],
            search_path: vec![self.path("bin")],
        }
    }

    /// What reading the files again comes to, after they were changed.
    fn changed(self, name: &str, text: &str) -> (Self, Result<Reloaded, ConfigError>) {
        let before = self.load().unwrap().values;
        let node = self.with(name, text);
        let read = reload(&node.inputs(), &before);
        (node, read)
    }

    fn config(&self) -> Config {
        self.load().unwrap().config
    }

    fn fault(&self) -> String {
        let text = self.load().unwrap_err().to_string();
        text.replace(&self.directory.path().display().to_string(), "")
    }

    fn warnings(&self) -> Vec<String> {
        let root = self.directory.path().display().to_string();
        let warnings = self.load().unwrap().warnings;
        warnings.iter().map(|warning| warning.to_string().replace(&root, "")).collect()
    }
}

#[test]
fn a_node_without_files_has_the_documented_defaults() {
    let loaded = Node::new().load().unwrap();
    let config = loaded.config;
    assert_eq!(loaded.warnings, []);
    assert_eq!(config.api.listen, Path::new("/var/run/crio/crio.sock"));
    assert_eq!(config.api.grpc_max_recv_msg_size, MessageSize(80 << 20));
    assert_eq!(config.root.root, Path::new("/var/lib/containers/storage"));
    assert_eq!(config.runtime.default_runtime, "runc");
    assert_eq!(config.runtime.default_capabilities.len(), 9);
    assert_eq!(config.runtime.cgroup_manager, CgroupManager::Systemd);
    assert_eq!(config.image.short_name_mode, ShortNameMode::Enforcing);
    let handlers: Vec<_> = config.handlers.keys().collect();
    assert_eq!(handlers, ["runc"]);
    assert_eq!(config.handlers["runc"].root, Path::new("/run/runc"));
}

#[test]
fn every_default_is_what_its_key_wants() {
    // Loading reads every fixed table; the tables with a free name are read here.
    let node = Node::new().with("crio.conf", "[crio.runtime.workloads.w.resources]\n");
    assert_eq!(node.config().workloads.len(), 1);
}

#[test]
fn flags_go_before_drop_ins_and_these_before_the_file() {
    let node = Node::new()
        .with(
            "crio.conf",
            "[crio.runtime]\nlog_level = \"error\"\nconmon = \"/a\"\npids_limit = 5\n",
        )
        .with("crio.conf.d/10-b", "[crio.runtime]\nconmon = \"/b\"\n")
        .with("crio.conf.d/02-a", "[crio.runtime]\nlog_level = \"debug\"\nconmon = \"/c\"\n")
        .with("crio.conf.d/05/deep", "[crio.runtime]\npids_limit = 7\nlog_level = \"trace\"\n")
        .flag("log-level", "warn");
    let loaded = node.load().unwrap();
    assert_eq!(loaded.config.runtime.log_level, LogLevel::Warn);
    assert_eq!(loaded.config.runtime.conmon.as_deref(), Some(Path::new("/b")));
    assert_eq!(loaded.config.runtime.pids_limit, Some(7));
    assert_eq!(
        loaded.values.source("crio.runtime", "log_level").to_string(),
        "the flag --log-level"
    );
    let place = loaded.values.source("crio.runtime", "pids_limit").to_string();
    assert!(place.ends_with("/crio.conf.d/05/deep:2"), "{place}");
}

/// CRI-O refuses a file in which a number is written as a text, and vice versa.
#[test]
fn a_port_is_printed_as_cri_o_reads_it_whoever_set_it() {
    let node = Node::new().flag("metrics-port", "9537").flag("stream-port", "10010");
    let values = node.load().unwrap().values;
    let port = |table: &str, name: &str| values.value(table, name).cloned();
    assert_eq!(port("crio.metrics", "metrics_port"), Some(Value::Integer(9537)));
    assert_eq!(port("crio.api", "stream_port"), Some(Value::Text("10010".into())));
}

#[test]
fn a_missing_file_is_fine_unless_it_was_named() {
    assert!(Node::new().load().is_ok());
    let fault = Node::new().flag("config", "/nowhere/crio.conf").fault();
    assert_eq!(fault, "cannot read the configuration /nowhere/crio.conf");
    assert!(Node::new().with("crio.conf", "[").flag("config", "").load().is_ok());
}

#[test]
fn a_handler_of_a_later_file_takes_the_place_of_an_earlier_one() {
    let node = Node::new()
        .with(
            "crio.conf",
            "[crio.runtime.runtimes.kata]\nruntime_path = \"/k\"\nmonitor_env = [\"A=b\"]\n",
        )
        .with("crio.conf.d/1", "[crio.runtime.runtimes.kata]\nruntime_root = \"/r\"\n")
        .with("crio.conf.d/2", "[crio.runtime.runtimes.other]\nruntime_path = \"/usr/bin/o\"\n");
    let handlers = node.config().handlers;
    assert_eq!(handlers["kata"].path, None);
    assert_eq!(handlers["kata"].root, Path::new("/r"));
    assert_eq!(handlers["kata"].monitor.environment, []);
    assert_eq!(handlers["other"].root, Path::new("/run/o"));
    assert_eq!(handlers.len(), 3);
}

#[test]
fn crun_is_a_handler_where_it_is_installed() {
    let node = Node::new().with("bin/crun", "").with("bin/runc", "").with("bin/conmon", "");
    let mut config = node.config();
    assert_eq!(config.handlers["crun"].root, Path::new("/run/crun"));
    assert_eq!(config.handlers["crun"].path, Some(node.path("bin/crun")));
    assert_eq!(config.handlers["crun"].table.container_min_memory, ByteSize(500 << 10));
    assert_eq!(config.leave_out_unusable().unwrap(), []);
}

#[test]
fn a_node_with_crun_alone_runs_pods_with_it() {
    let node = Node::new().with("bin/crun", "").with("bin/conmon", "");
    let mut config = node.config();
    assert_eq!(config.runtime.default_runtime, "crun");
    let left_out = config.leave_out_unusable().unwrap();
    assert_eq!(left_out.len(), 1, "{left_out:?}");
    // What is said holds, though it cannot be.
    let said = node.with("crio.conf", "[crio.runtime]\ndefault_runtime = \"runc\"\n").config();
    assert_eq!(said.runtime.default_runtime, "runc");
}

#[test]
fn a_broken_handler_is_left_out_and_a_broken_default_is_an_error() {
    let node = Node::new()
        .with("bin/conmon", "")
        .with("bin/runc", "")
        .with("crio.conf", "[crio.runtime.runtimes.kata]\nruntime_type = \"vm\"\n");
    let mut config = node.config();
    let said: Vec<_> =
        config.leave_out_unusable().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(said, ["the runtime handler kata is left out: only runtime_type \"oci\" is built"]);
    assert_eq!(config.handlers.len(), 1);
    let fault = Node::new().config().leave_out_unusable().unwrap_err().to_string();
    assert!(
        fault.starts_with("the default runtime runc cannot be used: there is no runtime"),
        "{fault}"
    );
}

#[test]
fn minikubes_drop_in_is_understood() {
    let text = "[crio.image]\npause_image=\"registry.k8s.io/pause:3.10.1\"\n[crio.network]\n\
                [crio.runtime]\ncgroup_manager=\"cgroupfs\"\nconmon_cgroup = \"pod\"\n\
                default_sysctls = [\n  \"net.ipv4.ip_unprivileged_port_start=0\",\n]\n";
    let node = Node::new().with("crio.conf.d/02-crio.conf", text);
    assert_eq!(node.warnings(), [""; 0]);
    let config = node.config();
    assert_eq!(config.runtime.cgroup_manager, CgroupManager::Cgroupfs);
    assert_eq!(config.handlers["runc"].monitor.cgroup, MonitorCgroup::Pod);
    assert_eq!(config.runtime.default_sysctls[0].name, "net.ipv4.ip_unprivileged_port_start");
    let loaded = node.load().unwrap();
    let defaults = Node::new().load().unwrap();
    let shown = show(&loaded.values, &defaults.values, Shown::Differing);
    assert!(shown.contains("\ncgroup_manager = \"cgroupfs\"\n"), "{shown}");
    let shown = show(&defaults.values, &defaults.values, Shown::Differing);
    assert!(shown.contains("\n# cgroup_manager = \"systemd\"\n"), "{shown}");
}

#[test]
fn what_is_printed_reads_back_as_the_same_configuration() {
    let node = Node::new().with("bin/crun", "").with(
        "crio.conf",
        "[crio.runtime.runtimes.\"a.b\"]\nplatform_runtime_paths = {\"linux/arm64\" = \"/x\"}\n\
               [crio.runtime.workloads.w]\nactivation_annotation = \"on\"\n\
               [crio]\nstorage_option = [\"overlay.mountopt=nodev\"]\n",
    );
    let first = node.load().unwrap();
    for shown in [Shown::All, Shown::Differing] {
        let text = show(&first.values, &Node::new().load().unwrap().values, shown);
        let again = Node::new().with("bin/crun", "").with("crio.conf", &text).load().unwrap();
        let unknown = |warning: &&Warning| matches!(warning, Warning::UnknownKey { .. });
        assert_eq!(again.warnings.iter().find(unknown), None);
        let mut config = again.config;
        config.command = first.config.command.clone();
        for (name, handler) in &mut config.handlers {
            handler.path = first.config.handlers[name].path.clone();
        }
        assert_eq!(config, first.config);
    }
}

#[test]
fn every_key_is_printed_with_its_default() {
    let node = Node::new().with("crio.conf", "[crio.runtime.workloads.w]\n");
    let values = node.load().unwrap().values;
    let text = show(&values, &values, Shown::All);
    let table: toml::Table = text.parse().unwrap();
    for key in keys().filter(|key| key.table.starts_with("crio")) {
        let at = key.table.replace("runtimes.*", "runtimes.runc").replace('*', "w");
        let mut found = toml::Value::Table(table.clone());
        for part in at.split('.').chain([key.name]) {
            found = found.get(part).unwrap_or_else(|| panic!("{} is missing", key.path())).clone();
        }
    }
}

#[test]
fn an_account_that_is_thrown_away_at_once_is_none() {
    let text = "[crio.audit]\naudit_log_size_max = \"0\"\n";
    let node = Node::new().with("crio.conf", text);
    assert_eq!(
        node.warnings(),
        ["/crio.conf:2: crio.audit.audit_log_size_max is below the least, 65536, which is used"]
    );
    assert_eq!(node.load().unwrap().config.audit.audit_log_size_max.0, 65536);
    let enough = Node::new().with("crio.conf", "[crio.audit]\naudit_log_size_max = \"6GiB\"\n");
    assert_eq!(enough.load().unwrap().config.audit.audit_log_size_max.0, 6 << 30);
}

#[test]
fn keys_that_do_nothing_are_warned_of_when_they_are_set() {
    let text = "[crio]\ninternal_wipe = false\n[crio.runtime]\nrdt_config_file = \"/rdt\"\nread_only = false\n\
                allowed_devices = [\"/dev/net/tun\", \"/dev/fuse\"]\nctr_stop_timeout = 3\n[crio.image]\nno_such = 1\n";
    let node = Node::new().with("crio.conf", text).flag("insecure-registry", "10.0.0.0/8");
    assert_eq!(
        node.warnings(),
        [
            "/crio.conf:9: the key crio.image.no_such is not known and is ignored",
            "/crio.conf:7: crio.runtime.ctr_stop_timeout is below the least, 30, which is used",
            "the flag --insecure-registry: crio.image.insecure_registries has no effect: set insecure in registries.conf",
            "/crio.conf:7: crio.runtime.ctr_stop_timeout has no effect: this is not built yet",
            "/crio.conf:4: crio.runtime.rdt_config_file has no effect: this is not built yet",
        ]
    );
}

#[test]
fn faults_say_where_and_what_is_wanted() {
    for (text, said) in [
        ("[crio.api]\nlisten = 5", "/crio.conf:2: crio.api.listen must be an absolute path, not 5"),
        (
            "[crio.runtime]\ncgroup_manager = \"cgroup\"",
            "/crio.conf:2: crio.runtime.cgroup_manager must be \"systemd\" or \"cgroupfs\", not \"cgroup\"",
        ),
        (
            "[crio]\nstorage_driver = \"vfs\"",
            "/crio.conf:2: crio.storage_driver must be \"overlay\", the only storage driver that is supported, not \"vfs\"",
        ),
        (
            "[crio.runtime]\ndefault_runtime = \"kata\"",
            "/crio.conf:2: crio.runtime.default_runtime is \"kata\", and there is no table [crio.runtime.runtimes.kata]",
        ),
        (
            "[crio.runtime]\nconmon_cgroup = \"/x\"",
            "/crio.conf:2: crio.runtime.conmon_cgroup must be \"pod\" or a systemd slice with cgroup_manager \"systemd\", not \"/x\"",
        ),
        (
            "[crio.api]\n\nstream_enable_tls = true",
            "/crio.conf:3: crio.api.stream_enable_tls needs stream_tls_cert to be set",
        ),
        (
            "[crio.image]\npause_image = \"A b\"",
            "/crio.conf:2: crio.image.pause_image must be an image reference, not \"A b\"",
        ),
        (
            "[crio.image]\nsignature_policy_dir = \"policies\"",
            "/crio.conf:2: crio.image.signature_policy_dir must be an absolute path, not \"policies\"",
        ),
    ] {
        assert_eq!(Node::new().with("crio.conf", text).fault(), said);
    }
    let fault = Node::new().flag("pids-limit", "many").fault();
    assert_eq!(
        fault,
        "the flag --pids-limit: crio.runtime.pids_limit must be a whole number, below zero for none, not \"many\""
    );
}

#[test]
fn storage_conf_is_the_layer_below() {
    let node = Node::new()
        .with("usr/storage.conf", "[storage]\ngraphroot = \"/usr\"\nrunroot = \"/usr\"\n")
        .with(
            "etc/storage.conf",
            "[storage]\ngraphroot = \"/etc-graph\"\n[storage.options.overlay]\nmountopt = \"nodev\"\nsize = \"1G\"\n",
        )
        .with("crio.conf", "[crio]\nroot = \"\"\nstorage_option = [\"overlay.mountopt=nodev,metacopy=on\"]\n");
    let root = node.config().root;
    assert_eq!(root.root, Path::new("/etc-graph"));
    // The file in /etc takes the place of the one in /usr as a whole.
    assert_eq!(root.runroot, Path::new("/run/containers/storage"));
    assert_eq!(root.mount_options(), ["nodev", "metacopy=on"]);
    assert_eq!(
        node.warnings(),
        [
            "/crio.conf:3: the storage option \"overlay.size=1G\" has no effect: this is not built yet"
        ]
    );
}

#[test]
fn the_runtimes_flag_has_its_own_notation() {
    let node = Node::new().flag("runtimes", "kata:/usr/bin/kata:/run/kata:oci:true");
    let handlers = node.config().handlers;
    let kata = &handlers["kata"];
    assert_eq!(kata.path.as_deref(), Some(Path::new("/usr/bin/kata")));
    assert_eq!(kata.root, Path::new("/run/kata"));
    assert!(kata.table.privileged_without_host_devices);
    assert_eq!(kata.create_timeout, Duration::from_secs(240));
    let fault = Node::new().flag("runtimes", "kata").fault();
    assert!(fault.starts_with("the flag --runtimes: "), "{fault}");
}

#[test]
fn older_keys_still_work() {
    let node = Node::new().with(
        "crio.conf",
        "[crio.runtime]\nenable_criu_support = false\nconmon = \"/c\"\nconmon_env = [\"A=b\"]\n\
         [crio.checkpoint_restore]\ncontainer_level_enabled = \"checkpoint_only\"\n\
         [crio.network]\nplugin_dir = \"/old\"\n",
    );
    let config = node.config();
    assert_eq!(config.checkpoint.container_level_enabled, CheckpointLevel::None);
    assert_eq!(config.handlers["runc"].monitor.path.as_deref(), Some(Path::new("/c")));
    assert_eq!(config.handlers["runc"].monitor.environment.len(), 1);
    assert_eq!(config.network.plugin_dirs, [Path::new("/opt/cni/bin/"), Path::new("/old")]);
}

/// A node that has the programs of the handler runc.
fn with_programs() -> Node {
    Node::new().with("bin/runc", "").with("bin/conmon", "")
}

fn told(changes: &[Change]) -> Vec<(&str, Option<&str>, bool)> {
    let told = changes.iter().map(|change| (&*change.key, change.value.as_deref(), change.applied));
    told.collect()
}

#[test]
fn a_reload_takes_what_can_be_reloaded_and_names_the_rest() {
    let text = "[crio.runtime]\nlog_level = \"debug\"\ncgroup_manager = \"cgroupfs\"\n\
                default_env = [\"A=b\"]\n[crio.runtime.runtimes.other]\n[crio.runtime.workloads.w]\n";
    let (_, read) = with_programs().changed("crio.conf", text);
    let read = read.unwrap();
    assert_eq!(read.config.runtime.log_level, LogLevel::Debug);
    assert_eq!(read.config.runtime.cgroup_manager, CgroupManager::Systemd);
    assert_eq!(
        told(&read.changes),
        [
            ("crio.runtime.cgroup_manager", Some("\"cgroupfs\""), false),
            ("crio.runtime.default_env", None, true),
            ("crio.runtime.log_level", Some("\"debug\""), true),
            ("crio.runtime.runtimes.other", Some("added"), true),
        ]
    );
}

#[test]
fn a_setting_that_is_taken_out_has_its_default_again() {
    let node = with_programs().with("crio.conf", "[crio.runtime]\npids_limit = 7\n");
    let (node, read) = node.changed("crio.conf", "");
    let read = read.unwrap();
    assert_eq!(read.config.runtime.pids_limit, None);
    assert_eq!(told(&read.changes), [("crio.runtime.pids_limit", Some("-1"), true)]);
    let again = reload(&node.inputs(), &read.values).unwrap();
    assert_eq!(again.changes, []);
}

#[test]
fn a_reload_that_does_not_go_with_what_stays_is_refused() {
    let text = "[crio.runtime]\ncgroup_manager = \"cgroupfs\"\n\
                [crio.runtime.runtimes.runc]\nmonitor_cgroup = \"\"\n";
    let node = with_programs().with("crio.conf", text);
    let before = node.load().unwrap().values;
    // A slice is something of systemd, which does not make the cgroups before the next start.
    let text = "[crio.runtime]\n[crio.runtime.runtimes.runc]\nmonitor_cgroup = \"x.slice\"\n";
    let node = node.with("crio.conf", text);
    let fault = reload(&node.inputs(), &before).unwrap_err().to_string();
    assert!(fault.contains("crio.conf:3: ") && fault.contains("cgroupfs"), "{fault}");
}

#[test]
fn a_default_runtime_without_its_program_is_no_reload() {
    let (_, read) = with_programs().changed(
        "crio.conf",
        "[crio.runtime]\ndefault_runtime = \"a\"\n[crio.runtime.runtimes.a]\n",
    );
    assert!(matches!(read.unwrap_err(), ConfigError::DefaultRuntime { .. }));
}

/// crio.conf(5) of CRI-O marks these. What is not built has nothing to reload.
#[test]
fn what_the_reference_reloads_is_reloaded_here() {
    for name in [
        "default_runtime",
        "seccomp_profile",
        "privileged_seccomp_profile",
        "apparmor_profile",
        "log_level",
        "log_filter",
        "decryption_keys_path",
        "rdt_config_file",
        "cdi_spec_dirs",
        "blockio_config_file",
        "blockio_reload",
        "pause_image",
        "pause_image_auth_file",
        "pause_command",
        "pinned_images",
        "runtime_path",
    ] {
        let key = keys().find(|key| key.name == name).unwrap();
        let built = key.row.effect == key::Effect::Now;
        assert_eq!(key.row.reloads, built, "{name}");
        assert_eq!(key.text().ends_with("SIGHUP reloads it."), built, "{name}");
    }
    let kept = ["listen", "root", "cgroup_manager", "enable_metrics", "audit_log", "network_dir"];
    for key in keys().filter(|key| kept.contains(&key.name)) {
        assert!(!key.row.reloads, "{}", key.path());
    }
}

#[test]
fn a_certificate_for_metrics_without_its_key_is_no_plain_server() {
    let node = Node::new().with("crio.conf", "[crio.metrics]\nmetrics_cert = \"/c\"\n");
    assert_eq!(node.fault(), "/crio.conf:2: crio.metrics.metrics_cert needs metrics_key to be set");
}
