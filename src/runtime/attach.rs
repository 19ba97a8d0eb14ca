//! Joins a client to the streams of a container's first process: `kubectl attach`.
//!
//! The monitor holds these streams. It takes any number of clients on a socket of packets, copies
//! to each what the process writes, and hands on what they say. A packet from it begins with a
//! byte that names the stream; one to it is plain bytes.
//!
//! The monitor waits for a client that does not read, and the container's output and log wait with
//! it: what a client is slow at is never stored. Only when the container has ended is a client not
//! waited for any more, as the monitor must come to writing down that end.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use crate::model::ids::ContainerId;
use crate::model::streams::Input;
use crate::model::streams::Output;
use crate::model::streams::ProcessStreams;
use crate::model::streams::TerminalSize;
use crate::runtime::Runtime;
use crate::runtime::command::ended;
use crate::runtime::control;
use crate::runtime::control::Order;
use crate::runtime::error::RuntimeError;
use crate::sys::process::Stranger;
use crate::sys::seqpacket::SeqPacket;

/// The most bytes of a stream that the monitor puts into a packet, and that we do.
const PAYLOAD: usize = 8192;

/// The first byte of a packet that comes from the standard output.
const STDOUT: u8 = 2;
/// The first byte of a packet that comes from the standard error stream.
const STDERR: u8 = 3;

/// How long a monitor may have too many clients waiting for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long after the end of a container its client may take to read the rest.
const AFTER_END: Duration = Duration::from_secs(10);

/// What a client types to leave a container without ending it: control and P, control and Q.
const DETACH: [u8; 2] = [0x10, 0x11];

/// A container to attach to.
#[derive(Debug, Clone)]
pub struct Attach {
    /// The container.
    pub id: ContainerId,
    /// Its first process.
    pub first_process: i32,
    /// Its bundle, where the monitor's socket and control file are.
    pub bundle: PathBuf,
    /// What becomes of the client's input.
    pub stdin: Stdin,
}

/// What becomes of the input of a container's client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stdin {
    /// The container has no standard input.
    None,
    /// It stays open for the next client; a client that is at its end leaves.
    KeptOpen,
    /// Its end is the client's, who stays for the output.
    Once,
    /// A terminal, which has no end; the client may type the keys that detach it.
    Terminal {
        /// A client whose input ends stays for the output. Without this it leaves: `crictl attach`
        /// looks for the two keys itself, and then only ends its input.
        once: bool,
    },
}

impl Runtime {
    /// Joins a client to a container until one of them goes. When this future is dropped, the
    /// client has gone.
    ///
    /// # Errors
    ///
    /// [`RuntimeError::NotRunning`], [`RuntimeError::MonitorGone`], [`RuntimeError::Attach`].
    pub async fn attach(
        &self,
        request: Attach,
        streams: ProcessStreams,
    ) -> Result<(), RuntimeError> {
        let container = Stranger::open(request.first_process).map_err(|_| ended(&request.id))?;
        let socket = connect(&request).await?;
        let failed = |source| RuntimeError::Attach { id: request.id.to_string(), source };
        let left_behind = async {
            let _ = container.ended().await;
            tokio::time::sleep(AFTER_END).await;
        };
        let sizes = async {
            follow_sizes(&request, streams.sizes).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            received = receive(&socket, streams.stdout, streams.stderr) => received.map_err(failed),
            () = send(&socket, streams.stdin, request.stdin) => Ok(()),
            () = left_behind => Ok(()),
            () = sizes => Ok(()),
        }
    }
}

/// The connection to the monitor, which may have a queue before it.
async fn connect(request: &Attach) -> Result<SeqPacket, RuntimeError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            RuntimeError::MonitorGone { bundle: request.bundle.clone() }
        }
        _ => RuntimeError::Attach { id: request.id.to_string(), source },
    };
    let patient = async {
        loop {
            match SeqPacket::connect(&request.bundle, "attach") {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                connected => return connected,
            }
        }
    };
    let connected = tokio::time::timeout(PATIENCE, patient).await;
    connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(failed)
}

/// Hands on what the container writes, until the monitor goes.
async fn receive(
    socket: &SeqPacket,
    mut stdout: Option<Output>,
    mut stderr: Option<Output>,
) -> io::Result<()> {
    let mut packet = vec![0; PAYLOAD + 1];
    loop {
        let length = socket.receive(&mut packet).await?;
        let (client, bytes) = match packet.get(..length).and_then(<[u8]>::split_first) {
            None => break,
            Some((&STDOUT, bytes)) => (&mut stdout, bytes),
            Some((&STDERR, bytes)) => (&mut stderr, bytes),
            Some(_) => continue,
        };
        if let Some(to) = client
            && (to.write_all(bytes).await.is_err() || to.flush().await.is_err())
        {
            *client = None;
        }
    }
    for mut client in [stdout, stderr].into_iter().flatten() {
        let _ = client.shutdown().await;
    }
    Ok(())
}

/// Hands on what a client says; comes to an end only when the client leaves with it.
async fn send(socket: &SeqPacket, client: Option<Input>, stdin: Stdin) {
    let Some(mut client) = client.filter(|_| stdin != Stdin::None) else {
        return std::future::pending().await;
    };
    let mut keys = DetachKeys::default();
    let mut buffer = vec![0; PAYLOAD - 1];
    loop {
        let read = client.read(&mut buffer).await.unwrap_or(0);
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        let (bytes, leaves) = match stdin {
            Stdin::Terminal { .. } => keys.take(bytes),
            Stdin::None | Stdin::KeptOpen | Stdin::Once => (bytes.to_vec(), false),
        };
        // An empty packet would be the end.
        if !bytes.is_empty() && socket.send(&bytes).await.is_err() {
            break;
        }
        if leaves {
            return;
        }
    }
    if matches!(stdin, Stdin::KeptOpen | Stdin::Terminal { once: false }) {
        return;
    }
    // The monitor ends the container's input; a terminal stays.
    let _ = socket.end_sending();
    std::future::pending().await
}

async fn follow_sizes(request: &Attach, sizes: Option<mpsc::Receiver<TerminalSize>>) {
    let Some(mut sizes) = sizes else { return };
    while let Some(size) = sizes.recv().await {
        if let Err(error) = control::tell(&request.bundle, Order::Resize(size)) {
            tracing::debug!(container = %request.id, %error, "its terminal has not taken its size");
        }
    }
}

/// Looks for the keys that detach, which may come in one piece or each by itself.
#[derive(Debug, Default)]
pub(super) struct DetachKeys {
    /// Whether the last byte was the first key, which is held back until the next.
    begun: bool,
}

impl DetachKeys {
    /// Gives what is to be handed on, and whether the client leaves after it.
    pub(super) fn take(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        let [first, second] = DETACH;
        let mut handed_on = Vec::with_capacity(bytes.len() + 1);
        for byte in bytes {
            match (std::mem::take(&mut self.begun), *byte) {
                (true, key) if key == second => return (handed_on, true),
                (was_begun, key) => {
                    handed_on.extend(was_begun.then_some(first));
                    self.begun = key == first;
                    handed_on.extend((key != first).then_some(key));
                }
            }
        }
        (handed_on, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_keys_detach_in_whatever_pieces_they_come() {
        for (pieces, handed_on, leaves) in [
            (&["ab"][..], "ab", false),
            (&["a\u{10}\u{11}b"], "a", true),
            (&["a\u{10}", "\u{11}b"], "a", true),
            (&["\u{10}", "b\u{11}"], "\u{10}b\u{11}", false),
            (&["\u{10}\u{10}", "\u{11}"], "\u{10}", true),
            (&["\u{11}\u{10}"], "\u{11}", false),
        ] {
            let mut keys = DetachKeys::default();
            let (mut all, mut left) = (Vec::new(), false);
            for piece in pieces {
                let (bytes, leaves) = keys.take(piece.as_bytes());
                all.extend(bytes);
                left |= leaves;
            }
            assert_eq!((all.as_slice(), left), (handed_on.as_bytes(), leaves), "{pieces:?}");
        }
    }
}
