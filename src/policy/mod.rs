//! Judges whether an image may be used on this node.
//!
//! A pure room: it is given the policy, the image and all the evidence, and returns a verdict. It
//! reads no file (a policy's key files are read once, by the caller's function, when the policy is
//! loaded), asks no network and looks at no clock, so any verdict can be replayed in a test from
//! what the log line recorded.
//!
//! The language is containers-policy.json(5), to the letter; `policy/README.md` has it on one page.
//! An image is allowed only if every requirement of the most specific scope accepts it. What is
//! not built yet, cannot be read or is not understood is a refusal that says so.

mod accept;
mod attested;
mod cause;
pub mod claims;
mod document;
mod error;
mod evidence;
mod fulcio;
mod identity;
mod json;
mod keys;
pub mod namespace;
pub mod outline;
mod pki;
pub mod proof;
mod reasons;
mod requirement;
mod signable;
mod signed_base_layer;
mod signed_by;
mod signer;
mod sigstore_signed;
mod verdict;

use std::time::SystemTime;

use crate::oci::digest::Digest;
use crate::oci::reference::Reference;
use crate::policy::requirement::Requirement;
use crate::policy::signable::Signable;

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub use crate::policy::attested::fuzzing;
pub use crate::policy::cause::Cause;
pub use crate::policy::cause::Reason;
pub use crate::policy::document::Policy;
pub use crate::policy::error::Mistakes;
pub use crate::policy::error::PolicyError;
pub use crate::policy::evidence::Attestation;
pub use crate::policy::evidence::Evidence;
pub use crate::policy::evidence::Needs;
pub use crate::policy::verdict::Judged;
pub use crate::policy::verdict::Outcome;
pub use crate::policy::verdict::Refusal;
pub use crate::policy::verdict::Verdict;
pub use crate::signature::attachment::Attachment;
pub use crate::signature::sigstore::SimpleSigning;

/// What is judged: one manifest, under the name that the user asked for.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The reference as the user wrote it, with its host, before any mirror.
    pub reference: &'a Reference,
    /// The digest of the manifest that would run.
    pub manifest_digest: &'a Digest,
}

/// Judges `subject` by `policy` and all the evidence that was found for it.
///
/// `now` is what remarks on signing times are made against, and when OpenPGP's keys and signatures
/// may have expired; sigstore's keys have no time, so no verdict on them depends on it.
#[must_use]
pub fn evaluate(
    policy: &Policy,
    subject: &Subject<'_>,
    evidence: &Evidence,
    now: SystemTime,
) -> Verdict {
    let (scope, requirements) = policy.requirements(subject.reference);
    let signable = Signable::new(subject, evidence);
    let judge = |requirement: &Requirement| Judged {
        requirement: requirement.name(),
        outcome: requirement.judge(&signable, evidence, now),
    };
    Verdict {
        image: format!("{}@{}", nameless(subject.reference), subject.manifest_digest),
        manifest: subject.manifest_digest.clone(),
        policy: policy.path().to_owned(),
        policy_digest: policy.digest().clone(),
        scope,
        requirements: requirements.iter().map(judge).collect(),
    }
}

/// The reference without a digest: the one that counts is put behind it.
fn nameless(reference: &Reference) -> String {
    match reference.tag() {
        Some(tag) if reference.digest().is_none() => format!("{}:{tag}", reference.repository()),
        _ => reference.repository(),
    }
}

#[cfg(test)]
mod tests;
