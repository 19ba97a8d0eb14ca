//! JSON that means one thing only.
//!
//! Two parsers that disagree on a document are a way around a signature: one reads the first of
//! two equal keys, the other the second (CVE-2021-41190 is of this family). So a document with a
//! key twice in one object, anywhere in it, is refused before it is read.

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
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    Unambiguous.deserialize(&mut deserializer)?;
    deserializer.end()
}

/// Walks a document without keeping it.
struct Unambiguous;

impl<'de> DeserializeSeed<'de> for Unambiguous {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unambiguous {
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

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        // Keys are remembered by a hash that nobody outside can foretell, so that a document of many
        // keys takes little more memory than its text. Two keys of one hash would be a refusal.
        let hasher = RandomState::new();
        let mut seen = HashSet::new();
        while let Some(key) = entries.next_key::<Cow<'_, str>>()? {
            if !seen.insert(hasher.hash_one(key.as_ref())) {
                return Err(A::Error::custom(format_args!("the key {key:?} stands twice")));
            }
            entries.next_value_seed(Self)?;
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
        }
        let deep = "[".repeat(100_000);
        assert!(refuse_double_keys(deep.as_bytes()).is_err());
    }

    #[test]
    fn plain_json_is_read() {
        let value: Vec<u8> = parse(b"[1, 2]").unwrap();
        assert_eq!(value, [1, 2]);
    }
}
