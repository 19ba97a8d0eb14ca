//! Which image a name means now, and whether the policy allows it: the part of a pull that comes
//! before any byte of the image. It is all that `crio verify` does, so that both say the same.

use std::time::Duration;

use crate::failure::Classify;
use crate::failure::Kind;
use crate::failure::chain;
use crate::image::PullRequest;
use crate::image::artifact::is_artifact;
use crate::image::blocking;
use crate::image::error::ImageError;
use crate::image::evidence;
use crate::image::resolve::Resolved;
use crate::judge::About;
use crate::judge::Case;
use crate::judge::Event;
use crate::judge::Judge;
use crate::judge::JudgeError;
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::policy::Evidence;
use crate::policy::Subject;
use crate::policy::Verdict;
use crate::registry::Registry;

/// How long looking for all evidence may take: each answer has its own deadline, and there can be many.
const PATIENCE: Duration = Duration::from_secs(300);
/// The most of it that a policy may have which is tried.
const TRIAL: Duration = Duration::from_secs(30);

/// Resolves names, and asks the policy about what they mean. Changes nothing.
#[derive(Debug, Clone)]
pub struct Verifier {
    pub(super) registry: Registry,
    judge: Judge,
    pub(super) platform: Platform,
}

/// An image that the policy allows.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) reference: Reference,
    pub(super) resolved: Resolved,
    pub(super) evidence: Evidence,
    verdict: Verdict,
}

impl Verifier {
    /// One that asks these, for this machine's platform.
    #[must_use]
    pub fn new(registry: Registry, judge: Judge) -> Self {
        Self { registry, judge, platform: Platform::host() }
    }

    /// What the policy says of an image, as a pull would ask.
    ///
    /// # Errors
    ///
    /// [`ImageError`] when it could not be found out. A refusal is none.
    pub async fn verify(&self, request: &PullRequest) -> Result<Verdict, ImageError> {
        match self.admit(request).await {
            Ok(admitted) => Ok(admitted.verdict),
            Err(ImageError::Judge(JudgeError::Refused(refusal))) => Ok(refusal.0),
            Err(error) => Err(error),
        }
    }

    /// Tries the candidates of a name in order; the next one only where this one has no such image
    /// or no answer. Once there is an image, it is the one that is judged: that its signatures cannot
    /// be looked up must not lead to another.
    pub(super) async fn admit(&self, request: &PullRequest) -> Result<Admitted, ImageError> {
        let name = |source| ImageError::Name { image: request.image.clone(), source };
        let candidates = self.registry.candidates(&request.image).map_err(name)?;
        let mut last = None;
        for reference in candidates {
            let reference = reference.without_tag_if_digested().or_latest();
            match self.resolve(&reference, &request.credentials).await {
                Ok(resolved) => return self.admit_one(reference, resolved, request).await,
                Err(error) if may_try_next(&error) => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or(ImageError::Vanished))
    }

    async fn admit_one(
        &self,
        reference: Reference,
        resolved: Resolved,
        request: &PullRequest,
    ) -> Result<Admitted, ImageError> {
        let about = About {
            event: Event::Pull,
            pod: request.pod.clone(),
            container: None,
            image: request.image.clone(),
            id: if is_artifact(&resolved.manifest) {
                resolved.digest.hex().parse().ok()
            } else {
                resolved.manifest.config.digest.hex().parse().ok()
            },
        };
        let judge = self.judge.clone();
        let case = blocking(move || Ok(judge.open(about)?)).await?;
        let found = self.gather(&case, &reference, &resolved, PATIENCE).await;
        blocking(move || {
            let subject = Subject { reference: &reference, manifest_digest: &resolved.digest };
            let (evidence, verdict) = match found {
                Ok(evidence) => {
                    let verdict = case.decide(&[subject], Ok(&evidence))?;
                    (evidence, verdict)
                }
                Err(error) if case.needs_evidence(&reference) => {
                    case.give_up(Some(&subject), cause(&error), &chain(&error));
                    return Err(error);
                }
                // Only a policy that is tried wants it.
                Err(error) => {
                    let verdict = case.decide(&[subject], Err((cause(&error), &chain(&error))))?;
                    (Evidence::default(), verdict)
                }
            };
            Ok(Admitted { reference, resolved, evidence, verdict })
        })
        .await
    }
}

impl Verifier {
    /// What an answer depends on, within `patience`. What only a policy that is tried wants to see must
    /// not stop a pull, so it has a part of the time, and where it cannot be found, the rest is looked for
    /// alone.
    pub(super) async fn gather(
        &self,
        case: &Case,
        reference: &Reference,
        resolved: &Resolved,
        patience: Duration,
    ) -> Result<Evidence, ImageError> {
        let (wanted, needed) = (case.wants(reference), case.needs(reference));
        let gather = |needs, patience| {
            evidence::gather(&self.registry, reference, resolved, needs, patience)
        };
        if wanted == needed {
            return gather(&needed, patience).await;
        }
        let trial = TRIAL.min(patience / 3);
        match gather(&wanted, trial).await {
            Err(_) if !needed.is_empty() => gather(&needed, patience.saturating_sub(trial)).await,
            found => found,
        }
    }
}

/// Why there is no evidence, in one word for records and counters.
fn cause(error: &ImageError) -> &'static str {
    match error {
        ImageError::Evidence { .. } => "evidence_malformed",
        _ => "lookup_failed",
    }
}

fn may_try_next(error: &ImageError) -> bool {
    matches!(error, ImageError::Registry { .. })
        && matches!(
            error.kind(),
            Kind::NotFound | Kind::RegistryUnavailable | Kind::Unauthenticated
        )
}
