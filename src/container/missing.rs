//! An image that came without evidence: by podman, a preload archive, or under a policy that wanted
//! none. Blocks.
//!
//! It is refused, unless the administrator wants its evidence looked up (`on_missing_evidence`). What
//! was found is judged as at a pull, and kept once it allowed the image, so that the next create needs no
//! registry. Where something was kept, nothing is looked up: that was judged, and did not do.

use crate::catalog::ImageInfo;
use crate::container::Parts;
use crate::container::error::ContainerError;
use crate::judge;
use crate::judge::Case;
use crate::judge::Finder;
use crate::judge::JudgeError;
use crate::policy::Evidence;
use crate::policy::Subject;
use crate::policy::Verdict;

/// The most names that evidence is looked up for: each costs a registry's time.
const MOST: usize = 4;

impl Parts {
    /// The verdict on what came without evidence.
    pub(super) fn decide_without_evidence(
        &self,
        case: &Case,
        info: &ImageInfo,
        subjects: &[Subject<'_>],
    ) -> Result<Verdict, ContainerError> {
        let wanting: Vec<&Subject<'_>> =
            subjects.iter().filter(|subject| case.needs_evidence(subject.reference)).collect();
        let Some(finder) = self.finder.as_deref().filter(|_| !wanting.is_empty()) else {
            let decided = case.decide(subjects, Ok(&Evidence::default()));
            return decided.map_err(|error| match error {
                JudgeError::Refused(_) if !wanting.is_empty() => {
                    ContainerError::NoEvidence(Box::new(error.into()))
                }
                other => other.into(),
            });
        };
        let found = match look_up(finder, &wanting, case) {
            Ok(found) => found,
            Err(error) => return Self::decide_unsure(case, subjects, error, "lookup_failed"),
        };
        let verdict = case.decide(subjects, Ok(&found))?;
        if !found.is_empty() {
            self.keep_evidence(info, &found)?;
            tracing::info!(image = %info.id, "its evidence was looked up and kept");
        }
        Ok(verdict)
    }

    fn keep_evidence(&self, info: &ImageInfo, evidence: &Evidence) -> Result<(), ContainerError> {
        let (key, bytes) = judge::own_item(evidence, &info.id)?;
        match &info.artifact {
            Some(artifact) => self.artifacts.keep(&artifact.digest, &bytes)?,
            None => self.store.set_big_data(&info.id, &key, &bytes)?,
        }
        Ok(())
    }
}

/// All evidence of these; the first failure if none of them could be asked about.
fn look_up(
    finder: &dyn Finder,
    wanting: &[&Subject<'_>],
    case: &Case,
) -> Result<Evidence, ContainerError> {
    let (mut found, mut failure) = (None::<Evidence>, None);
    for subject in wanting.iter().take(MOST) {
        let (reference, digest) = (subject.reference, subject.manifest_digest);
        match finder.find(subject, case) {
            Ok(evidence) => match &mut found {
                Some(found) => found.merge(&evidence),
                None => found = Some(evidence),
            },
            Err(source) => {
                let image = format!("{}@{digest}", reference.repository());
                failure = failure.or(Some(ContainerError::EvidenceNotFound { image, source }));
            }
        }
    }
    match (found, failure) {
        (None, Some(failure)) => Err(failure),
        (found, _) => Ok(found.unwrap_or_default()),
    }
}
