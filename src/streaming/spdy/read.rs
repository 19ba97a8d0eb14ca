//! What the client sends: frames are read, checked, and given to their streams.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use bytes::BytesMut;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;

use crate::streaming::line::Ended;
use crate::streaming::line::Line;
use crate::streaming::pipe;
use crate::streaming::pipe::Item;
use crate::streaming::pipe::Outbox;
use crate::streaming::pipe::PIECE;
use crate::streaming::spdy::Admit;
use crate::streaming::spdy::Control;
use crate::streaming::spdy::Stream;
use crate::streaming::spdy::frame;
use crate::streaming::spdy::frame::FrameError;
use crate::streaming::spdy::frame::HEAD;
use crate::streaming::spdy::frame::Head;
use crate::streaming::spdy::frame::Reset;
use crate::streaming::spdy::headers::Headers;
use crate::streaming::spdy::headers::Unpacker;
use crate::streaming::spdy::streams::Arrived;
use crate::streaming::spdy::streams::Streams;

/// Reads a connection.
pub(super) struct Reader<R> {
    from: R,
    buffer: BytesMut,
    unpacker: Unpacker,
    line: Arc<Line>,
    streams: Arc<Streams>,
    outbox: Outbox<Control>,
}

impl From<FrameError> for Ended {
    fn from(error: FrameError) -> Self {
        Self::Protocol(error)
    }
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(super) fn new(
        from: R,
        line: Arc<Line>,
        streams: Arc<Streams>,
        outbox: Outbox<Control>,
    ) -> Self {
        let (buffer, unpacker) = (BytesMut::new(), Unpacker::new());
        Self { from, buffer, unpacker, line, streams, outbox }
    }

    /// Reads until the end; streams that are opened go to `opened`.
    pub(super) async fn run(mut self, opened: mpsc::Sender<Stream>, admit: Admit) -> Ended {
        loop {
            if let Err(ended) = self.frame(&opened, admit).await {
                return ended;
            }
        }
    }

    async fn frame(&mut self, opened: &mpsc::Sender<Stream>, admit: Admit) -> Result<(), Ended> {
        let bytes = self.take(HEAD).await?;
        match frame::head(&bytes)? {
            Head::Data { stream, fin, length } => self.data(stream, fin, length).await,
            Head::Control { kind, flags, length } => {
                let payload = self.take(usize::try_from(length).unwrap_or(usize::MAX)).await?;
                let control = frame::control(kind, flags, &payload)?;
                self.control(control, opened, admit).await
            }
        }
    }

    /// Waits for so many bytes; how many there can be is checked before.
    async fn take(&mut self, length: usize) -> Result<Bytes, Ended> {
        while self.buffer.len() < length {
            self.fill().await?;
        }
        Ok(self.buffer.split_to(length).freeze())
    }

    async fn fill(&mut self) -> Result<(), Ended> {
        self.buffer.reserve(PIECE);
        match self.from.read_buf(&mut self.buffer).await {
            Ok(0) => Err(Ended::Client),
            Ok(_) => {
                self.line.touch();
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Err(Ended::Client),
            Err(error) => Err(Ended::Broken(error)),
        }
    }

    /// A frame of data may be long: it is passed on as it comes.
    async fn data(&mut self, stream: u32, fin: bool, length: u32) -> Result<(), Ended> {
        let mut left = usize::try_from(length).unwrap_or(usize::MAX);
        if let Arrived::Reset(why) = self.streams.arrived(stream) {
            self.answer(Control::Reset(stream, why)).await?;
        }
        while left > 0 {
            if self.buffer.is_empty() {
                self.fill().await?;
            }
            let piece = self.buffer.split_to(left.min(self.buffer.len())).freeze();
            left -= piece.len();
            if let Arrived::Put(feed) = self.streams.arrived(stream) {
                self.line.unless_gone(feed.put(piece)).await?;
            }
        }
        if fin {
            self.streams.finished(stream);
        }
        Ok(())
    }

    async fn control(
        &mut self,
        control: frame::Control<'_>,
        opened: &mpsc::Sender<Stream>,
        admit: Admit,
    ) -> Result<(), Ended> {
        match control {
            frame::Control::SynStream { stream, fin, one_way, headers } => {
                let headers = self.unpacker.headers(headers)?;
                self.open(stream, headers, opened, admit).await?;
                if fin {
                    self.streams.finished(stream);
                }
                if one_way {
                    self.outbox.push(Item::End(stream));
                }
            }
            frame::Control::Headers { stream, fin, headers } => {
                // What it says is nothing to us, but the next block cannot be unpacked without it.
                self.unpacker.headers(headers)?;
                if fin {
                    self.streams.finished(stream);
                }
            }
            frame::Control::Reset { stream } => {
                self.streams.reset(stream);
            }
            // An even number would be the answer to a ping of ours.
            frame::Control::Ping { id } if id % 2 == 1 => self.answer(Control::Ping(id)).await?,
            frame::Control::GoAway => return Err(Ended::Client),
            frame::Control::WindowUpdate { stream, delta } => {
                match self.streams.widened(stream, delta) {
                    Ok(()) => {}
                    Err(None) => return Err(FrameError::Window.into()),
                    Err(Some(stream)) => {
                        self.streams.reset(stream);
                        self.answer(Control::Reset(stream, Reset::FlowControl)).await?;
                    }
                }
            }
            frame::Control::Ping { .. } | frame::Control::Other => {}
        }
        Ok(())
    }

    async fn open(
        &mut self,
        id: u32,
        headers: Headers,
        opened: &mpsc::Sender<Stream>,
        admit: Admit,
    ) -> Result<(), Ended> {
        let (feed, incoming) = pipe::incoming();
        let gone = match self.streams.open(id, feed) {
            Ok(gone) => gone,
            Err(why) => return self.answer(Control::Reset(id, why)).await,
        };
        if !admit(&headers) {
            self.streams.reset(id);
            return self.answer(Control::Reset(id, Reset::Cancel)).await;
        }
        self.answer(Control::Reply(id)).await?;
        let outgoing = self.outbox.outgoing(id, gone);
        let stream = Stream { id, headers, incoming, outgoing };
        let opens = async {
            let _ = opened.send(stream).await;
        };
        self.line.unless_gone(opens).await
    }

    async fn answer(&mut self, control: Control) -> Result<(), Ended> {
        self.line.unless_gone(self.outbox.answer(control)).await
    }
}
