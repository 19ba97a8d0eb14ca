//! The server's certificate, and what clients must show. Files are read again when they change, so
//! that a renewed certificate needs no restart.

use std::fmt;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::SupportedCipherSuite;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS12;
use rustls::version::TLS13;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::failure::chain;
use crate::streaming::error::StreamingError;
use crate::sys::files;

/// The largest file that is read, in bytes.
const FILE_LIMIT: u64 = 1024 * 1024;

/// How long a certificate that we make ourselves is good.
const OWN_YEARS: i32 = 10;

/// What the configuration says about TLS.
#[derive(Debug, Clone)]
pub struct TlsSettings {
    /// What is served with it, for the log.
    pub serves: &'static str,
    /// The certificate and what stands between it and its authority.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Who signs clients' certificates; without it clients need none.
    pub authority: Option<PathBuf>,
    /// Whether TLS 1.2 is spoken, beside 1.3.
    pub tls12: bool,
    /// The cipher suites of TLS 1.2, by the names of IANA; none means all that are good.
    pub cipher_suites: Vec<String>,
}

/// The certificate as it is now.
pub struct Tls {
    settings: TlsSettings,
    provider: Arc<CryptoProvider>,
    current: Mutex<Current>,
}

struct Current {
    stamps: Vec<Stamp>,
    config: Arc<ServerConfig>,
}

/// What changes when a file does.
type Stamp = Option<(SystemTime, u64, u64)>;

impl fmt::Debug for Tls {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Tls").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// [`StreamingError`] names the file, or the cipher suite.
    pub fn new(settings: TlsSettings) -> Result<Self, StreamingError> {
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites = cipher_suites(&settings, &provider.cipher_suites)?;
        let provider = Arc::new(provider);
        let stamps = stamps(&settings);
        let config = read(&settings, &provider)?;
        Ok(Self { settings, provider, current: Mutex::new(Current { stamps, config }) })
    }

    /// Agrees on TLS with a client.
    ///
    /// # Errors
    ///
    /// What the client did wrong.
    pub async fn accept<T>(&self, stream: T) -> io::Result<TlsStream<T>>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        TlsAcceptor::from(self.config()).accept(stream).await
    }

    /// The configuration for a new connection. Files that changed and are no good leave the old one
    /// in place, and are read again once they change again.
    fn config(&self) -> Arc<ServerConfig> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = stamps(&self.settings);
        if stamps != current.stamps {
            current.stamps = stamps;
            match read(&self.settings, &self.provider) {
                Ok(config) => {
                    current.config = config;
                    tracing::info!(
                        certificate = %self.settings.certificate.display(),
                        serves = self.settings.serves,
                        "the certificate was read again"
                    );
                }
                Err(error) => tracing::warn!(
                    error = chain(&error),
                    serves = self.settings.serves,
                    "the certificate changed and is no good; the old one stays"
                ),
            }
        }
        Arc::clone(&current.config)
    }
}

/// Makes a certificate that nobody signed, and its key, where neither file is there. `true` if so.
///
/// # Errors
///
/// [`StreamingError::SelfSigned`], [`StreamingError::Write`].
pub fn make_self_signed(
    certificate: &Path,
    key: &Path,
    host: &str,
) -> Result<bool, StreamingError> {
    if certificate.exists() || key.exists() {
        return Ok(false);
    }
    let made = || {
        let mut params = rcgen::CertificateParams::new(vec![host.to_owned()])?;
        params.distinguished_name.push(rcgen::DnType::CommonName, host);
        let now = time::OffsetDateTime::now_utc();
        params.not_before = now - time::Duration::hours(1);
        params.not_after = now.replace_year(now.year() + OWN_YEARS).unwrap_or(now);
        let pair = rcgen::KeyPair::generate()?;
        let signed = params.self_signed(&pair)?;
        Ok::<_, rcgen::Error>((signed.pem(), pair.serialize_pem()))
    };
    let (text, secret) = made().map_err(|error| StreamingError::SelfSigned(Box::new(error)))?;
    // The key first: a certificate without its key would keep both from being made again.
    for (path, text, mode) in [(key, secret, 0o600), (certificate, text, 0o644)] {
        let wrap = |source| StreamingError::Write { path: path.to_owned(), source };
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(wrap)?;
        }
        files::replace(path, text.as_bytes(), mode, files::Durability::Machine).map_err(wrap)?;
    }
    Ok(true)
}

fn stamps(settings: &TlsSettings) -> Vec<Stamp> {
    use std::os::unix::fs::MetadataExt;
    let stamp = |path: &PathBuf| -> Stamp {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
    };
    let paths = [&settings.certificate, &settings.key].into_iter().chain(&settings.authority);
    paths.map(stamp).collect()
}

/// The suites by their names. TLS 1.3 has no choice of them.
fn cipher_suites(
    settings: &TlsSettings,
    known: &[SupportedCipherSuite],
) -> Result<Vec<SupportedCipherSuite>, StreamingError> {
    let is_old = |suite: &&SupportedCipherSuite| suite.tls13().is_none();
    if settings.cipher_suites.is_empty() {
        return Ok(known.to_vec());
    }
    if !settings.tls12 {
        tracing::warn!("tls_cipher_suites has no effect: TLS 1.3 has no choice of them");
        return Ok(known.to_vec());
    }
    let mut chosen: Vec<_> = known.iter().filter(|suite| !is_old(suite)).copied().collect();
    let mut weak = Vec::new();
    for name in &settings.cipher_suites {
        // Go has two names without the hash.
        let long = match name.as_str() {
            "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305" | "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305" => {
                format!("{name}_SHA256")
            }
            _ => name.clone(),
        };
        match known.iter().find(|suite| suite.suite().as_str() == Some(&long)) {
            Some(suite) if is_old(&suite) => chosen.push(*suite),
            Some(_) => {}
            None if name.starts_with("TLS_") => weak.push(name.as_str()),
            None => {
                let text = format!("{name:?} is no cipher suite");
                return Err(StreamingError::CipherSuites(text));
            }
        }
    }
    if !weak.is_empty() {
        let names = weak.join(", ");
        if !chosen.iter().any(|suite| suite.tls13().is_none()) {
            let text = format!("{names}: none of these is spoken here; they are not safe any more");
            return Err(StreamingError::CipherSuites(text));
        }
        tracing::warn!(names, "cipher suites that are not spoken here");
    }
    Ok(chosen)
}

fn read(
    settings: &TlsSettings,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<ServerConfig>, StreamingError> {
    let chain = certificates(&settings.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&bytes(&settings.key)?)
        .map_err(|_| StreamingError::Pem { path: settings.key.clone(), wanted: "private key" })?;
    let fault = |source| StreamingError::Certificate { path: settings.certificate.clone(), source };
    let versions: &[_] = if settings.tls12 { &[&TLS13, &TLS12] } else { &[&TLS13] };
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(versions)
        .map_err(fault)?;
    let builder = match &settings.authority {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let fault = |source: Box<dyn std::error::Error + Send + Sync>| {
                StreamingError::Authority { path: path.clone(), source }
            };
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| fault(error.into()))?;
            }
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
            builder
                .with_client_cert_verifier(verifier.build().map_err(|error| fault(error.into()))?)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(fault)?;
    // Upgrades are a thing of HTTP/1.1.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, StreamingError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes(path)?).collect();
    found
        .ok()
        .filter(|found| !found.is_empty())
        .ok_or_else(|| StreamingError::Pem { path: path.to_owned(), wanted: "certificates" })
}

fn bytes(path: &Path) -> Result<Vec<u8>, StreamingError> {
    files::read(path, FILE_LIMIT, files::Links::Follow)
        .map_err(|source| StreamingError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate for a name, with its key, in files of these names.
    fn write(directory: &Path, certificate: &str, key: &str) {
        let signed = rcgen::generate_simple_self_signed(vec!["node".to_owned()]).unwrap();
        for (name, text) in
            [(certificate, signed.cert.pem()), (key, signed.signing_key.serialize_pem())]
        {
            let path = directory.join(name);
            files::replace(&path, text.as_bytes(), 0o600, files::Durability::Process).unwrap();
        }
    }

    fn settings(directory: &Path) -> TlsSettings {
        TlsSettings {
            serves: "a test",
            certificate: directory.join("cert"),
            key: directory.join("key"),
            authority: None,
            tls12: true,
            cipher_suites: Vec::new(),
        }
    }

    #[test]
    fn certificates_are_read_again_when_they_change_and_are_good() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), "cert", "key");
        let tls = Tls::new(settings(directory.path())).unwrap();
        let first = tls.config();
        assert!(Arc::ptr_eq(&first, &tls.config()));
        // A key that does not go with the certificate, as half-way through a renewal.
        write(directory.path(), "new-cert", "key");
        assert!(Arc::ptr_eq(&first, &tls.config()));
        std::fs::rename(directory.path().join("new-cert"), directory.path().join("cert")).unwrap();
        assert!(!Arc::ptr_eq(&first, &tls.config()));
        let second = tls.config();
        std::fs::remove_file(directory.path().join("key")).unwrap();
        assert!(Arc::ptr_eq(&second, &tls.config()));
    }

    #[test]
    fn a_certificate_is_made_only_where_there_is_neither_it_nor_a_key() {
        let directory = tempfile::tempdir().unwrap();
        let (certificate, key) = (directory.path().join("x/cert"), directory.path().join("x/key"));
        assert!(make_self_signed(&certificate, &key, "node.example").unwrap());
        let made = TlsSettings {
            certificate: certificate.clone(),
            key: key.clone(),
            ..settings(directory.path())
        };
        Tls::new(made.clone()).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode;
        assert_eq!(mode(&std::fs::metadata(&key).unwrap().permissions()) & 0o777, 0o600);
        assert!(!make_self_signed(&certificate, &key, "node.example").unwrap());
        // Somebody else's key is not replaced, and not used with another certificate.
        std::fs::remove_file(&certificate).unwrap();
        assert!(!make_self_signed(&certificate, &key, "node.example").unwrap());
        assert!(Tls::new(made).is_err());
    }

    #[test]
    fn files_that_are_no_good_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let missing = Tls::new(settings(directory.path())).unwrap_err();
        assert!(matches!(missing, StreamingError::File { .. }), "{missing}");
        write(directory.path(), "cert", "key");
        write(directory.path(), "other-cert", "other-key");
        let with = |change: fn(&mut TlsSettings, &Path)| {
            let mut settings = settings(directory.path());
            change(&mut settings, directory.path());
            Tls::new(settings).unwrap_err()
        };
        let error = with(|settings, directory| settings.key = directory.join("other-key"));
        assert!(matches!(error, StreamingError::Certificate { .. }), "{error}");
        let error = with(|settings, directory| settings.certificate = directory.join("key"));
        assert!(matches!(error, StreamingError::Pem { .. }), "{error}");
        let error = with(|settings, directory| settings.authority = Some(directory.join("key")));
        assert!(matches!(error, StreamingError::Pem { .. }), "{error}");
        let error = with(|settings, _| settings.authority = Some("/nonexistent".into()));
        assert!(matches!(error, StreamingError::File { .. }), "{error}");
    }

    #[test]
    fn cipher_suites_are_named_as_in_go() {
        let known = aws_lc_rs::default_provider().cipher_suites;
        let chosen = |names: &[&str], tls12: bool| {
            let settings = TlsSettings {
                tls12,
                cipher_suites: names.iter().map(|&name| name.to_owned()).collect(),
                ..settings(Path::new("/"))
            };
            let suites = cipher_suites(&settings, &known).map_err(|error| error.to_string())?;
            let old = suites.iter().filter(|suite| suite.tls13().is_none());
            let new = suites.len() - old.clone().count();
            assert!(new > 0, "TLS 1.3 is always spoken");
            Ok::<_, String>(old.filter_map(|suite| suite.suite().as_str()).collect::<Vec<_>>())
        };
        let good = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256";
        let weak = "TLS_RSA_WITH_AES_128_CBC_SHA";
        assert_eq!(chosen(&[], true).unwrap().len(), 6);
        assert_eq!(chosen(&[good], true).unwrap(), [good]);
        assert_eq!(chosen(&[good, weak, "TLS_AES_128_GCM_SHA256"], true).unwrap(), [good]);
        assert_eq!(
            chosen(&["TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305"], true).unwrap(),
            ["TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"]
        );
        assert!(chosen(&[weak], true).unwrap_err().contains(weak));
        assert!(chosen(&["rubbish"], true).unwrap_err().contains("rubbish"));
        assert!(chosen(&[weak], false).is_ok());
    }
}
