//! The small types of single settings: words, sizes, and items of lists.

use super::setting::Entry;
use super::setting::Setting;
use super::setting::words;
use super::value::Shape;
use super::value::Value;

words! {
    /// Who makes the cgroups.
    CgroupManager: "\"systemd\" or \"cgroupfs\"" {
        /// systemd, as slices and scopes.
        Systemd = "systemd";
        /// The daemon itself, as directories.
        Cgroupfs = "cgroupfs";
    }
}

words! {
    /// What becomes of the volumes an image declares.
    ImageVolumes: "\"mkdir\", \"bind\" or \"ignore\"" {
        /// A directory in the container's root.
        Mkdir = "mkdir";
        /// A directory of the container's own, mounted.
        Bind = "bind";
        /// Nothing.
        Ignore = "ignore";
    }
}

words! {
    /// What becomes of a container whose image came without the signatures that the policy wants.
    MissingEvidence: "\"refuse\" or \"fetch\"" {
        /// It is refused.
        Refuse = "refuse" | "";
        /// The signatures are looked up in the image's registry.
        Fetch = "fetch";
    }
}

words! {
    /// What becomes of a short name with several candidates.
    ShortNameMode: "\"enforcing\" or \"disabled\"" {
        /// The pull fails.
        Enforcing = "enforcing" | "";
        /// The first candidate that works is taken.
        Disabled = "disabled";
    }
}

words! {
    /// The oldest TLS version to speak.
    TlsVersion: "\"VersionTLS12\" or \"VersionTLS13\"" {
        /// TLS 1.2.
        Tls12 = "VersionTLS12" | "";
        /// TLS 1.3.
        Tls13 = "VersionTLS13";
    }
}

words! {
    /// How much of checkpoint and restore is on.
    CheckpointLevel: "\"none\", \"checkpoint_only\" or \"checkpoint_restore\"" {
        /// Nothing.
        None = "none";
        /// Taking checkpoints.
        CheckpointOnly = "checkpoint_only";
        /// Taking checkpoints and starting from them.
        CheckpointRestore = "checkpoint_restore";
    }
}

words! {
    /// From which level on messages are logged.
    LogLevel: "one of trace, debug, info, warn, error, fatal, panic" {
        /// Everything.
        Trace = "trace";
        /// What a developer wants to know.
        Debug = "debug";
        /// What an administrator wants to know.
        Info = "info";
        /// What may go wrong.
        Warn = "warn" | "warning";
        /// What went wrong.
        Error = "error" | "fatal" | "panic";
    }
}

words! {
    /// How log lines look.
    LogFormat: "\"text\" or \"json\"" {
        /// `time="…" level=info msg="…"`.
        Text = "text";
        /// One JSON object a line.
        Json = "json";
    }
}

words! {
    /// Which protocol a runtime speaks.
    RuntimeType: "\"oci\", \"vm\" or \"pod\"" {
        /// The OCI command line, watched by conmon.
        Oci = "oci" | "";
        /// A containerd shim of version 2.
        Vm = "vm";
        /// conmon-rs.
        Pod = "pod";
    }
}

words! {
    /// Which cgroup the processes of an exec belong to.
    ExecCgroup: "\"\" or \"container\"" {
        /// The monitor's.
        Monitor = "";
        /// The container's.
        Container = "container";
    }
}

words! {
    /// Which processor an exec begins on.
    ExecAffinity: "\"\" or \"first\"" {
        /// As the runtime has it.
        Runtime = "";
        /// The first of the container's own.
        First = "first";
    }
}

words! {
    /// A group of pod metrics.
    PodMetrics: "all, cpu, disk, diskIO, hugetlb, memory, network, oom, pressure, process or spec" {
        /// All of them.
        All = "all";
        /// Processors.
        Cpu = "cpu";
        /// The filesystem of the writable layer.
        Disk = "disk";
        /// Block devices.
        DiskIo = "diskIO";
        /// Huge pages.
        Hugetlb = "hugetlb";
        /// Memory.
        Memory = "memory";
        /// Network interfaces.
        Network = "network";
        /// Kills for want of memory.
        Oom = "oom";
        /// Waiting for resources.
        Pressure = "pressure";
        /// Processes, threads, descriptors.
        Process = "process";
        /// What containers were asked to be.
        Spec = "spec";
    }
}

impl Entry for PodMetrics {
    const WANTED: &'static str = "an array of groups of pod metrics: all, or some of cpu, disk, \
                                  diskIO, hugetlb, memory, network, oom, pressure, process, spec";
    fn from_text(text: &str) -> Option<Self> {
        Self::from_value(&Value::Text(text.to_owned()))
    }
}

/// A TCP port; 0 lets the kernel choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port(pub u16);

impl Setting for Port {
    const SHAPE: Shape = Shape::Text;
    const WANTED: &'static str = "a port from 0 to 65535";
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Text(text) => text.parse().ok().map(Self),
            Value::Integer(number) => u16::try_from(*number).ok().map(Self),
            Value::Bool(_) | Value::List(_) | Value::Map(_) => None,
        }
    }
}

/// A regular expression; empty matches all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pattern(pub String);

impl Setting for Pattern {
    const SHAPE: Shape = Shape::Text;
    const WANTED: &'static str = "a regular expression";
    fn from_value(value: &Value) -> Option<Self> {
        let text = super::setting::text(value)?;
        regex::Regex::new(text).is_ok().then(|| Self(text.to_owned()))
    }
}

/// The largest message, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageSize(pub usize);

impl MessageSize {
    /// What holds when a file says zero or less, as in old shipped files.
    pub const USUAL: i64 = 80 * 1024 * 1024;
}

impl Setting for MessageSize {
    const SHAPE: Shape = Shape::Integer;
    const WANTED: &'static str = "a number of bytes";
    fn from_value(value: &Value) -> Option<Self> {
        let number = i64::from_value(value)?;
        let number = if number > 0 { number } else { Self::USUAL };
        usize::try_from(number).ok().map(Self)
    }
}

/// The size at which a container's log is cut; `None` leaves it to the kubelet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSize(pub Option<u64>);

impl Setting for LogSize {
    const SHAPE: Shape = Shape::Integer;
    const WANTED: &'static str = "-1, or a number of bytes from 8192 (conmon's buffer) on";
    fn from_value(value: &Value) -> Option<Self> {
        let limit = Option::<u64>::from_value(value)?;
        limit.is_none_or(|bytes| bytes >= 8192).then_some(Self(limit))
    }
}

/// A size with a unit: `12MiB`, `500k`, `1048576`; units are powers of 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteSize(pub u64);

impl Setting for ByteSize {
    const SHAPE: Shape = Shape::Text;
    const WANTED: &'static str = "a size such as \"12MiB\"";
    fn from_value(value: &Value) -> Option<Self> {
        let text = super::setting::text(value)?.trim();
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at_checked(end)?;
        let unit = unit.trim().to_ascii_lowercase();
        let unit = unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(&unit);
        let factor = match unit {
            "" => 1.0,
            "k" => 1024.0,
            "m" => 1024.0 * 1024.0,
            "g" => 1024.0 * 1024.0 * 1024.0,
            _ => return None,
        };
        let bytes = std::time::Duration::try_from_secs_f64(number.parse::<f64>().ok()? * factor);
        bytes.ok().map(|whole| Self(whole.as_secs()))
    }
}

/// `name=value`: a sysctl or an environment variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Before the first `=`.
    pub name: String,
    /// After it.
    pub value: String,
}

impl Entry for Assignment {
    const WANTED: &'static str = "an array of \"name=value\" without blanks around the \"=\"";
    fn from_text(text: &str) -> Option<Self> {
        let (name, value) = text.split_once('=')?;
        let clean = !name.is_empty()
            && name.trim() == name
            && value.trim_start() == value
            && !text.contains('\0');
        clean.then(|| Self { name: name.to_owned(), value: value.to_owned() })
    }
}

/// A resource limit of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ulimit {
    /// The name as the OCI runtime spec has it: `RLIMIT_NOFILE`.
    pub name: String,
    /// The soft limit; `u64::MAX` is none.
    pub soft: u64,
    /// The hard limit; `u64::MAX` is none.
    pub hard: u64,
}

const ULIMITS: &[&str] = &[
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

impl Entry for Ulimit {
    const WANTED: &'static str = "an array of \"name=soft:hard\", as \"nofile=1024:2048\"";
    fn from_text(text: &str) -> Option<Self> {
        let (name, limits) = text.split_once('=')?;
        let number = |text: &str| if text == "-1" { Some(u64::MAX) } else { text.parse().ok() };
        let (soft, hard) = match limits.split_once(':') {
            Some((soft, hard)) => (number(soft)?, number(hard)?),
            None => (number(limits)?, number(limits)?),
        };
        let known = ULIMITS.contains(&name) && soft <= hard;
        known.then(|| Self { name: format!("RLIMIT_{}", name.to_uppercase()), soft, hard })
    }
}

/// A device of the node for every container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Where it is on the node.
    pub host: std::path::PathBuf,
    /// Where it shall be in the container.
    pub container: std::path::PathBuf,
    /// Some of `r`, `w` and `m`.
    pub permissions: String,
}

impl Entry for Device {
    const WANTED: &'static str = "an array of \"device-on-node:device-in-container:permissions\", as \"/dev/sdc:/dev/xvdc:rwm\"";
    fn from_text(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        let is_path = |text: &str| text.starts_with("/dev/");
        let is_mode =
            |text: &str| !text.is_empty() && text.chars().all(|letter| "rwm".contains(letter));
        let (host, container, permissions) = match parts.as_slice() {
            [host] => (*host, *host, "rwm"),
            [host, mode] if is_mode(mode) => (*host, *host, *mode),
            [host, container] => (*host, *container, "rwm"),
            [host, container, mode] if is_mode(mode) => (*host, *container, *mode),
            _ => return None,
        };
        (is_path(host) && is_path(container)).then(|| Self {
            host: host.into(),
            container: container.into(),
            permissions: permissions.to_owned(),
        })
    }
}

/// A capability, by its name without `CAP_`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Capability(pub String);

/// capabilities(7), Linux 6.12.
const CAPABILITIES: &[&str] = &[
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

impl Entry for Capability {
    const WANTED: &'static str = "an array of capabilities, as \"NET_BIND_SERVICE\"";
    fn from_text(text: &str) -> Option<Self> {
        let name = text.trim().to_uppercase();
        let name = name.strip_prefix("CAP_").unwrap_or(&name);
        CAPABILITIES.contains(&name).then(|| Self(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_of_1024() {
        for (text, bytes) in [("12MiB", 12 << 20), ("500 KiB", 500 << 10), ("7", 7), ("1.5k", 1536)]
        {
            assert_eq!(
                ByteSize::from_value(&Value::Text(text.into())),
                Some(ByteSize(bytes)),
                "{text}"
            );
        }
        for text in ["", "x", "12Q", "-1"] {
            assert_eq!(ByteSize::from_value(&Value::Text(text.into())), None, "{text}");
        }
    }

    #[test]
    fn a_log_limit_below_the_monitors_buffer_is_refused() {
        assert_eq!(LogSize::from_value(&Value::Integer(-1)), Some(LogSize(None)));
        assert_eq!(LogSize::from_value(&Value::Integer(8191)), None);
        assert_eq!(LogSize::from_value(&Value::Integer(8192)), Some(LogSize(Some(8192))));
    }

    #[test]
    fn items_of_lists_are_checked() {
        assert!(Assignment::from_text("net.ipv4.ip_forward=1").is_some());
        assert!(Assignment::from_text("net.ipv4.ip_forward = 1").is_none());
        assert!(Assignment::from_text("=1").is_none());
        let limit = Ulimit::from_text("nofile=1024:2048").unwrap();
        assert_eq!((limit.name.as_str(), limit.soft, limit.hard), ("RLIMIT_NOFILE", 1024, 2048));
        assert!(Ulimit::from_text("nofile=2:1").is_none());
        assert!(Ulimit::from_text("files=1").is_none());
        assert!(Device::from_text("/dev/sdc:/dev/xvdc:rwm").is_some());
        assert!(Device::from_text("/etc/shadow:/dev/x:r").is_none());
        assert_eq!(Capability::from_text("CAP_chown"), Some(Capability("CHOWN".into())));
        assert!(Capability::from_text("ALL").is_none());
    }
}
