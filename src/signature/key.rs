//! Public keys, and what they accept.
//!
//! ECDSA P-256 and P-384, RSA of 2048 bits or more, Ed25519: the keys that cosign makes or
//! imports. One key stands for one or two signing schemes, those that cosign uses with it.

use sigstore_verify::crypto;
use sigstore_verify::crypto::KeyAlgorithm;
use sigstore_verify::crypto::SigningScheme;
use sigstore_verify::crypto::VerificationKey;
use sigstore_verify::types::DerPublicKey;
use sigstore_verify::types::SignatureBytes;

/// The DER form of the object identifier of P-521, 1.3.132.0.35.
const P521: [u8; 7] = [0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23];

/// A public key that is fit to verify with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    der: DerPublicKey,
    algorithm: KeyAlgorithm,
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
    /// A curve that no library we trust verifies.
    #[error("ECDSA keys on the curve P-521 are not supported; use P-256, P-384, RSA or Ed25519")]
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
        let head = der.as_bytes().get(..32).unwrap_or_default();
        if head.windows(P521.len()).any(|window| window == P521) {
            return Err(KeyError::P521);
        }
        let algorithm = KeyAlgorithm::from_spki(&der).map_err(KeyError::Key)?;
        let Some(scheme) = schemes(algorithm).first() else {
            return Err(KeyError::Algorithm(algorithm));
        };
        let key = VerificationKey::from_spki_with_scheme(&der, *scheme).map_err(KeyError::Key)?;
        crypto::validate_raw_public_key(*scheme, key.as_bytes()).map_err(KeyError::Key)?;
        Ok(Self { der, algorithm })
    }

    /// Whether the owner of this key signed `message`.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let signature = SignatureBytes::from_bytes(signature);
        schemes(self.algorithm)
            .iter()
            .any(|scheme| crypto::verify_signature(&self.der, message, &signature, *scheme).is_ok())
    }

    /// Whether it is an ECDSA key, as the logs that the reference knows have.
    #[must_use]
    pub fn is_ecdsa(&self) -> bool {
        matches!(self.algorithm, KeyAlgorithm::EcdsaP256 | KeyAlgorithm::EcdsaP384)
    }

    /// Whether it is an Ed25519 key. Cosign 2.5 and later sign with such a key in the prehashed
    /// form (Ed25519ph of RFC 8032), which containers/image and this program do not verify.
    #[must_use]
    pub fn is_ed25519(&self) -> bool {
        self.algorithm == KeyAlgorithm::Ed25519
    }

    /// The `SubjectPublicKeyInfo`, in DER.
    #[must_use]
    pub fn spki(&self) -> &DerPublicKey {
        &self.der
    }
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
