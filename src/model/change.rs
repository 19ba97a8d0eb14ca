//! What a verb did. Every verb may be called again, so "nothing" is a good answer.

/// Whether a verb changed anything, and what it gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<T = ()> {
    /// It is new, or different from before.
    Made(T),
    /// It was so already.
    Unchanged(T),
}

impl<T> Change<T> {
    /// What the verb gives, whether it changed anything or not.
    pub fn value(self) -> T {
        match self {
            Self::Made(value) | Self::Unchanged(value) => value,
        }
    }
}
