//! The process and its life; the only place that builds objects.

use crate::config::Config;
use crate::failure::Classify;
use crate::failure::Kind;

/// Why the daemon does not run.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// There is none.
    #[error("the daemon is not built yet")]
    NotBuilt,
}

impl Classify for DaemonError {
    fn kind(&self) -> Kind {
        Kind::NotSupported
    }
}

/// Runs the daemon until it is told to stop.
///
/// # Errors
///
/// [`DaemonError::NotBuilt`], always.
pub fn run(_config: Config) -> Result<(), DaemonError> {
    Err(DaemonError::NotBuilt)
}
