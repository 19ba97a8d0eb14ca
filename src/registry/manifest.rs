//! Manifests and indexes, by tag or digest.

use crate::oci::digest::Digest;
use crate::oci::reference::Reference;
use crate::registry::answer::Refusal;
use crate::registry::client::Answer;
use crate::registry::client::Asker;
use crate::registry::client::Question;
use crate::registry::client::Whole;
use crate::registry::error::Asked;
use crate::registry::error::RegistryError;
use crate::registry::names::Source;
use crate::registry::transport::SeeOther;

/// The media types that are asked for. The last two are refused when they come, with a better
/// reason than "not found".
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.v1+prettyjws, \
    application/vnd.docker.distribution.manifest.v1+json";

/// What a manifest is asked for by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TagOrDigest {
    /// A name that may mean something else tomorrow.
    Tag(String),
    /// The name of certain bytes.
    Digest(Digest),
}

impl From<&Reference> for TagOrDigest {
    /// The digest if there is one; else the tag, or `latest`.
    fn from(reference: &Reference) -> Self {
        match reference.digest() {
            Some(digest) => Self::Digest(digest.clone()),
            None => Self::Tag(reference.tag().unwrap_or("latest").to_owned()),
        }
    }
}

/// A manifest or index as the registry sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedManifest {
    /// The digest of the bytes: the one asked for, or SHA-256.
    pub digest: Digest,
    /// What the registry says they are, without parameters; empty if it does not say.
    pub media_type: String,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// A manifest, or that there is none.
pub(super) enum Found {
    /// This one.
    Manifest(FetchedManifest),
    /// 404, and why.
    Nothing(Refusal, Box<Asked>),
}

/// Fetches a manifest and checks its digest.
pub(super) async fn fetch(
    asker: &Asker,
    source: &Source,
    which: &TagOrDigest,
) -> Result<Found, RegistryError> {
    let path = match which {
        // Made into a reference, because that is what checks a tag.
        TagOrDigest::Tag(tag) => {
            let checked = source.physical.with_tag(tag)?;
            format!("manifests/{}", checked.tag().unwrap_or_default())
        }
        TagOrDigest::Digest(digest) => format!("manifests/{digest}"),
    };
    let question =
        Question { source, path: &path, accept: ACCEPT, from: 0, see_other: SeeOther::Follow };
    let (whole, asked) = match asker.read(question).await? {
        Answer::Found(whole, asked) => (whole, asked),
        Answer::Missing(refusal, asked) => return Ok(Found::Nothing(refusal, asked)),
    };
    let media_type = media_type(&whole);
    let named: Option<Digest> = whole.header("docker-content-digest").parse().ok();
    let bytes = whole.bytes;
    let digest = match which {
        TagOrDigest::Digest(digest) => digest.clone(),
        // The digest that signatures speak of; the registry's own is only compared.
        TagOrDigest::Tag(_) => Digest::sha256(&bytes),
    };
    for expected in [Some(&digest), named.as_ref()].into_iter().flatten() {
        if !expected.matches(&bytes) {
            return Err(RegistryError::Digest { asked, expected: Box::new(expected.clone()) });
        }
    }
    Ok(Found::Manifest(FetchedManifest { digest, media_type, bytes }))
}

/// What the server says a document is, without parameters.
pub(super) fn media_type(whole: &Whole) -> String {
    whole.header("content-type").split(';').next().unwrap_or_default().trim().to_owned()
}
