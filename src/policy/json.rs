//! Reads the parts of a policy file one by one, and says of each fault where it stands.

use serde::Deserialize;
use serde::Deserializer;
use serde_json::value::RawValue;

/// The text of a policy file, of which the raw values are parts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Text<'a>(pub(crate) &'a str);

/// A value in the text, and the way to it.
#[derive(Debug, Clone)]
pub(crate) struct Part<'a> {
    text: Text<'a>,
    raw: &'a str,
    at: String,
}

/// What is wrong at one place of the text.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) at: String,
    pub(crate) fault: String,
}

impl<'a> Part<'a> {
    /// The whole document.
    pub(crate) fn whole(text: Text<'a>) -> Self {
        Self { text, raw: text.0, at: "document".to_owned() }
    }

    /// A value of the same text.
    pub(crate) fn of(text: Text<'a>, raw: &'a RawValue, at: String) -> Self {
        Self { text, raw: raw.get(), at }
    }

    /// A value in this part.
    pub(crate) fn member(&self, raw: &'a RawValue, name: &str) -> Self {
        Self { text: self.text, raw: raw.get(), at: format!("{}.{name}", self.at) }
    }

    /// The way to the part.
    pub(crate) fn at(&self) -> &str {
        &self.at
    }

    /// Reads the part as a `T`.
    pub(crate) fn read<T: Deserialize<'a>>(&self) -> Result<T, Fault> {
        serde_json::from_str(self.raw).map_err(|error| {
            let (line, column) = self.start();
            let (line, column) = match error.line() {
                0 | 1 => (line, column - 1 + error.column().max(1)),
                further => (line + further - 1, error.column()),
            };
            let text = error.to_string();
            let place = format!(" at line {} column {}", error.line(), error.column());
            let fault = text.strip_suffix(&place).unwrap_or(&text).to_owned();
            Fault { line, column, at: self.at.clone(), fault }
        })
    }

    /// A fault of the part as a whole.
    pub(crate) fn fault(&self, fault: impl Into<String>) -> Fault {
        let (line, column) = self.start();
        Fault { line, column, at: self.at.clone(), fault: fault.into() }
    }

    /// Line and column where the part begins, from 1.
    fn start(&self) -> (usize, usize) {
        let offset = self.raw.as_ptr().addr().saturating_sub(self.text.0.as_ptr().addr());
        let before = self.text.0.get(..offset).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, offset - line_start + 1)
    }
}

/// For a key that may be missing, but not null.
pub(crate) fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}
