//! What can go wrong before a client is connected.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::failure::Classify;
use crate::failure::Kind;
use crate::failure::io_kind;

/// The streaming server cannot be set up, or gives no URL.
#[derive(Debug, thiserror::Error)]
pub enum StreamingError {
    /// The address is taken, or is not this node's.
    #[error("cannot listen on {address} for exec, attach and port-forward")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A certificate, key or authority.
    #[error("cannot read {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A certificate of our own making.
    #[error("cannot make a certificate")]
    SelfSigned(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It cannot be kept.
    #[error("cannot write {path}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that does not hold what it should.
    #[error("{path} has no {wanted} in PEM form")]
    Pem {
        /// Which.
        path: PathBuf,
        /// What it should hold.
        wanted: &'static str,
    },
    /// The certificate and the key do not go together, or are of a kind that is not known.
    #[error("cannot use the certificate {path} with its key")]
    Certificate {
        /// The certificate.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The authority of clients.
    #[error("cannot use the authority {path}")]
    Authority {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Something that is no cipher suite, or none that is left.
    #[error("tls_cipher_suites: {0}")]
    CipherSuites(String),
    /// Too many URLs were given out and not used.
    #[error("{0} URLs wait for their client already; try again in a minute")]
    TooManyWaiting(usize),
    /// There are no random bytes.
    #[error("no random bytes from the kernel")]
    NoRandomBytes,
}

impl Classify for StreamingError {
    fn kind(&self) -> Kind {
        match self {
            Self::Listen { source, .. }
            | Self::File { source, .. }
            | Self::Write { source, .. } => io_kind(source),
            Self::TooManyWaiting(_) => Kind::Busy,
            Self::Pem { .. }
            | Self::Certificate { .. }
            | Self::Authority { .. }
            | Self::CipherSuites(_)
            | Self::SelfSigned(_)
            | Self::NoRandomBytes => Kind::Internal,
        }
    }
}
