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
use crate::oci::strict_json;
use crate::policy::PolicyError;
use crate::policy::json::Fault;
use crate::policy::json::Part;
use crate::policy::json::Text;
use crate::policy::keys::Read;
use crate::policy::requirement::Requirement;
use crate::policy::scope;

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
    pub fn parse(
        path: &Path,
        bytes: &[u8],
        read: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
    ) -> Result<Self, PolicyError> {
        let text = std::str::from_utf8(bytes)
            .map_err(|source| PolicyError::NotText { path: path.to_owned(), source })?;
        strict_json::refuse_double_keys(bytes)
            .map_err(|source| PolicyError::Json { path: path.to_owned(), source })?;
        let (default, docker) =
            parse(Text(text), read).map_err(|Fault { line, column, at, fault }| {
                PolicyError::Malformed { path: path.to_owned(), line, column, at, fault }
            })?;
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

    /// Whether the verdict on `reference` may depend on signatures, so that they must be gathered.
    #[must_use]
    pub fn needs_evidence(&self, reference: &Reference) -> bool {
        self.requirements(reference).1.iter().any(Requirement::needs_evidence)
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

fn parse(text: Text<'_>, read: Read<'_>) -> Result<Parsed, Fault> {
    let whole = Part::whole(text);
    let document: Document<'_> = whole.read()?;
    let list = |raw, at, read| requirements(text, &Part::of(text, raw, at), read);
    let default = list(document.default, "default".to_owned(), read)?;
    let mut docker = BTreeMap::new();
    for (transport, scopes) in document.transports {
        for (scope, raw) in scopes {
            let at = format!("transports.{transport}[{scope:?}]");
            if transport == DOCKER {
                docker.insert(scope, list(raw, at, read)?);
            } else {
                // Must be well-formed, and holds for no image of ours: its keys are not read.
                list(raw, at, &|_| Err(io::ErrorKind::Unsupported.into()))?;
            }
        }
    }
    Ok((default, docker))
}

fn requirements<'a>(
    text: Text<'a>,
    list: &Part<'a>,
    read: Read<'_>,
) -> Result<Vec<Requirement>, Fault> {
    let raws: Vec<&'a RawValue> = list.read()?;
    if raws.is_empty() {
        return Err(list.fault("list of verification policy requirements must not be empty"));
    }
    raws.iter()
        .enumerate()
        .map(|(index, raw)| {
            Requirement::parse(&Part::of(text, raw, format!("{}[{index}]", list.at())), read)
        })
        .collect()
}
