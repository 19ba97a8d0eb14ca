//! Prints a configuration as a file that could be read back.
//!
//! minikube reads the output of `crio config`: a value that differs from its default stands at the
//! beginning of a line, a default behind `# `.

use std::fmt::Write;

use super::handlers::table_of;
use super::key::Key;
use super::layers::Values;
use super::load::same_table;
use super::tables::Command;
use super::tables::TABLES;
use super::value::Value;
use super::value::quoted;

/// What is printed as a setting; the rest is a comment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// What differs from the default.
    Differing,
    /// Everything.
    All,
}

/// The configuration as TOML, each key with what it is for.
#[must_use]
pub fn show(values: &Values, defaults: &Values, shown: Shown) -> String {
    let mut out = String::from(HEAD);
    for keys in TABLES {
        let Some(pattern) = keys.first().map(|key| key.table) else { continue };
        if pattern == Command::TABLE {
            continue;
        }
        for table in tables(pattern, values) {
            // A table with a free name replaces the one before it, so it stands whole or not at all.
            let plain = table.replace('"', "");
            let whole = pattern.contains('*') && !same_settings(keys, &plain, [values, defaults]);
            let shown = if whole { Shown::All } else { shown };
            let aside = pattern.contains('*') && shown == Shown::Differing;
            let _ = write!(out, "\n{}[{table}]\n", if aside { "# " } else { "" });
            for key in *keys {
                setting(&mut out, key, &plain, [values, defaults], shown);
            }
        }
    }
    out
}

const HEAD: &str = "\
# The configuration of crio, in TOML. A file like this is read from /etc/crio/crio.conf, and over it
# every file below /etc/crio/crio.conf.d; environment variables and flags go before both.
# A line that begins with \"# \" and a key shows a default.
";

fn tables(pattern: &str, values: &Values) -> Vec<String> {
    if !pattern.contains('*') {
        return vec![pattern.to_owned()];
    }
    let names: Vec<&str> = if same_table(pattern, &table_of("x")) {
        values.handlers().collect()
    } else {
        values.workloads().collect()
    };
    names.into_iter().map(|name| pattern.replace('*', &bare_or_quoted(name))).collect()
}

fn bare_or_quoted(name: &str) -> String {
    let bare = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
    if !name.is_empty() && name.chars().all(bare) { name.to_owned() } else { quoted(name) }
}

fn value_in(layer: &Values, table: &str, key: &Key) -> Value {
    layer.value(table, key.name).cloned().unwrap_or_else(|| key.fallback.value())
}

fn same_settings(keys: &[Key], table: &str, [values, defaults]: [&Values; 2]) -> bool {
    defaults.has(table)
        && keys.iter().all(|key| value_in(values, table, key) == value_in(defaults, table, key))
}

fn setting(out: &mut String, key: &Key, table: &str, layers: [&Values; 2], shown: Shown) {
    let [value, default] = layers.map(|layer| value_in(layer, table, key));
    let comment = if shown == Shown::Differing && value == default { "# " } else { "" };
    let text = key.text();
    let words: Vec<&str> = text.split_whitespace().collect();
    out.push('\n');
    for line in wrapped(&words, 98) {
        let _ = writeln!(out, "# {line}");
    }
    match &value {
        Value::List(list) if !list.is_empty() => {
            let _ = writeln!(out, "{comment}{} = [", key.name);
            for text in list {
                let _ = writeln!(out, "{comment}\t{},", quoted(text));
            }
            let _ = writeln!(out, "{comment}]");
        }
        value => {
            let _ = writeln!(out, "{comment}{} = {value}", key.name);
        }
    }
}

fn wrapped(words: &[&str], width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push((*word).to_owned()),
        }
    }
    lines
}
