//! policy.json, read to the letter.
//!
//! An unknown key, a key twice, a wrong type or an empty list is an error with its place: a policy
//! that is half understood protects nothing.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::oci::digest::Digest;
use crate::oci::reference::Reference;
use crate::oci::scope;
use crate::oci::strict_json;
use crate::policy::Mistakes;
use crate::policy::Needs;
use crate::policy::PolicyError;
use crate::policy::json::Fault;
use crate::policy::json::Part;
use crate::policy::json::Text;
use crate::policy::keys::Read;
use crate::policy::requirement::Requirement;

/// The transport of images from registries, the only one that this program has.
const DOCKER: &str = "docker";

/// A policy file, parsed, with the keys that it names.
#[derive(Debug)]
pub struct Policy {
    path: PathBuf,
    digest: Digest,
    default: Vec<Requirement>,
    docker: BTreeMap<String, Vec<Requirement>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document<'a> {
    #[serde(borrow)]
    default: &'a RawValue,
    #[serde(borrow, default)]
    transports: BTreeMap<String, BTreeMap<String, &'a RawValue>>,
}

impl Policy {
    /// Parses the policy file `path` from its bytes; `read` gives the bytes of a key file.
    ///
    /// A key file that cannot be used is no error here: see [`Policy::faults`].
    ///
    /// # Errors
    ///
    /// [`PolicyError`] with the place of the first fault.
    pub fn parse(path: &Path, bytes: &[u8], read: Read<'_>) -> Result<Self, PolicyError> {
        Self::check(path, bytes, read).map_err(|mistakes| mistakes.first)
    }

    /// The same, with every fault: a requirement that cannot be read does not hide the others.
    ///
    /// # Errors
    ///
    /// [`Mistakes`].
    pub fn check(path: &Path, bytes: &[u8], read: Read<'_>) -> Result<Self, Mistakes> {
        let only = |first| Mistakes { first, others: Vec::new() };
        let text = std::str::from_utf8(bytes)
            .map_err(|source| only(PolicyError::NotText { path: path.to_owned(), source }))?;
        if text.starts_with('\u{feff}') {
            let fault =
                "begins with a byte order mark, which JSON has not; save it as UTF-8 without";
            return Err(only(PolicyError::Malformed {
                path: path.to_owned(),
                line: 1,
                column: 1,
                at: "document".to_owned(),
                fault: fault.to_owned(),
            }));
        }
        strict_json::refuse_double_keys(bytes)
            .map_err(|source| only(PolicyError::Json { path: path.to_owned(), source }))?;
        let mut faults = Vec::new();
        let parsed = parse(Text(text), read, &mut faults);
        let mut errors = faults.into_iter().map(|Fault { line, column, at, fault }| {
            PolicyError::Malformed { path: path.to_owned(), line, column, at, fault }
        });
        if let Some(first) = errors.next() {
            return Err(Mistakes { first, others: errors.collect() });
        }
        let (default, docker) = parsed;
        Ok(Self { path: path.to_owned(), digest: Digest::sha256(bytes), default, docker })
    }

    /// Where the policy came from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The digest of the policy file, for the audit record.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// What the verdict on `reference` may depend on, so that it must be gathered.
    #[must_use]
    pub fn needs(&self, reference: &Reference) -> Needs {
        let mut needs = Needs::default();
        for requirement in self.requirements(reference).1 {
            requirement.needs(&mut needs);
        }
        needs
    }

    /// Whether it depends on any evidence.
    #[must_use]
    pub fn needs_evidence(&self, reference: &Reference) -> bool {
        !self.needs(reference).is_empty()
    }

    /// Whether an image that no scope names is accepted without a look.
    #[must_use]
    pub fn accepts_anything_by_default(&self) -> bool {
        let default = self.docker.get("").unwrap_or(&self.default);
        default.iter().all(|requirement| matches!(requirement, Requirement::AcceptAnything))
    }

    /// What in this policy refuses every image it is asked about: keys that cannot be read or
    /// used. For a warning when the policy is loaded.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let scopes = self.docker.iter().map(|(scope, list)| (name(scope), list));
        for (scope, list) in scopes.chain([("default".to_owned(), &self.default)]) {
            for requirement in list {
                faults.extend(requirement.fault().map(|fault| format!("scope {scope}: {fault}")));
            }
        }
        faults
    }

    /// The scope that decides about `reference`.
    #[must_use]
    pub fn scope(&self, reference: &Reference) -> String {
        self.requirements(reference).0
    }

    /// The requirements that hold for `reference`, and the scope that brought them.
    pub(crate) fn requirements(&self, reference: &Reference) -> (String, &[Requirement]) {
        for scope in scope::candidates(reference) {
            if let Some(list) = self.docker.get(&scope) {
                return (scope, list);
            }
        }
        match self.docker.get("") {
            Some(list) => (name(""), list),
            None => ("default".to_owned(), &self.default),
        }
    }
}

/// A scope in a sentence.
fn name(scope: &str) -> String {
    if scope.is_empty() { "docker default".to_owned() } else { scope.to_owned() }
}

type Parsed = (Vec<Requirement>, BTreeMap<String, Vec<Requirement>>);

/// What could be read, and what is wrong with the rest.
fn parse(text: Text<'_>, read: Read<'_>, faults: &mut Vec<Fault>) -> Parsed {
    let document: Document<'_> = match Part::whole(text).object() {
        Ok(document) => document,
        Err(fault) => {
            faults.push(fault);
            return Parsed::default();
        }
    };
    let default = Part::of(text, document.default, "default".to_owned());
    let default = requirements(&default, read, faults);
    let mut docker = BTreeMap::new();
    for (transport, scopes) in document.transports {
        for (scope, raw) in scopes {
            let part = Part::of(text, raw, format!("transports.{transport}[{scope:?}]"));
            if transport == DOCKER {
                docker.insert(scope, requirements(&part, read, faults));
            } else {
                // Must be well-formed, and holds for no image of ours: its keys are not read.
                requirements(&part, &|_| Err(io::ErrorKind::Unsupported.into()), faults);
            }
        }
    }
    (default, docker)
}

fn requirements(list: &Part<'_>, read: Read<'_>, faults: &mut Vec<Fault>) -> Vec<Requirement> {
    let items = match list.items() {
        Ok(items) => items,
        Err(fault) => {
            faults.push(fault);
            return Vec::new();
        }
    };
    if items.is_empty() {
        faults.push(list.fault("list of verification policy requirements must not be empty"));
    }
    let mut read = |part: &Part<'_>| Requirement::parse(part, read).map_err(|it| faults.push(it));
    items.iter().filter_map(|part| read(part).ok()).collect()
}
