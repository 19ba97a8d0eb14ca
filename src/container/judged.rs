//! Which image a container runs, and whether the policy allows it now.
//!
//! The image was judged when it was pulled, but the policy may have changed since, the image may
//! have come by another tool, and a tag may point elsewhere today. So it is judged again: bound to
//! the image's own manifest digest and to the name that the pod's user wrote, without network unless
//! it came without evidence and the administrator wants that looked up.

use std::collections::BTreeMap;

use crate::catalog::ImageInfo;
use crate::container::Parts;
use crate::container::error::ContainerError;
use crate::container::seccomp_artifact::ArtifactProfile;
use crate::failure::chain;
use crate::judge;
use crate::judge::About;
use crate::judge::Case;
use crate::judge::Event;
use crate::model::container::ImageChoice;
use crate::model::names::SandboxMetadata;
use crate::oci::digest::DiffId;
use crate::oci::digest::Digest;
use crate::oci::image_config::RunConfig;
use crate::oci::reference::Reference;
use crate::policy::Evidence;
use crate::policy::Subject;
use crate::policy::Verdict;
use crate::state::RunImage;

/// An image that may be run.
#[derive(Debug)]
pub(super) struct Judged {
    /// What the record keeps of it.
    pub(super) image: RunImage,
    /// How it wants to be run.
    pub(super) run: RunConfig,
    /// Its names with digests.
    pub(super) repo_digests: Vec<String>,
    /// The archives of its layers, as its config names them.
    pub(super) archives: Vec<DiffId>,
    /// The annotations of the manifest that was judged.
    pub(super) annotations: BTreeMap<String, String>,
    /// The seccomp profile that it is run under, where that is an artifact.
    pub(super) profile: Option<ArtifactProfile>,
}

/// Who wants an image, and what for.
#[derive(Debug, Clone)]
pub(super) struct Asker {
    /// To run it, to see its files, or to be run under it.
    pub(super) event: Event,
    /// The container's pod.
    pub(super) pod: SandboxMetadata,
    /// The container's name.
    pub(super) container: String,
}

impl Parts {
    /// The image that a request means, if the policy of the pod's namespace allows it now. Blocks.
    pub(super) fn judged_image(
        &self,
        choice: &ImageChoice,
        asker: &Asker,
    ) -> Result<Judged, ContainerError> {
        let (info, verdict) = self.allowed(choice, asker)?;
        if info.artifact.is_some() {
            return Err(ContainerError::NoContainerImage(choice.image.clone()));
        }
        let (_, config) = self.catalog.config(&info.id)?;
        let name = info.tags.first().or(info.digests.first()).map(Reference::to_string);
        let repo_digests = info.repo_digests();
        let image = RunImage {
            id: info.id.clone(),
            name: name.unwrap_or_else(|| info.id.to_string()),
            reference: repo_digests.first().cloned().unwrap_or_else(|| info.id.to_string()),
            allowed: verdict.to_string(),
        };
        let (run, annotations) =
            (config.run(), self.catalog.annotations(&info, &verdict.manifest)?);
        let archives = config.rootfs.diff_ids;
        Ok(Judged { image, run, repo_digests, archives, annotations, profile: None })
    }

    /// The image or artifact that a request means, if the policy of the pod's namespace allows it
    /// now, with the verdict. Blocks.
    pub(super) fn allowed(
        &self,
        choice: &ImageChoice,
        asker: &Asker,
    ) -> Result<(ImageInfo, Verdict), ContainerError> {
        let info = self
            .catalog
            .find(&choice.image)?
            .ok_or_else(|| ContainerError::NoImage(choice.image.clone()))?;
        let verdict = self.verdict(choice, &info, asker)?;
        Ok((info, verdict))
    }

    /// The name the user wrote, if the image is known by it; without one, every name it has.
    fn names_to_judge(
        &self,
        choice: &ImageChoice,
        info: &ImageInfo,
    ) -> Result<Vec<Reference>, ContainerError> {
        let mut known = info.tags.clone();
        known.extend(info.digests.iter().cloned());
        if choice.user_specified.is_empty() {
            return Ok(known);
        }
        let written = &choice.user_specified;
        if written.trim_start_matches("sha256:").starts_with(info.id.as_str()) {
            return Ok(known);
        }
        let completed = self.catalog.complete(written);
        let meant = completed.into_iter().find(|reference| {
            let same_digest = reference
                .digest()
                .is_none_or(|digest| info.manifests.contains(digest) || known.contains(reference));
            same_digest && known.iter().any(|name| name.repository() == reference.repository())
        });
        meant.map(|reference| vec![reference]).ok_or_else(|| ContainerError::OtherImage {
            image: info.id.clone(),
            user_specified: written.clone(),
        })
    }

    /// The verdict that allows the image: under any of the names it is meant by, by any of its
    /// manifests. A name with the digest of a manifest is judged by that one alone.
    fn verdict(
        &self,
        choice: &ImageChoice,
        info: &ImageInfo,
        asker: &Asker,
    ) -> Result<Verdict, ContainerError> {
        let written = [&choice.user_specified, &choice.image];
        let image = written.into_iter().find(|text| !text.is_empty()).cloned().unwrap_or_default();
        let case = self.judge.open(About {
            event: asker.event,
            pod: Some(asker.pod.clone()),
            container: Some(asker.container.clone()),
            image,
            id: Some(info.id.clone()),
        })?;
        let names = self.names_to_judge(choice, info).inspect_err(|error| {
            case.give_up(None, "other_image", &error.to_string());
        })?;
        let manifests = self.catalog.manifests(info).inspect_err(|error| {
            case.give_up(None, "evidence_unreadable", &chain(error));
        })?;
        let mut subjects = Vec::new();
        for reference in &names {
            let pinned = reference.digest().filter(|digest| manifests.contains(digest));
            let meant = |manifest: &&Digest| pinned.is_none_or(|pinned| pinned == *manifest);
            subjects.extend(
                manifests
                    .iter()
                    .filter(meant)
                    .map(|manifest_digest| Subject { reference, manifest_digest }),
            );
        }
        self.decide(&case, info, &subjects)
    }

    /// Asks with the evidence that is kept with the image. Where that cannot be read, only names
    /// for which nobody wants any are left.
    fn decide(
        &self,
        case: &Case,
        info: &ImageInfo,
        subjects: &[Subject<'_>],
    ) -> Result<Verdict, ContainerError> {
        if !subjects.iter().any(|subject| case.wants_evidence(subject.reference)) {
            return Ok(case.decide(subjects, Ok(&Evidence::default()))?);
        }
        let error = match self.kept(info) {
            Ok(Some(evidence)) => return Ok(case.decide(subjects, Ok(&evidence))?),
            Ok(None) => return self.decide_without_evidence(case, info, subjects),
            Err(error) => error,
        };
        let cause = match &error {
            ContainerError::Judge(error) => error.cause(),
            _ => "evidence_unreadable",
        };
        Self::decide_unsure(case, subjects, error, cause)
    }

    /// What can be decided when it could not be found out what there is: of the names for which
    /// nobody wants any evidence.
    pub(super) fn decide_unsure(
        case: &Case,
        subjects: &[Subject<'_>],
        error: ContainerError,
        cause: &'static str,
    ) -> Result<Verdict, ContainerError> {
        let why = chain(&error);
        let free: Vec<Subject<'_>> = subjects
            .iter()
            .filter(|subject| !case.needs_evidence(subject.reference))
            .copied()
            .collect();
        if free.is_empty() {
            case.give_up(subjects.first(), cause, &why);
            return Err(error);
        }
        Ok(case.decide(&free, Err((cause, &why)))?)
    }

    /// The evidence that was kept with an image or artifact.
    fn kept(&self, info: &ImageInfo) -> Result<Option<Evidence>, ContainerError> {
        let Some(artifact) = &info.artifact else {
            return Ok(judge::kept_if_any(&self.store, &info.id)?);
        };
        let bytes = self.artifacts.kept(&artifact.digest, judge::EVIDENCE_LIMIT)?;
        Ok(bytes.map(|bytes| judge::read_kept(&bytes, &info.id)).transpose()?)
    }
}
