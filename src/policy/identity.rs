//! `signedIdentity`: under which name an image must be signed.
//!
//! The user's reference has no tag where it has a digest, and the tag `latest` where it has
//! neither. What a signature names is taken as it is: no tag is added to it.

use serde::Deserialize;

use crate::oci::reference::Reference;
use crate::oci::reference::Written;
use crate::policy::json::Fault;
use crate::policy::json::Members;
use crate::policy::json::Part;

/// Under which name an image must be signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Identity {
    /// The user's reference, with its tag or digest.
    MatchExact,
    /// The same; or, if the user names a digest, the same repository. The default.
    MatchRepoDigestOrExact,
    /// The same repository.
    MatchRepository,
    /// This very reference.
    ExactReference(Reference),
    /// This repository.
    ExactRepository(Reference),
    /// As the default, with one prefix of the user's reference put for another.
    Remap { prefix: String, signed_prefix: String },
    /// The digest alone decides; no name is looked at. For bundles, which name none. Ours.
    MatchSubjectDigest,
}

#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plain {
    #[serde(rename = "type")]
    _kind: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ExactReference {
    #[serde(rename = "type")]
    _kind: String,
    docker_reference: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ExactRepository {
    #[serde(rename = "type")]
    _kind: String,
    docker_repository: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Remap {
    #[serde(rename = "type")]
    _kind: String,
    prefix: String,
    signed_prefix: String,
}

/// Takes the `signedIdentity` of a requirement, which has a default.
pub(crate) fn take(members: &mut Members<'_>) -> Result<Identity, Fault> {
    match members.part("signedIdentity") {
        None => Ok(Identity::MatchRepoDigestOrExact),
        Some(part) => Identity::parse(&part),
    }
}

impl Identity {
    /// Reads a `signedIdentity`.
    pub(crate) fn parse(part: &Part<'_>) -> Result<Self, Fault> {
        let Kind { kind } = part.object()?;
        let plain = |identity| part.object::<Plain>().map(|_| identity);
        let reference = |name: &str, text: &str| {
            Reference::parse_normalized(text).map_err(|error| {
                part.fault(format!("invalid {name}: {}", crate::failure::chain(&error)))
            })
        };
        match kind.as_str() {
            "matchExact" => plain(Self::MatchExact),
            "matchRepoDigestOrExact" => plain(Self::MatchRepoDigestOrExact),
            "matchRepository" => plain(Self::MatchRepository),
            "matchSubjectDigest" => plain(Self::MatchSubjectDigest),
            "exactReference" => {
                let text = part.object::<ExactReference>()?.docker_reference;
                let exact = reference("dockerReference", &text)?;
                if is_name_only(&exact) {
                    let fault =
                        format!("dockerReference {text:?} contains neither a tag nor digest");
                    return Err(part.fault(fault));
                }
                Ok(Self::ExactReference(exact))
            }
            "exactRepository" => {
                let text = part.object::<ExactRepository>()?.docker_repository;
                Ok(Self::ExactRepository(reference("dockerRepository", &text)?))
            }
            "remapIdentity" => {
                let Remap { prefix, signed_prefix, .. } = part.object()?;
                if let Some(bad) =
                    [&prefix, &signed_prefix].into_iter().find(|text| !is_prefix(text))
                {
                    return Err(part.fault(format!("prefix {bad:?} is not valid")));
                }
                Ok(Self::Remap { prefix, signed_prefix })
            }
            _ => Err(part.fault(format!("unknown policy reference match type {kind:?}"))),
        }
    }

    /// The word for it in the policy file.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::MatchExact => "matchExact",
            Self::MatchRepoDigestOrExact => "matchRepoDigestOrExact",
            Self::MatchRepository => "matchRepository",
            Self::ExactReference(_) => "exactReference",
            Self::ExactRepository(_) => "exactRepository",
            Self::Remap { .. } => "remapIdentity",
            Self::MatchSubjectDigest => "matchSubjectDigest",
        }
    }

    /// Whether a signature under the name `signed` is one for the image that the user names.
    pub(crate) fn accepts(&self, intended: &Reference, signed: &str) -> bool {
        if *self == Self::MatchSubjectDigest {
            return true;
        }
        let intended = intended.clone().without_tag_if_digested().or_latest();
        let Ok(signed) = Reference::parse_normalized(signed) else {
            return false;
        };
        match self {
            Self::MatchExact => !is_name_only(&signed) && signed == intended,
            Self::MatchRepoDigestOrExact => repo_digest_or_exact(&intended, &signed),
            Self::MatchRepository => same_repository(&intended, &signed),
            Self::ExactReference(exact) => signed == *exact,
            Self::ExactRepository(exact) => same_repository(exact, &signed),
            Self::Remap { prefix, signed_prefix } => remap(&intended, prefix, signed_prefix)
                .is_some_and(|intended| repo_digest_or_exact(&intended, &signed)),
            Self::MatchSubjectDigest => true,
        }
    }
}

fn is_name_only(reference: &Reference) -> bool {
    reference.tag().is_none() && reference.digest().is_none()
}

fn same_repository(one: &Reference, other: &Reference) -> bool {
    one.host() == other.host() && one.path() == other.path()
}

/// Where the user names a digest, the signature's digest is compared with the manifest's, so only
/// the repository is left to compare.
fn repo_digest_or_exact(intended: &Reference, signed: &Reference) -> bool {
    if is_name_only(signed) {
        return false;
    }
    match intended.tag() {
        Some(_) => signed == intended,
        None => intended.digest().is_some() && same_repository(intended, signed),
    }
}

/// `intended` with `prefix` replaced; itself if the prefix is not its own; none if the outcome is
/// no reference.
fn remap(intended: &Reference, prefix: &str, signed_prefix: &str) -> Option<Reference> {
    let repository = intended.repository();
    let Some(rest) = repository.strip_prefix(prefix) else {
        return Some(intended.clone());
    };
    if !rest.is_empty() && !rest.starts_with('/') {
        return Some(intended.clone());
    }
    let text = intended.to_string();
    format!("{signed_prefix}{}", text.strip_prefix(prefix)?).parse().ok()
}

/// A host with or without a port, or a host and a path.
fn is_prefix(text: &str) -> bool {
    let (host, path) = text.split_once('/').map_or((text, None), |(host, path)| (host, Some(path)));
    // A stand-in for a written reference: only its host and path are looked at.
    let written = Written::parse(&format!("host.invalid/{}", path.unwrap_or("path")));
    written.is_ok_and(|written| {
        written.tag.is_none() && written.digest.is_none() && written.at(host).is_ok()
    })
}
