//! How commands print what they found: for people, or as JSON for programs.

use std::fmt::Write as _;
use std::io;
use std::io::Write;

use clap::Arg;
use clap::ArgMatches;
use clap::builder::PossibleValuesParser;
use serde::Serialize;

const OUTPUT: &str = "output";

/// For whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// `-o json`.
pub(super) fn flag() -> Arg {
    Arg::new(OUTPUT)
        .long(OUTPUT)
        .short('o')
        .value_name("FORM")
        .value_parser(PossibleValuesParser::new(["table", "json"]))
        .default_value("table")
        .help("How to print it.")
}

/// What the flag says.
pub(super) fn form(matches: &ArgMatches) -> Form {
    match matches.get_one::<String>(OUTPUT).map(String::as_str) {
        Some("json") => Form::Json,
        _ => Form::Table,
    }
}

/// Prints a value as JSON.
pub(super) fn json(value: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    writeln!(io::stdout(), "{}", printable(&text, "\n"))
}

/// Named values, one a line, in two columns.
pub(super) fn lines(lines: &[(&str, String)]) -> String {
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 1;
    let mut text = String::new();
    for (name, value) in lines {
        let _ = writeln!(text, "{:<width$} {}", format!("{name}:"), printable(value, ""));
    }
    text
}

/// What a stranger wrote, without what moves a terminal's cursor.
pub(super) fn printable(text: &str, kept: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() && !kept.contains(letter) {
            let _ = write!(out, "\\u{:04x}", u32::from(letter));
        } else {
            out.push(letter);
        }
    }
    out
}
