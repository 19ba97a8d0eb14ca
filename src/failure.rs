//! What a caller can conclude from any error of this program.
//!
//! Each module has its own error enum at its own level. They meet here: every one of them says
//! which [`Kind`] it is, so that the front door can choose a gRPC code, and a log level, without
//! reading text.

use std::error::Error;

/// What a caller can conclude from an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request itself is at fault: a missing or illegal field.
    InvalidRequest,
    /// The thing that was named does not exist.
    NotFound,
    /// The name is held by something else.
    NameTaken,
    /// The thing exists, and its state does not allow what was asked.
    WrongState,
    /// The policy does not allow this image.
    Refused,
    /// An image or artifact cannot be mounted as a volume, for whatever reason.
    ImageVolume,
    /// A mount cannot be made read-only recursively.
    RecursiveReadOnly,
    /// The registry could not be reached, or did not answer as a registry.
    RegistryUnavailable,
    /// The registry wants credentials that were not given, or refuses those given.
    Unauthenticated,
    /// There is no room left on a filesystem.
    NoSpace,
    /// The time for the request is over.
    Deadline,
    /// Too much of this is under way already; later it may work.
    Busy,
    /// The caller went away.
    Cancelled,
    /// This program, or this host, cannot do what was asked.
    NotSupported,
    /// Bytes are not those that were promised.
    Corrupt,
    /// Anything else: the fault is ours or the host's.
    Internal,
}

/// An error that knows its [`Kind`].
pub trait Classify: Error {
    /// What a caller can conclude.
    fn kind(&self) -> Kind;
}

/// Gives the error and all its causes in one line, joined by `: `.
///
/// A cause whose text the error before it already ends with is left out.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

/// The kind of a plain I/O error: a full disk is told apart, the rest is ours.
#[must_use]
pub fn io_kind(error: &std::io::Error) -> Kind {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Kind::NoSpace,
        _ => Kind::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read {path}")]
    struct Outer {
        path: &'static str,
        source: std::io::Error,
    }

    #[test]
    fn chain_names_every_cause_once() {
        let error = Outer { path: "/a", source: std::io::Error::other("disk on fire") };
        assert_eq!(chain(&error), "cannot read /a: disk on fire");
    }
}
