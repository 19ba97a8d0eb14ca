//! Reads the files in their order and lays them over one another.

use std::io::ErrorKind;
use std::path::Path;
use std::path::PathBuf;

use super::check::Config;
use super::error::ConfigError;
use super::error::Source;
use super::error::Warning;
use super::file;
use super::handlers;
use super::key::Effect;
use super::key::Key;
use super::layers::Values;
use super::layers::full_name;
use super::storage_conf;
use super::tables::Command;
use super::tables::Root;
use super::tables::keys;
use super::value::Fallback;
use super::value::Value;
use crate::sys::files;
use crate::sys::files::Links;

/// A configuration file larger than this is a mistake.
const LIMIT: u64 = 4 << 20;

/// A flag or environment variable that was given.
#[derive(Debug, Clone)]
pub struct Given {
    /// Which key it sets.
    pub key: &'static Key,
    /// Its texts, in order.
    pub texts: Vec<String>,
    /// Who gave it.
    pub source: Source,
}

/// What a configuration is made from.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// Flags and environment variables.
    pub given: Vec<Given>,
    /// The places of storage.conf; the first that is there is read.
    pub storage_conf: Vec<PathBuf>,
    /// Where programs are looked for that are named without a path.
    pub search_path: Vec<PathBuf>,
}

/// A configuration, and what there is to say about it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Who set what.
    pub values: Values,
    /// What an administrator should know.
    pub warnings: Vec<Warning>,
}

/// Reads and checks a configuration.
///
/// # Errors
///
/// [`ConfigError`]: a file that cannot be read or parsed, a value that is not what is wanted, values
/// that do not go together.
pub fn load(inputs: &Inputs) -> Result<Loaded, ConfigError> {
    let mut values = handlers::defaults(&inputs.search_path);
    let mut warnings = Vec::new();
    if let Some((path, text)) = first_present(&inputs.storage_conf)? {
        storage_conf::apply(&mut values, path, &text)?;
    }
    let mut flags = Values::default();
    for given in &inputs.given {
        put(&mut flags, given)?;
    }
    let command = Command::read(&flags, Command::TABLE)?;
    let named = flags.source(Command::TABLE, "config") != Source::Default;
    for path in paths(&command, named)? {
        let contents = file::read(&path, &read_text(&path)?)?;
        warnings.extend_from_slice(&contents.warnings);
        values.apply(contents);
    }
    for given in &inputs.given {
        put(&mut values, given)?;
    }
    handlers::apply_flag(&mut values)?;
    let config = Config::check(&values, command, &inputs.search_path, &mut warnings)?;
    warnings.extend(without_effect(&values));
    Ok(Loaded { config, values, warnings })
}

fn put(values: &mut Values, given: &Given) -> Result<(), ConfigError> {
    let key = given.key;
    let Some(value) = key.shape.parse(&given.texts) else {
        let written = Value::Text(given.texts.join(","));
        let mut only = Values::default();
        only.put(key.table, key.name, written.clone(), given.source.clone());
        return Err(only.fault(key.table, key.name, &written, key.wanted));
    };
    // A port can be a text; where CRI-O's key is a number, so is ours as it is printed.
    let value = match (value, key.fallback.value()) {
        (Value::Text(text), Value::Integer(_)) => {
            text.parse().map_or(Value::Text(text), Value::Integer)
        }
        (value, _) => value,
    };
    values.put(key.table, key.name, value, given.source.clone());
    Ok(())
}

/// The configuration file, then all files of the drop-in directory in the order of a walk.
fn paths(command: &Command, named: bool) -> Result<Vec<PathBuf>, ConfigError> {
    let mut paths = Vec::new();
    if let Some(path) = &command.config
        && (named || path.exists())
    {
        paths.push(path.clone());
    }
    if let Some(directory) = &command.config_dir
        && directory.exists()
    {
        walk(directory, &mut paths)?;
    }
    Ok(paths)
}

/// Adds every file below `directory`, each directory's entries by name.
fn walk(directory: &Path, found: &mut Vec<PathBuf>) -> Result<(), ConfigError> {
    let fault = |source| ConfigError::Read { path: directory.to_owned(), source };
    let entries = std::fs::read_dir(directory).map_err(fault)?;
    let mut entries = entries.collect::<Result<Vec<_>, _>>().map_err(fault)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        // A link to a directory is not walked into, so a walk always ends.
        if entry.file_type().map_err(fault)?.is_dir() {
            walk(&entry.path(), found)?;
        } else {
            found.push(entry.path());
        }
    }
    Ok(())
}

fn first_present(paths: &[PathBuf]) -> Result<Option<(&Path, String)>, ConfigError> {
    for path in paths {
        match read_text(path) {
            Ok(text) => return Ok(Some((path, text))),
            Err(ConfigError::Read { source, .. }) if source.kind() == ErrorKind::NotFound => {}
            Err(other) => return Err(other),
        }
    }
    Ok(None)
}

fn read_text(path: &Path) -> Result<String, ConfigError> {
    let fault = |source| ConfigError::Read { path: path.to_owned(), source };
    let bytes = files::read(path, LIMIT, Links::Follow).map_err(fault)?;
    String::from_utf8(bytes)
        .map_err(|error| fault(std::io::Error::new(ErrorKind::InvalidData, error)))
}

/// The warnings for what is set and has no effect.
fn without_effect(values: &Values) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for (table, name, value, source) in values.iter() {
        let Some(key) = keys().find(|key| key.name == name && same_table(key.table, table)) else {
            continue;
        };
        if *source == Source::Default || is_same(value, key.fallback) {
            continue;
        }
        let path = full_name(table, name);
        match key.row.effect {
            Effect::Now => {}
            Effect::Later => warnings.push(Warning::NotBuilt { place: source.clone(), key: path }),
            Effect::Never(why) => {
                warnings.push(Warning::NoEffect { place: source.clone(), key: path, why });
            }
        }
    }
    warnings.extend(storage_options(values));
    warnings
}

fn storage_options(values: &Values) -> Vec<Warning> {
    let Some(Value::List(options)) = values.value(Root::TABLE, "storage_option") else {
        return Vec::new();
    };
    let place = values.source(Root::TABLE, "storage_option");
    let unknown = options.iter().filter(|option| Root::mount_option(option).is_none());
    unknown
        .map(|option| Warning::StorageOption { place: place.clone(), option: option.clone() })
        .collect()
}

fn is_same(value: &Value, fallback: Fallback) -> bool {
    let fallback = fallback.value();
    match (value, &fallback) {
        // The order of words in a list of words says nothing.
        (Value::List(left), Value::List(right)) => {
            let (mut left, mut right) = (left.clone(), right.clone());
            left.sort();
            right.sort();
            left == right
        }
        (Value::Integer(number), Value::Text(text))
        | (Value::Text(text), Value::Integer(number)) => *text == number.to_string(),
        _ => *value == fallback,
    }
}

/// Whether `table` is the table `pattern`, in which `*` stands for any name.
pub(super) fn same_table(pattern: &str, table: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == table,
        Some((before, after)) => table
            .strip_prefix(before)
            .and_then(|rest| rest.strip_suffix(after))
            .is_some_and(|name| !name.is_empty() && (after.is_empty() || !name.ends_with(after))),
    }
}
