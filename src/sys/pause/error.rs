//! What can keep a pause process from starting.

use std::io;
use std::path::PathBuf;

use crate::failure::Classify;
use crate::failure::Kind;
use crate::failure::io_kind;
use crate::sys::pause::STEP;

/// A pause process that could not be started. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PauseError {
    /// The hidden mode cannot be started.
    #[error("cannot start {} as the pause process", program.display())]
    Spawn {
        /// The binary.
        program: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// The paths of the namespaces do not fit into one message.
    #[error("the namespaces of pause process {name} have paths that are too long")]
    PathTooLong {
        /// Which one.
        name: String,
    },
    /// It could not do one of the steps that make it what it is.
    #[error("pause process {name} cannot {step}")]
    Setup {
        /// Which one.
        name: String,
        /// The step.
        step: &'static str,
        /// What the kernel says.
        source: io::Error,
    },
    /// It ended, or spoke nonsense, before it was ready.
    #[error("pause process {name} ended before it was ready")]
    Died {
        /// Which one.
        name: String,
    },
    /// It did not answer in time.
    #[error("pause process {name} was not ready within {} s", STEP.as_secs())]
    TimedOut {
        /// Which one.
        name: String,
    },
    /// It cannot be spoken to or looked at.
    #[error("cannot follow pause process {name}")]
    Follow {
        /// Which one.
        name: String,
        /// What the kernel says.
        source: io::Error,
    },
    /// What the caller does before it is let go did not work.
    #[error("cannot prepare pause process {name} with number {pid}")]
    BeforeRun {
        /// Which one.
        name: String,
        /// Its number; it is gone by now.
        pid: i32,
        /// What the caller says.
        source: io::Error,
    },
    /// Its namespace cannot be pinned.
    #[error("cannot pin the process namespace of pause process {name} at {}", path.display())]
    Pin {
        /// Which one.
        name: String,
        /// The file.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
}

impl Classify for PauseError {
    fn kind(&self) -> Kind {
        match self {
            Self::Spawn { source, .. }
            | Self::Setup { source, .. }
            | Self::Follow { source, .. }
            | Self::BeforeRun { source, .. }
            | Self::Pin { source, .. } => io_kind(source),
            Self::TimedOut { .. } => Kind::Deadline,
            Self::PathTooLong { .. } | Self::Died { .. } => Kind::Internal,
        }
    }
}
