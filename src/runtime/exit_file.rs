//! The files that a monitor leaves when its container ends.
//!
//! `<persist_dir>/exit` is there first and stays; `<exits_dir>/<id>` comes next and is the event.
//! Both hold the exit code in decimal; the time of the end is the file's change time. A file
//! `oom`, there or in the bundle (versions of conmon differ), says that the kernel killed for memory.
//! conmon does not always come to that: it looks into the cgroup, which systemd removes as soon as
//! the last process is gone. Then the kernel's log is asked.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use futures_util::Stream;
use futures_util::StreamExt;
use inotify::EventMask;
use inotify::EventStream;
use inotify::Inotify;
use inotify::WatchMask;
use nix::libc;
use time::OffsetDateTime;

use crate::model::ids::ContainerId;
use crate::runtime::Runtime;
use crate::runtime::error::RuntimeError;
use crate::sys::cgroup;
use crate::sys::files;
use crate::sys::kernel_log;

/// The exit code of a process that was killed with SIGKILL.
const KILLED: i32 = 128 + libc::SIGKILL;

/// How a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// The exit code; 128 and the signal for a killed process.
    pub code: i32,
    /// When.
    pub finished: OffsetDateTime,
    /// Whether the kernel killed for want of memory.
    pub oom: bool,
}

/// The containers that end, one after the other.
struct Exits {
    directory: PathBuf,
    events: EventStream<[u8; 4096]>,
    waiting: VecDeque<ContainerId>,
}

impl Runtime {
    /// The containers that ended or will: those whose exit file is there already come first. A
    /// container may be told more than once. When the directory cannot be watched any more, that is
    /// said in the log and the stream ends: ask again.
    ///
    /// # Errors
    ///
    /// [`RuntimeError::File`] when the directory cannot be watched or read.
    pub fn exits(
        &self,
    ) -> Result<impl Stream<Item = ContainerId> + Unpin + Send + 'static, RuntimeError> {
        let directory = self.settings().exits_dir.clone();
        let watch = || {
            let inotify = Inotify::init()?;
            // The monitor writes under another name and renames (g_file_set_contents).
            inotify.watches().add(&directory, WatchMask::MOVED_TO | WatchMask::CLOSE_WRITE)?;
            inotify.into_event_stream([0; 4096])
        };
        let events: io::Result<EventStream<_>> = watch();
        let events = events.map_err(|source| file_error(&directory, source))?;
        // Watched first, read second: nothing falls between.
        let mut exits = Exits { directory, events, waiting: VecDeque::new() };
        exits.read_directory()?;
        Ok(Box::pin(futures_util::stream::unfold(exits, |mut exits| async {
            match exits.next().await {
                Ok(id) => Some((id, exits)),
                Err(error) => {
                    tracing::error!(error = crate::failure::chain(&error), "exits are not seen");
                    None
                }
            }
        })))
    }

    /// How a container ended; nothing while it has not.
    ///
    /// # Errors
    ///
    /// [`RuntimeError::File`], [`RuntimeError::ExitFile`].
    pub fn exit_of(
        &self,
        id: &ContainerId,
        persist_dir: &Path,
        bundle: &Path,
    ) -> Result<Option<Exit>, RuntimeError> {
        let path = persist_dir.join("exit");
        let file = File::options()
            .read(true)
            .custom_flags(libc::O_CLOEXEC | libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&path);
        let file = match file {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(|source| file_error(&path, source))?,
        };
        let bytes = files::read_open(&file, 64).map_err(|source| file_error(&path, source))?;
        let metadata = file.metadata().map_err(|source| file_error(&path, source))?;
        let nanoseconds =
            i128::from(metadata.ctime()) * 1_000_000_000 + i128::from(metadata.ctime_nsec());
        let code = code(&bytes);
        let finished = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).ok();
        let (Some(code), Some(finished)) = (code, finished) else {
            return Err(RuntimeError::ExitFile { path });
        };
        let oom = [persist_dir, bundle].iter().any(|place| place.join("oom").exists())
            || (code == KILLED && self.was_killed_for_memory(id));
        Ok(Some(Exit { code, finished, oom }))
    }

    /// What the kernel's log says of a container that was killed.
    fn was_killed_for_memory(&self, id: &ContainerId) -> bool {
        let name = cgroup::container_name(self.settings().cgroup_manager, id.as_str());
        kernel_log::tells_of_kill_for_memory(&name).unwrap_or_else(|error| {
            let error = crate::failure::chain(&error);
            tracing::debug!(container = %id, error, "the kernel's log cannot be read");
            false
        })
    }

    /// Takes away the event of a container's end.
    pub(crate) fn remove_exit_event(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        let path = self.settings().exits_dir.join(id.as_str());
        files::remove(&path).map_err(|source| file_error(&path, source))
    }
}

impl Exits {
    /// The next container that ended. May be dropped and called again.
    async fn next(&mut self) -> Result<ContainerId, RuntimeError> {
        loop {
            if let Some(id) = self.waiting.pop_front() {
                return Ok(id);
            }
            let event =
                self.events.next().await.unwrap_or(Err(io::ErrorKind::UnexpectedEof.into()));
            let event = event.map_err(|source| file_error(&self.directory, source))?;
            if event.mask.contains(EventMask::Q_OVERFLOW) {
                self.read_directory()?;
            } else if event.mask.contains(EventMask::IGNORED) {
                return Err(file_error(&self.directory, io::ErrorKind::NotFound.into()));
            }
            let name = event.name.as_deref().and_then(|name| name.to_str());
            // The temporary names that the monitor writes under are no ids.
            self.waiting.extend(name.and_then(|name| name.parse::<ContainerId>().ok()));
        }
    }

    fn read_directory(&mut self) -> Result<(), RuntimeError> {
        let failed = |source| file_error(&self.directory, source);
        for entry in std::fs::read_dir(&self.directory).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            self.waiting.extend(name.to_str().and_then(|name| name.parse::<ContainerId>().ok()));
        }
        Ok(())
    }
}

fn file_error(path: &Path, source: io::Error) -> RuntimeError {
    RuntimeError::File { path: path.to_owned(), source }
}
/// The exit code in a monitor's file.
pub(super) fn code(bytes: &[u8]) -> Option<i32> {
    std::str::from_utf8(bytes).ok()?.trim().parse().ok()
}
