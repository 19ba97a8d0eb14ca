//! Runs a command in a container for a client that talks to it: `kubectl exec`.
//!
//! Bytes are handed on as they come, one buffer at a time and no more: a client that does not read
//! stops the command from writing, and a command that does not read stops its client. The client
//! has everything that the command wrote before it has the exit code, and a process that the
//! command leaves in the background, holding its streams, is not waited for.

use std::convert::Infallible;

use oci_spec::runtime::BoxBuilder;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::sync::watch;

use crate::model::streams::Input;
use crate::model::streams::Output;
use crate::model::streams::ProcessStreams;
use crate::model::streams::TerminalSize;
use crate::runtime::Runtime;
use crate::runtime::command::Exec;
use crate::runtime::command::Job;
use crate::runtime::command::LINGER;
use crate::runtime::command::Launched;
use crate::runtime::command::Wanted;
use crate::runtime::error::RuntimeError;
use crate::sys::pty::Terminal;

/// How much of a stream is under way at a time.
const BUFFER: usize = 32 * 1024;

/// How much is read of a stream at most after the command's end: more than the kernel holds of
/// what it wrote itself (`/proc/sys/fs/pipe-max-size`), less than what others may go on writing.
const AFTER_END: usize = 1024 * 1024;

impl Runtime {
    /// Runs a command in a container, joined to a client's streams, and gives its exit code: 128
    /// and the signal for a killed one. When this future is dropped, the command is killed.
    ///
    /// Whether it gets a terminal stands in the request.
    ///
    /// # Errors
    ///
    /// [`RuntimeError::NotRunning`] when the container does not run, [`RuntimeError::Refused`]
    /// when the command cannot be started in it, and what keeps the runtime from being asked.
    pub async fn exec(
        &self,
        mut request: Exec,
        mut streams: ProcessStreams,
    ) -> Result<i32, RuntimeError> {
        if request.process.terminal() == Some(true) {
            // What is known of the size by now, the command sees from its beginning.
            if let Some(size) = streams.sizes.as_mut().and_then(|sizes| sizes.try_recv().ok()) {
                request.process.set_console_size(console_size(size));
            }
            let launched = self.launch(&request, Wanted::Terminal)?;
            return with_terminal(launched, streams).await;
        }
        let (stdin, stdout) = (streams.stdin.is_some(), streams.stdout.is_some());
        let launched = self.launch(&request, Wanted::Pipes { stdin, stdout })?;
        with_pipes(launched, streams).await
    }
}

async fn with_pipes(launched: Launched, streams: ProcessStreams) -> Result<i32, RuntimeError> {
    let Launched { mut job, stdin, stdout, mut stderr, .. } = launched;
    job.started(&mut stderr).await?;
    let feed = async {
        if let (Some(client), Some(stdin)) = (streams.stdin, stdin) {
            feed(client, stdin).await;
        }
        std::future::pending().await
    };
    let over = watch::Sender::new(false);
    let outputs = async {
        let out = async {
            if let Some(stdout) = stdout {
                forward(stdout, streams.stdout, over.subscribe()).await;
            }
        };
        tokio::join!(out, forward(stderr, streams.stderr, over.subscribe()));
    };
    to_the_end(job, &over, feed, outputs).await
}

async fn with_terminal(launched: Launched, streams: ProcessStreams) -> Result<i32, RuntimeError> {
    let Launched { mut job, console, mut stderr, .. } = launched;
    let console = console.ok_or_else(|| job.fault(std::io::ErrorKind::BrokenPipe.into()))?;
    let terminal = {
        let mut received = std::pin::pin!(console.receive());
        let mut started = std::pin::pin!(job.started(&mut stderr));
        tokio::select! {
            biased;
            terminal = &mut received => {
                started.await?;
                terminal
            }
            started = &mut started => {
                started?;
                // It was handed over before the command was started.
                received.await
            }
        }
    };
    let terminal = terminal.map_err(|source| job.fault(source))?;
    let feed = async {
        let input = async {
            if let Some(client) = streams.stdin {
                feed(client, &terminal).await;
            }
        };
        tokio::join!(input, follow_sizes(&terminal, streams.sizes));
        std::future::pending().await
    };
    let over = watch::Sender::new(false);
    let outputs = forward(&terminal, streams.stdout, over.subscribe());
    to_the_end(job, &over, feed, outputs).await
}

/// Waits for the command's end and then for the rest of its output.
async fn to_the_end(
    mut job: Job,
    over: &watch::Sender<bool>,
    feed: impl Future<Output = Infallible>,
    outputs: impl Future<Output = ()>,
) -> Result<i32, RuntimeError> {
    let exit = {
        let ended = async {
            let exit = job.ended().await;
            over.send_replace(true);
            exit
        };
        tokio::select! {
            (exit, ()) = async { tokio::join!(ended, outputs) } => exit,
            never = feed => match never {},
        }
    };
    let exit = exit.map_err(|source| job.fault(source))?;
    job.release().await;
    Ok(exit.shell_code())
}

/// Hands on what a client says, to its end: then the process sees the end of its input.
async fn feed(mut client: Input, mut process: impl AsyncWrite + Unpin) {
    let mut buffer = vec![0; BUFFER];
    loop {
        // A client whose connection breaks says no more, as one who is at the end.
        let read = client.read(&mut buffer).await.unwrap_or(0);
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { return };
        // A process that does not read its input is free to do so.
        if process.write_all(bytes).await.is_err() {
            return;
        }
    }
}

/// Hands on what a process writes, to the stream's end, or as far as the command itself wrote it
/// when others hold the stream. Without a client, or when it has gone, the process is not stopped:
/// its words are dropped.
async fn forward(
    mut process: impl AsyncRead + Unpin,
    mut client: Option<Output>,
    mut over: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; BUFFER];
    let mut left = AFTER_END;
    let ended = over.clone();
    let mut lingered = std::pin::pin!(async {
        let _ = over.wait_for(|over| *over).await;
        tokio::time::sleep(LINGER).await;
    });
    while left > 0 {
        let read = tokio::select! {
            biased;
            read = process.read(&mut buffer) => read.unwrap_or(0),
            () = &mut lingered => 0,
        };
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        if *ended.borrow() {
            left = left.saturating_sub(read);
        }
        if let Some(to) = client.as_mut()
            && (to.write_all(bytes).await.is_err() || to.flush().await.is_err())
        {
            client = None;
        }
    }
    if let Some(mut client) = client {
        let _ = client.shutdown().await;
    }
}

async fn follow_sizes(terminal: &Terminal, sizes: Option<mpsc::Receiver<TerminalSize>>) {
    let Some(mut sizes) = sizes else { return };
    while let Some(size) = sizes.recv().await {
        resize(terminal, size);
    }
}

fn console_size(size: TerminalSize) -> Option<oci_spec::runtime::Box> {
    let (height, width) = (u64::from(size.height), u64::from(size.width));
    BoxBuilder::default().height(height).width(width).build().ok()
}

fn resize(terminal: &Terminal, size: TerminalSize) {
    if let Err(error) = terminal.resize(size.width, size.height) {
        tracing::debug!(%error, "a terminal has not taken its size");
    }
}
