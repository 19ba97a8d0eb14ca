//! Port forwarding: each connection that a client has is one to a port of the pod.

use std::collections::HashMap;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use tokio::io::AsyncBufReadExt;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::failure::chain;
use crate::model::ids::SandboxId;
use crate::sandbox::Sandboxes;
use crate::streaming::line::Beside;
use crate::streaming::line::Ended;
use crate::streaming::line::Line;
use crate::streaming::pipe;
use crate::streaming::pipe::Incoming;
use crate::streaming::pipe::Item;
use crate::streaming::pipe::Outgoing;
use crate::streaming::pipe::PIECE;
use crate::streaming::spdy;
use crate::streaming::spdy::Headers;
use crate::streaming::spdy::Session;
use crate::streaming::spdy::Stream;
use crate::streaming::websocket;
use crate::streaming::websocket::Codec;

/// How long a client may take to open the second stream of a pair.
const CREATION: Duration = Duration::from_secs(30);
/// How many streams a client may have open: two for each connection to the pod.
const STREAMS: usize = 1000;

/// A port forwarding that was asked for.
#[derive(Debug, Clone)]
pub(super) struct Forwarding {
    /// To which sandbox.
    pub(super) sandbox: SandboxId,
    /// The ports, as far as they are known beforehand: clients with channels do not name them.
    pub(super) ports: Vec<u16>,
}

/// One of the two streams of a pair waits for the other.
struct Half {
    error: Option<Stream>,
    data: Option<Stream>,
    end: Instant,
}

impl Forwarding {
    /// Serves a client that speaks SPDY: streams come in pairs, for errors and for data.
    pub(super) async fn over_spdy<T>(self, io: T, line: Arc<Line>, sandboxes: &Sandboxes) -> Ended
    where
        T: AsyncRead + AsyncWrite + Send,
    {
        let begun = Instant::now();
        let (traffic, mut session) = spdy::open(io, Arc::clone(&line), STREAMS, admit);
        let mut traffic = pin!(traffic);
        let pairs = self.pairs(&mut session, sandboxes);
        let beside = line.beside(traffic.as_mut(), pairs).await;
        self.log(begun, &beside);
        match beside {
            Beside::Ended(ended) => ended,
            Beside::Done(()) | Beside::Cut(_) => {
                session.close();
                line.linger(traffic).await
            }
        }
    }

    /// Serves a client that speaks WebSocket: two channels for each port.
    pub(super) async fn over_channels<T>(
        self,
        io: T,
        line: Arc<Line>,
        codec: Codec,
        sandboxes: &Sandboxes,
    ) -> Ended
    where
        T: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let begun = Instant::now();
        let (outbox, queue) = pipe::outbox();
        let (mut feeds, mut forwards) = (Vec::new(), Vec::new());
        for (channel, port) in (0..).step_by(2).zip(&self.ports) {
            let (feed, incoming) = pipe::incoming();
            feeds.extend([Some(feed), None]);
            let data = outbox.outgoing(channel, Arc::default());
            let error = outbox.outgoing(channel + 1, Arc::default());
            // So the client learns which channel is for which port.
            data.first_word(&port.to_le_bytes());
            error.first_word(&port.to_le_bytes());
            forwards.push(self.forward(*port, (incoming, data), error, sandboxes));
        }
        let mut traffic = pin!(websocket::open(io, Arc::clone(&line), codec, feeds, queue));
        let beside = line.beside(traffic.as_mut(), async { drop(join_all(forwards).await) }).await;
        self.log(begun, &beside);
        match beside {
            Beside::Ended(ended) => ended,
            Beside::Done(()) | Beside::Cut(_) => {
                outbox.push(Item::Control(websocket::Control::Close));
                line.linger(traffic).await
            }
        }
    }

    fn log(&self, begun: Instant, beside: &Beside<()>) {
        let end = match beside {
            Beside::Done(()) => "done".to_owned(),
            Beside::Ended(ended) => chain(ended),
            Beside::Cut(cut) => format!("{cut:?}"),
        };
        let ms = begun.elapsed().as_millis();
        tracing::info!(stream = "portforward", sandbox = %self.sandbox, ms, end, "ended");
    }

    /// Brings the streams of pairs together, and forwards for as long as the connection lasts.
    async fn pairs(&self, session: &mut Session, sandboxes: &Sandboxes) {
        let mut halves: HashMap<String, Half> = HashMap::new();
        let mut forwards = FuturesUnordered::new();
        loop {
            let first = halves.values().map(|half| half.end).min();
            tokio::select! {
                stream = session.next() => {
                    let Some(stream) = stream else { return };
                    if let Some((data, error)) = pair(&mut halves, stream) {
                        let data_port = port(&data.headers).unwrap_or_default();
                        let data = (data.incoming, data.outgoing);
                        forwards.push(self.forward(data_port, data, error.outgoing, sandboxes));
                    }
                }
                Some(()) = forwards.next() => {}
                () = until(first) => give_up(&mut halves),
            }
        }
    }

    /// Forwards one connection to its end.
    async fn forward<C>(
        &self,
        port: u16,
        (incoming, outgoing): (Incoming, Outgoing<C>),
        error: Outgoing<C>,
        sandboxes: &Sandboxes,
    ) {
        let sandbox = self.sandbox.as_str();
        let why = match sandboxes.port_forward(sandbox, port).await {
            Ok(pod) => copy(pod, incoming, outgoing).await.err().map(|error| error.to_string()),
            Err(error) => Some(chain(&error)),
        };
        if let Some(why) = why {
            tracing::debug!(sandbox, port, why, "cannot forward a port");
            let text = format!("error forwarding port {port} to pod {sandbox}, uid : {why}");
            error.last_word(text.into_bytes());
        }
    }
}

/// Copies both ways, until the pod ends its side. The client's end is a half-close: the pod still
/// answers. A pod that resets its connection has ended it, and that is no failure of forwarding: a
/// client gives all its connections up when it is told of one.
async fn copy<C>(
    mut pod: TcpStream,
    mut incoming: Incoming,
    mut outgoing: Outgoing<C>,
) -> io::Result<()> {
    let (from_pod, mut to_pod) = pod.split();
    let mut from_pod = BufReader::with_capacity(PIECE, from_pod);
    let up = async {
        loop {
            // Without the client there is nobody to copy for.
            let bytes = incoming.fill_buf().await.map_err(drop)?;
            if bytes.is_empty() || to_pod.write_all(bytes).await.is_err() {
                // The pod may not want to be told; it may still have something to say.
                let _ = to_pod.shutdown().await;
                return Ok::<_, ()>(());
            }
            let length = bytes.len();
            incoming.consume(length);
        }
    };
    let down = async {
        let copied = tokio::io::copy_buf(&mut from_pod, &mut outgoing).await;
        match copied.map(drop) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
                ) =>
            {
                Ok(())
            }
            copied => copied,
        }
    };
    let mut down = pin!(down);
    tokio::select! {
        copied = &mut down => copied,
        up = up => match up {
            Ok(()) => down.await,
            Err(()) => Ok(()),
        },
    }
}

/// Streams of port forwarding say what they are for.
fn admit(headers: &Headers) -> bool {
    port(headers).is_some() && matches!(headers.value("streamtype"), "error" | "data")
}

fn port(headers: &Headers) -> Option<u16> {
    headers.value("port").parse().ok().filter(|port| *port > 0)
}

/// The pair that a stream completes: data, and errors.
fn pair(halves: &mut HashMap<String, Half>, stream: Stream) -> Option<(Stream, Stream)> {
    let is_data = stream.headers.value("streamtype") == "data";
    let request = match stream.headers.value("requestid") {
        // Old clients give no number; they open the stream for data right behind the other.
        "" if is_data => stream.id.saturating_sub(2).to_string(),
        "" => stream.id.to_string(),
        request => request.to_owned(),
    };
    if !halves.contains_key(&request) && halves.len() >= STREAMS {
        return None;
    }
    let new = || Half { error: None, data: None, end: Instant::now() + CREATION };
    let half = halves.entry(request.clone()).or_insert_with(new);
    let (place, name) = if is_data { (&mut half.data, "data") } else { (&mut half.error, "error") };
    if place.is_some() {
        // Both are at fault, and the first cannot be told from the second.
        let text = format!("error processing stream for request {request}: {name} stream twice");
        refuse(halves.remove(&request)?, text);
        return None;
    }
    *place = Some(stream);
    if half.data.is_none() || half.error.is_none() {
        return None;
    }
    let half = halves.remove(&request)?;
    Some((half.data?, half.error?))
}

/// Ends the halves whose time is over.
fn give_up(halves: &mut HashMap<String, Half>) {
    let now = Instant::now();
    for (request, half) in halves.extract_if(|_, half| half.end <= now) {
        refuse(half, format!("(request={request}) timed out waiting for streams"));
    }
}

fn refuse(half: Half, text: String) {
    if let Some(error) = half.error {
        error.outgoing.last_word(text.into_bytes());
    }
}

async fn until(end: Option<Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream with these headers, and what is sent.
    fn stream(id: u32, headers: &[(&str, &str)]) -> (Stream, pipe::Queue<spdy::Control>) {
        let (outbox, queue) = pipe::outbox();
        let (_, incoming) = pipe::incoming();
        let outgoing = outbox.outgoing(id, Arc::default());
        (Stream { id, headers: Headers::of(headers), incoming, outgoing }, queue)
    }

    fn named(id: u32, kind: &str, request: &str) -> (Stream, pipe::Queue<spdy::Control>) {
        stream(id, &[("streamtype", kind), ("requestid", request), ("port", "80")])
    }

    #[test]
    fn streams_say_what_they_are_for() {
        for (port, kind, good) in [
            ("80", "data", true),
            ("65535", "error", true),
            ("0", "data", false),
            ("65536", "data", false),
            ("-1", "data", false),
            ("", "data", false),
            ("80", "", false),
            ("80", "stdin", false),
        ] {
            let headers = Headers::of(&[("port", port), ("streamtype", kind)]);
            assert_eq!(admit(&headers), good, "{port} {kind}");
        }
    }

    #[test]
    fn streams_of_one_request_are_a_pair_in_any_order() {
        let mut halves = HashMap::new();
        assert!(pair(&mut halves, named(1, "error", "a").0).is_none());
        assert!(pair(&mut halves, named(3, "data", "b").0).is_none());
        let (data, error) = pair(&mut halves, named(5, "error", "b").0).unwrap();
        assert_eq!((data.id, error.id), (3, 5));
        let (data, error) = pair(&mut halves, named(7, "data", "a").0).unwrap();
        assert_eq!((data.id, error.id), (7, 1));
        // Old clients give no number.
        assert!(pair(&mut halves, named(9, "error", "").0).is_none());
        assert!(pair(&mut halves, named(11, "data", "").0).is_some());
        assert!(halves.is_empty());
    }

    #[test]
    fn a_pair_that_cannot_be_is_told_so() {
        let told = |queue: &mut pipe::Queue<spdy::Control>| match queue.at_once().unwrap().item {
            Item::Data(_, bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            item => panic!("{item:?}"),
        };
        let mut halves = HashMap::new();
        let (first, mut errors) = named(1, "error", "a");
        assert!(pair(&mut halves, first).is_none());
        assert!(pair(&mut halves, named(3, "error", "a").0).is_none());
        assert!(told(&mut errors).contains("error stream twice"));
        assert!(halves.is_empty());

        let (late, mut errors) = named(5, "error", "b");
        assert!(pair(&mut halves, late).is_none());
        give_up(&mut halves);
        assert_eq!(halves.len(), 1);
        halves.values_mut().for_each(|half| half.end = Instant::now());
        give_up(&mut halves);
        assert!(told(&mut errors).contains("timed out waiting for streams"));
        assert!(halves.is_empty());
    }

    #[test]
    fn halves_that_are_never_completed_are_bounded() {
        let mut halves = HashMap::new();
        for number in 0..2 * STREAMS {
            assert!(pair(&mut halves, named(1, "error", &number.to_string()).0).is_none());
        }
        assert_eq!(halves.len(), STREAMS);
    }
}
