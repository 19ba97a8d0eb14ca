//! How much memory a statement would take as a tree of values.
//!
//! `sigstore-verify` reads a whole statement into such a tree, predicate and all. Text of a few
//! megabytes can be made so that its tree has hundreds. So it is counted first, in passing, what the tree
//! would take, and a statement beyond the bound is refused. Real lists of components take about five times
//! their text.

use crate::oci::strict_json;
use crate::oci::strict_json::Unfit;
use crate::signature::SignatureError;

/// The most bytes that the tree of a statement may take.
const MOST: usize = 64 * 1024 * 1024;

/// Refuses a statement whose tree would take too much memory.
///
/// # Errors
///
/// [`SignatureError::Intricate`]; [`SignatureError::Statement`] when it is no JSON.
pub(super) fn bound(statement: &[u8]) -> Result<(), SignatureError> {
    strict_json::refuse_heavy(statement, MOST).map_err(|unfit| match unfit {
        Unfit::Heavy => SignatureError::Intricate,
        Unfit::Json(error) => SignatureError::Statement(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_that_would_become_hundreds_of_megabytes_is_refused() {
        let many = |part: &str| format!("[{}1]", part.repeat(6 * 1024 * 1024 / part.len()));
        for part in [r#"{"":0},"#, "[0],", r#"{"":{"":0}},"#, r#"[{"":""}],"#] {
            let error = bound(many(part).as_bytes()).unwrap_err();
            assert!(matches!(error, SignatureError::Intricate), "{part}: {error}");
        }
        let no_json = bound(b"{").unwrap_err();
        assert!(matches!(no_json, SignatureError::Statement(_)), "{no_json}");
    }

    #[test]
    fn a_list_of_components_of_some_megabytes_is_not_refused() {
        let one = r#"{"SPDXID":"SPDXRef-Package-deb-libexample-0123456789abcdef","name":"libexample",
            "versionInfo":"1.2.3-4+deb12u1","supplier":"Person: Somebody <somebody@example.org>",
            "downloadLocation":"NOASSERTION","filesAnalyzed":false,"sourceInfo":"acquired from the package database: /var/lib/dpkg/status.d/libexample, /usr/share/doc/libexample/copyright",
            "licenseConcluded":"NOASSERTION","licenseDeclared":"LicenseRef-GPL-2.0-or-later",
            "copyrightText":"NOASSERTION","externalRefs":[{"referenceCategory":"SECURITY","referenceType":"cpe23Type",
            "referenceLocator":"cpe:2.3:a:libexample:libexample:1.2.3-4\\+deb12u1:*:*:*:*:*:*:*"},
            {"referenceCategory":"PACKAGE-MANAGER","referenceType":"purl",
            "referenceLocator":"pkg:deb/debian/libexample@1.2.3-4+deb12u1?arch=amd64&distro=debian-12"}]},"#;
        let list = format!("[{}1]", one.repeat(6 * 1024 * 1024 / one.len()));
        bound(list.as_bytes()).unwrap();
    }
}
