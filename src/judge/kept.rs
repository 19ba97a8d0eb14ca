//! The evidence that is kept with an image, so that it can be judged without network.
//!
//! The same image under another name, or judged by the policy of another namespace, has evidence
//! already, which stays true and is kept on. What was just judged comes first: whoever signs the same
//! image a hundred times cannot crowd it out. No more is kept than will be read again.

use std::io;

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

/// What is to be kept with an image: the evidence that was just judged with what was kept before, and
/// the same signatures as other tools that share the store look for them. Data items by key, and the
/// image's metadata. Blocks.
///
/// # Errors
///
/// [`JudgeError`] when the image's record cannot be read or the evidence not be written.
pub fn keep(
    store: &Store,
    image: &ImageId,
    manifest_digest: &Digest,
    fresh: Evidence,
) -> Result<(Items, String), JudgeError> {
    let wrap = |source| JudgeError::Shared { image: image.clone(), source };
    let evidence = together(fresh, &kept_or_none(store, image));
    let (mut items, metadata) =
        shared::write(store, image, manifest_digest, &evidence.stored()).map_err(wrap)?;
    if !evidence.is_empty() {
        items.push((KEY.to_owned(), text_of(&evidence, image)?));
    }
    Ok((items, metadata))
}

/// Keeps evidence of an image that is here, with what was kept before. Blocks.
///
/// # Errors
///
/// [`JudgeError`] when it cannot be written.
pub fn keep_more(store: &Store, image: &ImageId, fresh: Evidence) -> Result<(), JudgeError> {
    let evidence = together(fresh, &kept_or_none(store, image));
    let wrap = |source| JudgeError::Kept { image: image.clone(), source };
    store.set_big_data(image, KEY, &text_of(&evidence, image)?).map_err(wrap)
}

/// The text to keep of evidence with `older`, such a text, if there is one that can be read. `of` is for
/// messages.
///
/// # Errors
///
/// [`JudgeError::TooMuch`].
pub fn text_with(
    fresh: Evidence,
    older: Option<&[u8]>,
    of: &ImageId,
) -> Result<Vec<u8>, JudgeError> {
    let older = older.and_then(|bytes| read(bytes, of).ok()).unwrap_or_default();
    text_of(&together(fresh, &older), of)
}

/// What was just judged, and what was kept before as far as all of it can be read again.
fn together(fresh: Evidence, older: &Evidence) -> Evidence {
    if older.is_empty() {
        return fresh;
    }
    let mut both = fresh.clone();
    both.merge(older);
    let mut size = Size(0);
    let fits = serde_json::to_writer(&mut size, &both).is_ok() && size.0 <= LIMIT;
    if fits { both } else { fresh }
}

/// The evidence as we keep it.
fn text_of(evidence: &Evidence, of: &ImageId) -> Result<Vec<u8>, JudgeError> {
    let text = serde_json::to_vec(evidence)
        .map_err(|source| JudgeError::Damaged { image: of.clone(), source })?;
    if u64::try_from(text.len()).is_ok_and(|size| size <= LIMIT) {
        return Ok(text);
    }
    Err(JudgeError::TooMuch(of.clone()))
}

/// Counts what is written.
struct Size(u64);

impl io::Write for Size {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Evidence as [`text_with`] gave it.
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

/// The evidence kept with an image, where it can be read: what comes later is added to it.
fn kept_or_none(store: &Store, image: &ImageId) -> Evidence {
    let mut evidence = own(store, image).ok().flatten().unwrap_or_default();
    evidence.add_stored(shared::read(store, image).unwrap_or_default());
    evidence
}
