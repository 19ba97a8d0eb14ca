//! The evidence that is kept with an image, so that it can be judged without network.

use crate::judge::JudgeError;
use crate::judge::shared;
use crate::judge::shared::Items;
use crate::model::ids::ImageId;
use crate::oci::digest::Digest;
use crate::policy::Evidence;
use crate::storage::Store;

/// The largest evidence that is kept with an image, in bytes.
pub const LIMIT: u64 = 64 * 1024 * 1024;
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
) -> Result<(Items, String), JudgeError> {
    let wrap = |source| JudgeError::Shared { image: image.clone(), source };
    let (mut items, metadata) =
        shared::write(store, image, manifest_digest, &evidence.stored()).map_err(wrap)?;
    if !evidence.is_empty() {
        items.push(own_item(evidence, image)?);
    }
    Ok((items, metadata))
}

/// The evidence as we keep it: the big-data key, and the text. `of` is for messages.
///
/// # Errors
///
/// [`JudgeError::Damaged`] when it cannot be written.
pub fn own_item(evidence: &Evidence, of: &ImageId) -> Result<(String, Vec<u8>), JudgeError> {
    let text = serde_json::to_vec(evidence)
        .map_err(|source| JudgeError::Damaged { image: of.clone(), source })?;
    Ok((KEY.to_owned(), text))
}

/// Evidence as [`own_item`] gave it.
///
/// # Errors
///
/// [`JudgeError::Damaged`].
pub fn read(bytes: &[u8], of: &ImageId) -> Result<Evidence, JudgeError> {
    serde_json::from_slice(bytes)
        .map_err(|source| JudgeError::Damaged { image: of.clone(), source })
}

/// The evidence kept with an image, by us or by another tool. Blocks.
///
/// # Errors
///
/// [`JudgeError::Kept`], [`JudgeError::Shared`] and [`JudgeError::Damaged`].
pub fn kept(store: &Store, image: &ImageId) -> Result<Evidence, JudgeError> {
    Ok(kept_if_any(store, image)?.unwrap_or_default())
}

/// The same; `None` if nobody kept any. Blocks.
///
/// # Errors
///
/// As [`kept`].
pub fn kept_if_any(store: &Store, image: &ImageId) -> Result<Option<Evidence>, JudgeError> {
    let evidence = own(store, image)?;
    let shared = shared::read(store, image)
        .map_err(|source| JudgeError::Shared { image: image.clone(), source })?;
    if evidence.is_none() && shared.is_empty() {
        return Ok(None);
    }
    let mut evidence = evidence.unwrap_or_default();
    evidence.add_stored(shared);
    Ok(Some(evidence))
}

/// The evidence that we kept with an image; one that came by another tool has none.
fn own(store: &Store, image: &ImageId) -> Result<Option<Evidence>, JudgeError> {
    let wrap = |source| JudgeError::Kept { image: image.clone(), source };
    let bytes = store.big_data(image, KEY, LIMIT).map_err(wrap)?;
    bytes.map(|bytes| read(&bytes, image)).transpose()
}

/// The evidence kept with an image, where it can be read: a later pull adds to it. Blocks.
#[must_use]
pub fn kept_or_none(store: &Store, image: &ImageId) -> Evidence {
    let mut evidence = own(store, image).ok().flatten().unwrap_or_default();
    evidence.add_stored(shared::read(store, image).unwrap_or_default());
    evidence
}
