//! The evidence that is kept with an image, so that it can be judged without network.

use crate::judge::JudgeError;
use crate::model::ids::ImageId;
use crate::policy::Evidence;
use crate::storage::Store;

/// The largest evidence that is kept with an image, in bytes.
const LIMIT: u64 = 64 * 1024 * 1024;
/// The big-data key under which an image's evidence is kept.
const KEY: &str = "crioxide-evidence";

/// The evidence as bytes to keep with an image: the big-data key and the text.
///
/// # Errors
///
/// What `serde_json` says.
pub fn keep(evidence: &Evidence) -> Result<(String, Vec<u8>), serde_json::Error> {
    Ok((KEY.to_owned(), serde_json::to_vec(evidence)?))
}

/// The evidence kept with an image; an image that came by another tool has none. Blocks.
///
/// # Errors
///
/// [`JudgeError::Kept`] and [`JudgeError::Damaged`].
pub fn kept(store: &Store, image: &ImageId) -> Result<Evidence, JudgeError> {
    let wrap = |source| JudgeError::Kept { image: image.clone(), source };
    let Some(bytes) = store.big_data(image, KEY, LIMIT).map_err(wrap)? else {
        return Ok(Evidence::default());
    };
    serde_json::from_slice(&bytes)
        .map_err(|source| JudgeError::Damaged { image: image.clone(), source })
}

/// The evidence kept with an image, where it can be read: a later pull adds to it. Blocks.
#[must_use]
pub fn kept_or_none(store: &Store, image: &ImageId) -> Evidence {
    kept(store, image).unwrap_or_default()
}
