//! How much memory a statement would take as a tree of values.
//!
//! `sigstore-verify` reads a whole statement into such a tree, predicate and all. Text of a few
//! megabytes can be made so that its tree has hundreds: an object of one short member is seven
//! bytes of text and seven hundred of memory. So it is counted first, in passing, what the tree
//! would take, and a statement beyond the bound is refused. Real lists of components take about five times
//! their text.

use std::borrow::Cow;
use std::fmt;

use serde::de::Deserialize;
use serde::de::DeserializeSeed;
use serde::de::Deserializer;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde::de::Visitor;

use crate::signature::SignatureError;

/// The most bytes that the tree of a statement may take.
const MOST: usize = 64 * 1024 * 1024;
/// What one value takes where it stands in an array.
const VALUE: usize = 32;
/// What a node of a map takes, and how many members are at least in one that is full.
const NODE: usize = 640;
const MEMBERS: usize = 6;
/// What a text takes beside its letters.
const TEXT: usize = 16;

/// Refuses a statement whose tree would take too much memory.
///
/// # Errors
///
/// [`SignatureError::Intricate`]; [`SignatureError::Statement`] when it is no JSON.
pub(super) fn bound(statement: &[u8]) -> Result<(), SignatureError> {
    let mut weight = Weight { left: MOST };
    let mut deserializer = serde_json::Deserializer::from_slice(statement);
    match Count(&mut weight).deserialize(&mut deserializer) {
        Err(_) if weight.left == 0 => Err(SignatureError::Intricate),
        Err(error) => Err(SignatureError::Statement(error)),
        Ok(()) => Ok(()),
    }
}

/// What may still be taken.
struct Weight {
    left: usize,
}

impl Weight {
    fn take<E: serde::de::Error>(&mut self, bytes: usize) -> Result<(), E> {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                self.left = 0;
                Err(E::custom("too many parts"))
            }
        }
    }
}

/// Walks a document and takes what its tree would.
struct Count<'a>(&'a mut Weight);

impl<'de> DeserializeSeed<'de> for Count<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Count<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        self.0.take(text.len() + TEXT)
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        // An array grows by doubling, from four.
        let (mut room, mut used) = (0_usize, 0_usize);
        while items.next_element_seed(Count(&mut *self.0))?.is_some() {
            used += 1;
            if used > room {
                let more = room.max(4);
                room += more;
                self.0.take(more * VALUE)?;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut members = 0_usize;
        while let Some(key) = entries.next_key::<Key>()? {
            if members.is_multiple_of(MEMBERS) {
                self.0.take(NODE)?;
            }
            members += 1;
            self.0.take(key.0 + TEXT)?;
            entries.next_value_seed(Count(&mut *self.0))?;
        }
        Ok(())
    }
}

/// The length of a key.
struct Key(usize);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer).map(|text| Self(text.len()))
    }
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
