//! JSON that means one thing only.
//!
//! Two parsers that disagree on a document are a way around a signature: one reads the first of
//! two equal keys, the other the second (CVE-2021-41190 is of this family). So a document with a
//! key twice in one object, anywhere in it, is refused before it is read.
//!
//! In the same walk it is counted what the document would take as a tree of `serde_json`'s values: an
//! object of one short member is seven bytes of text and seven hundred of memory.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::hash::BuildHasher as _;
use std::hash::RandomState;

use serde::de::Deserialize;
use serde::de::DeserializeSeed;
use serde::de::Deserializer;
use serde::de::Error as _;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde::de::Visitor;

/// What one value takes where it stands in an array.
const VALUE: usize = 32;
/// What a node of a map takes, and how many members are at least in one that is full.
const NODE: usize = 640;
const MEMBERS: usize = 6;
/// What a text takes beside its letters.
const TEXT: usize = 16;

/// Reads `bytes` as a `T`, and refuses a document that has a key twice in one object.
///
/// # Errors
///
/// The error of `serde_json` with line and column.
pub fn parse<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, serde_json::Error> {
    refuse_double_keys(bytes)?;
    serde_json::from_slice(bytes)
}

/// Refuses a document that is no JSON, or has a key twice in one object.
///
/// # Errors
///
/// The error of `serde_json` with line and column.
pub fn refuse_double_keys(bytes: &[u8]) -> Result<(), serde_json::Error> {
    walk(bytes, &mut Weight { left: usize::MAX })
}

/// Refuses the same, and a document that would take more than `most` bytes as a tree of values.
///
/// # Errors
///
/// [`Unfit`] says which of both it is.
pub fn refuse_heavy(bytes: &[u8], most: usize) -> Result<(), Unfit> {
    let mut weight = Weight { left: most };
    walk(bytes, &mut weight).map_err(|error| match weight.left {
        0 => Unfit::Heavy,
        _ => Unfit::Json(error),
    })
}

/// Why a document is not to be read as a tree of values.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// It is no JSON, or has a key twice in one object.
    #[error(transparent)]
    Json(serde_json::Error),
    /// It would take too much memory.
    #[error("it has too many parts")]
    Heavy,
}

fn walk(bytes: &[u8], weight: &mut Weight) -> Result<(), serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    Walk(weight).deserialize(&mut deserializer)?;
    deserializer.end()
}

/// What a document may still take as a tree of `serde_json`'s values.
struct Weight {
    left: usize,
}

impl Weight {
    fn take<E: serde::de::Error>(&mut self, bytes: usize) -> Result<(), E> {
        // Where nothing is left, it was too much: that tells both errors of a walk apart.
        self.left = self.left.saturating_sub(bytes);
        if self.left == 0 { Err(E::custom("too many parts")) } else { Ok(()) }
    }
}

/// Walks a document without keeping it.
struct Walk<'a>(&'a mut Weight);

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
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
        while items.next_element_seed(Walk(&mut *self.0))?.is_some() {
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
        // Keys are remembered by a hash that nobody outside can foretell, so that a document of many
        // keys takes little more memory than its text. Two keys of one hash would be a refusal.
        let hasher = RandomState::new();
        let mut seen = HashSet::new();
        while let Some(key) = entries.next_key::<Cow<'_, str>>()? {
            if seen.len().is_multiple_of(MEMBERS) {
                self.0.take(NODE)?;
            }
            self.0.take(key.len() + TEXT)?;
            if !seen.insert(hasher.hash_one(key.as_ref())) {
                return Err(A::Error::custom(format_args!("the key {key:?} stands twice")));
            }
            entries.next_value_seed(Walk(&mut *self.0))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_twice_is_refused_at_any_depth() {
        for text in
            [r#"{"a":1,"a":2}"#, r#"[{"x":{"a":1,"b":{"c":1,"c":2}}}]"#, r#"{"a":1,"\u0061":2}"#]
        {
            let error = refuse_double_keys(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("stands twice"), "{error}");
        }
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in ["", "{", "{} {}", "{\"a\":}"] {
            assert!(refuse_double_keys(text.as_bytes()).is_err(), "{text}");
            let unfit = refuse_heavy(text.as_bytes(), usize::MAX).unwrap_err();
            assert!(matches!(unfit, Unfit::Json(_)), "{text}: {unfit}");
        }
        let deep = "[".repeat(100_000);
        assert!(refuse_double_keys(deep.as_bytes()).is_err());
    }

    #[test]
    fn what_a_tree_takes_is_counted_and_more_is_refused_before_it_is_built() {
        // A text; an array of four places with a text; a map of one node with a key and a text.
        let (text, map) = (1 + TEXT, NODE + 1 + TEXT);
        for (document, takes) in [
            (r#""a""#, text),
            (r#"["a", 1]"#, 4 * VALUE + text),
            ("[1, 2, 3, 4, 5]", 8 * VALUE),
            (r#"{"a": "b"}"#, map + text),
            (r#"{"a": {"b": 1}}"#, 2 * map),
            (r#"{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1}"#, 2 * NODE + 7 * (1 + TEXT)),
        ] {
            refuse_heavy(document.as_bytes(), takes + 1).unwrap();
            let unfit = refuse_heavy(document.as_bytes(), takes).unwrap_err();
            assert!(matches!(unfit, Unfit::Heavy), "{document}: {unfit}");
            refuse_double_keys(document.as_bytes()).unwrap();
        }
    }

    #[test]
    fn plain_json_is_read() {
        let value: Vec<u8> = parse(b"[1, 2]").unwrap();
        assert_eq!(value, [1, 2]);
    }
}
