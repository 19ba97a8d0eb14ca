//! Descriptors: media type, digest and size of some bytes elsewhere.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::oci::digest::Digest;
use crate::oci::platform::Platform;

/// What one document says of the bytes of another.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the bytes are.
    #[serde(default)]
    pub media_type: String,
    /// Their digest.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
    /// Free text by key; cosign keeps signatures here.
    #[serde(default)]
    pub annotations: Option<BTreeMap<String, String>>,
    /// In an index: the platform that the manifest is for.
    #[serde(default)]
    pub platform: Option<Platform>,
    /// In a referrers list: the type of the artifact.
    #[serde(default)]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    /// The annotation of this key.
    #[must_use]
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }
}
