//! The locks that all users of a store share, and the tokens that tell who wrote last.
//!
//! A lock file is locked as a whole with `fcntl(2)`. Others use the locks of a process, which any
//! `close` in that process drops; ours belong to the open file (`F_OFD_SETLKW`), which exclude
//! the others just the same and cannot be lost that way. The first 64 bytes of the file are a
//! token that every writer replaces *before* it writes an index: who finds another token than
//! before reads the index again. As in containers/storage, `pkg/lockfile`.
//!
//! Someone may put another file in a lock file's place (a preload archive is extracted into a
//! running store), so after each locking the path must still lead to the file that is locked.

use std::fs::File;
use std::io;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use nix::fcntl::FcntlArg;
use nix::libc;

/// The size of a token.
const TOKEN: usize = 64;

/// How a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// With others that read.
    Read,
    /// Alone.
    Write,
}

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
                None => open(&self.path)?,
            };
            set(&file, hold)?;
            if same(&file, &self.path)? {
                self.file = Some(file);
                return Ok(());
            }
        }
    }

    /// Lets the lock go.
    pub(super) fn unlock(&mut self) {
        if let Some(file) = &self.file
            && fcntl(file, libc::F_UNLCK, true).is_err()
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

/// Holds a lock on the file at `path`, which is made, as long as the file is open. `None` if
/// someone else holds it, or removed it meanwhile.
pub(super) fn try_hold(path: &Path) -> io::Result<Option<File>> {
    let file = open(path)?;
    match fcntl(&file, libc::F_WRLCK, false) {
        Ok(()) => Ok(same(&file, path)?.then_some(file)),
        Err(nix::Error::EAGAIN | nix::Error::EACCES) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .custom_flags(libc::O_CLOEXEC | libc::O_NOFOLLOW)
        .open(path)
}

fn set(file: &File, hold: Hold) -> io::Result<()> {
    let kind = match hold {
        Hold::Read => libc::F_RDLCK,
        Hold::Write => libc::F_WRLCK,
    };
    loop {
        match fcntl(file, kind, true) {
            Ok(()) => return Ok(()),
            Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn fcntl(file: &File, kind: libc::c_int, wait: bool) -> nix::Result<()> {
    let lock = libc::flock {
        l_type: libc::c_short::try_from(kind).unwrap_or_default(),
        l_whence: 0,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    let request = if wait { FcntlArg::F_OFD_SETLKW(&lock) } else { FcntlArg::F_OFD_SETLK(&lock) };
    nix::fcntl::fcntl(file.as_fd(), request).map(|_| ())
}

fn same(file: &File, path: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    match std::fs::symlink_metadata(path) {
        Ok(named) => Ok(held.ino() == named.ino() && held.dev() == named.dev()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
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
