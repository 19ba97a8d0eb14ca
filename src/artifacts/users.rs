//! Which containers have an artifact mounted: one empty file for each, gone after a reboot.

use std::io;
use std::path::PathBuf;

use crate::artifacts::Artifacts;
use crate::artifacts::error::ArtifactError;
use crate::artifacts::failed;
use crate::artifacts::make_directory;
use crate::oci::digest::Digest;
use crate::sys::files;

impl Artifacts {
    /// Notes that a container, by its id, has the artifact mounted: it is not removed meanwhile.
    ///
    /// # Errors
    ///
    /// [`ArtifactError::Io`].
    pub fn hold(&self, digest: &Digest, user: &str) -> Result<(), ArtifactError> {
        let users = self.inner.users.join(digest.hex());
        make_directory(&users, 0o700)?;
        let mark = users.join(user);
        std::fs::File::create(&mark).map(drop).map_err(failed("create", &mark))
    }

    /// Takes a container from the users of all artifacts.
    ///
    /// # Errors
    ///
    /// [`ArtifactError::Io`].
    pub fn release(&self, user: &str) -> Result<(), ArtifactError> {
        for users in self.held()? {
            let mark = users.join(user);
            files::remove(&mark).map_err(failed("remove", &mark))?;
            // It goes with its last user.
            let _ = std::fs::remove_dir(&users);
        }
        Ok(())
    }

    /// Takes all users away that are not among the living.
    ///
    /// # Errors
    ///
    /// [`ArtifactError::Io`].
    pub fn release_others(&self, living: &[String]) -> Result<(), ArtifactError> {
        for users in self.held()? {
            for entry in std::fs::read_dir(&users).map_err(failed("list", &users))?.flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if !living.contains(&name) {
                    self.release(&name)?;
                }
            }
        }
        Ok(())
    }

    /// The containers that have an artifact mounted.
    pub(super) fn users_of(&self, digest: &Digest) -> Result<Vec<String>, ArtifactError> {
        let users = self.inner.users.join(digest.hex());
        let entries = match std::fs::read_dir(&users) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(failed("list", &users))?,
        };
        let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        Ok(names.collect())
    }

    fn held(&self) -> Result<Vec<PathBuf>, ArtifactError> {
        let all = &self.inner.users;
        match std::fs::read_dir(all) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            other => Ok(other
                .map_err(failed("list", all))?
                .flatten()
                .map(|entry| entry.path())
                .collect()),
        }
    }
}
