//! The command line of `crio`: which command, with which flags.
//!
//! The flags are not written here. They come from the rows of `config`, so a key, its flag, its
//! environment variable and its help are one thing. Values go to the standard output stream, and
//! everything else to the standard error stream, because other programs read the former.

mod flags;
mod run;
mod show_config;
mod version;

use std::process::ExitCode;

use clap::ArgMatches;
use clap::error::ErrorKind;

use crate::failure::chain;

/// Commands of CRI-O that are not built yet.
const NOT_BUILT: &[&str] =
    &["check", "complete", "completion", "man", "markdown", "publish", "status", "wipe"];

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum CliError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// There is no log.
    #[error(transparent)]
    Telemetry(#[from] crate::telemetry::TelemetryError),
    /// The daemon failed.
    #[error(transparent)]
    Daemon(#[from] crate::daemon::DaemonError),
    /// There is no such command.
    #[error("command \"{0}\" not supported")]
    NotSupported(String),
    /// There will be such a command.
    #[error("the command \"{0}\" is not built yet")]
    NotBuilt(String),
    /// The output stream is closed or full.
    #[error("cannot write the output")]
    Output(#[from] std::io::Error),
}

/// Does what the arguments of this process say, and gives its exit status.
#[must_use]
pub fn main() -> ExitCode {
    let matches = match flags::command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            let help = matches!(error.kind(), ErrorKind::DisplayHelp);
            let _ = error.print();
            return if help { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
    };
    match dispatch(&matches) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(matches: &ArgMatches) -> Result<(), CliError> {
    if matches.get_flag(flags::VERSION) {
        return Ok(version::print_first_line()?);
    }
    match matches.subcommand() {
        None => run::run(&flags::inputs(matches)),
        Some(("config", inner)) => {
            show_config::run(flags::inputs(matches), inner.get_flag(flags::DEFAULT))
        }
        Some(("version", inner)) => {
            Ok(version::print(inner.get_flag(flags::JSON), inner.get_flag(flags::VERBOSE))?)
        }
        Some((name, _)) if NOT_BUILT.contains(&name) => Err(CliError::NotBuilt(name.to_owned())),
        Some((name, _)) => Err(CliError::NotSupported(name.to_owned())),
    }
}

/// Says what is wrong: in the log if there is one.
#[allow(clippy::print_stderr, reason = "the last word of a command that failed")]
fn complain(text: &str) {
    if tracing::dispatcher::has_been_set() {
        tracing::error!("{text}");
    } else {
        eprintln!("crio: {text}");
    }
}
