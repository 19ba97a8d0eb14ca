//! Signatures that are kept beside registries: on a web server, in a directory, or in a registry
//! that has an extension for them.
//!
//! `<base>/<repository>@<algorithm>=<hex>/signature-<n>`, from 1 on until there is no more. Only
//! status 404, and for files their absence, means that there is no more. A server that does not
//! answer, or answers with something else than a signature, must not pass for one that has none.

use std::path::Path;
use std::path::PathBuf;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::StatusCode;
use reqwest::Url;
use reqwest::header::HeaderMap;
use serde::Deserialize;

use crate::oci::digest::Digest;
use crate::oci::stored_signature::StoredSignature;
use crate::registry::answer;
use crate::registry::answer::Refusal;
use crate::registry::client::Answer;
use crate::registry::client::Asker;
use crate::registry::client::Question;
use crate::registry::client::REFUSAL_PATIENCE;
use crate::registry::error::Asked;
use crate::registry::error::RegistryError;
use crate::registry::names::Source;
use crate::registry::retry;
use crate::registry::retry::Failure;
use crate::registry::transport;
use crate::registry::transport::Get;
use crate::registry::transport::SeeOther;
use crate::registry::transport::asked;
use crate::sys::files;

/// The largest signature, in bytes; also of all signatures of an image together.
const SIGNATURE_LIMIT: u64 = 4 * 1024 * 1024;
/// How many signatures of an image are read.
const MOST: usize = 100;

/// Reads the signatures of the manifest `digest` at `base`.
pub(super) async fn list(
    asker: &Asker,
    base: &Url,
    source: &Source,
    digest: &Digest,
) -> Result<Vec<StoredSignature>, RegistryError> {
    let mut found = Vec::new();
    let mut left = SIGNATURE_LIMIT;
    loop {
        let place = Place::new(base, source, digest, found.len() + 1)?;
        let Some(bytes) = place.read(asker, source, left).await? else { return Ok(found) };
        let about = place.asked(source);
        if found.len() == MOST {
            return Err(RegistryError::TooManySignatures { asked: about, limit: MOST });
        }
        left = left.saturating_sub(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        let signature = StoredSignature::parse(&bytes)
            .map_err(|source| RegistryError::Signature { asked: about, source })?;
        found.push(signature);
    }
}

/// Where one signature is.
enum Place {
    File(PathBuf),
    Web(Url),
}

impl Place {
    fn new(
        base: &Url,
        source: &Source,
        digest: &Digest,
        number: usize,
    ) -> Result<Self, RegistryError> {
        // Repository and digest were checked when they were parsed: neither can leave the path.
        let (repository, algorithm) = (source.physical.path(), digest.algorithm().name());
        let below = format!("{repository}@{algorithm}={}/signature-{number}", digest.hex());
        if base.scheme() == "file" {
            let directory = base.to_file_path().map_err(|()| RegistryError::Lookaside {
                reference: source.logical.to_string(),
                url: base.to_string(),
            })?;
            return Ok(Self::File(directory.join(below)));
        }
        let mut url = base.clone();
        url.set_path(&format!("{}/{below}", base.path().trim_end_matches('/')));
        Ok(Self::Web(url))
    }

    /// The bytes of the signature; `None` if there is none.
    async fn read(
        &self,
        asker: &Asker,
        source: &Source,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, RegistryError> {
        match self {
            Self::File(path) => read_file(path.clone(), limit).await,
            Self::Web(url) => {
                asker.persist(self.asked(source), || fetch(asker, source, url, limit)).await
            }
        }
    }

    fn asked(&self, source: &Source) -> Box<Asked> {
        let reference = source.logical.to_string();
        match self {
            Self::Web(url) => asked(&reference, url),
            Self::File(path) => Box::new(Asked { reference, url: path.display().to_string() }),
        }
    }
}

async fn read_file(path: PathBuf, limit: u64) -> Result<Option<Vec<u8>>, RegistryError> {
    let read = move |path: &Path| match files::read(path, limit, files::Links::Follow) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(RegistryError::Read { path: path.to_owned(), source }),
    };
    let of = path.clone();
    tokio::task::spawn_blocking(move || read(&path)).await.unwrap_or_else(|gone| {
        Err(RegistryError::Read { path: of, source: std::io::Error::other(gone) })
    })
}

async fn fetch(
    asker: &Asker,
    source: &Source,
    url: &Url,
    limit: u64,
) -> Result<Option<Vec<u8>>, Failure> {
    let reference = source.logical.to_string();
    // The registry's own authorities are believed here too; its credentials stay with it.
    let home = Url::parse(&format!("https://{}/", source.physical.host())).ok();
    let get = Get {
        url: url.clone(),
        home: home.as_ref().unwrap_or(url),
        host: source.physical.host(),
        insecure: source.insecure,
        headers: HeaderMap::new(),
        authorization: None,
        see_other: SeeOther::Follow,
        reference: &reference,
    };
    let response = transport::send(&asker.clients, &get).await?;
    let asked = asked(&reference, url);
    match response.status() {
        StatusCode::OK => Ok(Some(answer::read(response, limit, asker.patience, &asked).await?)),
        StatusCode::NOT_FOUND => Ok(None),
        status => {
            let again = retry::advice(&response, SystemTime::now());
            let message = Refusal::read(response, REFUSAL_PATIENCE, &asked).await.into_message();
            let status = status.as_u16();
            Err(Failure { error: RegistryError::Status { asked, status, message }, again })
        }
    }
}

/// What a registry with `X-Registry-Supports-Signatures` answers, as OpenShift's does.
#[derive(Deserialize)]
struct List {
    signatures: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(default)]
    schema_version: i64,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    content: String,
}

/// Reads the signatures that the registry itself keeps, by its extension.
pub(super) async fn extension(
    asker: &Asker,
    source: &Source,
    digest: &Digest,
) -> Result<Vec<StoredSignature>, RegistryError> {
    let path = format!("/extensions/v2/{}/signatures/{digest}", source.physical.path());
    let question = Question {
        source,
        path: &path,
        accept: "application/json",
        from: 0,
        see_other: SeeOther::Follow,
    };
    let (whole, asked) = match asker.read(question).await? {
        Answer::Found(whole, asked) => (whole, asked),
        Answer::Missing(refusal, asked) => {
            return Err(RegistryError::Unclear { asked, message: refusal.into_message() });
        }
    };
    let broken = |source: serde_json::Error| RegistryError::SignatureList {
        asked: asked.clone(),
        source: Box::new(source),
    };
    let list: List = crate::oci::strict_json::parse(&whole.bytes).map_err(broken)?;
    let entries = list.signatures.unwrap_or_default();
    let atomic = entries.into_iter().filter(|one| one.schema_version == 2 && one.kind == "atomic");
    let mut found = Vec::new();
    for entry in atomic {
        if found.len() == MOST {
            return Err(RegistryError::TooManySignatures { asked, limit: MOST });
        }
        let bytes = BASE64
            .decode(&entry.content)
            .map_err(|error| broken(serde::de::Error::custom(error)))?;
        found.push(StoredSignature::OpenPgp(bytes));
    }
    Ok(found)
}
