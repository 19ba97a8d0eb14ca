//! The record of a container.

use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

use crate::model::container::ContainerConfig;
use crate::model::container::ContainerState;
use crate::model::ids::ContainerId;
use crate::model::ids::ImageId;
use crate::model::ids::SandboxId;
use crate::state::table::Record;

/// What is known of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// Its id.
    pub id: ContainerId,
    /// Its sandbox.
    pub sandbox: SandboxId,
    /// The kubelet's full name for it.
    pub name: String,
    /// What was asked for; resources as last updated.
    pub config: ContainerConfig,
    /// What it runs.
    pub image: RunImage,
    /// The runtime handler that runs it.
    pub handler: String,
    /// When it was made, in nanoseconds since 1970.
    pub created: i64,
    /// When it was started; 0 before that.
    pub started: i64,
    /// Where it is in its life.
    pub state: ContainerState,
    /// How it ended, if it did.
    pub exit: Option<Exit>,
    /// Why it never ran, if starting it failed.
    pub start_failure: Option<String>,
    /// Its first process, on the node.
    pub pid: i32,
    /// Its OCI bundle; conmon's `ctl` and `attach` lie there. Gone after a reboot.
    pub bundle: PathBuf,
    /// Where conmon leaves the exit code for good.
    pub persist_dir: PathBuf,
    /// Its log.
    pub log: PathBuf,
    /// Who it runs as.
    pub user: ContainerUser,
    /// The signal that stops it, as `SIGTERM`.
    pub stop_signal: String,
    /// The cgroup that its monitor lives beneath.
    pub cgroup_parent: String,
    /// Whether a caller got its id. One that nobody knows of yet is not listed.
    #[serde(default = "known")]
    pub answered: bool,
}

impl ContainerRecord {
    /// Whether it is its pod's own process. No client knows of it.
    #[must_use]
    pub fn is_infra(&self) -> bool {
        self.id.as_str() == self.sandbox.as_str()
    }
}

/// Records of before there was the field are of containers that somebody knows.
fn known() -> bool {
    true
}

/// The image that a container runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunImage {
    /// The image's ID.
    pub id: ImageId,
    /// A name of it, or its ID where it has none.
    pub name: String,
    /// What kubectl shows as the image's ID: its first name with a digest, or its ID where it has none.
    pub reference: String,
    /// By which policy it was allowed, and why, in words; empty for what was made before there was
    /// the field.
    #[serde(default)]
    pub allowed: String,
}

/// The user that a container's first process runs as.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerUser {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The exit code; 128 + signal for a signal, 255 if nobody knows.
    pub code: i32,
    /// When, in nanoseconds since 1970.
    pub finished: i64,
    /// The kernel took it for want of memory.
    pub oom: bool,
}

impl Record for ContainerRecord {
    const WHAT: &'static str = "container";
}
