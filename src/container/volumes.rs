//! What becomes of the volumes that an image declares.
//!
//! The paths are foreign: `..` stops at the root, and no link of the image leads out of it
//! (CVE-2022-23648: a volume path that named files of the node). Blocks.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

use crate::container::ImageVolumes;
use crate::container::error::ContainerError;
use crate::spec::facts::MadeVolume;
use crate::spec::user::ResolvedUser;
use crate::sys::beneath::Directory;

/// The most volumes that an image may declare: real ones have a handful.
const MOST: usize = 128;

/// Makes a directory for each volume: in the container's own root, or, to be mounted there, in the
/// container's directory on the node.
pub(super) fn make(
    how: ImageVolumes,
    declared: Option<&BTreeSet<String>>,
    (rootfs, bundle): (&Path, &Path),
    user: &ResolvedUser,
) -> Result<Vec<MadeVolume>, ContainerError> {
    let paths: Vec<&String> = declared.into_iter().flatten().collect();
    if paths.len() > MOST {
        return Err(ContainerError::TooManyVolumes { count: paths.len(), most: MOST });
    }
    let mut made = Vec::new();
    for (number, path) in paths.into_iter().enumerate() {
        match how {
            ImageVolumes::Ignore => {}
            ImageVolumes::Mkdir => {
                let inside = inside(path);
                Directory::open(rootfs)
                    .and_then(|root| root.make_in_root(&inside, 0o755, user.uid, user.gid))
                    .map_err(failed("create the image's volume", path))?;
            }
            ImageVolumes::Bind => {
                let source = bundle.join("mounts").join(number.to_string());
                let mut builder = std::fs::DirBuilder::new();
                let built = builder.recursive(true).mode(0o755).create(&source);
                built.map_err(failed("create", &source.display().to_string()))?;
                made.push(MadeVolume { target: path.clone(), source });
            }
        }
    }
    Ok(made)
}

/// The names of a path, without what would lead upwards.
fn inside(path: &str) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    clean
}

fn failed(action: &'static str, path: &str) -> impl FnOnce(io::Error) -> ContainerError {
    let path = PathBuf::from(path);
    move |source| ContainerError::File { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(paths: &[&str]) -> BTreeSet<String> {
        paths.iter().map(|path| (*path).to_owned()).collect()
    }

    fn make_in(root: &Path, how: ImageVolumes, paths: &[&str]) -> Vec<MadeVolume> {
        let user = ResolvedUser::default();
        make(how, Some(&declared(paths)), (root, &root.join("run")), &user).unwrap()
    }

    #[test]
    fn a_volume_of_an_image_is_made_inside_whatever_its_path_says() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("a/root");
        std::fs::create_dir_all(root.join("etc")).unwrap();
        let outside = directory.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::os::unix::fs::symlink(&outside, root.join("link")).unwrap();
        std::os::unix::fs::symlink("/etc", root.join("inside")).unwrap();
        make_in(&root, ImageVolumes::Mkdir, &["/../../up", "/data/deep/", "/inside/new", "/"]);
        assert!(root.join("up").is_dir() && root.join("data/deep").is_dir());
        assert!(root.join("etc/new").is_dir() && !directory.path().join("up").exists());
        // The link leads to a place that is not in the image: nothing is made anywhere.
        let user = ResolvedUser::default();
        let escape = declared(&["/link/x"]);
        let made = make(ImageVolumes::Mkdir, Some(&escape), (&root, &root), &user);
        assert!(made.is_err() && std::fs::read_dir(&outside).unwrap().next().is_none());
    }

    #[test]
    fn a_bound_volume_is_a_directory_of_the_container_s_own() {
        let directory = tempfile::tempdir().unwrap();
        let made = make_in(directory.path(), ImageVolumes::Bind, &["/../../etc", "/data"]);
        assert_eq!(made.len(), 2);
        assert!(made.iter().all(|volume| volume.source.starts_with(directory.path())));
        assert!(made.iter().all(|volume| volume.source.is_dir()));
        assert!(make_in(directory.path(), ImageVolumes::Ignore, &["/x"]).is_empty());
    }
}
