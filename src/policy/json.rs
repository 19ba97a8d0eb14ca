//! Reads the parts of a policy file one by one, and says of each fault where it stands.

use std::collections::BTreeMap;

use serde::Deserialize;
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

    /// Reads the part as a `T`, which is a struct. A list of the members' values in their order is
    /// none, as it is none for the reference's parser; serde would take it.
    pub(crate) fn object<T: Deserialize<'a>>(&self) -> Result<T, Fault> {
        let found = match self.raw.trim_start().bytes().next() {
            Some(b'{') | None => return self.read(),
            Some(b'[') => "a list",
            Some(b'"') => "a string",
            Some(b'n') => "null",
            Some(b't' | b'f') => "a boolean",
            Some(_) => "a number",
        };
        Err(self.fault(format!("invalid type: {found}, expected an object")))
    }

    /// Reads the part as an object, of which each member is then asked for.
    pub(crate) fn members(&self) -> Result<Members<'a>, Fault> {
        Ok(Members { part: self.clone(), left: self.object()?, known: Vec::new() })
    }

    /// Reads the part as a list.
    pub(crate) fn items(&self) -> Result<Vec<Self>, Fault> {
        let raws: Vec<&'a RawValue> = self.read()?;
        let item = |(index, raw): (usize, &'a RawValue)| {
            Self::of(self.text, raw, format!("{}[{index}]", self.at))
        };
        Ok(raws.into_iter().enumerate().map(item).collect())
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

/// The members of an object. Each may be asked for once; what nobody asks for is a fault.
#[derive(Debug)]
pub(crate) struct Members<'a> {
    part: Part<'a>,
    left: BTreeMap<String, &'a RawValue>,
    known: Vec<&'static str>,
}

impl<'a> Members<'a> {
    /// The member of this name, if it is there. It must not be null.
    pub(crate) fn take<T: Deserialize<'a>>(
        &mut self,
        name: &'static str,
    ) -> Result<Option<T>, Fault> {
        self.part(name).map(|part| part.read()).transpose()
    }

    /// The member of this name as a part, if it is there.
    pub(crate) fn part(&mut self, name: &'static str) -> Option<Part<'a>> {
        self.known.push(name);
        let raw = self.left.remove(name)?;
        Some(self.beside(name, raw))
    }

    /// The member `type`, which the caller has read already.
    pub(crate) fn kind(&mut self) -> Result<String, Fault> {
        let kind = self.take("type")?;
        kind.ok_or_else(|| self.part.fault("missing field `type`"))
    }

    /// All that belongs to the object was asked for.
    pub(crate) fn end(self) -> Result<(), Fault> {
        let Some((name, raw)) = self.left.first_key_value() else {
            return Ok(());
        };
        let known = self.known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>();
        let fault = format!("unknown field `{name}`, expected one of {}", known.join(", "));
        Err(Fault { at: self.part.at.clone(), ..self.beside(name, raw).fault(fault) })
    }

    fn beside(&self, name: &str, raw: &'a RawValue) -> Part<'a> {
        let at = format!("{}.{name}", self.part.at);
        Part { text: self.part.text, raw: raw.get(), at }
    }
}
