//! What `mounts.conf` says that every container of the node gets: copies of files and directories
//! of the node, as the subscriptions of an enterprise distribution. Blocks.
//!
//! A line is `/path/of/the/node:/path/inside`. The container gets a copy of its own that it may
//! change. What a line names and is not there is left out; what cannot be copied is warned of, for
//! such a file shall not keep the node's pods from running.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::spec::facts::MadeVolume;
use crate::sys::files;
use crate::sys::files::Links;
use crate::sys::selinux;
use files::Durability;

/// Where the field keeps the file: an administrator's, or the distribution's.
const USUAL: [&str; 2] = ["/etc/containers/mounts.conf", "/usr/share/containers/mounts.conf"];
/// The largest `mounts.conf` that is read, in bytes.
const CONF_LIMIT: u64 = 1024 * 1024;
/// The largest file that is copied, and all that is copied for one line, in bytes.
const COPY_LIMIT: u64 = 16 * 1024 * 1024;
/// How many files one line may stand for.
const MOST_FILES: usize = 4096;
/// How deep directories may be in each other: a link may lead in a circle.
const DEEPEST: usize = 16;

/// Who the copies belong to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner<'a> {
    /// The container's root, as the node sees it.
    pub(super) root: u32,
    /// The SELinux label.
    pub(super) label: Option<&'a str>,
}

/// Copies what the node's `mounts.conf` names into the container's directory on the node.
pub(super) fn make(conf: Option<&Path>, bundle: &Path, owner: Owner<'_>) -> Vec<MadeVolume> {
    let usual = USUAL.iter().map(Path::new).find(|path| path.exists());
    let Some(conf) = conf.or(usual) else { return Vec::new() };
    let text = match files::read(conf, CONF_LIMIT, Links::Follow) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => {
            tracing::warn!(file = %conf.display(), %error, "default mounts are left out");
            return Vec::new();
        }
    };
    let mut made = Vec::new();
    for (number, line) in text.lines().map(str::trim).enumerate() {
        if !line.starts_with('/') {
            continue;
        }
        let (host, inside) = line.split_once(':').unwrap_or((line, line));
        let source = bundle.join("secrets").join(number.to_string());
        match copy(Path::new(host), &source, owner) {
            Ok(()) => made.push(MadeVolume { target: inside.to_owned(), source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(file = %conf.display(), line, %error, "a default mount is left out");
            }
        }
    }
    made
}

fn copy(from: &Path, to: &Path, owner: Owner<'_>) -> io::Result<()> {
    let mut left = Left { bytes: COPY_LIMIT, files: MOST_FILES };
    if !from.metadata()?.is_dir() {
        let above = to.parent().unwrap_or(to);
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(above)?;
    }
    left.copy(from, to, owner, DEEPEST)?;
    owner.label.map_or(Ok(()), |label| selinux::relabel(to, label))
}

/// What may still be copied.
struct Left {
    bytes: u64,
    files: usize,
}

impl Left {
    fn copy(&mut self, from: &Path, to: &Path, owner: Owner<'_>, depth: usize) -> io::Result<()> {
        let too_much = || io::Error::new(io::ErrorKind::FileTooLarge, "too much to copy");
        let metadata = from.metadata()?;
        let mode = metadata.permissions().mode() & 0o777;
        self.files = self.files.checked_sub(1).ok_or_else(too_much)?;
        if !metadata.is_dir() {
            let bytes = files::read(from, self.bytes, Links::Follow)?;
            self.bytes -= u64::try_from(bytes.len()).unwrap_or(self.bytes);
            files::replace(to, &bytes, mode, Durability::Process)?;
        } else {
            let depth = depth.checked_sub(1).ok_or_else(too_much)?;
            std::fs::DirBuilder::new().recursive(true).create(to)?;
            for entry in std::fs::read_dir(from)? {
                let entry = entry?;
                match self.copy(&entry.path(), &to.join(entry.file_name()), owner, depth) {
                    // A link that leads nowhere.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    other => other?,
                }
            }
        }
        std::fs::set_permissions(to, std::fs::Permissions::from_mode(mode))?;
        std::os::unix::fs::chown(to, Some(owner.root), Some(owner.root))
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// Writes a file, as someone else would.
    fn write(path: impl AsRef<std::path::Path>, text: impl AsRef<[u8]>) {
        let durability = files::Durability::Process;
        files::replace(path.as_ref(), text.as_ref(), 0o644, durability).unwrap();
    }

    const OWNER: Owner<'_> = Owner { root: 0, label: None };

    fn told(conf: &Path, bundle: &Path) -> Vec<PathBuf> {
        make(Some(conf), bundle, OWNER).into_iter().map(|volume| volume.source).collect()
    }

    #[test]
    fn files_and_directories_are_copied_with_their_modes_and_the_rest_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::create_dir_all(at("node/deep")).unwrap();
        write(at("node/deep/key"), "secret");
        write(at("file"), "text");
        std::fs::set_permissions(at("file"), std::fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("/nowhere", at("node/dangling")).unwrap();
        std::os::unix::fs::symlink(".", at("node/deep/circle")).unwrap();
        let lines = format!(
            "# a comment\n{0}/file:/run/file\n{0}/nothing:/run/x\nrelative:/y\n{0}/node\n",
            directory.path().display()
        );
        write(at("mounts.conf"), lines);
        // The circle is too deep, so the directory is left out as a whole.
        assert_eq!(told(&at("mounts.conf"), &at("first")).len(), 1);
        std::fs::remove_file(at("node/deep/circle")).unwrap();
        let copies = told(&at("mounts.conf"), &at("second"));
        assert_eq!(std::fs::read_to_string(&copies[0]).unwrap(), "text");
        assert_eq!(copies[0].metadata().unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(std::fs::read_to_string(copies[1].join("deep/key")).unwrap(), "secret");
        assert!(!copies[1].join("dangling").exists());
    }
}
