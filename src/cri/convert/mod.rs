//! Between proto messages and our types. Missing and illegal fields stop here.

pub mod container;
pub mod image;
pub mod metrics;
pub mod resources;
pub mod sandbox;
pub mod security;
pub mod stats;
pub mod status;

use crate::failure::Classify;
use crate::failure::Kind;

/// A request whose field is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {fault}")]
pub struct RequestError {
    /// The field, by its path in the message.
    pub field: &'static str,
    /// What is wrong with it.
    pub fault: String,
}

impl RequestError {
    /// The field is not there.
    #[must_use]
    pub fn missing(field: &'static str) -> Self {
        Self { field, fault: "is missing".to_owned() }
    }

    /// The field has a value that it cannot have.
    #[must_use]
    pub fn illegal(field: &'static str, value: impl std::fmt::Debug) -> Self {
        let value: String = format!("{value:?}").chars().take(200).collect();
        Self { field, fault: format!("{value} is not allowed") }
    }
}

impl Classify for RequestError {
    fn kind(&self) -> Kind {
        Kind::InvalidRequest
    }
}

/// A number that must fit an unsigned 32-bit id (CVE-2024-40635: a larger one wrapped to root).
fn id32(field: &'static str, value: i64) -> Result<u32, RequestError> {
    u32::try_from(value)
        .ok()
        .filter(|id| *id <= i32::MAX.unsigned_abs())
        .ok_or_else(|| RequestError::illegal(field, value))
}
