//! Sigstore bundles, as cosign v3 makes them: a DSSE envelope, and what verifies it.
//!
//! A bundle names the digest that is signed and no repository. A key-signed bundle carries no key,
//! only a hint, which is not looked at.

use sigstore_verify::types::Bundle as Parsed;
use sigstore_verify::types::DsseEnvelope;
use sigstore_verify::types::SignatureContent;
use sigstore_verify::types::bundle::VerificationMaterialContent;

use crate::oci::digest::Digest;
use crate::oci::strict_json;
use crate::signature::SignatureError;
use crate::signature::certificate;
use crate::signature::key::PublicKey;
use crate::signature::statement;
use crate::signature::statement::Statement;
use crate::signature::transparency;
use crate::signature::transparency::Logged;
use crate::signature::trust::Trust;
use crate::signature::weight;

/// A bundle as found: nothing in it is proven.
#[derive(Debug)]
pub struct Bundle {
    pub(super) parsed: Parsed,
}

/// What a true bundle says.
#[derive(Debug)]
pub struct Proven {
    /// Which of the keys signed it.
    pub key: usize,
    /// Where it is in the log, if that was asked for.
    pub logged: Logged,
}

impl Bundle {
    /// Reads a bundle of version 0.1, 0.2 or 0.3.
    ///
    /// # Errors
    ///
    /// [`SignatureError::Bundle`] when it is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, SignatureError> {
        let parsed = strict_json::parse(bytes).map_err(SignatureError::Bundle)?;
        Ok(Self { parsed })
    }

    /// The predicate type that the bundle claims, unproven: good for sorting only.
    #[must_use]
    pub fn claimed_predicate(&self) -> Option<String> {
        Some(self.statement().ok()?.predicate_type)
    }

    /// What the bundle says, unproven as long as [`Bundle::verify`] did not hold.
    ///
    /// # Errors
    ///
    /// [`SignatureError`] when there is no statement in it.
    pub fn statement(&self) -> Result<Statement<'_>, SignatureError> {
        statement::parse(self.envelope()?)
    }

    /// Proves the bundle with one of `keys`; and, if `logs` are given, that one of these logs has
    /// seen this very signature. What its statement says is for the caller to judge.
    ///
    /// # Errors
    ///
    /// [`SignatureError`] says what does not hold.
    pub fn verify(
        &self,
        keys: &[PublicKey],
        logs: Option<&Trust>,
    ) -> Result<Proven, SignatureError> {
        let envelope = self.envelope()?;
        if !matches!(
            self.parsed.verification_material.content,
            VerificationMaterialContent::PublicKey(_)
        ) {
            return Err(SignatureError::Certificate);
        }
        let signed = envelope.pae();
        let (index, key) = keys
            .iter()
            .enumerate()
            .find(|(_, key)| key.verifies(&signed, envelope.signature.sig.as_bytes()))
            .ok_or(SignatureError::NotByAnyKey)?;
        let mut logged = Logged::default();
        if let Some(trust) = logs {
            let subject = self.statement()?.first_subject()?;
            weight::bound(envelope.payload.as_bytes())?;
            logged = transparency::verify_bundle(&self.parsed, trust, key, subject)
                .map_err(SignatureError::Log)?;
        }
        Ok(Proven { key: index, logged })
    }

    /// Requires that the statement, which the caller has proven, says `what`, a predicate type, of a
    /// digest that is `meant`, and gives that.
    ///
    /// # Errors
    ///
    /// [`SignatureError`] says what it is instead.
    pub fn says<T>(
        &self,
        what: &str,
        meant: impl Fn(&Digest) -> Option<T>,
    ) -> Result<T, SignatureError> {
        self.statement()?.says(what, meant)
    }

    /// The certificates that it carries, the signer's first; none if it is by a key.
    pub(super) fn certificates(&self) -> Vec<Vec<u8>> {
        match &self.parsed.verification_material.content {
            VerificationMaterialContent::Certificate(one) => {
                vec![one.raw_bytes.as_bytes().to_vec()]
            }
            VerificationMaterialContent::X509CertificateChain { certificates } => certificates
                .iter()
                .take(certificate::LONGEST_CHAIN)
                .map(|one| one.raw_bytes.as_bytes().to_vec())
                .collect(),
            _ => Vec::new(),
        }
    }

    pub(super) fn envelope(&self) -> Result<&DsseEnvelope, SignatureError> {
        match &self.parsed.content {
            SignatureContent::DsseEnvelope(envelope) => Ok(envelope),
            _ => Err(SignatureError::MessageSignature),
        }
    }
}
