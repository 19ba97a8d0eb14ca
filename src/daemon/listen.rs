//! The daemon's socket: its directory, its mode, and what stands in its place.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tokio::net::UnixListener;
use tokio::net::UnixStream;

use crate::daemon::error::DaemonError;

/// Owner and group may speak to the daemon: whoever can, rules the node.
const MODE: u32 = 0o660;

/// Listens on `path`. A socket that nobody answers on is taken away.
///
/// # Errors
///
/// [`DaemonError::SocketLives`] when somebody answers, [`DaemonError::Listen`] for anything else,
/// such as a file in the way that is no socket.
pub(super) async fn bind(path: &Path) -> Result<UnixListener, DaemonError> {
    let wrap = |source| DaemonError::Listen { path: path.to_owned(), source };
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(wrap)?;
    }
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(wrap(error)),
        Ok(metadata) if metadata.file_type().is_socket() => {
            if UnixStream::connect(path).await.is_ok() {
                return Err(DaemonError::SocketLives(path.to_owned()));
            }
            std::fs::remove_file(path).map_err(wrap)?;
        }
        Ok(_) => {
            let text = "a file that is no socket is in the way";
            return Err(wrap(io::Error::new(io::ErrorKind::AlreadyExists, text)));
        }
    }
    // Between bind and chmod nobody else may connect.
    let before = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
    let bound = UnixListener::bind(path);
    nix::sys::stat::umask(before);
    let listener = bound.map_err(wrap)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(MODE)).map_err(wrap)?;
    Ok(listener)
}

/// Ends a hold of the socket. Its name goes first: the next daemon may have bound one of its own as
/// soon as nobody answers here, and that must stay.
pub(super) fn let_go(listener: UnixListener, path: &Path) {
    let _ = std::fs::remove_file(path);
    drop(listener);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/crio.sock");
        drop(bind(&path).await.unwrap());
        let live = bind(&path).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        assert!(matches!(bind(&path).await, Err(DaemonError::SocketLives(_))));
        drop(live);
        assert!(bind(&path).await.is_ok());
    }

    #[tokio::test]
    async fn a_file_in_the_way_is_not_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("crio.sock");
        std::fs::File::create(&path).unwrap();
        assert!(matches!(bind(&path).await, Err(DaemonError::Listen { .. })));
        assert!(path.exists());
    }
}
