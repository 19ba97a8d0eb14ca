//! What goes to the client: items of the queue become frames.

use std::io;

use bytes::Buf;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;

use crate::streaming::line::Ended;
use crate::streaming::line::Line;
use crate::streaming::pipe::Item;
use crate::streaming::pipe::Queue;
use crate::streaming::spdy::Control;
use crate::streaming::spdy::frame;
use crate::streaming::spdy::frame::Reset;
use crate::streaming::spdy::headers::Packer;
use crate::streaming::spdy::streams::Streams;

/// Sends until a goodbye has been sent.
pub(super) async fn run(
    mut to: impl AsyncWrite + Unpin,
    mut queue: Queue<Control>,
    line: &Line,
    streams: &Streams,
) -> Ended {
    let mut packer = Packer::new();
    loop {
        let queued = match queue.at_once() {
            Some(queued) => queued,
            None => {
                if let Err(error) = to.flush().await {
                    return broken(error);
                }
                match queue.next().await {
                    Some(queued) => queued,
                    None => return Ended::Done,
                }
            }
        };
        match send(&mut to, queued.item, &mut packer, streams).await {
            Ok(false) => line.touch(),
            Ok(true) => return Ended::Done,
            Err(error) => return broken(error),
        }
    }
}

fn broken(error: io::Error) -> Ended {
    match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Ended::Client,
        _ => Ended::Broken(error),
    }
}

/// Sends an item; whether it was the last.
async fn send(
    to: &mut (impl AsyncWrite + Unpin),
    item: Item<Control>,
    packer: &mut Packer,
    streams: &Streams,
) -> io::Result<bool> {
    match item {
        Item::Data(stream, bytes) => {
            if streams.can_send(stream) {
                let head = frame::data_head(stream, false, bytes.len());
                to.write_all_buf(&mut head.as_slice().chain(bytes)).await?;
            }
        }
        Item::End(stream) => {
            let (said, unwanted) = streams.ended(stream);
            if said {
                to.write_all(&frame::data_head(stream, true, 0)).await?;
            }
            if unwanted {
                to.write_all(&frame::reset(stream, Reset::Cancel)).await?;
            }
        }
        Item::Control(Control::Reply(stream)) => {
            to.write_all(&frame::reply(stream, &packer.nothing()?)).await?;
        }
        Item::Control(Control::Reset(stream, why)) => {
            to.write_all(&frame::reset(stream, why)).await?;
        }
        Item::Control(Control::Ping(id)) => to.write_all(&frame::ping(id)).await?,
        Item::Control(Control::GoAway(why)) => {
            for stream in streams.reset_all() {
                to.write_all(&frame::reset(stream, Reset::Cancel)).await?;
            }
            to.write_all(&frame::go_away(streams.last(), why)).await?;
            to.shutdown().await?;
            return Ok(true);
        }
    }
    Ok(false)
}
