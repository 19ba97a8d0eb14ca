//! What keeps a spec from being made. Each variant says which part, with the value at fault.

use crate::failure::Classify;
use crate::failure::Kind;

/// Why there is no spec.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// A field of the request, of the image or of the configuration is at fault.
    #[error("{field}: {value:?} {fault}")]
    Field {
        /// Which field.
        field: &'static str,
        /// What stands there, shortened.
        value: String,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// Neither the request nor the image says what to run.
    #[error("no command specified")]
    NoCommand,
    /// A privileged container in a sandbox that is not.
    #[error("no privileged container allowed in sandbox {sandbox}")]
    PrivilegedInSandbox {
        /// The sandbox.
        sandbox: String,
    },
    /// The container wants a namespace of the node that its sandbox does not share.
    #[error("{namespace} namespace of the node asked for, but sandbox {sandbox} has its own")]
    NodeNamespace {
        /// Which namespace.
        namespace: &'static str,
        /// The sandbox.
        sandbox: String,
    },
    /// The container wants another user namespace than its sandbox has.
    #[error("another user namespace asked for than that of sandbox {sandbox}")]
    UserNamespace {
        /// The sandbox.
        sandbox: String,
    },
    /// A user or group that the pod's user namespace does not have.
    #[error("id {id} is not one of the {length} ids of the pod's user namespace")]
    UnmappedId {
        /// The user or group.
        id: u32,
        /// How many there are.
        length: u32,
    },
    /// A mount whose owners are to be mapped by a runtime that cannot.
    #[error(
        "{path}: a mount with mapped owners is asked for, but the runtime cannot make one; it may          be too old"
    )]
    IdMappedMount {
        /// Where it shows in the container.
        path: String,
    },
    /// There is no process namespace to join.
    #[error("no {whose} process namespace to join in sandbox {sandbox}")]
    NoProcessNamespace {
        /// The pod's, or the target's.
        whose: &'static str,
        /// The sandbox.
        sandbox: String,
    },
    /// A limit on memory below what a container needs to start.
    #[error("memory limit {limit} is too low: at least {least} bytes are needed")]
    MemoryTooLow {
        /// The limit asked for.
        limit: i64,
        /// The lowest possible.
        least: i64,
    },
    /// A limit on memory and swap together that is below the one on memory.
    #[error("memory swap limit {swap} cannot be lower than memory limit {memory}")]
    SwapBelowMemory {
        /// Memory and swap.
        swap: i64,
        /// Memory.
        memory: i64,
    },
    /// A recursive read-only mount that cannot be had.
    #[error("{path} cannot be read-only recursively: {fault}")]
    RecursiveReadOnly {
        /// Where it shows in the container.
        path: String,
        /// Why not.
        fault: &'static str,
    },
    /// The mount that a path lies on does not propagate as the request needs.
    #[error("{path} is mounted on {source_path}, which is not {wanted}")]
    Propagation {
        /// Where it shows in the container.
        path: String,
        /// The path of the node.
        source_path: String,
        /// What it would have to be.
        wanted: &'static str,
    },
    /// The user is in no passwd file and is no number.
    #[error("no user {user:?} in the image's /etc/passwd")]
    NoSuchUser {
        /// As asked for.
        user: String,
    },
    /// The group is in no group file and is no number.
    #[error("no group {group:?} in the image's /etc/group")]
    NoSuchGroup {
        /// As asked for.
        group: String,
    },
    /// A file of the image, or a profile, that is too large to read.
    #[error("{what} has {size} bytes, more than the {most} that are read")]
    TooLarge {
        /// Which file.
        what: &'static str,
        /// Its size.
        size: usize,
        /// The limit.
        most: usize,
    },
    /// A seccomp profile that cannot be understood.
    #[error("cannot read the seccomp profile {name}")]
    SeccompJson {
        /// Its name or path.
        name: String,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A seccomp profile that says two things at once, or something unknown.
    #[error("seccomp profile {name}: {fault}: {value:?}")]
    Seccomp {
        /// Its name or path.
        name: String,
        /// What is wrong.
        fault: &'static str,
        /// The value at fault.
        value: String,
    },
    /// CDI devices that no specification has, or two that count the same.
    #[error("unresolvable CDI devices {names}: no specification on this node has them, or two do")]
    UnknownCdiDevices {
        /// Their names.
        names: String,
    },
    /// Every pair of SELinux categories is taken.
    #[error("no pair of SELinux categories is left for another pod")]
    NoLevelLeft,
    /// The node lacks what was asked for.
    #[error("{what} is asked for, but this node has none")]
    HostLacks {
        /// What is lacking.
        what: &'static str,
    },
    /// Not built yet.
    #[error("{what} are not supported yet")]
    NotBuilt {
        /// What was asked for.
        what: &'static str,
    },
    /// A part cannot be written in the runtime's form.
    #[error("cannot write {part} for the runtime")]
    Build {
        /// Which part.
        part: &'static str,
        /// The library's reason.
        source: oci_spec::OciSpecError,
    },
    /// An annotation cannot be written as JSON.
    #[error("cannot write the annotation {key}")]
    Annotation {
        /// Its key.
        key: &'static str,
        /// Why.
        source: serde_json::Error,
    },
}

impl SpecError {
    /// A fault in one field; the value is shortened, for it may come from an image.
    pub(super) fn field(field: &'static str, value: &str, fault: &'static str) -> Self {
        Self::Field { field, value: value.chars().take(128).collect(), fault }
    }
}

impl Classify for SpecError {
    fn kind(&self) -> Kind {
        match self {
            Self::Field { .. }
            | Self::NoCommand
            | Self::PrivilegedInSandbox { .. }
            | Self::NodeNamespace { .. }
            | Self::UserNamespace { .. }
            | Self::UnmappedId { .. }
            | Self::MemoryTooLow { .. }
            | Self::SwapBelowMemory { .. }
            | Self::NoSuchUser { .. }
            | Self::NoSuchGroup { .. }
            | Self::UnknownCdiDevices { .. }
            | Self::TooLarge { .. }
            | Self::SeccompJson { .. }
            | Self::Seccomp { .. } => Kind::InvalidRequest,
            Self::NoProcessNamespace { .. } | Self::Propagation { .. } => Kind::WrongState,
            Self::RecursiveReadOnly { .. } => Kind::RecursiveReadOnly,
            Self::IdMappedMount { .. } | Self::HostLacks { .. } | Self::NotBuilt { .. } => {
                Kind::NotSupported
            }
            Self::Build { .. } | Self::Annotation { .. } | Self::NoLevelLeft => Kind::Internal,
        }
    }
}
