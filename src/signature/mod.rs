//! Says whether a signature is true: formats and mathematics, and nothing else.
//!
//! A pure room. It is given keys and bytes, and answers what a signature says once it is proven
//! to be by one of the keys. Whether that key is trusted for an image, and whether what is signed
//! is what was asked for, is the policy's business.
//!
//! All bytes here come from a registry: everything is parsed strictly, and nothing that a
//! signature says is returned before its mathematics hold.

pub mod attachment;
pub mod bundle;
pub mod certificate;
mod ed25519;
pub mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod key;
pub mod keyless;
pub mod openpgp;
pub mod pki;
pub mod sigstore;
pub mod simple_signing;
pub mod standalone;
pub mod statement;
pub mod transparency;
pub mod trust;
mod weight;

pub use error::SignatureError;

#[cfg(test)]
mod tests;

#[cfg(test)]
#[path = "../../tests/support/keys.rs"]
pub(crate) mod keys;

#[cfg(test)]
#[path = "../../tests/support/gpg.rs"]
pub(crate) mod gpg;

#[cfg(test)]
#[path = "../../tests/support/keyless.rs"]
pub(crate) mod fulcio;
