//! The open streams of a connection, and which side has ended which.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use crate::streaming::pipe::Feed;
use crate::streaming::spdy::frame::Reset;

/// How much a peer may be sent before it says so.
const FIRST_WINDOW: u32 = 64 * 1024;
/// The largest window.
const WINDOW_LIMIT: u32 = 0x7fff_ffff;

/// The open streams, by their number.
#[derive(Debug)]
pub(super) struct Streams {
    limit: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    open: HashMap<u32, Open>,
    /// The highest number that the client used.
    last: u32,
    /// The window of the whole connection.
    window: u32,
}

#[derive(Debug)]
struct Open {
    /// `None` once the client has ended its side.
    feed: Option<Feed>,
    /// Set when the stream is over for both.
    gone: Arc<AtomicBool>,
    /// Whether we have ended our side.
    ended: bool,
    window: u32,
}

/// What to do with bytes that came for a stream.
#[derive(Debug)]
pub(super) enum Arrived {
    /// Put them there.
    Put(Feed),
    /// Nobody wants them; the client may not know that yet.
    Drop,
    /// Nobody wants them, and it is time to say so.
    Reset(Reset),
}

impl Streams {
    /// No streams yet; at most `limit` at a time.
    pub(super) fn new(limit: usize) -> Self {
        let inner = Inner { open: HashMap::new(), last: 0, window: FIRST_WINDOW };
        Self { limit, inner: Mutex::new(inner) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client opens a stream. Its numbers are odd and grow.
    pub(super) fn open(&self, stream: u32, feed: Feed) -> Result<Arc<AtomicBool>, Reset> {
        let mut inner = self.inner();
        if stream.is_multiple_of(2) || stream <= inner.last {
            return Err(Reset::Protocol);
        }
        inner.last = stream;
        if inner.open.len() >= self.limit {
            return Err(Reset::Refused);
        }
        let gone = Arc::new(AtomicBool::new(false));
        let open =
            Open { feed: Some(feed), gone: Arc::clone(&gone), ended: false, window: FIRST_WINDOW };
        inner.open.insert(stream, open);
        Ok(gone)
    }

    /// The highest number that the client used.
    pub(super) fn last(&self) -> u32 {
        self.inner().last
    }

    /// Bytes came for a stream.
    pub(super) fn arrived(&self, stream: u32) -> Arrived {
        let mut inner = self.inner();
        let last = inner.last;
        let Some(open) = inner.open.get_mut(&stream) else {
            // It was one once, or it never was.
            return if stream > last { Arrived::Reset(Reset::Invalid) } else { Arrived::Drop };
        };
        match &open.feed {
            Some(feed) if !feed.is_closed() => Arrived::Put(feed.clone()),
            Some(_) if open.ended => {
                inner.remove(stream);
                Arrived::Reset(Reset::Cancel)
            }
            Some(_) | None => Arrived::Drop,
        }
    }

    /// The client ended its side of a stream.
    pub(super) fn finished(&self, stream: u32) {
        let mut inner = self.inner();
        let Some(open) = inner.open.get_mut(&stream) else { return };
        if let Some(feed) = open.feed.take() {
            feed.finish();
        }
        if open.ended {
            inner.remove(stream);
        }
    }

    /// We end our side of a stream; whether there is anybody to say it to, and whether to say too
    /// that the client's bytes are not wanted.
    pub(super) fn ended(&self, stream: u32) -> (bool, bool) {
        let mut inner = self.inner();
        let Some(open) = inner.open.get_mut(&stream) else { return (false, false) };
        open.ended = true;
        let unwanted = open.feed.as_ref().is_some_and(Feed::is_closed);
        if unwanted || open.feed.is_none() {
            inner.remove(stream);
        }
        (true, unwanted)
    }

    /// Whether bytes can be sent on a stream.
    pub(super) fn can_send(&self, stream: u32) -> bool {
        self.inner().open.get(&stream).is_some_and(|open| !open.ended)
    }

    /// A stream is over for both sides; whether it was there.
    pub(super) fn reset(&self, stream: u32) -> bool {
        self.inner().remove(stream)
    }

    /// Everything that we have not ended yet; it is over.
    pub(super) fn reset_all(&self) -> Vec<u32> {
        let mut inner = self.inner();
        let unended = |(stream, open): (&u32, &Open)| (!open.ended).then_some(*stream);
        let mut streams: Vec<u32> = inner.open.iter().filter_map(unended).collect();
        streams.sort_unstable();
        for stream in &streams {
            inner.remove(*stream);
        }
        streams
    }

    /// The client lets us send more. `Err` when that is more than there can be, with the stream to
    /// reset, or `None` if it is the whole connection's.
    pub(super) fn widened(&self, stream: u32, delta: u32) -> Result<(), Option<u32>> {
        let mut inner = self.inner();
        let window = match stream {
            0 => &mut inner.window,
            stream => match inner.open.get_mut(&stream) {
                Some(open) => &mut open.window,
                None => return Ok(()),
            },
        };
        match window.checked_add(delta).filter(|sum| *sum <= WINDOW_LIMIT) {
            Some(sum) => {
                *window = sum;
                Ok(())
            }
            None => Err((stream != 0).then_some(stream)),
        }
    }
}

impl Inner {
    fn remove(&mut self, stream: u32) -> bool {
        let Some(open) = self.open.remove(&stream) else { return false };
        open.gone.store(true, Ordering::Release);
        true
    }
}
