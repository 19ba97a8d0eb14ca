//! What a container is asked to be, and what became of it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Serialize;

use crate::model::names::ContainerMetadata;
use crate::model::resources::Resources;
use crate::model::security::IdMapping;
use crate::model::security::SecurityContext;

/// A checked request for a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerConfig {
    /// Its name's parts.
    pub metadata: ContainerMetadata,
    /// The image.
    pub image: ImageChoice,
    /// Takes the place of the image's entrypoint.
    pub command: Vec<String>,
    /// Takes the place of the image's cmd.
    pub args: Vec<String>,
    /// The directory to start in; empty is the image's.
    pub working_dir: String,
    /// Environment, in order; a later name wins.
    pub env: Vec<(String, String)>,
    /// Mounts, in the order asked for.
    pub mounts: Vec<Mount>,
    /// Devices of the node.
    pub devices: Vec<Device>,
    /// CDI device names.
    pub cdi_devices: Vec<String>,
    /// The kubelet's labels.
    pub labels: BTreeMap<String, String>,
    /// The user's annotations; never trusted.
    pub annotations: BTreeMap<String, String>,
    /// The log file below the sandbox's log directory.
    pub log_path: String,
    /// Keep standard input open.
    pub stdin: bool,
    /// Close standard input after the first attach.
    pub stdin_once: bool,
    /// Give it a terminal.
    pub tty: bool,
    /// Limits.
    pub resources: Resources,
    /// Security.
    pub security: SecurityContext,
    /// The signal that stops it, as `SIGTERM`; empty is the image's, or TERM.
    pub stop_signal: String,
}

/// Which image a container runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageChoice {
    /// What to look up: an image ID, or a reference.
    pub image: String,
    /// What the user wrote in the pod; the policy judges this name.
    pub user_specified: String,
    /// The runtime handler it was pulled for.
    pub handler: String,
    /// The kubelet's annotations on the image.
    pub annotations: BTreeMap<String, String>,
}

/// How mounts made later on one side show on the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// Not at all.
    #[default]
    Private,
    /// From the node into the container.
    HostToContainer,
    /// Both ways.
    Bidirectional,
}

/// One mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mount {
    /// Where it shows, absolute.
    pub container_path: String,
    /// What is mounted; empty with an image.
    pub host_path: String,
    /// It cannot be written.
    pub readonly: bool,
    /// Nor can what is mounted below it.
    pub recursive_read_only: bool,
    /// Give it the pod's SELinux label.
    pub selinux_relabel: bool,
    /// Propagation.
    pub propagation: Propagation,
    /// User id map of the mount.
    pub uid_mappings: Vec<IdMapping>,
    /// Group id map of the mount.
    pub gid_mappings: Vec<IdMapping>,
    /// An image as the volume.
    pub image: Option<ImageChoice>,
    /// A path inside that image.
    pub image_sub_path: String,
    /// Once the container is made: the id of the image, or the digest of the artifact, that was
    /// found and allowed.
    pub image_ref: String,
}

/// A device of the node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Where it shows.
    pub container_path: String,
    /// Which it is.
    pub host_path: String,
    /// Some of `rwm`.
    pub permissions: String,
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    /// Made, and not started.
    #[default]
    Created,
    /// Running.
    Running,
    /// Over.
    Exited,
    /// The runtime does not tell.
    Unknown,
}
