//! `sigstoreSigned`: one of the signatures found must be true, for this digest, under an accepted
//! name, by one of the keys.
//!
//! One good signature is enough: anyone who may push to a repository can put bad ones beside it.
//! If none is good, the refusal says of each what is wrong with it.

use std::time::SystemTime;

use crate::oci::reference::Reference;
use crate::policy::Attestation;
use crate::policy::Evidence;
use crate::policy::Outcome;
use crate::policy::cause::Cause;
use crate::policy::cause::Reason;
use crate::policy::identity;
use crate::policy::identity::Identity;
use crate::policy::json::Fault;
use crate::policy::json::Part;
use crate::policy::keys::Read;
use crate::policy::proof::Proof;
use crate::policy::reasons;
use crate::policy::signable::Signable;
use crate::policy::signer::Named;
use crate::policy::signer::Ready;
use crate::policy::signer::Signers;
use crate::signature::SignatureError;
use crate::signature::bundle::Bundle;
use crate::signature::sigstore::SimpleSigning;
use crate::signature::statement;

/// The line that makes bundles acceptable.
const MATCH_DIGEST: &str = r#""signedIdentity": {"type": "matchSubjectDigest"}"#;
/// The line that accepts what cosign writes: a repository without a tag.
const MATCH_REPOSITORY: &str = r#""signedIdentity": {"type": "matchRepository"}"#;

/// By whom, where logged, and under which name an image must be signed.
#[derive(Debug)]
pub(crate) struct SigstoreSigned {
    signers: Signers,
    identity: Identity,
}

/// A requirement with its keys at hand, and what it judges.
struct Judge<'a> {
    signers: Ready<'a>,
    identity: &'a Identity,
    subject: &'a Signable<'a>,
}

impl SigstoreSigned {
    /// Reads the requirement, and the key files that it names.
    pub(crate) fn parse(part: &Part<'_>, read: Read<'_>) -> Result<Self, Fault> {
        let mut members = part.members()?;
        members.kind()?;
        let named = Named::take(&mut members)?;
        let identity = identity::take(&mut members)?;
        members.end()?;
        Ok(Self { signers: named.load(part, read)?, identity })
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
        match self.signers.ready(now) {
            Ok(signers) => Judge { signers, identity: &self.identity, subject }.all(evidence),
            Err(reason) => Outcome::Rejected(reason),
        }
    }
}

impl Judge<'_> {
    fn all(&self, evidence: &Evidence) -> Outcome {
        let mut reasons = Vec::new();
        let mut attestations = Vec::new();
        for signature in evidence.signatures.iter().take(Evidence::LIMIT) {
            match self.signature(signature) {
                Ok(proof) => return Outcome::accepted(proof),
                Err(reason) => reasons.push(reason),
            }
        }
        for bytes in evidence.bundles.iter().take(Evidence::LIMIT) {
            let bundle = match Bundle::parse(bytes) {
                Ok(bundle) => bundle,
                Err(error) => {
                    reasons.push(self.reason(&error));
                    continue;
                }
            };
            match bundle.claimed_predicate() {
                Some(other) if other != statement::SIGN => attestations.push(other),
                _ => match self.bundle(&bundle) {
                    Ok(proof) => return Outcome::accepted(proof),
                    Err(reason) => reasons.push(reason),
                },
            }
        }
        attestations.extend(evidence.attestations.iter().filter_map(Attestation::claimed_type));
        Outcome::Rejected(self.summary(&reasons, &attestations))
    }

    fn signature(&self, signature: &SimpleSigning) -> Result<Proof, Reason> {
        let (payload, proof) =
            self.signers.signature(signature).map_err(|error| self.reason(&error))?;
        let Some(signed) = self.subject.find(&payload.digest) else {
            let signed = payload.digest.to_string();
            return Err(self.reason(&SignatureError::Subject { signed }));
        };
        if !self.identity.accepts(self.subject.reference, &payload.docker_reference) {
            let words = self.other_name(&payload.docker_reference);
            return Err(Reason::new(Cause::OtherName, words));
        }
        Ok(Proof { signed: Some(signed), ..proof })
    }

    fn bundle(&self, bundle: &Bundle) -> Result<Proof, Reason> {
        let proof =
            self.signers.bundle(bundle, self.subject).map_err(|error| self.reason(&error))?;
        if *self.identity != Identity::MatchSubjectDigest {
            let words = format!(
                "is a sigstore bundle, which names no repository, so {} cannot accept it; \
                 to accept it, write {MATCH_DIGEST}",
                self.identity.name()
            );
            return Err(Reason::new(Cause::OtherName, words));
        }
        Ok(proof)
    }

    fn reason(&self, error: &SignatureError) -> Reason {
        reasons::of(error, &self.signers)
    }

    /// The signature is true, and made under a name that is not accepted.
    fn other_name(&self, signed: &str) -> String {
        let intended = self.subject.reference.repository();
        let shown = reasons::short(signed);
        let by = self.identity.name();
        let refused = format!("Signature for identity {shown:?} is not accepted by {by}");
        let name = Reference::parse_normalized(signed).ok();
        let same = name.filter(|name| name.repository() == intended);
        let Some(name) = same else {
            return format!("is for another repository: {refused}");
        };
        let exact =
            matches!(self.identity, Identity::MatchExact | Identity::MatchRepoDigestOrExact);
        if exact && name.tag().is_none() && name.digest().is_none() {
            return format!(
                "is for no tag, as cosign writes it: {refused}; to accept it, write \
                 {MATCH_REPOSITORY}"
            );
        }
        format!("is for another tag: {refused}")
    }

    fn summary(&self, found: &[Reason], attestations: &[String]) -> Reason {
        let beside = reasons::beside(attestations, "no signature", "no signatures");
        reasons::summary("signature", found, reasons::unsigned(), &beside, &self.signers)
    }
}
