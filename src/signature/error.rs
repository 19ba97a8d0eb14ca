//! Why a signature is not true.

use crate::failure::Classify;
use crate::failure::Kind;
use crate::signature::key::KeyError;
use crate::signature::openpgp::OpenPgpError;

/// Why a signature proves nothing.
///
/// The texts complete the sentence "the signature …", because a refusal lists them.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// None of the keys made it.
    #[error("is by none of the keys")]
    NotByAnyKey,
    /// A cosign annotation that is needed is not there.
    #[error("is incomplete: missing {0} annotation")]
    Annotation(&'static str),
    /// The bytes of a signature are no base64.
    #[error("is malformed: its signature is not base64")]
    Base64(#[source] base64::DecodeError),
    /// The payload is not what cosign writes.
    #[error("is malformed: its payload is not a simple signing document")]
    Payload(#[source] serde_json::Error),
    /// The payload is of another type than an image signature.
    #[error("is no image signature: its critical.type is {0:?}")]
    PayloadType(String),
    /// `optional.timestamp` has a fraction.
    #[error("is malformed: optional.timestamp is not an integer")]
    PayloadTime,
    /// The bytes are no sigstore bundle of version 0.1 to 0.3.
    #[error("is malformed: not a sigstore bundle v0.1 to v0.3")]
    Bundle(#[source] serde_json::Error),
    /// A bundle signs a blob, which no tool does for an image.
    #[error("is a message signature; for images only DSSE envelopes are made")]
    MessageSignature,
    /// A bundle with a certificate, where a key is asked for.
    #[error("is a keyless signature (with a certificate), and the policy asks for a key")]
    Certificate,
    /// The bytes are no DSSE envelope.
    #[error("is malformed: not a DSSE envelope")]
    Envelope(#[source] serde_json::Error),
    /// An annotation of cosign's is not what it writes.
    #[error("is malformed: the annotation {0} cannot be read")]
    Malformed(&'static str),
    /// A signature by a key, where a certificate is asked for.
    #[error("is by a key (without a certificate), and the policy asks for a certificate")]
    NoCertificate,
    /// A certificate that cannot be read, or says two things.
    #[error("is malformed: its certificate: {0}")]
    CertificateMalformed(String),
    /// No trusted authority vouches for the certificate at the time of signing.
    #[error("has a certificate that is not trusted: {0}")]
    Chain(String),
    /// There is no time that somebody trusted vouches for.
    #[error("has no time that can be trusted: {0}")]
    Time(String),
    /// The owner of the certificate did not make it.
    #[error("is not by the owner of its certificate, or was changed")]
    NotByCertificate,
    /// Something else in it does not hold.
    #[error("is not true: {0}")]
    Untrue(String),
    /// It is true, and by somebody else than the policy asks for.
    #[error("is by someone else: {0}")]
    OtherSigner(String),
    /// A DSSE envelope around something else than an in-toto statement.
    #[error("is malformed: its payload type is {0:?}, not in-toto")]
    EnvelopeType(String),
    /// The payload of the envelope is no in-toto statement.
    #[error("is malformed: its payload is not an in-toto statement")]
    Statement(#[source] serde_json::Error),
    /// A statement that would take far more memory than its text does.
    #[error("is too intricate to be judged: its statement has too many parts")]
    Intricate,
    /// A statement of a version that is not known.
    #[error("is malformed: its statement is of the unknown type {0:?}")]
    StatementType(String),
    /// A true statement about something, but not the statement "this image is signed".
    #[error("is no image signature but an attestation of type {0:?}")]
    Attestation(String),
    /// A true statement about other digests.
    #[error("is for another digest: Signature for digest {signed} does not match")]
    Subject {
        /// What it is for.
        signed: String,
    },
    /// An OpenPGP signature that proves nothing.
    #[error(transparent)]
    OpenPgp(#[from] OpenPgpError),
    /// The proof that it is in a transparency log is malformed or does not hold.
    #[error("is not proven to be in the transparency log: {0}")]
    Log(LogFault),
}

/// Why a signature is not proven to be in a transparency log.
#[derive(Debug, thiserror::Error)]
pub enum LogFault {
    /// The signed entry timestamp is no such document.
    #[error("the dev.sigstore.cosign/bundle annotation is malformed: {0}")]
    Json(serde_json::Error),
    /// None of the log's keys signed the entry.
    #[error("cryptographic signature verification of Rekor SET failed")]
    NotByLog,
    /// The log's promise does not hold.
    #[error("cryptographic signature verification of Rekor SET failed: {0}")]
    Promise(String),
    /// More than anybody puts into a bundle.
    #[error("the bundle has more than 8 log entries or time stamps")]
    TooMany,
    /// An entry that nothing proves.
    #[error("the bundle has a log entry with neither a promise nor a proof")]
    Unproven,
    /// The entry of the log is malformed, or of a kind that is not made for images.
    #[error("the log's entry is not a hashedrekord 0.0.1")]
    Entry,
    /// The log's entry is about another key.
    #[error("publicKey in Rekor SET does not match")]
    OtherKey,
    /// The log's entry is about another signature.
    #[error("signature in Rekor SET does not match")]
    OtherSignature,
    /// The log's entry is about another payload.
    #[error("payload in Rekor SET does not match")]
    OtherPayload,
    /// A key with which a bundle's entry cannot be proven.
    #[error("{0}")]
    Key(KeyError),
    /// A bundle without an entry.
    #[error("the bundle has no log entry")]
    NoEntry,
    /// The bundle's entry does not hold.
    #[error("{0}")]
    Bundle(sigstore_verify::Error),
}

impl Classify for SignatureError {
    fn kind(&self) -> Kind {
        Kind::Refused
    }
}
