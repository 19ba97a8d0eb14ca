//! What can go wrong with a verb on containers.

use std::path::PathBuf;
use std::sync::Arc;

use crate::artifacts::ArtifactError;
use crate::catalog::CatalogError;
use crate::failure::Classify;
use crate::failure::Kind;
use crate::failure::io_kind;
use crate::judge::FindError;
use crate::judge::JudgeError;
use crate::model::container::ContainerState;
use crate::model::ids::ContainerId;
use crate::model::ids::ImageId;
use crate::model::ids::SandboxId;
use crate::runtime::RuntimeError;
use crate::spec::error::SpecError;
use crate::state::StateError;
use crate::storage::StorageError;
use crate::sys::apparmor::ApparmorError;
use crate::sys::pause::PauseError;

/// A verb on containers that failed.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// No such record, or it cannot be written.
    #[error(transparent)]
    State(#[from] StateError),
    /// It was removed while the request waited for its turn.
    #[error("container {0} was removed meanwhile")]
    Gone(ContainerId),
    /// A process that the runtime started cannot be held on to.
    #[error(transparent)]
    Pause(#[from] PauseError),
    /// The sandbox takes no containers any more.
    #[error("sandbox {0} is stopped: no container can be created in it")]
    SandboxStopped(SandboxId),
    /// The image is not here.
    #[error("image {0:?} is not on this node; pull it first")]
    NoImage(String),
    /// The image cannot be looked up.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// It can be mounted, not run.
    #[error("{0:?} is an OCI artifact, no container image: it can be mounted, not run")]
    NoContainerImage(String),
    /// Artifacts are not to be mounted.
    #[error(
        "{0:?} is an OCI artifact, and oci_artifact_mount_support in [crio.image] says not to \
         mount any"
    )]
    ArtifactsOff(String),
    /// The artifact cannot be mounted.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The pod's user named another image than the one that would run.
    #[error("image {image} is not known as {user_specified:?} on this node; pull it by that name")]
    OtherImage {
        /// What would run.
        image: ImageId,
        /// What the user wrote.
        user_specified: String,
    },
    /// The policy does not allow the image now.
    #[error(transparent)]
    Judge(#[from] JudgeError),
    /// Nothing vouches for it, because another tool put it here.
    #[error(
        "{0}; no signature is kept with it, as another tool put it on this node: pull it through this \
         daemon, or set on_missing_evidence = \"fetch\" in [crio.image]"
    )]
    NoEvidence(Box<ContainerError>),
    /// The artifact with the seccomp profile cannot be used.
    #[error("the seccomp profile {reference:?}, which an annotation asks for")]
    Profile {
        /// As the annotation has it.
        reference: String,
        /// Why.
        source: Box<ContainerError>,
    },
    /// It cannot be brought here.
    #[error("cannot pull it")]
    ProfilePull {
        /// What it comes to.
        kind: Kind,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It is something else.
    #[error("it cannot be used: {0}")]
    NoProfile(String),
    /// It cannot be told whether anything vouches for it.
    #[error("the signatures of {image} are not on this node and cannot be looked up")]
    EvidenceNotFound {
        /// The image.
        image: String,
        /// Why.
        source: FindError,
    },
    /// A file of the host or the image is in the way.
    #[error("cannot {action} {path}")]
    File {
        /// What was attempted.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The image's account files are not what they should be.
    #[error("the image's {path} cannot be used to find out who the container runs as")]
    Accounts {
        /// The file, in the image.
        path: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// A device that is asked for is not there, or is something else.
    #[error("there is no device {path} on this node")]
    Device {
        /// Where it was looked for.
        path: PathBuf,
        /// What is there instead.
        source: std::io::Error,
    },
    /// An image cannot be mounted as a volume.
    #[error("the volume at {path}")]
    ImageVolume {
        /// Where it would show.
        path: String,
        /// Why.
        source: Box<ContainerError>,
    },
    /// A path inside an image that is not there, or leads out of it.
    #[error("sub path {sub_path:?} of image volume {image:?} cannot be mounted")]
    SubPath {
        /// The path.
        sub_path: String,
        /// The image.
        image: String,
        /// Why.
        source: std::io::Error,
    },
    /// A path inside an image that is not made of plain names.
    #[error("sub path {0:?} of an image volume must be relative and have no \"..\"")]
    IllegalSubPath(String),
    /// A missing source that the configuration says not to make.
    #[error(
        "cannot mount {0}: it does not exist, and absent_mount_sources_to_reject says not to make it"
    )]
    AbsentSource(PathBuf),
    /// An image that declares more volumes than any real one.
    #[error("the image declares {count} volumes; {most} can be made")]
    TooManyVolumes {
        /// How many.
        count: usize,
        /// The bound.
        most: usize,
    },
    /// What is asked for cannot be made a runtime spec.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A hook of the node that cannot be used: what it would have done is not known.
    #[error("no container can be made: the hook {path} cannot be used: {fault}")]
    Hook {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        fault: String,
    },
    /// The store failed.
    #[error("the image store failed")]
    Store(#[from] StorageError),
    /// The AppArmor profile that it is to run under is not in the kernel.
    #[error(
        "the AppArmor profile {0:?} is not loaded on this node; load it with apparmor_parser first"
    )]
    ProfileNotLoaded(String),
    /// An SELinux label that the node's policy does not know.
    #[error("the SELinux label {label:?} is not one of this node's policy")]
    Label {
        /// The label.
        label: String,
        /// What the kernel says.
        source: std::io::Error,
    },
    /// AppArmor failed.
    #[error(transparent)]
    Apparmor(#[from] ApparmorError),
    /// runc or conmon failed.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The container whose process namespace is asked for is in another pod.
    #[error("container {target} is not in sandbox {sandbox}: its processes cannot be shared")]
    TargetElsewhere {
        /// The container.
        target: ContainerId,
        /// The sandbox of the request.
        sandbox: SandboxId,
    },
    /// The container is not in a state for this verb.
    #[error("container {id} is {state:?}; to {verb} it, it must be {needed}")]
    WrongState {
        /// Which.
        id: ContainerId,
        /// What was asked.
        verb: &'static str,
        /// Its state.
        state: ContainerState,
        /// The state needed.
        needed: &'static str,
    },
    /// It is as asked already.
    #[error("container {id} is {} paused", if *frozen { "already" } else { "not" })]
    Frozen {
        /// Which.
        id: ContainerId,
        /// Whether it is paused.
        frozen: bool,
    },
    /// A memory limit below what is in use: the kernel would have to kill for it.
    #[error(
        "container {id} uses {used} bytes of memory; a limit of {limit} is below that and would have it killed"
    )]
    MemoryInUse {
        /// Which.
        id: ContainerId,
        /// In use now, in bytes.
        used: u64,
        /// The limit that was asked for, in bytes.
        limit: i64,
    },
    /// Of a stop that others asked for too.
    #[error(transparent)]
    Shared(#[from] Arc<ContainerError>),
    /// It does not die.
    #[error(
        "container {0} still runs although it was killed; its processes may hang in the kernel"
    )]
    WillNotDie(ContainerId),
    /// The caller's time is over. The words are those that CRI-O's users know to search for.
    #[error(
        "kubelet may be retrying requests that are timing out in CRI-O due to system load. \
         Currently at stage {stage}: context deadline exceeded: container {name} is still being \
         made, and will be the answer to the same request"
    )]
    Late {
        /// The container.
        name: String,
        /// Where the work stands.
        stage: &'static str,
    },
    /// What failed, and what could not be taken back after it.
    #[error("{failure}; and afterwards: {}", leftovers.join("; "))]
    Leftovers {
        /// The failure.
        #[source]
        failure: Box<ContainerError>,
        /// The steps back that failed too.
        leftovers: Vec<String>,
    },
    /// The work panicked, or the daemon is shutting down.
    #[error("the work on the container ended without an answer; the daemon's log says why")]
    Vanished,
}

impl Classify for ContainerError {
    fn kind(&self) -> Kind {
        match self {
            Self::State(source) => source.kind(),
            Self::Shared(source) => source.kind(),
            Self::Gone(_) | Self::NoImage(_) => Kind::NotFound,
            Self::Pause(source) => source.kind(),
            Self::SandboxStopped(_)
            | Self::WrongState { .. }
            | Self::Frozen { .. }
            | Self::MemoryInUse { .. }
            | Self::AbsentSource(_)
            | Self::ProfileNotLoaded(_) => Kind::WrongState,
            Self::ImageVolume { .. } => Kind::ImageVolume,
            Self::SubPath { .. } | Self::IllegalSubPath(_) | Self::TooManyVolumes { .. } => {
                Kind::InvalidRequest
            }
            Self::Label { .. } | Self::Accounts { .. } | Self::Device { .. } => {
                Kind::InvalidRequest
            }
            Self::Apparmor(source) => source.kind(),
            Self::NoContainerImage(_) | Self::ArtifactsOff(_) => Kind::NotSupported,
            Self::Artifact(source) => source.kind(),
            Self::Catalog(source) => source.kind(),
            Self::OtherImage { .. } | Self::NoEvidence(_) | Self::EvidenceNotFound { .. } => {
                Kind::Refused
            }
            Self::TargetElsewhere { .. } | Self::NoProfile(_) => Kind::InvalidRequest,
            Self::Profile { source, .. } => source.kind(),
            Self::ProfilePull { kind, .. } => *kind,
            Self::Judge(source) => source.kind(),
            Self::File { source, .. } => io_kind(source),
            Self::Spec(source) => source.kind(),
            Self::Store(source) => source.kind(),
            Self::Runtime(source) => source.kind(),
            Self::Leftovers { failure, .. } => failure.kind(),
            Self::Late { .. } => Kind::Deadline,
            Self::Hook { .. } | Self::WillNotDie(_) | Self::Vanished => Kind::Internal,
        }
    }
}
