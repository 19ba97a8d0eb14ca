//! Pulls seccomp profiles that pods name by annotation.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::container::ContainerError;
use crate::container::ProfileSource;
use crate::failure::Classify;
use crate::image::Credentials;
use crate::image::Images;
use crate::image::PullRequest;
use crate::image::Wanted;
use crate::model::names::SandboxMetadata;

/// Pulls with the node's own credentials: the kubelet gives none for an annotation.
#[derive(Debug)]
pub(super) struct Puller(pub(super) Arc<Images>);

impl ProfileSource for Puller {
    fn pull<'a>(
        &'a self,
        reference: &'a str,
        pod: &'a SandboxMetadata,
    ) -> BoxFuture<'a, Result<(), ContainerError>> {
        let request = PullRequest {
            image: reference.to_owned(),
            credentials: Credentials::None,
            pod: Some(pod.clone()),
            wanted: Wanted::SeccompProfile,
        };
        Box::pin(async move {
            let pulled = self.0.pull(request).await;
            pulled.map(drop).map_err(|error| ContainerError::ProfilePull {
                kind: error.kind(),
                source: Box::new(error),
            })
        })
    }
}
