//! One file's text → what it sets, with the line of each key.
//!
//! A key that is not known is a warning, because drop-in files are written for many versions. A
//! value of the wrong type is an error, because what an administrator asked for cannot be done.

use std::path::Path;

use toml_edit::Document;
use toml_edit::Item;
use toml_edit::TableLike;

use super::error::ConfigError;
use super::error::Source;
use super::error::Warning;
use super::key::Key;
use super::nearest::nearest;
use super::tables::RETIRED;
use super::tables::TABLES;
use super::tables::keys;
use super::value::Shape;
use super::value::Value;

/// One setting of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Setting {
    /// Its table, with names in place of `*`.
    pub table: String,
    /// Its key.
    pub name: &'static str,
    /// What it is set to.
    pub value: Value,
    /// Where.
    pub source: Source,
}

/// What one file says.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// The tables with a free name that it opens, also empty ones.
    pub named: Vec<String>,
    /// What it sets, in the file's order.
    pub settings: Vec<Setting>,
    /// What it says that is not understood.
    pub warnings: Vec<Warning>,
}

/// Reads the text of the file at `path`.
///
/// # Errors
///
/// [`ConfigError::Syntax`] for what is not TOML, [`ConfigError::Value`] for a value whose type
/// cannot be that of its key.
pub(super) fn read(path: &Path, text: &str) -> Result<Contents, ConfigError> {
    let document = parse(path, text)?;
    let mut reader = Reader { path, text, contents: Contents::default() };
    reader.table(&mut Vec::new(), document.as_table())?;
    Ok(reader.contents)
}

/// Parses TOML, with the line of a fault.
///
/// # Errors
///
/// [`ConfigError::Syntax`].
pub(super) fn parse<'t>(path: &Path, text: &'t str) -> Result<Document<&'t str>, ConfigError> {
    Document::parse(text).map_err(|error| ConfigError::Syntax {
        path: path.to_owned(),
        line: line_of(text, error.span().map_or(0, |span| span.start)),
        reason: error.message().to_owned(),
    })
}

/// The line, counted from 1, of the byte at `offset`.
pub(super) fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|&byte| byte == b'\n').count() + 1
}

struct Reader<'t> {
    path: &'t Path,
    text: &'t str,
    contents: Contents,
}

impl Reader<'_> {
    fn table(&mut self, at: &mut Vec<String>, table: &dyn TableLike) -> Result<(), ConfigError> {
        if is_named(at) {
            self.contents.named.push(at.join("."));
        }
        for (name, item) in table.iter() {
            let start = table.key(name).and_then(toml_edit::Key::span).map_or(0, |span| span.start);
            let source =
                Source::File { path: self.path.to_owned(), line: line_of(self.text, start) };
            if let Some(key) = key_at(at, name) {
                self.setting(at, key, item, source)?;
                continue;
            }
            at.push(name.to_owned());
            match item.as_table_like() {
                Some(inner) if leads_to_a_table(at) => self.table(at, inner)?,
                _ => self.unknown(at, source),
            }
            at.pop();
        }
        Ok(())
    }

    fn setting(
        &mut self,
        at: &[String],
        key: &'static Key,
        item: &Item,
        source: Source,
    ) -> Result<(), ConfigError> {
        let table = at.join(".");
        let Some(value) = value_of(key.shape, item) else {
            return Err(ConfigError::Value {
                place: source,
                key: format!("{table}.{}", key.name),
                wanted: key.wanted.to_owned(),
                found: item.to_string().trim().to_owned(),
            });
        };
        self.contents.settings.push(Setting { table, name: key.name, value, source });
        Ok(())
    }

    fn unknown(&mut self, at: &[String], place: Source) {
        let key = at.join(".");
        if let Some((_, why)) = RETIRED.iter().find(|(path, _)| *path == key) {
            self.contents.warnings.push(Warning::NoEffect { place, key, why });
            return;
        }
        let known = keys().map(Key::path).filter(|path| path.starts_with("crio."));
        let nearest = nearest(&key, known);
        self.contents.warnings.push(Warning::UnknownKey { place, key, nearest });
    }
}

fn value_of(shape: Shape, item: &Item) -> Option<Value> {
    if let Some(text) = item.as_str() {
        return Some(Value::Text(text.to_owned()));
    }
    if let Some(flag) = item.as_bool() {
        return Some(Value::Bool(flag));
    }
    if let Some(number) = item.as_integer() {
        return Some(Value::Integer(number));
    }
    if let Some(array) = item.as_array() {
        let texts = array.iter().map(|item| item.as_str().map(str::to_owned));
        return texts.collect::<Option<_>>().map(Value::List);
    }
    let table = item.as_table_like().filter(|_| shape == Shape::Map)?;
    let pairs = table.iter().map(|(name, item)| Some((name.to_owned(), item.as_str()?.to_owned())));
    pairs.collect::<Option<_>>().map(Value::Map)
}

/// The key `name` of the table `at`.
fn key_at(at: &[String], name: &str) -> Option<&'static Key> {
    at.first().filter(|first| *first == "crio")?;
    keys().find(|key| key.name == name && matches(key.table, at, at.len()))
}

/// Whether `at` is a table of keys, or on the way to one.
fn leads_to_a_table(at: &[String]) -> bool {
    tables().any(|table| matches(table, at, table.split('.').count()))
}

/// Whether `at` is a table whose name is free.
fn is_named(at: &[String]) -> bool {
    tables().any(|table| table.ends_with('*') && matches(table, at, at.len()))
}

fn tables() -> impl Iterator<Item = &'static str> {
    TABLES.iter().filter_map(|table| table.first()).map(|key| key.table)
}

/// Whether `at` is the beginning of `table`, which has `length` parts.
fn matches(table: &str, at: &[String], length: usize) -> bool {
    table.split('.').count() == length
        && at.len() <= length
        && table.split('.').zip(at).all(|(part, name)| part == "*" || part == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(text: &str) -> Contents {
        read(Path::new("/c"), text).unwrap()
    }

    #[test]
    fn keys_come_with_their_line() {
        let text = "# a comment\n[crio.runtime]\ndefault_sysctls = [\n  \"a=b\",\n]\nlog_level = \"debug\"\n";
        let found = contents(text);
        assert_eq!(found.warnings, []);
        assert_eq!(
            found.settings.last(),
            Some(&Setting {
                table: "crio.runtime".into(),
                name: "log_level",
                value: Value::Text("debug".into()),
                source: Source::File { path: "/c".into(), line: 6 },
            })
        );
    }

    #[test]
    fn named_tables_are_found_in_any_notation() {
        for text in [
            "[crio.runtime.runtimes.kata]\nruntime_path = \"/k\"",
            "[crio.runtime.runtimes]\nkata = { runtime_path = \"/k\" }",
            "crio.runtime.runtimes.kata.runtime_path = \"/k\"",
        ] {
            let found = contents(text);
            assert_eq!(found.named, ["crio.runtime.runtimes.kata"], "{text}");
            assert_eq!(found.settings.len(), 1, "{text}");
            assert_eq!(found.warnings, [], "{text}");
        }
        assert_eq!(contents("[crio.runtime.runtimes.kata]").named.len(), 1);
    }

    #[test]
    fn an_unknown_key_is_warned_of_with_the_nearest() {
        let found = contents("[crio.image]\npause_imag = \"x\"\n[crio.nothing]\nx = 1\n");
        let said: Vec<_> = found.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "/c:2: the key crio.image.pause_imag is not known and is ignored; is it crio.image.pause_image?",
                "/c:3: the key crio.nothing is not known and is ignored",
            ]
        );
    }

    #[test]
    fn a_key_in_the_wrong_table_is_told_where_it_belongs() {
        let found = contents("[crio]\nlog_level = \"debug\"\n");
        assert!(found.warnings[0].to_string().ends_with("is it crio.runtime.log_level?"));
    }

    #[test]
    fn a_key_of_an_older_version_is_told_what_became_of_it() {
        let found = contents("[crio.runtime]\nmanage_ns_lifecycle = true\n");
        let said: Vec<_> = found.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            ["/c:2: crio.runtime.manage_ns_lifecycle has no effect: namespaces are always pinned"]
        );
    }

    #[test]
    fn faults_are_placed() {
        let fault = read(Path::new("/c"), "[crio]\nroot = \n").unwrap_err().to_string();
        assert!(fault.starts_with("/c:2: "), "{fault}");
        let fault = read(Path::new("/c"), "[crio.runtime]\n\ndefault_env = [1]").unwrap_err();
        assert_eq!(
            fault.to_string(),
            "/c:3: crio.runtime.default_env must be an array of \"name=value\" without blanks around the \"=\", not [1]"
        );
    }

    #[test]
    fn the_command_lines_own_settings_stand_in_no_file() {
        assert_eq!(contents("[\"command line\"]\nlog = \"/x\"").settings, []);
    }
}
