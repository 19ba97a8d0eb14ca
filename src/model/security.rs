//! What a pod or container asks of the kernel's protections.

use serde::Deserialize;
use serde::Serialize;

/// Whose namespace a container lives in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NamespaceMode {
    /// The pod's.
    #[default]
    Pod,
    /// Its own.
    Container,
    /// The node's.
    Node,
    /// That of another container.
    Target,
}

/// The namespaces of a pod or container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NamespaceOptions {
    /// Network.
    pub network: NamespaceMode,
    /// Processes.
    pub pid: NamespaceMode,
    /// System V IPC and POSIX queues.
    pub ipc: NamespaceMode,
    /// With [`NamespaceMode::Target`]: the container whose process namespace is shared.
    pub target_id: String,
    /// A user namespace of the pod's own: its one map, from 0 up inside, for users and groups
    /// alike. `None` is the node's.
    pub user_namespace: Option<IdMapping>,
}

/// One range of a user namespace's map.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMapping {
    /// The first id on the node.
    pub host_id: u32,
    /// The first id inside.
    pub container_id: u32,
    /// How many.
    pub length: u32,
}

/// Which profile (seccomp, AppArmor) is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SecurityProfile {
    /// Nothing was said: unconfined for seccomp, the default profile for AppArmor.
    #[default]
    Unset,
    /// The runtime's own.
    RuntimeDefault,
    /// None.
    Unconfined,
    /// A file (seccomp) or loaded profile (AppArmor) of the node.
    Localhost(String),
}

impl SecurityProfile {
    /// Whether it asks for no profile, so that one that comes from elsewhere may be used.
    #[must_use]
    pub fn leaves_it_open(&self) -> bool {
        matches!(self, Self::Unset | Self::Unconfined)
    }
}

/// An SELinux label, in its parts; empty parts are chosen by the runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SelinuxOptions {
    /// User.
    pub user: String,
    /// Role.
    pub role: String,
    /// Type.
    pub kind: String,
    /// Level.
    pub level: String,
}

/// SELinux labels, `user:role:type:level`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelinuxLabels {
    /// Of processes.
    pub process: String,
    /// Of files made and mounted for them.
    pub mount: String,
}

/// Which supplementary groups a process gets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SupplementalGroupsPolicy {
    /// Those asked for, and those that the image's `/etc/group` gives the user.
    #[default]
    Merge,
    /// Only those asked for.
    Strict,
}

/// Capabilities to add to and drop from the configured defaults, as the user wrote them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CapabilityChanges {
    /// To add; `ALL` is every one.
    pub add: Vec<String>,
    /// To drop; `ALL` is every one.
    pub drop: Vec<String>,
    /// To make ambient.
    pub ambient: Vec<String>,
}

/// Who a process runs as.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunAs {
    /// A user id, checked to fit 32 bits.
    pub user: Option<u32>,
    /// A group id; needs a user.
    pub group: Option<u32>,
    /// A user's name in the image.
    pub username: String,
    /// Supplementary group ids.
    pub supplemental_groups: Vec<u32>,
    /// What becomes of the image's groups.
    pub groups_policy: SupplementalGroupsPolicy,
}

/// The security context of a container, or of a sandbox's own process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SecurityContext {
    /// All of the host's powers.
    pub privileged: bool,
    /// Namespaces.
    pub namespaces: NamespaceOptions,
    /// User and groups.
    pub run_as: RunAs,
    /// Capabilities.
    pub capabilities: CapabilityChanges,
    /// The rootfs cannot be written.
    pub readonly_rootfs: bool,
    /// The kernel's `no_new_privs`.
    pub no_new_privs: bool,
    /// Paths that are hidden.
    pub masked_paths: Vec<String>,
    /// Paths that cannot be written.
    pub readonly_paths: Vec<String>,
    /// The seccomp profile.
    pub seccomp: SecurityProfile,
    /// The AppArmor profile.
    pub apparmor: SecurityProfile,
    /// The SELinux label.
    pub selinux: Option<SelinuxOptions>,
}
