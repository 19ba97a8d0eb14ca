//! The channels of a connection.

use std::pin::pin;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::Sink;
use futures_util::SinkExt;
use futures_util::Stream;
use futures_util::StreamExt;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::streaming::line::Ended;
use crate::streaming::line::Line;
use crate::streaming::pipe::Feed;
use crate::streaming::pipe::Item;
use crate::streaming::pipe::Queue;
use crate::streaming::websocket;

/// The channel whose message, one byte, says which channel is at its end (`v5.channel.k8s.io`).
const CLOSE: u8 = 255;

/// How bytes of a channel become a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::streaming) enum Codec {
    /// A byte with the channel's number, and the bytes. With `half_close`, channel 255 ends others.
    Binary {
        /// Whether channel 255 means something.
        half_close: bool,
    },
    /// A digit with the channel's number, and the bytes in base64.
    Base64,
}

/// What only a connection of WebSocket sends.
#[derive(Debug)]
pub(in crate::streaming) enum Control {
    /// No more.
    Close,
}

/// Speaks channels on `io`: `feeds` are the channels that a client can write to, by their number.
pub(in crate::streaming) async fn open<T>(
    io: T,
    line: Arc<Line>,
    codec: Codec,
    feeds: Vec<Option<Feed>>,
    queue: Queue<Control>,
) -> Ended
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let (to, from) = websocket::server(io).await.split();
    let mut reads = pin!(read(from, &line, codec, feeds));
    let mut writes = pin!(write(to, &line, codec, queue));
    tokio::select! {
        ended = &mut reads => ended,
        ended = &mut writes => match ended {
            Ended::Done => reads.await,
            ended => ended,
        },
    }
}

async fn read(
    mut from: impl Stream<Item = Result<Message, Error>> + Unpin,
    line: &Line,
    codec: Codec,
    mut feeds: Vec<Option<Feed>>,
) -> Ended {
    loop {
        let message = match from.next().await {
            None | Some(Ok(Message::Close(_))) => return Ended::Client,
            Some(Err(error)) => return websocket::ended(error),
            // Binary or text makes no difference to the reference either.
            Some(Ok(Message::Binary(message))) => message,
            Some(Ok(Message::Text(message))) => message.into(),
            // A ping is answered by the library, and is no use of the connection.
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
        };
        line.touch();
        match decode(codec, message, feeds.len()) {
            Ok(Some(Said::Bytes(channel, bytes))) => {
                let Some(Some(feed)) = feeds.get(channel) else { continue };
                if let Err(ended) = line.unless_gone(feed.put(bytes)).await {
                    return ended;
                }
            }
            Ok(Some(Said::End(channel))) => {
                if let Some(feed) = feeds.get_mut(channel).and_then(Option::take) {
                    feed.finish();
                }
            }
            Ok(None) => {}
            Err(fault) => return Ended::Nonsense(fault),
        }
    }
}

/// What a message says.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Bytes(usize, Bytes),
    End(usize),
}

fn decode(codec: Codec, mut message: Bytes, channels: usize) -> Result<Option<Said>, &'static str> {
    if message.is_empty() {
        return Ok(None);
    }
    let bytes = message.split_off(1);
    let first = message.first().copied().unwrap_or_default();
    match codec {
        Codec::Binary { half_close: true } if first == CLOSE => match bytes.as_ref() {
            [channel] if usize::from(*channel) < channels => {
                Ok(Some(Said::End(usize::from(*channel))))
            }
            [_] => Err("the end of a channel that there is not"),
            _ => Err("the end of a channel without its number"),
        },
        Codec::Binary { .. } => Ok(Some(Said::Bytes(usize::from(first), bytes))),
        Codec::Base64 => {
            let channel = usize::from(first.wrapping_sub(b'0'));
            let bytes = STANDARD.decode(bytes).map_err(|_| "bytes that are not base64")?;
            Ok(Some(Said::Bytes(channel, bytes.into())))
        }
    }
}

async fn write(
    mut to: impl Sink<Message, Error = Error> + Unpin,
    line: &Line,
    codec: Codec,
    mut queue: Queue<Control>,
) -> Ended {
    while let Some(queued) = queue.next().await {
        let message = match queued.item {
            Item::Data(channel, bytes) => encode(codec, channel, &bytes),
            // Clients know no end of a channel but the connection's.
            Item::End(_) => continue,
            Item::Control(Control::Close) => {
                let normal = CloseFrame { code: CloseCode::Normal, reason: "".into() };
                return match to.send(Message::Close(Some(normal))).await {
                    Ok(()) => Ended::Done,
                    Err(error) => websocket::ended(error),
                };
            }
        };
        if let Err(error) = to.send(message).await {
            return websocket::ended(error);
        }
        line.touch();
    }
    Ended::Done
}

fn encode(codec: Codec, channel: u32, bytes: &[u8]) -> Message {
    let number = u8::try_from(channel).unwrap_or(CLOSE);
    match codec {
        Codec::Binary { .. } => Message::Binary([&[number], bytes].concat().into()),
        Codec::Base64 => {
            let mut text = String::from(char::from(b'0'.saturating_add(number)));
            STANDARD.encode_string(bytes, &mut text);
            Message::Text(text.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Codec = Codec::Binary { half_close: false };
    const V5: Codec = Codec::Binary { half_close: true };

    #[test]
    fn a_message_names_its_channel() {
        let bytes = |channel, bytes: &'static [u8]| Ok(Some(Said::Bytes(channel, bytes.into())));
        for (codec, message, expected) in [
            (PLAIN, &b""[..], Ok(None)),
            (PLAIN, b"\0abc", bytes(0, b"abc")),
            (PLAIN, b"\x04", bytes(4, b"")),
            (PLAIN, b"\xff\0", bytes(255, b"\0")),
            (V5, b"\0abc", bytes(0, b"abc")),
            (V5, b"\xff\0", Ok(Some(Said::End(0)))),
            (V5, b"\xff\x05", Err("the end of a channel that there is not")),
            (V5, b"\xff", Err("the end of a channel without its number")),
            (V5, b"\xff\0\0", Err("the end of a channel without its number")),
            (Codec::Base64, b"0YWJj", bytes(0, b"abc")),
            (Codec::Base64, b"4", bytes(4, b"")),
            (Codec::Base64, b"0?", Err("bytes that are not base64")),
            (Codec::Base64, b"\0YWJj", bytes(208, b"abc")),
        ] {
            assert_eq!(decode(codec, Bytes::from_static(message), 5), expected, "{message:?}");
        }
    }

    #[test]
    fn what_is_sent_names_its_channel_too() {
        for codec in [PLAIN, V5] {
            assert_eq!(encode(codec, 1, b"abc"), Message::binary(&b"\x01abc"[..]));
        }
        assert_eq!(encode(Codec::Base64, 3, b"abc"), Message::text("3YWJj"));
    }
}
