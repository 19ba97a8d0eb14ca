//! In-toto statements: what a DSSE envelope claims, about which digests.
//!
//! Signatures and attestations have the same form, and differ in one word: the predicate type. A
//! key that signs SBOMs must not by that sign images, so the word is always looked at.

use sigstore_verify::types::DsseEnvelope;
use sigstore_verify::types::Sha256Hash;
use sigstore_verify::types::Statement;

use crate::oci::digest::Algorithm;
use crate::oci::digest::Digest;
use crate::oci::strict_json;
use crate::signature::SignatureError;

/// The predicate type that means "this image is signed".
pub const SIGN: &str = "https://sigstore.dev/cosign/sign/v1";
/// The payload type of an envelope around a statement.
const IN_TOTO: &str = "application/vnd.in-toto+json";
/// The types of statements; attestations are still made in the older one.
const TYPES: [&str; 2] = ["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"];

/// Reads the statement in an envelope.
///
/// # Errors
///
/// [`SignatureError`] when there is none in it, or an ambiguous one.
pub fn parse(envelope: &DsseEnvelope) -> Result<Statement, SignatureError> {
    if envelope.payload_type != IN_TOTO {
        return Err(SignatureError::EnvelopeType(short(&envelope.payload_type)));
    }
    let statement: Statement =
        strict_json::parse(envelope.payload.as_bytes()).map_err(SignatureError::Statement)?;
    if !TYPES.contains(&statement.type_.as_str()) {
        return Err(SignatureError::StatementType(short(&statement.type_)));
    }
    Ok(statement)
}

/// Requires that a statement says "this image is signed" of `digest`.
///
/// # Errors
///
/// [`SignatureError::Attestation`] or [`SignatureError::Subject`].
pub fn signs(statement: &Statement, digest: &Digest) -> Result<(), SignatureError> {
    if statement.predicate_type != SIGN {
        return Err(SignatureError::Attestation(short(&statement.predicate_type)));
    }
    let same = match digest.algorithm() {
        Algorithm::Sha256 => {
            Sha256Hash::from_hex(digest.hex()).is_ok_and(|hash| statement.matches_sha256(&hash))
        }
        // Cosign writes SHA-256 subjects only, so none of them names such an image.
        Algorithm::Sha512 => false,
    };
    if same {
        return Ok(());
    }
    let signed: Vec<String> = statement
        .subject
        .iter()
        .take(3)
        .map(|subject| match &subject.digest.sha256 {
            Some(hash) => format!("sha256:{}", hash.to_hex()),
            None => "of another algorithm".to_owned(),
        })
        .collect();
    Err(SignatureError::Subject { signed: signed.join(", ") })
}

/// The beginning of a text that a stranger wrote.
fn short(text: &str) -> String {
    text.chars().take(100).collect()
}
