//! Allowed or refused, with what every requirement says.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use crate::failure::Classify;
use crate::failure::Kind;
use crate::oci::digest::Digest;
use crate::policy::proof::Proof;

/// What the policy says of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// The image: reference and the manifest digest that was judged.
    pub image: String,
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
    Rejected(String),
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

    /// The refusal for what the language has and this program has not.
    pub(crate) fn not_built(what: &str) -> Self {
        Self::Rejected(format!("{what} not supported by this version yet"))
    }
}

impl fmt::Display for Judged {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: ", self.requirement)?;
        match &self.outcome {
            Outcome::Accepted(proof) => proof.fmt(out),
            Outcome::Rejected(reason) => out.write_str(reason),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict { image, policy, scope, requirements, policy_digest: _ } = &self.0;
        write!(out, "{image} is refused by {} (scope {scope}): ", policy.display())?;
        let unmet = requirements.iter().filter(|of| matches!(of.outcome, Outcome::Rejected(_)));
        for (position, unmet) in unmet.enumerate() {
            write!(out, "{}{unmet}", if position > 0 { "; " } else { "" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

impl Classify for Refusal {
    fn kind(&self) -> Kind {
        Kind::Refused
    }
}
