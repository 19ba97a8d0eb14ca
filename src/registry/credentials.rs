//! Who we are to a registry: the credentials of a request, and those of the node's auth files.
//!
//! Credentials belong to a host. Those that come with a request are for the registry that the
//! image's name says, and go nowhere else: a mirror gets what the auth files hold for the mirror.
//! Nothing here is ever printed: `Debug` shows user names at most.
//!
//! Files are containers-auth.json(5): keys are hosts or `host/path` prefixes, the longest match
//! counts. Credential helpers are not run; a host that has one is an error, not anonymous.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::oci::digest::Digest;
use crate::oci::reference::Reference;
use crate::registry::conf::FILE_LIMIT;
use crate::registry::error::RegistryError;
use crate::sys::files;

/// The credentials that came with a request.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub enum Credentials {
    /// None: the node's auth files are asked.
    #[default]
    None,
    /// A user name and a password, for the registry that the image's name says.
    Basic {
        /// The user name.
        username: String,
        /// The password, or a token that stands for one.
        password: String,
    },
    /// Those in an auth file, which is asked before the node's.
    File(PathBuf),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => out.write_str("None"),
            Self::File(path) => out.debug_tuple("File").field(path).finish(),
            Self::Basic { username, .. } => {
                out.debug_struct("Basic").field("username", username).finish_non_exhaustive()
            }
        }
    }
}

/// Credentials for one host, and where they are from.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) username: String,
    pub(super) password: String,
    origin: Origin,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    Request,
    File(PathBuf),
}

impl fmt::Debug for Login {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = out.debug_struct("Login");
        shown.field("username", &self.username).field("origin", &self.origin);
        shown.finish_non_exhaustive()
    }
}

impl Login {
    /// The value of `Authorization: Basic`.
    pub(super) fn basic(&self) -> String {
        format!("Basic {}", STANDARD.encode(format!("{}:{}", self.username, self.password)))
    }

    /// What tells these credentials from others, without being them.
    pub(super) fn fingerprint(&self) -> Digest {
        Digest::sha256(format!("{}\0{}", self.username, self.password).as_bytes())
    }
}

/// Says which credentials were tried, for a message.
pub(super) fn describe(login: Option<&Login>) -> String {
    match login.map(|login| (&login.username, &login.origin)) {
        None => "no credentials: none came with the request, and no auth file has any for this \
                 registry"
            .to_owned(),
        Some((username, Origin::Request)) => {
            format!("the request's credentials (user {username:?})")
        }
        Some((username, Origin::File(path))) => {
            format!("the credentials in {} (user {username:?})", path.display())
        }
    }
}

/// The credentials to use at `physical` for the image `logical`.
pub(super) fn choose(
    given: &Credentials,
    auth_files: &[PathBuf],
    logical: &Reference,
    physical: &Reference,
) -> Result<Option<Login>, RegistryError> {
    if let Credentials::Basic { username, password } = given
        && physical.host() == logical.host()
    {
        return Ok(Some(Login {
            username: username.clone(),
            password: password.clone(),
            origin: Origin::Request,
        }));
    }
    let own = match given {
        Credentials::File(path) => Some(path),
        _ => None,
    };
    for path in own.into_iter().chain(auth_files) {
        let bytes = match files::read(path, FILE_LIMIT, files::Links::Follow) {
            Ok(bytes) => bytes,
            Err(error) if is_absent(&error) => continue,
            Err(source) => return Err(RegistryError::Read { path: path.clone(), source }),
        };
        if let Some(login) = find(path, &bytes, physical)? {
            return Ok(Some(login));
        }
    }
    Ok(None)
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "lowercase")]
struct Auth {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    identitytoken: String,
}

pub(super) fn find(
    path: &Path,
    bytes: &[u8],
    physical: &Reference,
) -> Result<Option<Login>, RegistryError> {
    let fault = |fault: String| RegistryError::Configuration { path: path.to_owned(), fault };
    // The parser's own message can quote the text it stumbled over: that may be a password.
    let document: Document = serde_json::from_slice(bytes).map_err(|error| {
        fault(format!("is no auth file: line {}, column {}", error.line(), error.column()))
    })?;
    if let Some(helper) = document.cred_helpers.get(physical.host()) {
        let (path, host) = (path.to_owned(), physical.host().to_owned());
        return Err(RegistryError::CredentialHelper { path, host, helper: helper.clone() });
    }
    let Some((key, auth)) = entry(&document.auths, physical) else { return Ok(None) };
    let (username, password) = match decoded(auth) {
        Ok(Some(pair)) => pair,
        Ok(None) if auth.identitytoken.is_empty() => return Ok(None),
        Ok(None) => (String::new(), String::new()),
        Err(()) => return Err(fault(format!("the entry {key:?} has no base64 under \"auth\""))),
    };
    if !auth.identitytoken.is_empty() {
        return Err(fault(format!(
            "the entry {key:?} has an identity token, which this version cannot use; \
             log in with a user name and a password"
        )));
    }
    Ok(Some(Login { username, password, origin: Origin::File(path.to_owned()) }))
}

/// The entry for a repository: its own, its parents', its host's; then hosts written as URLs.
fn entry<'a>(
    auths: &'a BTreeMap<String, Auth>,
    physical: &Reference,
) -> Option<(&'a str, &'a Auth)> {
    let repository = physical.repository();
    let mut key = repository.as_str();
    loop {
        if let Some((key, auth)) = auths.get_key_value(key) {
            return Some((key, auth));
        }
        match key.rsplit_once('/') {
            Some((parent, _)) => key = parent,
            None => break,
        }
    }
    let host = canonical(physical.host());
    let entry = auths.iter().find(|(key, _)| {
        let url = key.strip_prefix("http://").or_else(|| key.strip_prefix("https://"));
        let key_host = url.map_or(key.as_str(), |url| url.split('/').next().unwrap_or(url));
        canonical(key_host) == host
    });
    entry.map(|(key, auth)| (key.as_str(), auth))
}

/// Docker Hub has several names; tools write any of them.
fn canonical(host: &str) -> &str {
    match host {
        "docker.io" | "registry-1.docker.io" => "index.docker.io",
        other => other,
    }
}

/// User name and password; `None` for the empty entries that tools leave beside a helper.
fn decoded(auth: &Auth) -> Result<Option<(String, String)>, ()> {
    let bytes = STANDARD.decode(auth.auth.trim()).map_err(|_| ())?;
    let text = String::from_utf8(bytes).map_err(|_| ())?;
    let pair = text.split_once(':');
    Ok(pair.map(|(user, password)| (user.to_owned(), password.trim_matches('\0').to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(pair: &str) -> String {
        STANDARD.encode(pair)
    }

    fn lookup(text: &str, reference: &str) -> Result<Option<String>, RegistryError> {
        let reference: Reference = reference.parse().unwrap();
        let login = find(Path::new("/auth.json"), text.as_bytes(), &reference)?;
        Ok(login.map(|login| format!("{}:{}", login.username, login.password)))
    }

    #[test]
    fn the_longest_prefix_of_the_repository_wins() {
        let auths = [
            ("q.io", "host:1"),
            ("q.io/team", "team:2"),
            ("q.io/team/app", "app:3:4"),
            ("https://old.example/v1/", "old:5"),
            ("https://index.docker.io/v1/", "hub:6"),
            ("r.io:5000", "port:7"),
        ];
        let entries: Vec<String> = auths
            .iter()
            .map(|(key, pair)| format!(r#""{key}":{{"auth":"{}"}}"#, encoded(pair)))
            .collect();
        let text = format!(r#"{{"auths":{{{}}},"other":1}}"#, entries.join(","));
        for (reference, expected) in [
            ("q.io/other/x", Some("host:1")),
            ("q.io/team/x:tag", Some("team:2")),
            ("q.io/team/app", Some("app:3:4")),
            ("q.io/team/apps", Some("team:2")),
            ("old.example/a", Some("old:5")),
            ("docker.io/library/a", Some("hub:6")),
            ("r.io:5000/a", Some("port:7")),
            ("r.io/a", None),
            ("evil.q.io/a", None),
        ] {
            assert_eq!(lookup(&text, reference).unwrap().as_deref(), expected, "{reference}");
        }
    }

    #[test]
    fn empty_entries_say_nothing() {
        assert_eq!(lookup(r#"{"auths":{"q.io":{}}}"#, "q.io/a").unwrap(), None);
        assert_eq!(lookup("{}", "q.io/a").unwrap(), None);
    }

    #[test]
    fn what_cannot_be_used_is_an_error_without_the_secret() {
        let token = format!(
            r#"{{"auths":{{"q.io":{{"auth":"{}","identitytoken":"hunter2"}}}}}}"#,
            encoded("me:hunter2")
        );
        for text in [
            r#"{"credHelpers":{"q.io":"ecr-login"}}"#,
            r#"{"auths":{"q.io":{"auth":"hunter2!"}}}"#,
            r#"{"auths":{"q.io":{"identitytoken":"hunter2"}}}"#,
            r#"{"auths":{"q.io":{"auth":["hunter2"]}}}"#,
            &token,
            "hunter2",
        ] {
            let error = crate::failure::chain(&lookup(text, "q.io/a").unwrap_err());
            assert!(error.contains("/auth.json") && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_requests_credentials_go_to_the_images_registry_only() {
        let given =
            Credentials::Basic { username: "me".to_owned(), password: "hunter2".to_owned() };
        let at = |text: &str| text.parse::<Reference>().unwrap();
        let own = choose(&given, &[], &at("q.io/a"), &at("q.io/mirror/a")).unwrap();
        assert_eq!(own.as_ref().map(|login| login.username.as_str()), Some("me"));
        assert_eq!(choose(&given, &[], &at("q.io/a"), &at("m.io/a")).unwrap(), None);
        let shown = format!("{given:?} {own:?} {}", describe(own.as_ref()));
        assert!(shown.contains("me") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn the_first_file_with_an_entry_counts_and_absent_files_are_skipped() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            files::replace(&path, text.as_bytes(), 0o600, files::Durability::Process).unwrap();
            path
        };
        let one = write("1", r#"{"auths":{"r.io":{"auth":"YTpi"}}}"#);
        let two = write("2", r#"{"auths":{"q.io":{"auth":"YzpkOg=="}}}"#);
        let paths = [directory.path().join("none"), one, two.clone()];
        let reference: Reference = "q.io/a".parse().unwrap();
        let login = choose(&Credentials::None, &paths, &reference, &reference).unwrap().unwrap();
        assert_eq!((login.username.as_str(), login.password.as_str()), ("c", "d:"));
        assert!(describe(Some(&login)).contains(two.to_str().unwrap()));
        let own = write("3", r#"{"auths":{"q.io":{"auth":"ZTpm"}}}"#);
        let given = Credentials::File(own);
        let login = choose(&given, &paths, &reference, &reference).unwrap().unwrap();
        assert_eq!((login.username.as_str(), login.password.as_str()), ("e", "f"));
        // A file of its own that says nothing leaves the node's.
        let given = Credentials::File(directory.path().join("none"));
        let login = choose(&given, &paths, &reference, &reference).unwrap().unwrap();
        assert_eq!(login.username, "c");
    }
}
