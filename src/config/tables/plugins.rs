//! The `[crio.nri]`, `[crio.nri.default_validator]` and `[crio.checkpoint_restore]` tables.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::key::LATER;
use crate::config::key::Row;
use crate::config::key::table;
use crate::config::types::CheckpointLevel;
use crate::config::value::Fallback::Bool;
use crate::config::value::Fallback::List;
use crate::config::value::Fallback::Text;

const ROW: Row = LATER.no_variable();

table! {
    /// Checkpoint and restore of containers.
    Checkpoint = "crio.checkpoint_restore" {
        /// How much of it is on: none, checkpoint_only or checkpoint_restore. CRI-O has
        /// checkpoint_restore.
        container_level_enabled: CheckpointLevel = Text("none"),
            LATER.flag("checkpoint-restore-container-level-enabled");
    }
}

table! {
    /// Plugins of the node resource interface.
    Nri = "crio.nri" {
        /// Serves the node resource interface. CRI-O has true.
        enable_nri: bool = Bool(false), ROW;
        /// The socket on which it is served.
        nri_listen: PathBuf = Text("/var/run/nri/nri.sock"), ROW;
        /// The directory of plugins to start.
        nri_plugin_dir: PathBuf = Text("/opt/nri/plugins"), ROW;
        /// The directory of the plugins' configuration.
        nri_plugin_config_dir: PathBuf = Text("/etc/nri/conf.d"), ROW;
        /// Takes no plugin that was not started by the daemon.
        nri_disable_connections: bool = Bool(false), ROW;
        /// How long a plugin may take to register.
        nri_plugin_registration_timeout: Duration = Text("5s"), ROW;
        /// How long a plugin may take to answer.
        nri_plugin_request_timeout: Duration = Text("2s"), ROW;
    }
}

table! {
    /// What the built-in check of plugins' changes refuses.
    NriValidator = "crio.nri.default_validator" {
        /// Checks what plugins change.
        nri_enable_default_validator: bool = Bool(false), ROW;
        /// Refuses changes of OCI hooks.
        nri_validator_reject_oci_hook_adjustment: bool = Bool(false), ROW;
        /// Refuses changes of the runtime's default seccomp profile.
        nri_validator_reject_runtime_default_seccomp_adjustment: bool = Bool(false), ROW;
        /// Refuses seccomp profiles where there was none.
        nri_validator_reject_unconfined_seccomp_adjustment: bool = Bool(false), ROW;
        /// Refuses changes of a pod's own seccomp profile.
        nri_validator_reject_custom_seccomp_adjustment: bool = Bool(false), ROW;
        /// Refuses changes of namespaces.
        nri_validator_reject_namespace_adjustment: bool = Bool(false), ROW;
        /// The plugins that must have seen a container.
        nri_validator_required_plugins: Vec<String> = List(&[]), ROW;
        /// The annotation that lets a pod do without them.
        nri_validator_tolerate_missing_plugins_annotation: String = Text(""), ROW;
    }
}
