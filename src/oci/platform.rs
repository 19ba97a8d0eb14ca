//! Platforms: operating system, architecture, variant.

use serde::Deserialize;

/// The platform that a manifest is for, in Go's words (`linux`, `amd64`, `v8`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Platform {
    /// The operating system.
    #[serde(default)]
    pub os: String,
    /// The processor architecture.
    #[serde(default)]
    pub architecture: String,
    /// The architecture's variant, if it has any.
    #[serde(default)]
    pub variant: Option<String>,
}

impl Platform {
    /// The platform of this host.
    #[must_use]
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", Some("v8")),
            "arm" => ("arm", Some("v7")),
            "powerpc64" => ("ppc64le", None),
            other => (other, None),
        };
        Self {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
        }
    }

    /// How well an image for `self` runs on `host`: higher is better, `None` is not at all.
    ///
    /// A missing variant of arm64 means v8. A 32-bit arm host runs lower variants too.
    #[must_use]
    pub fn fitness(&self, host: &Self) -> Option<u8> {
        if self.os != host.os || self.architecture != host.architecture {
            return None;
        }
        let variant = |platform: &Self| platform.variant.clone().filter(|text| !text.is_empty());
        match (variant(self), variant(host)) {
            (mine, theirs) if mine == theirs => Some(10),
            (None, _) => Some(5),
            (Some(mine), Some(theirs)) if host.architecture == "arm" && mine < theirs => {
                mine.trim_start_matches('v').parse().ok().map(|number: u8| number.min(4))
            }
            (Some(mine), None) if host.architecture == "amd64" && mine == "v1" => Some(4),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(architecture: &str, variant: Option<&str>) -> Platform {
        Platform {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
        }
    }

    #[test]
    fn the_exact_variant_is_better_than_a_lower_one() {
        let host = platform("arm", Some("v7"));
        let exact = platform("arm", Some("v7")).fitness(&host);
        let lower = platform("arm", Some("v6")).fitness(&host);
        assert!(exact > lower && lower.is_some());
        assert_eq!(platform("arm", Some("v8")).fitness(&host), None);
    }

    #[test]
    fn another_architecture_does_not_run() {
        assert_eq!(platform("s390x", None).fitness(&platform("amd64", None)), None);
    }

    #[test]
    fn arm64_without_variant_runs_on_v8() {
        assert!(platform("arm64", None).fitness(&platform("arm64", Some("v8"))).is_some());
    }
}
