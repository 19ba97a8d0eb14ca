//! Channels over WebSocket: the first byte of a message says which stream the rest belongs to.
//!
//! There is no flow control here: a client that sends more than a stream takes makes the whole
//! connection wait.

mod channels;
mod tunnel;

use std::io;

use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

pub(super) use channels::Codec;
pub(super) use channels::Control;
pub(super) use channels::open;
pub(super) use tunnel::tunnel;

use crate::streaming::line::Ended;

/// The largest message that is taken, in bytes. Go's and Kubernetes' clients send 32 KiB at most.
const MESSAGE_LIMIT: usize = 4 * 1024 * 1024;

/// Speaks WebSocket on a connection whose handshake is done.
async fn server<T: AsyncRead + AsyncWrite + Unpin>(io: T) -> WebSocketStream<T> {
    let config = WebSocketConfig::default()
        .read_buffer_size(64 * 1024)
        .max_message_size(Some(MESSAGE_LIMIT))
        .max_frame_size(Some(MESSAGE_LIMIT));
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}

/// Why there is no more traffic, when the library says so.
fn ended(error: Error) -> Ended {
    match error {
        Error::ConnectionClosed | Error::AlreadyClosed => Ended::Client,
        Error::Io(error) => match error.kind() {
            io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::UnexpectedEof => Ended::Client,
            _ => Ended::Broken(error),
        },
        // A client that just hangs up is a client that went away.
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Ended::Client,
        error => Ended::WebSocket(Box::new(error)),
    }
}
