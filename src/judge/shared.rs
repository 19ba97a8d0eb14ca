//! Signatures as containers/image keeps them with an image, for the tools that share the store:
//! podman, skopeo and CRI-O find those of our pulls, and we those of theirs.
//!
//! All signatures of a manifest lie end to end in one data item, and the image's metadata says how
//! long each is. The item `signatures` is for the image as a whole, `signature-<hex>` for one of
//! its manifests.

use serde::Deserialize;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::model::ids::ImageId;
use crate::oci::digest::Digest;
use crate::oci::stored_signature::StoredSignature;
use crate::storage::StorageError;
use crate::storage::Store;

/// The data item of the image as a whole.
const ALL: &str = "signatures";
/// The sizes of its signatures, in the metadata.
const SIZES: &str = "signature-sizes";
/// The same for each manifest, by digest.
const SIZES_BY_DIGEST: &str = "signatures-sizes";
/// The largest data item that is read and written, in bytes.
const ITEM_LIMIT: u64 = 8 * 1024 * 1024;
/// Of how many manifests signatures are read.
const MOST_MANIFESTS: usize = 16;

/// Why signatures that are there cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SharedError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StorageError),
    /// They are not as their metadata says.
    #[error("{key}: {fault}")]
    Damaged {
        /// The data item.
        key: String,
        /// What is wrong with it.
        fault: String,
    },
}

#[derive(Deserialize, Default)]
struct Metadata {
    #[serde(default, rename = "signature-sizes")]
    sizes: Option<Vec<usize>>,
    #[serde(default, rename = "signatures-sizes")]
    by_digest: Option<std::collections::BTreeMap<Digest, Vec<usize>>>,
}

/// The signatures that any tool keeps with an image.
pub(super) fn read(store: &Store, image: &ImageId) -> Result<Vec<StoredSignature>, SharedError> {
    let Some(record) = store.image(image)? else { return Ok(Vec::new()) };
    if record.metadata.is_empty() {
        return Ok(Vec::new());
    }
    // Metadata of another kind says nothing of signatures.
    let metadata: Metadata = serde_json::from_str(&record.metadata).unwrap_or_default();
    let mut found = item(store, image, ALL, &metadata.sizes.unwrap_or_default())?;
    for (digest, sizes) in metadata.by_digest.unwrap_or_default().iter().take(MOST_MANIFESTS) {
        for signature in item(store, image, &key(digest), sizes)? {
            if !found.contains(&signature) {
                found.push(signature);
            }
        }
    }
    Ok(found)
}

/// Data items of an image, by their keys.
pub(super) type Items = Vec<(String, Vec<u8>)>;

/// The data items and the metadata that say to other tools what `signatures` the manifest has.
///
/// What the metadata says of other manifests stays.
pub(super) fn write(
    store: &Store,
    image: &ImageId,
    digest: &Digest,
    signatures: &[StoredSignature],
) -> Result<(Items, String), SharedError> {
    let old = store.image(image)?.map(|record| record.metadata.clone()).unwrap_or_default();
    if signatures.is_empty() {
        return Ok((Vec::new(), if old.is_empty() { "{}".to_owned() } else { old }));
    }
    let mut bytes = Vec::new();
    let mut sizes = Vec::new();
    let most = usize::try_from(ITEM_LIMIT).unwrap_or(usize::MAX);
    for signature in signatures {
        let one = signature
            .to_bytes()
            .map_err(|error| SharedError::Damaged { key: ALL.into(), fault: error.to_string() })?;
        // More than is read again is in our own evidence alone.
        if bytes.len() + one.len() <= most {
            sizes.push(one.len());
            bytes.extend(one);
        }
    }
    let mut metadata: Map<String, Value> = serde_json::from_str(&old).unwrap_or_default();
    metadata.insert(SIZES.to_owned(), json!(sizes));
    let by_digest = metadata.entry(SIZES_BY_DIGEST).or_insert_with(|| json!({}));
    match by_digest.as_object_mut() {
        Some(known) => {
            known.insert(digest.to_string(), json!(sizes));
        }
        None => *by_digest = json!({ digest.to_string(): sizes }),
    }
    let items = vec![(ALL.to_owned(), bytes.clone()), (key(digest), bytes)];
    Ok((items, Value::Object(metadata).to_string()))
}

fn key(digest: &Digest) -> String {
    format!("signature-{}", digest.hex())
}

fn item(
    store: &Store,
    image: &ImageId,
    key: &str,
    sizes: &[usize],
) -> Result<Vec<StoredSignature>, SharedError> {
    if sizes.is_empty() {
        return Ok(Vec::new());
    }
    let damaged = |fault: String| SharedError::Damaged { key: key.to_owned(), fault };
    let bytes = store.big_data(image, key, ITEM_LIMIT)?;
    let bytes = bytes.ok_or_else(|| damaged("it is missing".to_owned()))?;
    let mut rest = bytes.as_slice();
    let mut found = Vec::new();
    for size in sizes {
        let split = rest.split_at_checked(*size);
        let (one, others) = split.ok_or_else(|| damaged("it is too short".to_owned()))?;
        let parsed = StoredSignature::parse(one);
        found.push(parsed.map_err(|error| damaged(crate::failure::chain(&error)))?);
        rest = others;
    }
    if rest.is_empty() { Ok(found) } else { Err(damaged("it is too long".to_owned())) }
}
