//! The evidence that is kept with an image, so that it can be judged without network.

use crate::judge::JudgeError;
use crate::judge::shared;
use crate::model::ids::ImageId;
use crate::oci::digest::Digest;
use crate::policy::Evidence;
use crate::storage::Store;

/// The largest evidence that is kept with an image, in bytes.
const LIMIT: u64 = 64 * 1024 * 1024;
/// The big-data key under which an image's evidence is kept.
const KEY: &str = "crioxide-evidence";

/// What is to be kept with an image: the evidence, and the same signatures as other tools that
/// share the store look for them. Data items by key, and the image's metadata. Blocks.
///
/// # Errors
///
/// [`JudgeError`] when the image's record cannot be read or the evidence not be written.
pub fn keep(
    store: &Store,
    image: &ImageId,
    manifest_digest: &Digest,
    evidence: &Evidence,
) -> Result<(Vec<(String, Vec<u8>)>, String), JudgeError> {
    let wrap = |source| JudgeError::Shared { image: image.clone(), source };
    let (mut items, metadata) =
        shared::write(store, image, manifest_digest, &evidence.stored()).map_err(wrap)?;
    if !evidence.is_empty() {
        let text = serde_json::to_vec(evidence)
            .map_err(|source| JudgeError::Damaged { image: image.clone(), source })?;
        items.push((KEY.to_owned(), text));
    }
    Ok((items, metadata))
}

/// The evidence kept with an image, by us or by another tool. Blocks.
///
/// # Errors
///
/// [`JudgeError::Kept`], [`JudgeError::Shared`] and [`JudgeError::Damaged`].
pub fn kept(store: &Store, image: &ImageId) -> Result<Evidence, JudgeError> {
    let mut evidence = own(store, image)?;
    let shared = shared::read(store, image)
        .map_err(|source| JudgeError::Shared { image: image.clone(), source })?;
    evidence.add_stored(shared);
    Ok(evidence)
}

/// The evidence that we kept with an image; one that came by another tool has none.
fn own(store: &Store, image: &ImageId) -> Result<Evidence, JudgeError> {
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
    let mut evidence = own(store, image).unwrap_or_default();
    evidence.add_stored(shared::read(store, image).unwrap_or_default());
    evidence
}
