//! `crio verify --bundle`: whether a sigstore bundle holds for a file or a digest. No image and no
//! policy is involved.

use std::fs::File;
use std::io::Error;
use std::io::ErrorKind;
use std::io::Read;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Arg;
use clap::ArgMatches;
use serde::Serialize;

use super::CliError;
use super::output;
use super::output::Form;
use crate::failure::chain;
use crate::oci::digest::Digest;
use crate::signature::key::PublicKey;
use crate::signature::standalone;
use crate::signature::standalone::Artifact;
use crate::signature::standalone::Proven;
use crate::signature::standalone::Signer;
use crate::signature::standalone::StandaloneError;

pub(super) const BUNDLE: &str = "bundle";
const ROOT: &str = "trusted-root";
const IDENTITY: &str = "identity";
const ISSUER: &str = "issuer";
const KEY: &str = "key";

/// The largest bundle, root or key that is read, in bytes.
const LIMIT: u64 = 16 * 1024 * 1024;

/// What is printed of a bundle.
#[derive(Debug, Serialize)]
struct Row {
    artifact: String,
    verdict: &'static str,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    proven: Option<Proven>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// The flags.
pub(super) fn flags() -> [Arg; 5] {
    let file = |name: &'static str| Arg::new(name).long(name).value_name("FILE").requires(BUNDLE);
    let text = |name: &'static str| Arg::new(name).long(name).value_name("TEXT").requires(BUNDLE);
    [
        Arg::new(BUNDLE).long(BUNDLE).value_name("FILE").requires(ROOT).help(
            "Judge this sigstore bundle instead; then IMAGE is a file, or a digest as \
                 sha256:HEX. A log of the trusted root must have it, or, where the root has no \
                 logs, a time stamp be in it.",
        ),
        file(ROOT).help("The sigstore trusted root that the bundle must hold under."),
        text(IDENTITY).requires(ISSUER).help("Who must have signed: an e-mail address or URI."),
        text(ISSUER).requires(IDENTITY).help("The OIDC issuer that vouches for the identity."),
        file(KEY)
            .conflicts_with_all([IDENTITY, ISSUER])
            .help("The public key whose owner must have signed."),
    ]
}

pub(super) fn run(matches: &ArgMatches, artifact: &str) -> Result<ExitCode, CliError> {
    let text = |name: &str| matches.get_one::<String>(name).cloned().unwrap_or_default();
    let signer = match matches.get_one::<String>(KEY) {
        Some(path) => Signer::Key(
            PublicKey::from_pem(&read(path)?)
                .and_then(|key| key.known().cloned())
                .map_err(|source| CliError::Key { path: path.into(), source })?,
        ),
        None if !matches.contains_id(IDENTITY) => return Err(CliError::NoSigner),
        None => Signer::Identity { identity: text(IDENTITY), issuer: text(ISSUER) },
    };
    let about = match artifact.parse::<Digest>() {
        Ok(digest) => Artifact::Digest(digest),
        Err(_) => Artifact::Bytes(Box::new(open(artifact)?)),
    };
    let found = standalone::verify(&read(&text(BUNDLE))?, &read(&text(ROOT))?, about, &signer);
    let row =
        |verdict, proven, reason| Row { artifact: artifact.to_owned(), verdict, proven, reason };
    let row = match found {
        Ok(proven) => row("allowed", Some(proven), None),
        Err(error) if error.is_refusal() => row("refused", None, Some(chain(&error))),
        Err(StandaloneError::Artifact(source)) => {
            return Err(CliError::File { path: artifact.into(), source });
        }
        Err(error) => return Err(error.into()),
    };
    match output::form(matches) {
        Form::Json => output::json(&row)?,
        Form::Table => std::io::stdout().write_all(text_of(&row).as_bytes())?,
    }
    Ok(ExitCode::from(u8::from(row.reason.is_some())))
}

fn text_of(row: &Row) -> String {
    let mut lines = vec![("artifact", row.artifact.clone()), ("verdict", row.verdict.to_owned())];
    lines.extend(row.reason.iter().map(|reason| ("reason", reason.clone())));
    if let Some(proven) = &row.proven {
        lines.extend(proven.identity.iter().map(|identity| ("signer", identity.clone())));
        lines.extend(proven.issuer.iter().map(|issuer| ("issuer", issuer.clone())));
        lines.extend(proven.times.iter().map(|time| ("time", time.clone())));
        lines.extend(proven.log_indexes.iter().map(|index| ("log index", index.to_string())));
    }
    output::lines(&lines)
}

fn open(path: &str) -> Result<File, CliError> {
    File::open(path).map_err(|source| CliError::File { path: PathBuf::from(path), source })
}

fn read(path: &str) -> Result<Vec<u8>, CliError> {
    let failed = |source| CliError::File { path: PathBuf::from(path), source };
    let mut bytes = Vec::new();
    open(path)?.take(LIMIT + 1).read_to_end(&mut bytes).map_err(failed)?;
    if u64::try_from(bytes.len()).is_ok_and(|size| size <= LIMIT) {
        return Ok(bytes);
    }
    Err(failed(Error::new(ErrorKind::FileTooLarge, format!("larger than {LIMIT} bytes"))))
}
