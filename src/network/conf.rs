//! Network configurations: the files that a network provider writes, as checked types.
//!
//! A configuration is a list of plugins with a name and a version. What a plugin is to be told is
//! kept as it was written, byte for byte: the specification wants unknown keys passed on unchanged,
//! and a number that went through a float would not be.
//!
//! Facts: CNI specification 1.1.0, section 1; the choice of files and the older form with a single
//! plugin as libcni and the reference have them.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;
use serde::de::Error;
use serde_json::value::RawValue;

use crate::sys::files;

use super::error::ConfError;
use super::error::PluginError;
use super::error::quoted;

/// A configuration file beyond this is not read.
pub(super) const MAX_FILE: u64 = 1024 * 1024;
/// No network chains more plugins than this.
const MAX_PLUGINS: usize = 64;
/// A network's name becomes part of a file name, which has 255 bytes at most.
const MAX_NAME: usize = 128;

/// The versions of the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Version {
    V0_1_0,
    V0_2_0,
    V0_3_0,
    V0_3_1,
    V0_4_0,
    V1_0_0,
    V1_1_0,
}

impl Version {
    const ALL: [Self; 7] = [
        Self::V0_1_0,
        Self::V0_2_0,
        Self::V0_3_0,
        Self::V0_3_1,
        Self::V0_4_0,
        Self::V1_0_0,
        Self::V1_1_0,
    ];

    /// As it stands in JSON.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::V0_1_0 => "0.1.0",
            Self::V0_2_0 => "0.2.0",
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// The version of that name, if we speak it.
    pub(super) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.as_str() == text)
    }
}

/// The keys and values of a plugin's configuration, as they were written.
pub(super) type Fields = BTreeMap<String, Box<RawValue>>;

/// One plugin of a network.
#[derive(Debug, Clone)]
pub(super) struct PluginConf {
    /// The program's name; safe to be looked up in a directory.
    pub name: String,
    /// The capabilities it declares.
    pub capabilities: Vec<String>,
    /// Everything that was written.
    pub fields: Fields,
}

/// A network that pods can be attached to.
#[derive(Debug, Clone)]
pub(super) struct NetworkConf {
    /// Its name; safe to be part of a file name.
    pub name: String,
    /// The highest version that it allows and we speak.
    pub version: Version,
    /// All such versions.
    pub versions: Vec<Version>,
    /// Whether what is left over must not be collected.
    pub disable_gc: bool,
    /// The plugins, in the order of an `ADD`.
    pub plugins: Vec<PluginConf>,
    /// The whole as a list, for the cache.
    pub bytes: Vec<u8>,
}

#[derive(Deserialize)]
struct List {
    name: Option<String>,
    #[serde(rename = "cniVersion")]
    version: Option<String>,
    #[serde(rename = "cniVersions")]
    versions: Option<Vec<String>>,
    #[serde(rename = "disableGC", default)]
    disable_gc: Flag,
    #[serde(rename = "loadOnlyInlinedPlugins", default)]
    only_inlined: Flag,
    plugins: Option<Vec<Box<RawValue>>>,
}

/// A boolean that may also be written as a text, as libcni takes it.
#[derive(Default)]
struct Flag(bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Bool(bool),
            Text(String),
        }
        match Either::deserialize(input)? {
            Either::Bool(value) => Ok(Self(value)),
            Either::Text(text) if text.eq_ignore_ascii_case("true") => Ok(Self(true)),
            Either::Text(text) if text.eq_ignore_ascii_case("false") => Ok(Self(false)),
            Either::Text(_) => Err(D::Error::custom("neither true nor false")),
        }
    }
}

/// Reads a configuration file.
///
/// `*.conflist` holds a list; its plugins are followed by those in `<directory>/<name>/*.conf`,
/// unless it says `loadOnlyInlinedPlugins`. Any other file holds a single plugin.
pub(super) fn load(path: &Path) -> Result<NetworkConf, ConfError> {
    let bytes = read(path)?;
    let file_name = path.file_name().unwrap_or_default().to_string_lossy();
    if path.extension().is_none_or(|ending| ending != "conflist") {
        return single(&bytes, &file_name);
    }
    let mut list: List = object(&bytes)?;
    let name = list.name.get_or_insert_default();
    let others = match path.parent() {
        Some(directory) if !list.only_inlined.0 && is_network_name(name) => {
            conf_files(&directory.join(&*name), &["conf"])
        }
        _ => Vec::new(),
    };
    if others.is_empty() {
        return build(list, bytes, &file_name);
    }
    let mut plugins = list.plugins.take().unwrap_or_default();
    for path in others {
        plugins.push(raw(read(&path)?)?);
    }
    let bytes = whole_list(&bytes, &plugins)?;
    list.plugins = Some(plugins);
    build(list, bytes, &file_name)
}

/// Reads a configuration from the cache: a list, or a single plugin as some tools keep it.
pub(super) fn parse_cached(bytes: Vec<u8>) -> Result<NetworkConf, ConfError> {
    let list: List = object(&bytes)?;
    if list.plugins.is_none() { single(&bytes, "") } else { build(list, bytes, "") }
}

/// A file with one plugin, made a list of one.
fn single(bytes: &[u8], file_name: &str) -> Result<NetworkConf, ConfError> {
    #[derive(Serialize)]
    struct Wrapped<'a> {
        #[serde(rename = "cniVersion", skip_serializing_if = "Option::is_none")]
        version: Option<&'a str>,
        name: &'a str,
        plugins: [&'a RawValue; 1],
    }
    let text = raw(bytes.to_vec())?;
    let mut list: List = object(bytes)?;
    list.versions = None;
    list.plugins = Some(vec![text.clone()]);
    let name = list.name.clone().filter(|name| !name.is_empty());
    let wrapped = Wrapped {
        version: list.version.as_deref(),
        name: name.as_deref().unwrap_or(file_name),
        plugins: [&text],
    };
    let bytes = serde_json::to_vec(&wrapped).map_err(ConfError::Shape)?;
    build(list, bytes, file_name)
}

fn build(list: List, bytes: Vec<u8>, file_name: &str) -> Result<NetworkConf, ConfError> {
    let name = list.name.filter(|name| !name.is_empty()).unwrap_or_else(|| file_name.to_owned());
    if !is_network_name(&name) {
        return Err(ConfError::Name(quoted(&name)));
    }
    let versions = versions(list.version.as_deref(), list.versions.as_deref())?;
    let version = versions.iter().copied().max().unwrap_or(Version::V0_1_0);
    let texts = list.plugins.unwrap_or_default();
    if texts.is_empty() {
        return Err(ConfError::Empty);
    }
    if texts.len() > MAX_PLUGINS {
        return Err(ConfError::TooMany(texts.len()));
    }
    let plugins = texts.iter().map(|text| plugin(text)).collect::<Result<_, _>>()?;
    Ok(NetworkConf { name, version, versions, disable_gc: list.disable_gc.0, plugins, bytes })
}

/// The versions that both sides speak.
///
/// No version at all means 0.1.0, as the specification has had it since then.
fn versions(one: Option<&str>, many: Option<&[String]>) -> Result<Vec<Version>, ConfError> {
    let one = one.filter(|text| !text.is_empty());
    let texts: Vec<&str> =
        one.into_iter().chain(many.into_iter().flatten().map(|s| &**s)).collect();
    let known: Vec<Version> = texts.iter().filter_map(|text| Version::parse(text)).collect();
    match (known.is_empty(), texts.first()) {
        (true, Some(text)) => Err(ConfError::Version(quoted(text))),
        (true, None) => Ok(vec![Version::V0_1_0]),
        (false, _) => Ok(known),
    }
}

fn plugin(text: &RawValue) -> Result<PluginConf, ConfError> {
    #[derive(Deserialize)]
    struct Known {
        #[serde(rename = "type", default)]
        name: String,
        #[serde(default)]
        capabilities: Option<BTreeMap<String, bool>>,
    }
    let fields: Fields = serde_json::from_str(text.get()).map_err(ConfError::Shape)?;
    let Known { name, capabilities } =
        serde_json::from_str(text.get()).map_err(ConfError::Shape)?;
    if !is_plugin_name(&name) {
        return Err(PluginError::Name { name: quoted(&name) }.into());
    }
    let declared = capabilities.unwrap_or_default().into_iter().filter(|(_, on)| *on);
    Ok(PluginConf { name, capabilities: declared.map(|(key, _)| key).collect(), fields })
}

/// The list with all its plugins in it, so that the cache needs no other file.
fn whole_list(bytes: &[u8], plugins: &[Box<RawValue>]) -> Result<Vec<u8>, ConfError> {
    let mut fields: Fields = object(bytes)?;
    let plugins = serde_json::value::to_raw_value(plugins).map_err(ConfError::Shape)?;
    let only = serde_json::value::to_raw_value(&true).map_err(ConfError::Shape)?;
    fields.insert("plugins".to_owned(), plugins);
    fields.insert("loadOnlyInlinedPlugins".to_owned(), only);
    serde_json::to_vec(&fields).map_err(ConfError::Shape)
}

/// The configuration files of a directory, in the order of their names; none if it is not there.
pub(super) fn conf_files(directory: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .filter(|entry| !entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension().is_some_and(|ending| endings.iter().any(|known| ending == *known))
        })
        .collect();
    files.sort();
    files
}

/// The specification: begins with a letter or digit, then those and `_`, `.`, `-`.
pub(super) fn is_network_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() <= MAX_NAME
        && bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// A name that stays in the directory it is looked up in.
pub(super) fn is_plugin_name(name: &str) -> bool {
    let safe = |c: char| c != '/' && c != '\\' && !c.is_control();
    !name.is_empty()
        && name.len() <= MAX_NAME
        && name != "."
        && name != ".."
        && name.chars().all(safe)
}

fn read(path: &Path) -> Result<Vec<u8>, ConfError> {
    files::read(path, MAX_FILE, files::Links::Follow)
        .map_err(|source| ConfError::Read { path: path.to_owned(), source })
}

fn raw(bytes: Vec<u8>) -> Result<Box<RawValue>, ConfError> {
    serde_json::from_slice(&bytes).map_err(ConfError::Shape)
}

/// A derived reader takes an array for an object too; this one does not.
fn object<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, ConfError> {
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(ConfError::Shape(serde_json::Error::custom("not an object")));
    }
    serde_json::from_slice(bytes).map_err(ConfError::Shape)
}

#[cfg(test)]
mod tests;
