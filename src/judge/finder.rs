//! Looking evidence up for a create, where the node's administrator wants that.

use std::error::Error;
use std::fmt;

use crate::failure::Classify;
use crate::failure::Kind;
use crate::judge::case::Case;
use crate::policy::Evidence;
use crate::policy::Subject;

/// Finds the evidence of a manifest in its registry, as a pull does.
pub trait Finder: fmt::Debug + Send + Sync {
    /// All evidence that the case wants. Blocks, and gives up in time.
    ///
    /// # Errors
    ///
    /// [`FindError`] when it cannot be told whether there is any.
    fn find(&self, subject: &Subject<'_>, case: &Case) -> Result<Evidence, FindError>;
}

/// Why evidence could not be looked up.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub struct FindError {
    kind: Kind,
    #[source]
    source: Box<dyn Error + Send + Sync>,
}

impl FindError {
    /// Of this cause.
    pub fn new(kind: Kind, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind, source: source.into() }
    }
}

impl Classify for FindError {
    fn kind(&self) -> Kind {
        self.kind
    }
}
