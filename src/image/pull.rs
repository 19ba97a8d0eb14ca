//! Pulls an image: from a reference in a request to a committed image in the store.
//!
//! The order of the steps is the security of the daemon. A tag is turned into a digest once, and
//! everything after that speaks of the digest, so the bytes that are judged are the bytes that
//! are run. The policy is asked before the config or any layer is fetched; if it cannot be asked,
//! the pull fails.
//!
//! Nothing is visible under the image's name until every layer it needs is committed. A pull that
//! dies half-way leaves staged directories that the store drops at its next start, never half an
//! image.

use std::sync::Arc;

use crate::failure::chain;
use crate::image::Images;
use crate::image::Parts;
use crate::image::artifact;
use crate::image::blocking;
use crate::image::error::ImageError;
use crate::image::fetch::Layers;
use crate::image::resolve::Resolved;
use crate::image::verify::Admitted;
use crate::judge;
use crate::model::ids::ImageId;
use crate::model::ids::LayerId;
use crate::model::names::SandboxMetadata;
use crate::oci::descriptor::Descriptor;
use crate::oci::digest::Algorithm;
use crate::oci::document::DOCUMENT_LIMIT;
use crate::oci::image_config::ImageConfig;
use crate::oci::media_type;
use crate::oci::reference::Reference;
use crate::oci::seccomp_artifact;
use crate::policy::Evidence;
use crate::registry::Credentials;
use crate::storage::NewImage;
use crate::storage::Store;

/// A checked request for a pull.
#[derive(Debug, Clone)]
pub struct PullRequest {
    /// What the user wrote.
    pub image: String,
    /// The request's own credentials.
    pub credentials: Credentials,
    /// The pod that it is for; `None` for a pull by hand.
    pub pod: Option<SandboxMetadata>,
    /// What it may be.
    pub wanted: Wanted,
}

/// What a pull may bring.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// An image or an artifact.
    #[default]
    Any,
    /// A seccomp profile, of bounded size; anything else is left where it is.
    SeccompProfile,
}

/// What makes two pulls the same: one may not use the credentials or the policy of the other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct PullKey {
    image: String,
    credentials: Credentials,
    namespace: Option<String>,
    wanted: Wanted,
}

impl Images {
    /// Pulls an image and gives its ID. The same pull asked for twice at once runs once.
    ///
    /// # Errors
    ///
    /// [`ImageError`]; everyone who joined the pull gets the same one.
    pub async fn pull(&self, request: PullRequest) -> Result<ImageId, Arc<ImageError>> {
        let key = PullKey {
            image: request.image.clone(),
            credentials: request.credentials.clone(),
            namespace: request.pod.as_ref().map(|pod| pod.namespace.clone()),
            wanted: request.wanted,
        };
        let parts = Arc::clone(&self.parts);
        let work = |_| async move {
            let pulled = parts.pull(&request).await;
            if pulled.is_err() {
                parts.collect().await;
            }
            crate::sys::memory::give_back();
            pulled.map_err(Arc::new)
        };
        self.pulls.run(key, work).await.unwrap_or_else(|_| Err(Arc::new(ImageError::Vanished)))
    }
}

impl Parts {
    /// Removes layers that a pull which failed has left in the store; those of others stay.
    async fn collect(&self) {
        let store = self.store.clone();
        match blocking(move || Ok(store.collect_layers()?)).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "layers of a failed pull were removed"),
            Err(error) => tracing::warn!(error = chain(&error), "layers of a failed pull stay"),
        }
    }

    async fn pull(self: &Arc<Self>, request: &PullRequest) -> Result<ImageId, ImageError> {
        let Admitted { reference, resolved, evidence, .. } = self.verifier.admit(request).await?;
        // From here on the image is allowed, and only its digest counts.
        if request.wanted == Wanted::SeccompProfile
            && let Err(fault) = seccomp_artifact::layer(&resolved.manifest)
        {
            return Err(ImageError::NoProfile { reference: reference.to_string(), fault });
        }
        if artifact::is_artifact(&resolved.manifest) {
            return self.pull_artifact(&reference, resolved, evidence).await;
        }
        let config_bytes = self.fetch_config(&reference, &resolved).await?;
        let config = ImageConfig::parse(&config_bytes)
            .map_err(|source| ImageError::Document { reference: reference.to_string(), source })?;
        check_shape(&reference, &resolved, &config)?;
        let id = image_id(&reference, &resolved)?;
        let layers = self.fetch_layers(&reference, &resolved, &config.rootfs.diff_ids).await?;
        let documents = Documents { resolved, config_bytes, created: config.created, evidence };
        self.commit(&reference, id, documents, layers).await
    }

    async fn fetch_config(
        &self,
        reference: &Reference,
        resolved: &Resolved,
    ) -> Result<Vec<u8>, ImageError> {
        let config = &resolved.manifest.config;
        if !matches!(config.media_type.as_str(), media_type::OCI_CONFIG | media_type::DOCKER_CONFIG)
        {
            let fault = format!("its config is a {:?}", config.media_type);
            return Err(ImageError::NotAnImage { reference: reference.to_string(), fault });
        }
        self.verifier.registry.small_blob(&resolved.source, config, DOCUMENT_LIMIT).await.map_err(
            |source| ImageError::Registry {
                step: "fetch the image config",
                reference: reference.to_string(),
                source,
            },
        )
    }

    async fn commit(
        &self,
        reference: &Reference,
        id: ImageId,
        documents: Documents,
        layers: Layers,
    ) -> Result<ImageId, ImageError> {
        let (store, artifacts) = (self.store.clone(), self.artifacts.clone());
        let (name, shown) = (reference.to_string(), reference.to_string());
        blocking(move || {
            let chain = store.commit_layers(layers.chain)?;
            let new = documents.into_image(&store, id, name, chain.last().cloned())?;
            let image = store.commit_image(new)?.value();
            // The layers are the image's now; the guards that kept them ours may go.
            drop(layers.guards);
            // A name means one thing.
            artifacts
                .take_name(&shown)
                .map_err(|source| ImageError::Artifact { reference: shown, source })?;
            Ok(image.id.clone())
        })
        .await
    }
}

/// What is kept beside an image's layers.
struct Documents {
    resolved: Resolved,
    config_bytes: Vec<u8>,
    created: Option<String>,
    evidence: Evidence,
}

impl Documents {
    /// The record of the image with all its documents.
    fn into_image(
        self,
        store: &Store,
        id: ImageId,
        name: String,
        layer: Option<LayerId>,
    ) -> Result<NewImage, ImageError> {
        let resolved = self.resolved;
        let mut big_data = vec![
            ("manifest".to_owned(), resolved.bytes.clone()),
            (format!("manifest-{}", resolved.digest), resolved.bytes),
            (resolved.manifest.config.digest.to_string(), self.config_bytes),
        ];
        // As other tools of the store do: the image is found by the digest of the index too.
        if let Some(index) = resolved.index {
            big_data.push((format!("manifest-{}", index.digest), index.bytes));
        }
        let (items, metadata) = judge::keep(store, &id, &resolved.digest, self.evidence)?;
        big_data.extend(items);
        Ok(NewImage {
            id,
            names: vec![name],
            layer,
            digest: resolved.digest,
            created: self.created,
            big_data,
            metadata,
        })
    }
}

/// The ID is the config's digest without its algorithm, so there can be only one algorithm.
fn image_id(reference: &Reference, resolved: &Resolved) -> Result<ImageId, ImageError> {
    let digest = &resolved.manifest.config.digest;
    let id = digest.hex().parse().ok().filter(|_| digest.algorithm() == Algorithm::Sha256);
    id.ok_or_else(|| ImageError::NotAnImage {
        reference: reference.to_string(),
        fault: "its config has no sha256 digest".to_owned(),
    })
}

/// The manifest and the config must speak of the same layers.
fn check_shape(
    reference: &Reference,
    resolved: &Resolved,
    config: &ImageConfig,
) -> Result<(), ImageError> {
    let layers = resolved.manifest.layers.len();
    let diff_ids = config.rootfs.diff_ids.len();
    let fault = if layers != diff_ids {
        format!("its manifest has {layers} layers and its config {diff_ids}")
    } else if let Some(odd) = resolved.manifest.layers.iter().find(|layer| !is_layer(layer)) {
        format!("its layer {} is a {:?}", odd.digest, odd.media_type)
    } else {
        return Ok(());
    };
    Err(ImageError::NotAnImage { reference: reference.to_string(), fault })
}

fn is_layer(layer: &Descriptor) -> bool {
    media_type::layer_compression(&layer.media_type).is_some()
}
