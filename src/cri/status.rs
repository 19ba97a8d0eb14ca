//! The one place where an error becomes a gRPC status.
//!
//! The kubelet compares the beginning of a message with words of its own (`cri-api/pkg/errors`),
//! and only for the code UNKNOWN. A tidier code would hide the reason from
//! `kubectl describe pod`.

use tonic::Code;
use tonic::Status;

use crate::failure::Classify;
use crate::failure::Kind;
use crate::failure::chain;

/// The gRPC code, and the kubelet's word that the message begins with (empty for none).
#[must_use]
pub fn code(kind: Kind) -> (Code, &'static str) {
    match kind {
        Kind::InvalidRequest => (Code::InvalidArgument, ""),
        Kind::NotFound => (Code::NotFound, ""),
        Kind::NameTaken => (Code::AlreadyExists, ""),
        Kind::WrongState => (Code::FailedPrecondition, ""),
        Kind::Refused => (Code::Unknown, "SignatureValidationFailed: "),
        Kind::RecursiveReadOnly => (Code::Unknown, "RROUnsupported: "),
        Kind::ImageVolume => (Code::Unknown, "ImageVolumeMountFailed: "),
        Kind::RegistryUnavailable => (Code::Unknown, "RegistryUnavailable: "),
        Kind::Unauthenticated => (Code::Unauthenticated, ""),
        Kind::NoSpace | Kind::Busy => (Code::ResourceExhausted, ""),
        Kind::Deadline => (Code::DeadlineExceeded, ""),
        Kind::Cancelled => (Code::Cancelled, ""),
        Kind::NotSupported => (Code::Unimplemented, ""),
        Kind::Corrupt => (Code::DataLoss, ""),
        Kind::Internal => (Code::Internal, ""),
    }
}

/// The status for an error: the whole chain of causes, behind the kubelet's word.
#[must_use]
pub fn of<E: Classify + 'static>(error: &E) -> Status {
    let (code, word) = code(error.kind());
    Status::new(code, format!("{word}{}", chain(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("it is so")]
    struct Of(Kind);

    impl Classify for Of {
        fn kind(&self) -> Kind {
            self.0
        }
    }

    #[test]
    fn the_kubelet_reads_a_refusal_only_behind_code_unknown() {
        for (kind, message) in [
            (Kind::Refused, "SignatureValidationFailed: it is so"),
            (Kind::RegistryUnavailable, "RegistryUnavailable: it is so"),
            (Kind::RecursiveReadOnly, "RROUnsupported: it is so"),
            (Kind::ImageVolume, "ImageVolumeMountFailed: it is so"),
        ] {
            let status = of(&Of(kind));
            assert_eq!((status.code(), status.message()), (Code::Unknown, message));
        }
        assert_eq!(of(&Of(Kind::NotFound)).code(), Code::NotFound);
    }
}
