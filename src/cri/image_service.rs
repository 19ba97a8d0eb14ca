//! The image RPCs: convert, call, convert back.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio_stream::Stream;
use tonic::Request;
use tonic::Response;
use tonic::Status;

use crate::catalog::ImageInfo;
use crate::cri::api;
use crate::cri::api::image_service_server::ImageService;
use crate::cri::convert::RequestError;
use crate::cri::convert::image;
use crate::cri::error::DoorError;
use crate::cri::lists;
use crate::cri::observe::observe;
use crate::failure::Classify;
use crate::failure::Kind;
use crate::image::Credentials;
use crate::image::Images;
use crate::image::PullRequest;
use crate::image::Wanted;
use crate::metrics::Metrics;

/// The image service.
#[derive(Debug)]
pub struct ImageDoor {
    /// The use cases on images.
    pub images: Arc<Images>,
    /// Counts pulls.
    pub metrics: Metrics,
}

type Answer<T> = Result<Response<T>, Status>;
type Chunks<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl ImageService for ImageDoor {
    type StreamImagesStream = Chunks<api::StreamImagesResponse>;

    async fn list_images(
        &self,
        request: Request<api::ListImagesRequest>,
    ) -> Answer<api::ListImagesResponse> {
        let wanted = wanted(request.into_inner().filter);
        observe("ListImages", &wanted, async {
            let found = self.matching(&wanted).await?;
            let images = found.iter().map(image::to_proto).collect();
            Ok::<_, DoorError>(api::ListImagesResponse { images })
        })
        .await
    }

    async fn stream_images(
        &self,
        request: Request<api::StreamImagesRequest>,
    ) -> Answer<Self::StreamImagesStream> {
        let wanted = wanted(request.into_inner().filter);
        observe("StreamImages", &wanted, async {
            let found = self.matching(&wanted).await?;
            Ok::<_, DoorError>(lists::converted(found, image::to_proto, |images| {
                api::StreamImagesResponse { images }
            }))
        })
        .await
    }

    async fn image_status(
        &self,
        request: Request<api::ImageStatusRequest>,
    ) -> Answer<api::ImageStatusResponse> {
        let request = request.into_inner();
        let wanted = request.image.map(|spec| spec.image).unwrap_or_default();
        observe("ImageStatus", &wanted, async {
            if wanted.is_empty() {
                return Err(RequestError::missing("image.image").into());
            }
            let found = self.images.find(&wanted).await?;
            let info = match &found {
                Some(found) if request.verbose => info(
                    &self.images.config_text(found).await?,
                    &self.images.evidence_text(found).await?,
                ),
                _ => HashMap::new(),
            };
            Ok::<_, DoorError>(api::ImageStatusResponse {
                image: found.as_ref().map(image::to_proto),
                info,
            })
        })
        .await
    }

    async fn pull_image(
        &self,
        request: Request<api::PullImageRequest>,
    ) -> Answer<api::PullImageResponse> {
        let request = request.into_inner();
        let subject = request.image.as_ref().map(|spec| spec.image.clone()).unwrap_or_default();
        observe("PullImage", &subject, async {
            if subject.is_empty() {
                return Err(RequestError::missing("image.image").into());
            }
            let pod = request.sandbox_config.and_then(|config| config.metadata);
            let pull = PullRequest {
                image: subject.clone(),
                credentials: credentials(request.auth)?,
                pod: pod.map(image::pod),
                wanted: Wanted::Any,
            };
            let pulled = self.images.pull(pull).await;
            match &pulled {
                Ok(_) => self.metrics.pulled(),
                Err(error) => self.metrics.not_pulled(failure_word(error.kind())),
            }
            let id = pulled?;
            Ok::<_, DoorError>(api::PullImageResponse { image_ref: id.to_string() })
        })
        .await
    }

    async fn remove_image(
        &self,
        request: Request<api::RemoveImageRequest>,
    ) -> Answer<api::RemoveImageResponse> {
        let wanted = request.into_inner().image.map(|spec| spec.image).unwrap_or_default();
        observe("RemoveImage", &wanted, async {
            if wanted.is_empty() {
                return Err(RequestError::missing("image.image").into());
            }
            self.images.remove(&wanted).await?;
            Ok::<_, DoorError>(api::RemoveImageResponse {})
        })
        .await
    }

    async fn image_fs_info(
        &self,
        _: Request<api::ImageFsInfoRequest>,
    ) -> Answer<api::ImageFsInfoResponse> {
        observe("ImageFsInfo", "", async {
            let usage = self.images.fs_info().await?;
            let filesystem = api::FilesystemUsage {
                timestamp: usage.timestamp,
                fs_id: Some(api::FilesystemIdentifier {
                    mountpoint: usage.mountpoint.to_string_lossy().into_owned(),
                }),
                used_bytes: Some(api::UInt64Value { value: usage.bytes }),
                inodes_used: Some(api::UInt64Value { value: usage.inodes }),
            };
            Ok::<_, DoorError>(api::ImageFsInfoResponse {
                image_filesystems: vec![filesystem.clone()],
                container_filesystems: vec![filesystem],
            })
        })
        .await
    }
}

/// The image that a filter names; empty for all.
fn wanted(filter: Option<api::ImageFilter>) -> String {
    filter.and_then(|filter| filter.image).map(|spec| spec.image).unwrap_or_default()
}

impl ImageDoor {
    /// The images that a filter wants: all, or the one it names.
    async fn matching(&self, wanted: &str) -> Result<Vec<ImageInfo>, DoorError> {
        Ok(if wanted.is_empty() {
            self.images.list().await?
        } else {
            self.images.find(wanted).await?.into_iter().collect()
        })
    }
}

/// The word that CRI-O's metric has for a pull that failed so; its words are those of registries.
fn failure_word(kind: Kind) -> &'static str {
    match kind {
        // As registries say it, and CRI-O after them.
        Kind::NotFound => "MANIFEST_UNKNOWN",
        Kind::RegistryUnavailable => "CONNECTION_REFUSED",
        Kind::Deadline => "CONNECTION_TIMEOUT",
        Kind::Unauthenticated => "UNAUTHORIZED",
        Kind::Refused => "DENIED",
        Kind::Corrupt => "DIGEST_INVALID",
        Kind::InvalidRequest => "NAME_INVALID",
        Kind::NotSupported => "UNSUPPORTED",
        Kind::NameTaken
        | Kind::WrongState
        | Kind::NoSpace
        | Kind::Cancelled
        | Kind::ImageVolume
        | Kind::RecursiveReadOnly
        | Kind::Busy
        | Kind::Internal => "UNKNOWN",
    }
}

/// User and password of a request; `auth` is both in base64, as in docker's configuration.
fn credentials(from: Option<api::AuthConfig>) -> Result<Credentials, RequestError> {
    let Some(from) = from else { return Ok(Credentials::None) };
    if !from.username.is_empty() || !from.password.is_empty() {
        return Ok(Credentials::Basic { username: from.username, password: from.password });
    }
    if from.auth.is_empty() {
        return Ok(Credentials::None);
    }
    let illegal =
        || RequestError { field: "auth.auth", fault: "is not base64 of user:password".to_owned() };
    let bytes = STANDARD.decode(from.auth.trim()).map_err(|_| illegal())?;
    let text = String::from_utf8(bytes).map_err(|_| illegal())?;
    let (username, password) = text.split_once(':').ok_or_else(illegal)?;
    let password = password.trim_end_matches('\0').to_owned();
    Ok(Credentials::Basic { username: username.to_owned(), password })
}

/// The verbose part of an image's status, as `crictl inspecti` prints it.
fn info(config: &str, evidence: &str) -> HashMap<String, String> {
    let parsed: serde_json::Value = serde_json::from_str(config).unwrap_or_default();
    let evidence: serde_json::Value = serde_json::from_str(evidence).unwrap_or_default();
    let labels = parsed.pointer("/config/Labels").cloned().unwrap_or_default();
    let info = serde_json::json!({ "labels": labels, "imageSpec": parsed, "evidence": evidence });
    HashMap::from([("info".to_owned(), info.to_string())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_credentials_are_taken_apart() {
        let auth = |auth: &str| {
            credentials(Some(api::AuthConfig { auth: auth.to_owned(), ..Default::default() }))
        };
        let text = STANDARD.encode("me:pass:word");
        match auth(&text).unwrap() {
            Credentials::Basic { username, password } => {
                assert_eq!((username.as_str(), password.as_str()), ("me", "pass:word"));
            }
            Credentials::None | Credentials::File(_) => panic!("no credentials"),
        }
        assert!(auth("%%%").is_err());
        assert!(auth(&STANDARD.encode("no colon")).is_err());
    }
}
