//! Asks the policy: which policy file holds, what evidence is kept, what the verdict is; and puts
//! every answer on record.
//!
//! The policy itself is pure (`policy`). This room reads its file anew for every question, so that
//! an administrator's change holds at once, and keeps the evidence with the image, so that a
//! container is judged again without network.
//!
//! A policy that is to come can be tried in a dry run: it is asked beside the one that holds, what it
//! says is recorded, and it decides nothing. So a trial never makes a node more open than it was.
//!
//! Not here: how evidence is found in a registry (`image::evidence`).

mod absence;
mod account;
mod cache;
mod case;
mod error;
mod finder;
mod kept;
mod namespaces;
mod shared;

use std::io;
use std::io::ErrorKind;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

pub use crate::judge::absence::Remembering;
pub use crate::judge::case::Case;
pub use crate::judge::error::JudgeError;
pub use crate::judge::finder::FindError;
pub use crate::judge::finder::Finder;
pub use crate::judge::kept::LIMIT as EVIDENCE_LIMIT;
pub use crate::judge::kept::keep;
pub use crate::judge::kept::keep_more;
pub use crate::judge::kept::kept;
pub use crate::judge::kept::kept_if_any;
pub use crate::judge::kept::read as read_kept;
pub use crate::judge::kept::text_with;
pub use crate::judge::namespaces::look as look_at_namespaces;
pub use crate::judge::shared::SharedError;

use crate::audit::Audit;
use crate::judge::cache::Cache;
use crate::judge::cache::Loaded;
use crate::metrics::Metrics;
use crate::model::current::Current;
use crate::model::ids::ImageId;
use crate::model::names::SandboxMetadata;
use crate::policy::Mistakes;
use crate::policy::Policy;
use crate::policy::namespace;
use crate::policy::outline::Outline;
use crate::sys::files;
use crate::sys::files::Links;

/// The largest policy or key file that is read, in bytes.
const FILE_LIMIT: u64 = 4 * 1024 * 1024;

/// Where the policy files are.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The policy of pods whose namespace has none of its own.
    pub global: PathBuf,
    /// Holds `<namespace>.json` files; without it the global policy is every namespace's.
    pub namespaces: Option<PathBuf>,
    /// The policy to come in place of the global one, if one is tried.
    pub dry_run: Option<PathBuf>,
    /// Holds `<namespace>.json` files to come, if any are tried.
    pub dry_run_namespaces: Option<PathBuf>,
}

/// Asks the policy. Copies of it are the same one.
#[derive(Debug, Clone)]
pub struct Judge {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: Current<Settings>,
    audit: Audit,
    metrics: Metrics,
    cache: Cache,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// An image is to be pulled.
    Pull,
    /// A container is to run it.
    Create,
    /// A container is to see its files.
    Volume,
    /// It is the list of system calls that a container may make.
    Seccomp,
}

/// What is asked for, and for whom: the part of a record that is known beforehand.
#[derive(Debug, Clone)]
pub struct About {
    /// What is asked for.
    pub event: Event,
    /// The pod; `None` for what is asked by hand.
    pub pod: Option<SandboxMetadata>,
    /// The container's name.
    pub container: Option<String>,
    /// The image as the user wrote it.
    pub image: String,
    /// The image's ID, where it is in the store.
    pub id: Option<ImageId>,
}

impl Event {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Create => "create",
            Self::Volume => "volume",
            Self::Seccomp => "seccomp",
        }
    }
}

impl About {
    /// The Kubernetes namespace whose policy holds.
    fn namespace(&self) -> Option<&str> {
        self.pod.as_ref().map(|pod| pod.namespace.as_str()).filter(|name| !name.is_empty())
    }
}

impl Judge {
    /// A judge that puts its answers on this record and into these counters.
    #[must_use]
    pub fn new(settings: Settings, audit: Audit, metrics: Metrics) -> Self {
        let settings = Current::new(settings);
        Self { inner: Arc::new(Inner { settings, audit, metrics, cache: Cache::default() }) }
    }

    /// Where the policy files are.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        self.inner.settings.now()
    }

    /// From now on the policy files are there.
    pub fn replace_settings(&self, settings: Settings) {
        self.inner.settings.replace(settings);
    }

    /// The policy that holds for pods of this namespace; `None` is a pull for no pod. Blocks.
    ///
    /// # Errors
    ///
    /// [`JudgeError::Missing`], [`JudgeError::Unreadable`], [`JudgeError::Policy`] and [`JudgeError::Namespace`].
    pub fn policy(&self, namespace: Option<&str>) -> Result<Policy, JudgeError> {
        Ok(self.inner.policy(namespace)?.policy)
    }

    /// The policy to come that is tried for pods of this namespace, if one is. Blocks.
    ///
    /// # Errors
    ///
    /// As [`Judge::policy`].
    pub fn dry_run(&self, namespace: Option<&str>) -> Option<Result<Policy, JudgeError>> {
        Some(self.inner.dry_run(namespace)?.map(|loaded| loaded.policy))
    }

    /// The policy that holds for pods of this namespace, and its text in words. Blocks.
    ///
    /// # Errors
    ///
    /// As [`Judge::policy`].
    pub fn outlined(&self, namespace: Option<&str>) -> Result<(Policy, Outline), JudgeError> {
        let loaded = self.inner.policy(namespace)?;
        Ok((loaded.policy, Outline::of(&loaded.bytes)))
    }

    /// Begins to answer a question: reads the policy files. Blocks.
    ///
    /// # Errors
    ///
    /// As [`Judge::policy`]; it is on record then.
    pub fn open(&self, about: About) -> Result<Case, JudgeError> {
        Case::open(Arc::clone(&self.inner), about)
    }
}

impl Inner {
    fn policy(&self, namespace: Option<&str>) -> Result<Loaded, JudgeError> {
        let settings = self.settings.now();
        let Settings { global, namespaces, .. } = &*settings;
        for path in namespace::candidates(global, namespaces.as_deref(), namespace)? {
            if let Some(loaded) = load(&path, path == *global)? {
                return Ok(loaded);
            }
        }
        Err(JudgeError::unreadable(global, ErrorKind::NotFound.into()))
    }

    /// The namespace's own policy to come; without one, the node's, where the node's holds now.
    fn dry_run(&self, namespace: Option<&str>) -> Option<Result<Loaded, JudgeError>> {
        let settings = self.settings.now();
        let Settings { global, namespaces, dry_run, dry_run_namespaces } = &*settings;
        let own = |directory: &Path| namespace.map(|name| directory.join(format!("{name}.json")));
        // That it is a name, and no path, was found when the policy that holds was read.
        if namespace::candidates(global, namespaces.as_deref(), namespace).is_err() {
            return None;
        }
        if let Some(path) = dry_run_namespaces.as_deref().and_then(own) {
            match load(&path, false) {
                Ok(Some(loaded)) => return Some(Ok(loaded)),
                Ok(None) => {}
                Err(error) => return Some(Err(error)),
            }
        }
        let enforced = namespaces.as_deref().and_then(own);
        if enforced.is_some_and(|path| path.exists() || path.is_symlink()) {
            return None;
        }
        let path = dry_run.as_ref()?;
        let missing = || JudgeError::unreadable(path, ErrorKind::NotFound.into());
        Some(load(path, true).and_then(|loaded| loaded.ok_or_else(missing)))
    }
}

/// Reads a policy file to find what is wrong with it: all mistakes, or the policy and its text in
/// words. Blocks.
///
/// # Errors
///
/// What the kernel says of a file that cannot be read.
pub fn check(path: &Path) -> io::Result<Result<(Policy, Outline), Mistakes>> {
    let read = |path: &Path| files::read(path, FILE_LIMIT, Links::Follow);
    let bytes = read(path)?;
    let policy = Policy::check(path, &bytes, &read);
    Ok(policy.map(|policy| (policy, Outline::of(&bytes))))
}

/// The policy at `path`; `None` where there is none and need not be one.
fn load(path: &Path, must_exist: bool) -> Result<Option<Loaded>, JudgeError> {
    match files::read(path, FILE_LIMIT, Links::Follow) {
        Ok(bytes) => Loaded::parse(path, &bytes).map(Some),
        // A link that leads nowhere, to the file or on the way to it, is a policy that cannot be read,
        // not a missing one: what it leads to may not be mounted yet.
        Err(error)
            if error.kind() == ErrorKind::NotFound && !must_exist && !leads_nowhere(path) =>
        {
            Ok(None)
        }
        Err(source) => Err(JudgeError::unreadable(path, source)),
    }
}

/// Whether a link in this path leads nowhere.
fn leads_nowhere(path: &Path) -> bool {
    path.ancestors().any(|part| part.is_symlink() && !part.exists())
}

#[cfg(test)]
mod tests;
