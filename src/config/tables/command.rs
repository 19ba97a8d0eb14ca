//! What only flags and environment variables can say.

use std::path::PathBuf;

use crate::config::key::LATER;
use crate::config::key::NOW;
use crate::config::key::never;
use crate::config::key::table;
use crate::config::types::LogFormat;
use crate::config::types::Port;
use crate::config::value::Fallback::Bool;
use crate::config::value::Fallback::List;
use crate::config::value::Fallback::Text;

const PROFILES: &str = "it writes profiles of a Go program; use perf(1)";

table! {
    /// The command line's own settings. They stand in no file.
    Command = "command line" {
        /// The configuration file. It may be missing, unless this flag names it. Empty reads none.
        config: Option<PathBuf> = Text("/etc/crio/crio.conf"), NOW.alias("c");
        /// The directory of drop-in files, read in the order of their names after the file, with
        /// all its subdirectories.
        config_dir: Option<PathBuf> = Text("/etc/crio/crio.conf.d"), NOW.alias("d");
        /// A file to write the log to instead of the standard error stream.
        log: Option<PathBuf> = Text(""), NOW;
        /// How log lines look: text or json.
        log_format: LogFormat = Text("text"), NOW;
        /// The registries.conf file to read instead of the usual ones.
        registries_conf: Option<PathBuf> = Text(""), NOW.hidden();
        /// The registries.conf.d directory to read instead of the usual one.
        registries_conf_dir: Option<PathBuf> = Text(""), NOW.hidden();
        /// Runtime handlers, as name:path:root and more parts: the type, whether privileged containers
        /// go without the node's devices, the configuration file and the least memory.
        runtimes: Vec<String> = List(&[]), NOW;
        /// Serves profiles over TCP on the loopback address.
        profile: bool = Bool(false), never(PROFILES);
        /// Writes a processor profile to this file.
        profile_cpu: Option<PathBuf> = Text(""), never(PROFILES);
        /// Writes a memory profile to this file.
        profile_mem: Option<PathBuf> = Text(""), never(PROFILES);
        /// The port for the profiles.
        profile_port: Port = Text("6060"), never(PROFILES);
        /// Serves profiles on the daemon's socket.
        enable_profile_unix_socket: bool = Bool(false),
            never(PROFILES).variable("ENABLE_PROFILE_UNIX_SOCKET");
        /// The address that a shim's publish command talks to.
        address: String = Text(""), LATER.no_variable().hidden();
    }
}
