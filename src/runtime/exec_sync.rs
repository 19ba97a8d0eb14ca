//! Runs a command in a container to its end and gives its output: probes and hooks.
//!
//! The time is kept to the millisecond, and a process that the command leaves in the background,
//! holding a pipe, is not waited for.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use crate::runtime::Runtime;
use crate::runtime::command::Exec;
use crate::runtime::command::Job;
use crate::runtime::command::LINGER;
use crate::runtime::command::Launched;
use crate::runtime::command::Wanted;
use crate::runtime::error::RuntimeError;
use crate::sys::process::Exit;

/// How much of both streams together is kept; the rest is read and dropped (as CRI-O does).
const OUTPUT_LIMIT: usize = 16 * 1024 * 1024;

/// What the kubelet looks for when a probe took too long.
const TIMED_OUT: &[u8] = b"command timed out";

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

impl Runtime {
    /// Runs a command in a container to its end, without a terminal; `timeout` is the time it has,
    /// `None` is for ever. When this future is dropped, the command is killed.
    ///
    /// A command whose time is over is an answer, not an error: exit code −1 and the words that
    /// the kubelet looks for. So is one that is killed because its container ends: 137.
    ///
    /// # Errors
    ///
    /// [`RuntimeError::NotRunning`] when the container does not run, [`RuntimeError::Refused`]
    /// when the command cannot be started in it, and what keeps the runtime from being asked.
    pub async fn exec_sync(
        &self,
        mut request: Exec,
        timeout: Option<Duration>,
    ) -> Result<Executed, RuntimeError> {
        request.process.set_terminal(Some(false));
        let launched = self.launch(&request, Wanted::Pipes { stdin: false, stdout: true })?;
        let Launched { mut job, stdout, stderr, .. } = launched;
        let stdout = stdout.ok_or_else(|| job.fault(std::io::ErrorKind::BrokenPipe.into()))?;
        let mut streams = Streams::new(stdout, stderr);
        let ended = follow_to_end(&mut job, &mut streams);
        let ended = match timeout {
            Some(timeout) => tokio::time::timeout(timeout, ended).await,
            None => Ok(ended.await),
        };
        let Streams { stdout, stderr, .. } = streams;
        match ended {
            Err(_) => {
                job.kill().await;
                Ok(Executed { exit_code: -1, stdout, stderr: TIMED_OUT.to_vec() })
            }
            Ok(Err(source)) => Err(job.fault(source)),
            Ok(Ok(None)) => Err(job.refused(&stderr).await),
            Ok(Ok(Some(exit))) => {
                job.release().await;
                Ok(Executed { exit_code: exit.shell_code(), stdout, stderr })
            }
        }
    }
}

/// Both streams of a command, kept to the common limit.
struct Streams {
    pipes: Option<(pipe::Receiver, pipe::Receiver)>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Streams {
    fn new(stdout: pipe::Receiver, stderr: pipe::Receiver) -> Self {
        Self { pipes: Some((stdout, stderr)), stdout: Vec::new(), stderr: Vec::new() }
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
async fn follow_to_end(job: &mut Job, streams: &mut Streams) -> std::io::Result<Option<Exit>> {
    let exit = {
        let mut end = std::pin::pin!(async {
            if job.is_started().await? { job.ended().await.map(Some) } else { Ok(None) }
        });
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
