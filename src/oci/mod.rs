//! The standards' nouns: digests, references, descriptors, manifests, indexes, image configs.
//!
//! A pure room. Everything here is parsed from bytes that a registry, an image or a user wrote, so
//! parsing is strict: what is ambiguous or malformed is an error, never a guess. Documents keep
//! their raw bytes, because a digest speaks of bytes; nothing is ever written back from the
//! parsed form.

pub mod descriptor;
pub mod digest;
pub mod document;
pub mod image_config;
pub mod media_type;
pub mod platform;
pub mod reference;
pub mod scope;
pub mod seccomp_artifact;
pub mod stored_signature;
pub mod strict_json;
