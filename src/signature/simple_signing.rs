//! The payload of a simple signing signature: which digest, under which name.
//!
//! The document is strict, as in containers/image: these keys and no others in its critical part,
//! each once. `optional` must be there and may hold what the signer likes; cosign's may be null.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Deserializer;
use serde::de::Error as _;
use serde_json::value::RawValue;

use crate::oci::digest::Digest;
use crate::oci::strict_json;
use crate::signature::SignatureError;

/// Which kind of signature a payload is made for. The two differ in a name and a detail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As cosign writes it.
    Cosign,
    /// As skopeo and podman write it for GnuPG to sign.
    Atomic,
}

impl Kind {
    /// The one value of `critical.type`.
    fn name(self) -> &'static str {
        match self {
            Self::Cosign => "cosign container image signature",
            Self::Atomic => "atomic container signature",
        }
    }
}

/// What a simple signing payload claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// The manifest that is signed.
    pub digest: Digest,
    /// The name it is signed under, as the signer wrote it.
    pub docker_reference: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    critical: Critical,
    #[serde(deserialize_with = "required")]
    optional: Option<Optional>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Critical {
    #[serde(rename = "type")]
    kind: String,
    image: Image,
    identity: Identity,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: Digest,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    #[serde(rename = "docker-reference")]
    docker_reference: String,
}

/// Not used to judge; its known fields must still be of their types.
#[derive(Deserialize)]
struct Optional {
    #[serde(rename = "creator")]
    _creator: Option<String>,
    timestamp: Option<f64>,
}

/// Null is a value here; a missing key is not.
fn required<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Optional>, D::Error> {
    Option::deserialize(deserializer)
}

/// Whether the parts that decide are objects: serde would take a list of their members, too. The rest
/// can be megabytes of a stranger's, and stays text.
fn has_named_members(bytes: &[u8]) -> bool {
    let critical = members(bytes).and_then(|document| members(document.get("critical")?.get()));
    critical.is_some_and(|critical| {
        let is_object = |name| critical.get(name).is_some_and(|part| part.get().starts_with('{'));
        is_object("image") && is_object("identity")
    })
}

/// The members of an object, as they are written.
fn members(text: &(impl AsRef<[u8]> + ?Sized)) -> Option<BTreeMap<String, &RawValue>> {
    serde_json::from_slice(text.as_ref()).ok()
}

impl Payload {
    /// Reads a payload whose signature was verified.
    ///
    /// # Errors
    ///
    /// [`SignatureError`] when it is anything else than the document of this kind.
    pub fn parse(bytes: &[u8], expected: Kind) -> Result<Self, SignatureError> {
        let document: Document = strict_json::parse(bytes).map_err(SignatureError::Payload)?;
        if !has_named_members(bytes) {
            let fault = serde_json::Error::custom("a list stands where an object must");
            return Err(SignatureError::Payload(fault));
        }
        if document.optional.is_none() && expected == Kind::Atomic {
            let fault = serde_json::Error::custom("optional is null");
            return Err(SignatureError::Payload(fault));
        }
        let time = document.optional.and_then(|optional| optional.timestamp);
        if time.is_some_and(|time| time.fract() != 0.0) {
            return Err(SignatureError::PayloadTime);
        }
        let Critical { kind, image, identity } = document.critical;
        if kind != expected.name() {
            return Err(SignatureError::PayloadType(kind.chars().take(100).collect()));
        }
        Ok(Self { digest: image.digest, docker_reference: identity.docker_reference })
    }
}
