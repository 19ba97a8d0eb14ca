//! One question to the policy, from reading its file to the record of the answer.

use std::sync::Arc;
use std::time::Instant;

use crate::audit::Mode;
use crate::failure::chain;
use crate::judge::About;
use crate::judge::Inner;
use crate::judge::JudgeError;
use crate::judge::account::Answer;
use crate::judge::cache::Loaded;
use crate::oci::reference::Reference;
use crate::policy::Evidence;
use crate::policy::Needs;
use crate::policy::Subject;
use crate::policy::Verdict;

/// A question whose policy files were read.
#[derive(Debug)]
pub struct Case {
    pub(super) judge: Arc<Inner>,
    pub(super) about: About,
    pub(super) begun: Instant,
    enforced: Loaded,
    dry_run: Option<Result<Loaded, JudgeError>>,
}

impl Case {
    pub(super) fn open(judge: Arc<Inner>, about: About) -> Result<Self, JudgeError> {
        let begun = Instant::now();
        let dry_run = judge.dry_run(about.namespace());
        match judge.policy(about.namespace()) {
            Ok(enforced) => Ok(Self { judge, about, begun, enforced, dry_run }),
            Err(error) => {
                let answer = Answer::unknown(Mode::Enforce, error.cause(), chain(&error));
                // It is refused as it is, on record or not; that it is not is logged.
                let _ = judge.account(&about, begun, answer);
                Err(error)
            }
        }
    }

    /// Whether an answer about `reference` depends on evidence.
    #[must_use]
    pub fn wants_evidence(&self, reference: &Reference) -> bool {
        !self.wants(reference).is_empty()
    }

    /// What an answer about `reference` depends on.
    #[must_use]
    pub fn wants(&self, reference: &Reference) -> Needs {
        let mut needs = self.needs(reference);
        if let Some(Ok(tried)) = &self.dry_run {
            needs.add(tried.policy.needs(reference));
        }
        needs
    }

    /// What the answer that decides about `reference` depends on.
    #[must_use]
    pub fn needs(&self, reference: &Reference) -> Needs {
        self.enforced.policy.needs(reference)
    }

    /// Whether the answer that decides about `reference` depends on evidence.
    #[must_use]
    pub fn needs_evidence(&self, reference: &Reference) -> bool {
        self.enforced.policy.needs_evidence(reference)
    }

    /// Puts on record that it could not be found out, or that there is nothing to ask about.
    pub fn give_up(&self, subject: Option<&Subject<'_>>, cause: &'static str, why: &str) {
        let answer = Answer::unknown(Mode::Enforce, cause, why.to_owned());
        // It is refused as it is, on record or not; that it is not is logged.
        let _ = self.account(answer.about(subject).by(&self.enforced.policy));
        if let Some(subject) = subject {
            self.try_out(std::slice::from_ref(subject), Err((cause, why)));
        }
    }

    /// The verdict that allows one of the subjects, or the refusal of the first. It is on record.
    /// `evidence` may be why it could not be found, in a word and in words, where nothing that decides
    /// needs it. Blocks.
    ///
    /// # Errors
    ///
    /// [`JudgeError::Refused`], [`JudgeError::Unnamed`] without a subject, and
    /// [`JudgeError::Unrecorded`].
    pub fn decide(
        &self,
        subjects: &[Subject<'_>],
        evidence: Result<&Evidence, (&'static str, &str)>,
    ) -> Result<Verdict, JudgeError> {
        self.try_out(subjects, evidence);
        let none = Evidence::default();
        let found = self.evaluate(&self.enforced, subjects, evidence.unwrap_or(&none));
        let Some((subject, verdict)) = found else {
            let error = JudgeError::Unnamed(self.about.image.clone());
            let answer = Answer::unknown(Mode::Enforce, error.cause(), error.to_string());
            let _ = self.account(answer.by(&self.enforced.policy));
            return Err(error);
        };
        let recorded = self.account(Answer::known(Mode::Enforce, &subject, &verdict));
        let verdict =
            verdict.allowed().map_err(|refusal| JudgeError::Refused(Box::new(refusal)))?;
        recorded.map_err(JudgeError::Unrecorded)?;
        Ok(verdict)
    }

    /// Asks the policy that is tried, and records what it says.
    fn try_out(&self, subjects: &[Subject<'_>], evidence: Result<&Evidence, (&'static str, &str)>) {
        let loaded = match &self.dry_run {
            None => return,
            Some(Ok(loaded)) => loaded,
            Some(Err(error)) => {
                let answer = Answer::unknown(Mode::DryRun, error.cause(), chain(error));
                let _ = self.account(answer);
                return;
            }
        };
        let none = Evidence::default();
        let needed = subjects.iter().any(|of| loaded.policy.needs_evidence(of.reference));
        let evidence = match evidence {
            Ok(evidence) => evidence,
            Err((cause, why)) if needed => {
                let answer = Answer::unknown(Mode::DryRun, cause, why.to_owned());
                let _ = self.account(answer.about(subjects.first()).by(&loaded.policy));
                return;
            }
            Err(_) => &none,
        };
        if let Some((subject, verdict)) = self.evaluate(loaded, subjects, evidence) {
            let _ = self.account(Answer::known(Mode::DryRun, &subject, &verdict));
        }
    }

    /// The first verdict that allows a subject; otherwise the first.
    fn evaluate<'s>(
        &self,
        loaded: &Loaded,
        subjects: &[Subject<'s>],
        evidence: &Evidence,
    ) -> Option<(Subject<'s>, Verdict)> {
        let mut first = None;
        for subject in subjects {
            let verdict = self.judge.cache.evaluate(loaded, subject, evidence);
            if verdict.allows() {
                return Some((*subject, verdict));
            }
            first = first.or(Some((*subject, verdict)));
        }
        first
    }
}
