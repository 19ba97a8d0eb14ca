//! What is wrong with the signatures that were found, in a sentence for the administrator.

use crate::policy::signer::Ready;
use crate::signature::SignatureError;

/// What users and their tools look for when an image is not signed at all.
pub(crate) const NONE: &str = "A signature was required, but no signature exists";
/// How many different reasons are told.
const MOST: usize = 6;

/// What is wrong with one that sigstore's tools made, as the end of a sentence.
pub(crate) fn of(error: &SignatureError, signers: &Ready<'_>) -> String {
    match error {
        SignatureError::NotByAnyKey => format!("is not by {}", signers.described()),
        other => other.to_string(),
    }
}

/// How many of `what` were found, and what is wrong with them; `none` if there are none.
pub(crate) fn summary(
    what: &str,
    reasons: &[String],
    none: &str,
    beside: &str,
    signers: &Ready<'_>,
) -> String {
    let not_ours = of(&SignatureError::NotByAnyKey, signers);
    let found = found(what, reasons.len());
    match reasons {
        [] => format!("{none}{beside}"),
        all if all.iter().all(|reason| *reason == not_ours) => {
            format!("{found}, none by {}{beside}", signers.described())
        }
        [one] => format!("{found}, which {one}{beside}"),
        several => format!("{found}: {}{beside}", counted(several)),
    }
}

/// What was found beside: attestations of these types, which are not what was looked for.
pub(crate) fn beside(types: &[String], singular: &str, plural: &str) -> String {
    match types {
        [] => String::new(),
        [one] => format!(" (1 attestation found, which is {singular}: {:?})", short(one)),
        [one, ..] => {
            let count = types.len();
            format!(" ({count} attestations found, which are {plural}: {:?}, …)", short(one))
        }
    }
}

/// "1 signature found", or how many there are.
pub(crate) fn found(what: &str, count: usize) -> String {
    if count == 1 { format!("1 {what} found") } else { format!("{count} {what}s found") }
}

/// The different reasons, each with how often it was found, in the order they were found in.
pub(crate) fn counted(reasons: &[String]) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for reason in reasons {
        match counts.iter_mut().find(|(known, _)| known == reason) {
            Some((_, count)) => *count += 1,
            None => counts.push((reason, 1)),
        }
    }
    let different = counts.len();
    let mut parts: Vec<String> =
        counts.iter().take(MOST).map(|(reason, count)| number(reason, *count)).collect();
    if different > parts.len() {
        parts.push("and others".to_owned());
    }
    parts.join(", ")
}

fn number(reason: &str, count: usize) -> String {
    match reason.split_once(' ') {
        Some(("is", rest)) if count > 1 => format!("{count} are {rest}"),
        Some(("has", rest)) if count > 1 => format!("{count} have {rest}"),
        Some(("names", rest)) if count > 1 => format!("{count} name {rest}"),
        _ => format!("{count} {reason}"),
    }
}

/// The beginning of a text that a stranger wrote.
pub(crate) fn short(text: &str) -> String {
    text.chars().take(300).collect()
}
