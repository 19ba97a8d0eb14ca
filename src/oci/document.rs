//! Manifests and indexes: the documents that a registry answers with.
//!
//! A document is what its media type says *and* what its fields say; where the two disagree it is
//! refused (CVE-2021-41190: bytes that one client reads as a manifest and another as an index).

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::failure::Classify;
use crate::failure::Kind;
use crate::oci::descriptor::Descriptor;
use crate::oci::digest::Digest;
use crate::oci::media_type;
use crate::oci::platform::Platform;
use crate::oci::strict_json;

/// The largest manifest, index, signature or config that is read, in bytes.
pub const DOCUMENT_LIMIT: u64 = 4 * 1024 * 1024;
/// The largest number of layers that overlayfs can stack under a container's own.
pub const LAYER_LIMIT: usize = 500;

/// The annotation of an index's entry that is about another entry, such as `attestation-manifest`.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";

/// A manifest or an index, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// One image for one platform.
    Manifest(Box<Manifest>),
    /// A choice of manifests.
    Index(Index),
}

/// An image manifest: OCI, or Docker schema 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The media type as settled between header and body.
    pub media_type: String,
    /// The image config, or an artifact's config.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
    /// Free text by key.
    pub annotations: BTreeMap<String, String>,
    /// For a signature or another referrer: what it is about.
    pub subject: Option<Descriptor>,
    /// The type of an artifact.
    pub artifact_type: Option<String>,
}

/// An image index, or a Docker manifest list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// The media type as settled between header and body.
    pub media_type: String,
    /// The manifests to choose from.
    pub manifests: Vec<Descriptor>,
}

/// Why bytes are no document that can be used.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// Not the JSON of a manifest or index.
    #[error("malformed {what}")]
    Json {
        /// Which document.
        what: &'static str,
        /// The fault.
        source: serde_json::Error,
    },
    /// Docker schema 1 has no digests of its content that a signature could cover.
    #[error(
        "the registry only has a Docker schema 1 manifest, which cannot be verified; \
         push the image again with a current tool"
    )]
    Schema1,
    /// Header, body and fields do not agree on what this is.
    #[error("the document is served as {served:?} but its body is {body}")]
    Confused {
        /// The media type of the answer.
        served: String,
        /// What the fields say.
        body: String,
    },
    /// More layers than can be mounted.
    #[error("the image has {0} layers; {LAYER_LIMIT} can be mounted")]
    TooManyLayers(usize),
    /// An index without a manifest for this platform.
    #[error("no image for {os}/{architecture} in the index, which has: {offered}")]
    NoPlatform {
        /// Our operating system.
        os: String,
        /// Our architecture.
        architecture: String,
        /// What is there.
        offered: String,
    },
}

impl Classify for DocumentError {
    fn kind(&self) -> Kind {
        match self {
            Self::NoPlatform { .. } => Kind::NotFound,
            Self::Schema1 | Self::TooManyLayers(_) => Kind::NotSupported,
            Self::Json { .. } | Self::Confused { .. } => Kind::Corrupt,
        }
    }
}

/// All fields of both documents, to see which of them are there.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    #[serde(default)]
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
    subject: Option<Descriptor>,
    artifact_type: Option<String>,
    fs_layers: Option<serde::de::IgnoredAny>,
}

impl Document {
    /// Reads a document that came with the media type `served` (empty if the server named none).
    ///
    /// # Errors
    ///
    /// [`DocumentError`] when the bytes are malformed, or mean two things at once.
    pub fn parse(served: &str, bytes: &[u8]) -> Result<Self, DocumentError> {
        let fields: Fields = strict_json::parse(bytes)
            .map_err(|source| DocumentError::Json { what: "manifest", source })?;
        if fields.schema_version == 1 || fields.fs_layers.is_some() {
            return Err(DocumentError::Schema1);
        }
        let body = match (&fields.manifests, &fields.config, &fields.layers) {
            (Some(_), None, None) => "an index",
            (None, Some(_), Some(_)) => "a manifest",
            _ => "neither a manifest nor an index",
        };
        let own = fields.media_type.clone().unwrap_or_default();
        let confused = || DocumentError::Confused {
            served: served.to_owned(),
            body: format!("{body} {own:?}"),
        };
        let named = |media_type: &str| {
            media_type::is_index(media_type) || media_type::is_manifest(media_type)
        };
        // A server that names no type, or a general one, leaves the body to say what it is.
        let settled = match (named(served), named(&own)) {
            (true, true) if served != own => return Err(confused()),
            (true, _) => served.to_owned(),
            (false, true) => own.clone(),
            (false, false) if own.is_empty() && fields.manifests.is_some() => {
                media_type::OCI_INDEX.to_owned()
            }
            (false, false) if own.is_empty() => media_type::OCI_MANIFEST.to_owned(),
            (false, false) => return Err(confused()),
        };
        match (fields.manifests, fields.config, fields.layers) {
            (Some(manifests), None, None) if media_type::is_index(&settled) => {
                Ok(Self::Index(Index { media_type: settled, manifests }))
            }
            (None, Some(config), Some(layers)) if media_type::is_manifest(&settled) => {
                if layers.len() > LAYER_LIMIT {
                    return Err(DocumentError::TooManyLayers(layers.len()));
                }
                Ok(Self::Manifest(Box::new(Manifest {
                    media_type: settled,
                    config,
                    layers,
                    annotations: fields.annotations.unwrap_or_default(),
                    subject: fields.subject,
                    artifact_type: fields.artifact_type,
                })))
            }
            _ => Err(confused()),
        }
    }
}

impl Index {
    /// The manifest that runs best on `host`; the first of equals.
    ///
    /// # Errors
    ///
    /// [`DocumentError::NoPlatform`] when none runs there.
    pub fn select(&self, host: &Platform) -> Result<&Descriptor, DocumentError> {
        let fitness = |entry: &Descriptor| entry.platform.as_ref()?.fitness(host);
        let mut best: Option<(&Descriptor, u8)> = None;
        for entry in self.images() {
            match (fitness(entry), best) {
                (Some(fit), Some((_, so_far))) if fit <= so_far => {}
                (Some(fit), _) => best = Some((entry, fit)),
                (None, _) => {}
            }
        }
        best.map(|(entry, _)| entry).ok_or_else(|| self.no_platform(host))
    }

    /// Whether it lists this digest as that of an image for a platform.
    #[must_use]
    pub fn lists(&self, manifest: &Digest) -> bool {
        self.images().any(|entry| entry.digest == *manifest)
    }

    /// The manifests that are for a platform, and are not there for another manifest of the list,
    /// as BuildKit puts attestations beside the image.
    fn images(&self) -> impl Iterator<Item = &Descriptor> {
        let named = |text: &str| !matches!(text, "" | "unknown");
        self.manifests.iter().filter(move |entry| {
            media_type::is_manifest(&entry.media_type)
                && entry.annotation(REFERENCE_TYPE).is_none()
                && entry
                    .platform
                    .as_ref()
                    .is_some_and(|platform| named(&platform.os) && named(&platform.architecture))
        })
    }

    fn no_platform(&self, host: &Platform) -> DocumentError {
        let offered: Vec<String> = self
            .manifests
            .iter()
            .filter_map(|entry| entry.platform.as_ref())
            .take(20)
            .map(|platform| format!("{}/{}", platform.os, platform.architecture))
            .collect();
        DocumentError::NoPlatform {
            os: host.os.clone(),
            architecture: host.architecture.clone(),
            offered: if offered.is_empty() { "no platform".to_owned() } else { offered.join(", ") },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(media_type: &str, arch: &str) -> String {
        let digest = format!("sha256:{}", "a".repeat(64));
        format!(
            r#"{{"mediaType":"{media_type}","digest":"{digest}","size":1,"platform":{{"os":"linux","architecture":"{arch}"}}}}"#
        )
    }

    fn manifest() -> String {
        let config = descriptor(media_type::OCI_CONFIG, "amd64");
        format!(r#"{{"schemaVersion":2,"config":{config},"layers":[]}}"#)
    }

    #[test]
    fn a_manifest_served_as_an_index_is_refused() {
        let error = Document::parse(media_type::OCI_INDEX, manifest().as_bytes()).unwrap_err();
        assert!(matches!(error, DocumentError::Confused { .. }));
    }

    #[test]
    fn a_document_with_layers_and_manifests_is_refused() {
        let both = manifest().replace("\"layers\"", "\"manifests\":[],\"layers\"");
        for served in [media_type::OCI_INDEX, media_type::OCI_MANIFEST, ""] {
            assert!(Document::parse(served, both.as_bytes()).is_err());
        }
    }

    #[test]
    fn a_manifest_without_any_media_type_is_oci() {
        let Document::Manifest(parsed) = Document::parse("", manifest().as_bytes()).unwrap() else {
            panic!("not a manifest");
        };
        assert_eq!(parsed.media_type, media_type::OCI_MANIFEST);
    }

    #[test]
    fn schema_1_is_refused() {
        let error = Document::parse("", br#"{"schemaVersion":1,"fsLayers":[]}"#).unwrap_err();
        assert!(matches!(error, DocumentError::Schema1));
    }

    #[test]
    fn the_index_gives_the_manifest_of_this_platform() {
        let text = format!(
            r#"{{"schemaVersion":2,"manifests":[{},{}]}}"#,
            descriptor(media_type::OCI_MANIFEST, "s390x"),
            descriptor(media_type::OCI_MANIFEST, "amd64")
        );
        let Document::Index(index) = Document::parse("", text.as_bytes()).unwrap() else {
            panic!("not an index");
        };
        let host = |architecture: &str| Platform {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: None,
        };
        assert_eq!(index.select(&host("amd64")).unwrap(), &index.manifests[1]);
        let error = index.select(&host("riscv64")).unwrap_err().to_string();
        assert!(error.contains("linux/s390x, linux/amd64"), "{error}");
    }
}
