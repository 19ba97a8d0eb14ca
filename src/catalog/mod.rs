//! Which images are on this node, by whatever a user calls them.
//!
//! A name is an ID, the beginning of one, a full reference, or a short name that registries.conf
//! completes. Both pulling and running look images up here, so they always agree. Artifacts are
//! among them, as the kubelet knows no difference: of one name, an image goes first.

mod error;
mod pinned;

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

pub use error::CatalogError;
pub use pinned::Pinned;

use crate::artifacts::Artifact;
use crate::artifacts::Artifacts;
use crate::failure::chain;
use crate::model::current::Current;
use crate::model::ids::ImageId;
use crate::oci::digest::Digest;
use crate::oci::document::DOCUMENT_LIMIT;
use crate::oci::document::Document;
use crate::oci::document::Manifest;
use crate::oci::image_config::ImageConfig;
use crate::oci::reference::Reference;
use crate::registry::Registry;
use crate::storage::Image;
use crate::storage::Store;

/// The shortest beginning of an ID that is looked up.
const SHORTEST_PREFIX: usize = 3;

/// An image as users see it.
#[derive(Debug, Clone)]
pub struct ImageInfo {
    /// Its ID.
    pub id: ImageId,
    /// Its names with a tag.
    pub tags: Vec<Reference>,
    /// Its names with a digest, and its repositories with the digest of each of its manifests and
    /// of each index that led to one.
    pub digests: Vec<Reference>,
    /// The digests of the manifests and indexes that are kept with it. Two manifests can have the
    /// same config, as when an image is compressed anew.
    pub manifests: Vec<Digest>,
    /// Its uncompressed size in bytes.
    pub size: u64,
    /// The user that its config names.
    pub user: String,
    /// The annotations of its manifest.
    pub annotations: BTreeMap<String, String>,
    /// The kubelet must not collect it.
    pub pinned: bool,
    /// It is no container image but an artifact, whose ID is the digest of its manifest. It can be
    /// mounted as a volume, not run.
    pub artifact: Option<Arc<Artifact>>,
    /// Its config is there. It is not yet while another tool writes the image, whose record comes
    /// first; such an image can be removed and pulled, not run.
    pub whole: bool,
}

impl ImageInfo {
    /// Its names with a tag, in order.
    #[must_use]
    pub fn repo_tags(&self) -> Vec<String> {
        in_order(&self.tags)
    }

    /// Its names with a digest, in order: CRI-O's, by which a pod's `imageID` is the first.
    #[must_use]
    pub fn repo_digests(&self) -> Vec<String> {
        in_order(&self.digests)
    }
}

fn in_order(names: &[Reference]) -> Vec<String> {
    let mut texts: Vec<String> = names.iter().map(Reference::to_string).collect();
    texts.sort();
    texts
}

/// What the catalog reads of an image once and keeps.
#[derive(Debug, Default)]
struct Contents {
    user: String,
    annotations: BTreeMap<String, String>,
}

/// The images of the node.
#[derive(Debug)]
pub struct Catalog {
    store: Store,
    registry: Registry,
    artifacts: Artifacts,
    pinned: Current<Pinned>,
    contents: Mutex<HashMap<ImageId, Arc<Contents>>>,
}

impl Catalog {
    /// The images of `store`, with short names completed as `registry` is configured.
    #[must_use]
    pub fn new(store: Store, registry: Registry, artifacts: Artifacts, pinned: Pinned) -> Self {
        let pinned = Current::new(pinned);
        Self { store, registry, artifacts, pinned, contents: Mutex::default() }
    }

    /// From now on these images must not be collected.
    pub fn replace_pinned(&self, pinned: Pinned) {
        self.pinned.replace(pinned);
    }

    /// All images, those that are not whole among them. Blocks.
    ///
    /// # Errors
    ///
    /// [`CatalogError::Store`].
    pub fn list(&self) -> Result<Vec<ImageInfo>, CatalogError> {
        let images = self.store.images()?;
        let mut contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        contents.retain(|id, _| images.iter().any(|image| image.id == *id));
        drop(contents);
        let mut all = images.iter().map(|image| self.info(image)).collect::<Result<Vec<_>, _>>()?;
        all.extend(self.artifacts());
        Ok(all)
    }

    /// The image that `text` names. Blocks.
    ///
    /// # Errors
    ///
    /// [`CatalogError::Ambiguous`] for the beginning of several IDs, [`CatalogError::Store`].
    pub fn find(&self, text: &str) -> Result<Option<ImageInfo>, CatalogError> {
        let text = text.strip_prefix("sha256:").unwrap_or(text);
        if let Ok(id) = text.parse::<ImageId>() {
            let image = self.store.image(&id)?.map(|image| self.info(&image)).transpose()?;
            return Ok(image.or_else(|| self.artifacts().into_iter().find(|info| info.id == id)));
        }
        let wanted = self.complete(text);
        for reference in &wanted {
            if let Some(image) = self.by_reference(reference)? {
                return self.info(&image).map(Some);
            }
        }
        let artifacts = self.artifacts();
        let named = |info: &&ImageInfo| {
            wanted.iter().any(|name| info.tags.contains(name) || info.digests.contains(name))
        };
        if let Some(info) = artifacts.iter().find(named) {
            return Ok(Some(info.clone()));
        }
        self.by_prefix(text, artifacts)
    }

    /// All artifacts; a store of them that cannot be read must not hide the images.
    fn artifacts(&self) -> Vec<ImageInfo> {
        let all = self.artifacts.all().unwrap_or_else(|error| {
            tracing::warn!(error = chain(&error), "artifacts cannot be listed");
            Vec::new()
        });
        all.into_iter().filter_map(|artifact| self.info_of_artifact(artifact)).collect()
    }

    fn info_of_artifact(&self, artifact: Artifact) -> Option<ImageInfo> {
        let names: Vec<Reference> =
            artifact.names.iter().filter_map(|name| name.parse().ok()).collect();
        let (tags, mut digests): (Vec<_>, Vec<_>) =
            names.into_iter().partition(|name: &Reference| name.tag().is_some());
        for tag in &tags {
            let name = tag.with_digest(&artifact.digest);
            if !digests.contains(&name) {
                digests.push(name);
            }
        }
        let pinned = self.pinned.now();
        let pinned = tags.iter().chain(&digests).any(|name| pinned.matches(&name.to_string()));
        Some(ImageInfo {
            // Only SHA-256 makes an ID.
            id: artifact.digest.hex().parse().ok()?,
            pinned: pinned || artifact.read_only,
            tags,
            digests,
            manifests: vec![artifact.digest.clone()],
            size: artifact.size,
            user: String::new(),
            annotations: artifact.manifest.annotations.clone(),
            artifact: Some(Arc::new(artifact)),
            whole: true,
        })
    }

    fn by_reference(&self, reference: &Reference) -> Result<Option<Arc<Image>>, CatalogError> {
        if let Some(image) = self.store.image_by_name(&reference.to_string())? {
            return Ok(Some(image));
        }
        let Some(digest) = reference.digest() else { return Ok(None) };
        let repository = reference.repository();
        let images = self.store.images()?;
        Ok(images.into_iter().find(|image| {
            image.digests.contains(digest)
                && named(image).any(|name| name.repository() == repository)
        }))
    }

    /// The full references that a user's text can mean, each with a tag or a digest.
    #[must_use]
    pub fn complete(&self, text: &str) -> Vec<Reference> {
        let candidates = self.registry.candidates(text).unwrap_or_default();
        candidates.into_iter().map(|name| name.without_tag_if_digested().or_latest()).collect()
    }

    /// Which of the image's names `text` means: the one it completes to; by digest, all of that
    /// repository that name no tag.
    #[must_use]
    pub fn names_of(&self, image: &ImageInfo, text: &str) -> Vec<String> {
        let known = |name: &Reference| image.tags.contains(name) || image.digests.contains(name);
        self.complete(text).into_iter().filter(known).map(|name| name.to_string()).collect()
    }

    fn by_prefix(
        &self,
        text: &str,
        artifacts: Vec<ImageInfo>,
    ) -> Result<Option<ImageInfo>, CatalogError> {
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() < SHORTEST_PREFIX || !text.bytes().all(hex) {
            return Ok(None);
        }
        let images = self.store.images_by_id_prefix(text)?;
        let mut artifacts = artifacts.into_iter().filter(|info| info.id.as_str().starts_with(text));
        match (images.as_slice(), artifacts.next(), artifacts.next()) {
            ([], found, None) => Ok(found),
            ([image], None, _) => self.info(image).map(Some),
            _ => Err(CatalogError::Ambiguous(text.to_owned())),
        }
    }

    fn info(&self, image: &Arc<Image>) -> Result<ImageInfo, CatalogError> {
        // An image that is damaged, or being written, must not hide the others.
        let contents = match self.contents(&image.id) {
            Ok(contents) => Some(contents),
            Err(error @ CatalogError::Store(_)) => return Err(error),
            Err(error) => {
                tracing::debug!(image = %image.id, error = chain(&error), "it is not whole");
                None
            }
        };
        let names = || image.names.iter().filter_map(|name| name.parse::<Reference>().ok());
        let tags: Vec<Reference> = names().filter(|name| name.tag().is_some()).collect();
        let mut digests: Vec<Reference> =
            names().filter(|name| name.tag().is_none() && name.digest().is_some()).collect();
        for name in named(image) {
            for digest in &image.digests {
                let name = name.with_digest(digest);
                if !digests.contains(&name) {
                    digests.push(name);
                }
            }
        }
        let pinned = self.pinned.now();
        let pinned = tags.iter().chain(&digests).any(|name| pinned.matches(&name.to_string()));
        Ok(ImageInfo {
            id: image.id.clone(),
            tags,
            digests,
            manifests: image.digests.clone(),
            size: image.size,
            user: contents.as_ref().map(|known| known.user.clone()).unwrap_or_default(),
            annotations: contents
                .as_ref()
                .map(|known| known.annotations.clone())
                .unwrap_or_default(),
            pinned,
            artifact: None,
            whole: contents.is_some(),
        })
    }

    fn contents(&self, id: &ImageId) -> Result<Arc<Contents>, CatalogError> {
        if let Some(known) = self.contents.lock().unwrap_or_else(PoisonError::into_inner).get(id) {
            return Ok(Arc::clone(known));
        }
        let config = self.config(id)?.1;
        let manifest = self.store.big_data(id, "manifest", DOCUMENT_LIMIT)?;
        let annotations = match Document::parse("", manifest.as_deref().unwrap_or_default()) {
            Ok(Document::Manifest(manifest)) => manifest.annotations,
            Ok(Document::Index(_)) | Err(_) => BTreeMap::new(),
        };
        let contents = Arc::new(Contents { user: config.run().user, annotations });
        if manifest.is_none() {
            // It may still be on its way.
            return Ok(contents);
        }
        let mut known = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(id.clone(), Arc::clone(&contents));
        Ok(contents)
    }

    /// The image's config as bytes, checked against its ID, and as parsed. Blocks.
    ///
    /// # Errors
    ///
    /// [`CatalogError::NoConfig`] and [`CatalogError::Damaged`] for an image that is not whole.
    pub fn config(&self, id: &ImageId) -> Result<(Vec<u8>, ImageConfig), CatalogError> {
        let key = format!("sha256:{id}");
        let bytes = self
            .store
            .big_data(id, &key, DOCUMENT_LIMIT)?
            .ok_or_else(|| CatalogError::NoConfig(id.clone()))?;
        if Digest::sha256(&bytes).hex() != id.as_str() {
            return Err(CatalogError::Altered(id.clone()));
        }
        let config = ImageConfig::parse(&bytes)
            .map_err(|source| CatalogError::Damaged { id: id.clone(), source })?;
        Ok((bytes, config))
    }

    /// The manifests that a signature on the image can be about: those whose bytes are here, are of
    /// their digest, and name the image's config; the one that came last is the first. An index is none of
    /// them. Blocks.
    ///
    /// # Errors
    ///
    /// [`CatalogError::Store`].
    pub fn manifests(&self, image: &ImageInfo) -> Result<Vec<Digest>, CatalogError> {
        if let Some(artifact) = &image.artifact {
            // Its bytes were checked when it was looked up.
            return Ok(vec![artifact.digest.clone()]);
        }
        let mut found = Vec::new();
        for digest in &image.manifests {
            if self.manifest(&image.id, digest)?.is_some() {
                found.push(digest.clone());
            }
        }
        let last = self.store.big_data(&image.id, "manifest", DOCUMENT_LIMIT)?;
        found.sort_by_key(|digest| !last.as_deref().is_some_and(|bytes| digest.matches(bytes)));
        Ok(found)
    }

    /// What the manifest of this digest notes of the image. Other manifests of it may note something
    /// else, and nobody signed that. Blocks.
    ///
    /// # Errors
    ///
    /// [`CatalogError::Store`].
    pub fn annotations(
        &self,
        image: &ImageInfo,
        digest: &Digest,
    ) -> Result<BTreeMap<String, String>, CatalogError> {
        if let Some(artifact) = &image.artifact {
            return Ok(artifact.manifest.annotations.clone());
        }
        let manifest = self.manifest(&image.id, digest)?;
        Ok(manifest.map(|manifest| manifest.annotations).unwrap_or_default())
    }

    /// The manifest of this digest, if it is kept with the image and is one of it.
    fn manifest(&self, id: &ImageId, digest: &Digest) -> Result<Option<Manifest>, CatalogError> {
        for key in [format!("manifest-{digest}"), "manifest".to_owned()] {
            let bytes = self.store.big_data(id, &key, DOCUMENT_LIMIT)?;
            if let Some(found) = bytes.and_then(|bytes| manifest_of(id, digest, &bytes)) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// The manifest in `bytes`, if they are of this digest, and its config is the image of this ID.
fn manifest_of(id: &ImageId, digest: &Digest, bytes: &[u8]) -> Option<Manifest> {
    if !digest.matches(bytes) {
        return None;
    }
    match Document::parse("", bytes) {
        Ok(Document::Manifest(manifest)) => Some(*manifest)
            .filter(|manifest| manifest.config.digest.to_string() == format!("sha256:{id}")),
        Ok(Document::Index(_)) | Err(_) => None,
    }
}

/// The names an image has; if it has none, those it had.
fn named(image: &Image) -> impl Iterator<Item = Reference> {
    let names = if image.names.is_empty() { &image.names_history } else { &image.names };
    names.iter().filter_map(|name| name.parse::<Reference>().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_manifest_that_names_the_config_can_be_signed_for_it() {
        let config = Digest::sha256(b"config");
        let id: ImageId = config.hex().parse().unwrap();
        let manifest = |config: &Digest| {
            format!(
                r#"{{"schemaVersion":2,"layers":[],"config":{{"mediaType":"{}","digest":"{config}",
                "size":6}}}}"#,
                crate::oci::media_type::OCI_CONFIG
            )
        };
        let (own, other) = (manifest(&config), manifest(&Digest::sha256(b"other")));
        let index = r#"{"schemaVersion":2,"manifests":[]}"#.to_owned();
        for (bytes, expected) in [(&own, true), (&other, false), (&index, false)] {
            let digest = Digest::sha256(bytes.as_bytes());
            let found = manifest_of(&id, &digest, bytes.as_bytes());
            assert_eq!(found.is_some(), expected, "{bytes}");
        }
        assert!(manifest_of(&id, &Digest::sha256(other.as_bytes()), own.as_bytes()).is_none());
    }
}
