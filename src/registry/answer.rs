//! Reading what a server sent: bounded, timed, and clean before it is shown.

use std::time::Duration;

use oci_client::errors::OciEnvelope;
use oci_client::errors::OciErrorCode;
use reqwest::Response;

use crate::registry::error::Asked;
use crate::registry::error::RegistryError;

/// The largest error or token that is read, in bytes.
pub(super) const REPLY_LIMIT: u64 = 1024 * 1024;
/// How much of an error is shown, in characters.
const SHOWN_LIMIT: usize = 512;

/// Reads a body of at most `limit` bytes, all of it within `patience`.
pub(super) async fn read(
    response: Response,
    limit: u64,
    patience: Duration,
    asked: &Asked,
) -> Result<Vec<u8>, RegistryError> {
    let late =
        || RegistryError::TimedOut { asked: Box::new(asked.clone()), seconds: patience.as_secs() };
    tokio::time::timeout(patience, read_untimed(response, limit, asked))
        .await
        .unwrap_or_else(|_| Err(late()))
}

async fn read_untimed(
    mut response: Response,
    limit: u64,
    asked: &Asked,
) -> Result<Vec<u8>, RegistryError> {
    let too_large = || RegistryError::TooLarge { asked: Box::new(asked.clone()), limit };
    if response.content_length().is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    let broken = |error: reqwest::Error| RegistryError::Unreachable {
        asked: Box::new(asked.clone()),
        source: error.without_url(),
    };
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        let length = u64::try_from(bytes.len() + chunk.len()).unwrap_or(u64::MAX);
        if length > limit {
            return Err(too_large());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// What a registry says when it does not give what was asked for.
#[derive(Debug)]
pub(super) struct Refusal {
    envelope: Option<OciEnvelope>,
    message: String,
}

impl Refusal {
    /// Reads an error's body. It only explains: a body that breaks off is no further error.
    pub(super) async fn read(response: Response, patience: Duration, asked: &Asked) -> Self {
        let bytes = read(response, REPLY_LIMIT, patience, asked).await.unwrap_or_default();
        Self::parse(&bytes)
    }

    fn parse(bytes: &[u8]) -> Self {
        let envelope: Option<OciEnvelope> = serde_json::from_slice(bytes).ok();
        let envelope = envelope.filter(|envelope| !envelope.errors.is_empty());
        let message = match &envelope {
            Some(envelope) => {
                let said = envelope.errors.iter().map(|error| {
                    let code = serde_json::to_value(&error.code).unwrap_or_default();
                    format!("{} {}", code.as_str().unwrap_or_default(), error.message)
                });
                said.collect::<Vec<_>>().join("; ")
            }
            None => String::from_utf8_lossy(bytes).into_owned(),
        };
        Self { envelope, message: shown(&message) }
    }

    /// The text for a message: empty, or `: ` and what was said.
    pub(super) fn into_message(self) -> String {
        self.message
    }

    /// Whether a status of 404 with this refusal means that the manifest does not exist.
    ///
    /// Only in a registry's own words: a bare 404 may come from a proxy, or from a server that is
    /// no registry, and must not pass for "there is no signature". `NOT_FOUND` and `UNKNOWN` with
    /// "not found" are what some registries say instead of the distribution specification's codes.
    pub(super) fn denies_existence(&self) -> bool {
        let errors = self.envelope.iter().flat_map(|envelope| &envelope.errors);
        errors.into_iter().any(|error| match &error.code {
            OciErrorCode::ManifestUnknown | OciErrorCode::NameUnknown | OciErrorCode::NotFound => {
                true
            }
            OciErrorCode::Other(code) if code == "UNKNOWN" => {
                error.message.to_ascii_lowercase().contains("not found")
            }
            _ => false,
        })
    }
}

/// Foreign text made fit for one log line.
fn shown(text: &str) -> String {
    let clean: String = text
        .chars()
        .map(|character| if character.is_whitespace() { ' ' } else { character })
        .filter(|character| !character.is_control() && !is_invisible(*character))
        .take(SHOWN_LIMIT)
        .collect();
    let clean = clean.trim();
    if clean.is_empty() { String::new() } else { format!(": {clean}") }
}

/// Characters that turn the reading order around, or show nothing (CVE-2021-42574's family).
fn is_invisible(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_registrys_words_deny_existence() {
        let said = |code: &str, message: &str| {
            format!(r#"{{"errors":[{{"code":"{code}","message":"{message}"}}]}}"#)
        };
        for (body, expected) in [
            (said("MANIFEST_UNKNOWN", "manifest unknown"), true),
            (said("NAME_UNKNOWN", ""), true),
            (said("NOT_FOUND", "artifact not found"), true),
            (said("UNKNOWN", "Not Found"), true),
            (said("UNKNOWN", "unknown error"), false),
            (said("DENIED", "not found"), false),
            (said("TOOMANYREQUESTS", ""), false),
            (r#"{"errors":[]}"#.to_owned(), false),
            (r#"{"errors":null}"#.to_owned(), false),
            ("404 page not found".to_owned(), false),
            (String::new(), false),
        ] {
            assert_eq!(Refusal::parse(body.as_bytes()).denies_existence(), expected, "{body}");
        }
    }

    #[test]
    fn what_is_shown_is_short_and_clean() {
        let message = Refusal::parse(b"<h1>a\x1b[31m\r\nb\x00\xff</h1>").into_message();
        assert_eq!(message, ": <h1>a[31m  b\u{fffd}</h1>");
        let long = Refusal::parse("x\u{202e}".repeat(2000).as_bytes()).into_message();
        assert_eq!(long.len(), 2 + SHOWN_LIMIT);
        assert_eq!(Refusal::parse(b" \n").into_message(), "");
    }
}
