//! Gathers the signatures of an image: cosign's tag scheme, OCI referrers, and what is kept beside
//! the registry, side by side. Only what the policy asks for is looked up.
//!
//! "There is none" and "could not find out" are different answers. Only a registry that clearly
//! says that a tag or a list does not exist makes evidence absent; everything else fails the pull.

use crate::image::error::ImageError;
use crate::image::resolve::Resolved;
use crate::judge::Case;
use crate::oci::descriptor::Descriptor;
use crate::oci::document::DOCUMENT_LIMIT;
use crate::oci::document::Document;
use crate::oci::document::Manifest;
use crate::oci::reference::Reference;
use crate::oci::stored_signature::StoredSignature;
use crate::policy::Evidence;
use crate::policy::SimpleSigning;
use crate::registry::FetchedManifest;
use crate::registry::Registry;
use crate::registry::RegistryError;
use crate::registry::Source;
use crate::registry::TagOrDigest;

/// The media type of a simple-signing payload.
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// How the media type of a sigstore bundle begins, whatever its version.
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
/// How many signatures, and how many bundles, are looked at: a registry can list any number.
const MOST: usize = Evidence::LIMIT;
/// How many bytes of signatures, and of bundles, are held at once: real ones have some thousand.
const MOST_BYTES: usize = 8 * 1024 * 1024;

/// All signatures of the manifest that `resolved` found.
pub(super) async fn gather(
    registry: &Registry,
    reference: &Reference,
    resolved: &Resolved,
    case: &Case,
) -> Result<Evidence, ImageError> {
    let gathering = Gathering { registry, reference, resolved };
    let (attached, stored) = tokio::try_join!(
        gathering.attached(case.wants_attachments(reference)),
        gathering.stored(case.wants_openpgp(reference)),
    )?;
    let mut evidence = attached;
    evidence.add_stored(stored);
    Ok(evidence)
}

struct Gathering<'a> {
    registry: &'a Registry,
    reference: &'a Reference,
    resolved: &'a Resolved,
}

impl Gathering<'_> {
    fn source(&self) -> &Source {
        &self.resolved.source
    }

    fn failed(&self, step: &'static str) -> impl FnOnce(RegistryError) -> ImageError {
        let reference = self.reference.to_string();
        move |source| ImageError::Registry { step, reference, source }
    }

    fn odd(&self, fault: String) -> ImageError {
        ImageError::Evidence { reference: self.reference.to_string(), fault }
    }

    /// What sigstore's tools attach to the manifest in its registry, unless registries.d says not
    /// to look.
    async fn attached(&self, wanted: bool) -> Result<Evidence, ImageError> {
        let step = "read registries.d";
        let said = self.registry.wants_attachments(self.source()).map_err(self.failed(step))?;
        if !wanted || said == Some(false) {
            return Ok(Evidence::default());
        }
        let (signatures, bundles) = tokio::try_join!(self.tag_scheme(), self.referrer_bundles())?;
        Ok(Evidence { signatures, bundles, ..Evidence::default() })
    }

    /// What is kept beside the registry, in a lookaside.
    async fn stored(&self, wanted: bool) -> Result<Vec<StoredSignature>, ImageError> {
        if !wanted {
            return Ok(Vec::new());
        }
        let found = self.registry.signatures(self.source(), &self.resolved.digest).await;
        found.map_err(self.failed("look up the signatures"))
    }

    /// The signatures at the tag `sha256-<hex>.sig`, as cosign v2 writes them.
    async fn tag_scheme(&self) -> Result<Vec<SimpleSigning>, ImageError> {
        let digest = &self.resolved.digest;
        let tag = format!("{}-{}.sig", digest.algorithm().name(), digest.hex());
        let step = "look up the signatures";
        let which = TagOrDigest::Tag(tag);
        let found = self.registry.manifest_if_exists(self.source(), &which).await;
        let Some(fetched) = found.map_err(self.failed(step))? else { return Ok(Vec::new()) };
        let manifest = self.manifest(&fetched)?;
        let (mut signatures, mut bytes) = (Vec::new(), 0);
        for layer in manifest.layers.iter().filter(|layer| layer.media_type == SIMPLE_SIGNING) {
            if signatures.len() == MOST {
                return Err(self.odd(format!("there are more than {MOST}")));
            }
            let payload = self.blob(layer, step).await?;
            self.count(&mut bytes, &payload)?;
            let annotations = layer.annotations.clone().unwrap_or_default();
            signatures.push(SimpleSigning { payload, annotations });
        }
        Ok(signatures)
    }

    /// The sigstore bundles that refer to the manifest, as cosign v3 writes them.
    async fn referrer_bundles(&self) -> Result<Vec<Vec<u8>>, ImageError> {
        let step = "look up the referrers";
        let referrers = self.registry.referrers(self.source(), &self.resolved.digest).await;
        let referrers = referrers.map_err(self.failed(step))?;
        let (mut bundles, mut bytes) = (Vec::new(), 0);
        for (place, referrer) in referrers.iter().filter(|found| is_bundle(found)).enumerate() {
            if place == MOST {
                return Err(self.odd(format!("there are more than {MOST} referrers with bundles")));
            }
            let which = TagOrDigest::Digest(referrer.digest.clone());
            let fetched = self.registry.manifest(self.source(), &which).await;
            let manifest = self.manifest(&fetched.map_err(self.failed(step))?)?;
            let subject = manifest.subject.as_ref().map(|subject| &subject.digest);
            if subject != Some(&self.resolved.digest) {
                return Err(
                    self.odd(format!("referrer {} is about something else", referrer.digest))
                );
            }
            for layer in manifest.layers.iter().filter(|layer| layer.media_type.starts_with(BUNDLE))
            {
                if bundles.len() == MOST {
                    return Err(self.odd(format!("there are more than {MOST} bundles")));
                }
                let bundle = self.blob(layer, step).await?;
                self.count(&mut bytes, &bundle)?;
                bundles.push(bundle);
            }
        }
        Ok(bundles)
    }

    /// Adds to the bytes that are held.
    fn count(&self, held: &mut usize, more: &[u8]) -> Result<(), ImageError> {
        *held += more.len();
        if *held <= MOST_BYTES {
            return Ok(());
        }
        Err(self.odd(format!("they have more than {MOST_BYTES} bytes")))
    }

    fn manifest(&self, fetched: &FetchedManifest) -> Result<Manifest, ImageError> {
        match Document::parse(&fetched.media_type, &fetched.bytes) {
            Ok(Document::Manifest(manifest)) => Ok(*manifest),
            Ok(Document::Index(_)) => {
                Err(self.odd("an index stands where one is expected".to_owned()))
            }
            Err(error) => Err(self.odd(crate::failure::chain(&error))),
        }
    }

    async fn blob(&self, layer: &Descriptor, step: &'static str) -> Result<Vec<u8>, ImageError> {
        let blob = self.registry.small_blob(self.source(), layer, DOCUMENT_LIMIT).await;
        blob.map_err(self.failed(step))
    }
}

/// Registries without the artifact type in their list give every referrer's manifest type.
fn is_bundle(referrer: &Descriptor) -> bool {
    referrer.artifact_type.as_deref().is_none_or(|kind| kind.starts_with(BUNDLE))
}
