//! From a reference to one manifest: mirrors in order, index to platform.

use crate::failure::Classify;
use crate::failure::Kind;
use crate::failure::chain;
use crate::image::error::ImageError;
use crate::image::verify::Verifier;
use crate::oci::digest::Digest;
use crate::oci::document::Document;
use crate::oci::document::Manifest;
use crate::oci::reference::Reference;
use crate::registry::Credentials;
use crate::registry::FetchedManifest;
use crate::registry::RegistryError;
use crate::registry::Source;
use crate::registry::TagOrDigest;

/// How much of what each of the others said is told, in characters.
const SAID: usize = 300;

/// The manifest that will be judged, and where it came from.
#[derive(Debug)]
pub(super) struct Resolved {
    /// The mirror or registry that has it.
    pub(super) source: Source,
    /// The manifest's digest: what is judged.
    pub(super) digest: Digest,
    /// The manifest's bytes.
    pub(super) bytes: Vec<u8>,
    /// The manifest.
    pub(super) manifest: Manifest,
    /// The index that led to it, if one did.
    pub(super) index: Option<ListedIn>,
}

/// An index, as it came.
#[derive(Debug)]
pub(super) struct ListedIn {
    pub(super) digest: Digest,
    pub(super) bytes: Vec<u8>,
}

impl Verifier {
    /// The manifest for this platform that `reference` names now.
    pub(super) async fn resolve(
        &self,
        reference: &Reference,
        credentials: &Credentials,
    ) -> Result<Resolved, ImageError> {
        let wrap = |source| registry("resolve the manifest", reference, source);
        let sources = self.registry.sources(reference, credentials).map_err(wrap)?;
        let which = TagOrDigest::from(reference);
        let mut failures = Vec::new();
        for source in sources {
            match self.registry.manifest(&source, &which).await {
                Ok(fetched) => return self.select(reference, source, fetched).await,
                Err(error) => {
                    tracing::debug!(image = %reference, at = source.location(), %error, "no manifest here");
                    failures.push(error);
                }
            }
        }
        Err(told(failures).map_or(ImageError::Vanished, wrap))
    }

    /// Takes an index to the manifest for this platform; a manifest stays what it is.
    async fn select(
        &self,
        reference: &Reference,
        source: Source,
        fetched: FetchedManifest,
    ) -> Result<Resolved, ImageError> {
        let document = |source| ImageError::Document { reference: reference.to_string(), source };
        match Document::parse(&fetched.media_type, &fetched.bytes).map_err(document)? {
            Document::Manifest(manifest) => Ok(Resolved {
                source,
                digest: fetched.digest,
                bytes: fetched.bytes,
                manifest: *manifest,
                index: None,
            }),
            Document::Index(index) => {
                let entry = index.select(&self.platform).map_err(document)?;
                let which = TagOrDigest::Digest(entry.digest.clone());
                let index = ListedIn { digest: fetched.digest, bytes: fetched.bytes };
                let fetched = self.registry.manifest(&source, &which).await.map_err(|error| {
                    registry("fetch this platform's manifest", reference, error)
                })?;
                match Document::parse(&fetched.media_type, &fetched.bytes).map_err(document)? {
                    Document::Manifest(manifest) => Ok(Resolved {
                        source,
                        digest: fetched.digest,
                        bytes: fetched.bytes,
                        manifest: *manifest,
                        index: Some(index),
                    }),
                    Document::Index(_) => Err(ImageError::NestedIndex(reference.to_string())),
                }
            }
        }
    }
}

fn registry(step: &'static str, reference: &Reference, source: RegistryError) -> ImageError {
    ImageError::Registry { step, reference: reference.to_string(), source }
}

/// Mirrors come first and the registry itself last: its word counts, unless it could not be
/// reached and a mirror said something clearer. What the others said is told with it.
fn told(mut failures: Vec<RegistryError>) -> Option<RegistryError> {
    let mut counts = failures.len().checked_sub(1)?;
    if failures.last()?.kind() == Kind::RegistryUnavailable {
        let clearer = |error: &RegistryError| error.kind() == Kind::Unauthenticated;
        counts = failures.iter().position(clearer).unwrap_or(counts);
    }
    let source = failures.remove(counts);
    if failures.is_empty() {
        return Some(source);
    }
    let shortened = |error: &RegistryError| chain(error).chars().take(SAID).collect::<String>();
    let others = failures.iter().map(shortened).collect::<Vec<_>>().join("; ");
    Some(RegistryError::Everywhere { others, source: Box::new(source) })
}
