//! Remembers for a while that a registry has no evidence of an image: whoever starts an unsigned image
//! again and again asks its registry only now and then.
//!
//! What is remembered is an answer. A look-up that failed has none, and what was found is the
//! business of whoever keeps it.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use crate::judge::case::Case;
use crate::judge::finder::FindError;
use crate::judge::finder::Finder;
use crate::oci::digest::Digest;
use crate::policy::Evidence;
use crate::policy::Needs;
use crate::policy::Subject;

/// How many absences are remembered; with one more, all are forgotten.
const MOST: usize = 1024;

/// Under which name nothing was found for a manifest; what was looked for; and the part of it that was looked
/// for again by itself where not all of it could be found out.
type Question = (String, Digest, Needs, Needs);

/// A finder that does not ask the same again while it knows that there is nothing.
#[derive(Debug)]
pub struct Remembering<F> {
    finder: F,
    patience: Duration,
    absent: Mutex<HashMap<Question, Instant>>,
}

impl<F: Finder> Remembering<F> {
    /// One that asks this finder, and takes "there is nothing" for true for so long.
    pub fn new(finder: F, patience: Duration) -> Self {
        Self { finder, patience, absent: Mutex::default() }
    }

    fn is_absent(&self, question: &Question) -> bool {
        let mut absent = self.absent.lock().unwrap_or_else(PoisonError::into_inner);
        let known = absent.get(question).is_some_and(|since| since.elapsed() < self.patience);
        if !known {
            absent.remove(question);
        }
        known
    }

    fn remember(&self, question: Question) {
        let mut absent = self.absent.lock().unwrap_or_else(PoisonError::into_inner);
        if absent.len() >= MOST {
            absent.clear();
        }
        absent.insert(question, Instant::now());
    }
}

impl<F: Finder> Finder for Remembering<F> {
    fn find(&self, subject: &Subject<'_>, case: &Case) -> Result<Evidence, FindError> {
        let (name, manifest) = (subject.reference, subject.manifest_digest);
        let question = (name.to_string(), manifest.clone(), case.wants(name), case.needs(name));
        if self.is_absent(&question) {
            tracing::debug!(image = %name, digest = %manifest, "its registry had nothing a moment ago");
            return Ok(Evidence::default());
        }
        let found = self.finder.find(subject, case)?;
        if found.is_empty() {
            self.remember(question);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::audit::Audit;
    use crate::failure::Kind;
    use crate::judge::About;
    use crate::judge::Event;
    use crate::judge::Judge;
    use crate::judge::Settings;
    use crate::metrics::Metrics;
    use crate::oci::reference::Reference;

    /// A registry without signatures, which can be asked or not.
    #[derive(Debug, Default)]
    struct Registry {
        asked: AtomicUsize,
        silent: bool,
    }

    impl Finder for Registry {
        fn find(&self, _: &Subject<'_>, _: &Case) -> Result<Evidence, FindError> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            if self.silent {
                return Err(FindError::new(Kind::RegistryUnavailable, "no answer"));
            }
            Ok(Evidence::default())
        }
    }

    /// Asks about images under a policy; gives how often the registry was asked.
    fn asked(finder: &Remembering<Registry>, policy: &str, names: &[&str]) -> usize {
        let directory = tempfile::tempdir().unwrap();
        let global = directory.path().join("policy.json");
        let durability = crate::sys::files::Durability::Process;
        crate::sys::files::replace(&global, policy.as_bytes(), 0o600, durability).unwrap();
        let settings =
            Settings { global, namespaces: None, dry_run: None, dry_run_namespaces: None };
        let judge = Judge::new(settings, Audit::none(), Metrics::default());
        for name in names {
            let image = (*name).to_owned();
            let event = Event::Create;
            let about = About { event, pod: None, container: None, image, id: None };
            let case = judge.open(about).unwrap();
            let reference: Reference = name.parse().unwrap();
            let manifest_digest = &Digest::sha256(b"manifest");
            let subject = Subject { reference: &reference, manifest_digest };
            let found = finder.find(&subject, &case);
            assert_eq!(found.is_err(), finder.finder.silent);
        }
        finder.finder.asked.load(Ordering::Relaxed)
    }

    const ANY: &str = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;

    #[test]
    fn nothing_is_asked_for_again_only_after_a_while_and_only_the_same() {
        let finder = Remembering::new(Registry::default(), Duration::from_secs(3600));
        assert_eq!(asked(&finder, ANY, &["q.io/a:1", "q.io/a:1", "q.io/a:1"]), 1);
        assert_eq!(asked(&finder, ANY, &["q.io/b:1", "q.io/a:1"]), 2, "another name");
        assert_eq!(
            asked(&finder, &signed(), &["q.io/a:1", "q.io/a:1"]),
            3,
            "a policy that wants more"
        );
        let short = Remembering::new(Registry::default(), Duration::ZERO);
        assert_eq!(asked(&short, ANY, &["q.io/a:1", "q.io/a:1"]), 2);
        assert_eq!(short.absent.lock().unwrap().len(), 1);
    }

    /// Where only a policy that is tried wants more, and that more could not be found out, nothing
    /// is known of it; a namespace whose own policy wants it must not hear that there is none.
    #[test]
    fn what_was_looked_for_in_part_is_no_absence_of_all() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, policy: &str| {
            let path = directory.path().join(name);
            let durability = crate::sys::files::Durability::Process;
            crate::sys::files::replace(&path, policy.as_bytes(), 0o600, durability).unwrap();
            path
        };
        let finder = Remembering::new(Registry::default(), Duration::from_secs(3600));
        for enforced in [ANY, &signed()] {
            let settings = Settings {
                global: write("policy.json", enforced),
                namespaces: None,
                dry_run: Some(write("tried.json", &signed())),
                dry_run_namespaces: None,
            };
            let judge = Judge::new(settings, Audit::none(), Metrics::default());
            let (event, image) = (Event::Create, "q.io/a:1".to_owned());
            let about = About { event, pod: None, container: None, image, id: None };
            let case = judge.open(about).unwrap();
            let reference: Reference = "q.io/a:1".parse().unwrap();
            let manifest_digest = &Digest::sha256(b"manifest");
            let subject = Subject { reference: &reference, manifest_digest };
            for _ in 0..2 {
                finder.find(&subject, &case).unwrap();
            }
        }
        assert_eq!(finder.finder.asked.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_look_up_that_failed_is_no_absence() {
        let silent = Registry { silent: true, ..Registry::default() };
        let finder = Remembering::new(silent, Duration::from_secs(3600));
        assert_eq!(asked(&finder, ANY, &["q.io/a:1", "q.io/a:1"]), 2);
        assert!(finder.absent.lock().unwrap().is_empty());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let finder = Remembering::new(Registry::default(), Duration::from_secs(3600));
        let none = Needs::default;
        let question =
            |number: usize| (number.to_string(), Digest::sha256(b"manifest"), none(), none());
        for number in 0..=MOST {
            finder.remember(question(number));
        }
        assert_eq!(finder.absent.lock().unwrap().len(), 1);
        assert!(finder.is_absent(&question(MOST)));
    }

    /// A policy that wants sigstore signatures; by whose key does not matter here.
    fn signed() -> String {
        let key = concat!(
            "LS0tLS1CRUdJTiBQVUJMSUMgS0VZLS0tLS0KTUZrd0V3WUhLb1pJemowQ0FRWUlLb1pJemowREFR",
            "Y0RRZ0FFVGVVZU1VdnMvY2pSejFQdS96MFpwcXlrc20xTAo1MTdGQ3Mwby9vTExYYmhQeVlVTm4v",
            "SlJiNTdnV2E4QXVGK2NabFNVVnhZUjRqbUNkQ1pRSzhNd2dnPT0KLS0tLS1FTkQgUFVCTElDIEtF",
            "WS0tLS0tCg==",
        );
        format!(
            r#"{{"default": [{{"type": "sigstoreSigned", "keyData": "{key}",
                "signedIdentity": {{"type": "matchRepository"}}}}]}}"#
        )
    }
}
