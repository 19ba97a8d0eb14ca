//! The record of a sandbox.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

use crate::model::ids::SandboxId;
use crate::model::sandbox::SandboxConfig;
use crate::model::sandbox::SandboxState;
use crate::model::security::SelinuxLabels;
use crate::state::table::Record;

/// What is known of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxRecord {
    /// Its id.
    pub id: SandboxId,
    /// What was asked for.
    pub config: SandboxConfig,
    /// When it was made, in nanoseconds since 1970.
    pub created: i64,
    /// Whether it takes containers.
    pub state: SandboxState,
    /// When it first took containers; `None` while it is being made.
    pub ready_since: Option<i64>,
    /// What became of its network.
    pub network: NetworkState,
    /// Its addresses, the primary one first.
    pub ips: Vec<IpAddr>,
    /// Its pinned namespaces.
    pub namespaces: NamespacePaths,
    /// The process that is PID 1 of its process namespace, if it has one.
    pub infra: Option<Infra>,
    /// Its host name.
    pub hostname: String,
    /// Its files (`resolv.conf`, `hostname`, `shm`), gone after a reboot.
    pub run_dir: PathBuf,
    /// The runtime handler that was chosen.
    pub handler: String,
    /// Its SELinux labels, with a level that no other sandbox has.
    #[serde(default)]
    pub selinux: Option<SelinuxLabels>,
}

impl SandboxRecord {
    /// `/etc/resolv.conf` of its containers.
    #[must_use]
    pub fn resolv_conf(&self) -> PathBuf {
        self.run_dir.join("resolv.conf")
    }

    /// `/etc/hostname` of its containers.
    #[must_use]
    pub fn hostname_file(&self) -> PathBuf {
        self.run_dir.join("hostname")
    }

    /// The empty file that tells a process that it is in a container.
    #[must_use]
    pub fn containerenv(&self) -> PathBuf {
        self.run_dir.join(".containerenv")
    }

    /// `/dev/shm` of its containers, unless they use the node's.
    #[must_use]
    pub fn shm(&self) -> PathBuf {
        self.run_dir.join("shm")
    }
}

/// What became of a sandbox's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkState {
    /// It uses the node's.
    Host,
    /// CNI ADD was begun: a DEL is owed.
    Up,
    /// CNI DEL failed: it is tried until it succeeds.
    Owed,
    /// CNI DEL succeeded.
    Down,
}

/// Where a sandbox's namespaces are pinned.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NamespacePaths {
    /// Network.
    pub net: Option<PathBuf>,
    /// IPC.
    pub ipc: Option<PathBuf>,
    /// Host name.
    pub uts: Option<PathBuf>,
    /// Processes.
    pub pid: Option<PathBuf>,
    /// Users and groups, which the others belong to.
    pub user: Option<PathBuf>,
}

/// The process that holds a process namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Infra {
    /// Its id on the node.
    pub pid: i32,
    /// When it began, in clock ticks since boot: tells it from a later process of the same id.
    pub started: u64,
}

impl Record for SandboxRecord {
    const WHAT: &'static str = "pod sandbox";
}
