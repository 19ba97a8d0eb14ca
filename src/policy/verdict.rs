//! Allowed, or refused with every unmet requirement named.

use std::fmt;
use std::path::PathBuf;

use crate::failure::Classify;
use crate::failure::Kind;

/// What the policy says of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may be used.
    Allowed {
        /// The scope that decided.
        scope: String,
        /// For each requirement, what satisfied it.
        by: Vec<String>,
    },
    /// It may not be used.
    Refused(Refusal),
}

/// Why an image may not be used, in the administrator's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The image: reference and the manifest digest that was judged.
    pub image: String,
    /// The scope that decided.
    pub scope: String,
    /// The policy file.
    pub policy: PathBuf,
    /// The requirements that are not met; never empty.
    pub unmet: Vec<Unmet>,
}

/// A requirement that is not met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmet {
    /// Its type, such as `sigstoreSigned`.
    pub requirement: String,
    /// What was found instead.
    pub reason: String,
}

impl fmt::Display for Unmet {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.requirement, self.reason)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { image, scope, policy, unmet } = self;
        write!(out, "{image} is refused by {} (scope {scope}): ", policy.display())?;
        for (position, unmet) in unmet.iter().enumerate() {
            write!(out, "{}{unmet}", if position > 0 { "; " } else { "" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

impl Classify for Refusal {
    fn kind(&self) -> Kind {
        Kind::Refused
    }
}
