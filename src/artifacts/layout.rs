//! The OCI image layout on disk: an index of manifests, and blobs by digest.
//!
//! The index is kept as JSON, so that what others wrote into it and we do not know stays there.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use serde_json::Value;
use serde_json::json;

use crate::artifacts::Artifact;
use crate::artifacts::error::ArtifactError;
use crate::artifacts::failed;
use crate::artifacts::make_directory;
use crate::oci::digest::Digest;
use crate::oci::document::DOCUMENT_LIMIT;
use crate::oci::document::Document;
use crate::oci::document::DocumentError;
use crate::oci::document::Manifest;
use crate::oci::media_type;
use crate::sys::files;
use crate::sys::files::Durability;
use crate::sys::files::Links;
use crate::sys::lock;
use crate::sys::lock::Hold;

/// The annotation with a manifest's name in the index.
const NAME: &str = "org.opencontainers.image.ref.name";
/// The largest index that is read, in bytes.
const INDEX_LIMIT: u64 = 16 * 1024 * 1024;

/// A layout.
#[derive(Debug, Clone)]
pub(super) struct Layout(PathBuf);

/// `index.json`.
#[derive(Debug, Clone)]
pub(super) struct Index(Value);

impl Layout {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn exists(&self) -> bool {
        self.0.join("index.json").exists()
    }

    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.0.join("blobs").join(digest.algorithm().name()).join(digest.hex())
    }

    /// Waits for the lock that libartifact takes; it is held as long as the file is open.
    pub(super) fn lock(&self, hold: Hold) -> Result<File, ArtifactError> {
        let path = self.0.join("index.lock");
        lock::hold(&path, hold).map_err(failed("lock", &path))
    }

    /// The index; empty where there is none yet.
    pub(super) fn index(&self) -> Result<Index, ArtifactError> {
        let path = self.0.join("index.json");
        let bytes = match files::read(&path, INDEX_LIMIT, Links::Refuse) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Index::empty()),
            other => other.map_err(failed("read", &path))?,
        };
        let damaged = |source| ArtifactError::Index { path: path.clone(), source };
        let index: Value = serde_json::from_slice(&bytes).map_err(damaged)?;
        // libartifact writes `null` for a list of none.
        let list = index.get("manifests").is_none_or(|list| list.is_array() || list.is_null());
        if index.is_object() && list {
            return Ok(Index(index));
        }
        let fault = "it is no object with a list of manifests";
        Err(damaged(serde::de::Error::custom(fault)))
    }

    /// Replaces the index as a whole. The lock is held.
    pub(super) fn write(&self, index: &Index) -> Result<(), ArtifactError> {
        let version = self.0.join("oci-layout");
        if !version.exists() {
            files::replace(
                &version,
                br#"{"imageLayoutVersion":"1.0.0"}"#,
                0o644,
                Durability::Machine,
            )
            .map_err(failed("write", &version))?;
        }
        let path = self.0.join("index.json");
        files::replace(&path, index.0.to_string().as_bytes(), 0o644, Durability::Machine)
            .map_err(failed("write", &path))
    }

    /// Writes a small blob.
    pub(super) fn put(&self, digest: &Digest, bytes: &[u8]) -> Result<(), ArtifactError> {
        let path = self.blob(digest);
        make_directory(path.parent().unwrap_or(&path), 0o755)?;
        files::replace(&path, bytes, 0o644, Durability::Machine).map_err(failed("write", &path))
    }

    /// The manifest of this digest, checked.
    pub(super) fn read(&self, digest: &Digest) -> Result<Manifest, ArtifactError> {
        let path = self.blob(digest);
        let bytes = files::read(&path, DOCUMENT_LIMIT, Links::Refuse);
        let bytes = bytes.map_err(failed("read", &path))?;
        if !digest.matches(&bytes) {
            let fault = "it was changed on disk".to_owned();
            return Err(ArtifactError::Blob { digest: digest.clone(), fault });
        }
        let wrong = |source| ArtifactError::Manifest { digest: digest.clone(), source };
        match Document::parse("", &bytes).map_err(wrong)? {
            Document::Manifest(manifest) => Ok(*manifest),
            Document::Index(index) => Err(wrong(DocumentError::Confused {
                served: index.media_type,
                body: "an index, where a manifest is expected".to_owned(),
            })),
        }
    }

    /// All artifacts of the layout that can be read.
    pub(super) fn artifacts(&self, read_only: bool) -> Result<Vec<Artifact>, ArtifactError> {
        if !self.exists() {
            return Ok(Vec::new());
        }
        // A store that is only read may be on a filesystem that takes no locks.
        let _lock = if read_only { None } else { Some(self.lock(Hold::Read)?) };
        let mut all = Vec::new();
        for (digest, name) in self.index()?.entries() {
            match self.read(&digest) {
                Ok(manifest) => all.push(Artifact {
                    size: manifest
                        .layers
                        .iter()
                        .map(|layer| layer.size)
                        .fold(0, u64::saturating_add),
                    digest,
                    names: name.into_iter().collect(),
                    manifest,
                    read_only,
                    layout: self.0.clone(),
                }),
                Err(error) => tracing::debug!(
                    artifact = %digest, error = crate::failure::chain(&error), "it is left out"
                ),
            }
        }
        Ok(all)
    }

    /// Removes the blobs of a manifest that is not in the index any more. If what another manifest
    /// needs cannot be told, all are left. The lock is held.
    pub(super) fn remove_blobs(
        &self,
        index: &Index,
        digest: &Digest,
        manifest: Option<&Manifest>,
    ) -> Result<(), ArtifactError> {
        let mut used = BTreeSet::new();
        for (other, _) in index.entries() {
            let Ok(manifest) = self.read(&other) else { return Ok(()) };
            used.extend(blobs(&other, Some(&manifest)));
        }
        for blob in blobs(digest, manifest).difference(&used) {
            let path = self.blob(blob);
            files::remove(&path).map_err(failed("remove", &path))?;
        }
        Ok(())
    }
}

/// The digests of all blobs of a manifest, its own among them.
fn blobs(digest: &Digest, manifest: Option<&Manifest>) -> BTreeSet<Digest> {
    let inner = manifest
        .into_iter()
        .flat_map(|manifest| manifest.layers.iter().chain([&manifest.config]))
        .map(|descriptor| descriptor.digest.clone());
    inner.chain([digest.clone()]).collect()
}

impl Index {
    fn empty() -> Self {
        Self(json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [],
        }))
    }

    fn list(&self) -> &[Value] {
        self.0.get("manifests").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
    }

    /// Each manifest with its name.
    fn entries(&self) -> Vec<(Digest, Option<String>)> {
        let entry = |entry: &Value| {
            let digest = entry.get("digest")?.as_str()?.parse().ok()?;
            Some((digest, name_of(entry).map(str::to_owned)))
        };
        self.list().iter().filter_map(entry).collect()
    }

    /// The names of a manifest; `None` for an entry without one.
    pub(super) fn names_of(&self, digest: &Digest) -> Vec<Option<String>> {
        let entries = self.entries().into_iter();
        entries.filter(|(known, _)| known == digest).map(|(_, name)| name).collect()
    }

    /// Names a manifest, as containers/image does: whoever had the name loses it, and an entry of
    /// the manifest without a name is that entry.
    pub(super) fn add(&mut self, digest: &Digest, size: usize, name: &str) {
        self.unname(name);
        let entry = json!({
            "mediaType": media_type::OCI_MANIFEST, "digest": digest.to_string(), "size": size,
            "annotations": {NAME: name},
        });
        let text = digest.to_string();
        let mut list = self.list().to_vec();
        let nameless = list.iter_mut().find(|known| {
            known.get("digest").and_then(Value::as_str) == Some(&text) && name_of(known).is_none()
        });
        match nameless {
            Some(place) => *place = entry,
            None => list.push(entry),
        }
        self.set(list);
    }

    /// Takes a name away; gives whether something had it.
    pub(super) fn unname(&mut self, name: &str) -> bool {
        let mut list = self.list().to_vec();
        let mut found = false;
        for entry in list.iter_mut().filter(|entry| name_of(entry) == Some(name)) {
            if let Some(annotations) = entry.get_mut("annotations").and_then(Value::as_object_mut) {
                annotations.remove(NAME);
                found = true;
            }
        }
        self.set(list);
        found
    }

    /// Removes the entries of a manifest: those of these names, or all.
    pub(super) fn remove(&mut self, digest: &Digest, names: Option<&[String]>) {
        let text = digest.to_string();
        let mut list = self.list().to_vec();
        list.retain(|entry| {
            let of_it = entry.get("digest").and_then(Value::as_str) == Some(&text);
            let named = names.is_none_or(|names| {
                name_of(entry).is_some_and(|name| names.iter().any(|known| known == name))
            });
            !(of_it && named)
        });
        self.set(list);
    }

    fn set(&mut self, list: Vec<Value>) {
        if let Some(index) = self.0.as_object_mut() {
            index.insert("manifests".to_owned(), Value::Array(list));
        }
    }
}

fn name_of(entry: &Value) -> Option<&str> {
    entry.get("annotations")?.get(NAME)?.as_str().filter(|name| !name.is_empty())
}
