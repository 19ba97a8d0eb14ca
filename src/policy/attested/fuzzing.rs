//! A door for the fuzz targets: the conditions, without a proof before them.

use serde_json::value::RawValue;

use crate::policy::Evidence;
use crate::policy::Subject;
use crate::policy::attested::conditions::Conditions;
use crate::policy::attested::conditions::Together;
use crate::policy::json::Part;
use crate::policy::json::Text;
use crate::policy::signable::Signable;

/// Whether one predicate fulfils conditions as they stand in a policy; `None` if there is no such
/// condition, or no such predicate.
pub fn holds(
    conditions: &str,
    predicate_type: &str,
    predicate: &str,
    subject: &Subject<'_>,
) -> Option<bool> {
    let conditions = Conditions::parse(&Part::whole(Text(conditions)), predicate_type).ok()?;
    let predicate: &RawValue = serde_json::from_str(predicate).ok()?;
    let evidence = Evidence::default();
    let subject = Signable::new(subject, &evidence);
    let mut together = Together::default();
    let fulfilled = conditions
        .hear(&mut together, predicate, &subject)
        .and_then(|()| conditions.hold_alone(predicate_type, predicate, &together, 0))
        .and_then(|()| conditions.hold_together(&together));
    Some(fulfilled.is_ok())
}
