//! What a client wants to speak, and whether we do: the first request of a connection. Pure.

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use hyper::Method;
use hyper::StatusCode;
use hyper::header;

use crate::streaming::status::Form;
use crate::streaming::websocket::Codec;

/// The header that names protocols within SPDY.
pub(super) const PROTOCOL: &str = "x-stream-protocol-version";
/// The header that says which there are, in an answer that says no.
pub(super) const ACCEPTED: &str = "x-accepted-stream-protocol-versions";
/// What the upgrade is to.
pub(super) const SPDY: &str = "SPDY/3.1";
/// What the other upgrade is to.
pub(super) const WEBSOCKET: &str = "websocket";

/// Port forwarding within SPDY.
const FORWARD: &str = "portforward.k8s.io";
/// SPDY within WebSocket, and port forwarding within that.
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
/// What a key of WebSocket is hashed with (RFC 6455).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What the request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    /// Exec or attach.
    Command,
    /// Port forwarding.
    Ports,
}

/// The protocols of exec and attach within SPDY.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    /// Nothing can be told at the end.
    V1,
    /// The client ends its side of a stream itself.
    V2,
    /// With sizes of a terminal.
    V3,
    /// The end is told as JSON.
    V4,
}

const VERSIONS: [(&str, Version); 4] = [
    ("v4.channel.k8s.io", Version::V4),
    ("v3.channel.k8s.io", Version::V3),
    ("v2.channel.k8s.io", Version::V2),
    ("channel.k8s.io", Version::V1),
];

/// The channels of exec, attach and port forwarding within WebSocket. No name means the oldest.
const CHANNELS: [(&str, Codec, Form); 6] = [
    ("v5.channel.k8s.io", Codec::Binary { half_close: true }, Form::Json),
    ("v4.channel.k8s.io", Codec::Binary { half_close: false }, Form::Json),
    ("v4.base64.channel.k8s.io", Codec::Base64, Form::Json),
    ("channel.k8s.io", Codec::Binary { half_close: false }, Form::Text),
    ("base64.channel.k8s.io", Codec::Base64, Form::Text),
    ("", Codec::Binary { half_close: false }, Form::Text),
];

/// Port forwarding has no half-close, no text forms and one name more.
fn speaks(name: &str, purpose: For) -> bool {
    match purpose {
        For::Command => true,
        For::Ports => matches!(name, "v4.channel.k8s.io" | "v4.base64.channel.k8s.io" | ""),
    }
}

/// What is spoken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wire {
    /// SPDY, with this protocol in it.
    Spdy {
        /// Its name.
        name: &'static str,
        /// What it means for exec and attach.
        version: Version,
    },
    /// WebSocket.
    WebSocket {
        /// The answer to the client's key.
        accept: String,
        /// The name of the protocol in it; may be empty.
        name: &'static str,
        /// What that is.
        inner: Inner,
    },
}

/// What is spoken within WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inner {
    /// Channels.
    Channels(Codec, Form),
    /// SPDY.
    Tunnel,
}

/// Why a client is turned away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// As HTTP says it.
    pub(super) status: StatusCode,
    /// As people say it.
    pub(super) text: String,
    /// Headers that say what would be good.
    pub(super) headers: Vec<(&'static str, &'static str)>,
}

fn refusal(status: StatusCode, text: impl Into<String>) -> Refusal {
    Refusal { status, text: text.into(), headers: Vec::new() }
}

/// What a client wants to speak.
pub(super) fn negotiate(
    method: &Method,
    headers: &HeaderMap,
    purpose: For,
) -> Result<Wire, Refusal> {
    let upgrade = words(headers, header::UPGRADE.as_str());
    let upgrades = words(headers, header::CONNECTION.as_str())
        .iter()
        .any(|word| word.to_ascii_lowercase().contains("upgrade"));
    if upgrades && upgrade.iter().any(|word| word.eq_ignore_ascii_case(WEBSOCKET)) {
        return websocket(method, headers, purpose);
    }
    let (name, version) = spdy(headers, purpose)?;
    if !upgrades || !upgrade.iter().any(|word| word.eq_ignore_ascii_case(SPDY)) {
        let text = "unable to upgrade: missing upgrade headers in request";
        return Err(refusal(StatusCode::BAD_REQUEST, text));
    }
    Ok(Wire::Spdy { name, version })
}

fn spdy(headers: &HeaderMap, purpose: For) -> Result<(&'static str, Version), Refusal> {
    if !headers.contains_key(PROTOCOL) {
        let text = "unable to upgrade: the header X-Stream-Protocol-Version is missing";
        return Err(refusal(StatusCode::BAD_REQUEST, text));
    }
    let wanted = words(headers, PROTOCOL);
    if wanted.is_empty() {
        let text = "unable to upgrade: X-Stream-Protocol-Version names no protocol";
        return Err(refusal(StatusCode::BAD_REQUEST, text));
    }
    let known: &[(&'static str, Version)] = match purpose {
        For::Command => &VERSIONS,
        For::Ports => &[(FORWARD, Version::V4)],
    };
    // The client's order counts.
    let both = wanted.iter().find_map(|name| known.iter().find(|(known, _)| known == name));
    both.copied().ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        let text = format!(
            "unable to upgrade: unable to negotiate protocol: server accepts {}",
            names.join(", ")
        );
        Refusal {
            headers: names.into_iter().map(|name| (ACCEPTED, name)).collect(),
            ..refusal(StatusCode::FORBIDDEN, text)
        }
    })
}

fn websocket(method: &Method, headers: &HeaderMap, purpose: For) -> Result<Wire, Refusal> {
    if method != Method::GET {
        let text = "WebSocket begins with GET";
        return Err(refusal(StatusCode::METHOD_NOT_ALLOWED, text));
    }
    let one = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
    if one(header::SEC_WEBSOCKET_VERSION.as_str()) != "13" {
        return Err(Refusal {
            headers: vec![(header::SEC_WEBSOCKET_VERSION.as_str(), "13")],
            ..refusal(StatusCode::BAD_REQUEST, "WebSocket of version 13 is spoken here")
        });
    }
    let key = one(header::SEC_WEBSOCKET_KEY.as_str());
    if STANDARD.decode(key).map_or(0, |bytes| bytes.len()) != 16 {
        return Err(refusal(StatusCode::BAD_REQUEST, "no Sec-WebSocket-Key of 16 bytes"));
    }
    let mut wanted = words(headers, header::SEC_WEBSOCKET_PROTOCOL.as_str());
    if wanted.is_empty() {
        wanted.push("");
    }
    let known = |wanted: &&str| -> Option<(&'static str, Inner)> {
        if purpose == For::Ports && *wanted == TUNNEL {
            return Some((TUNNEL, Inner::Tunnel));
        }
        let found = CHANNELS.iter().find(|(name, _, _)| name == wanted && speaks(name, purpose));
        found.map(|(name, codec, form)| (*name, Inner::Channels(*codec, *form)))
    };
    let Some((name, inner)) = wanted.iter().find_map(known) else {
        let text = "none of the protocols in Sec-WebSocket-Protocol is spoken here";
        return Err(refusal(StatusCode::FORBIDDEN, text));
    };
    let hash = digest::digest(
        &digest::SHA1_FOR_LEGACY_USE_ONLY,
        [key.as_bytes(), GUID.as_bytes()].concat().as_slice(),
    );
    Ok(Wire::WebSocket { accept: STANDARD.encode(hash), name, inner })
}

/// The words of all headers of a name, which are lists with commas.
fn words<'h>(headers: &'h HeaderMap, name: &str) -> Vec<&'h str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    let words = values.flat_map(|value| value.split(',')).map(str::trim);
    words.filter(|word| !word.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn spoken(pairs: &[(&'static str, &str)], purpose: For) -> Result<Wire, u16> {
        negotiate(&Method::POST, &headers(pairs), purpose)
            .map_err(|refusal| refusal.status.as_u16())
    }

    #[test]
    fn spdy_speaks_the_first_protocol_of_the_client_that_we_know() {
        for (wanted, purpose, expected) in [
            (vec!["v5.channel.k8s.io", "v4.channel.k8s.io"], For::Command, Ok("v4.channel.k8s.io")),
            (vec!["v5.channel.k8s.io, v3.channel.k8s.io"], For::Command, Ok("v3.channel.k8s.io")),
            (vec!["v2.channel.k8s.io", "channel.k8s.io"], For::Command, Ok("v2.channel.k8s.io")),
            (vec!["channel.k8s.io"], For::Command, Ok("channel.k8s.io")),
            (vec!["v5.channel.k8s.io"], For::Command, Err(403)),
            (vec!["portforward.k8s.io"], For::Command, Err(403)),
            (vec!["portforward.k8s.io"], For::Ports, Ok("portforward.k8s.io")),
            (vec!["v4.channel.k8s.io"], For::Ports, Err(403)),
            (vec![" , "], For::Command, Err(400)),
            (vec![], For::Command, Err(400)),
        ] {
            let mut pairs = vec![("connection", "Upgrade"), ("upgrade", SPDY)];
            pairs.extend(wanted.iter().map(|name| (PROTOCOL, *name)));
            let name = spoken(&pairs, purpose).map(|wire| match wire {
                Wire::Spdy { name, .. } => name,
                Wire::WebSocket { .. } => panic!("{wire:?}"),
            });
            assert_eq!(name, expected, "{wanted:?}");
        }
        let refused = negotiate(&Method::POST, &headers(&[(PROTOCOL, "v9")]), For::Command);
        assert_eq!(refused.unwrap_err().headers.len(), 4);
    }

    #[test]
    fn without_an_upgrade_nothing_is_spoken() {
        let protocol = (PROTOCOL, "v4.channel.k8s.io");
        for (pairs, expected) in [
            (vec![protocol], 400),
            (vec![protocol, ("connection", "upgrade")], 400),
            (vec![protocol, ("upgrade", SPDY)], 400),
            (vec![protocol, ("connection", "upgrade"), ("upgrade", "SPDY/2")], 400),
            (vec![protocol, ("connection", "upgrade"), ("upgrade", "h2c")], 400),
        ] {
            assert_eq!(spoken(&pairs, For::Command), Err(expected), "{pairs:?}");
        }
        let lower = [protocol, ("connection", "keep-alive, upgrade"), ("upgrade", "spdy/3.1")];
        assert!(spoken(&lower, For::Command).is_ok());
    }

    #[test]
    fn websocket_speaks_channels_and_tunnels() {
        let binary = |half_close| Codec::Binary { half_close };
        for (wanted, purpose, expected) in [
            ("v5.channel.k8s.io", For::Command, Ok(Inner::Channels(binary(true), Form::Json))),
            ("v4.channel.k8s.io", For::Command, Ok(Inner::Channels(binary(false), Form::Json))),
            ("channel.k8s.io", For::Command, Ok(Inner::Channels(binary(false), Form::Text))),
            ("base64.channel.k8s.io", For::Command, Ok(Inner::Channels(Codec::Base64, Form::Text))),
            (
                "v4.base64.channel.k8s.io",
                For::Command,
                Ok(Inner::Channels(Codec::Base64, Form::Json)),
            ),
            ("v9, v4.channel.k8s.io", For::Command, Ok(Inner::Channels(binary(false), Form::Json))),
            ("", For::Command, Ok(Inner::Channels(binary(false), Form::Text))),
            ("v9.channel.k8s.io", For::Command, Err(403)),
            (TUNNEL, For::Command, Err(403)),
            (TUNNEL, For::Ports, Ok(Inner::Tunnel)),
            ("v4.channel.k8s.io", For::Ports, Ok(Inner::Channels(binary(false), Form::Json))),
            ("v5.channel.k8s.io", For::Ports, Err(403)),
            ("channel.k8s.io", For::Ports, Err(403)),
            ("portforward.k8s.io", For::Ports, Err(403)),
        ] {
            let headers = headers(&[
                ("connection", "Upgrade"),
                ("upgrade", "websocket"),
                ("sec-websocket-version", "13"),
                // The example of RFC 6455.
                ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
                ("sec-websocket-protocol", wanted),
            ]);
            let spoken = negotiate(&Method::GET, &headers, purpose);
            let inner = spoken.map_err(|refusal| refusal.status.as_u16()).map(|wire| match wire {
                Wire::WebSocket { accept, inner, .. } => {
                    assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
                    inner
                }
                Wire::Spdy { .. } => panic!("{wire:?}"),
            });
            assert_eq!(inner, expected, "{wanted}");
        }
    }

    #[test]
    fn a_handshake_of_websocket_is_whole() {
        let whole = [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let status = |method: Method, pairs: &[(&'static str, &str)]| {
            let spoken = negotiate(&method, &headers(pairs), For::Command);
            spoken.map_err(|refusal| refusal.status.as_u16()).map(drop)
        };
        assert_eq!(status(Method::GET, &whole), Ok(()));
        assert_eq!(status(Method::POST, &whole), Err(405));
        assert_eq!(status(Method::GET, &whole[..3]), Err(400));
        for (name, value) in [("sec-websocket-version", "8"), ("sec-websocket-key", "c2hvcnQ=")] {
            let pairs = whole.map(|pair| if pair.0 == name { (name, value) } else { pair });
            assert_eq!(status(Method::GET, &pairs), Err(400), "{name}");
        }
    }
}
