//! The types a value can be given, and what each accepts.

use std::path::PathBuf;
use std::time::Duration;

use super::value::Shape;
use super::value::Value;

/// A type that a configured value can have.
pub(super) trait Setting: Sized {
    /// How a flag's text is read.
    const SHAPE: Shape;
    /// What a value must be, in words that follow "must be".
    const WANTED: &'static str;
    /// The typed value, or `None` when it is not what is wanted.
    fn from_value(value: &Value) -> Option<Self>;
}

/// A type that an item of a list can have.
pub(super) trait Entry: Sized {
    /// What a list of these must be, in words that follow "must be".
    const WANTED: &'static str;
    /// The typed item, or `None` when it is not what is wanted.
    fn from_text(text: &str) -> Option<Self>;
}

impl Setting for String {
    const SHAPE: Shape = Shape::Text;
    const WANTED: &'static str = "a string";
    fn from_value(value: &Value) -> Option<Self> {
        text(value).map(str::to_owned)
    }
}

impl Setting for bool {
    const SHAPE: Shape = Shape::Bool;
    const WANTED: &'static str = "true or false";
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Bool(flag) = value { Some(*flag) } else { None }
    }
}

impl Setting for i64 {
    const SHAPE: Shape = Shape::Integer;
    const WANTED: &'static str = "a whole number";
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Integer(number) = value { Some(*number) } else { None }
    }
}

impl Setting for u32 {
    const SHAPE: Shape = Shape::Integer;
    const WANTED: &'static str = "a whole number from 0 on";
    fn from_value(value: &Value) -> Option<Self> {
        i64::from_value(value).and_then(|number| Self::try_from(number).ok())
    }
}

/// A limit; below zero there is none.
impl Setting for Option<u64> {
    const SHAPE: Shape = Shape::Integer;
    const WANTED: &'static str = "a whole number, below zero for none";
    fn from_value(value: &Value) -> Option<Self> {
        i64::from_value(value).map(|number| u64::try_from(number).ok())
    }
}

impl Setting for PathBuf {
    const SHAPE: Shape = Shape::Text;
    const WANTED: &'static str = "an absolute path";
    fn from_value(value: &Value) -> Option<Self> {
        <Self as Entry>::from_text(text(value)?)
    }
}

impl Setting for Option<PathBuf> {
    const SHAPE: Shape = Shape::Text;
    const WANTED: &'static str = "an absolute path, or empty";
    fn from_value(value: &Value) -> Option<Self> {
        match text(value)? {
            "" => Some(None),
            text => <PathBuf as Entry>::from_text(text).map(Some),
        }
    }
}

impl Setting for Duration {
    const SHAPE: Shape = Shape::Text;
    const WANTED: &'static str = "a duration such as \"90s\" or \"1m30s\"";
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Text(text) => go_duration(text),
            // Go's decoder takes a bare number as nanoseconds.
            Value::Integer(number) => u64::try_from(*number).ok().map(Self::from_nanos),
            Value::Bool(_) | Value::List(_) | Value::Map(_) => None,
        }
    }
}

impl Setting for Option<Duration> {
    const SHAPE: Shape = Shape::Text;
    const WANTED: &'static str = "a duration such as \"90s\" or \"1m30s\", or empty";
    fn from_value(value: &Value) -> Option<Self> {
        match text(value)? {
            "" => Some(None),
            text => go_duration(text).map(Some),
        }
    }
}

impl<T: Entry> Setting for Vec<T> {
    const SHAPE: Shape = Shape::List;
    const WANTED: &'static str = T::WANTED;
    fn from_value(value: &Value) -> Option<Self> {
        let Value::List(list) = value else { return None };
        list.iter().map(|text| T::from_text(text)).collect()
    }
}

impl Setting for std::collections::BTreeMap<String, String> {
    const SHAPE: Shape = Shape::Map;
    const WANTED: &'static str = "a table of strings";
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Map(map) = value { Some(map.clone()) } else { None }
    }
}

impl Entry for String {
    const WANTED: &'static str = "an array of strings";
    fn from_text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

impl Entry for PathBuf {
    const WANTED: &'static str = "an array of absolute paths";
    fn from_text(text: &str) -> Option<Self> {
        (text.starts_with('/') && !text.contains('\0')).then(|| Self::from(text))
    }
}

/// The text of a string.
pub(super) fn text(value: &Value) -> Option<&str> {
    if let Value::Text(text) = value { Some(text) } else { None }
}

/// A duration in the words of Go's `time.ParseDuration`, not below zero.
#[must_use]
pub fn go_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut sum = 0.0_f64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at_checked(digits)?;
        let units = [
            ("ns", 1e-9),
            ("us", 1e-6),
            ("µs", 1e-6),
            ("ms", 1e-3),
            ("s", 1.0),
            ("m", 60.0),
            ("h", 3600.0),
        ];
        // The longest unit wins: "ms" is not "m".
        let (unit, seconds) = units
            .iter()
            .filter(|(unit, _)| tail.starts_with(unit))
            .max_by_key(|(unit, _)| unit.len())?;
        sum += number.parse::<f64>().ok()? * seconds;
        rest = tail.strip_prefix(unit)?;
    }
    Duration::try_from_secs_f64(sum).ok()
}

/// Writes an enum whose variants are the words a key may have.
macro_rules! words {
    (
        $(#[$meta:meta])*
        $enum:ident: $wanted:literal {
            $( $(#[doc = $doc:literal])+ $variant:ident = $word:literal $(| $other:literal)*; )+
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $enum {
            $( $(#[doc = $doc])+ $variant, )+
        }

        impl $crate::config::setting::Setting for $enum {
            const SHAPE: $crate::config::value::Shape = $crate::config::value::Shape::Text;
            const WANTED: &'static str = $wanted;
            fn from_value(value: &$crate::config::value::Value) -> Option<Self> {
                match $crate::config::setting::text(value)? {
                    $( $word $(| $other)* => Some(Self::$variant), )+
                    _ => None,
                }
            }
        }
    };
}
pub(super) use words;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, milliseconds) in
            [("0", 0), ("0s", 0), ("5s", 5000), ("1m30s", 90_000), ("1.5h", 5_400_000), ("2ms", 2)]
        {
            assert_eq!(go_duration(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "5", "s", "-1s", "1x", "1..5s", "5 s"] {
            assert_eq!(go_duration(text), None, "{text}");
        }
    }

    #[test]
    fn paths_are_absolute() {
        assert_eq!(PathBuf::from_value(&Value::Text("run/x".into())), None);
        assert_eq!(PathBuf::from_value(&Value::Text(String::new())), None);
        assert_eq!(Option::<PathBuf>::from_value(&Value::Text(String::new())), Some(None));
    }
}
