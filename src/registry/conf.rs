//! registries.conf: which registries there are, where they really are, and what short names mean.
//!
//! containers-registries.conf(5), version 2 with drop-ins in lexical order, and the older version
//! 1 that some node images still carry. A file that cannot be understood is an error and not
//! skipped: it may be the one that blocks a registry. A file that is not there says nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use serde::Deserialize;

use crate::oci::reference::Reference;
use crate::oci::reference::Written;
use crate::registry::error::RegistryError;
use crate::sys::files;

/// The largest configuration file that is read, in bytes.
pub(super) const FILE_LIMIT: u64 = 4 * 1024 * 1024;

/// All files together, checked.
#[derive(Debug, Default)]
pub(super) struct Conf {
    /// By prefix.
    pub(super) entries: BTreeMap<String, Entry>,
    /// Where to look for a short name, in order.
    pub(super) search: Vec<String>,
    /// The file that set `search`.
    pub(super) search_file: PathBuf,
    /// Short name → full repository; `None` where a later file took an alias back.
    pub(super) aliases: BTreeMap<String, Option<Reference>>,
}

/// One `[[registry]]`.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The file it stands in.
    pub(super) file: PathBuf,
    /// Whether it must not be used.
    pub(super) blocked: bool,
    /// Where it really is.
    pub(super) endpoint: Endpoint,
    /// What to ask first.
    pub(super) mirrors: Vec<Mirror>,
}

/// A place to ask.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    /// `host[:port][/path]` in place of the prefix; empty: as the reference says.
    pub(super) location: String,
    /// Whether certificates are not checked, and plain HTTP will do.
    pub(super) insecure: bool,
}

/// A mirror, and which references it serves.
#[derive(Debug, Clone)]
pub(super) struct Mirror {
    /// The place.
    pub(super) endpoint: Endpoint,
    /// For which references.
    pub(super) serves: Serves,
}

/// `pull-from-mirror`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Serves {
    /// Tags and digests.
    All,
    /// References with a digest: what they get is certain.
    Digests,
    /// References with a tag alone.
    Tags,
}

impl Conf {
    /// The entry with the longest prefix of `reference`, and the prefix.
    pub(super) fn find(&self, reference: &Reference) -> Option<(&str, &Entry)> {
        let text = reference.to_string();
        let matching = self
            .entries
            .iter()
            .filter(|(prefix, _)| matched(&text, reference.host(), prefix).is_some());
        let (prefix, entry) = matching.max_by_key(|(prefix, _)| prefix.len())?;
        Some((prefix, entry))
    }
}

/// How much of `text`, a reference at `host`, the prefix covers; `None` if it does not match.
///
/// A prefix ends where a part of the reference ends. A host's port is part of the host:
/// `example.com` is no prefix of `example.com:5000/a`.
pub(super) fn matched(text: &str, host: &str, prefix: &str) -> Option<usize> {
    if let Some(domain) = prefix.strip_prefix('*') {
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        // A port after the matched name stays with the rest, as for the tools that share the file.
        return (name.len() > domain.len() && name.ends_with(domain)).then_some(name.len());
    }
    let rest = text.strip_prefix(prefix)?;
    let ends = prefix.len() >= host.len() && (rest.is_empty() || rest.starts_with(['/', ':', '@']));
    ends.then_some(prefix.len())
}

/// The files, parsed anew when they change.
#[derive(Debug)]
pub(super) struct Files {
    main: PathBuf,
    directory: PathBuf,
    last: Mutex<Option<(Stamp, Arc<Conf>)>>,
}

/// Files, and which version of each is there.
pub(super) type Stamp = Vec<(PathBuf, Option<files::Stamp>)>;

impl Files {
    pub(super) fn new(main: PathBuf, directory: PathBuf) -> Self {
        Self { main, directory, last: Mutex::new(None) }
    }

    /// What the files say now.
    pub(super) fn load(&self) -> Result<Arc<Conf>, RegistryError> {
        let stamp = self.stamp()?;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((old, conf)) = last.as_ref()
            && *old == stamp
        {
            return Ok(Arc::clone(conf));
        }
        let mut conf = Conf { search_file: self.main.clone(), ..Conf::default() };
        for (path, _) in &stamp {
            let version = if *path == self.main { Version::Any } else { Version::Two };
            match files::read(path, FILE_LIMIT, files::Links::Follow) {
                Ok(bytes) => add(&mut conf, path, &bytes, version)?,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(RegistryError::Read { path: path.clone(), source }),
            }
        }
        let conf = Arc::new(conf);
        *last = Some((stamp, Arc::clone(&conf)));
        Ok(conf)
    }

    fn stamp(&self) -> Result<Stamp, RegistryError> {
        let mut paths = vec![self.main.clone()];
        paths.extend(listing(&self.directory, "conf")?);
        Ok(stamp(paths))
    }
}

/// The files in `directory` whose names end so, in order; none if it does not exist.
pub(super) fn listing(directory: &Path, extension: &str) -> Result<Vec<PathBuf>, RegistryError> {
    let unreadable = |source| RegistryError::Read { path: directory.to_owned(), source };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(unreadable(source)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|found| found == extension) && !path.is_dir() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// What tells whether one of the files has changed.
pub(super) fn stamp(paths: Vec<PathBuf>) -> Stamp {
    // One that cannot be looked at cannot be read either, which is an error then.
    let stamped = |path: PathBuf| {
        let stamp = files::stamp(&path).ok().flatten();
        (path, stamp)
    };
    paths.into_iter().map(stamped).collect()
}

/// Which versions of the format a file may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    Any,
    Two,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    #[serde(default)]
    registry: Vec<RegistryTable>,
    unqualified_search_registries: Option<Vec<String>>,
    credential_helpers: Option<Vec<String>>,
    aliases: Option<BTreeMap<String, String>>,
    registries: Option<VersionOne>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RegistryTable {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    pull_from_mirror: Option<String>,
    #[serde(default)]
    mirror: Vec<MirrorTable>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct MirrorTable {
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    pull_from_mirror: String,
}

#[derive(Deserialize)]
struct VersionOne {
    search: Option<VersionOneList>,
    insecure: Option<VersionOneList>,
    block: Option<VersionOneList>,
}

#[derive(Deserialize)]
struct VersionOneList {
    #[serde(default)]
    registries: Vec<String>,
}

/// What one file says.
#[cfg(feature = "fuzzing")]
pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Conf, RegistryError> {
    let mut conf = Conf::default();
    add(&mut conf, path, bytes, Version::Any).map(|()| conf)
}

/// Adds what one file says; a later file's word on a prefix, a list or an alias counts.
fn add(conf: &mut Conf, path: &Path, bytes: &[u8], version: Version) -> Result<(), RegistryError> {
    let fault = |fault: String| RegistryError::Configuration { path: path.to_owned(), fault };
    let text = std::str::from_utf8(bytes).map_err(|_| fault("is no UTF-8".to_owned()))?;
    let document: Document = toml::from_str(text).map_err(|source| RegistryError::Toml {
        path: path.to_owned(),
        source: Box::new(source),
    })?;
    let document = match document.registries {
        None => document,
        Some(_) if version == Version::Two => {
            return Err(fault("drop-in files must be in version 2 of the format".to_owned()));
        }
        Some(_) if !document.registry.is_empty() || document.aliases.is_some() => {
            return Err(fault("mixes versions 1 and 2 of the format".to_owned()));
        }
        Some(old) => modernized(old),
    };
    let mut fresh: BTreeMap<String, Entry> = BTreeMap::new();
    for table in document.registry {
        let (prefix, entry) = entry(table, path).map_err(fault)?;
        check_conflicts(&fresh, &prefix, &entry).map_err(fault)?;
        // Within one file the first entry of a prefix counts.
        fresh.entry(prefix).or_insert(entry);
    }
    conf.entries.extend(fresh);
    if let Some(search) = document.unqualified_search_registries {
        conf.search =
            search.iter().map(|host| search_host(host)).collect::<Result<_, _>>().map_err(fault)?;
        path.clone_into(&mut conf.search_file);
    }
    for (name, value) in document.aliases.unwrap_or_default() {
        let value = alias(&name, &value).map_err(fault)?;
        conf.aliases.insert(name, value);
    }
    let helpers = document.credential_helpers.unwrap_or_default();
    if helpers.iter().any(|helper| helper != "containers-auth.json") {
        tracing::warn!(path = %path.display(), ?helpers, "credential helpers are not run by this version");
    }
    Ok(())
}

/// Version 1 in the words of version 2.
fn modernized(old: VersionOne) -> Document {
    let list = |list: Option<VersionOneList>| list.map(|list| list.registries).unwrap_or_default();
    let (blocked, insecure) = (list(old.block), list(old.insecure));
    let mut locations: Vec<&String> = blocked.iter().chain(&insecure).collect();
    locations.sort();
    locations.dedup();
    let table = |location: &String| RegistryTable {
        prefix: String::new(),
        location: location.clone(),
        insecure: insecure.contains(location),
        blocked: blocked.contains(location),
        mirror_by_digest_only: false,
        pull_from_mirror: None,
        mirror: Vec::new(),
    };
    Document {
        registry: locations.into_iter().map(table).collect(),
        unqualified_search_registries: old.search.map(|list| list.registries),
        credential_helpers: None,
        aliases: None,
        registries: None,
    }
}

fn entry(table: RegistryTable, path: &Path) -> Result<(String, Entry), String> {
    let location = place(&table.location)?;
    let prefix = if table.prefix.is_empty() { location.clone() } else { place(&table.prefix)? };
    if prefix.is_empty() {
        return Err("a [[registry]] has neither prefix nor location".to_owned());
    }
    let wildcard = prefix.starts_with("*.");
    if wildcard && prefix.contains(['/', '@', ':']) || !wildcard && prefix.contains('*') {
        return Err(format!("the prefix {prefix:?} has a wildcard; the form is \"*.example.com\""));
    }
    if location.is_empty() && !wildcard {
        return Err(format!("the [[registry]] {prefix:?} has no location"));
    }
    if table.pull_from_mirror.is_some() {
        return Err(format!(
            "the [[registry]] {prefix:?} has pull-from-mirror; it belongs to a mirror"
        ));
    }
    let by_digest = table.mirror_by_digest_only;
    let mirrors = table.mirror.into_iter().map(|table| mirror(table, by_digest, &prefix));
    let entry = Entry {
        file: path.to_owned(),
        blocked: table.blocked,
        endpoint: Endpoint { location, insecure: table.insecure },
        mirrors: mirrors.collect::<Result<_, _>>()?,
    };
    Ok((prefix, entry))
}

fn mirror(table: MirrorTable, by_digest: bool, prefix: &str) -> Result<Mirror, String> {
    let location = place(&table.location)?;
    if location.is_empty() {
        return Err(format!("a mirror of {prefix:?} has no location"));
    }
    let serves = match table.pull_from_mirror.as_str() {
        "" if by_digest => Serves::Digests,
        "" | "all" if !by_digest => Serves::All,
        "digest-only" if !by_digest => Serves::Digests,
        "tag-only" if !by_digest => Serves::Tags,
        _ if by_digest => {
            return Err(format!(
                "mirror-by-digest-only of {prefix:?} and pull-from-mirror of {location:?} exclude each other"
            ));
        }
        other => return Err(format!("pull-from-mirror of {location:?} is unknown: {other:?}")),
    };
    Ok(Mirror { endpoint: Endpoint { location, insecure: table.insecure }, serves })
}

/// Two prefixes at one location must not differ on whether it is safe to use.
fn check_conflicts(
    fresh: &BTreeMap<String, Entry>,
    prefix: &str,
    entry: &Entry,
) -> Result<(), String> {
    fn place_of<'a>(prefix: &'a str, entry: &'a Entry) -> &'a str {
        let location = entry.endpoint.location.as_str();
        if location.is_empty() { prefix } else { location }
    }
    let place = place_of(prefix, entry);
    let others = fresh.iter().filter(|(prefix, other)| place_of(prefix, other) == place);
    for (_, other) in others {
        if other.endpoint.insecure != entry.endpoint.insecure {
            return Err(format!("the registry {place:?} stands twice, with different 'insecure'"));
        }
        if other.blocked != entry.blocked {
            return Err(format!("the registry {place:?} stands twice, with different 'blocked'"));
        }
    }
    Ok(())
}

/// A location or prefix without slashes at its end.
fn place(text: &str) -> Result<String, String> {
    if text.starts_with("http://") || text.starts_with("https://") {
        return Err(format!("{text:?} has a URL scheme; name only host, port and path"));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn search_host(text: &str) -> Result<String, String> {
    let host = place(text)?;
    let probe = Written { host: None, path: "a".to_owned(), tag: None, digest: None };
    match probe.at(&host) {
        Ok(_) => Ok(host),
        Err(_) => Err(format!("unqualified-search-registries has no host: {text:?}")),
    }
}

fn alias(name: &str, value: &str) -> Result<Option<Reference>, String> {
    let bare = |written: &Written| written.tag.is_none() && written.digest.is_none();
    let short = Written::parse(name).is_ok_and(|name| name.host.is_none() && bare(&name));
    if !short {
        return Err(format!("the alias {name:?} is no short name without tag and digest"));
    }
    if value.is_empty() {
        return Ok(None);
    }
    let full = Written::parse(value)
        .ok()
        .filter(bare)
        .and_then(|written| written.at(written.host.as_deref()?).ok());
    full.map(Some).ok_or_else(|| {
        format!("the alias {name:?} means {value:?}, which is no full name without tag and digest")
    })
}

#[cfg(test)]
#[path = "conf_tests.rs"]
mod tests;
