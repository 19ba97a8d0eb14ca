//! Pulls the pause image for a pod that needs it, where the configuration names one.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::config::Config;
use crate::config::Source;
use crate::config::Values;
use crate::failure::Classify;
use crate::image::Credentials;
use crate::image::Images;
use crate::image::PullRequest;
use crate::image::Wanted;
use crate::model::names::SandboxMetadata;
use crate::sandbox::PauseSource;
use crate::sandbox::SandboxError;

/// Who pulls the pause image: nobody, if its name is our own default.
pub(super) fn source(
    config: &Config,
    values: &Values,
    images: &Arc<Images>,
) -> Option<Arc<dyn PauseSource>> {
    if values.source("crio.image", "pause_image") == Source::Default {
        return None;
    }
    let from = &config.image;
    let file = from.pause_image_auth_file.clone();
    let credentials = file.map_or(Credentials::None, Credentials::File);
    let (images, image) = (Arc::clone(images), from.pause_image.clone());
    Some(Arc::new(Puller { images, image, credentials }))
}

#[derive(Debug)]
struct Puller {
    images: Arc<Images>,
    image: String,
    credentials: Credentials,
}

impl PauseSource for Puller {
    fn pull<'a>(&'a self, pod: &SandboxMetadata) -> BoxFuture<'a, Result<(), SandboxError>> {
        let request = PullRequest {
            image: self.image.clone(),
            credentials: self.credentials.clone(),
            pod: Some(pod.clone()),
            wanted: Wanted::Any,
        };
        Box::pin(async move {
            let pulled = self.images.pull(request).await;
            pulled.map(drop).map_err(|error| SandboxError::PausePull {
                image: self.image.clone(),
                kind: error.kind(),
                source: Box::new(error),
            })
        })
    }
}
