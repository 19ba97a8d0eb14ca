//! `crio config`: prints the configuration.

use std::io::Write;

use tracing::warn;

use super::CliError;
use super::run::log;
use crate::config::Given;
use crate::config::Inputs;
use crate::config::Loaded;
use crate::config::Shown;
use crate::config::Source;
use crate::config::keys;
use crate::config::load;
use crate::config::show;
use crate::telemetry;

/// Prints the configuration that a daemon with these inputs would have, or the defaults.
///
/// Nothing is checked that depends on what is installed here, so the output of one node can be
/// made on another.
pub(super) fn run(inputs: Inputs, only_defaults: bool) -> Result<(), CliError> {
    let defaults = load(&without_files(inputs.clone()))?;
    let Loaded { config, values, warnings } =
        if only_defaults { defaults.clone() } else { load(&inputs)? };
    telemetry::init(&log(&config))?;
    for warning in &warnings {
        warn!("{warning}");
    }
    let shown = if only_defaults { Shown::All } else { Shown::Differing };
    std::io::stdout().write_all(show(&values, &defaults.values, shown).as_bytes())?;
    Ok(())
}

/// The inputs of a node with no file, flag or variable; where its store lies is the node's word.
fn without_files(inputs: Inputs) -> Inputs {
    let empty = |name: &str| {
        let key = keys().find(|key| key.flag().as_deref() == Some(name))?;
        Some(Given { key, texts: vec![String::new()], source: Source::Default })
    };
    Inputs { given: ["config", "config-dir"].into_iter().filter_map(empty).collect(), ..inputs }
}
