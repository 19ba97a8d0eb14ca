//! What stops a configuration from being used, and what is only said aloud.

use std::fmt;
use std::path::PathBuf;

use crate::failure::Classify;
use crate::failure::Kind;
use crate::failure::io_kind;

/// Who set a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Nobody: it is the default.
    Default,
    /// A line of a file.
    File {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// An environment variable.
    Variable(String),
    /// A flag, named without its dashes.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => out.write_str("the default"),
            Self::File { path, line } => write!(out, "{}:{line}", path.display()),
            Self::Variable(name) => write!(out, "the environment variable {name}"),
            Self::Flag(name) => write!(out, "the flag --{name}"),
        }
    }
}

/// What stops a configuration from being used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file or directory cannot be read.
    #[error("cannot read the configuration {}", path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not TOML.
    #[error("{}:{line}: {reason}", path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What the parser says.
        reason: String,
    },
    /// A value is not what its key wants.
    #[error("{place}: {key} must be {wanted}, not {found}")]
    Value {
        /// Who set it.
        place: Source,
        /// The key.
        key: String,
        /// What it must be.
        wanted: String,
        /// What it is.
        found: String,
    },
    /// The default runtime has no table.
    #[error(
        "{place}: crio.runtime.default_runtime is \"{name}\", and there is no table [crio.runtime.runtimes.{name}]"
    )]
    NoSuchRuntime {
        /// Who set it.
        place: Source,
        /// The runtime's name.
        name: String,
    },
    /// The default runtime cannot be used on this node.
    #[error("the default runtime {name} cannot be used: {reason}")]
    DefaultRuntime {
        /// The runtime's name.
        name: String,
        /// Why.
        reason: String,
    },
    /// A key is needed because of another.
    #[error("{place}: {because} needs {key} to be set")]
    Missing {
        /// Who set the other.
        place: Source,
        /// The other.
        because: &'static str,
        /// What is missing.
        key: &'static str,
    },
}

impl Classify for ConfigError {
    fn kind(&self) -> Kind {
        match self {
            Self::Read { source, .. } => io_kind(source),
            Self::Syntax { .. }
            | Self::Value { .. }
            | Self::NoSuchRuntime { .. }
            | Self::DefaultRuntime { .. }
            | Self::Missing { .. } => Kind::InvalidRequest,
        }
    }
}

/// What an administrator should know about a configuration that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// A key that this version does not know.
    UnknownKey {
        /// Where it stands.
        place: Source,
        /// The key.
        key: String,
        /// The known key that looks most like it.
        nearest: Option<String>,
    },
    /// A key whose meaning is not built yet.
    NotBuilt {
        /// Who set it.
        place: Source,
        /// The key.
        key: String,
    },
    /// A key that has no meaning here.
    NoEffect {
        /// Who set it.
        place: Source,
        /// The key.
        key: String,
        /// What to do instead, or why not.
        why: &'static str,
    },
    /// A number below what is used at least.
    Raised {
        /// Who set it.
        place: Source,
        /// The key.
        key: String,
        /// What is used.
        used: u32,
    },
    /// A storage option that is not built.
    StorageOption {
        /// Who set it.
        place: Source,
        /// The option.
        option: String,
    },
    /// A runtime handler that cannot be used on this node and is left out.
    Handler {
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKey { place, key, nearest: Some(nearest) } => {
                write!(out, "{place}: the key {key} is not known and is ignored; is it {nearest}?")
            }
            Self::UnknownKey { place, key, nearest: None } => {
                write!(out, "{place}: the key {key} is not known and is ignored")
            }
            Self::NotBuilt { place, key } => {
                write!(out, "{place}: {key} has no effect: this is not built yet")
            }
            Self::NoEffect { place, key, why } => {
                write!(out, "{place}: {key} has no effect: {why}")
            }
            Self::Raised { place, key, used } => {
                write!(out, "{place}: {key} is below the least, {used}, which is used")
            }
            Self::StorageOption { place, option } => {
                write!(
                    out,
                    "{place}: the storage option \"{option}\" has no effect: this is not built yet"
                )
            }
            Self::Handler { name, reason } => {
                write!(out, "the runtime handler {name} is left out: {reason}")
            }
        }
    }
}
