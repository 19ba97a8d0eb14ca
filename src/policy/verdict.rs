//! Allowed or refused, with what every requirement says.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use crate::failure::Classify;
use crate::failure::Kind;
use crate::oci::digest::Digest;
use crate::policy::cause::Reason;
use crate::policy::proof::Proof;
use crate::policy::proof::Signer;
use crate::policy::proof::What;

/// What the policy says of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// The image: reference and the manifest digest that was judged.
    pub image: String,
    /// The digest of the manifest that was judged.
    #[serde(skip)]
    pub manifest: Digest,
    /// The policy file.
    pub policy: PathBuf,
    /// The digest of the policy file.
    pub policy_digest: Digest,
    /// The scope that decided.
    pub scope: String,
    /// What each of the scope's requirements says, in its order.
    pub requirements: Vec<Judged>,
}

/// What one requirement says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Judged {
    /// Its type, such as `sigstoreSigned`.
    pub requirement: &'static str,
    /// Whether it holds, and why.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Whether a requirement holds of an image, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// It holds, because of this.
    Accepted(Box<Proof>),
    /// It does not hold, because of this.
    Rejected(Reason),
}

/// The verdict on an image that may not be used, in the administrator's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal(pub Verdict);

impl Verdict {
    /// Whether the image may be used: every requirement holds, and there is one.
    ///
    /// A policy has no empty list; should there ever be one, silence is not consent.
    #[must_use]
    pub fn allows(&self) -> bool {
        let holds = |judged: &Judged| matches!(judged.outcome, Outcome::Accepted(_));
        !self.requirements.is_empty() && self.requirements.iter().all(holds)
    }

    /// What satisfied the requirements that hold.
    pub fn proofs(&self) -> impl Iterator<Item = &Proof> {
        self.requirements.iter().filter_map(|judged| match &judged.outcome {
            Outcome::Accepted(proof) => Some(proof.as_ref()),
            Outcome::Rejected(_) => None,
        })
    }

    /// What decided, in words: for a refusal what is not met, otherwise what satisfied the policy.
    #[must_use]
    pub fn reasons(&self) -> String {
        let rejected = |judged: &&Judged| matches!(judged.outcome, Outcome::Rejected(_));
        let unmet: Vec<String> =
            self.requirements.iter().filter(rejected).map(ToString::to_string).collect();
        if !unmet.is_empty() {
            return unmet.join("; ");
        }
        self.requirements.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    /// Whether it is the same at any time: it allows the image, and what it follows from are keys,
    /// which have no time, and certificates judged at a time that is proven.
    #[must_use]
    pub fn is_timeless(&self) -> bool {
        let timeless = |proof: &Proof| {
            proof.remarks.is_empty()
                && match &proof.signer {
                    None => proof.what == What::Nothing,
                    Some(Signer::Key { .. }) => true,
                    Some(Signer::Certificate(_)) => !proof.times.is_empty(),
                    Some(Signer::OpenPgp { .. }) => false,
                }
        };
        self.allows() && self.proofs().all(timeless)
    }

    /// The verdict if it allows the image.
    ///
    /// # Errors
    ///
    /// [`Refusal`] if it does not.
    pub fn allowed(self) -> Result<Self, Refusal> {
        if self.allows() { Ok(self) } else { Err(Refusal(self)) }
    }
}

impl Outcome {
    /// It holds.
    pub(crate) fn accepted(proof: Proof) -> Self {
        Self::Accepted(Box::new(proof))
    }
}

impl fmt::Display for Judged {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: ", self.requirement)?;
        match &self.outcome {
            Outcome::Accepted(proof) => proof.fmt(out),
            Outcome::Rejected(reason) => reason.fmt(out),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.allows() { "allowed" } else { "refused" };
        let Self { image, policy, scope, .. } = self;
        write!(out, "{image} is {word} by {} (scope {scope}): ", policy.display())?;
        out.write_str(&self.reasons())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl std::error::Error for Refusal {}

impl Classify for Refusal {
    fn kind(&self) -> Kind {
        Kind::Refused
    }
}
