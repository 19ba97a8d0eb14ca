//! Another protocol within WebSocket: the bytes of its messages, one behind the other.

use std::io;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

use bytes::Buf;
use bytes::Bytes;
use futures_util::Sink;
use futures_util::Stream;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::Message;

use crate::streaming::pipe::PIECE;
use crate::streaming::websocket;

/// A connection within a connection.
#[derive(Debug)]
pub(in crate::streaming) struct Tunnel<T> {
    outer: WebSocketStream<T>,
    current: Bytes,
}

/// Takes what is spoken on `io` out of its messages.
pub(in crate::streaming) async fn tunnel<T>(io: T) -> Tunnel<T>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    Tunnel { outer: websocket::server(io).await, current: Bytes::new() }
}

fn fault(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        Error::ConnectionClosed | Error::AlreadyClosed => io::ErrorKind::BrokenPipe.into(),
        error => io::Error::new(io::ErrorKind::InvalidData, error),
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Tunnel<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.current.is_empty() {
            match ready!(Pin::new(&mut self.outer).poll_next(context)) {
                Some(Ok(Message::Binary(bytes))) => self.current = bytes,
                None | Some(Ok(Message::Close(_))) => return Poll::Ready(Ok(())),
                Some(Ok(Message::Text(_))) => {
                    let text = "text in a tunnel of bytes";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, text)));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Err(error)) => return Poll::Ready(Err(fault(error))),
            }
        }
        let amount = self.current.len().min(into.remaining());
        into.put_slice(self.current.get(..amount).unwrap_or_default());
        self.current.advance(amount);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Tunnel<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.outer).poll_ready(context)).map_err(fault)?;
        let piece = bytes.get(..bytes.len().min(PIECE)).unwrap_or_default();
        let message = Message::Binary(Bytes::copy_from_slice(piece));
        Pin::new(&mut self.outer).start_send(message).map_err(fault)?;
        Poll::Ready(Ok(piece.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.outer).poll_flush(context).map_err(fault)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.outer).poll_close(context).map_err(fault)
    }
}
