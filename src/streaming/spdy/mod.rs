//! SPDY/3.1, the server's side, as far as the kubelet's clients speak it.
//!
//! The protocol has flow control by windows, and no client of Kubernetes keeps it: none announces
//! a window, and none waits for ours. So the windows that a client announces are checked and not
//! waited for, we announce none, and what makes a sender wait is TCP.

mod dictionary;
mod frame;
#[cfg(feature = "fuzzing")]
pub(super) mod fuzzing;
mod headers;
mod read;
mod streams;
mod write;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;

pub(super) use frame::FrameError;
pub(super) use frame::GoAway;
pub(super) use frame::Reset;
pub(super) use headers::Headers;

use crate::streaming::line::Ended;
use crate::streaming::line::Line;
use crate::streaming::pipe;
use crate::streaming::pipe::Incoming;
use crate::streaming::pipe::Item;
use crate::streaming::pipe::Outbox;
use crate::streaming::pipe::Outgoing;
use crate::streaming::pipe::Queue;
use crate::streaming::spdy::read::Reader;
use crate::streaming::spdy::streams::Streams;

/// What only a connection of SPDY sends.
#[derive(Debug)]
pub(super) enum Control {
    /// The stream is accepted.
    Reply(u32),
    /// The stream is ended at once.
    Reset(u32, Reset),
    /// Somebody is here.
    Ping(u32),
    /// No more; what follows is the end of the connection.
    GoAway(GoAway),
}

/// Whether a stream with these headers is taken.
pub(super) type Admit = fn(&Headers) -> bool;

/// A stream that the client opened.
#[derive(Debug)]
pub(super) struct Stream {
    /// Its number.
    pub(super) id: u32,
    /// What it is for.
    pub(super) headers: Headers,
    /// What comes from the client.
    pub(super) incoming: Incoming,
    /// What goes to the client.
    pub(super) outgoing: Outgoing<Control>,
}

/// A connection, seen by who works for the client.
#[derive(Debug)]
pub(super) struct Session {
    opened: mpsc::Receiver<Stream>,
    outbox: Outbox<Control>,
}

impl Session {
    /// The next stream that the client opens; `None` at the end of the connection.
    pub(super) async fn next(&mut self) -> Option<Stream> {
        self.opened.recv().await
    }

    /// Says goodbye: what was written before is still sent.
    pub(super) fn close(&self) {
        self.outbox.push(Item::Control(Control::GoAway(GoAway::Ok)));
    }
}

/// Speaks SPDY on `io`: the first part is the traffic, and goes on only while it is polled. At most
/// `limit` streams are open at a time, of which `admit` has a say.
pub(super) fn open<T>(
    io: T,
    line: Arc<Line>,
    limit: usize,
    admit: Admit,
) -> (impl Future<Output = Ended> + Send, Session)
where
    T: AsyncRead + AsyncWrite + Send,
{
    let (outbox, queue) = pipe::outbox();
    let (sender, opened) = mpsc::channel(limit);
    let streams = Arc::new(Streams::new(limit));
    let (from, to) = tokio::io::split(io);
    let reader = Reader::new(from, Arc::clone(&line), Arc::clone(&streams), outbox.clone());
    let traffic = traffic(reader.run(sender, admit), to, queue, line, streams, outbox.clone());
    (traffic, Session { opened, outbox })
}

async fn traffic(
    reads: impl Future<Output = Ended>,
    to: impl AsyncWrite + Unpin,
    queue: Queue<Control>,
    line: Arc<Line>,
    streams: Arc<Streams>,
    outbox: Outbox<Control>,
) -> Ended {
    let mut reads = pin!(reads);
    let mut writes = pin!(write::run(to, queue, &line, &streams));
    let ended = tokio::select! {
        ended = &mut reads => ended,
        ended = &mut writes => match ended {
            // All is said; the client reads it, and hangs up.
            Ended::Done => return reads.await,
            ended => return ended,
        },
    };
    if matches!(ended, Ended::Protocol(_)) {
        outbox.push(Item::Control(Control::GoAway(GoAway::Protocol)));
        line.linger(writes).await;
    }
    ended
}

#[cfg(test)]
mod tests;
