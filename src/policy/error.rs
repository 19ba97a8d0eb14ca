//! Why a policy file cannot be used.

use std::path::PathBuf;

use crate::failure::Classify;
use crate::failure::Kind;

/// Why a policy file cannot be used. Nothing is run under such a policy.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The file is no text.
    #[error("policy {} is not UTF-8", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// Where it stops being text.
        source: std::str::Utf8Error,
    },
    /// The file is no JSON, or has a key twice.
    #[error("policy {} is malformed", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The fault, with line and column.
        source: serde_json::Error,
    },
    /// The JSON is not that of a policy.
    #[error("policy {}, line {line} column {column}, {at}: {fault}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column in bytes, from 1.
        column: usize,
        /// Where in the document, such as `transports.docker["q.io/a"][0]`.
        at: String,
        /// What is wrong there.
        fault: String,
    },
}

/// Everything that is wrong with a policy file.
#[derive(Debug)]
pub struct Mistakes {
    /// The first.
    pub first: PolicyError,
    /// Those after it.
    pub others: Vec<PolicyError>,
}

impl Classify for PolicyError {
    /// An image that cannot be judged is refused.
    fn kind(&self) -> Kind {
        Kind::Refused
    }
}
