//! A value that can be replaced while others use it: settings that are reloaded.
//!
//! Who looks takes the value as it is and keeps it for as long as its work lasts; a replacement is for
//! those who look after it. Nobody waits for anybody: the lock is held for a copy of a pointer.

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;

/// A value that can be replaced while others use it.
#[derive(Debug, Default)]
pub struct Current<T>(RwLock<Arc<T>>);

impl<T> Current<T> {
    /// This value, until it is replaced.
    #[must_use]
    pub fn new(value: T) -> Self {
        Self(RwLock::new(Arc::new(value)))
    }

    /// The value as it is now, for as long as it is kept.
    #[must_use]
    pub fn now(&self) -> Arc<T> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another value in its place.
    pub fn replace(&self, value: T) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_began_with_the_old_value_keeps_it() {
        let current = Current::new("old".to_owned());
        let begun = current.now();
        current.replace("new".to_owned());
        assert_eq!((begun.as_str(), current.now().as_str()), ("old", "new"));
    }
}
