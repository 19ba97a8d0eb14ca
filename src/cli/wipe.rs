//! `crio wipe`: removes every pod of this node, if forced.

use clap::ArgMatches;
use clap::Command;
use tracing::info;

use super::CliError;
use super::flags;
use super::run::log;
use crate::config::Inputs;
use crate::config::load;
use crate::daemon::Wiped;
use crate::telemetry;

const FORCE: &str = "force";

pub(super) fn command() -> Command {
    Command::new("wipe")
        .about("Remove what an earlier boot left; with --force, every pod and the images they ran.")
        .arg(flags::switch(FORCE, 'f', "Remove every pod and the images that they ran."))
}

/// Removes all pods and their images if forced; else says what a start does by itself.
pub(super) fn run(inputs: &Inputs, matches: &ArgMatches) -> Result<(), CliError> {
    let mut loaded = load(inputs)?;
    telemetry::init(&log(&loaded.config))?;
    if !matches.get_flag(FORCE) {
        info!("nothing to do: a start finds what an earlier boot left; --force removes all pods");
        return Ok(());
    }
    loaded.config.leave_out_unusable()?;
    let Wiped { pods, images, failures } = crate::daemon::wipe(&loaded.config, &loaded.values)?;
    info!(pods, images, failures, "wiped");
    if failures > 0 { Err(CliError::Left(failures)) } else { Ok(()) }
}
