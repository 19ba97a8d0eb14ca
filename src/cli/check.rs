//! `crio check`: is the store as it should be, and if not, shall it be repaired?

use std::fmt::Write as _;
use std::io;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Arg;
use clap::ArgMatches;
use clap::Command;

use super::CliError;
use super::flags;
use super::output;
use super::output::Form;
use super::output::printable;
use super::run::log;
use crate::config::Inputs;
use crate::config::load;
use crate::daemon::Ask;
use crate::daemon::Checked;
use crate::telemetry;

const AGE: &str = "age";
const FORCE: &str = "force";
const REPAIR: &str = "repair";
const QUICK: &str = "quick";
const WIPE: &str = "wipe";

pub(super) fn command() -> Command {
    let age = Arg::new(AGE)
        .long(AGE)
        .short('a')
        .value_name("DURATION")
        .default_value("24h")
        .value_parser(duration)
        .help("How old a layer that nothing uses may be before it counts as damage.");
    Command::new("check")
        .about("Look for damage in the store of images and containers, and repair it if asked to.")
        .long_about(
            "Look for damage in the store of images and containers, and repair it if asked to.\n\n\
             Without --repair nothing is changed, and the daemon may run meanwhile. Every layer is \
             read and compared with the archive that it came from, which takes as long as reading \
             all images; owners, modes and times of files are not compared. With --repair the daemon \
             must be stopped; containers go on.\n\n\
             Nothing that is in use is removed: no container whose rootfs is mounted, no image that \
             a container needs, no layer that something lies on. What is removed is pulled again \
             when it is needed.\n\n\
             The exit status is 0 if there is no damage or all of it was repaired, 1 if there is \
             damage, 2 if it could not be found out.",
        )
        .arg(age)
        .arg(flags::switch(FORCE, 'f', "With --repair: remove damaged containers too; with --wipe: \
                                        whatever runs."))
        .arg(flags::switch(QUICK, 'q', "Do not look for files that belong to no image."))
        .arg(flags::switch(REPAIR, 'r', "Remove damaged images and layers."))
        .arg(flags::switch(WIPE, 'w', "With --repair: remove the whole store if damage is left, \
                                       podman's images too."))
        .arg(output::flag())
}

/// `24h`, `90m`, `0`; as Go writes durations.
fn duration(text: &str) -> Result<Duration, String> {
    crate::config::duration(text)
        .ok_or_else(|| "a duration is written as 24h, 90m or 1h30m".to_owned())
}

/// Looks, repairs if asked to, and prints what was found.
pub(super) fn run(inputs: &Inputs, matches: &ArgMatches) -> Result<ExitCode, CliError> {
    let loaded = load(inputs)?;
    telemetry::init(&log(&loaded.config))?;
    let ask = Ask {
        quick: matches.get_flag(QUICK),
        age: matches.get_one(AGE).copied().unwrap_or_default(),
        repair: matches.get_flag(REPAIR),
        force: matches.get_flag(FORCE),
        wipe: matches.get_flag(WIPE),
    };
    let checked = crate::daemon::check(&loaded.config, ask)?;
    match output::form(matches) {
        Form::Json => output::json(&checked)?,
        Form::Table => io::stdout().write_all(text(&checked).as_bytes())?,
    }
    Ok(if checked.is_damaged() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn text(checked: &Checked) -> String {
    let Checked { root, layers, images, containers, faults, repair, wiped } = checked;
    let mut out = format!(
        "{}: {layers} layers, {images} images, {containers} containers\n",
        printable(&root.display().to_string(), "")
    );
    for found in faults {
        let line = format!("{} {}: {}", found.part, found.id, found.fault);
        let _ = writeln!(out, "{}", printable(&line, ""));
    }
    for item in repair.iter().flat_map(|repair| &repair.removed) {
        let _ = writeln!(out, "removed {} {}", item.part, printable(&item.id, ""));
    }
    for left in repair.iter().flat_map(|repair| &repair.left) {
        let line = format!("left {} {}: {}", left.item.part, left.item.id, left.why);
        let _ = writeln!(out, "{}", printable(&line, ""));
    }
    out.push_str(match (faults.is_empty(), repair, *wiped) {
        (true, ..) => "no damage\n",
        (.., true) => "the whole store was removed\n",
        (false, None, _) => "damaged; --repair removes what is, if nothing uses it\n",
        (false, Some(repair), _) if repair.left.is_empty() => "repaired\n",
        (false, Some(_), _) => "damage is left\n",
    });
    out
}
