//! Verdicts that were found before.
//!
//! A verdict follows from the policy with its key files, the subject and the evidence. Where these
//! are the same bytes as before, so is the verdict. What depends on the time is not kept.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::SystemTime;

use crate::judge::FILE_LIMIT;
use crate::judge::JudgeError;
use crate::oci::digest::Digest;
use crate::policy::Evidence;
use crate::policy::Policy;
use crate::policy::Subject;
use crate::policy::Verdict;
use crate::sys::files;
use crate::sys::files::Links;

/// How many verdicts are kept; each has some hundred bytes.
const MOST: usize = 512;

/// A policy, and what tells it from every other.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) policy: Policy,
    pub(super) bytes: Vec<u8>,
    /// The digest of the policy file and of every file that it names, with their paths.
    fingerprint: Digest,
}

impl Loaded {
    pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Self, JudgeError> {
        let seen = RefCell::new(Vec::new());
        add(&mut seen.borrow_mut(), path.as_os_str().as_encoded_bytes());
        add(&mut seen.borrow_mut(), bytes);
        let read = |key: &Path| {
            let found = files::read(key, FILE_LIMIT, Links::Follow);
            add(&mut seen.borrow_mut(), key.as_os_str().as_encoded_bytes());
            match &found {
                Ok(bytes) => add(&mut seen.borrow_mut(), bytes),
                Err(error) => add(&mut seen.borrow_mut(), error.to_string().as_bytes()),
            }
            found
        };
        let policy = Policy::parse(path, bytes, &read).map_err(JudgeError::Policy)?;
        let fingerprint = Digest::sha256(&seen.into_inner());
        Ok(Self { policy, bytes: bytes.to_vec(), fingerprint })
    }
}

/// The verdicts that were found before.
#[derive(Debug, Default)]
pub(super) struct Cache {
    known: Mutex<HashMap<Digest, Verdict>>,
}

impl Cache {
    /// The verdict on `subject`, found before or now.
    pub(super) fn evaluate(
        &self,
        loaded: &Loaded,
        subject: &Subject<'_>,
        evidence: &Evidence,
    ) -> Verdict {
        let now = || crate::policy::evaluate(&loaded.policy, subject, evidence, SystemTime::now());
        // Without evidence nothing is computed.
        let Some(key) = key(loaded, subject, evidence).filter(|_| !evidence.is_empty()) else {
            return now();
        };
        if let Some(known) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return known.clone();
        }
        let verdict = now();
        if verdict.is_timeless() {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= MOST {
                known.clear();
            }
            known.insert(key, verdict.clone());
        }
        verdict
    }
}

#[cfg(test)]
impl Cache {
    /// How many verdicts are kept.
    pub(super) fn len(&self) -> usize {
        self.known.lock().unwrap().len()
    }
}

/// All that a verdict follows from, as one digest.
fn key(loaded: &Loaded, subject: &Subject<'_>, evidence: &Evidence) -> Option<Digest> {
    let mut bytes = Vec::new();
    add(&mut bytes, loaded.fingerprint.to_string().as_bytes());
    add(&mut bytes, subject.reference.to_string().as_bytes());
    add(&mut bytes, subject.manifest_digest.to_string().as_bytes());
    add(&mut bytes, &serde_json::to_vec(evidence).ok()?);
    Some(Digest::sha256(&bytes))
}

/// Adds bytes behind their length, so that no two lists are the same bytes.
fn add(to: &mut Vec<u8>, bytes: &[u8]) {
    to.extend(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_le_bytes());
    to.extend(bytes);
}
