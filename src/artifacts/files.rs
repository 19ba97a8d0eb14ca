//! The files of an artifact as they are mounted: one for each layer, under the name that the layer
//! gives itself.
//!
//! The names are foreign. A plain relative path is mounted below the volume; what could lead
//! elsewhere is refused, never made safe.

use std::path::PathBuf;

use crate::artifacts::Artifact;
use crate::artifacts::Artifacts;
use crate::artifacts::error::ArtifactError;
use crate::artifacts::failed;
use crate::artifacts::layout::Layout;
use crate::oci::descriptor::Descriptor;
use crate::sys::files;
use crate::sys::files::Links;

/// The annotations with a layer's name: that of the image format, and that of model packages.
const TITLES: [&str; 2] = ["org.opencontainers.image.title", "org.cnai.model.filepath"];
/// The longest name, in bytes: what the kernel takes of a path.
const LONGEST: usize = 4096;

/// One file to be mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountFile {
    /// Where it shows below the volume: plain names joined by `/`.
    pub name: String,
    /// The blob.
    pub source: PathBuf,
}

impl Artifacts {
    /// The files of an artifact that lie below `sub_path`, all if it is empty.
    ///
    /// # Errors
    ///
    /// [`ArtifactError::Title`] for names that cannot be mounted, [`ArtifactError::NoFiles`],
    /// [`ArtifactError::SubPath`], and [`ArtifactError::Blob`] where the bytes are not there.
    pub fn files(
        &self,
        artifact: &Artifact,
        sub_path: &str,
    ) -> Result<Vec<MountFile>, ArtifactError> {
        let layout = Layout::new(artifact.layout.clone());
        let mut files = named(artifact, &layout)?;
        if !sub_path.is_empty() {
            files = below(files, sub_path);
            if files.is_empty() {
                let (sub_path, digest) = (sub_path.to_owned(), artifact.digest.clone());
                return Err(ArtifactError::SubPath { sub_path, digest });
            }
        }
        Ok(files)
    }
}

impl Artifacts {
    /// The bytes of one layer of an artifact, at most `limit` of them, and the very ones that its
    /// manifest names.
    ///
    /// # Errors
    ///
    /// [`ArtifactError::Io`], and [`ArtifactError::Blob`] where the bytes are others.
    pub fn read(
        &self,
        artifact: &Artifact,
        layer: &Descriptor,
        limit: u64,
    ) -> Result<Vec<u8>, ArtifactError> {
        let path = Layout::new(artifact.layout.clone()).blob(&layer.digest);
        let bytes = files::read(&path, limit, Links::Refuse).map_err(failed("read", &path))?;
        if !layer.digest.matches(&bytes) {
            let fault = "it was changed on disk; remove the artifact and pull again".to_owned();
            return Err(ArtifactError::Blob { digest: layer.digest.clone(), fault });
        }
        Ok(bytes)
    }
}

fn named(artifact: &Artifact, layout: &Layout) -> Result<Vec<MountFile>, ArtifactError> {
    let fault = |title: &str, fault| ArtifactError::Title {
        digest: artifact.digest.clone(),
        title: title.chars().take(200).collect(),
        fault,
    };
    let mut files: Vec<MountFile> = Vec::new();
    for layer in &artifact.manifest.layers {
        // A layer without a name is for others.
        let Some(title) = title(layer) else { continue };
        if !is_plain(title) {
            return Err(fault(title, "has a name that is no plain relative path"));
        }
        let inside = |long: &str, short: &str| {
            long.strip_prefix(short).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if files.iter().any(|file| inside(title, &file.name) || inside(&file.name, title)) {
            return Err(fault(title, "has the place of another"));
        }
        let source = layout.blob(&layer.digest);
        let found = std::fs::symlink_metadata(&source).ok();
        if !found.is_some_and(|found| found.is_file() && found.len() == layer.size) {
            let text =
                format!("the file {title:?} is not whole; remove the artifact and pull again");
            return Err(ArtifactError::Blob { digest: layer.digest.clone(), fault: text });
        }
        files.push(MountFile { name: title.to_owned(), source });
    }
    if files.is_empty() { Err(ArtifactError::NoFiles(artifact.digest.clone())) } else { Ok(files) }
}

fn title(layer: &Descriptor) -> Option<&str> {
    TITLES.iter().find_map(|key| layer.annotation(key))
}

fn is_plain(title: &str) -> bool {
    title.len() <= LONGEST
        && !title.chars().any(char::is_control)
        && title.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// Those that lie in a directory, seen from there; as CRI-O, a file's own name is no directory.
fn below(files: Vec<MountFile>, sub_path: &str) -> Vec<MountFile> {
    let directory = format!("{sub_path}/");
    let inner = |file: MountFile| {
        let name = file.name.strip_prefix(&directory)?.to_owned();
        Some(MountFile { name, source: file.source })
    };
    files.into_iter().filter_map(inner).collect()
}
