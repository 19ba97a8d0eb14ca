//! The closed list of requirements. Each kind is read and judged in a file of its own.

use std::time::SystemTime;

use serde::Deserialize;

use crate::policy::Evidence;
use crate::policy::Needs;
use crate::policy::Outcome;
use crate::policy::accept;
use crate::policy::attested::SigstoreAttested;
use crate::policy::json::Fault;
use crate::policy::json::Part;
use crate::policy::keys::Read;
use crate::policy::signable::Signable;
use crate::policy::signed_base_layer;
use crate::policy::signed_by::SignedBy;
use crate::policy::sigstore_signed::SigstoreSigned;

/// What must hold of an image.
#[derive(Debug)]
pub(crate) enum Requirement {
    /// Nothing.
    AcceptAnything,
    /// What never holds.
    Reject,
    /// An OpenPGP signature.
    SignedBy(SignedBy),
    /// A signed base image; not built in the reference either.
    SignedBaseLayer,
    /// A sigstore signature.
    SigstoreSigned(Box<SigstoreSigned>),
    /// A sigstore attestation. Ours: no other parser of the language has it.
    SigstoreAttested(Box<SigstoreAttested>),
}

#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type")]
    kind: String,
}

impl Requirement {
    /// Reads one requirement, and the key files that it names.
    pub(crate) fn parse(part: &Part<'_>, read: Read<'_>) -> Result<Self, Fault> {
        let Kind { kind } = part.object()?;
        match kind.as_str() {
            "insecureAcceptAnything" => accept::parse(part).map(|()| Self::AcceptAnything),
            "reject" => accept::parse(part).map(|()| Self::Reject),
            "signedBy" => SignedBy::parse(part, read).map(Self::SignedBy),
            "signedBaseLayer" => signed_base_layer::parse(part).map(|()| Self::SignedBaseLayer),
            "sigstoreSigned" => {
                SigstoreSigned::parse(part, read).map(|found| Self::SigstoreSigned(Box::new(found)))
            }
            "sigstoreAttested" => SigstoreAttested::parse(part, read)
                .map(|found| Self::SigstoreAttested(Box::new(found))),
            _ => Err(part.fault(format!("unknown policy requirement type {kind:?}"))),
        }
    }

    /// The word for it in the policy file.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::AcceptAnything => "insecureAcceptAnything",
            Self::Reject => "reject",
            Self::SignedBy(_) => "signedBy",
            Self::SignedBaseLayer => "signedBaseLayer",
            Self::SigstoreSigned(_) => "sigstoreSigned",
            Self::SigstoreAttested(_) => "sigstoreAttested",
        }
    }

    /// Adds what it may depend on.
    pub(crate) fn needs(&self, needs: &mut Needs) {
        match self {
            Self::AcceptAnything | Self::Reject | Self::SignedBaseLayer => {}
            Self::SignedBy(signed) => needs.openpgp |= signed.needs_evidence(),
            Self::SigstoreSigned(_) => needs.signatures = true,
            Self::SigstoreAttested(attested) => {
                needs.attestations.insert(attested.wanted().to_owned());
            }
        }
    }

    /// Why it refuses every image, if it does without meaning to.
    pub(crate) fn fault(&self) -> Option<String> {
        match self {
            Self::AcceptAnything | Self::Reject | Self::SignedBaseLayer => None,
            Self::SignedBy(signed) => signed.fault(),
            Self::SigstoreSigned(signed) => signed.fault(),
            Self::SigstoreAttested(attested) => attested.fault(),
        }
    }

    /// What it says of an image.
    pub(crate) fn judge(
        &self,
        subject: &Signable<'_>,
        evidence: &Evidence,
        now: SystemTime,
    ) -> Outcome {
        match self {
            Self::AcceptAnything => accept::anything(),
            Self::Reject => accept::reject(subject),
            Self::SignedBy(signed) => signed.judge(subject, evidence, now),
            Self::SignedBaseLayer => signed_base_layer::judge(),
            Self::SigstoreSigned(signed) => signed.judge(subject, evidence, now),
            Self::SigstoreAttested(attested) => attested.judge(subject, evidence, now),
        }
    }
}
