//! The seccomp profile of a container that is kept in a registry, as an OCI artifact that the pod or
//! the image names by annotation.
//!
//! The annotation counts only where the runtime handler allows it, and where the pod's security
//! context leaves the question open: a profile that is asked for there goes first. What is not on
//! this node is pulled, as any image is: judged before any blob. What is here is judged again at
//! every create, by the policy of the pod's namespace, and asks no registry: a tag that moved is
//! followed once the artifact is removed from the node.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::container::Parts;
use crate::container::blocking;
use crate::container::error::ContainerError;
use crate::container::judged::Asker;
use crate::container::judged::Judged;
use crate::model::container::ContainerConfig;
use crate::model::container::ImageChoice;
use crate::model::names::SandboxMetadata;
use crate::oci::seccomp_artifact;
use crate::spec::wishes;
use crate::state::SandboxRecord;

/// How much of a reference is shown.
const SHOWN: usize = 256;

/// Brings an artifact with a seccomp profile to this node.
pub trait ProfileSource: fmt::Debug + Send + Sync {
    /// Pulls it for this pod; nothing of it is fetched if it is something else.
    fn pull<'a>(
        &'a self,
        reference: &'a str,
        pod: &'a SandboxMetadata,
    ) -> BoxFuture<'a, Result<(), ContainerError>>;
}

/// A profile that the policy allows.
#[derive(Debug)]
pub(super) struct ArtifactProfile {
    reference: String,
    bytes: Vec<u8>,
}

impl ArtifactProfile {
    /// Its reference and its JSON.
    pub(super) fn parts(&self) -> (&str, &[u8]) {
        (&self.reference, &self.bytes)
    }
}

impl Parts {
    /// The profile that a container is to be run under, where an artifact has it.
    pub(super) async fn artifact_profile(
        self: &Arc<Self>,
        config: &ContainerConfig,
        sandbox: &SandboxRecord,
        image: &Judged,
        asker: Asker,
    ) -> Result<Option<ArtifactProfile>, ContainerError> {
        let security = &config.security;
        if security.privileged || !security.seccomp.leaves_it_open() {
            return Ok(None);
        }
        let allowed = self.settings.allowed_annotations(&sandbox.handler);
        let of_pod = &sandbox.config.annotations;
        let name = &config.metadata.name;
        let wished = wishes::seccomp_artifact(of_pod, &image.annotations, name, allowed);
        let Some(reference) = wished.map(str::to_owned) else { return Ok(None) };
        let shown = reference.chars().take(SHOWN).collect();
        let wrap = |source| ContainerError::Profile { reference: shown, source: Box::new(source) };
        let found = async {
            let (parts, wanted) = (Arc::clone(self), reference.clone());
            let here = blocking(move || Ok(parts.catalog.find(&wanted)?.is_some())).await?;
            if !here {
                self.profiles.pull(&reference, &sandbox.config.metadata).await?;
            }
            let parts = Arc::clone(self);
            blocking(move || parts.judged_profile(reference, &asker)).await
        };
        found.await.map(Some).map_err(wrap)
    }

    /// The profile of an artifact that is here, if the policy allows it now. Blocks.
    fn judged_profile(
        &self,
        reference: String,
        asker: &Asker,
    ) -> Result<ArtifactProfile, ContainerError> {
        let choice = ImageChoice {
            image: reference.clone(),
            user_specified: reference.clone(),
            ..ImageChoice::default()
        };
        let (info, _) = self.allowed(&choice, asker)?;
        let image = || "it is a container image, no seccomp profile".to_owned();
        let artifact = info.artifact.ok_or_else(|| ContainerError::NoProfile(image()))?;
        let layer =
            seccomp_artifact::layer(&artifact.manifest).map_err(ContainerError::NoProfile)?;
        let bytes = self.artifacts.read(&artifact, layer, seccomp_artifact::LARGEST)?;
        Ok(ArtifactProfile { reference, bytes })
    }
}
