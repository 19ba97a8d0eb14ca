//! Which policy file holds for a Kubernetes namespace.
//!
//! A file `<directory>/<namespace>.json` replaces the node's policy, it adds nothing to it. The
//! caller opens the files in the order given here; only "there is no such file" leads on to the
//! next, any other error is a refusal.

use std::path::Path;
use std::path::PathBuf;

use crate::failure::Classify;
use crate::failure::Kind;

/// A namespace that is no Kubernetes name, and so must not become part of a path.
#[derive(Debug, thiserror::Error)]
#[error("namespace {0:?} is not a DNS label, so it has no policy file")]
pub struct NamespaceError(String);

impl Classify for NamespaceError {
    fn kind(&self) -> Kind {
        Kind::InvalidRequest
    }
}

/// The policy files that may hold, the first that exists holds. Without a directory no namespace has one
/// of its own.
///
/// # Errors
///
/// [`NamespaceError`] for a namespace that is no DNS label (RFC 1123, as Kubernetes requires).
pub fn candidates(
    global: &Path,
    directory: Option<&Path>,
    namespace: Option<&str>,
) -> Result<Vec<PathBuf>, NamespaceError> {
    let Some(namespace) = namespace.filter(|namespace| !namespace.is_empty()) else {
        return Ok(vec![global.to_owned()]);
    };
    if !is_label(namespace) {
        return Err(NamespaceError(namespace.chars().take(80).collect()));
    }
    let own = directory.map(|directory| directory.join(format!("{namespace}.json")));
    Ok(own.into_iter().chain([global.to_owned()]).collect())
}

/// Whether a text can be the name of a namespace: a DNS label.
#[must_use]
pub fn is_label(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = text.bytes().next().zip(text.bytes().last());
    text.len() <= 63
        && ends.is_some_and(|(first, last)| plain(first) && plain(last))
        && text.bytes().all(|byte| plain(byte) || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(namespace: Option<&str>) -> Result<Vec<PathBuf>, NamespaceError> {
        let directory = Some(Path::new("/etc/policies"));
        candidates(Path::new("/etc/policy.json"), directory, namespace)
    }

    #[test]
    fn the_file_of_the_namespace_comes_first() {
        let files = check(Some("shop-1")).unwrap();
        assert_eq!(files, [Path::new("/etc/policies/shop-1.json"), Path::new("/etc/policy.json")]);
        for none in [None, Some("")] {
            assert_eq!(check(none).unwrap(), [Path::new("/etc/policy.json")]);
        }
    }

    #[test]
    fn without_a_directory_the_one_file_holds_for_every_namespace_that_is_one() {
        let global = Path::new("/etc/policy.json");
        assert_eq!(candidates(global, None, Some("shop-1")).unwrap(), [global]);
        assert!(candidates(global, None, Some("../shop")).is_err());
    }

    #[test]
    fn a_namespace_that_walks_out_of_the_directory_is_refused() {
        for namespace in
            ["..", "../shop", "a/b", ".", "a.b", "A", "-a", "a-", "a\0", &"a".repeat(64)]
        {
            assert!(check(Some(namespace)).is_err(), "{namespace}");
        }
    }
}
