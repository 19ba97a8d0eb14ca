//! The keys that a requirement names, loaded.
//!
//! A key file that is missing or no key does not make the policy unreadable: other scopes go on
//! working, as in the reference. The requirement that names it refuses every image and says why.

use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;

use crate::failure::chain;
use crate::policy::json::Fault;
use crate::policy::json::Members;
use crate::signature::key::PublicKey;

/// Gives the bytes of a key file.
pub(crate) type Read<'a> = &'a dyn Fn(&Path) -> io::Result<Vec<u8>>;

/// Bytes that the policy file carries as base64; line breaks in it do not count.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Inline(pub(crate) Vec<u8>);

impl Inline {
    /// The bytes.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

impl TryFrom<String> for Inline {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let text: String = text.chars().filter(|letter| !matches!(letter, '\r' | '\n')).collect();
        BASE64.decode(text).map(Self).map_err(|error| format!("not base64: {error}"))
    }
}

/// The four ways to name keys, of which one may be used.
#[derive(Debug)]
pub(crate) struct Sources {
    /// The names of the four, for messages.
    names: [&'static str; 4],
    path: Option<String>,
    paths: Option<Vec<String>>,
    data: Option<Inline>,
    datas: Option<Vec<Inline>>,
}

/// Where one key is.
#[derive(Debug)]
enum Source {
    File(String),
    Inline(String, Vec<u8>),
}

/// The keys that a requirement names; not all of them may be usable.
#[derive(Debug)]
pub(crate) struct Keys {
    /// A file's path, or the key of the policy that carries it, for each.
    names: Vec<String>,
    keys: Result<Vec<PublicKey>, String>,
}

impl Sources {
    /// Takes the four members of these names.
    pub(crate) fn take(members: &mut Members<'_>, names: [&'static str; 4]) -> Result<Self, Fault> {
        let [path, paths, data, datas] = names;
        Ok(Self {
            names,
            path: members.take(path)?,
            paths: members.take(paths)?,
            data: members.take(data)?,
            datas: members.take(datas)?,
        })
    }

    /// How many of the four are used.
    pub(crate) fn used(&self) -> usize {
        let Self { names: _, path, paths, data, datas } = self;
        [path.is_some(), paths.is_some(), data.is_some(), datas.is_some()]
            .into_iter()
            .filter(|used| *used)
            .count()
    }

    /// The four names, for "exactly one of …".
    pub(crate) fn list(&self) -> String {
        self.names.join(", ")
    }

    /// Loads the keys, or none if none are named.
    ///
    /// # Errors
    ///
    /// An empty path or list: it would silently ask for nothing.
    pub(crate) fn load(self, read: Read<'_>) -> Result<Option<Keys>, String> {
        let [path_name, paths_name, data_name, datas_name] = self.names;
        let named = self.used() > 0;
        let list = if self.path.is_some() { path_name } else { paths_name };
        let files = self.path.into_iter().chain(self.paths.into_iter().flatten());
        let mut sources: Vec<Source> = files.map(Source::File).collect();
        if sources.iter().any(|source| source.name().is_empty()) {
            return Err(format!("\"{list}\" has an empty path"));
        }
        let data = self.data.map(|Inline(bytes)| Source::Inline(data_name.to_owned(), bytes));
        sources.extend(data);
        for (index, Inline(bytes)) in self.datas.into_iter().flatten().enumerate() {
            sources.push(Source::Inline(format!("{datas_name}[{index}]"), bytes));
        }
        if named && sources.is_empty() {
            return Err(format!("\"{list}\" or \"{datas_name}\" contains no entries"));
        }
        Ok(named.then(|| Keys::load(&sources, read)))
    }
}

impl Source {
    fn name(&self) -> &str {
        match self {
            Self::File(name) | Self::Inline(name, _) => name,
        }
    }

    fn load(&self, read: Read<'_>) -> Result<PublicKey, String> {
        let from_file;
        let bytes = match self {
            Self::File(path) => {
                from_file = read(Path::new(path)).map_err(|error| self.unusable(&error))?;
                &from_file
            }
            Self::Inline(_, bytes) => bytes,
        };
        PublicKey::from_pem(bytes).map_err(|error| self.unusable(&error))
    }

    fn unusable(&self, error: &(dyn std::error::Error + 'static)) -> String {
        format!("the key in {} cannot be used: {}", self.name(), chain(error))
    }
}

impl Keys {
    fn load(sources: &[Source], read: Read<'_>) -> Self {
        let names = sources.iter().map(|source| source.name().to_owned()).collect();
        let keys = sources.iter().map(|source| source.load(read)).collect();
        Self { names, keys }
    }

    /// The keys of transparency logs, which are ECDSA keys.
    pub(crate) fn of_logs(mut self) -> Self {
        let other = |keys: &[PublicKey]| keys.iter().position(|key| !key.is_ecdsa());
        if let Some(index) = self.keys.as_deref().ok().and_then(other) {
            let name = self.name(index);
            self.keys = Err(format!(
                "the log's key in {name} cannot be used: it is not ECDSA P-256 or P-384"
            ));
        }
        self
    }

    /// The keys, or what is wrong with the first that cannot be used.
    pub(crate) fn usable(&self) -> Result<&[PublicKey], &str> {
        self.keys.as_deref().map_err(String::as_str)
    }

    /// Where the key of this index is.
    pub(crate) fn name(&self, index: usize) -> &str {
        self.names.get(index).map_or("", String::as_str)
    }

    /// "the key in …", or "any of the keys in …, …".
    pub(crate) fn one_of(&self) -> String {
        match self.names.as_slice() {
            [one] => format!("the key in {one}"),
            several => format!("any of the keys in {}", several.join(", ")),
        }
    }
}
