//! Images: their records, and how they are found.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::PoisonError;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use time::OffsetDateTime;

use crate::model::ids::ImageId;
use crate::model::ids::LayerId;
use crate::oci::digest::Digest;
use crate::storage::Store;
use crate::storage::error::StorageError;
use crate::storage::index;
use crate::storage::index::Fields;
use crate::storage::index::Record;
use crate::storage::layers::Layer;
use crate::sys::files;
use crate::sys::files::Links;

/// An image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its id.
    pub id: ImageId,
    /// The digest of its manifest.
    pub digest: Option<Digest>,
    /// The digests of all manifests that are kept with it, that one first: also the index it was
    /// chosen from, and manifests of other repositories with the same config.
    pub digests: Vec<Digest>,
    /// Its full references, with tag or digest.
    pub names: Vec<String>,
    /// Names that it has or had, the newest first.
    pub names_history: Vec<String>,
    /// The uppermost of its layers.
    pub top_layer: Option<LayerId>,
    /// When it was built.
    pub created: Option<OffsetDateTime>,
    /// The data items that are kept with it.
    pub big_data: Vec<BigData>,
    /// What others keep with it, JSON.
    pub metadata: String,
    /// Bytes of its layers' archives and its data items.
    pub size: u64,
}

/// A data item that is kept with an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BigData {
    /// Its key.
    pub key: String,
    /// Its size, if it was written down.
    pub size: Option<u64>,
    /// Its digest, if it was written down.
    pub digest: Option<Digest>,
}

/// An image as its record has it, without the size of its layers.
#[derive(Debug)]
pub(super) struct ImageRow {
    pub(super) id: ImageId,
    pub(super) big_data: Vec<BigData>,
    mapped: Vec<LayerId>,
    image: Image,
}

impl ImageRow {
    /// The uppermost layers of the image: its own, and copies with other owners.
    pub(super) fn layers(&self) -> impl Iterator<Item = &LayerId> {
        self.mapped.iter().chain(&self.image.top_layer)
    }

    /// Its uppermost layer.
    pub(super) fn top_layer(&self) -> Option<&LayerId> {
        self.image.top_layer.as_ref()
    }
}

impl Record for ImageRow {
    fn read(fields: &Fields, _: usize) -> Option<Self> {
        let id: ImageId = index::text(fields, "id").parse().ok()?;
        let part = |map: &str, key: &str| fields.get(map).and_then(|map| map.get(key)).cloned();
        let item = |key: String| BigData {
            size: part("big-data-sizes", &key).as_ref().and_then(Value::as_u64),
            digest: part("big-data-digests", &key).and_then(|digest| digest.as_str()?.parse().ok()),
            key,
        };
        let big_data: Vec<_> =
            index::texts(fields, "big-data-names").into_iter().map(item).collect();
        let digest = index::text(fields, "digest").parse().ok();
        let manifests = big_data
            .iter()
            .filter(|item| item.key.starts_with("manifest"))
            .filter_map(|item| item.digest.clone());
        let mut digests: Vec<Digest> = Vec::new();
        for digest in digest.clone().into_iter().chain(manifests) {
            if !digests.contains(&digest) {
                digests.push(digest);
            }
        }
        let mapped = index::texts(fields, "mapped-layers");
        let sizes = big_data.iter().map(|item| item.size.unwrap_or_default());
        Some(Self {
            id: id.clone(),
            mapped: mapped.iter().filter_map(|id| id.parse().ok()).collect(),
            image: Image {
                id,
                // As others do: an image without a digest has that of its first manifest.
                digest: digest.or_else(|| digests.first().cloned()),
                digests,
                names: index::texts(fields, "names"),
                names_history: index::texts(fields, "names-history"),
                top_layer: index::text(fields, "layer").parse().ok(),
                created: index::time(fields, "created"),
                metadata: index::text(fields, "metadata").to_owned(),
                size: sizes.fold(0, u64::saturating_add),
                big_data: big_data.clone(),
            },
            big_data,
        })
    }
}

/// Images as they were listed last, and of which generations of the indexes that was.
#[derive(Debug, Default)]
pub(super) struct Listed {
    generations: Option<(u64, u64)>,
    images: Vec<Arc<Image>>,
}

impl Store {
    /// All images.
    ///
    /// # Errors
    ///
    /// Where the indexes cannot be read.
    pub fn images(&self) -> Result<Vec<Arc<Image>>, StorageError> {
        let layers = self.inner.layers.snapshot()?;
        let images = self.inner.images.snapshot()?;
        let generations = Some((layers.generation, images.generation));
        let mut listed = self.inner.listed.lock().unwrap_or_else(PoisonError::into_inner);
        if listed.generations != generations {
            let layers: HashMap<&LayerId, &Layer> =
                layers.iter().map(|layer| (&layer.id, layer.as_ref())).collect();
            listed.images = images.iter().map(|row| Arc::new(with_size(row, &layers))).collect();
            listed.generations = generations;
        }
        Ok(listed.images.clone())
    }

    /// The image of this id.
    ///
    /// # Errors
    ///
    /// Where the indexes cannot be read.
    pub fn image(&self, id: &ImageId) -> Result<Option<Arc<Image>>, StorageError> {
        Ok(self.images()?.into_iter().find(|image| image.id == *id))
    }

    /// The image of this full reference.
    ///
    /// # Errors
    ///
    /// Where the indexes cannot be read.
    pub fn image_by_name(&self, name: &str) -> Result<Option<Arc<Image>>, StorageError> {
        let has = |image: &Arc<Image>| image.names.iter().any(|known| known == name);
        Ok(self.images()?.into_iter().find(has))
    }

    /// The images whose ids begin so.
    ///
    /// # Errors
    ///
    /// Where the indexes cannot be read.
    pub fn images_by_id_prefix(&self, prefix: &str) -> Result<Vec<Arc<Image>>, StorageError> {
        let mut images = self.images()?;
        images.retain(|image| image.id.as_str().starts_with(prefix));
        Ok(images)
    }

    /// A data item of an image, if it has one under this key.
    ///
    /// # Errors
    ///
    /// [`StorageError::TooLarge`] beyond `limit`, [`StorageError::Io`] where it cannot be read.
    pub fn big_data(
        &self,
        id: &ImageId,
        key: &str,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, StorageError> {
        let path = self.data_path(id, key)?;
        match files::read(&path, limit, Links::Refuse) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                Err(StorageError::TooLarge { image: id.clone(), key: key.to_owned(), limit })
            }
            Err(source) => Err(StorageError::io("read", &path)(source)),
        }
    }

    /// Where a data item of an image is kept.
    pub(super) fn data_path(&self, id: &ImageId, key: &str) -> Result<PathBuf, StorageError> {
        item_in(self.root().join("overlay-images").join(id.as_str()), key)
    }
}

/// Where a data item is kept in this directory: under its key if that is plain, otherwise under the key
/// in base64 behind an equals sign.
pub(super) fn item_in(directory: PathBuf, key: &str) -> Result<PathBuf, StorageError> {
    let plain = |byte: u8| byte == b'.' || byte.is_ascii_digit() || byte.is_ascii_lowercase();
    let name =
        if key.bytes().all(plain) { key.to_owned() } else { format!("={}", STANDARD.encode(key)) };
    if matches!(name.as_str(), "" | "." | "..") || name.contains('/') || name.len() > 255 {
        let text = format!("{key:?} is no key for a data item");
        let source = io::Error::new(io::ErrorKind::InvalidInput, text);
        return Err(StorageError::Io { action: "use a data item in", path: directory, source });
    }
    Ok(directory.join(name))
}

fn with_size(row: &ImageRow, layers: &HashMap<&LayerId, &Layer>) -> Image {
    let mut image = row.image.clone();
    let mut next = image.top_layer.as_ref();
    // A stack is never this deep; a damaged index could go round in circles.
    for _ in 0..1024 {
        let Some(layer) = next.and_then(|id| layers.get(id)) else { break };
        image.size = image.size.saturating_add(layer.diff_size.unwrap_or_default());
        next = layer.parent.as_ref();
    }
    image
}
