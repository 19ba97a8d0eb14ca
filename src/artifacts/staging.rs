//! Blobs of a pull that is not over: written beside the layout, and moved into it when all are there.

use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use crate::artifacts::error::ArtifactError;
use crate::artifacts::failed;
use crate::artifacts::layout::Layout;
use crate::artifacts::make_directory;
use crate::oci::descriptor::Descriptor;
use crate::oci::digest::Digest;
use crate::oci::digest::Hasher;
use crate::sys::files;

/// How much is copied at a time, in bytes.
const PIECE: usize = 128 * 1024;

/// A place for the blobs of one pull.
#[derive(Debug)]
pub struct Stage {
    directory: PathBuf,
    /// Where blobs may be already.
    layouts: Vec<Layout>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        // What stays is removed at the next start.
        let _ = files::remove_tree(&self.directory);
    }
}

impl Stage {
    pub(super) fn new(staging: &Path, layouts: Vec<Layout>) -> Result<Self, ArtifactError> {
        let name = tempfile_name();
        let directory = staging.join(name);
        make_directory(&directory, 0o700)?;
        Ok(Self { directory, layouts })
    }

    /// Whether so many bytes fit on the disk.
    ///
    /// # Errors
    ///
    /// [`ArtifactError::NoSpace`] if not.
    pub fn must_fit(&self, needed: u64) -> Result<(), ArtifactError> {
        let free = files::free_bytes(&self.directory);
        let free = free.map_err(failed("look at the filesystem of", &self.directory))?;
        if needed <= free {
            return Ok(());
        }
        Err(ArtifactError::NoSpace { needed, free, path: self.directory.clone() })
    }

    /// Takes a blob that is here already. Its bytes are hashed again; one that is not what its name
    /// says is not taken.
    ///
    /// # Errors
    ///
    /// [`ArtifactError::Io`].
    pub fn take(&self, wanted: &Descriptor) -> Result<bool, ArtifactError> {
        for layout in &self.layouts {
            let known = layout.blob(&wanted.digest);
            let Ok(file) =
                File::options().read(true).custom_flags(nix::libc::O_NOFOLLOW).open(&known)
            else {
                continue;
            };
            let regular = file.metadata().is_ok_and(|found| found.is_file());
            if !regular || hash(file, wanted, io::sink()).is_err() {
                continue;
            }
            let path = self.path(&wanted.digest);
            files::remove(&path).map_err(failed("remove", &path))?;
            // On another filesystem it is fetched: a copy of that would be as good.
            if std::fs::hard_link(&known, &path).is_ok() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes a blob as it comes, and checks that it is what was promised.
    ///
    /// # Errors
    ///
    /// [`ArtifactError::Blob`] for other bytes, [`ArtifactError::Io`].
    pub fn write(&self, wanted: &Descriptor, from: impl Read) -> Result<(), ArtifactError> {
        let path = self.path(&wanted.digest);
        let file = File::options().write(true).create(true).truncate(true).mode(0o644).open(&path);
        let file = file.map_err(failed("create", &path))?;
        hash(from, wanted, &file).map_err(|error| match error {
            Fault::Io(source) => ArtifactError::Io { action: "write", path: path.clone(), source },
            Fault::Other(fault) => ArtifactError::Blob { digest: wanted.digest.clone(), fault },
        })?;
        file.sync_all().map_err(failed("write", &path))
    }

    /// Moves all blobs into the layout. Its lock is held.
    pub(super) fn move_into(&self, layout: &Layout) -> Result<(), ArtifactError> {
        let entries = std::fs::read_dir(&self.directory);
        for entry in entries.map_err(failed("list", &self.directory))? {
            let path = entry.map_err(failed("list", &self.directory))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().replacen('-', ":", 1);
            let Ok(digest) = name.parse::<Digest>() else { continue };
            let to = layout.blob(&digest);
            let directory = to.parent().unwrap_or(layout.path());
            make_directory(directory, 0o755)?;
            std::fs::rename(&path, &to).map_err(failed("rename", &path))?;
            let synced = File::open(directory).and_then(|directory| directory.sync_all());
            synced.map_err(failed("write", directory))?;
        }
        Ok(())
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.directory.join(format!("{}-{}", digest.algorithm().name(), digest.hex()))
    }
}

enum Fault {
    Io(io::Error),
    Other(String),
}

/// Copies exactly what was promised.
fn hash(mut from: impl Read, wanted: &Descriptor, mut to: impl Write) -> Result<(), Fault> {
    let mut hasher = Hasher::new(wanted.digest.algorithm());
    let (mut buffer, mut size) = (vec![0; PIECE], 0_u64);
    loop {
        let count = from.read(&mut buffer).map_err(Fault::Io)?;
        let piece = buffer.get(..count).unwrap_or_default();
        if piece.is_empty() {
            break;
        }
        size = size.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        if size > wanted.size {
            return Err(Fault::Other(format!("there are more than {} bytes", wanted.size)));
        }
        hasher.update(piece);
        to.write_all(piece).map_err(Fault::Io)?;
    }
    let digest = hasher.finish();
    if size != wanted.size || digest != wanted.digest {
        return Err(Fault::Other(format!("the bytes are {size}, of digest {digest}")));
    }
    Ok(())
}

/// A name that no other pull of this or another process has.
fn tempfile_name() -> String {
    use std::sync::atomic::AtomicU64;
    use std::sync::atomic::Ordering;
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
