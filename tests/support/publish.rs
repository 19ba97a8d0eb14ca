//! Puts images and signatures into the test registry, as skopeo and cosign would.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::BTreeMap;

use crioxide::oci::digest::Digest;
use crioxide::oci::media_type;
use serde_json::Value;
use serde_json::json;

use crate::images::Image;
use crate::keys;
use crate::keys::Key;
use crate::test_registry::TestRegistry;

/// The artifact type and the media type of a sigstore bundle.
pub(crate) const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// The media type of a payload that cosign 2 signs.
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// The media type of an envelope that cosign 2 attaches.
const ENVELOPE: &str = "application/vnd.dsse.envelope.v1+json";

/// A registries.conf in which plain HTTP will do for these.
pub(crate) fn insecure(registries: &[&TestRegistry]) -> String {
    registries.iter().map(|it| insecure_at(&it.host())).collect()
}

/// The same for one, by its host.
pub(crate) fn insecure_at(host: &str) -> String {
    format!("[[registry]]\nlocation = \"{host}\"\ninsecure = true\n")
}

/// Serves an image under a tag, and gives its manifest's digest.
pub(crate) fn image(registry: &TestRegistry, name: &str, image: &Image) -> Digest {
    let (repository, tag) = name.split_once(':').expect("repository:tag");
    for (_, bytes) in image.blobs() {
        registry.put_blob(bytes.to_vec());
    }
    let manifest = image.manifest.clone();
    registry.put_manifest(repository, Some(tag), media_type::OCI_MANIFEST, manifest)
}

/// Signs a manifest as cosign 2 does, under the name `signed_name`, at the manifest's `.sig` tag.
pub(crate) fn sign_at_tag(
    registry: &TestRegistry,
    repository: &str,
    digest: &Digest,
    key: &Key,
    signed_name: &str,
) {
    let payload = keys::payload(signed_name, &digest.to_string());
    payload_at_tag(registry, repository, digest, key, &payload);
}

/// Puts a signed payload at the `.sig` tag of a manifest, whatever it is about.
pub(crate) fn payload_at_tag(
    registry: &TestRegistry,
    repository: &str,
    digest: &Digest,
    key: &Key,
    payload: &[u8],
) {
    let layer = signature_layer(registry, key, payload);
    at_tag(registry, repository, digest, &signature_manifest(registry, &[layer]));
}

/// The same with what stands beside the payload.
pub(crate) fn annotated_at_tag(
    registry: &TestRegistry,
    repository: &str,
    digest: &Digest,
    payload: Vec<u8>,
    annotations: &BTreeMap<String, String>,
) {
    let mut layer = blob(registry, SIMPLE_SIGNING, payload);
    layer["annotations"] = json!(annotations);
    at_tag(registry, repository, digest, &signature_manifest(registry, &[layer]));
}

/// A payload as a layer, with its signature beside it.
pub(crate) fn signature_layer(registry: &TestRegistry, key: &Key, payload: &[u8]) -> Value {
    let mut layer = blob(registry, SIMPLE_SIGNING, payload.to_vec());
    layer["annotations"] = json!(keys::annotations(key, payload));
    layer
}

/// The manifest that holds signatures.
pub(crate) fn signature_manifest(registry: &TestRegistry, layers: &[Value]) -> Value {
    let config = blob(registry, media_type::OCI_CONFIG, b"{}".to_vec());
    json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "config": config, "layers": layers,
    })
}

/// Puts a document where cosign 2 puts the signatures of a manifest.
pub(crate) fn at_tag(registry: &TestRegistry, repository: &str, digest: &Digest, document: &Value) {
    let tag = format!("sha256-{}.sig", digest.hex());
    let kind = document["mediaType"].as_str().unwrap_or(media_type::OCI_MANIFEST);
    registry.put_manifest(repository, Some(&tag), kind, document.to_string());
}

/// Signs a manifest as cosign 3 does: a bundle in a manifest that refers to it. Gives the digests of
/// both.
pub(crate) fn sign_by_referrer(
    registry: &TestRegistry,
    repository: &str,
    digest: &Digest,
    key: &Key,
) -> (Digest, Digest) {
    let bundle = keys::bundle(key, &keys::statement(keys::SIGN, &digest.to_string()));
    bundle_by_referrer(registry, repository, digest, bundle)
}

/// Puts a bundle that says something else beside a manifest, as cosign 3 does. Gives the digest of
/// the bundle.
pub(crate) fn attest_by_referrer(
    registry: &TestRegistry,
    repository: &str,
    digest: &Digest,
    predicate_type: &str,
    bundle: Vec<u8>,
) -> Digest {
    let annotations = json!({
        "dev.sigstore.bundle.content": "dsse-envelope",
        "dev.sigstore.bundle.predicateType": predicate_type,
    });
    refer(registry, repository, digest, bundle, &annotations).1
}

/// Puts envelopes at the `.att` tag of a manifest, as cosign 2 does where keys sign.
pub(crate) fn attest_at_tag(
    registry: &TestRegistry,
    repository: &str,
    digest: &Digest,
    envelopes: &[(&str, Vec<u8>)],
) {
    let signature = ("dev.cosignproject.cosign/signature".to_owned(), String::new());
    let attachments: Vec<_> = envelopes
        .iter()
        .map(|(kind, envelope)| (*kind, envelope.clone(), BTreeMap::from([signature.clone()])))
        .collect();
    attach_at_tag(registry, repository, digest, &attachments);
}

/// Puts envelopes with what stands beside them at the `.att` tag of a manifest.
pub(crate) fn attach_at_tag(
    registry: &TestRegistry,
    repository: &str,
    digest: &Digest,
    attachments: &[(&str, Vec<u8>, BTreeMap<String, String>)],
) {
    let layer = |(kind, envelope, annotations): &(&str, Vec<u8>, BTreeMap<String, String>)| {
        let mut layer = blob(registry, ENVELOPE, envelope.clone());
        layer["annotations"] = json!(annotations);
        layer["annotations"]["predicateType"] = json!(kind);
        layer
    };
    let layers: Vec<Value> = attachments.iter().map(layer).collect();
    let config = blob(registry, media_type::OCI_CONFIG, b"{}".to_vec());
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "config": config, "layers": layers,
    });
    let tag = format!("sha256-{}.att", digest.hex());
    let manifest = manifest.to_string();
    registry.put_manifest(repository, Some(&tag), media_type::OCI_MANIFEST, manifest);
}

/// Puts a bundle into a manifest that refers to `digest`, whatever it is about. Gives the digests of
/// both.
pub(crate) fn bundle_by_referrer(
    registry: &TestRegistry,
    repository: &str,
    digest: &Digest,
    bundle: Vec<u8>,
) -> (Digest, Digest) {
    refer(registry, repository, digest, bundle, &json!({}))
}

/// The same, with annotations.
fn refer(
    registry: &TestRegistry,
    repository: &str,
    digest: &Digest,
    bundle: Vec<u8>,
    annotations: &Value,
) -> (Digest, Digest) {
    let of_bundle = Digest::sha256(&bundle);
    let layer = blob(registry, BUNDLE, bundle);
    let config = blob(registry, media_type::OCI_EMPTY, b"{}".to_vec());
    let subject = json!({
        "mediaType": media_type::OCI_MANIFEST, "size": 1, "digest": digest.to_string(),
    });
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "artifactType": BUNDLE,
        "config": config, "layers": [layer], "subject": subject, "annotations": annotations,
    });
    let kind = media_type::OCI_MANIFEST;
    (registry.put_manifest(repository, None, kind, manifest.to_string()), of_bundle)
}

/// Serves a blob, and gives its descriptor.
pub(crate) fn blob(registry: &TestRegistry, media_type: &str, bytes: Vec<u8>) -> Value {
    let size = bytes.len();
    let digest = registry.put_blob(bytes);
    json!({ "mediaType": media_type, "size": size, "digest": digest.to_string() })
}

/// An artifact's manifest of files, each a title and its bytes, whose blobs the registry gets.
pub(crate) fn artifact_manifest(registry: &TestRegistry, files: &[(&str, &[u8])]) -> Vec<u8> {
    let layers = files.iter().map(|(title, bytes)| {
        let mut layer = blob(registry, "application/octet-stream", bytes.to_vec());
        layer["annotations"] = json!({ "org.opencontainers.image.title": title });
        layer
    });
    let layers: Vec<Value> = layers.collect();
    // As tools write it: the empty config is not pushed by all of them.
    let config = json!({
        "mediaType": media_type::OCI_EMPTY, "size": 2, "digest": Digest::sha256(b"{}").to_string(),
    });
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "artifactType": "application/vnd.example.model", "config": config, "layers": layers,
        "annotations": { "org.example.kind": "model" },
    });
    manifest.to_string().into_bytes()
}

/// Serves an artifact whose config says what it is, with these layers; gives its manifest's digest.
pub(crate) fn artifact_of(
    registry: &TestRegistry,
    name: &str,
    media_type: &str,
    layers: &[&[u8]],
) -> Digest {
    let (repository, tag) = name.split_once(':').expect("repository:tag");
    let layers = layers.iter().map(|bytes| blob(registry, "application/json", bytes.to_vec()));
    let layers: Vec<Value> = layers.collect();
    let config = blob(registry, media_type, b"{}".to_vec());
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config,
        "layers": layers,
    });
    let manifest = manifest.to_string();
    registry.put_manifest(repository, Some(tag), media_type::OCI_MANIFEST, manifest)
}

/// Serves an artifact under a tag, and gives its manifest's digest.
pub(crate) fn artifact(registry: &TestRegistry, name: &str, files: &[(&str, &[u8])]) -> Digest {
    let (repository, tag) = name.split_once(':').expect("repository:tag");
    let manifest = artifact_manifest(registry, files);
    registry.put_manifest(repository, Some(tag), media_type::OCI_MANIFEST, manifest)
}
