//! Gathers the signatures and attestations of an image: cosign's tag scheme, OCI referrers, and what
//! is kept beside the registry, side by side. Only what the policy asks for is looked up.
//!
//! "There is none" and "could not find out" are different answers. Only a registry that clearly
//! says that a tag or a list does not exist makes evidence absent; everything else fails the pull.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::image::error::ImageError;
use crate::image::resolve::Resolved;
use crate::oci::descriptor::Descriptor;
use crate::oci::digest::Digest;
use crate::oci::document::DOCUMENT_LIMIT;
use crate::oci::document::Document;
use crate::oci::document::Manifest;
use crate::oci::media_type;
use crate::oci::reference::Reference;
use crate::oci::stored_signature::StoredSignature;
use crate::policy::Attachment;
use crate::policy::Attestation;
use crate::policy::Evidence;
use crate::policy::Needs;
use crate::policy::SimpleSigning;
use crate::registry::Asked;
use crate::registry::FetchedManifest;
use crate::registry::Registry;
use crate::registry::RegistryError;
use crate::registry::Source;
use crate::registry::TagOrDigest;

/// The media type of a simple-signing payload.
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The media type of an attestation's envelope.
const ENVELOPE: &str = "application/vnd.dsse.envelope.v1+json";
/// How the media type of a sigstore bundle begins, whatever its version.
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
/// The annotation of cosign v3 that says what a bundle says.
const BUNDLE_TYPE: &str = "dev.sigstore.bundle.predicateType";
/// The same of cosign v2, beside an envelope.
const ENVELOPE_TYPE: &str = "predicateType";
/// How many signatures, bundles and attestations are looked at: a registry can list any number.
const MOST: usize = Evidence::LIMIT;
/// How many bytes of signatures, and of bundles, are held at once: real ones have some thousand.
const MOST_BYTES: usize = 8 * 1024 * 1024;
/// The largest attestation, in bytes: a list of the components of a large image has megabytes.
const ATTESTATION_LIMIT: u64 = 8 * 1024 * 1024;

/// What the policy needs to see of the manifest that `resolved` found, and of the index that lists
/// it, as far as it exists, within `patience`.
pub(super) async fn gather(
    registry: &Registry,
    reference: &Reference,
    resolved: &Resolved,
    needs: &Needs,
    patience: Duration,
) -> Result<Evidence, ImageError> {
    if needs.is_empty() {
        return Ok(Evidence::default());
    }
    let held = AtomicUsize::new(0);
    let source = &resolved.source;
    let of = |digest| Gathering { registry, reference, source, digest, needs, held: &held };
    let manifest = of(&resolved.digest);
    let listed = async {
        match &resolved.index {
            Some(index) => of(&index.digest).all().await,
            None => Ok(Evidence::default()),
        }
    };
    let all = async { tokio::try_join!(manifest.all(), listed) };
    let late = || {
        let (reference, url) = (reference.to_string(), resolved.source.location());
        let asked = Box::new(Asked { reference, url });
        let source = RegistryError::TimedOut { asked, seconds: patience.as_secs() };
        Err(manifest.failed("look up the signatures")(source))
    };
    let gathered = tokio::time::timeout(patience, all).await.unwrap_or_else(|_| late());
    let (mut evidence, of_index) = gathered?;
    // What is left out might be the "no".
    if evidence.are_too_many_with(&of_index) {
        return Err(manifest.odd(format!("there are more than {MOST}")));
    }
    evidence.merge(&of_index);
    if let Some(index) = resolved.index.as_ref().filter(|_| !of_index.is_empty()) {
        evidence.indexes.push(index.bytes.clone());
    }
    Ok(evidence)
}

/// Looks for what there is of one digest.
struct Gathering<'a> {
    registry: &'a Registry,
    reference: &'a Reference,
    source: &'a Source,
    digest: &'a Digest,
    needs: &'a Needs,
    /// The bytes of bundles and attestations that are held, of all digests.
    held: &'a AtomicUsize,
}

impl Gathering<'_> {
    async fn all(&self) -> Result<Evidence, ImageError> {
        let (mut found, stored) = tokio::try_join!(self.attached(), self.stored())?;
        found.add_stored(stored);
        Ok(found)
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
    async fn attached(&self) -> Result<Evidence, ImageError> {
        let step = "read registries.d";
        let said = self.registry.wants_attachments(self.source).map_err(self.failed(step))?;
        if !self.needs.attached() || said == Some(false) {
            return Ok(Evidence::default());
        }
        let (signatures, attachments, mut found) =
            tokio::try_join!(self.signatures(), self.attachments(), self.referrer_bundles())?;
        found.signatures = signatures;
        found.attestations.extend(attachments.into_iter().map(Attestation::Attached));
        Ok(found)
    }

    /// What is kept beside the registry, in a lookaside.
    async fn stored(&self) -> Result<Vec<StoredSignature>, ImageError> {
        if !self.needs.openpgp {
            return Ok(Vec::new());
        }
        let found = self.registry.signatures(self.source, self.digest).await;
        found.map_err(self.failed("look up the signatures"))
    }

    /// The manifest that cosign v2 keeps beside an image, at the tag `sha256-<hex>.<suffix>`.
    async fn beside(
        &self,
        suffix: &str,
        step: &'static str,
    ) -> Result<Option<Manifest>, ImageError> {
        let digest = self.digest;
        let which =
            TagOrDigest::Tag(format!("{}-{}.{suffix}", digest.algorithm().name(), digest.hex()));
        let found = self.registry.manifest_if_exists(self.source, &which).await;
        let found = found.map_err(self.failed(step))?;
        found.map(|fetched| self.manifest(&fetched)).transpose()
    }

    /// The signatures as cosign v2 writes them.
    async fn signatures(&self) -> Result<Vec<SimpleSigning>, ImageError> {
        let step = "look up the signatures";
        if !self.needs.signatures {
            return Ok(Vec::new());
        }
        let Some(manifest) = self.beside("sig", step).await? else { return Ok(Vec::new()) };
        let (mut signatures, mut bytes) = (Vec::new(), 0);
        for layer in manifest.layers.iter().filter(|layer| layer.media_type == SIMPLE_SIGNING) {
            if signatures.len() == MOST {
                return Err(self.odd(format!("there are more than {MOST}")));
            }
            let payload = self.blob(layer, DOCUMENT_LIMIT, step).await?;
            bytes += payload.len();
            self.check(bytes, MOST_BYTES)?;
            let annotations = layer.annotations.clone().unwrap_or_default();
            signatures.push(SimpleSigning { payload, annotations });
        }
        Ok(signatures)
    }

    /// The attestations as cosign v2 writes them.
    async fn attachments(&self) -> Result<Vec<Attachment>, ImageError> {
        let step = "look up the attestations";
        if self.needs.attestations.is_empty() {
            return Ok(Vec::new());
        }
        let Some(manifest) = self.beside("att", step).await? else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for layer in manifest.layers.iter().filter(|layer| layer.media_type == ENVELOPE) {
            if !self.needs.may_need(layer.annotation(ENVELOPE_TYPE)) {
                continue;
            }
            if found.len() == MOST {
                return Err(self.odd(format!("there are more than {MOST} attestations")));
            }
            let envelope = self.blob(layer, ATTESTATION_LIMIT, step).await?;
            self.hold(envelope.len())?;
            let annotations = layer.annotations.clone().unwrap_or_default();
            found.push(Attachment { envelope, annotations });
        }
        Ok(found)
    }

    /// The sigstore bundles that refer to the manifest, as cosign v3 writes them.
    async fn referrer_bundles(&self) -> Result<Evidence, ImageError> {
        let step = "look up the referrers";
        let referrers = self.registry.referrers(self.source, self.digest).await;
        let referrers = referrers.map_err(self.failed(step))?;
        let may_need = |found: &&Descriptor| {
            is_bundle(found) && self.needs.may_need(found.annotation(BUNDLE_TYPE))
        };
        let (mut found, mut count) = (Evidence::default(), 0);
        for (place, referrer) in referrers.iter().filter(may_need).enumerate() {
            if place == MOST {
                return Err(self.odd(format!("there are more than {MOST} referrers with bundles")));
            }
            let which = TagOrDigest::Digest(referrer.digest.clone());
            let fetched = self.registry.manifest_if_exists(self.source, &which).await;
            // A list under a tag outlives what it lists, where untagged manifests are cleared away.
            let Some(fetched) = fetched.map_err(self.failed(step))? else { continue };
            let manifest = self.manifest(&fetched)?;
            let subject = manifest.subject.as_ref().map(|subject| &subject.digest);
            if subject != Some(self.digest) {
                return Err(
                    self.odd(format!("referrer {} is about something else", referrer.digest))
                );
            }
            // The list need not have the annotations, and has none where it lies under a tag.
            let claimed = manifest.annotations.get(BUNDLE_TYPE).map(String::as_str);
            if !self.needs.may_need(claimed) {
                continue;
            }
            for layer in manifest.layers.iter().filter(|layer| layer.media_type.starts_with(BUNDLE))
            {
                if count == MOST {
                    return Err(self.odd(format!("there are more than {MOST} bundles")));
                }
                count += 1;
                let bundle = self.blob(layer, self.bundle_limit(), step).await?;
                self.hold(bundle.len())?;
                found.sort_in(bundle);
            }
        }
        Ok(found)
    }

    /// Before it is fetched, nothing tells a signature from an attestation for certain.
    fn bundle_limit(&self) -> u64 {
        if self.needs.attestations.is_empty() { DOCUMENT_LIMIT } else { ATTESTATION_LIMIT }
    }

    /// Adds to the bytes of bundles and attestations that are held.
    fn hold(&self, more: usize) -> Result<(), ImageError> {
        let most = if self.needs.attestations.is_empty() {
            MOST_BYTES
        } else {
            Evidence::ATTESTATION_BYTES
        };
        self.check(self.held.fetch_add(more, Ordering::Relaxed) + more, most)
    }

    fn check(&self, held: usize, most: usize) -> Result<(), ImageError> {
        if held <= most {
            return Ok(());
        }
        Err(self.odd(format!("they have more than {most} bytes")))
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

    async fn blob(
        &self,
        layer: &Descriptor,
        limit: u64,
        step: &'static str,
    ) -> Result<Vec<u8>, ImageError> {
        let blob = self.registry.small_blob(self.source, layer, limit).await;
        blob.map_err(self.failed(step))
    }
}

/// Whether a referrer may be a bundle, by what the list says of it.
///
/// Registries without the artifact type in their list give every referrer's manifest type. In the list
/// that cosign 2.6 and 3.0 keep under the tag, the config's type stands in its place.
fn is_bundle(referrer: &Descriptor) -> bool {
    let kind = referrer.artifact_type.as_deref();
    kind.is_none_or(|kind| kind.starts_with(BUNDLE) || kind == media_type::OCI_EMPTY)
}
