//! Runs a command in a container to its end and gives its output: probes and hooks.
//!
//! The runtime starts the command with our pipes as its streams and leaves; a keeper tells how the
//! command ended. No second monitor and no log file is needed, the time is kept to the
//! millisecond, and a process that the command leaves in the background, holding a pipe, is not
//! waited for.
//!
//! When the time is over, or nobody waits any more, everything that the command started is killed:
//! its children and theirs, deaf or not, and its session. What a command has turned into a daemon
//! (forked twice, session left) belongs to the container and lives as long as that.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use oci_spec::runtime::Process;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use crate::model::ids::ContainerId;
use crate::runtime::Runtime;
use crate::runtime::error::RuntimeError;
use crate::runtime::runc::refusal;
use crate::sys::files;
use crate::sys::process::Exit;
use crate::sys::process::Kept;
use crate::sys::process::ProcessError;

/// How much of both streams together is kept; the rest is read and dropped (as CRI-O does).
const OUTPUT_LIMIT: usize = 16 * 1024 * 1024;

/// How long streams that others still hold are read on after the command's end. What it wrote
/// itself is in the pipe by then.
const LINGER: Duration = Duration::from_millis(20);

/// What the kubelet looks for when a probe took too long.
const TIMED_OUT: &[u8] = b"command timed out";

/// A command to run in a container.
#[derive(Debug, Clone)]
pub struct ExecSync {
    /// The runtime handler.
    pub handler: String,
    /// The container.
    pub id: ContainerId,
    /// The command, and all that it runs with. It gets no terminal.
    pub process: Process,
    /// The time it has; `None` is for ever.
    pub timeout: Option<Duration>,
}

/// What a command left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executed {
    /// Its exit code; 128 and the signal for a killed one; −1 when its time was over.
    pub exit_code: i32,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error stream.
    pub stderr: Vec<u8>,
}

/// The files that the runtime needs for a command, in a directory that goes when this does: a
/// runtime that is killed leaves files of other names.
struct Files {
    directory: PathBuf,
    process: PathBuf,
    pid: PathBuf,
}

impl Runtime {
    /// Runs a command in a container to its end. When this future is dropped, the command is
    /// killed.
    ///
    /// A command whose time is over is an answer, not an error: exit code −1 and the words that
    /// the kubelet looks for.
    ///
    /// # Errors
    ///
    /// [`RuntimeError::NotRunning`] when the container does not run, [`RuntimeError::Refused`]
    /// when the command cannot be started in it, and what keeps the runtime from being asked.
    pub async fn exec_sync(&self, mut request: ExecSync) -> Result<Executed, RuntimeError> {
        request.process.set_terminal(Some(false));
        let files = self.exec_files(&request)?;
        let handler = self.handler(&request.handler)?;
        let command = self
            .command(handler)
            .args(["exec", "--detach", "--pid-file"])
            .arg(&files.pid)
            .arg("--process")
            .arg(&files.process)
            .arg(request.id.as_str());
        let run = |source| RuntimeError::Run {
            verb: "run a command in",
            id: request.id.to_string(),
            source,
        };
        let text = command.text();
        let follow = |source| run(ProcessError::Follow { command: text.clone(), source });
        let mut kept =
            command.spawn_kept(Stdio::null(), Stdio::piped(), Stdio::piped()).map_err(run)?;
        let mut streams = Streams::new(kept.take_stdout(), kept.take_stderr()).map_err(follow)?;
        let ended = follow_to_end(&mut kept, &mut streams, &files);
        let ended = match request.timeout {
            Some(timeout) => tokio::time::timeout(timeout, ended).await,
            None => Ok(ended.await),
        };
        let Streams { stdout, stderr, .. } = streams;
        match ended {
            Err(_) => {
                kept.end().await;
                Ok(Executed { exit_code: -1, stdout, stderr: TIMED_OUT.to_vec() })
            }
            Ok(Err(source)) => Err(follow(source)),
            Ok(Ok(None)) => Err(refusal("run a command in", &request.id, &stderr)),
            Ok(Ok(Some(exit))) => {
                kept.release();
                Ok(Executed { exit_code: exit.shell_code(), stdout, stderr })
            }
        }
    }

    fn exec_files(&self, request: &ExecSync) -> Result<Files, RuntimeError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{}-{number}", request.id.short(), std::process::id());
        let directory = self.exec_directory().join(name);
        std::fs::create_dir(&directory)
            .map_err(|source| RuntimeError::File { path: directory.clone(), source })?;
        let files = Files {
            process: directory.join("process.json"),
            pid: directory.join("pid"),
            directory,
        };
        let process = serde_json::to_vec(&request.process)
            .map_err(|source| RuntimeError::Answer { id: request.id.to_string(), source })?;
        files::replace(&files.process, &process, 0o600, files::Durability::Process)
            .map_err(|source| RuntimeError::File { path: files.process.clone(), source })?;
        Ok(files)
    }
}

impl Files {
    /// The command's number in the host, as the runtime wrote it.
    fn pid(&self) -> Option<i32> {
        let bytes = files::read(&self.pid, 32, files::Links::Refuse).ok()?;
        std::str::from_utf8(&bytes).ok()?.trim().parse().ok()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = files::remove_tree(&self.directory);
    }
}

/// Both streams of a command, kept to the common limit.
struct Streams {
    pipes: Option<(pipe::Receiver, pipe::Receiver)>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Streams {
    fn new(stdout: Option<OwnedFd>, stderr: Option<OwnedFd>) -> std::io::Result<Self> {
        let open = |stream: Option<OwnedFd>| {
            let stream = stream.ok_or(std::io::ErrorKind::BrokenPipe)?;
            pipe::Receiver::from_owned_fd(stream)
        };
        let pipes = Some((open(stdout)?, open(stderr)?));
        Ok(Self { pipes, stdout: Vec::new(), stderr: Vec::new() })
    }

    /// Reads both to their ends. May be dropped and called again.
    async fn read(&mut self) -> std::io::Result<()> {
        let Some((stdout, stderr)) = self.pipes.as_mut() else { return Ok(()) };
        let (mut first, mut second) = (Vec::with_capacity(16384), Vec::with_capacity(16384));
        let (mut first_open, mut second_open) = (true, true);
        while first_open || second_open {
            tokio::select! {
                read = stdout.read_buf(&mut first), if first_open => first_open = read? > 0,
                read = stderr.read_buf(&mut second), if second_open => second_open = read? > 0,
            }
            keep(&mut first, &mut self.stdout, self.stderr.len());
            keep(&mut second, &mut self.stderr, self.stdout.len());
        }
        self.pipes = None;
        Ok(())
    }
}

/// Moves bytes to where they are kept, as far as there is room beside the other stream's.
fn keep(from: &mut Vec<u8>, to: &mut Vec<u8>, other: usize) {
    let room = OUTPUT_LIMIT.saturating_sub(to.len() + other);
    from.truncate(room);
    to.append(from);
    from.reserve(16384);
}

/// Reads the streams and waits for the command's end; `None` when the runtime did not start it.
async fn follow_to_end(
    kept: &mut Kept,
    streams: &mut Streams,
    files: &Files,
) -> std::io::Result<Option<Exit>> {
    let exit = {
        let mut end = std::pin::pin!(command_end(kept, files));
        tokio::select! {
            exit = &mut end => exit?,
            read = streams.read() => {
                read?;
                end.await?
            }
        }
    };
    if let Ok(read) = tokio::time::timeout(LINGER, streams.read()).await {
        read?;
    }
    Ok(exit)
}

/// Waits until the runtime has started the command and left, and then for the command's end.
async fn command_end(kept: &mut Kept, files: &Files) -> std::io::Result<Option<Exit>> {
    let Some(runtime) = kept.report().await? else { return Ok(None) };
    let mut ends = Vec::new();
    let mut command = None;
    loop {
        if let Some(pid) = command
            && let Some((_, exit)) = ends.iter().find(|(ended, _)| *ended == pid)
        {
            return Ok(Some(*exit));
        }
        let Some(end) = kept.report().await? else { return Ok(None) };
        if end.pid == runtime.pid {
            // The runtime writes the number before it leaves, and only for a started command.
            command = end.exit.is_success().then(|| files.pid()).flatten();
            if command.is_none() {
                return Ok(None);
            }
        } else {
            ends.push((end.pid, end.exit));
        }
    }
}
