//! OCI distribution over HTTPS; the only HTTP client of this program.
//!
//! A registry is foreign: whatever it sends is bounded in size and time, and checked against the
//! digest it was asked for. Where the answer decides about an image, "no" is believed only in a
//! registry's own words: a failure, a time-out or a bare 404 is an error and never "there is none".
//!
//! Credentials belong to a host and go to no other. Redirects, token servers and mirrors are given
//! what is theirs, which mostly is nothing. URLs inside of manifests are never dialled.
//!
//! There is one path for all requests: `client` asks, with `auth` for the header, `transport` for
//! the hops, `tls` for the trust, `retry` for the patience. `manifest`, `blob` and `referrers` are
//! what is asked for; `lookaside` asks beside the registry. `conf`, `registries_d`, `names` and
//! `credentials` say whom to ask, and as whom.
//!
//! Not here: what a manifest means (`oci`), whether an image may be used (`policy`), pushing.

mod answer;
mod auth;
mod blob;
mod challenge;
mod client;
mod conf;
mod credentials;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod lookaside;
mod manifest;
mod names;
mod referrers;
mod registries_d;
mod retry;
mod tls;
mod transport;
mod trust;

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;

use crate::oci::descriptor::Descriptor;
use crate::oci::digest::Digest;
use crate::oci::reference::Reference;
use crate::oci::stored_signature::StoredSignature;
use crate::registry::auth::Tokens;
use crate::registry::client::Asker;
use crate::registry::client::Hosts;
use crate::registry::conf::Files;
use crate::registry::manifest::Found;
use crate::registry::registries_d::SignatureFiles;
use crate::registry::tls::Clients;

pub use crate::registry::blob::BlobStream;
pub use crate::registry::credentials::Credentials;
pub use crate::registry::error::Asked;
pub use crate::registry::error::RegistryError;
pub use crate::registry::manifest::FetchedManifest;
pub use crate::registry::manifest::TagOrDigest;
pub use crate::registry::names::ShortNameMode;
pub use crate::registry::names::Source;

/// What an administrator can say about registries outside of registries.conf.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Who we say we are.
    pub user_agent: String,
    /// containers-registries.conf(5); it need not exist.
    pub registries_conf: PathBuf,
    /// Its drop-ins; it need not exist.
    pub registries_conf_dir: PathBuf,
    /// containers-registries.d(5); the first directory that exists counts.
    pub registries_d: Vec<PathBuf>,
    /// Where signatures are if registries.d does not say; it need not exist.
    pub lookaside: PathBuf,
    /// Directories with a directory for each host that has certificates; the first with one counts.
    pub certs_dirs: Vec<PathBuf>,
    /// The node's auth files, in the order to look.
    pub auth_files: Vec<PathBuf>,
    /// Whether a short name may be tried at more than one registry.
    pub short_name_mode: ShortNameMode,
    /// How long a registry may send nothing.
    pub read_timeout: Duration,
    /// How long a manifest, signature or token may take as a whole, with all tries.
    pub document_timeout: Duration,
    /// How long a layer may be waited for without coming further.
    pub progress_timeout: Duration,
    /// The first wait before something is asked again; later ones are longer.
    pub backoff: Duration,
}

impl Default for Settings {
    /// The places and times of a node where nothing is configured.
    fn default() -> Self {
        Self {
            user_agent: concat!("cri-o/", env!("CARGO_PKG_VERSION")).to_owned(),
            registries_conf: PathBuf::from("/etc/containers/registries.conf"),
            registries_conf_dir: PathBuf::from("/etc/containers/registries.conf.d"),
            registries_d: vec![
                PathBuf::from("/root/.config/containers/registries.d"),
                PathBuf::from("/etc/containers/registries.d"),
            ],
            lookaside: PathBuf::from("/var/lib/containers/sigstore"),
            certs_dirs: vec![
                PathBuf::from("/etc/containers/certs.d"),
                PathBuf::from("/etc/docker/certs.d"),
            ],
            auth_files: vec![
                PathBuf::from("/run/containers/0/auth.json"),
                PathBuf::from("/root/.config/containers/auth.json"),
                PathBuf::from("/root/.docker/config.json"),
            ],
            short_name_mode: ShortNameMode::Enforcing,
            read_timeout: Duration::from_secs(60),
            document_timeout: Duration::from_secs(120),
            progress_timeout: Duration::from_secs(120),
            backoff: Duration::from_millis(300),
        }
    }
}

/// All registries. Cheap to clone: clones share connections, tokens and what is known of hosts.
#[derive(Debug, Clone)]
pub struct Registry {
    asker: Arc<Asker>,
    files: Arc<Files>,
    signature_files: Arc<SignatureFiles>,
    lookaside: Arc<Path>,
    auth_files: Arc<[PathBuf]>,
    short_name_mode: ShortNameMode,
}

impl Registry {
    /// A client that has asked nobody yet.
    ///
    /// # Errors
    ///
    /// What [`Registry::check`] finds.
    pub fn new(settings: Settings) -> Result<Self, RegistryError> {
        let Settings { user_agent, certs_dirs, read_timeout, .. } = settings;
        let files = Files::new(settings.registries_conf, settings.registries_conf_dir);
        let asker = Asker {
            clients: Clients::new(certs_dirs, user_agent, read_timeout),
            tokens: Tokens::default(),
            hosts: Hosts::default(),
            backoff: settings.backoff,
            patience: settings.document_timeout,
            standstill: settings.progress_timeout,
        };
        let registry = Self {
            asker: Arc::new(asker),
            files: Arc::new(files),
            signature_files: Arc::new(SignatureFiles::new(settings.registries_d)),
            lookaside: settings.lookaside.into(),
            auth_files: settings.auth_files.into(),
            short_name_mode: settings.short_name_mode,
        };
        registry.check()?;
        Ok(registry)
    }

    /// Reads registries.conf and registries.d as the next pull will.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Read`], [`RegistryError::Toml`] or [`RegistryError::Configuration`] for a
    /// file that cannot be read or understood.
    pub fn check(&self) -> Result<(), RegistryError> {
        self.files.load()?;
        self.signature_files.load()?;
        Ok(())
    }

    /// The full references that `text` can mean, in the order to try them. Asks no network.
    ///
    /// Each has a tag or a digest; one with a digest has no tag.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Reference`], [`RegistryError::Ambiguous`], [`RegistryError::Meaningless`],
    /// and what reading registries.conf fails with.
    pub fn candidates(&self, text: &str) -> Result<Vec<Reference>, RegistryError> {
        names::candidates(&*self.files.load()?, self.short_name_mode, text)
    }

    /// Where `reference` can be had: the mirrors that serve it, then the registry itself.
    ///
    /// `credentials` are for the registry that the reference names and go nowhere else; for the
    /// other places, and if there are none, the auth files are looked up.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Blocked`], and what reading registries.conf or an auth file fails with.
    pub fn sources(
        &self,
        reference: &Reference,
        credentials: &Credentials,
    ) -> Result<Vec<Source>, RegistryError> {
        let places = names::places(&*self.files.load()?, reference)?;
        let source = |place: names::Place| {
            let login =
                credentials::choose(credentials, &self.auth_files, reference, &place.physical)?;
            let names::Place { physical, insecure, mirror } = place;
            Ok(Source { logical: reference.clone(), physical, insecure, login, mirror })
        };
        places.into_iter().map(source).collect()
    }

    /// A manifest or index, its digest checked.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`] on 404; see [`RegistryError`] for the rest.
    pub async fn manifest(
        &self,
        source: &Source,
        which: &TagOrDigest,
    ) -> Result<FetchedManifest, RegistryError> {
        match manifest::fetch(&self.asker, source, which).await? {
            Found::Manifest(manifest) => Ok(manifest),
            Found::Nothing(refusal, asked) => {
                Err(RegistryError::NotFound { asked, message: refusal.into_message() })
            }
        }
    }

    /// A manifest or index, or `None` if the registry said clearly that there is none.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Unclear`] on a 404 that is not in a registry's words, because it may be a
    /// proxy's; see [`RegistryError`] for the rest.
    pub async fn manifest_if_exists(
        &self,
        source: &Source,
        which: &TagOrDigest,
    ) -> Result<Option<FetchedManifest>, RegistryError> {
        match manifest::fetch(&self.asker, source, which).await? {
            Found::Manifest(manifest) => Ok(Some(manifest)),
            Found::Nothing(refusal, _) if refusal.denies_existence() => Ok(None),
            Found::Nothing(refusal, asked) => {
                Err(RegistryError::Unclear { asked, message: refusal.into_message() })
            }
        }
    }

    /// A blob of at most `limit` bytes, whole, its size and digest checked.
    ///
    /// # Errors
    ///
    /// [`RegistryError::TooLarge`] before anything is asked if the descriptor says so; see
    /// [`RegistryError`] for the rest.
    pub async fn small_blob(
        &self,
        source: &Source,
        descriptor: &Descriptor,
        limit: u64,
    ) -> Result<Vec<u8>, RegistryError> {
        blob::small(Arc::clone(&self.asker), source, descriptor, limit).await
    }

    /// A blob as a stream of as many bytes as the descriptor says. The caller checks the digest.
    ///
    /// # Errors
    ///
    /// See [`RegistryError`].
    pub async fn blob(
        &self,
        source: &Source,
        descriptor: &Descriptor,
    ) -> Result<BlobStream, RegistryError> {
        BlobStream::open(Arc::clone(&self.asker), source, descriptor).await
    }

    /// The manifests that name `subject` as what they are about; empty if there are none.
    ///
    /// What a list says of a referrer is a claim: fetch it and look at its own subject.
    ///
    /// # Errors
    ///
    /// Whenever it cannot be found out whether there are any; see [`RegistryError`].
    pub async fn referrers(
        &self,
        source: &Source,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>, RegistryError> {
        referrers::list(&self.asker, source, subject).await
    }

    /// Whether an administrator wants sigstore's signatures to be looked for at `source`; `None`
    /// if registries.d does not say.
    ///
    /// # Errors
    ///
    /// What reading registries.d fails with.
    pub fn wants_attachments(&self, source: &Source) -> Result<Option<bool>, RegistryError> {
        Ok(self.signature_files.load()?.attachments(&source.physical))
    }

    /// The signatures of the manifest `digest` that are kept beside `source`: where registries.d
    /// says, or in the registry itself if that says it keeps them.
    ///
    /// # Errors
    ///
    /// Whenever it cannot be found out whether there are any; see [`RegistryError`].
    pub async fn signatures(
        &self,
        source: &Source,
        digest: &Digest,
    ) -> Result<Vec<StoredSignature>, RegistryError> {
        let conf = self.signature_files.load()?;
        if self.asker.keeps_signatures(source).await? {
            return lookaside::extension(&self.asker, source, digest).await;
        }
        let usual = || {
            Url::from_directory_path(&self.lookaside).map_err(|()| RegistryError::Lookaside {
                reference: source.logical.to_string(),
                url: self.lookaside.display().to_string(),
            })
        };
        let base = conf.lookaside(&source.physical).cloned().map_or_else(usual, Ok)?;
        lookaside::list(&self.asker, &base, source, digest).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sendable<T: Send>(value: T) -> T {
        value
    }

    #[test]
    fn requests_can_move_between_threads() {
        let nowhere = PathBuf::from("/nonexistent");
        let settings = Settings {
            registries_conf: nowhere.clone(),
            registries_conf_dir: nowhere,
            ..Settings::default()
        };
        let registry = Registry::new(settings).unwrap();
        let reference: Reference = "q.io/a:1".parse().unwrap();
        let digest = Digest::sha256(b"");
        let text = format!(r#"{{"digest":"{digest}","size":0}}"#);
        let descriptor: Descriptor = serde_json::from_str(&text).unwrap();
        let which = TagOrDigest::from(&reference);
        let source = Source {
            physical: reference.clone(),
            logical: reference,
            insecure: false,
            login: None,
            mirror: false,
        };
        // They are never polled: that they compile is the test.
        drop(sendable(registry.manifest(&source, &which)));
        drop(sendable(registry.manifest_if_exists(&source, &which)));
        drop(sendable(registry.small_blob(&source, &descriptor, 1)));
        drop(sendable(registry.referrers(&source, &digest)));
        drop(sendable(registry.signatures(&source, &digest)));
        drop(sendable(async move {
            if let Ok(mut stream) = registry.blob(&source, &descriptor).await {
                stream.next().await;
            }
        }));
    }
}
