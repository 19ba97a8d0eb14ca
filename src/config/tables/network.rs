//! The `[crio.network]` table: the networks of pods.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::key::LATER;
use crate::config::key::NOW;
use crate::config::key::table;
use crate::config::value::Fallback::List;
use crate::config::value::Fallback::Text;

table! {
    /// The networks of pods.
    Network = "crio.network" {
        /// The name of the network that pods are put on; empty takes the first of network_dir.
        cni_default_network: String = Text(""), NOW;
        /// The directory of CNI configurations.
        network_dir: PathBuf = Text("/etc/cni/net.d/"), NOW.flag("cni-config-dir");
        /// The directories of CNI plugins.
        plugin_dirs: Vec<PathBuf> = List(&["/opt/cni/bin/"]), NOW.flag("cni-plugin-dir");
        /// One more directory of CNI plugins. The list plugin_dirs is newer.
        plugin_dir: Option<PathBuf> = Text(""), NOW.no_flag();
        /// Asks the plugins for their state every few seconds, and forgives faults for this long.
        cni_status_grace_period: Duration = Text("0s"), LATER.variable("CNI_STATUS_GRACE_PERIOD");
    }
}
