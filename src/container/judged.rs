//! Which image a container runs, and whether the policy allows it now.
//!
//! The image was judged when it was pulled, but the policy may have changed since, the image may
//! have come by another tool, and a tag may point elsewhere today. So it is judged again: bound to
//! the image's own manifest digest and to the name that the pod's user wrote, without network.

use crate::catalog::ImageInfo;
use crate::container::Parts;
use crate::container::error::ContainerError;
use crate::model::container::ImageChoice;
use crate::oci::image_config::RunConfig;
use crate::oci::reference::Reference;
use crate::policy::Subject;
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
}

impl Parts {
    /// The image that a request means, if the policy of this namespace allows it now. Blocks.
    pub(super) fn judged_image(
        &self,
        choice: &ImageChoice,
        namespace: &str,
    ) -> Result<Judged, ContainerError> {
        let info = self
            .catalog
            .find(&choice.image)?
            .ok_or_else(|| ContainerError::NoImage(choice.image.clone()))?;
        let names = self.names_to_judge(choice, &info)?;
        self.judge_names(&info, &names, namespace)?;
        let (_, config) = self.catalog.config(&info.id)?;
        let name = info.tags.first().or(info.digests.first()).map(Reference::to_string);
        let repo_digests: Vec<String> = info.digests.iter().map(Reference::to_string).collect();
        let image = RunImage {
            id: info.id.clone(),
            name: name.unwrap_or_else(|| info.id.to_string()),
            reference: repo_digests.first().cloned().unwrap_or_else(|| info.id.to_string()),
        };
        Ok(Judged { image, run: config.run(), repo_digests })
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

    /// Allowed if any of the names is, by any of the image's manifests; otherwise the first refusal
    /// is the answer. A name with the digest of a manifest is judged by that one alone.
    fn judge_names(
        &self,
        info: &ImageInfo,
        names: &[Reference],
        namespace: &str,
    ) -> Result<(), ContainerError> {
        let unnamed = || ContainerError::OtherImage {
            image: info.id.clone(),
            user_specified: "<an image without a name or manifest cannot be judged>".to_owned(),
        };
        let manifests = self.catalog.manifests(info)?;
        let mut first_refusal = None;
        for reference in names {
            let pinned = reference.digest().filter(|digest| manifests.contains(digest));
            for manifest_digest in
                manifests.iter().filter(|manifest| pinned.is_none_or(|pinned| pinned == *manifest))
            {
                let subject = Subject { reference, manifest_digest };
                match self.judge.judge_stored(&self.store, &info.id, &subject, Some(namespace)) {
                    Ok(_) => return Ok(()),
                    Err(error) => first_refusal = first_refusal.or(Some(error)),
                }
            }
        }
        Err(first_refusal.map_or_else(unnamed, ContainerError::from))
    }
}
