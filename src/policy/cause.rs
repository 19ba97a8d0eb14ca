//! Why an image is allowed or refused, in one word, for counters and records.
//!
//! A reason gets its word where it arises, from what was found and never from a text: texts have
//! words of strangers in them, who would choose what is counted.

use std::fmt;

use serde::Serialize;
use serde::Serializer;

use crate::policy::Outcome;
use crate::policy::Verdict;
use crate::policy::proof::What;
use crate::signature::SignatureError;
use crate::signature::openpgp::OpenPgpError;

/// Why an image is allowed or refused.
///
/// In this order: of what is wrong with several signatures, the first says the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// A signer is proven.
    Allowed,
    /// Nothing was asked for.
    Unchecked,
    /// The policy rejects the image, whatever is found.
    Rejected,
    /// A file that the policy names cannot be used.
    KeyUnusable,
    /// The policy asks for what is not built.
    NotSupported,
    /// There is no signature.
    NoSignature,
    /// There is no attestation of the type.
    NoAttestation,
    /// The provenance is not what is wanted.
    OtherProvenance,
    /// VEX does not clear the image.
    Affected,
    /// A true signature, under another name.
    OtherName,
    /// A true signature, of something else.
    OtherDigest,
    /// No transparency log is proven to have seen it.
    NotLogged,
    /// By somebody else.
    WrongSigner,
    /// By somebody, or made in a way, that may not vouch.
    SignerUnfit,
    /// It is no signature, or was changed.
    Malformed,
    /// Anything else.
    Unmet,
}

impl Cause {
    /// The word that counters and records have, which others look for.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Unchecked => "unchecked",
            Self::Rejected => "rejected",
            Self::KeyUnusable => "key_unusable",
            Self::NotSupported => "not_supported",
            Self::NoSignature => "no_signature",
            Self::NoAttestation => "no_attestation",
            Self::OtherProvenance => "other_provenance",
            Self::Affected => "affected",
            Self::OtherName => "other_name",
            Self::OtherDigest => "other_digest",
            Self::NotLogged => "not_logged",
            Self::WrongSigner => "wrong_signer",
            Self::SignerUnfit => "signer_unfit",
            Self::Malformed => "malformed",
            Self::Unmet => "unmet",
        }
    }

    /// Of a signature that proves nothing.
    pub(crate) fn of(error: &SignatureError) -> Self {
        match error {
            SignatureError::NotByAnyKey
            | SignatureError::Certificate
            | SignatureError::NoCertificate
            | SignatureError::NotByCertificate
            | SignatureError::OtherSigner(_) => Self::WrongSigner,
            SignatureError::Chain(_) | SignatureError::Time(_) => Self::SignerUnfit,
            SignatureError::Subject { .. } => Self::OtherDigest,
            SignatureError::Log(_) => Self::NotLogged,
            SignatureError::OpenPgp(error) => Self::of_openpgp(error),
            SignatureError::Annotation(_)
            | SignatureError::Base64(_)
            | SignatureError::Payload(_)
            | SignatureError::PayloadType(_)
            | SignatureError::PayloadTime
            | SignatureError::Bundle(_)
            | SignatureError::MessageSignature
            | SignatureError::Envelope(_)
            | SignatureError::Malformed(_)
            | SignatureError::CertificateMalformed(_)
            | SignatureError::Untrue(_)
            | SignatureError::EnvelopeType(_)
            | SignatureError::Statement(_)
            | SignatureError::Intricate
            | SignatureError::StatementType(_)
            | SignatureError::Attestation(_) => Self::Malformed,
        }
    }

    fn of_openpgp(error: &OpenPgpError) -> Self {
        match error {
            OpenPgpError::UnknownKey(_) => Self::WrongSigner,
            OpenPgpError::Unfit(_) | OpenPgpError::Key { .. } | OpenPgpError::Expired(_) => {
                Self::SignerUnfit
            }
            OpenPgpError::Message(_) | OpenPgpError::NotBinary | OpenPgpError::Mathematics(_) => {
                Self::Malformed
            }
        }
    }
}

/// Why a requirement does not hold: in one word, and in words for the administrator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// In one word.
    pub cause: Cause,
    /// In a sentence, or the end of one.
    pub words: String,
}

impl Reason {
    /// A reason.
    pub(crate) fn new(cause: Cause, words: impl Into<String>) -> Self {
        Self { cause, words: words.into() }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.words)
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.words)
    }
}

impl Verdict {
    /// Why, in one word: of the first requirement that does not hold, if one does not.
    #[must_use]
    pub fn cause(&self) -> Cause {
        let refused = self.requirements.iter().find_map(|judged| match &judged.outcome {
            Outcome::Accepted(_) => None,
            Outcome::Rejected(reason) => Some(reason.cause),
        });
        let unchecked = || self.proofs().all(|proof| proof.what == What::Nothing);
        match refused {
            Some(cause) => cause,
            None if unchecked() => Cause::Unchecked,
            None => Cause::Allowed,
        }
    }
}
