//! The requirements that look at nothing.

use crate::policy::Subject;
use crate::policy::requirement::Outcome;

/// `insecureAcceptAnything`.
pub(crate) fn anything() -> Outcome {
    Outcome::Accepted("nothing was checked".to_owned())
}

/// `reject`.
pub(crate) fn reject(subject: &Subject<'_>) -> Outcome {
    Outcome::Rejected(format!("Running image {} is rejected by policy.", subject.reference))
}
