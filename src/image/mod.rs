//! Use cases on images: one file per verb or step.
//!
//! The order of the steps in [`pull`] is the security of the daemon. A tag becomes a digest once;
//! the policy is asked about that digest before the config or any layer is fetched; and nothing is
//! visible under the image's name until all of it is committed.

mod artifact;
mod error;
mod evidence;
mod fetch;
mod find;
mod lanes;
mod layer_turns;
mod pull;
mod remove;
mod resolve;
mod verify;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

pub use error::ImageError;
pub use pull::PullRequest;
pub use pull::Wanted;
pub use verify::Verifier;

pub use crate::registry::Credentials;

use crate::artifacts::Artifacts;
use crate::catalog::Catalog;
use crate::catalog::ImageInfo;
use crate::image::lanes::Lanes;
use crate::image::layer_turns::LayerTurns;
use crate::image::pull::PullKey;
use crate::judge;
use crate::model::ids::ImageId;
use crate::model::in_flight::InFlight;
use crate::storage::Store;

/// The answer that everyone who joined a pull gets.
type Pulled = Result<ImageId, Arc<ImageError>>;

/// The use cases on images.
#[derive(Debug)]
pub struct Images {
    parts: Arc<Parts>,
    pulls: InFlight<PullKey, Pulled>,
}

/// What a pull works with; it goes on when the request that began it is gone.
#[derive(Debug)]
struct Parts {
    store: Store,
    artifacts: Artifacts,
    catalog: Arc<Catalog>,
    verifier: Verifier,
    lanes: Lanes,
    turns: LayerTurns,
}

/// How full the filesystem of the images is.
#[derive(Debug, Clone)]
pub struct FsInfo {
    /// Now, in nanoseconds since 1970.
    pub timestamp: i64,
    /// Where the store is.
    pub mountpoint: PathBuf,
    /// Bytes used by images.
    pub bytes: u64,
    /// Inodes used by images.
    pub inodes: u64,
}

impl Images {
    /// The use cases over these parts.
    #[must_use]
    pub fn new(
        store: Store,
        artifacts: Artifacts,
        catalog: Arc<Catalog>,
        verifier: Verifier,
    ) -> Self {
        let parts = Parts {
            store,
            artifacts,
            catalog,
            verifier,
            lanes: Lanes::new(),
            turns: LayerTurns::default(),
        };
        Self { parts: Arc::new(parts), pulls: InFlight::default() }
    }

    /// All images.
    ///
    /// # Errors
    ///
    /// [`ImageError::Catalog`].
    pub async fn list(&self) -> Result<Vec<ImageInfo>, ImageError> {
        let catalog = Arc::clone(&self.parts.catalog);
        blocking(move || Ok(catalog.list()?)).await
    }

    /// The image that `text` names, if it is here and whole: the kubelet pulls what is not.
    ///
    /// # Errors
    ///
    /// [`ImageError::Catalog`].
    pub async fn find(&self, text: &str) -> Result<Option<ImageInfo>, ImageError> {
        let catalog = Arc::clone(&self.parts.catalog);
        let text = text.to_owned();
        blocking(move || Ok(catalog.find(&text)?.filter(|image| image.whole))).await
    }

    /// The image's config as JSON text; an artifact has none.
    ///
    /// # Errors
    ///
    /// [`ImageError::Catalog`].
    pub async fn config_text(&self, image: &ImageInfo) -> Result<String, ImageError> {
        let catalog = Arc::clone(&self.parts.catalog);
        if image.artifact.is_some() {
            return Ok(String::new());
        }
        let id = image.id.clone();
        let bytes = blocking(move || Ok(catalog.config(&id)?.0)).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// What is kept with the image for the policy, as JSON text.
    ///
    /// # Errors
    ///
    /// [`ImageError::Judge`] where it cannot be read.
    pub async fn evidence_text(&self, image: &ImageInfo) -> Result<String, ImageError> {
        let (store, id) = (self.parts.store.clone(), image.id.clone());
        let evidence = blocking(move || Ok(judge::kept(&store, &id)?)).await?;
        serde_json::to_string(&evidence.claims()).map_err(|_| ImageError::Vanished)
    }

    /// How full the filesystem of the images is.
    ///
    /// # Errors
    ///
    /// [`ImageError::Store`].
    pub async fn fs_info(&self) -> Result<FsInfo, ImageError> {
        let store = self.parts.store.clone();
        let usage = blocking(move || Ok(store.image_fs_usage()?)).await?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Ok(FsInfo {
            timestamp: i64::try_from(now.as_nanos()).unwrap_or(i64::MAX),
            mountpoint: usage.mountpoint,
            bytes: usage.bytes,
            inodes: usage.inodes,
        })
    }
}

/// Runs blocking work on a thread that may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| ImageError::Vanished)?
}
