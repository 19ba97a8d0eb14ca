//! The streams of a process that somebody talks to, as exec and attach have them.

use std::fmt;

use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;

/// Bytes that come from the client.
pub type Input = Box<dyn AsyncRead + Send + Unpin>;
/// Bytes that go to the client; dropped, or shut down, the client sees its end.
pub type Output = Box<dyn AsyncWrite + Send + Unpin>;

/// What a client has opened; what it did not open is `None`.
#[derive(Default)]
pub struct ProcessStreams {
    /// Its end is the end of the process's standard input (a half-close), not of the process.
    pub stdin: Option<Input>,
    /// Standard output; with a terminal, everything.
    pub stdout: Option<Output>,
    /// Standard error; never with a terminal.
    pub stderr: Option<Output>,
    /// Sizes of the client's terminal, as it changes.
    pub sizes: Option<mpsc::Receiver<TerminalSize>>,
}

impl fmt::Debug for ProcessStreams {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("ProcessStreams")
            .field("stdin", &self.stdin.is_some())
            .field("stdout", &self.stdout.is_some())
            .field("stderr", &self.stderr.is_some())
            .field("sizes", &self.sizes.is_some())
            .finish()
    }
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}
