//! `sigstoreAttested`: somebody who is trusted for it says something of the image, and it is what
//! the policy wants to hear.
//!
//! All conditions must hold of one attestation: what two signed statements say in halves, nobody
//! said. An attestation is never a signature, and a signature never an attestation; both are
//! statements of the same form, and the predicate type tells them apart.

mod conditions;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod pointer;
mod sbom;
mod slsa;
mod source;
mod vex;

use std::time::SystemTime;

use serde_json::value::RawValue;

use crate::policy::Evidence;
use crate::policy::Outcome;
use crate::policy::attested::conditions::Conditions;
use crate::policy::attested::conditions::Together;
use crate::policy::cause::Cause;
use crate::policy::cause::Reason;
use crate::policy::json::Fault;
use crate::policy::json::Part;
use crate::policy::keys::Read;
use crate::policy::proof::Proof;
use crate::policy::reasons;
use crate::policy::signable::Signable;
use crate::policy::signer::Named;
use crate::policy::signer::Ready;
use crate::policy::signer::Signers;
use crate::signature::bundle::Bundle;
use crate::signature::statement;

/// Who must say what of an image.
#[derive(Debug)]
pub(crate) struct SigstoreAttested {
    signers: Signers,
    predicate_type: String,
    conditions: Conditions,
}

/// An attestation of the right type about the image, by an accepted signer.
struct Proven {
    bundle: Bundle,
    proof: Proof,
}

impl SigstoreAttested {
    /// Reads the requirement, and the key files that it names.
    pub(crate) fn parse(part: &Part<'_>, read: Read<'_>) -> Result<Self, Fault> {
        let mut members = part.members()?;
        members.kind()?;
        let predicate_type: Option<String> = members.take("predicateType")?;
        let conditions = members.part("conditions");
        let signers = Named::take(&mut members)?;
        members.end()?;
        let predicate_type = predicate_type.unwrap_or_default();
        if predicate_type == statement::SIGN {
            let fault = "predicateType is that of a signature, for which there is sigstoreSigned";
            return Err(part.fault(fault));
        }
        if !predicate_type.contains("://") {
            let fault = "predicateType must be specified as the whole URI, such as \
                         https://slsa.dev/provenance/v1";
            return Err(part.fault(fault));
        }
        let conditions = match conditions {
            Some(part) => Conditions::parse(&part, &predicate_type)?,
            None => Conditions::default(),
        };
        Ok(Self { signers: signers.load(part, read)?, predicate_type, conditions })
    }

    /// The predicate type for which attestations must be looked for.
    pub(crate) fn wanted(&self) -> &str {
        &self.predicate_type
    }

    /// Why it refuses every image, if it does.
    pub(crate) fn fault(&self) -> Option<String> {
        self.signers.fault()
    }

    /// Judges the evidence.
    pub(crate) fn judge(
        &self,
        subject: &Signable<'_>,
        evidence: &Evidence,
        now: SystemTime,
    ) -> Outcome {
        let signers = match self.signers.ready(now) {
            Ok(signers) => signers,
            Err(reason) => return Outcome::Rejected(reason),
        };
        let mut found = Found::default();
        self.prove(&signers, subject, evidence, &mut found);
        match self.first(subject, &mut found) {
            Some(proof) => Outcome::accepted(proof),
            None => Outcome::Rejected(found.summary(&self.predicate_type, &signers)),
        }
    }

    /// Sorts out what is of this type, about this image and by an accepted signer.
    fn prove(
        &self,
        signers: &Ready<'_>,
        subject: &Signable<'_>,
        evidence: &Evidence,
        found: &mut Found,
    ) {
        let unreadable = evidence.bundles.iter().take(Evidence::LIMIT).filter_map(|bytes| {
            let parsed = Bundle::parse(bytes);
            parsed.and_then(|bundle| bundle.statement().map(drop)).err()
        });
        found.reasons.extend(unreadable.map(|error| reasons::of(&error, signers)));
        for attestation in evidence.attestations.iter().take(Evidence::LIMIT) {
            let bundle = match attestation.bundle() {
                Ok(bundle) => bundle,
                Err(error) => {
                    found.reasons.push(reasons::of(&error, signers));
                    continue;
                }
            };
            match bundle.claimed_predicate() {
                Some(other) if other != self.predicate_type => found.others.push(other),
                _ => match signers.attestation(&bundle, &self.predicate_type, subject) {
                    Ok(proof) => found.proven.push(Proven { bundle, proof }),
                    Err(error) => found.reasons.push(reasons::of(&error, signers)),
                },
            }
        }
    }

    /// The first proven attestation that says what is wanted, if no other one contradicts it.
    fn first(&self, subject: &Signable<'_>, found: &mut Found) -> Option<Proof> {
        let mut together = Together::default();
        for proven in &found.proven {
            let heard = proven
                .predicate()
                .and_then(|predicate| self.conditions.hear(&mut together, predicate, subject));
            // Whoever is trusted said something that cannot be understood: it may be a "no".
            if let Err(reason) = heard {
                found.reasons.push(reason);
                return None;
            }
        }
        let mut fulfilled = Vec::new();
        for (place, proven) in found.proven.iter().enumerate() {
            let alone = proven.predicate().and_then(|predicate| {
                self.conditions.hold_alone(&self.predicate_type, predicate, &together, place)
            });
            match alone {
                Ok(()) => fulfilled.push(&proven.proof),
                Err(reason) => found.reasons.push(reason),
            }
        }
        match self.conditions.hold_together(&together) {
            Ok(()) => fulfilled.first().copied().cloned(),
            Err(reason) => {
                found.reasons.extend(fulfilled.iter().map(|_| reason.clone()));
                None
            }
        }
    }
}

impl Proven {
    fn predicate(&self) -> Result<&RawValue, Reason> {
        let statement = self.bundle.statement();
        let statement =
            statement.map_err(|error| Reason::new(Cause::of(&error), error.to_string()))?;
        let none = || Reason::new(Cause::Malformed, "is without a predicate");
        statement.predicate.ok_or_else(none)
    }
}

/// What was found, and what is wrong with it.
#[derive(Default)]
struct Found {
    proven: Vec<Proven>,
    /// The types of attestations that are not asked for.
    others: Vec<String>,
    reasons: Vec<Reason>,
}

impl Found {
    fn summary(&self, wanted: &str, signers: &Ready<'_>) -> Reason {
        let beside = reasons::beside(&self.others, "of another type", "of other types");
        let none =
            format!("An attestation of type {wanted} was required, but no attestation exists");
        let none = Reason::new(Cause::NoAttestation, none);
        reasons::summary("attestation", &self.reasons, none, &beside, signers)
    }
}
