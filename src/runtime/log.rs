//! Makes a monitor write to a new log file, after the kubelet has moved the old one away.

use std::fs::File;
use std::io;
use std::io::Write;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use inotify::Inotify;
use inotify::WatchMask;
use nix::libc;

use crate::runtime::Runtime;
use crate::runtime::error::RuntimeError;

/// How long a monitor may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the monitor's control file takes: kind 2 is "reopen the log", the rest is not looked at.
const REOPEN: &[u8] = b"2 0 0\n";

impl Runtime {
    /// Makes the monitor of a container open its log anew, and waits until the log is there.
    ///
    /// # Errors
    ///
    /// [`RuntimeError::MonitorGone`], [`RuntimeError::LogNotReopened`], [`RuntimeError::File`].
    pub async fn reopen_log(&self, bundle: &Path, log: &Path) -> Result<(), RuntimeError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| RuntimeError::File { path, source }
        };
        let (Some(directory), Some(name)) = (log.parent(), log.file_name()) else {
            return Err(failed(log)(io::ErrorKind::InvalidInput.into()));
        };
        let watch = || {
            let inotify = Inotify::init()?;
            // The monitor makes the file under another name and renames it over the log.
            inotify.watches().add(directory, WatchMask::MOVED_TO | WatchMask::CREATE)?;
            inotify.into_event_stream([0; 4096])
        };
        let mut events = watch().map_err(failed(directory))?;
        tell(&bundle.join("ctl")).map_err(|source| match source.raw_os_error() {
            Some(libc::ENXIO) => RuntimeError::MonitorGone { bundle: bundle.to_owned() },
            _ => failed(&bundle.join("ctl"))(source),
        })?;
        let reopened = async {
            while let Some(event) = events.next().await {
                if event.map_err(failed(directory))?.name.as_deref() == Some(name) {
                    return Ok(());
                }
            }
            Err(failed(directory)(io::ErrorKind::UnexpectedEof.into()))
        };
        tokio::time::timeout(PATIENCE, reopened).await.unwrap_or_else(|_| {
            let (path, seconds) = (log.to_owned(), PATIENCE.as_secs());
            Err(RuntimeError::LogNotReopened { path, seconds })
        })
    }
}

/// Writes to a FIFO that someone reads; `ENXIO` if nobody does.
fn tell(fifo: &Path) -> io::Result<()> {
    let mut file = File::options()
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(fifo)?;
    if !file.metadata()?.file_type().is_fifo() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    file.write_all(REOPEN)
}
