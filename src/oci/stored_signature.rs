//! One signature as containers/image writes it: into a file of a lookaside, or beside an image in
//! containers/storage.
//!
//! An OpenPGP signature is its own bytes. Everything else has a zero byte, the name of its form and
//! a line break before it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde::Serialize;

use crate::oci::strict_json;

/// How a form that is not OpenPGP by itself begins.
const MARK: u8 = 0;
/// The name of OpenPGP's form, where it is written out.
const SIMPLE_SIGNING: &[u8] = b"simple-signing";
/// The name of the form of cosign's signatures.
const SIGSTORE: &[u8] = b"sigstore-json";

/// A signature as found: nothing in it is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredSignature {
    /// A message that OpenPGP signs.
    OpenPgp(Vec<u8>),
    /// A layer as cosign pushes it.
    Sigstore(SigstoreLayer),
}

/// A layer as cosign pushes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigstoreLayer {
    /// Its media type.
    pub media_type: String,
    /// Its bytes.
    pub payload: Vec<u8>,
    /// What stands beside it.
    pub annotations: BTreeMap<String, String>,
}

/// Why bytes are no signature.
#[derive(Debug, thiserror::Error)]
pub enum StoredSignatureError {
    /// There are none.
    #[error("empty signature blob")]
    Empty,
    /// Neither OpenPGP nor a form with a name.
    #[error("unrecognized signature format, starting with binary {0:#x}")]
    Unknown(u8),
    /// A name that is not known, or none.
    #[error("unrecognized signature format {0:?}")]
    Form(String),
    /// It is not what its name says.
    #[error("malformed signature of the form sigstore-json")]
    Json(#[source] serde_json::Error),
    /// Its payload is no base64.
    #[error("malformed signature of the form sigstore-json: its payload is not base64")]
    Base64(#[source] base64::DecodeError),
}

#[derive(Serialize, Deserialize)]
struct Text {
    #[serde(rename = "mimeType")]
    media_type: String,
    payload: String,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

impl StoredSignature {
    /// Reads one signature.
    ///
    /// # Errors
    ///
    /// [`StoredSignatureError`] when the bytes are none.
    pub fn parse(bytes: &[u8]) -> Result<Self, StoredSignatureError> {
        match bytes {
            [] => Err(StoredSignatureError::Empty),
            [MARK, named @ ..] => {
                let end = named.iter().position(|byte| *byte == b'\n').unwrap_or(named.len());
                let (form, rest) = named.split_at(end);
                let body = rest.get(1..).unwrap_or_default();
                match form {
                    SIMPLE_SIGNING => Ok(Self::OpenPgp(body.to_vec())),
                    SIGSTORE => sigstore(body).map(Self::Sigstore),
                    other => {
                        let shown = String::from_utf8_lossy(other).chars().take(40).collect();
                        Err(StoredSignatureError::Form(shown))
                    }
                }
            }
            [first, ..] if begins_message(*first) => Ok(Self::OpenPgp(bytes.to_vec())),
            [first, ..] => Err(StoredSignatureError::Unknown(*first)),
        }
    }

    /// The bytes that [`StoredSignature::parse`] reads.
    ///
    /// # Errors
    ///
    /// What `serde_json` says.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        match self {
            Self::OpenPgp(message)
                if message.first().is_some_and(|first| begins_message(*first)) =>
            {
                Ok(message.clone())
            }
            // No message, as a registry may give any bytes for one: with its name it is read again,
            // and does not spoil those beside it.
            Self::OpenPgp(other) => Ok([&[MARK], SIMPLE_SIGNING, b"\n", other].concat()),
            Self::Sigstore(layer) => {
                let text = Text {
                    media_type: layer.media_type.clone(),
                    payload: BASE64.encode(&layer.payload),
                    annotations: Some(layer.annotations.clone()),
                };
                let head = [&[MARK], SIGSTORE, b"\n"].concat();
                Ok([head, serde_json::to_vec(&text)?].concat())
            }
        }
    }
}

fn sigstore(body: &[u8]) -> Result<SigstoreLayer, StoredSignatureError> {
    let text: Text = strict_json::parse(body).map_err(StoredSignatureError::Json)?;
    let payload = BASE64.decode(&text.payload).map_err(StoredSignatureError::Base64)?;
    let annotations = text.annotations.unwrap_or_default();
    Ok(SigstoreLayer { media_type: text.media_type, payload, annotations })
}

/// Whether an OpenPGP message that is signed may begin with this byte: a packet of compressed
/// data, of a one-pass signature or of a signature, in the old form or the new.
fn begins_message(byte: u8) -> bool {
    let kind = match byte {
        0xc0..=0xff => byte & 0x3f,
        0x80..=0xbf => (byte >> 2) & 0x0f,
        _ => return false,
    };
    matches!(kind, 2 | 4 | 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let layer = SigstoreLayer {
            media_type: "application/x".to_owned(),
            payload: b"{}".to_vec(),
            annotations: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
        };
        for signature in [
            StoredSignature::OpenPgp(vec![0xa3, 1, 2]),
            StoredSignature::OpenPgp(vec![0x90, 0]),
            StoredSignature::OpenPgp(Vec::new()),
            StoredSignature::OpenPgp(b"<html>".to_vec()),
            StoredSignature::OpenPgp(b"\0other\nx".to_vec()),
            StoredSignature::Sigstore(layer),
        ] {
            let bytes = signature.to_bytes().unwrap();
            assert_eq!(StoredSignature::parse(&bytes).unwrap(), signature);
        }
        let named = StoredSignature::parse(b"\0simple-signing\n\x90\0").unwrap();
        assert_eq!(named, StoredSignature::OpenPgp(vec![0x90, 0]));
    }

    #[test]
    fn what_is_no_signature_is_none() {
        for bytes in [
            &b""[..],
            b"<html>",
            b"-----BEGIN PGP SIGNED MESSAGE-----",
            b"\x99\x01",
            b"\0",
            b"\0sigstore-json",
            b"\0sigstore-json\n{\"mimeType\":\"a\",\"mimeType\":\"b\",\"payload\":\"\"}",
            b"\0sigstore-json\n{\"mimeType\":\"a\",\"payload\":\"?\"}",
            b"\0other\nx",
        ] {
            assert!(StoredSignature::parse(bytes).is_err(), "{bytes:?}");
        }
    }
}
