//! What is true of a connection whatever it speaks: when it was last used, whether the client is
//! still there, whether the daemon is about to stop; and how a connection is seen to its end.
//!
//! A connection is one task. The work for the client and the traffic with it are two futures of
//! that task, so neither can outlive the other (CVE-2022-23471, CVE-2025-64329 were such leaks).

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::streaming::spdy::FrameError;
use crate::sys::socket::Peer;

/// How often is looked whether the client is gone, while nothing of it is read.
const LOOK: Duration = Duration::from_secs(1);
/// How long a client may take to read the last words and to hang up.
const LINGER: Duration = Duration::from_secs(5);

/// Why there is no more traffic.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    /// The client hung up, or said goodbye.
    #[error("the client went away")]
    Client,
    /// The connection broke.
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    /// The client does not speak the protocol.
    #[error("the client broke the protocol")]
    Protocol(#[source] FrameError),
    /// The client does not speak WebSocket.
    #[error("the client broke the protocol")]
    WebSocket(#[source] Box<tokio_tungstenite::tungstenite::Error>),
    /// The client said something that means nothing here.
    #[error("the client broke the protocol: {0}")]
    Nonsense(&'static str),
    /// We said goodbye, and it was sent.
    #[error("all was said")]
    Done,
}

/// Why work is cut off although the client is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// Nothing was said for too long.
    Idle,
    /// The daemon stops.
    Stopping,
}

/// What is true of a connection whatever it speaks.
#[derive(Debug)]
pub(super) struct Line {
    peer: Option<Peer>,
    used: Mutex<Instant>,
    idle: Duration,
    stop: CancellationToken,
}

impl Line {
    /// A connection to `peer`. An `idle` of zero is no limit.
    pub(super) fn new(peer: Option<Peer>, idle: Duration, stop: CancellationToken) -> Self {
        Self { peer, used: Mutex::new(Instant::now()), idle, stop }
    }

    /// The connection was used.
    pub(super) fn touch(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Waits for something that is not the client, which may go away meanwhile: while its bytes are
    /// not read, the end of them is not seen either.
    pub(super) async fn unless_gone(&self, wait: impl Future<Output = ()>) -> Result<(), Ended> {
        tokio::select! {
            biased;
            () = wait => Ok(()),
            () = self.gone() => Err(Ended::Client),
        }
    }

    async fn gone(&self) {
        loop {
            tokio::time::sleep(LOOK).await;
            if self.peer.as_ref().is_some_and(Peer::has_hung_up) {
                return;
            }
        }
    }

    async fn idle(&self) {
        if self.idle.is_zero() {
            std::future::pending::<()>().await;
        }
        loop {
            let used = *self.used.lock().unwrap_or_else(PoisonError::into_inner);
            let end = used + self.idle;
            if end <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(end).await;
        }
    }

    /// Works while there is traffic.
    pub(super) async fn beside<W: Future>(
        &self,
        traffic: Pin<&mut (impl Future<Output = Ended> + ?Sized)>,
        work: W,
    ) -> Beside<W::Output> {
        tokio::select! {
            // What is done is done, also when the client went away at the same moment.
            biased;
            done = work => Beside::Done(done),
            ended = traffic => Beside::Ended(ended),
            () = self.idle() => Beside::Cut(Cut::Idle),
            () = self.stop.cancelled() => Beside::Cut(Cut::Stopping),
        }
    }

    /// Sends what is still to be sent, and gives the client time to read it.
    ///
    /// A connection that is closed while bytes of the client are unread is reset by the kernel, and
    /// then the client loses what it has not read yet: so it is read on until the client hangs up.
    pub(super) async fn linger(
        &self,
        traffic: Pin<&mut (impl Future<Output = Ended> + ?Sized)>,
    ) -> Ended {
        tokio::time::timeout(LINGER, traffic).await.unwrap_or(Ended::Done)
    }
}

/// How work beside traffic ended.
#[derive(Debug)]
pub(super) enum Beside<T> {
    /// The work is done.
    Done(T),
    /// There is no more traffic.
    Ended(Ended),
    /// The client is there, and still it must end.
    Cut(Cut),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(idle: u64) -> Line {
        Line::new(None, Duration::from_secs(idle), CancellationToken::new())
    }

    #[tokio::test]
    async fn a_connection_that_is_used_is_not_idle() {
        let line = line(2);
        let begun = Instant::now();
        let traffic = async {
            for _ in 0..5 {
                tokio::time::sleep(Duration::from_millis(100)).await;
                line.touch();
            }
            std::future::pending::<Ended>().await
        };
        let traffic = std::pin::pin!(traffic);
        let end = line.beside(traffic, std::future::pending::<()>()).await;
        assert!(matches!(end, Beside::Cut(Cut::Idle)));
        assert!(begun.elapsed() >= Duration::from_millis(2500));
    }

    #[tokio::test]
    async fn without_a_limit_nothing_is_idle_and_a_stop_ends_all() {
        let line = line(0);
        let traffic = std::pin::pin!(std::future::pending::<Ended>());
        let work = std::future::pending::<()>();
        let waits = line.beside(traffic, work);
        let waits = tokio::time::timeout(Duration::from_millis(200), waits);
        assert!(waits.await.is_err());
        line.stop.cancel();
        let traffic = std::pin::pin!(std::future::pending::<Ended>());
        let end = line.beside(traffic, std::future::pending::<()>()).await;
        assert!(matches!(end, Beside::Cut(Cut::Stopping)));
    }
}
