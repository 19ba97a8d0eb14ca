//! Starts processes: the only place in this program that does.
//!
//! A child gets exactly the environment, the descriptors and the directory it was given, and
//! nothing of ours. It leads a process group of its own. [`Command::run`] reads both its streams
//! up to a limit and ends it, with its group, when its time is over or nobody waits any more.
//!
//! A child stays a zombie until everything that is to be done with its number is done, so a signal
//! can never reach a stranger that was given the same number. Each child is reaped by number, by
//! whoever started it; nothing here waits for "any child", so the reapers do not race.
//!
//! Not here: processes that our children leave behind. A monitor forks away from its starter on
//! purpose, so that it outlives this program; its parent is then PID 1 (we do not make ourselves a
//! child subreaper), and PID 1 reaps it. Where PID 1 is slow at that, a finished monitor is seen as
//! a zombie for a while; it holds no memory, no descriptor and no cgroup.

#![allow(unsafe_code, reason = "what a child does between fork and exec cannot be checked")]

use std::ffi::OsStr;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use nix::libc;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;

mod child;
mod keeper;
mod stranger;

pub use child::Child;
pub use child::Exit;
pub use keeper::Kept;
pub use keeper::Report;
pub use stranger::Stranger;
pub use stranger::started;

use crate::failure::Classify;
use crate::failure::Kind;
use crate::failure::io_kind;

/// How much of each output stream is read unless the caller says otherwise.
pub const OUTPUT_LIMIT: usize = 1024 * 1024;

/// How long a stream may stay open after the child is gone. What the child itself wrote is in the
/// pipe by then; only a process it left behind can still hold the other end.
const LINGER: Duration = Duration::from_millis(200);

/// How many characters of the standard error stream an error shows.
const STDERR_SHOWN: usize = 500;

/// A process that could not be run, or did not end well.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// There is no such program, or it cannot be started.
    #[error("cannot start {command}")]
    Start {
        /// Program and arguments.
        command: String,
        /// What the kernel says.
        source: io::Error,
    },
    /// Its time was over; it was killed with its process group.
    #[error("{command} did not end within {} ms and was killed{stderr}", after.as_millis())]
    TimedOut {
        /// Program and arguments.
        command: String,
        /// The time it had.
        after: Duration,
        /// The end of what it wrote to its standard error stream.
        stderr: Said,
    },
    /// It wrote more than was asked for; it was killed with its process group.
    #[error("{command} wrote more than {limit} bytes to its {stream} and was killed")]
    TooMuchOutput {
        /// Program and arguments.
        command: String,
        /// The limit that it broke.
        limit: usize,
        /// The stream.
        stream: &'static str,
    },
    /// It ended, and not with 0.
    #[error("{command} ended with {exit}{stderr}")]
    Failed {
        /// Program and arguments.
        command: String,
        /// How it ended.
        exit: Exit,
        /// The end of what it wrote to its standard error stream.
        stderr: Said,
    },
    /// Its streams or its end could not be followed; it was killed.
    #[error("cannot follow {command}")]
    Follow {
        /// Program and arguments.
        command: String,
        /// What the kernel says.
        source: io::Error,
    },
}

impl Classify for ProcessError {
    fn kind(&self) -> Kind {
        match self {
            Self::Start { source, .. } | Self::Follow { source, .. } => io_kind(source),
            Self::TimedOut { .. } => Kind::Deadline,
            Self::TooMuchOutput { .. } | Self::Failed { .. } => Kind::Internal,
        }
    }
}

/// The end of what a process said on its standard error stream, safe in a log line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said(String);

impl Said {
    fn new(stderr: &[u8]) -> Self {
        Self(readable(stderr))
    }
}

impl fmt::Display for Said {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(out, ": {}", self.0) }
    }
}

/// The last 500 characters of some output, on one line and without control characters.
#[must_use]
pub fn readable(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let clean: Vec<char> = text
        .trim()
        .chars()
        .map(|character| if character == '\n' { ' ' } else { character })
        .filter(|character| !character.is_control())
        .collect();
    let skipped = clean.len().saturating_sub(STDERR_SHOWN);
    clean.into_iter().skip(skipped).collect()
}

/// What a process left.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: Exit,
    /// Its standard output, whole.
    pub stdout: Vec<u8>,
    /// Its standard error stream, whole.
    pub stderr: Vec<u8>,
    command: String,
}

impl Output {
    /// The output of a process that ended with 0.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Failed`] for any other end.
    pub fn success(self) -> Result<Self, ProcessError> {
        if self.status.is_success() {
            return Ok(self);
        }
        let stderr = Said::new(&self.stderr);
        Err(ProcessError::Failed { command: self.command, exit: self.status, stderr })
    }
}

/// A program to start. Its arguments appear in errors and in `ps`: a secret goes to its standard
/// input.
#[derive(Debug)]
pub struct Command {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    directory: PathBuf,
    stdin: Vec<u8>,
    timeout: Option<Duration>,
    output_limit: usize,
    inherited: Vec<OwnedFd>,
}

impl Command {
    /// A program by its path: no shell, no search in `PATH`, an empty environment, `/` as its
    /// directory, nothing on its standard input, and no end of its time.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            directory: PathBuf::from("/"),
            stdin: Vec::new(),
            timeout: None,
            output_limit: OUTPUT_LIMIT,
            inherited: Vec::new(),
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Adds a variable to its environment, which holds only what is added.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Starts it in this directory instead of `/`.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = directory.into();
        self
    }

    /// Gives it these bytes on its standard input, then the end.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Kills it, with its group, when [`Command::run`] has waited this long.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// How many bytes of each stream are read; one more and it is killed.
    #[must_use]
    pub fn output_limit(mut self, bytes: usize) -> Self {
        self.output_limit = bytes;
        self
    }

    /// Hands it a descriptor, which has the same number there as here: no number that is in use
    /// can be overwritten that way.
    #[must_use]
    pub fn inherit(mut self, descriptor: OwnedFd) -> Self {
        self.inherited.push(descriptor);
        self
    }

    /// Program and arguments, as errors show them.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = self.program.display().to_string();
        for argument in &self.arguments {
            text.push(' ');
            text.push_str(&readable(argument.as_encoded_bytes()));
        }
        text
    }

    /// Runs it to its end and gives what it left. When this future is dropped, the process and its
    /// group are killed and reaped.
    ///
    /// A process that it leaves behind is not waited for, even if it holds a stream open.
    ///
    /// # Errors
    ///
    /// [`ProcessError`], but not for an exit code other than 0: see [`Output::success`].
    pub async fn run(mut self) -> Result<Output, ProcessError> {
        let (command, limit, timeout) = (self.text(), self.output_limit, self.timeout);
        let stdin = std::mem::take(&mut self.stdin);
        let input = if stdin.is_empty() { Stdio::null() } else { Stdio::piped() };
        let mut child = self.start(input, Stdio::piped(), Stdio::piped(), |_| {})?;
        let mut streams = Streams::of(&mut child, stdin, limit)
            .map_err(|source| ProcessError::Follow { command: command.clone(), source })?;
        let ended = follow(&mut child, &mut streams);
        let result = match timeout {
            Some(after) => tokio::time::timeout(after, ended).await.ok(),
            None => Some(ended.await),
        };
        match (result, timeout.unwrap_or_default()) {
            (None, after) => {
                child.kill_group();
                let stderr = Said::new(&streams.stderr.bytes);
                Err(ProcessError::TimedOut { command, after, stderr })
            }
            (Some(Err(Stopped::TooMuch(stream))), _) => {
                child.kill_group();
                Err(ProcessError::TooMuchOutput { command, limit, stream })
            }
            (Some(Err(Stopped::Io(source))), _) => Err(ProcessError::Follow { command, source }),
            (Some(Ok(status)), _) => {
                let (stdout, stderr) = (streams.stdout.bytes, streams.stderr.bytes);
                Ok(Output { status, stdout, stderr, command })
            }
        }
    }

    /// Starts it and does not follow its streams: they go where the caller says.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Start`].
    pub fn spawn(self, stdin: Stdio, stdout: Stdio, stderr: Stdio) -> Result<Child, ProcessError> {
        self.start(stdin, stdout, stderr, |_| {})
    }

    /// `prepare` may add to what happens between fork and exec, after everything else.
    fn start(
        self,
        stdin: Stdio,
        stdout: Stdio,
        stderr: Stdio,
        prepare: impl FnOnce(&mut std::process::Command),
    ) -> Result<Child, ProcessError> {
        let text = self.text();
        #[allow(clippy::disallowed_methods, reason = "this is the place that the ban names")]
        let mut command = std::process::Command::new(&self.program);
        command
            .args(&self.arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.directory)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr)
            .process_group(0);
        let inherited: Vec<RawFd> = self.inherited.iter().map(AsRawFd::as_raw_fd).collect();
        // SAFETY: the closure runs between fork and exec. It only makes system calls on numbers
        // that were collected before the fork: it allocates nothing and takes no lock.
        unsafe {
            command.pre_exec(move || keep_descriptors(&inherited));
        }
        prepare(&mut command);
        let child = command
            .spawn()
            .map_err(|source| ProcessError::Start { command: text.clone(), source })?;
        Child::new(child).map_err(|source| ProcessError::Follow { command: text, source })
    }
}

/// Marks all descriptors but the standard three and those that are inherited to be closed at exec,
/// whoever opened them and however. Only for use between fork and exec.
fn keep_descriptors(inherited: &[RawFd]) -> io::Result<()> {
    // SAFETY: this only sets a flag on descriptors of this process.
    let marked = unsafe { libc::close_range(3, libc::c_uint::MAX, mark_only()) };
    if marked < 0 {
        return Err(io::Error::last_os_error());
    }
    for descriptor in inherited {
        // SAFETY: this only clears a flag on a descriptor that the caller keeps open.
        let kept = unsafe { libc::fcntl(*descriptor, libc::F_SETFD, 0) };
        if kept < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// `CLOSE_RANGE_CLOEXEC` (Linux 5.11), in the type that the call wants.
fn mark_only() -> libc::c_int {
    libc::c_int::try_from(libc::CLOSE_RANGE_CLOEXEC).unwrap_or(0)
}

enum Stopped {
    TooMuch(&'static str),
    Io(io::Error),
}

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Our ends of a child's three streams.
struct Streams {
    stdin: Option<(pipe::Sender, Vec<u8>)>,
    stdout: Reader,
    stderr: Reader,
}

impl Streams {
    fn of(child: &mut Child, stdin: Vec<u8>, limit: usize) -> io::Result<Self> {
        let sender = child.take_stdin().map(pipe::Sender::from_owned_fd).transpose()?;
        Ok(Self {
            stdin: sender.map(|sender| (sender, stdin)),
            stdout: Reader::new(child.take_stdout(), "standard output", limit)?,
            stderr: Reader::new(child.take_stderr(), "standard error stream", limit)?,
        })
    }
}

struct Reader {
    pipe: Option<pipe::Receiver>,
    name: &'static str,
    limit: usize,
    bytes: Vec<u8>,
}

impl Reader {
    fn new(pipe: Option<OwnedFd>, name: &'static str, limit: usize) -> io::Result<Self> {
        let pipe = pipe.map(pipe::Receiver::from_owned_fd).transpose()?;
        Ok(Self { pipe, name, limit, bytes: Vec::new() })
    }

    /// Reads to the end of the stream. May be dropped and called again.
    async fn read(&mut self) -> Result<(), Stopped> {
        let Some(pipe) = self.pipe.as_mut() else { return Ok(()) };
        while pipe.read_buf(&mut self.bytes).await? > 0 {
            if self.bytes.len() > self.limit {
                return Err(Stopped::TooMuch(self.name));
            }
        }
        self.pipe = None;
        Ok(())
    }
}

/// Feeds and reads a child until it has ended and its streams are at their end, and reaps it.
async fn follow(child: &mut Child, streams: &mut Streams) -> Result<Exit, Stopped> {
    let Streams { stdin, stdout, stderr } = streams;
    let feed = async {
        if let Some((mut pipe, bytes)) = stdin.take() {
            // A program that does not read its input is free to do so.
            let _ = pipe.write_all(&bytes).await;
        }
        std::future::pending::<()>().await;
    };
    let mut read = std::pin::pin!(async { tokio::try_join!(stdout.read(), stderr.read()) });
    tokio::select! {
        () = feed => {}
        result = &mut read => {
            result?;
            child.ended().await?;
            return Ok(child.wait().await?);
        }
        ended = child.ended() => ended?,
    }
    if let Ok(result) = tokio::time::timeout(LINGER, read).await {
        result?;
    }
    Ok(child.wait().await?)
}

#[cfg(test)]
mod tests;
