//! OCI artifacts: what a registry has that is no container image, kept to be mounted as volumes.
//!
//! They lie in one OCI image layout, shared with podman and CRI-O (libartifact):
//!
//! ```text
//! <root>/artifacts/index.json index.lock oci-layout   which manifest has which name
//! <root>/artifacts/blobs/sha256/<digest>              manifests, configs, files
//! <root>/crioxide/artifacts/staging/<pull>/           blobs of pulls that are not over
//! <root>/crioxide/artifacts/evidence/<digest>         what an artifact was judged by
//! <runroot>/crioxide/artifact-volumes/<digest>/<container>   who has one mounted
//! ```
//!
//! The index names a manifest only after all its blobs are there and are the bytes that it
//! promises. So a crash leaves blobs that nothing names, never a name of what is not there. Others
//! write to the layout too: what they made and cannot be read is left alone and not listed.
//!
//! All calls block on disk and locks. Not here: how artifacts are fetched and judged (`image`).

mod error;
mod files;
mod layout;
mod staging;
mod users;

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

pub use error::ArtifactError;
pub use files::MountFile;
pub use staging::Stage;

use crate::artifacts::layout::Layout;
use crate::oci::digest::Digest;
use crate::oci::document::Manifest;
use crate::sys::files::Durability;
use crate::sys::files::Links;
use crate::sys::lock::Hold;

/// Where artifacts are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The root of the image store, which survives a reboot.
    pub root: PathBuf,
    /// What does not survive one.
    pub runroot: PathBuf,
    /// Roots of stores that are only read; what is there goes before our own.
    pub additional: Vec<PathBuf>,
}

/// The artifacts of this node. Copies of it are the same store.
#[derive(Debug, Clone)]
pub struct Artifacts {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    layout: Layout,
    additional: Vec<Layout>,
    own: PathBuf,
    users: PathBuf,
}

/// One artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// The digest of its manifest: its identity.
    pub digest: Digest,
    /// Its names; there may be none.
    pub names: Vec<String>,
    /// Its manifest.
    pub manifest: Manifest,
    /// The bytes of its files.
    pub size: u64,
    /// It lies in a store that is only read: it cannot be removed.
    pub read_only: bool,
    /// The layout that it lies in.
    layout: PathBuf,
}

/// An artifact whose blobs are staged.
#[derive(Debug)]
pub struct NewArtifact {
    /// Its name.
    pub name: String,
    /// The digest of its manifest.
    pub digest: Digest,
    /// Its manifest.
    pub manifest: Vec<u8>,
    /// What it was judged by, to be kept; `None` if the policy wanted nothing.
    pub evidence: Option<Vec<u8>>,
}

impl Artifacts {
    /// Opens the store and removes what an earlier run of this program left half done.
    ///
    /// # Errors
    ///
    /// [`ArtifactError::Io`].
    pub fn open(settings: &Settings) -> Result<Self, ArtifactError> {
        let artifacts = Self::beside(settings);
        let staging = artifacts.staging();
        crate::sys::files::remove_tree(&staging).map_err(failed("remove", &staging))?;
        artifacts.collect_evidence()?;
        Ok(artifacts)
    }

    /// The store as a daemon may be using it. Nothing is made before the first artifact comes.
    #[must_use]
    pub fn beside(settings: &Settings) -> Self {
        let inner = Inner {
            layout: Layout::new(settings.root.join("artifacts")),
            additional: settings
                .additional
                .iter()
                .map(|root| Layout::new(root.join("artifacts")))
                .collect(),
            own: settings.root.join("crioxide/artifacts"),
            users: settings.runroot.join("crioxide/artifact-volumes"),
        };
        Self { inner: Arc::new(inner) }
    }

    /// All artifacts that can be read, each once, whatever names it has.
    ///
    /// # Errors
    ///
    /// [`ArtifactError::Io`] and [`ArtifactError::Index`].
    pub fn all(&self) -> Result<Vec<Artifact>, ArtifactError> {
        let mut all: Vec<Artifact> = Vec::new();
        for layout in &self.inner.additional {
            // It may be on another machine's disk; ours go on without it.
            match layout.artifacts(true) {
                Ok(found) => found.into_iter().for_each(|artifact| add(&mut all, artifact)),
                Err(error) => tracing::warn!(
                    error = crate::failure::chain(&error),
                    "an additional artifact store is left out"
                ),
            }
        }
        let ours = self.inner.layout.artifacts(false)?;
        ours.into_iter().for_each(|artifact| add(&mut all, artifact));
        Ok(all)
    }

    /// The artifact of this manifest.
    ///
    /// # Errors
    ///
    /// As [`Artifacts::all`].
    pub fn by_digest(&self, digest: &Digest) -> Result<Option<Artifact>, ArtifactError> {
        Ok(self.all()?.into_iter().find(|artifact| artifact.digest == *digest))
    }

    /// A place for the blobs of one pull, which goes when it is dropped.
    ///
    /// # Errors
    ///
    /// [`ArtifactError::Io`].
    pub fn stage(&self) -> Result<Stage, ArtifactError> {
        let staging = self.staging();
        make_directory(&staging, 0o700)?;
        let blobs = [&self.inner.layout].into_iter().chain(&self.inner.additional);
        Stage::new(&staging, blobs.cloned().collect())
    }

    /// Makes an artifact visible under its name, which it takes from any other.
    ///
    /// # Errors
    ///
    /// [`ArtifactError::Io`] and [`ArtifactError::Index`]; nothing is visible then.
    pub fn commit(&self, stage: Stage, new: &NewArtifact) -> Result<(), ArtifactError> {
        let layout = &self.inner.layout;
        make_directory(layout.path(), 0o700)?;
        let _lock = layout.lock(Hold::Write)?;
        let mut index = layout.index()?;
        stage.move_into(layout)?;
        layout.put(&new.digest, &new.manifest)?;
        if let Some(evidence) = &new.evidence {
            self.keep(&new.digest, evidence)?;
        }
        index.add(&new.digest, new.manifest.len(), &new.name);
        layout.write(&index)
    }

    /// Removes names of an artifact, and the artifact itself when none is left; all of it without
    /// names. Gives whether anything was there.
    ///
    /// # Errors
    ///
    /// [`ArtifactError::InUse`] when a container has it mounted and it would go,
    /// [`ArtifactError::ReadOnly`], [`ArtifactError::Io`] and [`ArtifactError::Index`].
    pub fn remove(&self, digest: &Digest, names: Option<&[String]>) -> Result<bool, ArtifactError> {
        let layout = &self.inner.layout;
        if !layout.exists() {
            return self.nothing_of_ours(digest);
        }
        let lock = layout.lock(Hold::Write)?;
        let mut index = layout.index()?;
        let before = index.names_of(digest);
        if before.is_empty() {
            // Others are asked, each under its own lock.
            drop(lock);
            return self.nothing_of_ours(digest);
        }
        let stays = names.is_some_and(|names| {
            before.iter().any(|name| name.as_ref().is_none_or(|name| !names.contains(name)))
        });
        if !stays && let Some(user) = self.users_of(digest)?.into_iter().next() {
            return Err(ArtifactError::InUse { digest: digest.clone(), user });
        }
        let gone = if stays { None } else { layout.read(digest).ok() };
        index.remove(digest, names);
        layout.write(&index)?;
        if !stays {
            layout.remove_blobs(&index, digest, gone.as_ref())?;
            let evidence = self.evidence_of(digest);
            crate::sys::files::remove(&evidence).map_err(failed("remove", &evidence))?;
        }
        Ok(true)
    }

    /// Takes a name from whatever artifact has it: it is an image's now.
    ///
    /// # Errors
    ///
    /// [`ArtifactError::Io`] and [`ArtifactError::Index`].
    pub fn take_name(&self, name: &str) -> Result<(), ArtifactError> {
        let layout = &self.inner.layout;
        if !layout.exists() {
            return Ok(());
        }
        let _lock = layout.lock(Hold::Write)?;
        let mut index = layout.index()?;
        if index.unname(name) { layout.write(&index) } else { Ok(()) }
    }

    /// What is kept of an artifact's evidence, as it was given.
    ///
    /// # Errors
    ///
    /// [`ArtifactError::Io`].
    pub fn kept(&self, digest: &Digest, limit: u64) -> Result<Option<Vec<u8>>, ArtifactError> {
        let path = self.evidence_of(digest);
        match crate::sys::files::read(&path, limit, Links::Refuse) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => Ok(Some(other.map_err(failed("read", &path))?)),
        }
    }

    /// Keeps evidence with an artifact.
    ///
    /// # Errors
    ///
    /// [`ArtifactError::Io`].
    pub fn keep(&self, digest: &Digest, evidence: &[u8]) -> Result<(), ArtifactError> {
        let path = self.evidence_of(digest);
        make_directory(&self.evidence(), 0o700)?;
        crate::sys::files::replace(&path, evidence, 0o600, Durability::Machine)
            .map_err(failed("write", &path))
    }

    fn nothing_of_ours(&self, digest: &Digest) -> Result<bool, ArtifactError> {
        if self.by_digest(digest)?.is_some() {
            return Err(ArtifactError::ReadOnly(digest.clone()));
        }
        Ok(false)
    }

    /// Removes evidence of artifacts that are gone: another tool removed them.
    fn collect_evidence(&self) -> Result<(), ArtifactError> {
        let evidence = self.evidence();
        let Ok(entries) = std::fs::read_dir(&evidence) else { return Ok(()) };
        let all = self.all()?;
        for entry in entries.flatten() {
            let name = entry.file_name();
            if !all.iter().any(|artifact| name.to_str() == Some(artifact.digest.hex())) {
                let path = entry.path();
                crate::sys::files::remove(&path).map_err(failed("remove", &path))?;
            }
        }
        Ok(())
    }

    fn staging(&self) -> PathBuf {
        self.inner.own.join("staging")
    }

    fn evidence(&self) -> PathBuf {
        self.inner.own.join("evidence")
    }

    fn evidence_of(&self, digest: &Digest) -> PathBuf {
        self.evidence().join(digest.hex())
    }
}

/// Adds an artifact, or its names to what is known of it.
fn add(all: &mut Vec<Artifact>, artifact: Artifact) {
    match all.iter_mut().find(|known| known.digest == artifact.digest) {
        Some(known) => known.names.extend(artifact.names),
        None => all.push(artifact),
    }
}

fn make_directory(path: &Path, mode: u32) -> Result<(), ArtifactError> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(mode).create(path).map_err(failed("create", path))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ArtifactError {
    let path = path.to_owned();
    move |source| ArtifactError::Io { action, path, source }
}

#[cfg(test)]
mod tests;
