//! One HTTP client for each way to trust: system roots, and what `certs.d` adds for a host.
//!
//! `<certs_dir>/<host[:port]>/` holds `*.crt` (further authorities) and `*.cert` with `*.key` (who
//! we are), as the tools that share the directory read it. A client is kept until the files change,
//! so connections are used again and new certificates need no restart.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use reqwest::Client;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

use crate::registry::error::RegistryError;
use crate::registry::trust;
use crate::registry::trust::Anyone;
use crate::registry::trust::Authorities;
use crate::sys::files;

/// How long a TCP connection and its TLS handshake may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// The largest certificate file that is read, in bytes.
const FILE_LIMIT: u64 = 1024 * 1024;
/// How many clients are kept; hosts without a directory of their own share one.
const CLIENT_LIMIT: usize = 64;

/// Whether a server must show a good certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Check {
    /// Yes.
    Certificate,
    /// The administrator marked the registry insecure.
    Nothing,
}

/// Whether a server may know who we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Identify {
    /// The directory is this server's own: its client certificate may be shown.
    Yes,
    /// The directory belongs to the server that sent us here: its authorities count, no more.
    No,
}

/// The clients made so far.
pub(super) struct Clients {
    certs_dirs: Vec<PathBuf>,
    user_agent: String,
    read_timeout: Duration,
    made: Mutex<HashMap<Key, Client>>,
}

impl fmt::Debug for Clients {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Clients").field("certs_dirs", &self.certs_dirs).finish_non_exhaustive()
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    files: Vec<(PathBuf, files::Stamp)>,
    check: Check,
    identify: Identify,
}

impl Clients {
    pub(super) fn new(
        certs_dirs: Vec<PathBuf>,
        user_agent: String,
        read_timeout: Duration,
    ) -> Self {
        Self { certs_dirs, user_agent, read_timeout, made: Mutex::default() }
    }

    /// The directory with certificates for `host`, if there is one.
    pub(super) fn directory(&self, host: &str) -> Option<PathBuf> {
        // A redirect can name any host: none of them may lead out of the directory.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
        if !host.bytes().all(plain) || host.starts_with('.') || host.is_empty() {
            return None;
        }
        self.certs_dirs.iter().map(|directory| directory.join(host)).find(|path| path.is_dir())
    }

    /// The client that trusts what `directory` says.
    pub(super) fn client(
        &self,
        host: &str,
        directory: Option<&Path>,
        check: Check,
        identify: Identify,
    ) -> Result<Client, RegistryError> {
        let files = match directory {
            Some(directory) => list(directory)?,
            None => Vec::new(),
        };
        let key = Key { files, check, identify };
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = made.get(&key) {
            return Ok(client.clone());
        }
        let client = self.build(host, &key)?;
        if made.len() >= CLIENT_LIMIT {
            made.clear();
        }
        made.insert(key, client.clone());
        Ok(client)
    }

    fn build(&self, host: &str, key: &Key) -> Result<Client, RegistryError> {
        let tls = self.tls(host, key)?;
        // Bytes are hashed as they come: nothing may be unpacked on the way. Redirects are our
        // own business, because a client that follows them shows its certificate to anyone.
        let builder = Client::builder()
            .user_agent(&self.user_agent)
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(self.read_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .tls_backend_preconfigured(tls);
        builder.build().map_err(|source| RegistryError::Client { host: host.to_owned(), source })
    }

    fn tls(&self, host: &str, key: &Key) -> Result<rustls::ClientConfig, RegistryError> {
        let fault = |source| RegistryError::Tls { host: host.to_owned(), source };
        let mut own = Vec::new();
        for (path, _) in key.files.iter().filter(|(path, _)| has_extension(path, "crt")) {
            own.extend(certificates(path)?);
        }
        let verifier: Arc<dyn ServerCertVerifier> = match key.check {
            Check::Certificate => Arc::new(Authorities::new(own).map_err(fault)?),
            Check::Nothing => Arc::new(Anyone),
        };
        let builder = rustls::ClientConfig::builder_with_provider(trust::provider())
            .with_safe_default_protocol_versions()
            .map_err(fault)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let identity = match key.identify {
            Identify::Yes => identity(&key.files)?,
            Identify::No => None,
        };
        let mut tls = match identity {
            Some((chain, private)) => {
                builder.with_client_auth_cert(chain, private).map_err(fault)?
            }
            None => builder.with_no_client_auth(),
        };
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(tls)
    }
}

/// The certificate files of a directory, in lexical order, with what changes when they do.
fn list(directory: &Path) -> Result<Vec<(PathBuf, files::Stamp)>, RegistryError> {
    let unreadable = |source| RegistryError::Read { path: directory.to_owned(), source };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if ["crt", "cert", "key"].iter().any(|extension| has_extension(&path, extension)) {
            let stamp = files::stamp(&path).map_err(unreadable)?;
            let stamp = stamp.ok_or_else(|| unreadable(io::ErrorKind::NotFound.into()))?;
            found.push((path, stamp));
        }
    }
    found.sort();
    Ok(found)
}

/// The first client certificate with its key. One of the two alone is a mistake worth an error.
fn identity(
    files: &[(PathBuf, files::Stamp)],
) -> Result<Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>, RegistryError> {
    let mut pairs = Vec::new();
    for (path, _) in files {
        let other = match path.extension().and_then(|extension| extension.to_str()) {
            Some("cert") => path.with_extension("key"),
            Some("key") => path.with_extension("cert"),
            _ => continue,
        };
        if !files.iter().any(|(path, _)| *path == other) {
            let text = format!(
                "stands without {}; an authority's certificate is named .crt",
                other.display()
            );
            return Err(fault(path, &text));
        }
        if has_extension(path, "cert") {
            pairs.push((path, other));
        }
    }
    let Some((certificate, key)) = pairs.first() else { return Ok(None) };
    if pairs.len() > 1 {
        tracing::warn!(used = %certificate.display(), "only the first client certificate is used");
    }
    let private = PrivateKeyDer::from_pem_slice(&read(key)?)
        .map_err(|_| fault(key, "has no private key in PEM form"))?;
    Ok(Some((certificates(certificate)?, private)))
}

/// The certificates of a PEM file; none is an error.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, RegistryError> {
    let bytes = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    found
        .ok()
        .filter(|found| !found.is_empty())
        .ok_or_else(|| fault(path, "has no certificates in PEM form"))
}

fn has_extension(path: &Path, wanted: &str) -> bool {
    path.extension().is_some_and(|extension| extension == wanted)
}

fn read(path: &Path) -> Result<Vec<u8>, RegistryError> {
    files::read(path, FILE_LIMIT, files::Links::Follow)
        .map_err(|source: io::Error| RegistryError::Read { path: path.to_owned(), source })
}

fn fault(path: &Path, text: &str) -> RegistryError {
    RegistryError::Configuration { path: path.to_owned(), fault: text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clients(directory: &Path) -> Clients {
        Clients::new(vec![directory.to_owned()], "test".to_owned(), Duration::from_secs(1))
    }

    #[test]
    fn no_host_leads_out_of_the_directory() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("certs/q.io:5000")).unwrap();
        let clients = clients(&root.path().join("certs"));
        assert!(clients.directory("q.io:5000").is_some());
        for host in ["", ".", "..", "../certs", "q.io", "q.io:5000/", "/"] {
            assert_eq!(clients.directory(host), None, "{host}");
        }
    }

    #[test]
    fn half_a_client_certificate_and_rubbish_are_named() {
        let root = tempfile::tempdir().unwrap();
        for (name, expected) in
            [("a.cert", "a.key"), ("a.key", "a.cert"), ("a.crt", "no certificates")]
        {
            let directory = root.path().join(name);
            std::fs::create_dir(&directory).unwrap();
            let file = directory.join(name);
            files::replace(&file, b"x", 0o600, files::Durability::Process).unwrap();
            let found = clients(root.path()).client(
                "q.io",
                Some(&directory),
                Check::Certificate,
                Identify::Yes,
            );
            let error = found.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
