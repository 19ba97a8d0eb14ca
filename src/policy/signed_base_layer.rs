//! `signedBaseLayer`: part of the language, and refused by the reference too.

use crate::policy::Outcome;
use crate::policy::cause::Cause;
use crate::policy::cause::Reason;
use crate::policy::identity::Identity;
use crate::policy::json::Fault;
use crate::policy::json::Part;

/// Reads the requirement; nothing of it is used.
pub(crate) fn parse(part: &Part<'_>) -> Result<(), Fault> {
    let mut members = part.members()?;
    members.kind()?;
    let identity = members.part("baseLayerIdentity");
    let identity = identity.ok_or_else(|| part.fault("missing field `baseLayerIdentity`"))?;
    members.end()?;
    Identity::parse(&identity).map(drop)
}

/// It never holds.
pub(crate) fn judge() -> Outcome {
    Outcome::Rejected(Reason::new(Cause::NotSupported, "signedBaseLayer not implemented yet!"))
}
