//! The two ends of a stream within a connection: what comes from the client, what goes to it.
//!
//! Many streams share one connection, so each has a short queue of its own for what comes in, and
//! all share one for what goes out. Both are bounded: a reader that is slow makes the connection
//! wait, and with it the client, by TCP itself.
//!
//! The end of a stream and the end of the connection are different things: only the first is an
//! end of the input, so that a client that vanishes half-way does not look like one that is done.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

use bytes::Buf;
use bytes::Bytes;
use tokio::io::AsyncBufRead;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio_util::sync::PollSemaphore;

/// The most bytes of a stream in one piece.
pub(super) const PIECE: usize = 32 * 1024;
/// How many pieces of one stream may wait for its reader.
const PIECES_IN: usize = 8;
/// How many pieces of a connection may wait to be sent.
const PIECES_OUT: usize = 16;

/// Where the connection puts what came for a stream.
#[derive(Debug, Clone)]
pub(super) struct Feed {
    pieces: mpsc::Sender<Bytes>,
    finished: Arc<AtomicBool>,
}

impl Feed {
    /// Waits until there is room, and puts the piece there. Nobody reads any more: it is dropped.
    pub(super) async fn put(&self, piece: Bytes) {
        let _ = self.pieces.send(piece).await;
    }

    /// The client ended the stream: the reader sees its end, behind what was put before.
    pub(super) fn finish(self) {
        self.finished.store(true, Ordering::Release);
    }

    /// Whether nobody reads any more.
    pub(super) fn is_closed(&self) -> bool {
        self.pieces.is_closed()
    }
}

/// What comes from the client.
#[derive(Debug)]
pub(super) struct Incoming {
    pieces: mpsc::Receiver<Bytes>,
    current: Bytes,
    finished: Arc<AtomicBool>,
}

/// A new stream from the client.
pub(super) fn incoming() -> (Feed, Incoming) {
    let (sender, pieces) = mpsc::channel(PIECES_IN);
    let finished = Arc::new(AtomicBool::new(false));
    let feed = Feed { pieces: sender, finished: Arc::clone(&finished) };
    (feed, Incoming { pieces, current: Bytes::new(), finished })
}

impl AsyncBufRead for Incoming {
    fn poll_fill_buf(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        while this.current.is_empty() {
            match ready!(this.pieces.poll_recv(context)) {
                Some(piece) => this.current = piece,
                None if this.finished.load(Ordering::Acquire) => break,
                None => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            }
        }
        Poll::Ready(Ok(&this.current))
    }

    fn consume(mut self: Pin<&mut Self>, amount: usize) {
        self.current.advance(amount);
    }
}

impl AsyncRead for Incoming {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let available = ready!(self.as_mut().poll_fill_buf(context))?;
        let amount = available.len().min(into.remaining());
        into.put_slice(available.get(..amount).unwrap_or_default());
        self.consume(amount);
        Poll::Ready(Ok(()))
    }
}

/// What is to be sent. `C` is what only this kind of connection knows.
#[derive(Debug)]
pub(super) enum Item<C> {
    /// Bytes of a stream.
    Data(u32, Bytes),
    /// The end of a stream.
    End(u32),
    /// Anything else.
    Control(C),
}

/// An item on its way, and its place in the queue.
#[derive(Debug)]
pub(super) struct Queued<C> {
    pub(super) item: Item<C>,
    _place: Option<OwnedSemaphorePermit>,
}

/// Where everything goes that is to be sent.
#[derive(Debug)]
pub(super) struct Outbox<C> {
    items: mpsc::UnboundedSender<Queued<C>>,
    places: Arc<Semaphore>,
}

impl<C> Clone for Outbox<C> {
    fn clone(&self) -> Self {
        Self { items: self.items.clone(), places: Arc::clone(&self.places) }
    }
}

/// What is to be sent, seen by the connection. Dropped, it fails all who still write.
#[derive(Debug)]
pub(super) struct Queue<C> {
    items: mpsc::UnboundedReceiver<Queued<C>>,
    places: Arc<Semaphore>,
}

impl<C> Queue<C> {
    /// The next item, if there is one already.
    pub(super) fn at_once(&mut self) -> Option<Queued<C>> {
        self.items.try_recv().ok()
    }

    /// The next item; `None` when nobody can send any more.
    pub(super) async fn next(&mut self) -> Option<Queued<C>> {
        self.items.recv().await
    }
}

impl<C> Drop for Queue<C> {
    fn drop(&mut self) {
        self.places.close();
    }
}

/// A new way out.
pub(super) fn outbox<C>() -> (Outbox<C>, Queue<C>) {
    let (sender, items) = mpsc::unbounded_channel();
    let places = Arc::new(Semaphore::new(PIECES_OUT));
    (Outbox { items: sender, places: Arc::clone(&places) }, Queue { items, places })
}

impl<C> Outbox<C> {
    /// Sends what is rare, at once: the few things that happen once for each stream.
    pub(super) fn push(&self, item: Item<C>) {
        let _ = self.items.send(Queued { item, _place: None });
    }

    /// Sends what a client can make us send as often as it likes: in its turn.
    pub(super) async fn answer(&self, control: C) {
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        let _ = self.items.send(Queued { item: Item::Control(control), _place: place });
    }

    /// The stream with this number, to write to.
    pub(super) fn outgoing(&self, stream: u32, gone: Arc<AtomicBool>) -> Outgoing<C> {
        let places = PollSemaphore::new(Arc::clone(&self.places));
        Outgoing { stream, outbox: self.clone(), places, gone, ended: false }
    }
}

/// What goes to the client. Shut down or dropped, the client sees its end.
#[derive(Debug)]
pub(super) struct Outgoing<C> {
    stream: u32,
    outbox: Outbox<C>,
    places: PollSemaphore,
    gone: Arc<AtomicBool>,
    ended: bool,
}

impl<C> Outgoing<C> {
    /// Sends a last word without waiting, and ends the stream.
    pub(super) fn last_word(self, text: Vec<u8>) {
        if !text.is_empty() {
            self.outbox.push(Item::Data(self.stream, text.into()));
        }
    }

    /// Sends a first message, also an empty one.
    pub(super) fn first_word(&self, bytes: &[u8]) {
        self.outbox.push(Item::Data(self.stream, Bytes::copy_from_slice(bytes)));
    }

    fn end(&mut self) {
        if !self.ended {
            self.ended = true;
            self.outbox.push(Item::End(self.stream));
        }
    }
}

impl<C> AsyncWrite for Outgoing<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let broken = || Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let Some(place) = ready!(self.places.poll_acquire(context)) else { return broken() };
        if self.ended || self.gone.load(Ordering::Acquire) {
            return broken();
        }
        let piece = bytes.get(..bytes.len().min(PIECE)).unwrap_or_default();
        let item = Item::Data(self.stream, Bytes::copy_from_slice(piece));
        match self.outbox.items.send(Queued { item, _place: Some(place) }) {
            Ok(()) => Poll::Ready(Ok(piece.len())),
            Err(_) => broken(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end();
        Poll::Ready(Ok(()))
    }
}

impl<C> Drop for Outgoing<C> {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn the_end_of_a_stream_and_of_its_connection_are_told_apart() {
        for finished in [true, false] {
            let (feed, mut incoming) = incoming();
            feed.put(Bytes::from_static(b"abc")).await;
            if finished {
                feed.finish();
            } else {
                drop(feed);
            }
            let mut text = Vec::new();
            let end = incoming.read_to_end(&mut text).await;
            assert_eq!((text.as_slice(), end.is_ok()), (b"abc".as_slice(), finished));
        }
    }

    #[tokio::test]
    async fn a_stream_that_nobody_reads_takes_so_much_and_no_more() {
        let (feed, incoming) = incoming();
        for _ in 0..PIECES_IN {
            feed.put(Bytes::from_static(b"x")).await;
        }
        let mut waits = Box::pin(feed.put(Bytes::from_static(b"x")));
        assert!(futures_util::poll!(&mut waits).is_pending());
        drop(incoming);
        waits.await;
        assert!(feed.is_closed());
    }

    #[tokio::test]
    async fn what_is_not_sent_makes_writers_wait_and_the_end_of_the_connection_fails_them() {
        let (outbox, mut queue) = outbox::<()>();
        let mut outgoing = outbox.outgoing(7, Arc::default());
        for _ in 0..PIECES_OUT {
            assert_eq!(outgoing.write(&[1; 2 * PIECE]).await.unwrap(), PIECE);
        }
        let mut waits = Box::pin(outgoing.write(b"more"));
        assert!(futures_util::poll!(&mut waits).is_pending());
        let sent = queue.at_once().unwrap();
        assert!(matches!(&sent.item, Item::Data(7, bytes) if bytes.len() == PIECE));
        drop(sent);
        assert_eq!(waits.await.unwrap(), 4);
        drop(queue);
        assert_eq!(outgoing.write(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn a_stream_ends_once_and_behind_its_bytes() {
        let (outbox, mut queue) = outbox::<()>();
        let mut outgoing = outbox.outgoing(7, Arc::default());
        outgoing.write_all(b"x").await.unwrap();
        outgoing.shutdown().await.unwrap();
        drop(outgoing);
        assert!(matches!(queue.next().await.unwrap().item, Item::Data(7, _)));
        assert!(matches!(queue.next().await.unwrap().item, Item::End(7)));
        assert!(queue.at_once().is_none());
    }
}
