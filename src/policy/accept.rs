//! The requirements that look at nothing.

use crate::policy::Outcome;
use crate::policy::cause::Cause;
use crate::policy::cause::Reason;
use crate::policy::json::Fault;
use crate::policy::json::Part;
use crate::policy::proof::Proof;
use crate::policy::proof::What;
use crate::policy::signable::Signable;

/// Both have no members but their type.
pub(crate) fn parse(part: &Part<'_>) -> Result<(), Fault> {
    let mut members = part.members()?;
    members.kind()?;
    members.end()
}

/// `insecureAcceptAnything`.
pub(crate) fn anything() -> Outcome {
    Outcome::accepted(Proof::of(What::Nothing))
}

/// `reject`.
pub(crate) fn reject(subject: &Signable<'_>) -> Outcome {
    let words = format!("Running image {} is rejected by policy.", subject.reference);
    Outcome::Rejected(Reason::new(Cause::Rejected, words))
}
