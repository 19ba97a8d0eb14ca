//! The locks that all users of a store share, and the tokens that tell who wrote last.
//!
//! A lock file is locked as a whole (`sys::lock`). The first 64 bytes of the file are a token that
//! every writer replaces *before* it writes an index: who finds another token than before reads the
//! index again. As in containers/storage, `pkg/lockfile`. A preload archive may be extracted into a
//! running store, and put another file in a lock file's place.

use std::fs::File;
use std::io;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::sys::lock;

pub(super) use crate::sys::lock::Hold;
pub(super) use crate::sys::lock::try_hold;

/// The size of a token.
const TOKEN: usize = 64;

/// What the last writer left; empty if there was none yet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Token(Vec<u8>);

/// A lock file. One thread at a time uses it: it is kept inside a mutex.
#[derive(Debug)]
pub(super) struct LockFile {
    path: PathBuf,
    file: Option<File>,
    written: u64,
}

impl LockFile {
    /// A lock file at this path, which is made when it is first locked.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, file: None, written: 0 }
    }

    /// Waits for the lock.
    pub(super) fn lock(&mut self, hold: Hold) -> io::Result<()> {
        loop {
            let file = match self.file.take() {
                Some(file) => file,
                None => lock::open(&self.path)?,
            };
            lock::wait(&file, hold)?;
            if lock::same(&file, &self.path)? {
                self.file = Some(file);
                return Ok(());
            }
        }
    }

    /// Lets the lock go.
    pub(super) fn unlock(&mut self) {
        if let Some(file) = &self.file
            && lock::release(file).is_err()
        {
            // Closing lets go as well.
            self.file = None;
        }
    }

    /// The token as it is now. The lock is held.
    pub(super) fn token(&self) -> io::Result<Token> {
        let mut bytes = vec![0; TOKEN];
        let length = self.opened()?.read_at(&mut bytes, 0)?;
        bytes.truncate(length);
        Ok(Token(bytes))
    }

    /// Replaces the token. The lock is held for writing.
    pub(super) fn renew(&mut self) -> io::Result<Token> {
        self.written += 1;
        let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        let mut bytes = Vec::with_capacity(TOKEN);
        bytes.write_all(&u64::try_from(since.as_nanos()).unwrap_or_default().to_le_bytes())?;
        bytes.write_all(&self.written.to_le_bytes())?;
        bytes.write_all(&std::process::id().to_le_bytes())?;
        let mut random = [0; TOKEN - 20];
        aws_lc_rs::rand::fill(&mut random)
            .map_err(|_| io::Error::other("no random bytes from the kernel"))?;
        bytes.write_all(&random)?;
        self.opened()?.write_all_at(&bytes, 0)?;
        Ok(Token(bytes))
    }

    fn opened(&self) -> io::Result<&File> {
        self.file.as_ref().ok_or_else(|| io::Error::other("the lock is not held"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_excludes_and_its_token_tells_of_a_write() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.lock");
        let (mut one, mut two) = (LockFile::new(path.clone()), LockFile::new(path.clone()));
        one.lock(Hold::Write).unwrap();
        assert!(try_hold(&path).unwrap().is_none());
        let token = one.renew().unwrap();
        one.unlock();
        two.lock(Hold::Read).unwrap();
        assert_eq!(two.token().unwrap(), token);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 64);
        two.unlock();
        assert!(try_hold(&path).unwrap().is_some());
    }

    #[test]
    fn a_lock_file_that_was_replaced_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.lock");
        let mut lock = LockFile::new(path.clone());
        lock.lock(Hold::Write).unwrap();
        lock.renew().unwrap();
        lock.unlock();
        std::fs::remove_file(&path).unwrap();
        std::fs::File::create(&path).unwrap();
        lock.lock(Hold::Write).unwrap();
        assert_eq!(lock.token().unwrap(), Token::default());
        assert!(try_hold(&path).unwrap().is_none());
    }
}
