//! The facts that a spec is made from.
//!
//! Whoever fills these in has looked at the host, the store and the image; here nothing looks
//! anywhere. The same facts always give the same spec, so a test can ask for any host.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::path::PathBuf;

use oci_spec::runtime::Capabilities;
use oci_spec::runtime::LinuxDeviceType;

use crate::model::container::ContainerConfig;
use crate::model::container::Mount;
use crate::model::ids::ContainerId;
use crate::model::ids::ImageId;
use crate::model::ids::SandboxId;
use crate::model::sandbox::SandboxConfig;
use crate::model::security::SelinuxLabels;
use crate::oci::image_config::RunConfig;
use crate::spec::capabilities::Inheritable;
use crate::spec::cdi::Edits;
use crate::spec::hooks::NodeHook;
use crate::spec::process::Ulimit;
use crate::spec::seccomp::Profile;
use crate::spec::user::ResolvedUser;

/// Everything that a container's spec depends on.
#[derive(Debug, Clone, Copy)]
pub struct ContainerFacts<'a> {
    /// The container's id.
    pub id: &'a ContainerId,
    /// Its full name, `k8s_…`.
    pub name: &'a str,
    /// What was asked for.
    pub config: &'a ContainerConfig,
    /// Where it lives.
    pub sandbox: &'a SandboxFacts<'a>,
    /// What it runs.
    pub image: &'a ImageFacts<'a>,
    /// How it is run.
    pub handler: &'a HandlerFacts,
    /// Its mounted root.
    pub rootfs: &'a Path,
    /// Who it runs as.
    pub user: &'a ResolvedUser,
    /// The node's configuration.
    pub defaults: &'a Defaults,
    /// What the host can do.
    pub host: &'a HostFacts,
    /// The requested mounts with their sources found, in the order of the request.
    pub mounts: &'a [ResolvedMount<'a>],
    /// What was made for this container alone: for the volumes that its image declares, where they
    /// are bound, and for the node's `mounts.conf`.
    pub own_volumes: &'a [MadeVolume],
    /// The requested devices, and the configured additional ones, with their numbers.
    pub devices: &'a [ResolvedDevice],
    /// The hooks of the node, in the order in which they run.
    pub hooks: &'a [NodeHook],
    /// What CDI devices change besides.
    pub cdi: &'a [Edits],
    /// The JSON of the requested `Localhost` seccomp profile.
    pub seccomp_profile: Option<&'a [u8]>,
    /// The seccomp profile that an artifact has: its reference, and its JSON.
    pub seccomp_artifact: Option<(&'a str, &'a [u8])>,
    /// Files made for this container.
    pub files: MadeFiles<'a>,
    /// The cgroup: `/parent/crio-<id>`, or `parent.slice:crio:<id>` with systemd.
    pub cgroups_path: &'a str,
    /// The process namespace of the target container, where one is asked for.
    pub target_pid: Option<&'a Path>,
    /// The log file, absolute.
    pub log_path: &'a Path,
    /// Now, as RFC 3339 with nanoseconds.
    pub created: &'a str,
}

/// What a container takes from its sandbox.
#[derive(Debug, Clone, Copy)]
pub struct SandboxFacts<'a> {
    /// The sandbox's id.
    pub id: &'a SandboxId,
    /// Its full name, `k8s_…`.
    pub name: &'a str,
    /// What was asked for.
    pub config: &'a SandboxConfig,
    /// The pinned namespaces.
    pub namespaces: SandboxNamespaces<'a>,
    /// The host name inside.
    pub hostname: &'a str,
    /// The files that all its containers see.
    pub files: SandboxFiles<'a>,
    /// Its addresses, the first one first.
    pub ips: &'a [IpAddr],
    /// Its SELinux labels, where the host has SELinux.
    pub selinux: Option<&'a SelinuxLabels>,
}

/// Paths of pinned namespaces; `None` is the node's own, for `pid` none that is shared.
#[derive(Debug, Clone, Copy, Default)]
pub struct SandboxNamespaces<'a> {
    /// Network.
    pub network: Option<&'a Path>,
    /// System V IPC and POSIX queues.
    pub ipc: Option<&'a Path>,
    /// Host name.
    pub uts: Option<&'a Path>,
    /// Processes, held by an infra container.
    pub pid: Option<&'a Path>,
    /// Users and groups.
    pub user: Option<&'a Path>,
}

/// Files of a sandbox; `None` mounts nothing there.
#[derive(Debug, Clone, Copy, Default)]
pub struct SandboxFiles<'a> {
    /// For `/etc/resolv.conf`.
    pub resolv_conf: Option<&'a Path>,
    /// For `/etc/hostname`.
    pub hostname: Option<&'a Path>,
    /// For `/run/.containerenv`.
    pub containerenv: Option<&'a Path>,
    /// For `/dev/shm`; `None` gives the container one of its own.
    pub shm: Option<&'a Path>,
}

/// Files made for one container; `None` leaves the image's.
#[derive(Debug, Clone, Copy, Default)]
pub struct MadeFiles<'a> {
    /// For `/etc/passwd`: the image's with [`ResolvedUser::passwd_line`] at its end.
    pub passwd: Option<&'a Path>,
    /// For `/etc/group`: the image's with [`ResolvedUser::group_line`] at its end.
    pub group: Option<&'a Path>,
    /// For `/etc/localtime`: the configured time zone.
    pub localtime: Option<&'a Path>,
}

/// What a container takes from its image.
#[derive(Debug, Clone, Copy)]
pub struct ImageFacts<'a> {
    /// How the image wants to be run.
    pub run: &'a RunConfig,
    /// The image ID.
    pub id: &'a ImageId,
    /// One of the image's names; empty when it has none.
    pub name: &'a str,
    /// Its names with digests.
    pub repo_digests: &'a [String],
}

/// How the chosen runtime handler runs things.
#[derive(Debug, Clone, Default)]
pub struct HandlerFacts {
    /// Annotations that users may pass on: exact keys, or prefixes ending in `.` or `/`.
    pub allowed_annotations: Vec<String>,
    /// A privileged container gets no devices of the node.
    pub privileged_without_host_devices: bool,
    /// The lowest memory limit, in bytes; zero takes [`crate::spec::resources::LEAST_MEMORY`].
    pub least_memory: i64,
    /// The handler's own seccomp profile, in place of the node's.
    pub seccomp: Option<Profile>,
    /// cgroups are made by systemd.
    pub systemd_cgroups: bool,
    /// The runtime can make mounts read-only recursively.
    pub recursive_read_only: bool,
    /// The runtime can map the owners of a mount.
    pub id_mapped_mounts: bool,
}

/// What the configuration says about every container.
#[derive(Debug, Clone)]
pub struct Defaults {
    /// Capabilities, with or without `CAP_`.
    pub capabilities: Vec<String>,
    /// Which of them a program with file capabilities may take over.
    pub inheritable: Inheritable,
    /// Environment; image and request override it.
    pub env: Vec<(String, String)>,
    /// Limits of processes.
    pub ulimits: Vec<Ulimit>,
    /// The profile behind `RuntimeDefault`.
    pub seccomp: Profile,
    /// A profile for privileged containers.
    pub privileged_seccomp: Option<Profile>,
    /// The AppArmor profile behind `RuntimeDefault`; empty is none.
    pub apparmor: String,
    /// Every root is read-only.
    pub read_only: bool,
    /// The most processes in a container; zero and below is no limit.
    pub pids_limit: i64,
    /// A container in the node's network has no SELinux process label.
    pub hostnetwork_disable_selinux: bool,
    /// Nodes made for requested devices belong to the container's user.
    pub device_ownership_from_security_context: bool,
}

impl Default for Defaults {
    /// What holds without a configuration: CRI-O's nine capabilities and the built-in profile.
    fn default() -> Self {
        Self {
            capabilities: crate::spec::capabilities::DEFAULT.map(String::from).to_vec(),
            inheritable: Inheritable::default(),
            env: Vec::new(),
            ulimits: Vec::new(),
            seccomp: Profile::builtin(),
            privileged_seccomp: None,
            apparmor: String::new(),
            read_only: false,
            pids_limit: 0,
            hostnetwork_disable_selinux: true,
            device_ownership_from_security_context: false,
        }
    }
}

/// What the host, and this daemon on it, can do.
#[derive(Debug, Clone, Default)]
pub struct HostFacts {
    /// The unified cgroup hierarchy.
    pub cgroup_v2: bool,
    /// cgroups can limit swap.
    pub swap_accounting: bool,
    /// cgroups can limit the number of processes.
    pub pids: bool,
    /// The sizes of huge pages that cgroups can limit: `2MB`.
    pub hugepage_sizes: BTreeSet<String>,
    /// Every capability the kernel knows.
    pub capabilities: Capabilities,
    /// Those in this daemon's bounding set: no child can have another.
    pub bounding: Capabilities,
    /// The lowest `oom_score_adj` that may be set; `None` when any may be.
    pub oom_score_floor: Option<i32>,
    /// The hard limits that cannot be raised, by name; empty when any can be.
    pub hard_limits: Vec<Ulimit>,
    /// The kernel filters system calls.
    pub seccomp: bool,
    /// AppArmor is on.
    pub apparmor: bool,
    /// SELinux is on.
    pub selinux: bool,
    /// The devices that a privileged container sees.
    pub devices: Vec<ResolvedDevice>,
    /// Paths to mask that only a look at this host can tell: the CPUs' `thermal_throttle`.
    pub masked_paths: Vec<String>,
}

/// A directory or file made for one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeVolume {
    /// Where it shows, as the image or `mounts.conf` has it: a foreign text.
    pub target: String,
    /// It on the node.
    pub source: PathBuf,
}

/// A requested mount whose source was found on the node.
#[derive(Debug, Clone)]
pub struct ResolvedMount<'a> {
    /// The request.
    pub mount: &'a Mount,
    /// Where it shows, where that is not what the request says: an artifact is mounted as one file
    /// for each of its layers.
    pub target: Option<String>,
    /// The source with all links resolved; it exists.
    pub source: PathBuf,
    /// How the mount that the source lies on propagates.
    pub sharing: Sharing,
    /// The image store lies below the source: its mounts must go away here too.
    pub holds_store: bool,
}

/// How a mount of the node propagates, as `/proc/self/mountinfo` tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sharing {
    /// Not at all.
    #[default]
    Private,
    /// It receives (`master:`).
    Slave,
    /// It sends and receives (`shared:`).
    Shared,
}

/// A device with its numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedDevice {
    /// Where it shows in the container, absolute.
    pub path: String,
    /// Character, block or pipe.
    pub kind: LinuxDeviceType,
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// Permission bits of the node.
    pub mode: Option<u32>,
    /// Owner on the host.
    pub uid: u32,
    /// Group on the host.
    pub gid: u32,
    /// What the container may do: some of `rwm`.
    pub access: String,
}
