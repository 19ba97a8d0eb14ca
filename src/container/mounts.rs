//! Finds what is to be mounted: host paths with their links resolved, and images as volumes.
//!
//! An image or artifact as a volume is judged like the image that a container runs: by the policy of its
//! namespace as it is now. What is refused is not mounted, whoever pulled it before. A path inside
//! of it is resolved with the image as the root, so that no link of the image leads onto the node.
//!
//! All of this blocks.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

use crate::artifacts::MountFile;
use crate::container::Parts;
use crate::container::error::ContainerError;
use crate::container::judged::Asker;
use crate::container::labels;
use crate::failure::chain;
use crate::model::container::ImageChoice;
use crate::model::container::Mount;
use crate::model::ids::ContainerId;
use crate::spec::facts::ResolvedMount;
use crate::spec::facts::Sharing;
use crate::sys::beneath::Directory;

/// The requested mounts with their sources.
#[derive(Debug)]
pub(super) struct Found<'a> {
    /// What is mounted.
    pub(super) resolved: Vec<ResolvedMount<'a>>,
    /// The request, with the images that were found: what the record keeps.
    pub(super) recorded: Vec<Mount>,
}

/// An image or artifact that is a volume.
struct Volume {
    /// Its id.
    image_ref: String,
    /// What is mounted, and where, if that is not the volume's own place.
    places: Vec<(Option<String>, PathBuf)>,
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ContainerError {
    let path = path.to_owned();
    move |source| ContainerError::File { action, path, source }
}

impl Parts {
    /// Finds the sources of the requested mounts for a container of this pod.
    pub(super) fn find_mounts<'a>(
        &self,
        requested: &'a [Mount],
        id: &ContainerId,
        asker: &Asker,
    ) -> Result<Found<'a>, ContainerError> {
        let table = std::fs::read_to_string("/proc/self/mountinfo")
            .map_err(failed("read", Path::new("/proc/self/mountinfo")))?;
        let mut found = Found { resolved: Vec::new(), recorded: requested.to_vec() };
        for (mount, recorded) in requested.iter().zip(&mut found.recorded) {
            let Some(image) = &mount.image else {
                let to_reject = &self.settings.absent_mount_sources_to_reject;
                let source = match &self.settings.bind_mount_prefix {
                    Some(prefix) => path_below(prefix, mount, to_reject)?,
                    None => host_path(mount, to_reject)?,
                };
                found.resolved.push(ResolvedMount {
                    mount,
                    target: None,
                    sharing: sharing_of(&table, &source),
                    holds_store: self.store.root().starts_with(&source),
                    source,
                });
                continue;
            };
            let wrap = |source| ContainerError::ImageVolume {
                path: mount.container_path.clone(),
                source: Box::new(source),
            };
            let volume = self.image_volume(mount, image, id, asker).map_err(wrap)?;
            recorded.image_ref = volume.image_ref;
            found.resolved.extend(volume.places.into_iter().map(|(target, source)| {
                let sharing = Sharing::Private;
                ResolvedMount { mount, target, sharing, holds_store: false, source }
            }));
        }
        Ok(found)
    }

    /// Mounts an image for this container, or finds the files of an artifact.
    fn image_volume(
        &self,
        mount: &Mount,
        image: &ImageChoice,
        id: &ContainerId,
        asker: &Asker,
    ) -> Result<Volume, ContainerError> {
        let sub_path = plain(&mount.image_sub_path)?;
        let (info, _) = self.allowed(image, asker)?;
        let image_ref = info.id.to_string();
        if let Some(artifact) = &info.artifact {
            if !self.settings.artifact_mounts {
                return Err(ContainerError::ArtifactsOff(image.image.clone()));
            }
            self.artifacts.hold(&artifact.digest, id.as_str())?;
            let files = self.artifacts.files(artifact, &sub_path.to_string_lossy())?;
            if !artifact.read_only {
                // One file is mounted for many: it gets no pod's label, but that of an image's files.
                let paths = files.iter().map(|file| file.source.as_path());
                let labelled = labels::label(paths, self.settings.shared_label.as_deref());
                if let Err(error) = labelled {
                    // SELinux keeps such a file from the container, so nothing is opened by that.
                    tracing::warn!(error = chain(&error), "a file of an artifact keeps its label");
                }
            }
            let below = mount.container_path.trim_end_matches('/');
            let place = |file: MountFile| (Some(format!("{below}/{}", file.name)), file.source);
            return Ok(Volume { image_ref, places: files.into_iter().map(place).collect() });
        }
        let (_, config) = self.catalog.config(&info.id)?;
        let root = self.store.mount_image(&info.id, &config.rootfs.diff_ids, id)?;
        if sub_path.as_os_str().is_empty() {
            return Ok(Volume { image_ref, places: vec![(None, root)] });
        }
        let found = Directory::open(&root)
            .and_then(|root| root.find_in_root(sub_path.as_os_str().as_encoded_bytes()));
        let found = found.map_err(|source| ContainerError::SubPath {
            sub_path: mount.image_sub_path.clone(),
            image: image.image.clone(),
            source,
        })?;
        Ok(Volume { image_ref, places: vec![(None, found)] })
    }
}

/// A path of plain names: what the kubelet checks too, for those who are no kubelet.
fn plain(sub_path: &str) -> Result<PathBuf, ContainerError> {
    let mut clean = PathBuf::new();
    for part in Path::new(sub_path).components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(ContainerError::IllegalSubPath(sub_path.to_owned()));
            }
        }
    }
    Ok(clean)
}

/// The source on the node with all links resolved. One that is missing becomes a directory, as the
/// kubelet and users of the field expect, unless the node's administrator does not want that.
fn host_path(mount: &Mount, to_reject: &[PathBuf]) -> Result<PathBuf, ContainerError> {
    let asked = Path::new(&mount.host_path);
    let source = match asked.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let clean: PathBuf = asked.components().collect();
            if to_reject.contains(&clean) {
                return Err(ContainerError::AbsentSource(clean));
            }
            let mut builder = std::fs::DirBuilder::new();
            builder
                .recursive(true)
                .mode(0o755)
                .create(asked)
                .map_err(failed("create the mount source", asked))?;
            asked.canonicalize()
        }
        other => other,
    };
    source.map_err(failed("find the mount source", asked))
}

/// The same with all paths of the node below a prefix, where its root may be mounted. Links are
/// resolved with the prefix as the root.
fn path_below(
    prefix: &Path,
    mount: &Mount,
    to_reject: &[PathBuf],
) -> Result<PathBuf, ContainerError> {
    let inside: PathBuf =
        Path::new(&mount.host_path).components().skip_while(|part| !is_name(*part)).collect();
    let asked = prefix.join(&inside);
    let root = Directory::open(prefix).map_err(failed("open bind_mount_prefix", prefix))?;
    let path = Path::new("/").join(&inside);
    let path = path.as_os_str().as_encoded_bytes();
    let found = match root.find_on_node(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if to_reject.contains(&asked) {
                return Err(ContainerError::AbsentSource(asked));
            }
            root.make_in_root(&inside, 0o755, 0, 0)
                .map_err(failed("create the mount source", &asked))?;
            root.find_on_node(path)
        }
        other => other,
    };
    found.map_err(failed("find the mount source", &asked))
}

fn is_name(part: Component<'_>) -> bool {
    matches!(part, Component::Normal(_))
}

/// How the mount that holds `path` propagates: the one with the longest mount point above it.
fn sharing_of(mountinfo: &str, path: &Path) -> Sharing {
    let mut best: Option<(usize, Sharing)> = None;
    for line in mountinfo.lines() {
        let mut fields = line.split(' ');
        let Some(point) = fields.nth(4) else { continue };
        let point = unescaped(point);
        if !path.starts_with(&point) || best.is_some_and(|(length, _)| length > point.len()) {
            continue;
        }
        let optional: Vec<&str> = fields.skip(1).take_while(|field| *field != "-").collect();
        let sharing = if optional.iter().any(|field| field.starts_with("shared:")) {
            Sharing::Shared
        } else if optional.iter().any(|field| field.starts_with("master:")) {
            Sharing::Slave
        } else {
            Sharing::Private
        };
        best = Some((point.len(), sharing));
    }
    best.map_or(Sharing::Private, |(_, sharing)| sharing)
}

/// A path as the kernel wrote it into a table: space, tab, newline and backslash are in octal.
fn unescaped(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_mount_above_a_path_says_how_it_propagates() {
        let table = "1 0 8:1 / / rw shared:1 - ext4 /dev/a rw\n\
                     2 1 8:2 / /data rw master:1 - ext4 /dev/b rw\n\
                     3 2 8:3 / /data/in rw - ext4 /dev/c rw\n\
                     4 2 8:3 / /a\\040b rw - ext4 /dev/c rw\n";
        for (path, expected) in [
            ("/etc", Sharing::Shared),
            ("/data/x", Sharing::Slave),
            ("/data/in/x", Sharing::Private),
            ("/database", Sharing::Shared),
            ("/a b/c", Sharing::Private),
        ] {
            assert_eq!(sharing_of(table, Path::new(path)), expected, "{path}");
        }
    }

    #[test]
    fn a_missing_mount_source_becomes_a_directory_or_is_rejected() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| Mount {
            host_path: format!("{}/{name}", directory.path().display()),
            ..Mount::default()
        };
        let found = host_path(&at("a/b"), &[]).unwrap();
        assert_eq!(found.metadata().unwrap().permissions().mode() & 0o777, 0o755);
        let rejected = [directory.path().join("hostname")];
        assert!(matches!(
            host_path(&at("./hostname/"), &rejected),
            Err(ContainerError::AbsentSource(_))
        ));
        assert!(!directory.path().join("hostname").exists());
        std::os::unix::fs::symlink("a/b", directory.path().join("link")).unwrap();
        assert_eq!(host_path(&at("link"), &[]).unwrap(), found);
    }

    #[test]
    fn below_a_prefix_no_link_leads_onto_the_node_and_what_is_missing_is_made_there() {
        let directory = tempfile::tempdir().unwrap();
        let prefix = directory.path().canonicalize().unwrap();
        let at = |path: &str| Mount { host_path: path.to_owned(), ..Mount::default() };
        for path in ["etc", "data"] {
            std::fs::create_dir(prefix.join(path)).unwrap();
        }
        std::os::unix::fs::symlink("/etc", prefix.join("link")).unwrap();
        std::os::unix::fs::symlink("../../../etc", prefix.join("data/up")).unwrap();
        for (path, expected) in [
            ("/", ""),
            ("/etc", "etc"),
            ("/link", "etc"),
            ("/data/up", "etc"),
            ("/data/new/deep", "data/new/deep"),
            ("/link/made", "etc/made"),
        ] {
            let found = path_below(&prefix, &at(path), &[]).unwrap();
            assert_eq!(found, prefix.join(expected), "{path}");
            assert!(found.is_dir());
        }
        assert!(!Path::new("/etc/made").exists());
        let rejected = [prefix.join("etc/hostname")];
        let absent = path_below(&prefix, &at("/etc/hostname"), &rejected);
        assert!(matches!(absent, Err(ContainerError::AbsentSource(_))));
        // A socket is as good as a file, as without a prefix.
        let _socket = std::os::unix::net::UnixListener::bind(prefix.join("data/s")).unwrap();
        assert_eq!(path_below(&prefix, &at("/data/s"), &[]).unwrap(), prefix.join("data/s"));
        assert!(path_below(&prefix.join("none"), &at("/data"), &[]).is_err());
    }

    #[test]
    fn a_sub_path_is_made_of_plain_names() {
        for (text, expected) in [("", ""), (".", ""), ("a/./b/", "a/b"), ("a//b", "a/b")] {
            assert_eq!(plain(text).unwrap(), Path::new(expected), "{text}");
        }
        for text in ["..", "a/../b", "/etc", "a/.."] {
            assert!(plain(text).is_err(), "{text}");
        }
    }
}
