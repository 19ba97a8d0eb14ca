//! What was asked for, under a token that nobody can guess and that is good once, for a minute.
//!
//! Whoever knows a URL can use it: there is no other check. So a token is as long as a key.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::time::Instant;

use crate::streaming::error::StreamingError;

/// How long a token is good.
const LIFETIME: Duration = Duration::from_secs(60);
/// How many tokens may wait to be used.
const WAITING: usize = 1000;
/// The random bytes of a token.
const BYTES: usize = 24;

/// What waits for its client.
#[derive(Debug)]
pub(super) struct Tokens<T> {
    inner: Mutex<Inner<T>>,
}

#[derive(Debug)]
struct Inner<T> {
    waiting: HashMap<String, (T, Instant)>,
    /// In the order they end, also those that were used.
    ends: VecDeque<(String, Instant)>,
}

impl<T> Tokens<T> {
    pub(super) fn new() -> Self {
        let inner = Inner { waiting: HashMap::new(), ends: VecDeque::new() };
        Self { inner: Mutex::new(inner) }
    }

    /// Keeps what was asked for now, and gives the token for it.
    ///
    /// # Errors
    ///
    /// [`StreamingError::TooManyWaiting`] when too many are not used.
    pub(super) fn give(&self, asked: T, now: Instant) -> Result<String, StreamingError> {
        let mut bytes = [0_u8; BYTES];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| StreamingError::NoRandomBytes)?;
        let token = URL_SAFE_NO_PAD.encode(bytes);
        let mut inner = self.lock();
        inner.forget_old(now);
        if inner.waiting.len() >= WAITING {
            return Err(StreamingError::TooManyWaiting(WAITING));
        }
        let end = now + LIFETIME;
        inner.waiting.insert(token.clone(), (asked, end));
        inner.ends.push_back((token.clone(), end));
        Ok(token)
    }

    /// What was asked for, once.
    pub(super) fn take(&self, token: &str, now: Instant) -> Option<T> {
        let mut inner = self.lock();
        inner.forget_old(now);
        Some(inner.waiting.remove(token)?.0)
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Inner<T> {
    fn forget_old(&mut self, now: Instant) {
        while self.ends.front().is_some_and(|(_, end)| *end <= now) {
            if let Some((token, _)) = self.ends.pop_front() {
                self.waiting.remove(&token);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_once_and_for_a_minute() {
        let (tokens, begun) = (Tokens::new(), Instant::now());
        let after = |seconds| begun + Duration::from_secs(seconds);
        let (first, second) = (tokens.give(1, begun).unwrap(), tokens.give(2, begun).unwrap());
        assert_eq!((tokens.take(&first, begun), tokens.take(&first, begun)), (Some(1), None));
        assert_eq!(tokens.take("unknown", begun), None);
        let third = tokens.give(3, after(59)).unwrap();
        let later = after(60);
        assert_eq!((tokens.take(&second, later), tokens.take(&third, later)), (None, Some(3)));
    }

    #[test]
    fn so_many_wait_and_no_more() {
        let (tokens, begun) = (Tokens::new(), Instant::now());
        let given: Vec<String> = (0..WAITING).map(|_| tokens.give((), begun).unwrap()).collect();
        let full = tokens.give((), begun);
        assert!(matches!(full, Err(StreamingError::TooManyWaiting(WAITING))));
        tokens.take(&given[0], begun).unwrap();
        tokens.give((), begun).unwrap();
        tokens.give((), begun + LIFETIME).unwrap();
        assert_eq!(tokens.lock().ends.len(), 1);
    }

    #[test]
    fn a_token_can_stand_in_a_url_and_cannot_be_guessed() {
        let (tokens, now) = (Tokens::new(), Instant::now());
        let token = tokens.give((), now).unwrap();
        assert_eq!(token.len(), 32);
        assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
        assert_ne!(token, tokens.give((), now).unwrap());
    }
}
