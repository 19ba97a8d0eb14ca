//! Image requests from proto, and images to proto.

use crate::catalog::ImageInfo;
use crate::cri::api;
use crate::cri::convert::RequestError;
use crate::model::container::ImageChoice;
use crate::model::names::SandboxMetadata;

/// Which image is meant.
///
/// # Errors
///
/// [`RequestError`] when none is named.
pub fn choice(from: &api::ImageSpec) -> Result<ImageChoice, RequestError> {
    if from.image.is_empty() {
        return Err(RequestError::missing("image.image"));
    }
    Ok(ImageChoice {
        image: from.image.clone(),
        user_specified: from.user_specified_image.clone(),
        handler: from.runtime_handler.clone(),
        annotations: from.annotations.clone().into_iter().collect(),
    })
}

/// The pod that an image is pulled for, as far as it is named.
#[must_use]
pub fn pod(from: api::PodSandboxMetadata) -> SandboxMetadata {
    let api::PodSandboxMetadata { name, uid, namespace, attempt } = from;
    SandboxMetadata { name, uid, namespace, attempt }
}

/// The choice as the container status shows it.
#[must_use]
pub fn choice_to_proto(from: &ImageChoice, image: &str) -> api::ImageSpec {
    api::ImageSpec {
        image: image.to_owned(),
        annotations: from.annotations.clone().into_iter().collect(),
        user_specified_image: from.user_specified.clone(),
        runtime_handler: from.handler.clone(),
        ..api::ImageSpec::default()
    }
}

/// An image of the store as the kubelet sees it.
///
/// A user of digits is a uid; anything else is a name, and the part behind a colon is dropped.
#[must_use]
pub fn to_proto(from: &ImageInfo) -> api::Image {
    let user = from.user.split(':').next().unwrap_or_default();
    let uid = user.parse::<i64>().ok().filter(|uid| *uid >= 0);
    api::Image {
        id: from.id.to_string(),
        repo_tags: from.repo_tags(),
        repo_digests: from.repo_digests(),
        size: from.size,
        uid: uid.map(|value| api::Int64Value { value }),
        username: if uid.is_some() { String::new() } else { user.to_owned() },
        spec: Some(api::ImageSpec {
            annotations: from.annotations.clone().into_iter().collect(),
            ..api::ImageSpec::default()
        }),
        pinned: from.pinned,
    }
}
