//! What can go wrong with records.

use std::path::PathBuf;

use crate::failure::Classify;
use crate::failure::Kind;
use crate::failure::io_kind;

/// A record that cannot be found, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// No record has this id, or an id that begins so.
    #[error("no {what} has the id {id:?}")]
    Unknown {
        /// Sandbox or container.
        what: &'static str,
        /// As asked for.
        id: String,
    },
    /// Several ids begin so.
    #[error("more than one {what} has an id that begins with {id:?}; give more digits")]
    Ambiguous {
        /// Sandbox or container.
        what: &'static str,
        /// As asked for.
        id: String,
    },
    /// The file cannot be written.
    #[error("cannot write the record {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file cannot be read.
    #[error("cannot read the record {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file ends too soon, or has bytes that nobody wrote: the power failed while it was written.
    #[error("the record {path} was cut")]
    Cut {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The file is no record of a version that this program knows.
    #[error("{path} is no record that this version reads")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

impl Classify for StateError {
    fn kind(&self) -> Kind {
        match self {
            Self::Unknown { .. } => Kind::NotFound,
            Self::Ambiguous { .. } => Kind::InvalidRequest,
            Self::Write { source, .. } | Self::Read { source, .. } => io_kind(source),
            Self::Cut { .. } | Self::Malformed { .. } => Kind::Corrupt,
        }
    }
}
