//! The command line of `crio`: which command, with which flags.
//!
//! The flags are not written here. They come from the rows of `config`, so a key, its flag, its
//! environment variable and its help are one thing. Values go to the standard output stream, and
//! everything else to the standard error stream, because other programs read the former.

mod bundle;
mod check;
mod documents;
mod evidence;
mod flags;
mod output;
mod policy;
mod run;
mod show_config;
mod status;
mod verify;
mod version;
mod wipe;

use std::process::ExitCode;

use clap::ArgMatches;
use clap::error::ErrorKind;

use crate::config::Inputs;
use crate::config::Loaded;
use crate::config::Warning;
use crate::config::load;
use crate::failure::chain;

/// Commands of CRI-O that are not built yet.
const NOT_BUILT: &[&str] = &["man", "publish"];

/// The exit status for arguments that mean nothing, and of a command whose answer is its exit status
/// for there being none.
const USAGE: u8 = 2;

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
    /// The policy cannot be read.
    #[error(transparent)]
    Judge(#[from] crate::judge::JudgeError),
    /// The image cannot be looked up.
    #[error(transparent)]
    Catalog(#[from] crate::catalog::CatalogError),
    /// What is kept with an artifact cannot be read.
    #[error(transparent)]
    Artifact(#[from] crate::artifacts::ArtifactError),
    /// The image is not here.
    #[error("image {0:?} is not on this node")]
    NoImage(String),
    /// The text names no image.
    #[error("{image:?} names no image")]
    Reference {
        /// As it was written.
        image: String,
        /// Why.
        source: crate::oci::reference::ReferenceError,
    },
    /// A file cannot be read.
    #[error("cannot read {path}")]
    File {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is no key.
    #[error("the key in {path} cannot be used")]
    Key {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: crate::signature::key::KeyError,
    },
    /// A bundle cannot be judged.
    #[error(transparent)]
    Bundle(#[from] crate::signature::standalone::StandaloneError),
    /// A bundle that anybody made proves nothing.
    #[error("say who must have signed the bundle: --identity and --issuer, or --key")]
    NoSigner,
    /// A directory has a policy for each namespace.
    #[error("{0} is a directory of policies; say with --namespace which of them is meant")]
    WhichNamespace(std::path::PathBuf),
    /// A bundle is about one thing.
    #[error("a bundle is about one file or digest; name one")]
    OneArtifact,
    /// Not everything could be wiped.
    #[error("{0} pods or images could not be removed; the log says why")]
    Left(usize),
    /// The daemon does not say.
    #[error(transparent)]
    Status(#[from] status::StatusError),
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
            return if help { ExitCode::SUCCESS } else { ExitCode::from(USAGE) };
        }
    };
    dispatch(&matches).unwrap_or_else(|error| {
        complain(&chain(&error));
        let answers = matches!(matches.subcommand_name(), Some("check" | "policy" | "verify"));
        if answers { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
    })
}

fn dispatch(matches: &ArgMatches) -> Result<ExitCode, CliError> {
    if matches.get_flag(flags::VERSION) {
        version::print_first_line()?;
        return Ok(ExitCode::SUCCESS);
    }
    let inputs = flags::inputs(matches);
    match matches.subcommand() {
        None => run::run(inputs)?,
        Some(("check", inner)) => return check::run(&inputs, inner),
        Some(("config", inner)) => show_config::run(inputs, inner.get_flag(flags::DEFAULT))?,
        Some(("completion", inner)) => documents::print_completion(inner)?,
        Some(("evidence", inner)) => evidence::run(&inputs, inner)?,
        Some(("markdown", inner)) => documents::print_page(inner)?,
        Some(("policy", inner)) => return policy::run(&inputs, inner),
        Some(("status", inner)) => status::run(inner)?,
        Some(("verify", inner)) => return verify::run(&inputs, inner),
        Some(("version", inner)) => {
            version::print(inner.get_flag(flags::JSON), inner.get_flag(flags::VERBOSE))?;
        }
        Some(("wipe", inner)) => wipe::run(&inputs, inner)?,
        Some((name, _)) if NOT_BUILT.contains(&name) => {
            return Err(CliError::NotBuilt(name.to_owned()));
        }
        Some((name, _)) => return Err(CliError::NotSupported(name.to_owned())),
    }
    Ok(ExitCode::SUCCESS)
}

/// The configuration, for a command that only asks something. A key that nobody knows is named: what it
/// was to set, such as the policy, is another one than its author thinks.
fn configured(inputs: &Inputs) -> Result<Loaded, CliError> {
    let loaded = load(inputs)?;
    for warning in &loaded.warnings {
        if matches!(warning, Warning::UnknownKey { .. }) {
            complain(&warning.to_string());
        }
    }
    Ok(loaded)
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
