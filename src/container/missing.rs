//! An image that came without evidence: by podman, a preload archive, or under a policy that wanted
//! none. Blocks.
//!
//! It is refused, unless the administrator wants its evidence looked up (`on_missing_evidence`). What
//! was found is judged as at a pull, and kept once it allowed the image, so that the next create needs no
//! registry. Where something was kept, nothing is looked up: that was judged, and did not do.

use crate::catalog::ImageInfo;
use crate::container::Parts;
use crate::container::error::ContainerError;
use crate::failure::Classify;
use crate::failure::Kind;
use crate::judge;
use crate::judge::Case;
use crate::judge::Finder;
use crate::judge::JudgeError;
use crate::oci::digest::Digest;
use crate::oci::reference::Reference;
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
        let (found, unknown) = match look_up(finder, &wanting, case) {
            Ok(Found { evidence, unknown }) => (evidence, unknown),
            Err(error) => return Self::decide_unsure(case, subjects, error, "lookup_failed"),
        };
        // What is not known of a name might be the "no".
        let known =
            subjects.iter().filter(|of| !unknown.contains(&(of.reference, of.manifest_digest)));
        let known: Vec<Subject<'_>> = known.copied().collect();
        let verdict = case.decide(&known, Ok(&found))?;
        if !found.is_empty() && unknown.is_empty() {
            self.keep_evidence(info, found)?;
            tracing::info!(image = %info.id, "its evidence was looked up and kept");
        }
        Ok(verdict)
    }

    /// A pull may have kept some meanwhile.
    fn keep_evidence(&self, info: &ImageInfo, found: Evidence) -> Result<(), ContainerError> {
        let Some(artifact) = &info.artifact else {
            return Ok(judge::keep_more(&self.store, &info.id, found)?);
        };
        let older = self.artifacts.kept(&artifact.digest, judge::EVIDENCE_LIMIT)?;
        let text = judge::text_with(found, older.as_deref(), &info.id)?;
        Ok(self.artifacts.keep(&artifact.digest, &text)?)
    }
}

/// What was found.
struct Found<'a> {
    evidence: Evidence,
    /// The names and manifests of which it is not known what there is.
    unknown: Vec<(&'a Reference, &'a Digest)>,
}

/// All evidence of these; the first failure if none of them could be asked about.
fn look_up<'a>(
    finder: &dyn Finder,
    wanting: &[&Subject<'a>],
    case: &Case,
) -> Result<Found<'a>, ContainerError> {
    let mut found = Found { evidence: Evidence::default(), unknown: Vec::new() };
    let (mut answered, mut failure) = (false, None);
    for (place, subject) in wanting.iter().enumerate() {
        let (reference, digest) = (subject.reference, subject.manifest_digest);
        if place >= MOST {
            found.unknown.push((reference, digest));
            continue;
        }
        match finder.find(subject, case) {
            Ok(evidence) => {
                answered = true;
                found.evidence.merge(&evidence);
            }
            Err(source) => {
                // Where a manifest is not, there is nothing about it either.
                if source.kind() != Kind::NotFound {
                    found.unknown.push((reference, digest));
                }
                let image = format!("{}@{digest}", reference.repository());
                failure = failure.or(Some(ContainerError::EvidenceNotFound { image, source }));
            }
        }
    }
    match failure.filter(|_| !answered) {
        Some(failure) => Err(failure),
        None => Ok(found),
    }
}
