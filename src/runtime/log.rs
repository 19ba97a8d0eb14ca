//! Makes a monitor write to a new log file, after the kubelet has moved the old one away.

use std::io;
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use inotify::Inotify;
use inotify::WatchMask;

use crate::runtime::Runtime;
use crate::runtime::control;
use crate::runtime::control::Order;
use crate::runtime::error::RuntimeError;

/// How long a monitor may take.
const PATIENCE: Duration = Duration::from_secs(10);

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
        control::tell(bundle, Order::ReopenLog)?;
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
