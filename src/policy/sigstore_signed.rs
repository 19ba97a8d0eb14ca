//! `sigstoreSigned`: one of the signatures found must be true, for this digest, under an accepted
//! name, by one of the keys.
//!
//! One good signature is enough: anyone who may push to a repository can put bad ones beside it.
//! If none is good, the refusal says of each what is wrong with it.

use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use crate::oci::reference::Reference;
use crate::policy::Evidence;
use crate::policy::Subject;
use crate::policy::identity::Identity;
use crate::policy::keys::Keys;
use crate::policy::requirement::Outcome;
use crate::policy::requirement::Signer;
use crate::policy::requirement::SigstoreSigned;
use crate::signature::SignatureError;
use crate::signature::bundle::Bundle;
use crate::signature::key::PublicKey;
use crate::signature::sigstore::SimpleSigning;
use crate::signature::statement;
use crate::signature::transparency::LogEntry;

/// What users and their tools look for when an image is not signed at all.
const NONE: &str = "A signature was required, but no signature exists";
/// The line that makes bundles acceptable.
const MATCH_DIGEST: &str = r#""signedIdentity": {"type": "matchSubjectDigest"}"#;
/// The line that accepts what cosign writes: a repository without a tag.
const MATCH_REPOSITORY: &str = r#""signedIdentity": {"type": "matchRepository"}"#;

/// A requirement with its keys at hand.
struct Judge<'a> {
    signers: &'a Keys,
    keys: &'a [PublicKey],
    logs: &'a [PublicKey],
    identity: &'a Identity,
    subject: &'a Subject<'a>,
    now: SystemTime,
}

/// Judges the evidence by the requirement.
pub(crate) fn judge(
    requirement: &SigstoreSigned,
    subject: &Subject<'_>,
    evidence: &Evidence,
    now: SystemTime,
) -> Outcome {
    let signers = match &requirement.signer {
        Signer::Keys(keys) => keys,
        Signer::Fulcio => return Outcome::not_built("keyless signatures (fulcio) are"),
        Signer::Pki => return Outcome::not_built("signatures with certificates (pki) are"),
    };
    let logs = requirement.logs.as_ref().map_or(Ok(&[] as &[PublicKey]), Keys::usable);
    let (keys, logs) = match (signers.usable(), logs) {
        (Ok(keys), Ok(logs)) => (keys, logs),
        (Err(fault), _) | (_, Err(fault)) => return Outcome::Rejected(fault.to_owned()),
    };
    let identity = &requirement.identity;
    Judge { signers, keys, logs, identity, subject, now }.all(evidence)
}

impl Judge<'_> {
    fn all(&self, evidence: &Evidence) -> Outcome {
        let mut reasons = Vec::new();
        let mut attestations = Vec::new();
        for signature in evidence.signatures.iter().take(Evidence::LIMIT) {
            match self.signature(signature) {
                Ok(because) => return Outcome::Accepted(because),
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
                    Ok(because) => return Outcome::Accepted(because),
                    Err(reason) => reasons.push(reason),
                },
            }
        }
        Outcome::Rejected(self.summary(&reasons, &attestations))
    }

    fn signature(&self, signature: &SimpleSigning) -> Result<String, String> {
        let proven = signature.verify(self.keys, self.logs).map_err(|error| self.reason(&error))?;
        let payload = proven.payload;
        if payload.digest != *self.subject.manifest_digest {
            let signed = payload.digest.to_string();
            return Err(self.reason(&SignatureError::Subject { signed }));
        }
        if !self.identity.accepts(self.subject.reference, &payload.docker_reference) {
            return Err(self.other_name(&payload.docker_reference));
        }
        Ok(self.because("signature", proven.key, proven.entry.as_ref()))
    }

    fn bundle(&self, bundle: &Bundle) -> Result<String, String> {
        let proven = bundle
            .verify(self.keys, self.logs, self.subject.manifest_digest)
            .map_err(|error| self.reason(&error))?;
        if *self.identity != Identity::MatchSubjectDigest {
            return Err(format!(
                "is a sigstore bundle, which names no repository, so {} cannot accept it; \
                 to accept it, write {MATCH_DIGEST}",
                self.identity.name()
            ));
        }
        Ok(self.because("bundle", proven.key, proven.entry.as_ref()))
    }

    /// What satisfied the requirement.
    fn because(&self, what: &str, key: usize, entry: Option<&LogEntry>) -> String {
        let mut text = format!("{what} by the key in {}", self.signers.name(key));
        let Some(entry) = entry else {
            return text;
        };
        text.push_str(&format!(", in the log at index {}", entry.index));
        let now = self.now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if entry.time.and_then(|time| u64::try_from(time).ok()).is_some_and(|time| time > now) {
            text.push_str(" (at a time that is still to come by this node's clock)");
        }
        text
    }

    /// What is wrong with a signature, as the end of a sentence that begins with a number.
    fn reason(&self, error: &SignatureError) -> String {
        match error {
            SignatureError::NotByAnyKey => format!("is not by {}", self.signer()),
            other => other.to_string(),
        }
    }

    fn signer(&self) -> String {
        let mut text = self.signers.one_of();
        if self.keys.iter().any(PublicKey::is_ed25519) {
            text.push_str(
                " (Ed25519ph, in which cosign signs with Ed25519 keys, is not supported)",
            );
        }
        text
    }

    /// The signature is true, and made under a name that is not accepted.
    fn other_name(&self, signed: &str) -> String {
        let intended = self.subject.reference.repository();
        let shown = short(signed);
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

    fn summary(&self, reasons: &[String], attestations: &[String]) -> String {
        let beside = match attestations {
            [] => String::new(),
            [one] => format!(" (1 attestation found, which is no signature: {:?})", short(one)),
            [one, ..] => {
                let count = attestations.len();
                format!(
                    " ({count} attestations found, which are no signatures: {:?}, …)",
                    short(one)
                )
            }
        };
        let not_ours = self.reason(&SignatureError::NotByAnyKey);
        let found = |count: usize| {
            if count == 1 {
                "1 signature found".to_owned()
            } else {
                format!("{count} signatures found")
            }
        };
        match reasons {
            [] => format!("{NONE}{beside}"),
            all if all.iter().all(|reason| *reason == not_ours) => {
                format!("{}, none by {}{beside}", found(all.len()), self.signer())
            }
            [one] => format!("{}, which {one}{beside}", found(1)),
            several => format!("{}: {}{beside}", found(several.len()), counted(several)),
        }
    }
}

/// The different reasons, each with how often it was found, in the order of the signatures.
fn counted(reasons: &[String]) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for reason in reasons {
        match counts.iter_mut().find(|(known, _)| known == reason) {
            Some((_, count)) => *count += 1,
            None => counts.push((reason, 1)),
        }
    }
    let different = counts.len();
    let mut parts: Vec<String> =
        counts.iter().take(6).map(|(reason, count)| number(reason, *count)).collect();
    if different > parts.len() {
        parts.push("and others".to_owned());
    }
    parts.join(", ")
}

fn number(reason: &str, count: usize) -> String {
    match reason.strip_prefix("is ") {
        Some(rest) if count > 1 => format!("{count} are {rest}"),
        _ => format!("{count} {reason}"),
    }
}

/// The beginning of a text that a stranger wrote.
fn short(text: &str) -> String {
    text.chars().take(300).collect()
}
