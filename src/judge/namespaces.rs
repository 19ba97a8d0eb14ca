//! The policies of namespaces, all at once: a mistake in one is told before its pods fail, and a file that
//! is no namespace's before somebody relies on it.

use std::error::Error;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::Path;

use crate::failure::chain;
use crate::judge::leads_nowhere;
use crate::judge::load;
use crate::policy::namespace;

/// How many files are looked at: a cluster may have many namespaces, and a start must not wait for all.
const MOST: usize = 1000;

/// What is wrong with the policies in this directory. Blocks.
#[must_use]
pub fn look(directory: &Path) -> Vec<String> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound && !leads_nowhere(directory) => {
            return Vec::new();
        }
        Err(error) => {
            let shown = directory.display();
            return vec![format!("the policies of namespaces in {shown} cannot be read: {error}")];
        }
    };
    let mut names: Vec<OsString> = entries.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    let found = names.iter().filter(|name| is_json(name)).take(MOST);
    found.flat_map(|name| look_at(&directory.join(name))).collect()
}

/// Whether a file is meant to be a policy. Of the others, as a copy that an editor left, nobody expects
/// that they hold.
fn is_json(name: &OsStr) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"))
}

fn look_at(path: &Path) -> Vec<String> {
    let shown = path.display();
    let stem = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json"));
    if !stem.is_some_and(namespace::is_label) {
        return vec![format!(
            "the policy {shown} is never asked: it must be named after a namespace, as shop.json"
        )];
    }
    match load(path, true) {
        // Not in the words of a refusal: for the rest of the node nothing is wrong.
        Err(error) => {
            let why = error.source().map_or_else(|| chain(&error), chain);
            vec![format!("the policy {shown} cannot be used: {why}")]
        }
        Ok(loaded) => {
            let faults = loaded.map(|loaded| loaded.policy.faults()).unwrap_or_default();
            faults.iter().map(|fault| format!("the policy {shown}: {fault}")).collect()
        }
    }
}
