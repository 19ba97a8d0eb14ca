use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::io::DuplexStream;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::streaming::spdy::frame::Head;
use crate::streaming::spdy::headers::tests::Client as Packer;
use crate::sys::socket;
use crate::sys::socket::Peer;

const LIMIT: usize = 4;
const DEADLINE: Duration = Duration::from_secs(20);

/// A client that can say anything.
struct Client<T = DuplexStream> {
    io: T,
    packer: Packer,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Client<T> {
    async fn send(&mut self, bytes: &[u8]) {
        self.io.write_all(bytes).await.unwrap();
    }

    /// A control frame.
    async fn control(&mut self, kind: u8, flags: u8, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap() | u32::from(flags) << 24;
        self.send(&[&[0x80, 3, 0, kind][..], &length.to_be_bytes(), payload].concat()).await;
    }

    async fn open(&mut self, stream: u32, headers: &[(&str, &str)]) {
        let packed = self.packer.pack(headers);
        let payload = [&stream.to_be_bytes()[..], &[0; 6], &packed].concat();
        self.control(1, 0, &payload).await;
    }

    async fn data(&mut self, stream: u32, fin: bool, bytes: &[u8]) {
        self.send(&frame::data_head(stream, fin, bytes.len())).await;
        self.send(bytes).await;
    }

    /// The next frame, in words.
    async fn next(&mut self) -> String {
        let mut bytes = [0; 8];
        if self.io.read_exact(&mut bytes).await.is_err() {
            return "end".to_owned();
        }
        let head = frame::head(&bytes).unwrap();
        let (Head::Data { length, .. } | Head::Control { length, .. }) = head;
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.io.read_exact(&mut payload).await.unwrap();
        match head {
            Head::Data { stream, fin, .. } => {
                let fin = if fin { " fin" } else { "" };
                format!("data {stream} {:?}{fin}", String::from_utf8_lossy(&payload))
            }
            Head::Control { kind, flags, .. } => {
                let stream = u32::from_be_bytes(*payload.first_chunk().unwrap());
                let why = payload.last().copied().unwrap();
                match frame::control(kind, flags, &payload).unwrap() {
                    frame::Control::Headers { .. } => format!("reply {stream}"),
                    frame::Control::Reset { .. } => format!("reset {stream} {why}"),
                    frame::Control::Ping { .. } => format!("ping {stream}"),
                    frame::Control::GoAway => format!("goaway {stream} {why}"),
                    other => format!("{other:?}"),
                }
            }
        }
    }
}

fn line() -> Arc<Line> {
    Arc::new(Line::new(None, Duration::ZERO, CancellationToken::new()))
}

/// A connection whose traffic goes on by itself.
fn connected() -> (Client, Session, JoinHandle<Ended>) {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let admit: Admit = |headers| headers.value("streamtype") != "bad";
    let (traffic, session) = open(ours, line(), LIMIT, admit);
    (Client { io: theirs, packer: Packer::new() }, session, tokio::spawn(traffic))
}

async fn within<F: Future>(work: F) -> F::Output {
    tokio::time::timeout(DEADLINE, work).await.expect("an end in time")
}

#[tokio::test]
async fn a_stream_goes_both_ways_and_each_side_ends_its_own() {
    let (mut client, mut session, traffic) = connected();
    client.open(1, &[("streamType", "stdin"), ("Port", "80")]).await;
    assert_eq!(client.next().await, "reply 1");
    let mut stream = session.next().await.unwrap();
    assert_eq!((stream.id, stream.headers.value("port")), (1, "80"));
    client.data(1, false, b"some ").await;
    client.data(1, true, b"words").await;
    let mut text = String::new();
    stream.incoming.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "some words");
    stream.outgoing.write_all(b"answer").await.unwrap();
    assert_eq!(client.next().await, r#"data 1 "answer""#);
    drop(stream);
    assert_eq!(client.next().await, r#"data 1 "" fin"#);
    client.control(6, 0, &[0, 0, 0, 2]).await;
    client.control(6, 0, &[0, 0, 0, 7]).await;
    assert_eq!(client.next().await, "ping 7");
    client.control(7, 0, &[0; 8]).await;
    assert!(matches!(within(traffic).await.unwrap(), Ended::Client));
    assert!(session.next().await.is_none());
}

#[tokio::test]
async fn a_goodbye_comes_behind_all_that_was_written() {
    let (mut client, mut session, traffic) = connected();
    for (stream, kind) in [(1, "stdin"), (3, "stdout")] {
        client.open(stream, &[("streamType", kind)]).await;
        assert_eq!(client.next().await, format!("reply {stream}"));
    }
    let (stdin, mut stdout) = (session.next().await.unwrap(), session.next().await.unwrap());
    stdout.outgoing.write_all(b"last").await.unwrap();
    drop(stdout);
    session.close();
    for expected in [r#"data 3 "last""#, r#"data 3 "" fin"#, "reset 3 5", "reset 1 5", "goaway 3 0"]
    {
        assert_eq!(client.next().await, expected);
    }
    assert_eq!(client.next().await, "end");
    assert!(!traffic.is_finished());
    // The client may go on writing until it has read that.
    for _ in 0..100 {
        client.data(1, false, &[b'x'; 10_000]).await;
    }
    drop((client, stdin));
    assert!(matches!(within(traffic).await.unwrap(), Ended::Client));
}

#[tokio::test]
async fn streams_that_cannot_be_are_reset_and_the_others_go_on() {
    let (mut client, mut session, _traffic) = connected();
    let good = [("streamType", "stdout")];
    client.open(3, &good).await;
    assert_eq!(client.next().await, "reply 3");
    // Even, old, used.
    for stream in [4, 1, 3] {
        client.open(stream, &good).await;
        assert_eq!(client.next().await, format!("reset {stream} 1"));
    }
    client.open(5, &[("streamType", "bad")]).await;
    assert_eq!(client.next().await, "reset 5 5");
    for stream in [7, 9, 11] {
        client.open(stream, &good).await;
        assert_eq!(client.next().await, format!("reply {stream}"));
    }
    client.open(13, &good).await;
    assert_eq!(client.next().await, "reset 13 3");
    // Never opened; and over already, which the client may not have known.
    client.data(99, false, b"x").await;
    assert_eq!(client.next().await, "reset 99 2");
    client.data(13, true, b"x").await;
    // A window beyond all windows, and one of a stream that is not there.
    client.control(9, 0, &[[0, 0, 0, 98], [0, 0, 0, 1]].concat()).await;
    client.control(9, 0, &[[0, 0, 0, 7], [0x7f, 0xff, 0xff, 0xff]].concat()).await;
    assert_eq!(client.next().await, "reset 7 7");
    client.control(3, 0, &[[0, 0, 0, 9], [0, 0, 0, 5]].concat()).await;
    let mut third = session.next().await.unwrap();
    third.outgoing.write_all(b"still here").await.unwrap();
    assert_eq!(client.next().await, r#"data 3 "still here""#);
    let (mut seventh, mut ninth) = (session.next().await.unwrap(), session.next().await.unwrap());
    for stream in [&mut seventh, &mut ninth] {
        assert!(stream.incoming.read_u8().await.is_err());
        let error = stream.outgoing.write_all(b"x").await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
    }
}

#[tokio::test]
async fn what_breaks_the_protocol_ends_the_connection() {
    let mut bomb = Packer::new();
    let long = "x".repeat(60_000);
    let bomb = [&[0, 0, 0, 1][..], &[0; 6], &bomb.pack(&[("a", &long)])].concat();
    for (kind, payload) in [
        (1, bomb),
        (1, [&[0, 0, 0, 1][..], &[0; 6], b"no zlib"].concat()),
        (1, vec![0, 0, 0, 1]),
        (6, vec![0; 5]),
        (8, [&[0, 0, 0, 1][..], b"no zlib"].concat()),
        (9, [[0, 0, 0, 0], [0x7f, 0xff, 0xff, 0xff]].concat()),
        (4, vec![0xff; 4]),
    ] {
        let (mut client, _session, traffic) = connected();
        client.control(kind, 0, &payload).await;
        assert_eq!(client.next().await, "goaway 0 1", "{kind}");
        assert_eq!(client.next().await, "end");
        assert!(matches!(within(traffic).await.unwrap(), Ended::Protocol(_)), "{kind}");
    }
    for bytes in [
        [0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff],
        [0x80, 3, 0, 77, 0, 0xff, 0xff, 0xff],
        [0x80, 2, 0, 1, 0, 0, 0, 10],
        [0, 0, 0, 0, 0, 0, 0, 1],
        *b"GET / HT",
    ] {
        let (mut client, _session, traffic) = connected();
        client.send(&bytes).await;
        client.io.shutdown().await.unwrap();
        let ended = within(traffic).await.unwrap();
        // The letters of HTTP are data of a stream that there is not.
        assert_eq!(matches!(ended, Ended::Protocol(_)), bytes != *b"GET / HT", "{bytes:?}");
    }
}

/// A frame of data can be 16 MiB long; it is never held as a whole.
#[tokio::test]
async fn long_frames_pass_in_pieces_and_a_slow_reader_makes_the_client_wait() {
    let (mut client, mut session, traffic) = connected();
    client.open(1, &[("streamType", "stdin")]).await;
    assert_eq!(client.next().await, "reply 1");
    let mut stream = session.next().await.unwrap();
    let length = 0x00ff_ffff;
    let writes = tokio::spawn(async move {
        client.send(&frame::data_head(1, true, length)).await;
        for _ in 0..length / 1023 {
            client.send(&[7; 1023]).await;
        }
        client.send(&vec![7; length % 1023]).await;
        client
    });
    // What fits into all queues is far less than the frame.
    while traffic_is_moving(&writes).await {}
    let mut read = Vec::new();
    within(stream.incoming.read_to_end(&mut read)).await.unwrap();
    assert_eq!(read.len(), length);
    drop(within(writes).await.unwrap());
    within(traffic).await.unwrap();
}

/// Whether a writer gets on; one that waits does not.
async fn traffic_is_moving(writes: &JoinHandle<Client>) -> bool {
    assert!(!writes.is_finished(), "all was taken, though nobody reads");
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    false
}

/// Its input is not read, so its end cannot be read either.
#[tokio::test]
async fn a_client_that_vanishes_behind_bytes_that_nobody_reads_is_noticed() {
    let listener = socket::listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let io = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (ours, _) = listener.accept().await.unwrap();
    let peer = Peer::of(&ours).unwrap();
    let line = Line::new(Some(peer), Duration::ZERO, CancellationToken::new());
    let (traffic, mut session) = open(ours, Arc::new(line), LIMIT, |_| true);
    let traffic = tokio::spawn(traffic);
    let mut client = Client { io, packer: Packer::new() };
    client.open(1, &[]).await;
    assert_eq!(client.next().await, "reply 1");
    let _unread = session.next().await.unwrap();
    let more = [frame::data_head(1, false, 100).as_slice(), &[0; 100]].concat();
    // More than is taken from the kernel, and less than it keeps for us.
    for _ in 0..1000 {
        client.send(&more).await;
    }
    drop(client);
    assert!(matches!(within(traffic).await.unwrap(), Ended::Client));
}
