//! What is wrong with the signatures that were found, in a sentence for the administrator.

/// What users and their tools look for when an image is not signed at all.
pub(crate) const NONE: &str = "A signature was required, but no signature exists";

/// "1 signature found", or how many there are.
pub(crate) fn found(count: usize) -> String {
    if count == 1 { "1 signature found".to_owned() } else { format!("{count} signatures found") }
}

/// The different reasons, each with how often it was found, in the order of the signatures.
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
        counts.iter().take(6).map(|(reason, count)| number(reason, *count)).collect();
    if different > parts.len() {
        parts.push("and others".to_owned());
    }
    parts.join(", ")
}

fn number(reason: &str, count: usize) -> String {
    match reason.strip_prefix("is ") {
        Some(rest) if count > 1 => format!("{count} are {rest}"),
        _ => format!("{count} {reason}"),
    }
}

/// The beginning of a text that a stranger wrote.
pub(crate) fn short(text: &str) -> String {
    text.chars().take(300).collect()
}
