//! The HTTP of it: connections, the one request that each has, and what it becomes.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Method;
use hyper::Request;
use hyper::Response;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::failure::chain;
use crate::streaming::Asked;
use crate::streaming::Streaming;
use crate::streaming::line::Ended;
use crate::streaming::line::Line;
use crate::streaming::negotiate;
use crate::streaming::negotiate::For;
use crate::streaming::negotiate::Inner;
use crate::streaming::negotiate::Refusal;
use crate::streaming::negotiate::Wire;
use crate::streaming::websocket;
use crate::sys::socket;
use crate::sys::socket::Peer;

/// How many clients are served at a time.
const CONNECTIONS: usize = 2048;
/// How long a client may take for its handshake, and for its request.
const FIRST_WORDS: Duration = Duration::from_secs(10);
/// The most bytes of a request.
const REQUEST_LIMIT: usize = 64 * 1024;
/// How long to wait after an accept that failed, as for want of descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// How long streams may go on once the daemon is asked to stop: shells do not end by themselves.
const LAST_STREAMS: Duration = Duration::from_secs(2);
/// How long clients may take to hear that they are cut off.
const LAST_WORDS: Duration = Duration::from_secs(6);

/// A request that was answered with yes.
struct Upgrade {
    asked: Asked,
    wire: Wire,
    on: OnUpgrade,
}

type Slot = Mutex<Option<Upgrade>>;

impl Streaming {
    /// Serves what comes to `listener` until `stop`, and then ends what still goes on: clients are
    /// told, processes are killed.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        let (tasks, cut) = (TaskTracker::new(), CancellationToken::new());
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        while let Some(stream) = next(&listener, &stop, &places).await {
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
            let (this, cut) = (Arc::clone(&self), cut.clone());
            tasks.spawn(async move {
                this.connection(stream, cut).await;
                drop(place);
            });
        }
        drop(listener);
        tasks.close();
        if tokio::time::timeout(LAST_STREAMS, tasks.wait()).await.is_err() {
            tracing::info!(streams = tasks.len(), "ending the streams that still go on");
            cut.cancel();
            let _ = tokio::time::timeout(LAST_WORDS, tasks.wait()).await;
        }
    }

    async fn connection(&self, stream: TcpStream, cut: CancellationToken) {
        if let Err(error) = socket::prepare(&stream) {
            tracing::debug!(%error, "cannot prepare a connection");
        }
        let line = Arc::new(Line::new(Peer::of(&stream).ok(), self.idle, cut.clone()));
        let Some(tls) = &self.tls else { return self.speak(stream, line, cut).await };
        let accepts = tls.accept(stream);
        match tokio::time::timeout(FIRST_WORDS, accepts).await {
            Ok(Ok(stream)) => self.speak(stream, line, cut).await,
            Ok(Err(error)) => tracing::debug!(%error, "no TLS with a client"),
            Err(_) => tracing::debug!("no TLS with a client in time"),
        }
    }

    async fn speak<T>(&self, io: T, line: Arc<Line>, cut: CancellationToken)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let slot = Slot::default();
        let service = service_fn(|request| {
            let answer = self.answer(request, &slot);
            async move { Ok::<_, Infallible>(answer) }
        });
        let http = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(FIRST_WORDS)
            .max_buf_size(REQUEST_LIMIT)
            .serve_connection(TokioIo::new(io), service)
            .with_upgrades();
        let served = tokio::select! {
            served = http => served,
            () = cut.cancelled() => return,
        };
        if let Err(error) = served {
            tracing::debug!(%error, "a request ended badly");
        }
        let upgrade = slot.into_inner().unwrap_or_else(PoisonError::into_inner);
        let Some(Upgrade { asked, wire, on }) = upgrade else { return };
        match on.await {
            Ok(upgraded) => {
                line.touch();
                let ended = self.stream(asked, wire, TokioIo::new(upgraded), line).await;
                tracing::debug!(why = chain(&ended), "a connection ended");
            }
            Err(error) => tracing::debug!(%error, "a connection was not upgraded"),
        }
    }

    fn answer(&self, mut request: Request<Incoming>, slot: &Slot) -> Response<Full<Bytes>> {
        match self.look(&request) {
            Ok((asked, wire)) => {
                let response = agreed(&wire);
                let on = hyper::upgrade::on(&mut request);
                *slot.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(Upgrade { asked, wire, on });
                response
            }
            Err(refusal) => {
                tracing::debug!(status = refusal.status.as_u16(), why = refusal.text, "refused");
                refused(refusal)
            }
        }
    }

    fn look(&self, request: &Request<Incoming>) -> Result<(Asked, Wire), Refusal> {
        let says = |status, text: &str| Refusal { status, text: text.into(), headers: Vec::new() };
        let unknown = || says(StatusCode::NOT_FOUND, "no such URL, or it was used already");
        let path = request.uri().path().strip_prefix('/').unwrap_or_default();
        let (verb, token) = path.split_once('/').ok_or_else(unknown)?;
        if !matches!(verb, "exec" | "attach" | "portforward") {
            return Err(unknown());
        }
        if !matches!(*request.method(), Method::GET | Method::POST) {
            let refusal = says(StatusCode::METHOD_NOT_ALLOWED, "only GET and POST");
            return Err(Refusal { headers: vec![("allow", "GET, POST")], ..refusal });
        }
        // Whatever comes of it, the token is used.
        let asked = self.tokens.take(token, Instant::now()).ok_or_else(unknown)?;
        let purpose = match (&asked, verb) {
            (Asked::Exec(_), "exec") | (Asked::Attach(_), "attach") => For::Command,
            (Asked::PortForward(_), "portforward") => For::Ports,
            _ => return Err(unknown()),
        };
        let wire = negotiate::negotiate(request.method(), request.headers(), purpose)?;
        Ok((asked, wire))
    }

    async fn stream(
        &self,
        asked: Asked,
        wire: Wire,
        io: TokioIo<Upgraded>,
        line: Arc<Line>,
    ) -> Ended {
        match (asked, wire) {
            (Asked::Exec(command) | Asked::Attach(command), wire) => match wire {
                Wire::Spdy { version, .. } => {
                    command.over_spdy(io, line, version, &self.containers).await
                }
                Wire::WebSocket { inner: Inner::Channels(codec, form), .. } => {
                    command.over_channels(io, line, (codec, form), &self.containers).await
                }
                Wire::WebSocket { inner: Inner::Tunnel, .. } => {
                    Ended::Nonsense("a tunnel is for port forwarding")
                }
            },
            (Asked::PortForward(forwarding), wire) => match wire {
                Wire::Spdy { .. } => forwarding.over_spdy(io, line, &self.sandboxes).await,
                Wire::WebSocket { inner: Inner::Tunnel, .. } => {
                    let io = websocket::tunnel(io).await;
                    forwarding.over_spdy(io, line, &self.sandboxes).await
                }
                Wire::WebSocket { inner: Inner::Channels(codec, _), .. } => {
                    forwarding.over_channels(io, line, codec, &self.sandboxes).await
                }
            },
        }
    }
}

/// The next connection, once there is a place for it; `None` when it is time to stop.
async fn next(
    listener: &TcpListener,
    stop: &CancellationToken,
    places: &Semaphore,
) -> Option<TcpStream> {
    let accepts = async {
        loop {
            let place = places.acquire().await;
            match listener.accept().await {
                Ok((stream, _)) => {
                    drop(place);
                    return stream;
                }
                Err(error) => {
                    tracing::error!(%error, "cannot accept a connection for streaming");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    };
    tokio::select! {
        stream = accepts => Some(stream),
        () = stop.cancelled() => None,
    }
}

fn agreed(wire: &Wire) -> Response<Full<Bytes>> {
    let response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "Upgrade");
    let response = match wire {
        Wire::Spdy { name, .. } => {
            response.header(header::UPGRADE, negotiate::SPDY).header(negotiate::PROTOCOL, *name)
        }
        Wire::WebSocket { accept, name, .. } => {
            let response = response
                .header(header::UPGRADE, negotiate::WEBSOCKET)
                .header(header::SEC_WEBSOCKET_ACCEPT, accept);
            if name.is_empty() {
                response
            } else {
                response.header(header::SEC_WEBSOCKET_PROTOCOL, *name)
            }
        }
    };
    response.body(Full::default()).unwrap_or_default()
}

fn refused(refusal: Refusal) -> Response<Full<Bytes>> {
    let mut response = Response::builder()
        .status(refusal.status)
        // One request is all that a client needs, and all that it gets.
        .header(header::CONNECTION, "close")
        .header(header::CONTENT_TYPE, "text/plain; charset=utf-8")
        .header("x-content-type-options", "nosniff");
    for (name, value) in refusal.headers {
        response = response.header(name, value);
    }
    response.body(Full::from(refusal.text + "\n")).unwrap_or_default()
}
