//! When to ask again, and how long to wait before.
//!
//! What may pass is asked again: no connection, a broken one, 5xx and 429. Everything else is an
//! answer. Waits double and are spread, so that the nodes of a cluster do not come back in step.

use std::hash::BuildHasher;
use std::hash::RandomState;
use std::time::Duration;
use std::time::SystemTime;

use reqwest::Response;
use reqwest::StatusCode;
use reqwest::header::RETRY_AFTER;

use crate::registry::error::RegistryError;

/// How often a request is sent in all.
pub(super) const TRIES: u32 = 4;
/// The longest that a registry may make us wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// A try that failed.
#[derive(Debug)]
pub(super) struct Failure {
    /// Why, if it was the last.
    pub(super) error: RegistryError,
    /// Whether another try may help.
    pub(super) again: Again,
}

/// Whether another try may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// No: this is an answer.
    No,
    /// Yes.
    Soon,
    /// Yes, and the registry says when.
    After(Duration),
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        let again = match &error {
            RegistryError::Unreachable { .. } => Again::Soon,
            // A time-out of the whole is not among them: it was long enough.
            _ => Again::No,
        };
        Self { error, again }
    }
}

/// Whether this status may pass.
pub(super) fn passes(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

/// What the answer says about another try.
pub(super) fn advice(response: &Response, now: SystemTime) -> Again {
    if !passes(response.status()) {
        return Again::No;
    }
    let header = response.headers().get(RETRY_AFTER).and_then(|header| header.to_str().ok());
    header.and_then(|header| retry_after(header, now)).map_or(Again::Soon, Again::After)
}

/// `Retry-After`: seconds, or a date (RFC 9110, 10.2.3).
fn retry_after(header: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = header.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let form = time::macros::format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    let date = time::PrimitiveDateTime::parse(header.trim(), form).ok()?.assume_utc();
    Duration::try_from(date - time::OffsetDateTime::from(now)).ok()
}

/// How long to wait after the `failed`th try.
pub(super) fn wait(base: Duration, failed: u32, again: Again) -> Duration {
    let doubled = base.saturating_mul(2_u32.saturating_pow(failed.saturating_sub(1)));
    let wait = match again {
        Again::After(told) => told.max(base),
        Again::Soon | Again::No => doubled,
    };
    // Up to a quarter more.
    let spread = u32::try_from(RandomState::new().hash_one(()) % 256).unwrap_or_default();
    wait.min(LONGEST_WAIT) + wait.min(LONGEST_WAIT) * spread / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let seconds = |header: &str| retry_after(header, now).map(|wait| wait.as_secs());
        assert_eq!(seconds("7"), Some(7));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:40 GMT"), Some(3));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:00 GMT"), None);
        assert_eq!(seconds("-1"), None);
        assert_eq!(seconds("tomorrow"), None);
    }

    #[test]
    fn waits_grow_and_are_bounded() {
        let base = Duration::from_millis(100);
        let at_least = |failed, again| wait(base, failed, again).as_millis();
        assert!((100..=125).contains(&at_least(1, Again::Soon)));
        assert!((400..=500).contains(&at_least(3, Again::Soon)));
        assert!((60_000..=75_000).contains(&at_least(40, Again::Soon)));
        let told = Again::After(Duration::from_secs(1_000_000_000));
        assert!((60_000..=75_000).contains(&at_least(1, told)));
        assert!(wait(base, 1, Again::After(Duration::ZERO)) >= base);
    }
}
