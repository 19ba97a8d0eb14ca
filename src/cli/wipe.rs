//! `crio wipe`: removes every pod of this node, if it is forced or the pods are void.

use clap::ArgMatches;
use clap::Command;
use tracing::info;

use super::CliError;
use super::flags;
use super::run::log;
use crate::config::Inputs;
use crate::config::load;
use crate::daemon::Due;
use crate::daemon::Wiped;
use crate::telemetry;

const FORCE: &str = "force";

pub(super) fn command() -> Command {
    Command::new("wipe")
        .about("Remove the pods of an earlier boot or version, where internal_wipe is false.")
        .arg(flags::switch(FORCE, 'f', "Remove every pod and the images that they ran."))
}

/// Removes all pods and their images if forced; else what a reboot or an upgrade made void, unless a
/// start does that by itself.
pub(super) fn run(inputs: &Inputs, matches: &ArgMatches) -> Result<(), CliError> {
    let mut loaded = load(inputs)?;
    telemetry::init(&log(&loaded.config))?;
    let mut due = Due { pods: true, images: true };
    if !matches.get_flag(FORCE) {
        if loaded.config.root.internal_wipe {
            info!("nothing to do: internal_wipe is true, so a start removes what is void");
            return Ok(());
        }
        due = crate::daemon::due(&loaded.config);
        if !due.pods {
            info!("nothing to do: the version is the same, and the node was not rebooted");
            return Ok(());
        }
    }
    loaded.config.leave_out_unusable()?;
    let wiped = crate::daemon::wipe(&loaded.config, &loaded.values, due.images)?;
    let Wiped { pods, images, failures } = wiped;
    info!(pods, images, failures, "wiped");
    if failures > 0 { Err(CliError::Left(failures)) } else { Ok(()) }
}
