//! The `[crio.runtime]` table: how containers are run.

use std::path::PathBuf;

use crate::config::key::LATER;
use crate::config::key::LIVE;
use crate::config::key::NOW;
use crate::config::key::never;
use crate::config::key::table;
use crate::config::types::Assignment;
use crate::config::types::Capability;
use crate::config::types::CgroupManager;
use crate::config::types::Device;
use crate::config::types::LogLevel;
use crate::config::types::LogSize;
use crate::config::types::Pattern;
use crate::config::types::Ulimit;
use crate::config::value::Fallback::Bool;
use crate::config::value::Fallback::Integer;
use crate::config::value::Fallback::List;
use crate::config::value::Fallback::Text;

const NINE: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "KILL",
];

table! {
    /// How containers are run.
    Runtime = "crio.runtime" {
        /// The handler of a pod that names none: one of the runtimes tables below. It is crun where
        /// crun is installed and runc is not. CRI-O has crun.
        default_runtime: String = Text("runc"), LIVE;
        /// Who makes the cgroups: systemd or cgroupfs. It must be what the kubelet has.
        cgroup_manager: CgroupManager = Text("systemd"), NOW;
        /// The monitor, conmon; empty looks for it in $PATH. The monitor_path of a handler is newer.
        conmon: Option<PathBuf> = Text(""), LIVE;
        /// The cgroup of the monitors: pod, or a systemd slice. The monitor_cgroup of a handler is
        /// newer.
        conmon_cgroup: String = Text(""), LIVE;
        /// The environment of the monitors. The monitor_env of a handler is newer.
        conmon_env: Vec<Assignment> = List(&[]), LIVE;
        /// The program that pins namespaces.
        pinns_path: Option<PathBuf> = Text(""), never("the daemon pins namespaces itself");
        /// The directory under which the namespaces of pods are pinned.
        namespaces_dir: PathBuf = Text("/var/run"), NOW;
        /// Sysctls for every pod, as net.ipv4.ip_forward=1. They must belong to a namespace that
        /// the pod has of its own.
        default_sysctls: Vec<Assignment> = List(&[]), LIVE;
        /// The capabilities of every container that does not ask for others. Empty is none.
        default_capabilities: Vec<Capability> = List(NINE), LIVE;
        /// Makes the capabilities inheritable too, which CVE-2022-27652 was about.
        add_inheritable_capabilities: bool = Bool(false), LIVE;
        /// Environment variables for every container; those of image and pod go before them.
        default_env: Vec<Assignment> = List(&[]), LIVE;
        /// Resource limits for every container, as nofile=1024:2048. Without, they are the daemon's.
        default_ulimits: Vec<Ulimit> = List(&[]), LIVE;
        /// Labels the processes and files of pods, where the kernel has SELinux on.
        selinux: bool = Bool(true), NOW;
        /// A file with the default seccomp profile; empty takes the built-in one.
        seccomp_profile: Option<PathBuf> = Text(""), LIVE;
        /// A file with a seccomp profile for privileged containers; empty is none.
        privileged_seccomp_profile: Option<PathBuf> = Text(""), LIVE;
        /// The default AppArmor profile, or unconfined.
        apparmor_profile: String = Text("crio-default"), LIVE;
        /// Directories of OCI hooks, as oci-hooks(5) has them; of two files with one name, that of
        /// the later directory counts.
        hooks_dir: Vec<PathBuf> = List(&["/usr/share/containers/oci/hooks.d"]), LIVE;
        /// A file of mounts for every container; empty is /etc/containers/mounts.conf, or that of
        /// /usr/share/containers.
        default_mounts_file: Option<PathBuf> = Text(""), LIVE;
        /// The most processes in a container; -1 is no limit. The kubelet's podPidsLimit is newer.
        pids_limit: Option<u64> = Integer(-1), LIVE;
        /// The size at which a container's log is cut; -1 is never. The kubelet's
        /// containerLogMaxSize is newer.
        log_size_max: LogSize = Integer(-1), LIVE;
        /// Writes what containers say to journald as well.
        log_to_journald: bool = Bool(false), LIVE.flag("log-journald");
        /// From which level on the daemon logs: trace, debug, info, warn or error.
        log_level: LogLevel = Text("info"), LIVE.alias("l");
        /// Logs only what this regular expression matches.
        log_filter: Pattern = Text(""), LIVE;
        /// The directory in which the monitors leave how a container ended.
        container_exits_dir: PathBuf = Text("/var/run/crio/exits"),
            NOW.variable("CONTAINER_EXITS_DIR");
        /// The directory of the sockets through which containers are attached to.
        container_attach_socket_dir: PathBuf = Text("/var/run/crio"),
            NOW.variable("CONTAINER_ATTACH_SOCKET_DIR");
        /// The seconds within which a killed container must be gone. 30 is the least.
        ctr_stop_timeout: u32 = Integer(30), LATER.variable("CONTAINER_STOP_TIMEOUT");
        /// Gives a pod a process of its own only where its containers share a process namespace.
        drop_infra_ctr: bool = Bool(true), LIVE;
        /// The processors of infra containers and helpers, as 0-1.
        infra_ctr_cpuset: String = Text(""), LATER;
        /// The processors that containers with processors of their own may share.
        shared_cpuset: String = Text(""), LATER;
        /// Sends the events of containers to the kubelet.
        enable_pod_events: bool = Bool(false), NOW.variable("ENABLE_POD_EVENTS");
        /// Turns checkpoint and restore on. The checkpoint_restore table is newer.
        enable_criu_support: bool = Bool(true), never("use [crio.checkpoint_restore]");
        /// The directory of keys for encrypted images.
        decryption_keys_path: Option<PathBuf> = Text("/etc/crio/keys/"), LATER.no_variable();
        /// Stores of OCI artifacts that are only read, each with a directory artifacts.
        additional_artifact_stores: Vec<PathBuf> = List(&[]), NOW.no_variable();
        /// Pulls images in a cgroup of their own: pod, or a systemd slice.
        separate_pull_cgroup: String = Text(""), LATER.variable("PULL_IN_A_CGROUP");
        /// The devices that pods may ask for by annotation.
        allowed_devices: Vec<PathBuf> = List(&["/dev/fuse", "/dev/net/tun"]), LIVE;
        /// Devices for every container, as /dev/sdc:/dev/xvdc:rwm.
        additional_devices: Vec<Device> = List(&[]), LIVE;
        /// Directories of CDI specifications.
        cdi_spec_dirs: Vec<PathBuf> = List(&["/etc/cdi", "/var/run/cdi"]), LIVE;
        /// Gives devices in a container to the user it runs as.
        device_ownership_from_security_context: bool = Bool(false), LIVE.no_variable();
        /// Sources of mounts that are not made as directories when they are missing.
        absent_mount_sources_to_reject: Vec<PathBuf> = List(&[]), LIVE;
        /// A prefix for the sources of bind mounts.
        bind_mount_prefix: Option<PathBuf> = Text(""), LIVE;
        /// Makes the root of every container read-only.
        read_only: bool = Bool(false), LIVE;
        /// Lets the runtime move the root mount instead of calling pivot_root.
        no_pivot: bool = Bool(false), LIVE;
        /// The time zone of containers; Local is that of the node.
        timezone: String = Text(""), LIVE.alias("tz").variable("CONTAINER_TIME_ZONE");
        /// Leaves SELinux out for pods on the node's network.
        hostnetwork_disable_selinux: bool = Bool(true), LIVE;
        /// Leaves the host ports of pods alone.
        disable_hostport_mapping: bool = Bool(false), NOW.variable("DISABLE_HOSTPORT_MAPPING");
        /// The map of user ids for every container.
        uid_mappings: String = Text(""), never("pods ask for user namespaces (hostUsers: false)");
        /// The map of group ids for every container.
        gid_mappings: String = Text(""), never("pods ask for user namespaces (hostUsers: false)");
        /// The least user id of the node that a map may name.
        minimum_mappable_uid: Option<u64> = Integer(-1), LIVE;
        /// The least group id of the node that a map may name.
        minimum_mappable_gid: Option<u64> = Integer(-1), LIVE;
        /// The file of the Resource Director classes.
        rdt_config_file: Option<PathBuf> = Text(""), LATER.no_variable();
        /// The file of the block I/O classes.
        blockio_config_file: Option<PathBuf> = Text(""), LATER.no_variable();
        /// Reads the block I/O classes again before each use.
        blockio_reload: bool = Bool(false), LATER.no_variable();
        /// The configuration of irqbalance.
        irqbalance_config_file: Option<PathBuf> = Text("/etc/sysconfig/irqbalance"),
            LATER.no_variable();
        /// The file with the mask that irqbalance gets back at a start, or disable.
        irqbalance_config_restore_file: String = Text("/etc/sysconfig/orig_irq_banned_cpus"),
            LATER.no_variable();
        /// The least GOMAXPROCS that is put into containers; 0 puts none.
        min_injected_gomaxprocs: u32 = Integer(0), LATER.variable("CONTAINER_INJECT_GOMAXPROCS");
    }
}
