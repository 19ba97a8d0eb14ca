//! Whether the product of a statement is the image that is judged.
//!
//! A product is the image if one of its names or hashes has the digest of the manifest, or of an
//! index that is known to list it, or if it is a package URL of the image's repository without a
//! version. It is another one if it has another digest *and* another name: the same name with
//! another digest may be an index that is not known. About everything else one cannot know.

use std::collections::BTreeMap;

use crate::oci::digest::Digest;
use crate::policy::signable::Signable;

/// Whom a statement is about; statements about others are dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Whom {
    /// This image.
    Ours,
    /// Something that may be this image, or in it.
    Unclear(String),
}

/// What one name of a product tells.
#[derive(Debug, Default)]
struct Told {
    digest: Option<String>,
    repository: Option<String>,
    name: Option<String>,
}

/// Whom a product with these names and hashes is; none if it is another one.
pub(super) fn whom(
    id: Option<&str>,
    identifiers: &BTreeMap<String, String>,
    hashes: &BTreeMap<String, String>,
    subject: &Signable<'_>,
) -> Option<Whom> {
    // Hex digits are the same in capitals, and a statement about this image must not be lost.
    let ours = |digest: &&String| {
        let digest = digest.to_ascii_lowercase().parse();
        digest.is_ok_and(|digest: Digest| subject.find(&digest).is_some())
    };
    let repository = subject.reference.repository();
    let own_name = repository.rsplit('/').next().unwrap_or_default();
    let purl = identifiers.get("purl").map(String::as_str);
    let told: Vec<Told> = id.into_iter().chain(purl).map(tell).collect();
    let hash = hashes.get("sha-256").map(|hex| format!("sha256:{hex}"));
    let digests: Vec<&String> =
        told.iter().filter_map(|told| told.digest.as_ref()).chain(&hash).collect();
    if !digests.is_empty() && digests.iter().all(ours) {
        return Some(Whom::Ours);
    }
    let unversioned = |told: &Told| {
        told.digest.is_none() && told.repository.as_deref() == Some(repository.as_str())
    };
    if digests.is_empty() && told.iter().any(unversioned) {
        return Some(Whom::Ours);
    }
    let names: Vec<&String> = told.iter().filter_map(|told| told.name.as_ref()).collect();
    let other_name = !names.is_empty() && names.iter().all(|name| *name != own_name);
    if other_name && !digests.is_empty() && !digests.iter().any(ours) {
        return None;
    }
    let shown = id.or(purl).or(hash.as_deref()).unwrap_or("a product without a name");
    Some(Whom::Unclear(shown.to_owned()))
}

/// Reads `pkg:oci/name@sha256:hex?repository_url=host/path`, and `name@sha256:hex`.
fn tell(text: &str) -> Told {
    let (text, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (text, qualifiers) = text.split_once('?').unwrap_or((text, ""));
    let (name, version) = match text.rsplit_once('@') {
        Some((name, version)) => (name, Some(version)),
        None => (text, None),
    };
    let is_oci = name.starts_with("pkg:oci/");
    let digest = version.map(decode).filter(|version| version.starts_with("sha256:"));
    if digest.is_none() && (!is_oci || version.is_some() || !fragment.is_empty()) {
        return Told::default();
    }
    let url = qualifiers.split('&').find_map(|pair| pair.strip_prefix("repository_url="));
    Told {
        digest,
        repository: url.filter(|_| is_oci).map(decode),
        name: Some(decode(name.rsplit('/').next().unwrap_or_default())),
    }
}

/// The text without `%` escapes; what is escaped wrongly stays.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend_from_slice(before.as_bytes());
        let hex = after.get(..2).filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(b'%');
                rest = after;
            }
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::reference::Reference;
    use crate::policy::Evidence;
    use crate::policy::Subject;

    fn ours() -> String {
        format!("sha256:{}", "a".repeat(64))
    }

    fn other() -> String {
        format!("sha256:{}", "b".repeat(64))
    }

    fn judge(id: &str, purl: &str, hash: &str) -> Option<Whom> {
        let reference = Reference::parse_normalized("registry.example/shop/api:1").unwrap();
        let digest = ours().parse().unwrap();
        let subject = Subject { reference: &reference, manifest_digest: &digest };
        let subject = Signable::new(&subject, &Evidence::default());
        let map = |key: &str, value: &str| {
            let pair = (!value.is_empty()).then(|| (key.to_owned(), value.to_owned()));
            pair.into_iter().collect::<BTreeMap<_, _>>()
        };
        whom(
            Some(id).filter(|id| !id.is_empty()),
            &map("purl", purl),
            &map("sha-256", hash),
            &subject,
        )
    }

    #[test]
    fn the_digest_makes_a_product_ours() {
        let hex = "a".repeat(64);
        for id in [
            format!("pkg:oci/api@{}", ours()),
            format!("pkg:oci/another-name@sha256%3A{hex}?arch=amd64"),
            format!("registry.example/shop/api@{}", ours()),
            format!("pkg:oci/another-name@sha256:{}", hex.to_uppercase()),
        ] {
            assert_eq!(judge(&id, "", ""), Some(Whom::Ours), "{id}");
            assert_eq!(judge("https://shop.example/api", &id, ""), Some(Whom::Ours), "{id}");
        }
        assert_eq!(judge("", "", &hex), Some(Whom::Ours));
        assert_eq!(judge("https://shop.example/api", "", &hex), Some(Whom::Ours));
        let repository = "pkg:oci/api?repository_url=registry.example%2Fshop%2Fapi";
        assert_eq!(judge(repository, "", ""), Some(Whom::Ours));
    }

    #[test]
    fn another_digest_and_another_name_make_it_another() {
        assert_eq!(judge(&format!("pkg:oci/web@{}", other()), "", ""), None);
        assert_eq!(judge(&format!("registry.example/shop/web@{}", other()), "", ""), None);
        let hex = "b".repeat(64);
        assert_eq!(judge(&format!("pkg:oci/web@{}", other()), "", &hex), None);
    }

    #[test]
    fn about_everything_else_one_cannot_know() {
        let hex = "b".repeat(64);
        for (id, hash) in [
            ("pkg:apk/wolfi/git@2.39.0-r1?arch=armv7".to_owned(), ""),
            ("pkg:oci/api".to_owned(), ""),
            ("pkg:oci/api@1.4".to_owned(), ""),
            ("pkg:oci/api@1.4?repository_url=registry.example/shop/api".to_owned(), ""),
            ("pkg:oci/web?repository_url=registry.example/shop/web".to_owned(), ""),
            // The index of the image, perhaps.
            (format!("pkg:oci/api@{}", other()), ""),
            // Two digests that disagree.
            (format!("pkg:oci/web@{}", ours()), hex.as_str()),
            (String::new(), hex.as_str()),
            (String::new(), ""),
            ("https://shop.example/api".to_owned(), ""),
        ] {
            let found = judge(&id, "", hash);
            assert!(matches!(found, Some(Whom::Unclear(_))), "{id} {hash}: {found:?}");
        }
    }
}
