//! Exec and attach: the streams that the client opens become those of a process, and at the end the
//! client is told how it went.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::pin::pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::container::Containers;
use crate::failure::chain;
use crate::model::ids::ContainerId;
use crate::model::streams::Input;
use crate::model::streams::Output;
use crate::model::streams::ProcessStreams;
use crate::streaming::line::Beside;
use crate::streaming::line::Cut;
use crate::streaming::line::Ended;
use crate::streaming::line::Line;
use crate::streaming::negotiate::Version;
use crate::streaming::pipe;
use crate::streaming::pipe::Incoming;
use crate::streaming::pipe::Outgoing;
use crate::streaming::resize;
use crate::streaming::spdy;
use crate::streaming::spdy::Session;
use crate::streaming::status::End;
use crate::streaming::status::Form;
use crate::streaming::websocket;
use crate::streaming::websocket::Codec;

/// How long a client may take to open all its streams.
const CREATION: Duration = Duration::from_secs(30);
/// How many streams a client may have open; it needs five.
const STREAMS: usize = 16;
/// How many sizes of a terminal may wait to be applied.
const SIZES: usize = 8;

/// Which streams are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// A terminal.
    pub tty: bool,
}

/// An exec or attach that was asked for.
#[derive(Debug, Clone)]
pub(super) struct Command {
    /// In which container.
    pub(super) container: ContainerId,
    /// What to run; nothing to attach.
    pub(super) run: Option<Vec<String>>,
    /// With which streams.
    pub(super) wanted: Wanted,
}

/// What a client has opened.
struct Opened {
    stdin: Option<Input>,
    stdout: Option<Output>,
    stderr: Option<Output>,
    sizes: Option<Incoming>,
    /// Tells the client how it went.
    tell: Box<dyn FnOnce(&End) + Send>,
}

impl Command {
    /// Serves a client that speaks SPDY.
    pub(super) async fn over_spdy<T>(
        self,
        io: T,
        line: Arc<Line>,
        version: Version,
        containers: &Containers,
    ) -> Ended
    where
        T: AsyncRead + AsyncWrite + Send,
    {
        let (traffic, mut session) = spdy::open(io, Arc::clone(&line), STREAMS, |headers| {
            matches!(
                headers.value("streamtype"),
                "error" | "stdin" | "stdout" | "stderr" | "resize"
            )
        });
        let mut traffic = pin!(traffic);
        let gathers = tokio::time::timeout(CREATION, gather(&mut session, self.wanted, version));
        match line.beside(traffic.as_mut(), gathers).await {
            Beside::Done(Ok(Some(opened))) => {
                if let Some(ended) = self.run(opened, &line, traffic.as_mut(), containers).await {
                    return ended;
                }
            }
            Beside::Done(_) => tracing::info!(
                container = %self.container,
                "the client did not open its streams in time"
            ),
            Beside::Ended(ended) => return ended,
            Beside::Cut(_) => {}
        }
        session.close();
        line.linger(traffic).await
    }

    /// Serves a client that speaks WebSocket.
    pub(super) async fn over_channels<T>(
        self,
        io: T,
        line: Arc<Line>,
        (codec, form): (Codec, Form),
        containers: &Containers,
    ) -> Ended
    where
        T: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let wanted = self.wanted;
        let (outbox, queue) = pipe::outbox();
        let readable = |wanted: bool| wanted.then(pipe::incoming).unzip();
        let writable = |channel| outbox.outgoing(channel, Arc::default());
        let ((stdin_feed, stdin), (sizes_feed, sizes)) =
            (readable(wanted.stdin), readable(wanted.tty));
        let stdout = wanted.stdout.then(|| writable(1));
        let stderr = wanted.stderr.then(|| writable(2));
        let error = writable(3);
        // The handshake is over for some clients only once a first message came.
        stdout.as_ref().or(stderr.as_ref()).unwrap_or(&error).first_word(&[]);
        let opened = Opened {
            stdin: stdin.map(|stdin| Box::new(stdin) as Input),
            stdout: stdout.map(|stdout| Box::new(stdout) as Output),
            stderr: stderr.map(|stderr| Box::new(stderr) as Output),
            sizes,
            tell: Box::new(move |end| error.last_word(end.told(form))),
        };
        let feeds = vec![stdin_feed, None, None, None, sizes_feed];
        let traffic = websocket::open(io, Arc::clone(&line), codec, feeds, queue);
        let mut traffic = pin!(traffic);
        if let Some(ended) = self.run(opened, &line, traffic.as_mut(), containers).await {
            return ended;
        }
        outbox.push(pipe::Item::Control(websocket::Control::Close));
        line.linger(traffic).await
    }

    /// Runs it, and tells the client how it went; `Some` if there is no client any more.
    async fn run(
        &self,
        opened: Opened,
        line: &Line,
        traffic: Pin<&mut (impl Future<Output = Ended> + ?Sized)>,
        containers: &Containers,
    ) -> Option<Ended> {
        let begun = Instant::now();
        let tell = opened.tell;
        let streams = (opened.stdin, opened.stdout, opened.stderr, opened.sizes);
        let end = match line.beside(traffic, self.work(streams, containers)).await {
            Beside::Done(end) => end,
            Beside::Cut(Cut::Idle) => End::Failure("nothing was said for too long".to_owned()),
            Beside::Cut(Cut::Stopping) => End::Failure("the daemon is stopping".to_owned()),
            Beside::Ended(ended) => {
                self.log(begun, &chain(&ended));
                return Some(ended);
            }
        };
        self.log(begun, &end);
        tell(&end);
        None
    }

    async fn work(
        &self,
        (stdin, stdout, stderr, sizes): (
            Option<Input>,
            Option<Output>,
            Option<Output>,
            Option<Incoming>,
        ),
        containers: &Containers,
    ) -> End {
        let (sender, receiver) = mpsc::channel(SIZES);
        let streams =
            ProcessStreams { stdin, stdout, stderr, sizes: sizes.is_some().then_some(receiver) };
        let sizes = async {
            if let Some(sizes) = sizes {
                resize::pass_on(sizes, sender).await;
            }
            // They end before the process does, or never come.
            std::future::pending().await
        };
        tokio::select! {
            end = self.process(streams, containers) => end,
            end = sizes => end,
        }
    }

    async fn process(&self, streams: ProcessStreams, containers: &Containers) -> End {
        let (id, tty) = (self.container.as_str(), self.wanted.tty);
        match self.run.clone() {
            Some(command) => match containers.exec(id, command, tty, streams).await {
                Ok(0) => End::Success,
                Ok(code) => End::ExitCode(code),
                Err(error) => {
                    End::Failure(format!("error executing command in container: {}", chain(&error)))
                }
            },
            None => match containers.attach(id, tty, streams).await {
                Ok(()) => End::Success,
                Err(error) => {
                    End::Failure(format!("error attaching to container: {}", chain(&error)))
                }
            },
        }
    }

    fn log(&self, begun: Instant, end: &dyn fmt::Display) {
        let stream = if self.run.is_some() { "exec" } else { "attach" };
        let ms = begun.elapsed().as_millis();
        tracing::info!(stream, container = %self.container, ms, %end, "ended");
    }
}

/// Waits for the streams that are asked for. What else the client opens is ended at once.
async fn gather(session: &mut Session, wanted: Wanted, version: Version) -> Option<Opened> {
    let (mut error, mut stdin, mut stdout) = (None, None, None);
    let (mut stderr, mut sizes) = (None, None);
    let sizes_wanted = wanted.tty && version >= Version::V3;
    loop {
        let done = error.is_some()
            && stdin.is_some() == wanted.stdin
            && stdout.is_some() == wanted.stdout
            && stderr.is_some() == wanted.stderr
            && sizes.is_some() == sizes_wanted;
        if done {
            break;
        }
        let stream = session.next().await?;
        let (place, wanted) = match stream.headers.value("streamtype") {
            "error" => (&mut error, true),
            "stdin" => (&mut stdin, wanted.stdin),
            "stdout" => (&mut stdout, wanted.stdout),
            "stderr" => (&mut stderr, wanted.stderr),
            _ => (&mut sizes, sizes_wanted),
        };
        if wanted && place.is_none() {
            *place = Some(stream);
        }
    }
    let error = error?.outgoing;
    let form = if version == Version::V4 { Form::Json } else { Form::Text };
    let tell: Box<dyn FnOnce(&End) + Send> = match version {
        // The oldest clients end when this stream does, and before that they do not read.
        Version::V1 => {
            drop(error);
            Box::new(|_| {})
        }
        Version::V2 | Version::V3 | Version::V4 => {
            Box::new(move |end| error.last_word(end.told(form)))
        }
    };
    Some(Opened {
        stdin: stdin.map(|stream| {
            // Our side of it says to the client that no more is read.
            let ours = (version > Version::V1).then_some(stream.outgoing);
            Box::new(Stdin { from: stream.incoming, _until: ours }) as Input
        }),
        stdout: stdout.map(|stream| Box::new(stream.outgoing) as Output),
        stderr: stderr.map(|stream| Box::new(stream.outgoing) as Output),
        sizes: sizes.map(|stream| stream.incoming),
        tell,
    })
}

/// Standard input over SPDY. The client takes the end of our side for a sign that the process reads
/// no more, so it must not end before.
struct Stdin {
    from: Incoming,
    _until: Option<Outgoing<spdy::Control>>,
}

impl AsyncRead for Stdin {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.from).poll_read(context, into)
    }
}
