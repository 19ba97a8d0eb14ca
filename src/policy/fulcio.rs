//! `fulcio`: someone who logged in at an identity provider must have signed.
//!
//! Whose word counts is pinned: a certificate authority and the key of a log, as in
//! containers-policy.json(5), or a whole `trusted_root.json`. The issuer is compared whole, and so
//! is every name; a regular expression must match all of a name.

use std::path::Path;

use regex::Regex;
use regex::RegexBuilder;

use crate::failure::chain;
use crate::policy::json::Fault;
use crate::policy::json::Members;
use crate::policy::json::Part;
use crate::policy::keys::Inline;
use crate::policy::keys::Keys;
use crate::policy::keys::Read;
use crate::policy::keys::Sources;
use crate::policy::proof::quoted;
use crate::signature::certificate::CLAIMS;
use crate::signature::certificate::Certificate;
use crate::signature::trust::Trust;
use crate::signature::trust::TrustError;

/// The longest regular expression, in bytes, and the most that it may take when compiled.
const LONGEST_REGEX: usize = 1024;
const LARGEST_REGEX: usize = 1024 * 1024;

/// Who must have signed, and whose word counts for it.
#[derive(Debug)]
pub(crate) struct Fulcio {
    trust: Result<Trust, String>,
    issuer: String,
    subject: Subject,
    claims: Vec<(&'static str, String)>,
}

/// The name that must be in the certificate.
#[derive(Debug)]
enum Subject {
    Email(String),
    Uri(String),
    Regex(String, Regex),
}

/// The members of a `fulcio`, of which the files are not read yet.
#[derive(Debug)]
struct Text {
    ca: FileOrData,
    root: FileOrData,
    issuer: String,
    subject: Subject,
    claims: Vec<(&'static str, String)>,
}

/// A file, or bytes in the policy.
#[derive(Debug)]
pub(crate) struct FileOrData {
    path: Option<String>,
    data: Option<Inline>,
    name: &'static str,
}

impl FileOrData {
    /// Takes the two members of these names.
    pub(crate) fn take(members: &mut Members<'_>, names: [&'static str; 2]) -> Result<Self, Fault> {
        let [path, name] = names;
        Ok(Self { path: members.take(path)?, data: members.take(name)?, name })
    }

    /// The same, where an empty path is none, as in containers/image.
    pub(crate) fn take_or_empty(
        members: &mut Members<'_>,
        names: [&'static str; 2],
    ) -> Result<Self, Fault> {
        let Self { path, data, name } = Self::take(members, names)?;
        Ok(Self { path: path.filter(|path| !path.is_empty()), data, name })
    }

    /// Whether a path is named that is none.
    pub(crate) fn is_empty_path(&self) -> bool {
        self.path.as_ref().is_some_and(String::is_empty)
    }

    /// How many of the two are used.
    pub(crate) fn used(&self) -> usize {
        usize::from(self.path.is_some()) + usize::from(self.data.is_some())
    }

    /// Where it is.
    pub(crate) fn place(&self) -> &str {
        self.path.as_deref().unwrap_or(self.name)
    }

    /// The bytes, or why there are none.
    pub(crate) fn load(self, read: Read<'_>) -> Result<Vec<u8>, String> {
        match (self.path, self.data) {
            (Some(path), _) => {
                let bytes = read(Path::new(&path));
                bytes.map_err(|error| format!("{path} cannot be used: {}", chain(&error)))
            }
            (None, Some(data)) => Ok(data.into_bytes()),
            (None, None) => Ok(Vec::new()),
        }
    }
}

impl Fulcio {
    /// Reads the member `fulcio`; `logs` are those that the requirement names beside it.
    pub(crate) fn parse(
        part: &Part<'_>,
        logs: Sources,
        requirement: &Part<'_>,
        read: Read<'_>,
    ) -> Result<Self, Fault> {
        let Text { ca, root, issuer, subject, claims } = Text::read(part)?;
        let trust = if root.used() == 1 {
            if logs.used() > 0 {
                let fault = format!("{} are not supported with a trusted root", logs.list());
                return Err(requirement.fault(fault));
            }
            trust_root(root, read, Trust::from_json)
        } else {
            let list = logs.list();
            let logs = logs.load(read).map_err(|fault| requirement.fault(fault))?;
            let Some(logs) = logs.map(Keys::of_logs) else {
                let fault = format!("one of {list} must be specified if fulcio is used");
                return Err(requirement.fault(fault));
            };
            trust_authority(ca, &logs, read)
        };
        Ok(Self { trust, issuer, subject, claims })
    }

    /// Whose word counts, or what is missing.
    pub(crate) fn trust(&self) -> Result<&Trust, String> {
        self.trust.as_ref().map_err(Clone::clone)
    }

    /// Whether the owner of a proven certificate is who must have signed; if not, in which respect.
    pub(crate) fn accepts(&self, certificate: &Certificate) -> Result<(), String> {
        match &certificate.issuer {
            None => return Err("Fulcio certificate is missing the issuer extension".to_owned()),
            Some(issuer) if *issuer != self.issuer => {
                let found = quoted(std::slice::from_ref(issuer));
                return Err(format!("Unexpected Fulcio OIDC issuer {found}"));
            }
            Some(_) => {}
        }
        self.subject.accepts(certificate)?;
        for (word, required) in &self.claims {
            let found = certificate.claims.get(word);
            if found != Some(required) {
                let found =
                    found.map_or_else(String::new, |text| quoted(std::slice::from_ref(text)));
                return Err(format!("Required {word} {required:?} not found (got [{found}])"));
            }
        }
        Ok(())
    }

    /// Who must have signed, in a sentence.
    pub(crate) fn described(&self) -> String {
        match &self.subject {
            Subject::Email(name) | Subject::Uri(name) => name.clone(),
            Subject::Regex(pattern, _) => format!("someone whose name matches {pattern:?}"),
        }
    }
}

impl Text {
    fn read(part: &Part<'_>) -> Result<Self, Fault> {
        let mut members = part.members()?;
        let ca = FileOrData::take_or_empty(&mut members, ["caPath", "caData"])?;
        let root = ["trustedRootPath", "trustedRootData"];
        let root = FileOrData::take_or_empty(&mut members, root)?;
        let issuer = members.take::<String>("oidcIssuer")?.unwrap_or_default();
        let email = members.take::<String>("subjectEmail")?.unwrap_or_default();
        let uri = members.take::<String>("subjectURI")?.unwrap_or_default();
        let pattern = members.take::<String>("subjectRegex")?.unwrap_or_default();
        let mut claims = Vec::new();
        for (word, _) in CLAIMS {
            claims.extend(members.take::<String>(word)?.map(|required| (word, required)));
        }
        members.end()?;
        if ca.used() + root.used() != 1 {
            return Err(part.fault(
                "exactly one of caPath, caData, trustedRootPath and trustedRootData must be specified",
            ));
        }
        if issuer.is_empty() {
            return Err(part.fault("oidcIssuer must be specified"));
        }
        if let Some((word, _)) = claims.iter().find(|(_, required)| required.is_empty()) {
            return Err(part.fault(format!("{word} must not be empty")));
        }
        let subject = match (email.is_empty(), uri.is_empty(), pattern.is_empty()) {
            (false, true, true) => Subject::Email(email),
            (true, false, true) => Subject::Uri(uri),
            (true, true, false) => Subject::regex(pattern).map_err(|fault| part.fault(fault))?,
            _ => {
                return Err(part.fault(
                    "exactly one of subjectEmail, subjectURI and subjectRegex must be specified",
                ));
            }
        };
        Ok(Self { ca, root, issuer, subject, claims })
    }
}

impl Subject {
    fn regex(pattern: String) -> Result<Self, String> {
        if pattern.len() > LONGEST_REGEX {
            return Err(format!("subjectRegex has more than {LONGEST_REGEX} bytes"));
        }
        let compile = |pattern: &str| {
            let regex = RegexBuilder::new(pattern).size_limit(LARGEST_REGEX).build();
            // Above its last line the library draws the pattern, for people with a terminal.
            regex.map_err(|error| {
                let text = error.to_string();
                let fault = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
                format!("subjectRegex cannot be used: {fault}")
            })
        };
        // By itself first: a pattern must not close the bracket that makes it match the whole.
        compile(&pattern)?;
        let whole = compile(&format!(r"\A(?:{pattern})\z"))?;
        Ok(Self::Regex(pattern, whole))
    }

    fn accepts(&self, certificate: &Certificate) -> Result<(), String> {
        let Certificate { emails, uris, .. } = certificate;
        let (what, required, found, accepted) = match self {
            Self::Email(name) => ("email", name, emails.clone(), emails.contains(name)),
            Self::Uri(name) => ("URI", name, uris.clone(), uris.contains(name)),
            Self::Regex(pattern, regex) => {
                let names: Vec<String> = emails.iter().chain(uris).cloned().collect();
                let accepted = names.iter().any(|name| regex.is_match(name));
                ("name matching", pattern, names, accepted)
            }
        };
        if accepted {
            return Ok(());
        }
        Err(format!("Required {what} {required:?} not found (got [{}])", quoted(&found)))
    }
}

/// Reads a trusted root as `parse` does, or says what is wrong with it.
pub(crate) fn trust_root(
    root: FileOrData,
    read: Read<'_>,
    parse: fn(&[u8]) -> Result<Trust, TrustError>,
) -> Result<Trust, String> {
    let place = root.place().to_owned();
    let bytes = root.load(read).map_err(|fault| format!("the trusted root in {fault}"))?;
    parse(&bytes)
        .map_err(|error| format!("the trusted root in {place} cannot be used: {}", chain(&error)))
}

fn trust_authority(ca: FileOrData, logs: &Keys, read: Read<'_>) -> Result<Trust, String> {
    let place = ca.place().to_owned();
    let pem = ca.load(read).map_err(|fault| format!("the certificate in {fault}"))?;
    let keys = logs.usable()?;
    let logs: Vec<_> = keys.iter().enumerate().map(|(at, key)| (key, logs.name(at))).collect();
    Trust::from_parts(&pem, &logs)
        .map_err(|error| format!("the certificate in {place} cannot be used: {}", chain(&error)))
}
