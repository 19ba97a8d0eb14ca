//! From an answer to its record, its line in the log and its counters.

use std::path::PathBuf;
use std::time::Instant;
use std::time::SystemTime;

use crate::audit::AuditError;
use crate::audit::Mode;
use crate::audit::Outcome;
use crate::audit::Pod;
use crate::audit::Record;
use crate::failure::chain;
use crate::judge::About;
use crate::judge::Inner;
use crate::judge::case::Case;
use crate::policy::Policy;
use crate::policy::Subject;
use crate::policy::Verdict;

/// What came of a question to one policy.
#[derive(Debug)]
pub(super) struct Answer {
    mode: Mode,
    outcome: Outcome,
    cause: &'static str,
    reason: String,
    reference: Option<String>,
    digest: Option<String>,
    policy: Option<(PathBuf, String)>,
    scope: Option<String>,
    signers: Vec<String>,
    signed: Vec<String>,
    log_indexes: Vec<i64>,
}

impl Answer {
    /// There is no verdict.
    pub(super) fn unknown(mode: Mode, cause: &'static str, reason: String) -> Self {
        Self {
            mode,
            outcome: Outcome::Undecided,
            cause,
            reason,
            reference: None,
            digest: None,
            policy: None,
            scope: None,
            signers: Vec::new(),
            signed: Vec::new(),
            log_indexes: Vec::new(),
        }
    }

    /// There is one.
    pub(super) fn known(mode: Mode, subject: &Subject<'_>, verdict: &Verdict) -> Self {
        let outcome = if verdict.allows() { Outcome::Allowed } else { Outcome::Refused };
        let proofs = || verdict.proofs();
        Self {
            outcome,
            policy: Some((verdict.policy.clone(), verdict.policy_digest.to_string())),
            scope: Some(verdict.scope.clone()),
            signers: proofs()
                .filter_map(|proof| Some(proof.signer.as_ref()?.to_string()))
                .collect(),
            signed: proofs().filter_map(|proof| Some(proof.signed.as_ref()?.to_string())).collect(),
            log_indexes: proofs()
                .flat_map(|proof| &proof.entries)
                .map(|entry| entry.index)
                .collect(),
            ..Self::unknown(mode, verdict.cause().word(), verdict.reasons()).about(Some(subject))
        }
    }

    /// About this manifest, where one is known.
    pub(super) fn about(self, subject: Option<&Subject<'_>>) -> Self {
        Self {
            reference: subject.map(|subject| subject.reference.to_string()),
            digest: subject.map(|subject| subject.manifest_digest.to_string()),
            ..self
        }
    }

    /// By this policy.
    pub(super) fn by(self, policy: &Policy) -> Self {
        Self { policy: Some((policy.path().to_owned(), policy.digest().to_string())), ..self }
    }

    fn record(self, about: &About, begun: Instant) -> Record {
        let pod = about.pod.as_ref().map(|pod| Pod {
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            uid: pod.uid.clone(),
        });
        let (policy, policy_digest) = self.policy.unzip();
        Record {
            time: SystemTime::now(),
            event: about.event.word(),
            mode: self.mode,
            verdict: self.outcome,
            cause: self.cause,
            pod,
            container: about.container.clone(),
            image: about.image.clone(),
            reference: self.reference,
            digest: self.digest,
            image_id: about.id.as_ref().map(ToString::to_string),
            policy,
            policy_digest,
            scope: self.scope,
            signers: self.signers,
            signed: self.signed,
            log_indexes: self.log_indexes,
            reason: self.reason,
            duration: begun.elapsed(),
        }
    }
}

impl Case {
    /// Puts an answer to this question on record.
    pub(super) fn account(&self, answer: Answer) -> Result<(), AuditError> {
        self.judge.account(&self.about, self.begun, answer)
    }
}

impl Inner {
    /// Puts an answer on record. A record that cannot be written is said in the log and counted,
    /// whatever the caller makes of it.
    ///
    /// # Errors
    ///
    /// [`AuditError`], where records are required.
    pub(super) fn account(
        &self,
        about: &About,
        begun: Instant,
        answer: Answer,
    ) -> Result<(), AuditError> {
        let record = answer.record(about, begun);
        self.metrics.verdict(record.event, record.mode.word(), record.cause);
        if record.mode == Mode::Enforce {
            self.metrics.judged(record.event, record.duration);
        }
        log(&record);
        let Err(error) = self.audit.add(&record) else { return Ok(()) };
        self.metrics.unrecorded();
        tracing::error!(image = about.image, error = chain(&error), "no audit record");
        if self.audit.is_required() { Err(error) } else { Ok(()) }
    }
}

/// What is enforced is logged by the request; what is tried would be said nowhere else.
fn log(record: &Record) {
    let Record { event, image, reason, scope, .. } = record;
    let verdict = record.verdict.word();
    let scope = scope.as_deref().unwrap_or_default();
    match (record.mode, record.verdict) {
        (Mode::Enforce, _) => tracing::debug!(event, image, verdict, scope, reason, "judged"),
        (Mode::DryRun, Outcome::Allowed) => {
            tracing::debug!(event, image, verdict, scope, reason, "judged in a dry run");
        }
        (Mode::DryRun, Outcome::Refused | Outcome::Undecided) => tracing::warn!(
            event,
            image,
            verdict,
            scope,
            reason,
            "the policy that is tried in a dry run would not allow it"
        ),
    }
}
