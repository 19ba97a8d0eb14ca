//! Why there is no verdict, or a bad one.

use std::path::Path;
use std::path::PathBuf;

use crate::audit::AuditError;
use crate::failure::Classify;
use crate::failure::Kind;
use crate::judge::shared::SharedError;
use crate::model::ids::ImageId;
use crate::policy::PolicyError;
use crate::policy::Refusal;
use crate::policy::namespace::NamespaceError;
use crate::storage::StorageError;

/// Why there is no verdict, or a bad one.
#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    /// The policy says no.
    #[error(transparent)]
    Refused(Box<Refusal>),
    /// There is no policy: nothing may run.
    #[error(
        "no image can be allowed: the policy {path} cannot be read; create it, or set signature_policy"
    )]
    Missing {
        /// The policy file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The policy cannot be asked: nothing may run.
    #[error("no image can be allowed: the policy {path} cannot be read")]
    Unreadable {
        /// The policy file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The policy is malformed: nothing may run.
    #[error("no image can be allowed: the policy is not usable")]
    Policy(#[source] PolicyError),
    /// The namespace cannot have a policy file.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// There is nothing that the policy could be asked about.
    #[error("image {0} has no name and no manifest, so it cannot be judged")]
    Unnamed(String),
    /// The evidence kept with the image cannot be read.
    #[error("the evidence kept with image {image} cannot be read")]
    Kept {
        /// The image.
        image: ImageId,
        /// Why.
        source: StorageError,
    },
    /// What is kept with the image as its signatures, for other tools or by them, cannot be read.
    #[error(
        "the signatures that are kept with image {image} cannot be read; remove the image and pull it again"
    )]
    Shared {
        /// The image.
        image: ImageId,
        /// Why.
        source: SharedError,
    },
    /// The evidence kept with the image is damaged.
    #[error("the evidence kept with image {image} is damaged; remove the image and pull it again")]
    Damaged {
        /// The image.
        image: ImageId,
        /// Why.
        source: serde_json::Error,
    },
    /// More was found than is kept, so that a container could not be judged by it.
    #[error(
        "the signatures and attestations of image {0} are larger than what is kept with an image"
    )]
    TooMuch(ImageId),
    /// What the policy allows must be on record, and cannot be put there.
    #[error("the image is allowed, but audit_required says that nothing runs without a record")]
    Unrecorded(#[source] AuditError),
}

impl JudgeError {
    /// The policy file cannot be read.
    pub(super) fn unreadable(path: &Path, source: std::io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            std::io::ErrorKind::NotFound => Self::Missing { path, source },
            _ => Self::Unreadable { path, source },
        }
    }

    /// What came of the question, in one word, for records and counters.
    #[must_use]
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Refused(_) => "refused",
            Self::Missing { .. } | Self::Unreadable { .. } | Self::Policy(_) => "policy_unusable",
            Self::Namespace(_) => "namespace_invalid",
            Self::Unnamed(_) => "unnamed",
            Self::Kept { .. } | Self::Shared { .. } | Self::Damaged { .. } | Self::TooMuch(_) => {
                "evidence_unreadable"
            }
            Self::Unrecorded(_) => "not_recorded",
        }
    }
}

impl Classify for JudgeError {
    fn kind(&self) -> Kind {
        match self {
            Self::Refused(_)
            | Self::Missing { .. }
            | Self::Unreadable { .. }
            | Self::Policy(_)
            | Self::Unnamed(_)
            | Self::Shared { .. }
            | Self::Damaged { .. }
            | Self::TooMuch(_)
            | Self::Unrecorded(_) => Kind::Refused,
            Self::Namespace(source) => source.kind(),
            Self::Kept { source, .. } => source.kind(),
        }
    }
}
