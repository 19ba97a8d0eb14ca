//! Public keys, and what they accept.
//!
//! ECDSA P-256, P-384 and P-521, RSA of 2048 bits or more, Ed25519: the keys that cosign makes or
//! imports. One key stands for one or two signing schemes, those that cosign and containers/image use
//! with it.
//!
//! `sigstore-verify` does not know P-521, nor Ed25519ph. Such signatures are verified here; what it alone
//! can prove, a bundle's place in a log and Fulcio's certificates, is refused for them.

use aws_lc_rs::signature::ECDSA_P521_SHA256_ASN1;
use aws_lc_rs::signature::ECDSA_P521_SHA512_ASN1;
use aws_lc_rs::signature::EcdsaVerificationAlgorithm;
use aws_lc_rs::signature::ParsedPublicKey;
use aws_lc_rs::signature::UnparsedPublicKey;
use sigstore_verify::crypto;
use sigstore_verify::crypto::KeyAlgorithm;
use sigstore_verify::crypto::SigningScheme;
use sigstore_verify::crypto::VerificationKey;
use sigstore_verify::types::DerPublicKey;
use sigstore_verify::types::SignatureBytes;
use x509_cert::der::Decode as _;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::spki::SubjectPublicKeyInfoRef;

use crate::signature::ed25519;

/// An elliptic curve's key, and the curve.
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P521: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");
/// The length of a point of P-521, uncompressed.
const P521_POINT: usize = 133;
/// Cosign signs by the size of the curve, containers/image with SHA-256.
const P521_SCHEMES: [&EcdsaVerificationAlgorithm; 2] =
    [&ECDSA_P521_SHA512_ASN1, &ECDSA_P521_SHA256_ASN1];

/// A public key that is fit to verify with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    der: DerPublicKey,
    form: Form,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    /// One that `sigstore-verify` knows.
    Known(KeyAlgorithm),
    /// A point of P-521.
    P521(Vec<u8>),
}

/// Why bytes are no key to verify with.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Not text, so not PEM.
    #[error("not a PEM file")]
    NotText(#[source] std::str::Utf8Error),
    /// No PEM block `PUBLIC KEY`.
    #[error("not a PEM file with a public key")]
    Pem(#[source] sigstore_verify::types::Error),
    /// The block is no key, or of a kind that is not known.
    #[error("not a usable public key")]
    Key(#[source] crypto::Error),
    /// No point of the curve.
    #[error("not a point of the curve P-521")]
    Point,
    /// Anybody could sign for it.
    #[error("not a usable point of the curve of Ed25519")]
    Weak,
    /// A curve that `sigstore-verify` does not know.
    #[error(
        "ECDSA keys on the curve P-521 are not supported for logs and certificates of Fulcio; use \
         P-256 or P-384"
    )]
    P521,
    /// A kind of key that containers-policy.json does not know.
    #[error("{0:?} keys are not supported; use ECDSA P-256 or P-384, RSA or Ed25519")]
    Algorithm(KeyAlgorithm),
}

impl PublicKey {
    /// Reads the first PEM block of a file, which must be a `PUBLIC KEY`.
    ///
    /// # Errors
    ///
    /// [`KeyError`] when it is none, or one that is too weak or not supported.
    pub fn from_pem(bytes: &[u8]) -> Result<Self, KeyError> {
        let text = std::str::from_utf8(bytes).map_err(KeyError::NotText)?;
        Self::new(DerPublicKey::from_pem(text).map_err(KeyError::Pem)?)
    }

    /// Reads a `SubjectPublicKeyInfo` in DER.
    ///
    /// # Errors
    ///
    /// [`KeyError`] when it is none, or one that is too weak or not supported.
    pub fn from_der(der: Vec<u8>) -> Result<Self, KeyError> {
        Self::new(DerPublicKey::new(der))
    }

    fn new(der: DerPublicKey) -> Result<Self, KeyError> {
        if let Some(form) = p521(&der)? {
            return Ok(Self { der, form });
        }
        let algorithm = KeyAlgorithm::from_spki(&der).map_err(KeyError::Key)?;
        let Some(scheme) = schemes(algorithm).first() else {
            return Err(KeyError::Algorithm(algorithm));
        };
        let key = VerificationKey::from_spki_with_scheme(&der, *scheme).map_err(KeyError::Key)?;
        crypto::validate_raw_public_key(*scheme, key.as_bytes()).map_err(KeyError::Key)?;
        if algorithm == KeyAlgorithm::Ed25519 && ed25519::is_weak(&der) {
            return Err(KeyError::Weak);
        }
        Ok(Self { der, form: Form::Known(algorithm) })
    }

    /// Whether the owner of this key signed `message`.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.form {
            Form::Known(algorithm) => {
                let signature = SignatureBytes::from_bytes(signature);
                let plain = schemes(*algorithm).iter().any(|scheme| {
                    crypto::verify_signature(&self.der, message, &signature, *scheme).is_ok()
                });
                plain
                    || (*algorithm == KeyAlgorithm::Ed25519
                        && ed25519::verifies_prehashed(&self.der, message, signature.as_bytes()))
            }
            Form::P521(point) => P521_SCHEMES.into_iter().any(|scheme| {
                UnparsedPublicKey::new(scheme, point).verify(message, signature).is_ok()
            }),
        }
    }

    /// The key, for what `sigstore-verify` is to prove with it.
    ///
    /// # Errors
    ///
    /// [`KeyError::P521`], which it does not know.
    pub fn known(&self) -> Result<&Self, KeyError> {
        match self.form {
            Form::Known(_) => Ok(self),
            Form::P521(_) => Err(KeyError::P521),
        }
    }

    /// Whether it is an ECDSA key, as the logs that the reference knows have, on a curve that can be
    /// a log's here.
    #[must_use]
    pub fn is_ecdsa(&self) -> bool {
        matches!(self.form, Form::Known(KeyAlgorithm::EcdsaP256 | KeyAlgorithm::EcdsaP384))
    }

    /// The `SubjectPublicKeyInfo`, in DER.
    #[must_use]
    pub fn spki(&self) -> &DerPublicKey {
        &self.der
    }
}

/// The point, if it is a key on P-521.
fn p521(der: &DerPublicKey) -> Result<Option<Form>, KeyError> {
    let Ok(parsed) = SubjectPublicKeyInfoRef::from_der(der.as_bytes()) else { return Ok(None) };
    if !parsed.algorithm.oids().is_ok_and(|oids| oids == (EC, Some(P521))) {
        return Ok(None);
    }
    let point = parsed.subject_public_key.as_bytes().unwrap_or_default();
    let whole = point.len() == P521_POINT
        && P521_SCHEMES.iter().all(|scheme| ParsedPublicKey::new(*scheme, point).is_ok());
    if whole { Ok(Some(Form::P521(point.to_vec()))) } else { Err(KeyError::Point) }
}

/// What cosign signs with under such a key.
///
/// For P-384 there are two: containers/image signs with SHA-256, cosign by the size of the curve.
fn schemes(algorithm: KeyAlgorithm) -> &'static [SigningScheme] {
    match algorithm {
        KeyAlgorithm::EcdsaP256 => &[SigningScheme::EcdsaP256Sha256],
        KeyAlgorithm::EcdsaP384 => {
            &[SigningScheme::EcdsaP384Sha256, SigningScheme::EcdsaP384Sha384]
        }
        KeyAlgorithm::Ed25519 => &[SigningScheme::Ed25519],
        KeyAlgorithm::Rsa => &[SigningScheme::RsaPkcs1Sha256],
        _ => &[],
    }
}
