//! In-toto statements: what a DSSE envelope claims, about which digests.
//!
//! Signatures and attestations have the same form, and differ in one word: the predicate type. A
//! key that signs SBOMs must not by that sign images, so the word is always looked at.

use serde::Deserialize;
use serde_json::value::RawValue;
use sigstore_verify::types::DsseEnvelope;
use sigstore_verify::types::Sha256Hash;

use crate::oci::digest::Digest;
use crate::oci::strict_json;
use crate::signature::SignatureError;

/// The predicate type that means "this image is signed".
pub const SIGN: &str = "https://sigstore.dev/cosign/sign/v1";
/// The payload type of an envelope around a statement.
const IN_TOTO: &str = "application/vnd.in-toto+json";
/// The types of statements; attestations are still made in the older one.
const TYPES: [&str; 2] = ["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"];

/// What an envelope claims.
#[derive(Debug, Deserialize)]
pub struct Statement<'a> {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    /// What is said of the subject.
    #[serde(rename = "predicateType")]
    pub predicate_type: String,
    /// The saying itself, whose form the type decides. It can have megabytes, so it stays text, of
    /// which a reader takes what it needs.
    #[serde(borrow, default)]
    pub predicate: Option<&'a RawValue>,
}

/// Of its digests only the one that is looked at is kept: a stranger may name any number of others.
#[derive(Debug, Deserialize)]
struct Subject {
    digest: Digests,
}

#[derive(Debug, Deserialize)]
struct Digests {
    #[serde(default)]
    sha256: Option<String>,
}

/// Reads the statement in an envelope.
///
/// # Errors
///
/// [`SignatureError`] when there is none in it, or an ambiguous one.
pub fn parse(envelope: &DsseEnvelope) -> Result<Statement<'_>, SignatureError> {
    if envelope.payload_type != IN_TOTO {
        return Err(SignatureError::EnvelopeType(short(&envelope.payload_type)));
    }
    let statement: Statement<'_> =
        strict_json::parse(envelope.payload.as_bytes()).map_err(SignatureError::Statement)?;
    if !TYPES.contains(&statement.kind.as_str()) {
        return Err(SignatureError::StatementType(short(&statement.kind)));
    }
    Ok(statement)
}

impl Statement<'_> {
    /// A digest that it is about.
    pub(super) fn first_subject(&self) -> Result<Sha256Hash, SignatureError> {
        let known = self.subject.iter().find_map(|subject| subject.digest.sha256.as_ref());
        known
            .and_then(|hex| Sha256Hash::from_hex(hex).ok())
            .ok_or_else(|| SignatureError::Subject { signed: "of another algorithm".to_owned() })
    }

    /// Requires that the statement says `what` of a digest that is `meant`, and gives that.
    ///
    /// # Errors
    ///
    /// [`SignatureError::Attestation`] or [`SignatureError::Subject`].
    pub fn says<T>(
        &self,
        what: &str,
        meant: impl Fn(&Digest) -> Option<T>,
    ) -> Result<T, SignatureError> {
        if self.predicate_type != what {
            return Err(SignatureError::Attestation(short(&self.predicate_type)));
        }
        // Cosign writes SHA-256 subjects only, so none of them names an image of another algorithm.
        let digests = self.subject.iter().filter_map(|subject| subject.digest.sha256.as_ref());
        let mut digests = digests.filter_map(|hex| format!("sha256:{hex}").parse().ok());
        if let Some(found) = digests.find_map(|digest| meant(&digest)) {
            return Ok(found);
        }
        let signed: Vec<String> = self
            .subject
            .iter()
            .take(3)
            .map(|subject| match &subject.digest.sha256 {
                Some(hex) => format!("sha256:{}", short(hex)),
                None => "of another algorithm".to_owned(),
            })
            .collect();
        Err(SignatureError::Subject { signed: signed.join(", ") })
    }
}

/// The beginning of a text that a stranger wrote.
fn short(text: &str) -> String {
    text.chars().take(100).collect()
}
