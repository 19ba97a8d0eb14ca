//! The `[crio]` table: where things lie.

use std::path::PathBuf;

use crate::config::key::LATER;
use crate::config::key::NOW;
use crate::config::key::table;
use crate::config::value::Fallback::Bool;
use crate::config::value::Fallback::List;
use crate::config::value::Fallback::Text;

table! {
    /// Where things lie, and what happens to them at a start.
    Root = "crio" {
        /// The directory of images, layers and containers, shared with podman, skopeo and buildah.
        /// When not set, it is the graphroot of storage.conf.
        root: PathBuf = Text("/var/lib/containers/storage"), NOW.alias("r");
        /// The directory of what does not outlive a reboot. When not set, it is the runroot of
        /// storage.conf.
        runroot: PathBuf = Text("/run/containers/storage"), NOW;
        /// A second directory for images alone.
        imagestore: Option<PathBuf> = Text(""), LATER;
        /// The storage driver. Only overlay is supported. When not set, it is that of storage.conf.
        storage_driver: String = Text("overlay"), NOW.alias("s");
        /// Options for the storage driver, as overlay.mountopt=nodev. The lists of all files are
        /// joined.
        storage_option: Vec<String> = List(&[]), NOW.flag("storage-opt");
        /// The directory of container logs for which the kubelet names no place.
        log_dir: PathBuf = Text("/var/log/crio/pods"), NOW;
        /// The file that says, by being gone or of another minor version, that no pod of before runs. It
        /// must lie where a reboot removes it.
        version_file: PathBuf = Text("/var/run/crio/version"), NOW;
        /// The file that says, by its content, that the daemon was upgraded by a minor version: the
        /// images that the pods ran are removed with them then. Empty never removes an image.
        version_file_persist: Option<PathBuf> = Text(""), NOW;
        /// The file that says, by being there, that the last stop was in order. Empty takes every stop
        /// for one.
        clean_shutdown_file: Option<PathBuf> = Text("/var/lib/crio/clean.shutdown"), NOW;
        /// Removes pods after a reboot, and images after an upgrade, at the start; if not, crio wipe does.
        internal_wipe: bool = Bool(true), NOW;
        /// Looks through the storage at a start after a stop that was not in order, and removes what is
        /// damaged and not in use.
        internal_repair: bool = Bool(true), NOW;
    }
}
