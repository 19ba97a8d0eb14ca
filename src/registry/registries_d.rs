//! registries.d: where the signatures of an image are, beside those in its registry.
//!
//! containers-registries.d(5). The most specific scope that says something counts, for each thing
//! by itself. A file that cannot be understood is an error: it may be the one that says where the
//! signatures are. What is said twice is an error too, in the words of the tools that share the
//! files. Unlike the policy, this speaks of the place that is asked, a mirror too.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use reqwest::Url;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::oci::reference::Reference;
use crate::oci::scope;
use crate::registry::conf;
use crate::registry::conf::FILE_LIMIT;
use crate::registry::conf::Stamp;
use crate::registry::error::RegistryError;
use crate::sys::files;

/// All files together, checked.
#[derive(Debug, Default)]
pub(super) struct SignatureConf {
    default: Option<Named>,
    docker: BTreeMap<String, Named>,
}

/// What is said of one scope.
#[derive(Debug, Clone, Default)]
struct Scope {
    lookaside: Option<Url>,
    attachments: Option<bool>,
}

/// A scope, and the file that speaks of it.
#[derive(Debug)]
struct Named {
    file: PathBuf,
    scope: Scope,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    default_docker: Option<Section>,
    #[serde(default)]
    docker: Option<BTreeMap<String, Section>>,
    #[serde(flatten)]
    others: BTreeMap<String, IgnoredAny>,
}

/// The older names of the keys count where the newer are not there.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Section {
    lookaside: Option<String>,
    sigstore: Option<String>,
    /// Where tools that sign put signatures; not read from.
    #[serde(rename = "lookaside-staging")]
    _lookaside_staging: Option<String>,
    #[serde(rename = "sigstore-staging")]
    _sigstore_staging: Option<String>,
    use_sigstore_attachments: Option<bool>,
    #[serde(flatten)]
    others: BTreeMap<String, IgnoredAny>,
}

impl SignatureConf {
    /// The base of the lookaside for what is asked for at `physical`, if one is configured.
    pub(super) fn lookaside(&self, physical: &Reference) -> Option<&Url> {
        self.scopes(physical).find_map(|scope| scope.lookaside.as_ref())
    }

    /// Whether sigstore's signatures and attestations are looked for at `physical`, if that is
    /// said.
    pub(super) fn attachments(&self, physical: &Reference) -> Option<bool> {
        self.scopes(physical).find_map(|scope| scope.attachments)
    }

    fn scopes(&self, physical: &Reference) -> impl Iterator<Item = &Scope> {
        let candidates = scope::candidates(physical);
        let found = candidates.into_iter().filter_map(|scope| self.docker.get(&scope));
        found.chain(&self.default).map(|named| &named.scope)
    }
}

/// The files, parsed anew when they change.
#[derive(Debug)]
pub(super) struct SignatureFiles {
    /// The first that exists counts.
    directories: Vec<PathBuf>,
    last: Mutex<Option<(Stamp, Arc<SignatureConf>)>>,
}

impl SignatureFiles {
    pub(super) fn new(directories: Vec<PathBuf>) -> Self {
        Self { directories, last: Mutex::new(None) }
    }

    /// What the files say now.
    pub(super) fn load(&self) -> Result<Arc<SignatureConf>, RegistryError> {
        let directory = self.directories.iter().find(|directory| directory.exists());
        let paths = match directory {
            Some(directory) => conf::listing(directory, "yaml")?,
            None => Vec::new(),
        };
        let stamp = conf::stamp(paths);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((old, conf)) = last.as_ref()
            && *old == stamp
        {
            return Ok(Arc::clone(conf));
        }
        let mut conf = SignatureConf::default();
        for (path, _) in &stamp {
            match files::read(path, FILE_LIMIT, files::Links::Follow) {
                Ok(bytes) => add(&mut conf, path, &bytes)
                    .map_err(|fault| RegistryError::Configuration { path: path.clone(), fault })?,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(RegistryError::Read { path: path.clone(), source }),
            }
        }
        let conf = Arc::new(conf);
        *last = Some((stamp, Arc::clone(&conf)));
        Ok(conf)
    }
}

fn add(conf: &mut SignatureConf, path: &Path, bytes: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "is no UTF-8".to_owned())?;
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(());
    }
    let document: Document = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    warn(path, "", &document.others);
    let twice = |what: &str, other: &Named| {
        format!("{what} is defined here and in {} too", other.file.display())
    };
    if let Some(section) = document.default_docker {
        if let Some(other) = &conf.default {
            return Err(twice("default-docker", other));
        }
        conf.default = Some(named(path, "default-docker", section)?);
    }
    for (name, section) in document.docker.unwrap_or_default() {
        if let Some(other) = conf.docker.get(&name) {
            return Err(twice(&format!("the docker namespace {name:?}"), other));
        }
        let named = named(path, &name, section)?;
        conf.docker.insert(name, named);
    }
    Ok(())
}

fn named(path: &Path, name: &str, section: Section) -> Result<Named, String> {
    warn(path, name, &section.others);
    let written = [section.lookaside, section.sigstore].into_iter().flatten();
    let lookaside = written.into_iter().find(|url| !url.is_empty());
    let lookaside = lookaside.map(|text| {
        let url = Url::parse(&text).map_err(|error| format!("lookaside {text:?}: {error}"))?;
        match url.scheme() {
            "file" | "http" | "https" => Ok(url),
            other => Err(format!("lookaside {text:?} has the scheme {other:?}; use file or https")),
        }
    });
    let lookaside = lookaside.transpose()?;
    let scope = Scope { lookaside, attachments: section.use_sigstore_attachments };
    Ok(Named { file: path.to_owned(), scope })
}

/// Files written for other versions must load.
fn warn(path: &Path, section: &str, others: &BTreeMap<String, IgnoredAny>) {
    for key in others.keys() {
        tracing::warn!(path = %path.display(), section, key, "an unknown key is ignored");
    }
}

#[cfg(test)]
#[path = "registries_d_tests.rs"]
mod tests;
