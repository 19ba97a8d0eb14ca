//! `json`: one value of the predicate must be the one that the policy names.
//!
//! The way to the value is a JSON pointer (RFC 6901), read to the letter. Numbers are equal only
//! as whole numbers of 64 bits: about others two parsers may disagree.

use std::fmt;

use serde::de::DeserializeSeed;
use serde::de::Deserializer;
use serde::de::IgnoredAny;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde::de::Visitor;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::policy::json::Fault;
use crate::policy::json::Part;

/// The longest text of a value that is compared, in bytes; no policy names a longer one.
const LONGEST: usize = 64 * 1024;

/// One value, and where it must stand.
#[derive(Debug)]
pub(crate) struct Equals {
    pointer: String,
    steps: Vec<String>,
    value: Value,
}

impl Equals {
    /// Reads one element of the list.
    pub(crate) fn parse(part: &Part<'_>) -> Result<Self, Fault> {
        let mut members = part.members()?;
        let pointer: Option<String> = members.take("pointer")?;
        let value: Option<&RawValue> = members.take("equals")?;
        let fault = |fault: &str| part.fault(fault);
        let (Some(pointer), Some(value)) = (pointer, value) else {
            return Err(fault("pointer and equals must be specified"));
        };
        let steps = steps(&pointer).ok_or_else(|| {
            fault("pointer must be a JSON pointer (RFC 6901), such as /buildDefinition/buildType")
        })?;
        if value.get().len() > LONGEST {
            return Err(fault("the value of equals is too long"));
        }
        let value: Value = serde_json::from_str(value.get())
            .map_err(|_| fault("the value of equals cannot be read"))?;
        if has_fraction(&value) {
            return Err(fault("equals compares whole numbers of 64 bits only"));
        }
        members.end()?;
        Ok(Self { pointer, steps, value })
    }

    /// Whether the value stands there; if not, what is wrong.
    pub(crate) fn holds(&self, predicate: &RawValue) -> Result<(), String> {
        let pointer = &self.pointer;
        let mut here = predicate;
        for step in &self.steps {
            let found = Pick(step).deserialize(&mut serde_json::Deserializer::from_str(here.get()));
            here = found.ok().flatten().ok_or_else(|| format!("has nothing at {pointer:?}"))?;
        }
        let text = here.get();
        let same = text.len() <= LONGEST
            && serde_json::from_str::<Value>(text).is_ok_and(|found| found == self.value);
        if same {
            return Ok(());
        }
        let found: String = text.chars().take(100).collect();
        Err(format!("has another value at {pointer:?}: {found}"))
    }
}

/// The steps of a pointer, or none if it is no pointer.
fn steps(pointer: &str) -> Option<Vec<String>> {
    if pointer.is_empty() {
        return Some(Vec::new());
    }
    pointer.strip_prefix('/')?.split('/').map(unescape).collect()
}

fn unescape(step: &str) -> Option<String> {
    let mut text = String::new();
    let mut letters = step.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '~' => match letters.next()? {
                '0' => text.push('~'),
                '1' => text.push('/'),
                _ => return None,
            },
            other => text.push(other),
        }
    }
    Some(text)
}

fn has_fraction(value: &Value) -> bool {
    match value {
        Value::Number(number) => !number.is_i64() && !number.is_u64(),
        Value::Array(values) => values.iter().any(has_fraction),
        Value::Object(values) => values.values().any(has_fraction),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}

/// Takes one member of an object, or one element of an array, and keeps nothing else.
struct Pick<'a>(&'a str);

impl Pick<'_> {
    /// The step as a place in an array: digits without a leading zero.
    fn place(&self) -> Option<usize> {
        let plain = self.0 == "0" || !self.0.starts_with('0');
        let digits = self.0.bytes().all(|byte| byte.is_ascii_digit());
        self.0.parse().ok().filter(|_| plain && digits)
    }
}

impl<'de> DeserializeSeed<'de> for Pick<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Pick<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = members.next_key::<String>()? {
            if name == self.0 {
                found = Some(members.next_value()?);
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let place = self.place();
        let mut found = None;
        for here in 0_usize.. {
            let more = if Some(here) == place {
                found = elements.next_element()?;
                found.is_some()
            } else {
                elements.next_element::<IgnoredAny>()?.is_some()
            };
            if !more {
                break;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::json::Text;

    fn parse(text: &str) -> Result<Equals, String> {
        Equals::parse(&Part::whole(Text(text))).map_err(|fault| fault.fault)
    }

    #[track_caller]
    fn check(pointer: &str, equals: &str, predicate: &str, expected: Result<(), &str>) {
        let text = format!(r#"{{"pointer":{pointer:?},"equals":{equals}}}"#);
        let predicate: &RawValue = serde_json::from_str(predicate).unwrap();
        let found = parse(&text).unwrap().holds(predicate);
        assert_eq!(found.as_ref().copied().map_err(String::as_str), expected, "{text}");
    }

    #[test]
    fn a_pointer_leads_to_one_value() {
        check("", r#"{"a":1}"#, r#"{ "a" : 1 }"#, Ok(()));
        check("/a/1/b", "true", r#"{"a":[0,{"b":true}]}"#, Ok(()));
        check("/a~1b/c~0d/", "null", r#"{"a/b":{"c~d":{"":null}}}"#, Ok(()));
        check("/0", "-7", r#"{"0":-7}"#, Ok(()));
        check("/a", r#"["x",{"y":2}]"#, r#"{"a":["x",{"y":2}]}"#, Ok(()));
        check("/a", "\"\u{e9}\"", r#"{"\u0061":"\u00e9"}"#, Ok(()));
    }

    #[test]
    fn what_is_not_there_is_not_equal() {
        let nothing = |pointer: &str, predicate: &str| {
            let words = format!("has nothing at {pointer:?}");
            check(pointer, "null", predicate, Err(&words));
        };
        nothing("/a", "{}");
        nothing("/a/b", r#"{"a":"b"}"#);
        nothing("/1", "[0]");
        nothing("/-", "[0]");
        nothing("/00", "[null]");
        nothing("/+0", "[null]");
        nothing("/a", "null");
        nothing("/18446744073709551616", "[null]");
    }

    #[test]
    fn values_of_another_kind_are_not_equal() {
        let other = |equals: &str, found: &str| {
            let words = format!("has another value at \"/a\": {found}");
            check("/a", equals, &format!(r#"{{"a":{found}}}"#), Err(&words));
        };
        other("1", "1.0");
        other("1", "\"1\"");
        other("1", "true");
        other("null", "false");
        other("\"release\"", "\"release \"");
        other("[1,2]", "[2,1]");
        other("{}", r#"{"more":1}"#);
        other("18446744073709551615", "18446744073709551616");
        other("0", "-0");
    }

    #[test]
    fn what_is_no_pointer_is_a_fault_of_the_policy() {
        for pointer in ["a", "a/b", "/~", "/~2", "$.a", "#/a"] {
            let fault = parse(&format!(r#"{{"pointer":"{pointer}","equals":1}}"#)).unwrap_err();
            assert!(fault.contains("RFC 6901"), "{fault}");
        }
        for text in [
            r#"{"pointer":"/a"}"#,
            r#"{"equals":1}"#,
            r#"{"pointer":"/a","equals":1.5}"#,
            r#"{"pointer":"/a","equals":[18446744073709551616]}"#,
            r#"{"pointer":"/a","equals":1,"more":1}"#,
        ] {
            parse(text).unwrap_err();
        }
    }
}
