//! A further command in a container: how it is started, how its end is known, and that it ends
//! with its container.
//!
//! The runtime starts the command with our pipes as its streams, or with a terminal whose other
//! end it hands us, and leaves; a keeper tells how the command ended. No second monitor and no log
//! file is needed.
//!
//! When nobody waits for a command any more, everything that it started is killed: its children
//! and theirs, deaf or not, and its session. What a command has turned into a daemon (forked
//! twice, session left) belongs to the container and lives as long as that.

use std::io;
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
use crate::sys::process::Stranger;
use crate::sys::pty::ConsoleSocket;

/// What errors say was asked of the runtime.
const VERB: &str = "run a command in";

/// How long the streams of a command are read on after its end, when others still hold them. What
/// it wrote itself is in the pipe by then.
pub(super) const LINGER: Duration = Duration::from_millis(20);

/// How much of the runtime's words is read when it did not start a command.
const WORDS_LIMIT: u64 = 64 * 1024;

/// A command to run in a container.
#[derive(Debug, Clone)]
pub struct Exec {
    /// The runtime handler.
    pub handler: String,
    /// The container.
    pub id: ContainerId,
    /// The container's first process: the command ends with it. The kernel sees to that only where
    /// this process is the first of its process namespace, and in a pod that shares one it is not.
    pub first_process: i32,
    /// The command, and all that it runs with.
    pub process: Process,
}

/// Which of its streams a command has; those that it has not are `/dev/null`.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wanted {
    /// Pipes. The standard error stream is always one: the runtime says there why it refuses.
    Pipes { stdin: bool, stdout: bool },
    /// A terminal for all three.
    Terminal,
}

/// A command that the runtime is starting, and our ends of its streams.
pub(super) struct Launched {
    pub(super) job: Job,
    pub(super) stdin: Option<pipe::Sender>,
    pub(super) stdout: Option<pipe::Receiver>,
    pub(super) stderr: pipe::Receiver,
    pub(super) console: Option<ConsoleSocket>,
}

/// A command that is being started or runs. Dropped, it is killed with all that it started.
pub(super) struct Job {
    id: ContainerId,
    /// The runtime's command line, for errors.
    text: String,
    kept: Kept,
    files: Files,
    container: Stranger,
    /// Whether the container was seen to end.
    orphaned: bool,
    ends: Vec<(i32, Exit)>,
    /// The command's number, once it was started.
    command: Option<i32>,
}

/// The files that the runtime needs for a command, in a directory that goes when this does: a
/// runtime that is killed leaves files of other names.
struct Files {
    directory: PathBuf,
}

impl Runtime {
    /// Has the runtime start a command. It is started when [`Job::started`] says so.
    pub(super) fn launch(&self, request: &Exec, wanted: Wanted) -> Result<Launched, RuntimeError> {
        let id = &request.id;
        let handler = self.handler(&request.handler)?;
        let container = Stranger::open(request.first_process).map_err(|_| ended(id))?;
        let files = self.exec_files(request)?;
        let file = |path: PathBuf| |source| RuntimeError::File { path, source };
        let mut command = self.command(handler).args(["exec", "--detach", "--pid-file"]);
        command = command.arg(files.pid_file());
        let mut console = None;
        if matches!(wanted, Wanted::Terminal) {
            let path = files.directory.join("console");
            command = command.arg("--console-socket").arg(&path);
            console = Some(ConsoleSocket::bind(&path).map_err(file(path))?);
        }
        let command = command.arg("--process").arg(files.process_file()).arg(id.as_str());
        let text = command.text();
        let pipe = |is_wanted| if is_wanted { Stdio::piped() } else { Stdio::null() };
        let (stdin, stdout) = match wanted {
            Wanted::Pipes { stdin, stdout } => (pipe(stdin), pipe(stdout)),
            Wanted::Terminal => (Stdio::null(), Stdio::null()),
        };
        let kept = command.spawn_kept(stdin, stdout, Stdio::piped());
        let mut kept = kept.map_err(|source| run(id, source))?;
        let streams = (kept.take_stdin(), kept.take_stdout(), kept.take_stderr());
        let (ends, orphaned, id) = (Vec::new(), false, id.clone());
        let job = Job { id, text, kept, files, container, orphaned, ends, command: None };
        let stdin = streams.0.map(pipe::Sender::from_owned_fd).transpose();
        let stdout = streams.1.map(pipe::Receiver::from_owned_fd).transpose();
        Ok(Launched {
            stdin: stdin.map_err(|source| job.fault(source))?,
            stdout: stdout.map_err(|source| job.fault(source))?,
            stderr: receiver(streams.2).map_err(|source| job.fault(source))?,
            console,
            job,
        })
    }

    fn exec_files(&self, request: &Exec) -> Result<Files, RuntimeError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{}-{number}", request.id.short(), std::process::id());
        let directory = self.exec_directory().join(name);
        std::fs::create_dir(&directory)
            .map_err(|source| RuntimeError::File { path: directory.clone(), source })?;
        let files = Files { directory };
        let process = serde_json::to_vec(&request.process)
            .map_err(|source| RuntimeError::Answer { id: request.id.to_string(), source })?;
        let path = files.process_file();
        files::replace(&path, &process, 0o600, files::Durability::Process)
            .map_err(|source| RuntimeError::File { path, source })?;
        Ok(files)
    }
}

fn receiver(stream: Option<OwnedFd>) -> io::Result<pipe::Receiver> {
    pipe::Receiver::from_owned_fd(stream.ok_or(io::ErrorKind::BrokenPipe)?)
}

fn run(id: &ContainerId, source: ProcessError) -> RuntimeError {
    RuntimeError::Run { verb: VERB, id: id.to_string(), source }
}

/// That a container has no process any more.
pub(super) fn ended(id: &ContainerId) -> RuntimeError {
    RuntimeError::NotRunning { id: id.to_string(), said: "its first process has ended".to_owned() }
}

impl Job {
    /// Waits until the runtime has started the command and left. Nothing is read of its streams
    /// meanwhile: what is in the standard error stream of a runtime that refuses is why.
    ///
    /// # Errors
    ///
    /// [`RuntimeError::NotRunning`], [`RuntimeError::Refused`].
    pub(super) async fn started(
        &mut self,
        stderr: &mut pipe::Receiver,
    ) -> Result<(), RuntimeError> {
        if self.is_started().await.map_err(|source| self.fault(source))? {
            return Ok(());
        }
        let mut words = Vec::new();
        // It has ended, but what it started may hold the stream for a moment yet.
        let mut stderr = stderr.take(WORDS_LIMIT);
        let _ = tokio::time::timeout(LINGER, stderr.read_to_end(&mut words)).await;
        Err(self.refused(&words).await)
    }

    /// As [`Job::started`], for a caller that reads the streams itself.
    pub(super) async fn is_started(&mut self) -> io::Result<bool> {
        let Some(runtime) = self.report().await? else { return Ok(false) };
        while let Some(end) = self.report().await? {
            if end.0 == runtime.0 {
                // It writes the number before it leaves, and only for a started command.
                self.command = end.1.is_success().then(|| self.files.pid()).flatten();
                return Ok(self.command.is_some());
            }
            self.ends.push(end);
        }
        Ok(false)
    }

    /// Why the runtime did not start the command, by its own words.
    pub(super) async fn refused(&self, words: &[u8]) -> RuntimeError {
        // A container that ends meanwhile makes the runtime fail in a dozen ways.
        let over = tokio::time::timeout(Duration::ZERO, self.container.ended()).await;
        if self.orphaned || over.is_ok() {
            return ended(&self.id);
        }
        match refusal(VERB, &self.id, words) {
            RuntimeError::Refused { id, said, .. } if said.contains("paused container") => {
                RuntimeError::NotRunning { id, said }
            }
            error => error,
        }
    }

    /// Waits for the end of a started command. One whose
    /// container ends is killed. May be dropped and called again.
    pub(super) async fn ended(&mut self) -> io::Result<Exit> {
        loop {
            let seen = self.ends.iter().find(|(pid, _)| Some(*pid) == self.command);
            if let Some((_, exit)) = seen {
                return Ok(*exit);
            }
            let end = self.report().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
            self.ends.push(end);
        }
    }

    /// The next end below the keeper. From the container's end on, everything there is killed until
    /// there is nothing left; more than once, for what is just being started.
    async fn report(&mut self) -> io::Result<Option<(i32, Exit)>> {
        loop {
            tokio::select! {
                biased;
                report = self.kept.report() => {
                    return report.map(|report| report.map(|report| (report.pid, report.exit)));
                }
                over = self.container.ended(), if !self.orphaned => over?,
                () = tokio::time::sleep(LINGER), if self.orphaned => {}
            }
            self.orphaned = true;
            self.kept.kill_all();
        }
    }

    /// Lets what the command left in the background live on in its container, if that lives.
    pub(super) async fn release(self) {
        if self.orphaned { self.kept.end().await } else { self.kept.release() }
    }

    /// Kills the command and all that it started, and waits until they are gone.
    pub(super) async fn kill(self) {
        self.kept.end().await;
    }

    /// That the command cannot be followed.
    pub(super) fn fault(&self, source: io::Error) -> RuntimeError {
        let command = self.text.clone();
        run(&self.id, ProcessError::Follow { command, source })
    }
}

impl Files {
    fn process_file(&self) -> PathBuf {
        self.directory.join("process.json")
    }

    fn pid_file(&self) -> PathBuf {
        self.directory.join("pid")
    }

    /// The command's number in the host, as the runtime wrote it.
    fn pid(&self) -> Option<i32> {
        let bytes = files::read(&self.pid_file(), 32, files::Links::Refuse).ok()?;
        std::str::from_utf8(&bytes).ok()?.trim().parse().ok()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = files::remove_tree(&self.directory);
    }
}
