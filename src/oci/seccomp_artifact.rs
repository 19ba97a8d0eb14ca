//! Which artifacts are seccomp profiles, told by the manifest alone: before any blob is fetched.
//!
//! An artifact that says what it is must say that it is one. Tools that say nothing, or that they do
//! not know, are let through: what is no profile fails when it is read. The profile is its one layer.

use crate::oci::descriptor::Descriptor;
use crate::oci::document::Manifest;
use crate::oci::media_type;

/// What a profile says it is, as its config or as its artifact type (KEP-6061).
pub const MEDIA_TYPE: &str = "application/vnd.cncf.seccomp-profile.config.v1+json";
/// The most bytes of a profile, and of its config.
pub const LARGEST: u64 = 1 << 20;

/// What tools say that were not told what they push: oras, and podman.
const UNTOLD: [&str; 3] = [
    media_type::OCI_EMPTY,
    "application/vnd.unknown.config.v1+json",
    "application/vnd.unknown.artifact.v1",
];

/// Gives the layer that is the profile.
///
/// # Errors
///
/// What is wrong with it, to be put behind its name.
pub fn layer(manifest: &Manifest) -> Result<&Descriptor, String> {
    let said = [manifest.artifact_type.as_deref(), Some(manifest.config.media_type.as_str())];
    let mut said = said.into_iter().flatten().filter(|kind| !kind.is_empty());
    let mut other = said.clone().filter(|kind| !UNTOLD.contains(kind));
    if !said.any(|kind| kind == MEDIA_TYPE) {
        match other.next() {
            Some(media_type::OCI_CONFIG | media_type::DOCKER_CONFIG) => {
                return Err("it is a container image, no seccomp profile".to_owned());
            }
            Some(kind) => {
                let kind: String = kind.chars().take(200).collect();
                return Err(format!("it is a {kind:?}, where {MEDIA_TYPE} is wanted"));
            }
            None if manifest.config.media_type.is_empty() => {
                return Err("it is a container image, no seccomp profile".to_owned());
            }
            None => {}
        }
    }
    let [layer] = manifest.layers.as_slice() else {
        let count = manifest.layers.len();
        return Err(format!("it has {count} layers, where the profile is the only one"));
    };
    for (what, blob) in [("profile", layer), ("config", &manifest.config)] {
        if blob.size > LARGEST {
            return Err(format!("its {what} has {} bytes; at most {LARGEST} are read", blob.size));
        }
    }
    Ok(layer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::document::Document;

    fn of(
        artifact_type: &str,
        config: &str,
        sizes: &[u64],
        config_size: u64,
    ) -> Result<u64, String> {
        let digest = format!("sha256:{}", "a".repeat(64));
        let blob = |kind: &str, size: u64| serde_json::json!({"mediaType": kind, "digest": digest, "size": size});
        let layers: Vec<_> = sizes.iter().map(|size| blob("application/json", *size)).collect();
        let mut text = serde_json::json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
            "config": blob(config, config_size), "layers": layers,
        });
        if !artifact_type.is_empty() {
            text["artifactType"] = artifact_type.into();
        }
        match Document::parse("", text.to_string().as_bytes()).unwrap() {
            Document::Manifest(manifest) => layer(&manifest).map(|layer| layer.size),
            Document::Index(_) => unreachable!(),
        }
    }

    #[test]
    fn a_profile_says_so_or_says_nothing() {
        for (artifact_type, config) in [
            ("", MEDIA_TYPE),
            (MEDIA_TYPE, media_type::OCI_EMPTY),
            (MEDIA_TYPE, "application/vnd.any+json"),
            ("", media_type::OCI_EMPTY),
            ("application/vnd.unknown.artifact.v1", media_type::OCI_EMPTY),
            ("", "application/vnd.unknown.config.v1+json"),
        ] {
            assert_eq!(of(artifact_type, config, &[7], 2), Ok(7), "{artifact_type} {config}");
        }
    }

    #[test]
    fn what_says_that_it_is_something_else_is_refused() {
        for (artifact_type, config, fault) in [
            ("", media_type::OCI_CONFIG, "it is a container image"),
            ("", media_type::DOCKER_CONFIG, "it is a container image"),
            ("", "", "it is a container image"),
            ("", "application/vnd.cncf.helm.config.v1+json", "it is a \"application/vnd.cncf.helm"),
            ("application/vnd.x", media_type::OCI_EMPTY, "it is a \"application/vnd.x\""),
        ] {
            let found = of(artifact_type, config, &[7], 2).unwrap_err();
            assert!(found.starts_with(fault), "{artifact_type} {config}: {found}");
        }
    }

    #[test]
    fn there_is_one_profile_and_it_is_not_large() {
        for (sizes, config) in
            [(&[][..], 2), (&[1, 1][..], 2), (&[LARGEST + 1][..], 2), (&[1][..], LARGEST + 1)]
        {
            assert!(of("", MEDIA_TYPE, sizes, config).is_err(), "{sizes:?}");
        }
        assert_eq!(of("", MEDIA_TYPE, &[LARGEST], LARGEST), Ok(LARGEST));
    }
}
