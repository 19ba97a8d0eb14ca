//! The layers of a configuration, each over the one before: defaults, storage.conf, the file, the
//! drop-in files, the environment and the flags.
//!
//! Tables merge key by key. A runtime or workload table of a later file takes the place of the
//! earlier one of that name as a whole, as in the reference, so no key of a handler can be a
//! leftover of somebody else's. Lists of storage options are joined; every other list is replaced.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use super::error::ConfigError;
use super::error::Source;
use super::file::Contents;
use super::setting::Setting;
use super::tables::Command;
use super::tables::Handler;
use super::tables::Root;
use super::tables::Workload;
use super::value::Fallback;
use super::value::Value;

/// What has been set, and by whom.
#[derive(Debug, Clone, Default)]
pub struct Values {
    set: BTreeMap<(String, String), (Value, Source)>,
    named: BTreeSet<String>,
}

impl Values {
    /// Sets one key; who set it before is forgotten.
    pub(super) fn put(&mut self, table: &str, name: &str, value: Value, source: Source) {
        self.set.insert((table.to_owned(), name.to_owned()), (value, source));
    }

    /// Opens a table with a free name, and empties it if it was there.
    pub(super) fn open(&mut self, table: &str) {
        let inner = format!("{table}.");
        self.set.retain(|(at, _), _| at != table && !at.starts_with(&inner));
        self.named.insert(table.to_owned());
    }

    /// Lays a file over what is there.
    pub(super) fn apply(&mut self, contents: Contents) {
        for table in &contents.named {
            self.open(table);
        }
        for setting in contents.settings {
            let mut value = setting.value;
            if let (Root::TABLE, "storage_option", Value::List(more)) =
                (setting.table.as_str(), setting.name, &value)
            {
                value = Value::List(self.joined_options(more));
            }
            let empty = matches!(&value, Value::Text(text) if text.is_empty());
            if empty && inherits(&setting.table, setting.name) {
                continue;
            }
            self.put(&setting.table, setting.name, value, setting.source);
        }
    }

    /// The storage options so far and `more`; of two that are the same, the last stays.
    pub(super) fn joined_options(&self, more: &[String]) -> Vec<String> {
        let mut all = match self.value(Root::TABLE, "storage_option") {
            Some(Value::List(list)) => list.clone(),
            _ => Vec::new(),
        };
        all.retain(|option| !more.contains(option));
        all.extend_from_slice(more);
        all
    }

    /// What a key is set to, if it is set.
    #[must_use]
    pub fn value(&self, table: &str, name: &str) -> Option<&Value> {
        self.set.get(&(table.to_owned(), name.to_owned())).map(|(value, _)| value)
    }

    /// Who set a key.
    #[must_use]
    pub fn source(&self, table: &str, name: &str) -> Source {
        let found = self.set.get(&(table.to_owned(), name.to_owned()));
        found.map_or(Source::Default, |(_, source)| source.clone())
    }

    /// All that is set, as table, key, value and who set it.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, &Value, &Source)> {
        self.set
            .iter()
            .map(|((table, name), (value, source))| (table.as_str(), name.as_str(), value, source))
    }

    /// Whether this table with a free name is there.
    pub(super) fn has(&self, table: &str) -> bool {
        self.named.contains(table)
    }

    /// The tables with a free name.
    pub(super) fn named(&self) -> impl Iterator<Item = &str> {
        self.named.iter().map(String::as_str)
    }

    /// Has a key as `other` has it, also not set at all.
    pub(super) fn take(&mut self, table: &str, name: &str, other: &Self) {
        let at = (table.to_owned(), name.to_owned());
        match other.set.get(&at) {
            Some(found) => self.set.insert(at, found.clone()),
            None => self.set.remove(&at),
        };
    }

    /// Has all tables with a free name as `other` has them, and no others.
    pub(super) fn take_named(&mut self, other: &Self) {
        let old: Vec<String> = self.named.iter().cloned().collect();
        for table in &old {
            self.open(table);
        }
        self.named.clone_from(&other.named);
        let inner = |at: &str| {
            other.named.iter().any(|table| {
                at.strip_prefix(table.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            })
        };
        let theirs = other.set.iter().filter(|((at, _), _)| inner(at));
        self.set.extend(theirs.map(|(at, found)| (at.clone(), found.clone())));
    }

    /// The names of the runtime handlers.
    pub fn handlers(&self) -> impl Iterator<Item = &str> {
        self.names(Handler::TABLE)
    }

    /// The names of the workloads.
    pub fn workloads(&self) -> impl Iterator<Item = &str> {
        self.names(Workload::TABLE)
    }

    fn names(&self, table: &'static str) -> impl Iterator<Item = &str> {
        let prefix = table.strip_suffix('*').unwrap_or(table);
        self.named.iter().filter_map(move |name| name.strip_prefix(prefix))
    }

    /// The typed value of a key.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Value`] when it is not what is wanted.
    pub(super) fn read<T: Setting>(
        &self,
        table: &str,
        name: &str,
        fallback: Fallback,
    ) -> Result<T, ConfigError> {
        let value = self.value(table, name).cloned().unwrap_or_else(|| fallback.value());
        T::from_value(&value).ok_or_else(|| self.fault(table, name, &value, T::WANTED))
    }

    /// The error that a value is not what is wanted.
    pub(super) fn fault(
        &self,
        table: &str,
        name: &str,
        value: &Value,
        wanted: &str,
    ) -> ConfigError {
        ConfigError::Value {
            place: self.source(table, name),
            key: full_name(table, name),
            wanted: wanted.to_owned(),
            found: value.to_string(),
        }
    }
}

/// A key as an administrator knows it.
pub(super) fn full_name(table: &str, name: &str) -> String {
    if table == Command::TABLE { name.to_owned() } else { format!("{table}.{name}") }
}

/// Whether an empty text leaves to storage.conf what a key is.
fn inherits(table: &str, name: &str) -> bool {
    table == Root::TABLE && matches!(name, "root" | "runroot" | "storage_driver")
}
