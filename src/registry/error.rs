//! Why a registry was not, or not rightly, answered by.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::failure::Classify;
use crate::failure::Kind;
use crate::failure::io_kind;
use crate::oci::digest::Digest;
use crate::oci::document::DocumentError;
use crate::oci::reference::ReferenceError;
use crate::oci::stored_signature::StoredSignatureError;

/// What was asked for, and where: part of nearly every message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The image as its user knows it.
    pub reference: String,
    /// The URL, without its query: that may be a signed secret.
    pub url: String,
}

impl fmt::Display for Asked {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.reference, self.url)
    }
}

/// Why there is no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The text is no reference.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// A short name has more than one meaning, and the mode does not allow to guess.
    #[error(
        "short name mode is enforcing, but image name {name} returns ambiguous list ({candidates}); \
         use the full name"
    )]
    Ambiguous {
        /// The name as asked for.
        name: String,
        /// What it could mean.
        candidates: String,
    },
    /// A short name has no meaning.
    #[error(
        "short name {name:?} is no alias, and no unqualified-search-registries are set in {path}; \
         use the full name"
    )]
    Meaningless {
        /// The name as asked for.
        name: String,
        /// The configuration file.
        path: PathBuf,
    },
    /// Neither the registry nor its mirrors gave an answer that can be used.
    #[error("there are several places to ask, and none gave it ({others})")]
    Everywhere {
        /// What the others said.
        others: String,
        /// What counts.
        source: Box<RegistryError>,
    },
    /// An administrator does not want this registry to be used.
    #[error("{reference}: the registry {prefix:?} is blocked in {path}")]
    Blocked {
        /// The image.
        reference: String,
        /// The entry's prefix.
        prefix: String,
        /// The file with the entry.
        path: PathBuf,
    },
    /// A configuration, credential or certificate file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// registries.conf is no TOML, or has a value of the wrong type.
    #[error("cannot understand {path}")]
    Toml {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A configuration, credential or certificate file says what it cannot say.
    #[error("{path}: {fault}")]
    Configuration {
        /// The file.
        path: PathBuf,
        /// What is wrong; never a secret.
        fault: String,
    },
    /// The credentials are kept by a program that is not run.
    #[error(
        "{path} names the credential helper {helper:?} for {host}; credential helpers are not run \
         by this version: use an image pull secret, or an entry under \"auths\""
    )]
    CredentialHelper {
        /// The file.
        path: PathBuf,
        /// The registry.
        host: String,
        /// The helper's name.
        helper: String,
    },
    /// The TLS stack cannot be set up for a host.
    #[error("cannot set up TLS for {host}; are CA certificates installed?")]
    Tls {
        /// The registry.
        host: String,
        /// Why.
        source: rustls::Error,
    },
    /// The HTTP stack cannot be set up for a host.
    #[error("cannot set up HTTP for {host}; are the proxy settings right?")]
    Client {
        /// The registry.
        host: String,
        /// Why.
        source: reqwest::Error,
    },
    /// No connection, or it broke.
    #[error("{asked}: the registry cannot be reached")]
    Unreachable {
        /// What was asked, and where.
        asked: Box<Asked>,
        /// Why.
        source: reqwest::Error,
    },
    /// The server's certificate is not good.
    #[error(
        "{asked}: the server's certificate is not trusted; if it should be, put the certificate of \
         its authority into certs.d/{host}/ca.crt"
    )]
    Untrusted {
        /// What was asked, and where.
        asked: Box<Asked>,
        /// The host as certs.d names it.
        host: String,
        /// Why.
        source: reqwest::Error,
    },
    /// Something answers, but not with TLS.
    #[error(
        "{asked}: the server does not speak TLS; if it is meant to be used over plain HTTP, set \
         insecure = true for it in registries.conf"
    )]
    NoTls {
        /// What was asked, and where.
        asked: Box<Asked>,
        /// Why.
        source: reqwest::Error,
    },
    /// The answer did not come in time.
    #[error("{asked}: no whole answer within {seconds} seconds")]
    TimedOut {
        /// What was asked, and where.
        asked: Box<Asked>,
        /// How long it was waited for.
        seconds: u64,
    },
    /// A blob broke off, again and again.
    #[error("{asked}: broke off after {received} of {size} bytes, {tries} times without progress")]
    Cut {
        /// What was asked, and where.
        asked: Box<Asked>,
        /// What had arrived.
        received: u64,
        /// What was promised.
        size: u64,
        /// How often it was tried.
        tries: u32,
    },
    /// A blob comes too slowly to ever be whole.
    #[error(
        "{asked}: stands still: {received} of {size} bytes are here, and fewer than {least} came in \
         {seconds} seconds of waiting; pull_progress_timeout sets that time"
    )]
    Standstill {
        /// What was asked, and where.
        asked: Box<Asked>,
        /// What had arrived.
        received: u64,
        /// What was promised.
        size: u64,
        /// What must come within the time.
        least: u64,
        /// The time.
        seconds: u64,
    },
    /// A status that says neither yes nor no.
    #[error("{asked}: the registry answered {status}{message}")]
    Status {
        /// What was asked, and where.
        asked: Box<Asked>,
        /// The HTTP status.
        status: u16,
        /// What the registry said, as `: text`, cleaned; or nothing.
        message: String,
    },
    /// A redirect that is not followed.
    #[error("{asked}: the redirect {fault}")]
    Redirect {
        /// What was asked, and where.
        asked: Box<Asked>,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// The registry wants other credentials.
    #[error("{asked}: access refused with {tried}{message}")]
    Unauthenticated {
        /// What was asked, and where.
        asked: Box<Asked>,
        /// Which credentials were tried.
        tried: String,
        /// What the registry said, as `: text`, cleaned; or nothing.
        message: String,
    },
    /// The registry wants credentials to be sent in the clear.
    #[error(
        "{asked}: the registry sends credentials to {realm}, unencrypted or at another host; \
         mark the registry insecure in registries.conf if that is meant"
    )]
    ExposedRealm {
        /// What was asked, and where.
        asked: Box<Asked>,
        /// Where the token should come from.
        realm: String,
    },
    /// What the token server sent is no token.
    #[error("{asked}: the token server's answer has no usable token")]
    Token {
        /// What was asked, and where.
        asked: Box<Asked>,
    },
    /// A status of 404.
    #[error("{asked}: not found{message}")]
    NotFound {
        /// What was asked, and where.
        asked: Box<Asked>,
        /// What the registry said, as `: text`, cleaned; or nothing.
        message: String,
    },
    /// A status of 404 that does not say what is missing: it may be a proxy that says it.
    #[error(
        "{asked}: answered 404, but not in a registry's words, so whether it exists is not known{message}"
    )]
    Unclear {
        /// What was asked, and where.
        asked: Box<Asked>,
        /// What the server said, as `: text`, cleaned; or nothing.
        message: String,
    },
    /// An answer larger than it may be.
    #[error("{asked}: larger than {limit} bytes")]
    TooLarge {
        /// What was asked, and where.
        asked: Box<Asked>,
        /// The bound.
        limit: u64,
    },
    /// A blob of another size than its descriptor says.
    #[error("{asked}: {actual} bytes or more came, {expected} were promised")]
    Size {
        /// What was asked, and where.
        asked: Box<Asked>,
        /// What the descriptor says.
        expected: u64,
        /// What came.
        actual: u64,
    },
    /// Bytes that are not those named.
    #[error("{asked}: the bytes are not those of {expected}")]
    Digest {
        /// What was asked, and where.
        asked: Box<Asked>,
        /// The digest that was asked for, or that the registry named.
        expected: Box<Digest>,
    },
    /// A part of a blob that is not the part asked for.
    #[error("{asked}: asked for the bytes from {offset} on, got {range:?}")]
    Range {
        /// What was asked, and where.
        asked: Box<Asked>,
        /// Where the part should have begun.
        offset: u64,
        /// What the answer says it is.
        range: String,
    },
    /// A list of referrers that is none.
    #[error("{asked}: the list of referrers cannot be read")]
    Referrers {
        /// What was asked, and where.
        asked: Box<Asked>,
        /// Why.
        source: DocumentError,
    },
    /// A document that is a manifest where an index was expected.
    #[error("{asked}: the list of referrers is no index")]
    NoIndex {
        /// What was asked, and where.
        asked: Box<Asked>,
    },
    /// A place for signatures that is no place.
    #[error("{reference}: the lookaside {url:?} names no directory; write file:///directory")]
    Lookaside {
        /// The image.
        reference: String,
        /// What registries.d says.
        url: String,
    },
    /// What lies where a signature should is none.
    #[error("{asked}: no signature")]
    Signature {
        /// What was asked, and where.
        asked: Box<Asked>,
        /// Why.
        source: StoredSignatureError,
    },
    /// A registry's list of signatures that is none.
    #[error("{asked}: the list of signatures cannot be read")]
    SignatureList {
        /// What was asked, and where.
        asked: Box<Asked>,
        /// Why.
        source: Box<serde_json::Error>,
    },
    /// More signatures than will be read.
    #[error("{asked}: more than {limit} signatures")]
    TooManySignatures {
        /// What was asked, and where.
        asked: Box<Asked>,
        /// The bound.
        limit: usize,
    },
    /// More referrers than will be read, or a list of them that runs in a circle.
    #[error("{asked}: more than {limit} {what} of referrers")]
    TooManyReferrers {
        /// What was asked, and where.
        asked: Box<Asked>,
        /// The bound.
        limit: usize,
        /// Of what.
        what: &'static str,
    },
}

impl Classify for RegistryError {
    fn kind(&self) -> Kind {
        match self {
            Self::Reference(_)
            | Self::Ambiguous { .. }
            | Self::Meaningless { .. }
            | Self::Blocked { .. } => Kind::InvalidRequest,
            Self::Read { source, .. } => io_kind(source),
            Self::Toml { .. }
            | Self::Configuration { .. }
            | Self::Lookaside { .. }
            | Self::Tls { .. }
            | Self::Client { .. } => Kind::Internal,
            Self::CredentialHelper { .. } => Kind::NotSupported,
            Self::Unreachable { .. }
            | Self::Untrusted { .. }
            | Self::NoTls { .. }
            | Self::TimedOut { .. }
            | Self::Cut { .. }
            | Self::Standstill { .. }
            | Self::Status { .. }
            | Self::Redirect { .. }
            | Self::Token { .. }
            | Self::Unclear { .. }
            | Self::TooManySignatures { .. }
            | Self::TooManyReferrers { .. } => Kind::RegistryUnavailable,
            Self::Unauthenticated { .. } | Self::ExposedRealm { .. } => Kind::Unauthenticated,
            Self::NotFound { .. } => Kind::NotFound,
            Self::TooLarge { .. }
            | Self::Size { .. }
            | Self::Digest { .. }
            | Self::Range { .. }
            | Self::Signature { .. }
            | Self::SignatureList { .. }
            | Self::NoIndex { .. } => Kind::Corrupt,
            Self::Referrers { source, .. } => source.kind(),
            Self::Everywhere { source, .. } => source.kind(),
        }
    }
}
