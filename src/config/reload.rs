//! A configuration that is read again while the daemon runs: what of it holds from now on, and what
//! waits for the next start.
//!
//! The whole of it is read and checked first, as at a start, so that a fault changes nothing. Then the
//! values of the keys that reload are laid over those in use, and what results is checked once more:
//! a key that does not reload keeps its value, and the two must go together.

use std::collections::BTreeSet;

use super::check::Config;
use super::error::ConfigError;
use super::error::Source;
use super::error::Warning;
use super::key::Effect;
use super::key::Key;
use super::layers::Values;
use super::layers::full_name;
use super::load::Inputs;
use super::load::Loaded;
use super::load::load;
use super::load::same_table;
use super::tables::Command;
use super::tables::keys;
use super::value::Value;

/// A configuration that was read again.
#[derive(Debug, Clone)]
pub struct Reloaded {
    /// What holds from now on.
    pub config: Config,
    /// Who set what of it.
    pub values: Values,
    /// What an administrator should know.
    pub warnings: Vec<Warning>,
    /// What is not as it was.
    pub changes: Vec<Change>,
}

/// A setting that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key, or a table with a free name that came or went.
    pub key: String,
    /// What it is now, where that is one word. Lists can hold what a log must not.
    pub value: Option<String>,
    /// Who set it.
    pub source: Source,
    /// Whether it holds from now on; else it waits for the next start.
    pub applied: bool,
}

/// Reads and checks the configuration again. Nothing is changed.
///
/// # Errors
///
/// As [`load`], and [`ConfigError::DefaultRuntime`].
pub fn reload(inputs: &Inputs, in_use: &Values) -> Result<Reloaded, ConfigError> {
    let Loaded { config: mut whole, values: wanted, mut warnings } = load(inputs)?;
    whole.leave_out_unusable()?;
    let values = merged(in_use, &wanted);
    let command = Command::read(&values, Command::TABLE)?;
    // What there is to say of the wanted values is said already.
    let mut config = Config::check(&values, command, &inputs.search_path, &mut Vec::new())?;
    warnings.extend(config.leave_out_unusable()?);
    Ok(Reloaded { changes: changes(in_use, &wanted), config, values, warnings })
}

/// What is in use, with the wanted values of the keys that reload.
fn merged(in_use: &Values, wanted: &Values) -> Values {
    let mut values = in_use.clone();
    values.take_named(wanted);
    for key in keys().filter(|key| key.row.reloads && !key.table.contains('*')) {
        values.take(key.table, key.name, wanted);
    }
    values
}

fn changes(in_use: &Values, wanted: &Values) -> Vec<Change> {
    let mut changes: Vec<Change> = keys()
        .filter(|key| key.row.effect == Effect::Now && !key.table.contains('*'))
        .filter_map(|key| change(key, key.table, [in_use, wanted]))
        .collect();
    let tables: BTreeSet<&str> = in_use.named().chain(wanted.named()).collect();
    for table in tables {
        let of_table = || {
            let of_table = keys().filter(|key| same_table(key.table, table));
            of_table.filter(|key| key.row.effect == Effect::Now)
        };
        if of_table().next().is_none() {
            continue;
        }
        let word = match (in_use.has(table), wanted.has(table)) {
            (true, true) => {
                changes.extend(of_table().filter_map(|key| change(key, table, [in_use, wanted])));
                continue;
            }
            (false, _) => "added",
            (true, false) => "removed",
        };
        let source = wanted.iter().find(|(at, ..)| *at == table);
        changes.push(Change {
            key: table.to_owned(),
            value: Some(word.to_owned()),
            source: source.map_or(Source::Default, |(.., source)| source.clone()),
            applied: true,
        });
    }
    changes
}

fn change(key: &Key, table: &str, [before, after]: [&Values; 2]) -> Option<Change> {
    let value = |layer: &Values| {
        layer.value(table, key.name).cloned().unwrap_or_else(|| key.fallback.value())
    };
    let now = value(after);
    if value(before) == now {
        return None;
    }
    let shown = match &now {
        Value::Text(_) | Value::Bool(_) | Value::Integer(_) => Some(now.to_string()),
        Value::List(_) | Value::Map(_) => None,
    };
    Some(Change {
        key: full_name(table, key.name),
        value: shown,
        source: after.source(table, key.name),
        applied: key.row.reloads,
    })
}
