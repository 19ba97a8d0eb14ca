//! The values a configuration is made of before they have their types.
//!
//! A file, an environment variable and a flag all end up here, so that they are checked by the same
//! code and printed by the same code.

use std::collections::BTreeMap;
use std::fmt;

/// A value as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A string.
    Text(String),
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// An array of strings.
    List(Vec<String>),
    /// A table of strings.
    Map(BTreeMap<String, String>),
}

/// What a key is without anybody's word: a [`Value`] that can stand in a constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// A string.
    Text(&'static str),
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// An array of strings.
    List(&'static [&'static str]),
    /// An empty table.
    NoMap,
}

/// How a flag's text becomes a [`Value`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A string.
    Text,
    /// `true` or `false`; the flag alone is `true`.
    Bool,
    /// A whole number.
    Integer,
    /// Strings: the flag may come several times, and each may hold several, divided by commas.
    List,
    /// A table of strings: files only.
    Map,
}

impl Fallback {
    /// The value.
    #[must_use]
    pub fn value(self) -> Value {
        match self {
            Self::Text(text) => Value::Text(text.to_owned()),
            Self::Bool(flag) => Value::Bool(flag),
            Self::Integer(number) => Value::Integer(number),
            Self::List(list) => Value::List(list.iter().map(|&text| text.to_owned()).collect()),
            Self::NoMap => Value::Map(BTreeMap::new()),
        }
    }
}

impl Shape {
    /// The value of a flag or environment variable that was given as `texts`.
    ///
    /// `None` when the text does not have this shape. The words for a truth value are those of Go's
    /// `strconv.ParseBool`, which the reference's flags take.
    #[must_use]
    pub fn parse(self, texts: &[String]) -> Option<Value> {
        let last = texts.last()?;
        match self {
            Self::Text => Some(Value::Text(last.clone())),
            Self::Integer => last.trim().parse().ok().map(Value::Integer),
            Self::Bool => match last.as_str() {
                "1" | "t" | "T" | "true" | "True" | "TRUE" => Some(Value::Bool(true)),
                "0" | "f" | "F" | "false" | "False" | "FALSE" => Some(Value::Bool(false)),
                _ => None,
            },
            Self::List => {
                let parts = texts.iter().flat_map(|text| text.split(','));
                let parts = parts.map(str::trim).filter(|part| !part.is_empty());
                Some(Value::List(parts.map(str::to_owned).collect()))
            }
            Self::Map => None,
        }
    }
}

/// As TOML, on one line.
impl fmt::Display for Value {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => out.write_str(&quoted(text)),
            Self::Bool(flag) => write!(out, "{flag}"),
            Self::Integer(number) => write!(out, "{number}"),
            Self::List(list) => {
                let parts: Vec<_> = list.iter().map(|text| quoted(text)).collect();
                write!(out, "[{}]", parts.join(", "))
            }
            Self::Map(map) => {
                let pair = |(key, value): (&String, &String)| {
                    format!("{} = {}", quoted(key), quoted(value))
                };
                let parts: Vec<_> = map.iter().map(pair).collect();
                write!(out, "{{{}}}", parts.join(", "))
            }
        }
    }
}

/// A TOML basic string.
#[must_use]
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            other if other.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(other))),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn flags_take_the_shape_of_their_key() {
        assert_eq!(Shape::Bool.parse(&texts(&["T"])), Some(Value::Bool(true)));
        assert_eq!(Shape::Bool.parse(&texts(&["yes"])), None);
        assert_eq!(Shape::Integer.parse(&texts(&["12x"])), None);
        let list = Value::List(texts(&["a", "b", "c"]));
        assert_eq!(Shape::List.parse(&texts(&["a, b", "c"])), Some(list));
        assert_eq!(Shape::List.parse(&texts(&[""])), Some(Value::List(Vec::new())));
    }

    #[test]
    fn printed_text_reads_back_as_itself() {
        let odd = "a\"b\\c\nd\u{7f}e";
        let line = format!("x = {}", quoted(odd));
        let table: toml::Table = line.parse().unwrap();
        assert_eq!(table["x"].as_str(), Some(odd));
    }
}
