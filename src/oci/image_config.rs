//! The image config: how an image wants to be run, and which layers it is made of.
//!
//! All of it is written by whoever made the image. It says how a process starts and nothing more:
//! its labels never become annotations (CVE-2026-53488).

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use serde::Deserialize;
use serde::Deserializer;
use serde::de::IgnoredAny;

use crate::oci::digest::DiffId;
use crate::oci::document::DocumentError;
use crate::oci::strict_json;

/// The parts of an image config that a node needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct ImageConfig {
    /// When it was made, RFC 3339, as written.
    #[serde(default)]
    pub created: Option<String>,
    /// How to run it.
    #[serde(default)]
    pub config: Option<RunConfig>,
    /// What it is made of.
    #[serde(default)]
    pub rootfs: RootFs,
}

/// How the image wants to be run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RunConfig {
    /// `user`, `uid`, `user:group` or `uid:gid`; empty is root.
    #[serde(default)]
    pub user: String,
    /// `NAME=value` texts.
    #[serde(default)]
    pub env: Option<Vec<String>>,
    /// The program and its first arguments.
    #[serde(default)]
    pub entrypoint: Option<Vec<String>>,
    /// The arguments, or the program where there is no entrypoint.
    #[serde(default)]
    pub cmd: Option<Vec<String>>,
    /// The directory to start in.
    #[serde(default)]
    pub working_dir: String,
    /// The signal that stops it.
    #[serde(default)]
    pub stop_signal: Option<String>,
    /// Free text by key.
    #[serde(default)]
    pub labels: Option<BTreeMap<String, String>>,
    /// Paths that want to be volumes.
    #[serde(default, deserialize_with = "keys")]
    pub volumes: Option<BTreeSet<String>>,
}

/// Reads an object for its keys. What stands under them means nothing, and is not kept: a parsed
/// value takes many times the room of its text.
fn keys<'de, D: Deserializer<'de>>(from: D) -> Result<Option<BTreeSet<String>>, D::Error> {
    let object = Option::<BTreeMap<String, IgnoredAny>>::deserialize(from)?;
    Ok(object.map(|object| object.into_keys().collect()))
}

/// What the image is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct RootFs {
    /// The digests of the uncompressed layers, lowest first.
    #[serde(default)]
    pub diff_ids: Vec<DiffId>,
}

impl ImageConfig {
    /// Reads an image config.
    ///
    /// # Errors
    ///
    /// [`DocumentError::Json`] when it is malformed or has a key twice.
    pub fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        strict_json::parse(bytes)
            .map_err(|source| DocumentError::Json { what: "image config", source })
    }

    /// How to run it; nothing set where the image says nothing.
    #[must_use]
    pub fn run(&self) -> RunConfig {
        self.config.clone().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_with_nulls_is_read() {
        let text = br#"{"architecture":"amd64","os":"linux","config":{"Env":null,"Cmd":["sh"],"User":"","Volumes":null,"Labels":null},
            "rootfs":{"type":"layers","diff_ids":[]}}"#;
        let config = ImageConfig::parse(text).unwrap();
        assert_eq!(config.run().cmd.unwrap(), ["sh"]);
    }

    #[test]
    fn a_diff_id_with_a_path_in_it_is_refused() {
        let text = br#"{"rootfs":{"diff_ids":["sha256:../../../etc"]}}"#;
        assert!(ImageConfig::parse(text).is_err());
    }
}
