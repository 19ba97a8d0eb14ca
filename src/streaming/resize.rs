//! The sizes of a client's terminal: one JSON object after another.

use serde::Deserialize;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;

use crate::model::streams::TerminalSize;

/// The most bytes of one size.
const SIZE_LIMIT: usize = 1024;

#[derive(Deserialize)]
struct Size {
    #[serde(rename = "Width", alias = "width", default)]
    width: u16,
    #[serde(rename = "Height", alias = "height", default)]
    height: u16,
}

/// Passes sizes on for as long as they come. What is no size ends that, and the rest is dropped.
pub(super) async fn pass_on(mut from: impl AsyncRead + Unpin, to: mpsc::Sender<TerminalSize>) {
    let mut text = Vec::new();
    let mut room = [0_u8; SIZE_LIMIT];
    let mut good = true;
    while let Ok(length @ 1..) = from.read(&mut room).await {
        if !good {
            continue;
        }
        text.extend(room.get(..length).unwrap_or_default());
        let (sizes, rest) = read(&text);
        for size in sizes {
            good &= to.send(size).await.is_ok();
        }
        match rest {
            Some(read) if text.len() - read <= SIZE_LIMIT => {
                text.drain(..read);
            }
            Some(_) | None => good = false,
        }
    }
}

/// The sizes in a text, and how much of it they are; `None` when there is something else.
fn read(text: &[u8]) -> (Vec<TerminalSize>, Option<usize>) {
    let mut sizes = Vec::new();
    let mut stream = serde_json::Deserializer::from_slice(text).into_iter::<Size>();
    loop {
        let end = stream.byte_offset();
        match stream.next() {
            Some(Ok(Size { width, height })) => sizes.push(TerminalSize { width, height }),
            None => return (sizes, Some(end)),
            Some(Err(error)) if error.is_eof() => return (sizes, Some(end)),
            Some(Err(_)) => return (sizes, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn passed(pieces: &[&str]) -> Vec<(u16, u16)> {
        let (sender, mut receiver) = mpsc::channel(100);
        let (ours, theirs) = tokio::io::duplex(4);
        let writes = async {
            let mut ours = ours;
            for piece in pieces {
                let bytes = piece.as_bytes();
                tokio::io::AsyncWriteExt::write_all(&mut ours, bytes).await.unwrap();
            }
        };
        tokio::join!(pass_on(theirs, sender), writes);
        let mut sizes = Vec::new();
        while let Some(size) = receiver.recv().await {
            sizes.push((size.width, size.height));
        }
        sizes
    }

    #[tokio::test]
    async fn sizes_come_in_any_pieces() {
        let two = r#"{"Width":80,"Height":24}
{"Width":132,"Height":43}"#;
        assert_eq!(passed(&[two]).await, [(80, 24), (132, 43)]);
        let pieces = [r#"{"Wid"#, r#"th":80,"#, r#""Height":24}{"width":1,"height":2}"#];
        assert_eq!(passed(&pieces).await, [(80, 24), (1, 2)]);
        assert_eq!(passed(&[r#"{"Width":80,"Height":24,"More":[1]}"#]).await, [(80, 24)]);
    }

    #[tokio::test]
    async fn what_is_no_size_ends_them_and_is_still_read() {
        let long = "x".repeat(100_000);
        for bad in [r#"{"Width":-1}"#, r#"{"Width":65536}"#, "rubbish", &long] {
            let after = r#"{"Width":1,"Height":1}"#;
            assert_eq!(passed(&[r#"{"Width":80,"Height":24}"#, bad, after]).await, [(80, 24)]);
        }
        let endless = format!("{{\"{long}");
        assert_eq!(passed(&[&endless, r#"":1}{"Width":1,"Height":1}"#]).await, []);
    }
}
