//! What is wrong with the signatures that were found, in a sentence for the administrator.

use crate::policy::cause::Cause;
use crate::policy::cause::Reason;
use crate::policy::signer::Ready;
use crate::signature::SignatureError;

/// What users and their tools look for when an image is not signed at all.
const NONE: &str = "A signature was required, but no signature exists";
/// How many different reasons are told.
const MOST: usize = 6;

/// The image is not signed at all.
pub(crate) fn unsigned() -> Reason {
    Reason::new(Cause::NoSignature, NONE)
}

/// What is wrong with one that sigstore's tools made, as the end of a sentence.
pub(crate) fn of(error: &SignatureError, signers: &Ready<'_>) -> Reason {
    let words = match error {
        SignatureError::NotByAnyKey => format!("is not by {}", signers.described()),
        other => other.to_string(),
    };
    Reason::new(Cause::of(error), words)
}

/// How many of `what` were found, and what is wrong with them; `none` if there are none.
pub(crate) fn summary(
    what: &str,
    reasons: &[Reason],
    none: Reason,
    beside: &str,
    signers: &Ready<'_>,
) -> Reason {
    let not_ours = of(&SignatureError::NotByAnyKey, signers);
    let mut reason = if !reasons.is_empty() && reasons.iter().all(|reason| *reason == not_ours) {
        let found = found(what, reasons.len());
        Reason::new(not_ours.cause, format!("{found}, none by {}", signers.described()))
    } else {
        listed(what, reasons, none)
    };
    reason.words.push_str(beside);
    reason
}

/// The same, where all are listed with their faults. The fault that says the most is the cause.
pub(crate) fn listed(what: &str, reasons: &[Reason], none: Reason) -> Reason {
    let cause = reasons.iter().map(|reason| reason.cause).min();
    let found = found(what, reasons.len());
    let words = match reasons {
        [] => none.words,
        [one] => format!("{found}, which {one}"),
        several => format!("{found}: {}", counted(several)),
    };
    Reason::new(cause.unwrap_or(none.cause), words)
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
fn found(what: &str, count: usize) -> String {
    if count == 1 { format!("1 {what} found") } else { format!("{count} {what}s found") }
}

/// The different reasons, each with how often it was found, in the order they were found in.
fn counted(reasons: &[Reason]) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for Reason { words: reason, .. } in reasons {
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
