//! How long the caller of a request is going to wait.
//!
//! A kubelet that gives up says no more than that its time was over. So it is answered a moment before
//! that, with what the daemon is doing; what it asked for goes on, and its next try is given it.

use std::time::Duration;

use tonic::metadata::MetadataMap;

/// How much earlier than at the caller's deadline the answer is, at most.
const EARLIER: Duration = Duration::from_millis(500);

/// How long to work on an answer; nothing for a caller that waits for ever.
pub(super) fn of(metadata: &MetadataMap) -> Option<Duration> {
    let timeout = parse(metadata.get("grpc-timeout")?.to_str().ok()?)?;
    Some(timeout.saturating_sub(EARLIER.min(timeout / 10)))
}

/// The header's form: at most eight digits and a unit (gRPC over HTTP2, "Timeout").
fn parse(text: &str) -> Option<Duration> {
    let (at, unit) = text.char_indices().next_back()?;
    let digits = text.get(..at)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        'H' => Duration::from_secs(count * 60 * 60),
        'M' => Duration::from_secs(count * 60),
        'S' => Duration::from_secs(count),
        'm' => Duration::from_millis(count),
        'u' => Duration::from_micros(count),
        'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_has_digits_and_a_unit() {
        for (text, expected) in [
            ("240S", Some(Duration::from_secs(240))),
            ("239999m", Some(Duration::from_millis(239_999))),
            ("2M", Some(Duration::from_secs(120))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("100000000S", None),
            ("-1S", None),
            ("S", None),
            ("10", None),
            ("", None),
            ("1\u{b5}", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
        let mut metadata = MetadataMap::new();
        assert_eq!(of(&metadata), None);
        metadata.insert("grpc-timeout", "1000m".parse().unwrap());
        assert_eq!(of(&metadata), Some(Duration::from_millis(900)));
        metadata.insert("grpc-timeout", "240S".parse().unwrap());
        assert_eq!(of(&metadata), Some(Duration::from_millis(239_500)));
    }
}
