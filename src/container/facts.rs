//! Looks at the host and the image for what a container's spec depends on. Blocks.

use std::io;
use std::path::Path;
use std::path::PathBuf;

use crate::container::error::ContainerError;
use crate::model::container::ContainerConfig;
use crate::model::security::SecurityProfile;
use crate::oci::image_config::RunConfig;
use crate::spec::process;
use crate::spec::user;
use crate::spec::user::ResolvedUser;
use crate::spec::user::UserFiles;
use crate::sys::beneath::Directory;
use crate::sys::files;
use crate::sys::files::Durability;
use crate::sys::files::Links;

/// The largest `/etc/passwd` and `/etc/group` that are read from an image (CVE-2025-4437), bytes.
const ACCOUNTS_LIMIT: u64 = 1024 * 1024;
/// The largest seccomp profile that is read, in bytes.
const PROFILE_LIMIT: u64 = 1024 * 1024;
/// Where a relative name of a seccomp profile is looked up, as the kubelet has it.
const PROFILE_ROOT: &str = "/var/lib/kubelet/seccomp";

pub(super) fn failed(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> ContainerError {
    let path = path.to_owned();
    move |source| ContainerError::File { action, path, source }
}

/// The image's account files, read inside its root and never through a link out of it.
#[derive(Debug)]
pub(super) struct Accounts {
    passwd: Option<Vec<u8>>,
    group: Option<Vec<u8>>,
}

impl Accounts {
    /// Reads them from a mounted root.
    pub(super) fn read(rootfs: &Path) -> Result<Self, ContainerError> {
        let root = Directory::open(rootfs).map_err(failed("open the root", rootfs))?;
        let account = |path: &'static str| {
            match root.read_in_root(path.trim_start_matches('/').as_bytes(), ACCOUNTS_LIMIT) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                // Whoever made the image did this: a pipe, a loop of links, a file without end.
                Err(source) => Err(ContainerError::Accounts { path, source }),
            }
        };
        Ok(Self { passwd: account("/etc/passwd")?, group: account("/etc/group")? })
    }

    /// Who the container runs as.
    pub(super) fn resolve(
        &self,
        config: &ContainerConfig,
        image: &RunConfig,
        defaults: &[(String, String)],
    ) -> Result<ResolvedUser, ContainerError> {
        let files = UserFiles { passwd: self.passwd.as_deref(), group: self.group.as_deref() };
        let home = process::home(config, image, defaults)?;
        Ok(user::resolve(&config.security.run_as, &image.user, home.as_deref(), files)?)
    }

    /// Writes the image's files with the line that the user lacks in each, where it lacks one.
    /// They belong to the container's root, `owner` on the node.
    pub(super) fn write(
        &self,
        user: &ResolvedUser,
        directory: &Path,
        owner: u32,
    ) -> Result<(Option<PathBuf>, Option<PathBuf>), ContainerError> {
        let (passwd, group) = (directory.join("passwd"), directory.join("group"));
        let passwd =
            write_with(self.passwd.as_deref(), user.passwd_line.as_deref(), passwd, owner)?;
        let group = write_with(self.group.as_deref(), user.group_line.as_deref(), group, owner)?;
        Ok((passwd, group))
    }
}

/// An account file with one more line; `None` where the image has no such file, or no line is
/// missing.
fn write_with(
    bytes: Option<&[u8]>,
    line: Option<&str>,
    path: PathBuf,
    owner: u32,
) -> Result<Option<PathBuf>, ContainerError> {
    let (Some(bytes), Some(line)) = (bytes, line) else { return Ok(None) };
    let mut text = bytes.to_vec();
    if !text.is_empty() && !text.ends_with(b"\n") {
        text.push(b'\n');
    }
    text.extend_from_slice(line.trim_end().as_bytes());
    text.push(b'\n');
    files::replace(&path, &text, 0o644, Durability::Process)
        .and_then(|()| std::os::unix::fs::chown(&path, Some(owner), Some(owner)))
        .map_err(failed("write", &path))?;
    Ok(Some(path))
}

/// A copy of the time zone's file for one container, where it gets one.
pub(super) fn localtime(
    zone: Option<&Path>,
    directory: &Path,
) -> Result<Option<PathBuf>, ContainerError> {
    let Some(zone) = zone else { return Ok(None) };
    let bytes = files::read(zone, ACCOUNTS_LIMIT, Links::Follow);
    let bytes = bytes.map_err(failed("read the time zone", zone))?;
    let path = directory.join("localtime");
    files::replace(&path, &bytes, 0o644, Durability::Process).map_err(failed("write", &path))?;
    Ok(Some(path))
}

/// The bytes of a seccomp profile of the node, where one is asked for.
pub(super) fn seccomp_profile(asked: &SecurityProfile) -> Result<Option<Vec<u8>>, ContainerError> {
    let SecurityProfile::Localhost(name) = asked else { return Ok(None) };
    let path = Path::new(PROFILE_ROOT).join(name);
    let bytes = files::read(&path, PROFILE_LIMIT, Links::Follow)
        .map_err(failed("read the seccomp profile", &path))?;
    Ok(Some(bytes))
}

/// Makes the log's directory and takes a dangling link away that stands where the log will be.
pub(super) fn prepare_log(path: &Path) -> Result<(), ContainerError> {
    use std::os::unix::fs::DirBuilderExt;
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(directory).map_err(failed("create", directory))?;
    let link = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink());
    if link && !path.exists() {
        files::remove(path).map_err(failed("remove the dangling link", path))?;
    }
    Ok(())
}
