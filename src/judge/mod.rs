//! Asks the policy: which policy file holds, what evidence there is, what the verdict is.
//!
//! The policy itself is pure (`policy`). This room reads its file anew for every question, so that
//! an administrator's change holds at once, and keeps the evidence with the image, so that a
//! container is judged again without network.
//!
//! Not here: how evidence is found in a registry (`image::evidence`).

use std::io::ErrorKind;
use std::path::Path;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::failure::Classify;
use crate::failure::Kind;
use crate::model::ids::ImageId;
use crate::oci::digest::Digest;
use crate::oci::reference::Reference;
use crate::policy::Evidence;
use crate::policy::Policy;
use crate::policy::PolicyError;
use crate::policy::Refusal;
use crate::policy::Subject;
use crate::policy::Verdict;
use crate::policy::namespace;
use crate::policy::namespace::NamespaceError;
use crate::storage::StorageError;
use crate::storage::Store;
use crate::sys::files;
use crate::sys::files::Links;

/// The largest policy or key file that is read, in bytes.
const FILE_LIMIT: u64 = 4 * 1024 * 1024;
/// The largest evidence that is kept with an image, in bytes.
const EVIDENCE_LIMIT: u64 = 64 * 1024 * 1024;
/// The big-data key under which an image's evidence is kept.
const EVIDENCE_KEY: &str = "crioxide-evidence";

/// Where the policy files are.
#[derive(Debug, Clone)]
pub struct Judge {
    /// The policy of pods whose namespace has none of its own.
    pub global: PathBuf,
    /// Holds `<namespace>.json` files.
    pub namespaces: PathBuf,
}

/// Why there is no verdict, or a bad one.
#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    /// The policy says no.
    #[error(transparent)]
    Refused(Box<Refusal>),
    /// The policy cannot be asked: nothing may run.
    #[error(
        "no image can be allowed: the policy {path} cannot be read; create it, or set signature_policy"
    )]
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
    /// The evidence kept with the image cannot be read.
    #[error("the evidence kept with image {image} cannot be read")]
    Kept {
        /// The image.
        image: ImageId,
        /// Why.
        source: StorageError,
    },
    /// The evidence kept with the image is damaged.
    #[error("the evidence kept with image {image} is damaged; remove the image and pull it again")]
    Damaged {
        /// The image.
        image: ImageId,
        /// Why.
        source: serde_json::Error,
    },
}

impl Classify for JudgeError {
    fn kind(&self) -> Kind {
        match self {
            Self::Refused(_) | Self::Unreadable { .. } | Self::Policy(_) | Self::Damaged { .. } => {
                Kind::Refused
            }
            Self::Namespace(source) => source.kind(),
            Self::Kept { source, .. } => source.kind(),
        }
    }
}

impl Judge {
    /// The policy that holds for pods of this namespace; `None` is a pull for no pod.
    ///
    /// # Errors
    ///
    /// [`JudgeError::Unreadable`] and [`JudgeError::Policy`].
    pub fn policy(&self, namespace: Option<&str>) -> Result<Policy, JudgeError> {
        let candidates = namespace::candidates(&self.global, &self.namespaces, namespace)?;
        for path in candidates {
            match files::read(&path, FILE_LIMIT, Links::Follow) {
                Ok(bytes) => return parse(&path, &bytes),
                // A link that leads nowhere is a policy that cannot be read, not a missing one.
                Err(error)
                    if error.kind() == ErrorKind::NotFound
                        && path != self.global
                        && !path.is_symlink() => {}
                Err(source) => return Err(JudgeError::Unreadable { path, source }),
            }
        }
        let source = ErrorKind::NotFound.into();
        Err(JudgeError::Unreadable { path: self.global.clone(), source })
    }

    /// Judges an image of the store that a container is about to run, by the evidence kept with
    /// it, under the policy as it is now. Gives the verdict that allowed it.
    ///
    /// `reference` is what the user wrote in the pod; `manifest` is the digest of the image's
    /// manifest.
    ///
    /// # Errors
    ///
    /// [`JudgeError`]; every one of them means that it must not run.
    pub fn judge_stored(
        &self,
        store: &Store,
        image: &ImageId,
        subject: &Subject<'_>,
        namespace: Option<&str>,
    ) -> Result<Verdict, JudgeError> {
        let policy = self.policy(namespace)?;
        let evidence = if policy.needs_evidence(subject.reference) {
            kept(store, image)?
        } else {
            Evidence::default()
        };
        decide(&policy, subject.reference, subject.manifest_digest, &evidence)
    }
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Policy, JudgeError> {
    let read = |key: &Path| files::read(key, FILE_LIMIT, Links::Follow);
    Policy::parse(path, bytes, &read).map_err(JudgeError::Policy)
}

/// The verdict if it allows the image, or the refusal.
///
/// # Errors
///
/// [`JudgeError::Refused`].
pub fn decide(
    policy: &Policy,
    reference: &Reference,
    manifest_digest: &Digest,
    evidence: &Evidence,
) -> Result<Verdict, JudgeError> {
    let subject = Subject { reference, manifest_digest };
    let verdict = crate::policy::evaluate(policy, &subject, evidence, SystemTime::now());
    let verdict = verdict.allowed().map_err(|refusal| JudgeError::Refused(Box::new(refusal)))?;
    let by = verdict.requirements.iter().map(ToString::to_string).collect::<Vec<_>>();
    tracing::debug!(image = %reference, digest = %manifest_digest, scope = verdict.scope, ?by, "allowed");
    Ok(verdict)
}

/// The evidence as bytes to keep with an image: the big-data key and the text.
///
/// # Errors
///
/// What `serde_json` says.
pub fn keep(evidence: &Evidence) -> Result<(String, Vec<u8>), serde_json::Error> {
    Ok((EVIDENCE_KEY.to_owned(), serde_json::to_vec(evidence)?))
}

/// The evidence kept with an image; an image that came by another tool has none.
fn kept(store: &Store, image: &ImageId) -> Result<Evidence, JudgeError> {
    let wrap = |source| JudgeError::Kept { image: image.clone(), source };
    let Some(bytes) = store.big_data(image, EVIDENCE_KEY, EVIDENCE_LIMIT).map_err(wrap)? else {
        return Ok(Evidence::default());
    };
    serde_json::from_slice(&bytes)
        .map_err(|source| JudgeError::Damaged { image: image.clone(), source })
}

/// The evidence kept with an image, where it can be read: a later pull adds to it.
#[must_use]
pub fn kept_or_none(store: &Store, image: &ImageId) -> Evidence {
    kept(store, image).unwrap_or_default()
}
