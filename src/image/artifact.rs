//! Pulls an artifact: what the policy allowed, and is no container image.
//!
//! Its blobs are streamed to disk and checked as they come; nothing is visible before all are
//! there. The evidence is kept with it, so that a create judges it again.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::artifacts::ArtifactError;
use crate::artifacts::NewArtifact;
use crate::artifacts::Stage;
use crate::image::Parts;
use crate::image::blocking;
use crate::image::error::ImageError;
use crate::image::fetch::Pieces;
use crate::image::fetch::WAITING_PIECES;
use crate::image::fetch::feed;
use crate::image::resolve::Resolved;
use crate::judge;
use crate::model::ids::ImageId;
use crate::oci::descriptor::Descriptor;
use crate::oci::digest::Algorithm;
use crate::oci::document::Manifest;
use crate::oci::media_type;
use crate::oci::reference::Reference;
use crate::policy::Evidence;

/// The bytes of the OCI empty descriptor, which registries need not have.
const EMPTY: &[u8] = b"{}";

/// Whether a manifest is that of an artifact: it names a type, or its config is no image's.
pub(super) fn is_artifact(manifest: &Manifest) -> bool {
    let config = manifest.config.media_type.as_str();
    let of_image = matches!(config, "" | media_type::OCI_CONFIG | media_type::DOCKER_CONFIG);
    !of_image || manifest.artifact_type.as_deref().is_some_and(|kind| !kind.is_empty())
}

impl Parts {
    /// Fetches and keeps an artifact that was allowed, and gives its ID.
    pub(super) async fn pull_artifact(
        self: &Arc<Self>,
        reference: &Reference,
        resolved: Resolved,
        evidence: Evidence,
    ) -> Result<ImageId, ImageError> {
        let id = id_of(reference, &resolved)?;
        let wrap = {
            let reference = reference.to_string();
            move |source| ImageError::Artifact { reference: reference.clone(), source }
        };
        let artifacts = self.artifacts.clone();
        let all = blobs(&resolved.manifest);
        let needed = all.iter().map(|blob| blob.size).fold(0, u64::saturating_add);
        let failed = wrap.clone();
        let stage = blocking(move || {
            let stage = artifacts.stage().map_err(&failed)?;
            stage.must_fit(needed).map_err(&failed)?;
            Ok(Arc::new(stage))
        })
        .await?;
        for blob in all {
            self.bring_blob(reference, &resolved, blob, &stage).await?;
        }
        let (name, digest) = (reference.to_string(), resolved.digest);
        let (artifacts, store) = (self.artifacts.clone(), self.store.clone());
        blocking(move || {
            let stage = Arc::into_inner(stage).ok_or(ImageError::Vanished)?;
            let evidence = match evidence.is_empty() {
                true => None,
                false => {
                    // What cannot be read is replaced.
                    let older = artifacts.kept(&digest, judge::EVIDENCE_LIMIT).ok().flatten();
                    Some(judge::text_with(evidence, older.as_deref(), &id)?)
                }
            };
            let new = NewArtifact { name, digest, manifest: resolved.bytes, evidence };
            artifacts.commit(stage, &new).map_err(wrap)?;
            // A name means one thing.
            if let Some(image) = store.image_by_name(&new.name)? {
                store.remove_names(&image.id, &[new.name])?;
            }
            Ok(id)
        })
        .await
    }

    /// Brings one blob, unless it is here.
    async fn bring_blob(
        &self,
        reference: &Reference,
        resolved: &Resolved,
        blob: Descriptor,
        stage: &Arc<Stage>,
    ) -> Result<(), ImageError> {
        let name = reference.to_string();
        let wrap =
            move |source: ArtifactError| ImageError::Artifact { reference: name.clone(), source };
        let (place, wanted, failed) = (Arc::clone(stage), blob.clone(), wrap.clone());
        let here = blocking(move || {
            if wanted.digest.matches(EMPTY) {
                return place.write(&wanted, EMPTY).map(|()| true).map_err(failed);
            }
            place.take(&wanted).map_err(failed)
        });
        if here.await? {
            return Ok(());
        }
        let lane = self.lanes.enter(resolved.source.host()).await;
        let _lane = lane.ok_or(ImageError::Vanished)?;
        let fetch = |error| ImageError::Registry {
            step: "fetch a blob",
            reference: reference.to_string(),
            source: error,
        };
        let mut stream =
            self.verifier.registry.blob(&resolved.source, &blob).await.map_err(fetch)?;
        let (sender, receiver) = mpsc::channel(WAITING_PIECES);
        let place = Arc::clone(stage);
        let writing = blocking(move || place.write(&blob, Pieces::new(receiver)).map_err(wrap));
        let (sent, written) = tokio::join!(feed(&mut stream, sender), writing);
        // A cut that no resume could mend shows on both ends; the network's word is the cause.
        sent.map_err(fetch)?;
        written
    }
}

/// All blobs, each once.
fn blobs(manifest: &Manifest) -> Vec<Descriptor> {
    let mut seen = BTreeSet::new();
    let all = manifest.layers.iter().chain([&manifest.config]);
    all.filter(|blob| seen.insert(blob.digest.clone())).cloned().collect()
}

/// The ID is the manifest's digest without its algorithm, so there can be only one algorithm.
fn id_of(reference: &Reference, resolved: &Resolved) -> Result<ImageId, ImageError> {
    let digest = &resolved.digest;
    let id = digest.hex().parse().ok().filter(|_| digest.algorithm() == Algorithm::Sha256);
    id.ok_or_else(|| ImageError::NotAnImage {
        reference: reference.to_string(),
        fault: "it is an artifact without a sha256 digest".to_owned(),
    })
}
