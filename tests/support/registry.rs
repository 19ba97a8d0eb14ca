//! A registry in the test's own process: serves what it was given, remembers what it was asked,
//! and misbehaves on demand.
//!
//! It speaks the pulling half of the OCI distribution specification 1.1 on a port of 127.0.0.1:
//! manifests, blobs with ranges, referrers with pages, basic and token authentication, TLS with or
//! without client certificates. It stops when it is dropped.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary uses its own part of the test registry"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use crioxide::oci::digest::Digest;
use crioxide::oci::media_type;
use tokio::net::TcpListener;

#[path = "registry_serve.rs"]
mod serve;
#[path = "registry_tls.rs"]
mod tls;

pub use tls::Tls;
use tls::TlsListener;

/// Who may pull.
#[derive(Debug, Clone, Default)]
pub enum Guard {
    /// Anyone.
    #[default]
    Open,
    /// Who knows the user name and the password.
    Basic(&'static str, &'static str),
    /// Who has a token; a token is for anyone.
    AnonymousToken,
    /// Who has a token; a token is for who knows the user name and the password.
    Token(&'static str, &'static str),
}

/// How the registry is to be.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Who may pull.
    pub guard: Guard,
    /// The token server, if it is not this registry's own `/token`.
    pub realm: Option<String>,
    /// With TLS.
    pub tls: Option<Tls>,
    /// Whether the referrers API is there.
    pub referrers: bool,
    /// Whether ranges are served.
    pub ranges: bool,
    /// How many referrers a page has.
    pub page: usize,
    /// Whether it says that it keeps signatures itself.
    pub signatures: bool,
}

impl Default for Setup {
    fn default() -> Self {
        let guard = Guard::Open;
        Self {
            guard,
            realm: None,
            tls: None,
            referrers: true,
            ranges: true,
            page: 100,
            signatures: false,
        }
    }
}

/// How to misbehave.
#[derive(Debug, Clone)]
pub enum Fault {
    /// This status, with this body.
    Status(u16, String),
    /// This status, with this header.
    Header(u16, &'static str, String),
    /// 200, with this body and this `Link` header.
    Linked(String, String),
    /// To another place, with 307.
    Redirect(String),
    /// 200 and bytes that mean nothing.
    Garbage,
    /// The body breaks off after so many bytes.
    Cut(usize),
    /// One byte at a time, with this pause between.
    Drip(Duration),
    /// 200 and bytes of the same length that are not those asked for.
    OtherBytes,
    /// Only so many of the bytes, as if these were all.
    Shorter(usize),
    /// The right bytes, said to be of this media type.
    Called(&'static str),
    /// 200, without a length, and bytes without end.
    Endless,
    /// No answer at all.
    Silence,
}

impl Fault {
    /// Whether it is the usual answer, spoilt.
    fn spoils(&self) -> bool {
        matches!(
            self,
            Self::Cut(_) | Self::Drip(_) | Self::OtherBytes | Self::Shorter(_) | Self::Called(_)
        )
    }
}

/// A request as it came, and what was answered.
#[derive(Debug, Clone)]
pub struct Seen {
    /// `GET` or another.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The `Authorization` header.
    pub authorization: Option<String>,
    /// The `Range` header.
    pub range: Option<String>,
    /// The `User-Agent` header.
    pub user_agent: String,
    /// The status of the answer; 0 if there was none.
    pub status: u16,
}

#[derive(Default)]
struct Content {
    blobs: BTreeMap<Digest, Bytes>,
    /// By repository and digest.
    manifests: BTreeMap<(String, Digest), (String, Bytes)>,
    /// By repository and tag.
    tags: BTreeMap<(String, String), Digest>,
    /// Scope by token.
    tokens: BTreeMap<String, String>,
    /// By path, beside the registry.
    files: BTreeMap<String, Bytes>,
    issued: usize,
    faults: Vec<(String, Fault, usize)>,
    seen: Vec<Seen>,
}

struct Shared {
    setup: Setup,
    base: String,
    content: Mutex<Content>,
}

/// The running registry.
pub struct TestRegistry {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for TestRegistry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl TestRegistry {
    /// A registry that anyone may pull from, over plain HTTP.
    pub async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    /// A registry as it is wanted.
    pub async fn with(setup: Setup) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = setup.tls.as_ref().map(Tls::acceptor);
        let scheme = if acceptor.is_some() { "https" } else { "http" };
        let base = format!("{scheme}://{address}");
        let shared = Arc::new(Shared { setup, base, content: Mutex::default() });
        let router = axum::Router::new().fallback(serve::handle).with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move {
            match acceptor {
                None => axum::serve(listener, router).await.unwrap(),
                Some(acceptor) => {
                    axum::serve(TlsListener { listener, acceptor }, router).await.unwrap();
                }
            }
        });
        Self { address, shared, task }
    }

    /// `127.0.0.1:port`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// `http://127.0.0.1:port`, or `https`.
    pub fn base(&self) -> &str {
        &self.shared.base
    }

    /// Serves a blob, in every repository.
    pub fn put_blob(&self, bytes: impl Into<Bytes>) -> Digest {
        let bytes = bytes.into();
        let digest = Digest::sha256(&bytes);
        self.put_blob_as(&digest, bytes);
        digest
    }

    /// Serves a blob under any digest.
    pub fn put_blob_as(&self, digest: &Digest, bytes: impl Into<Bytes>) {
        self.content().blobs.insert(digest.clone(), bytes.into());
    }

    /// Serves a manifest by its digest, and by a tag if there is one.
    pub fn put_manifest(
        &self,
        repository: &str,
        tag: Option<&str>,
        media_type: &str,
        bytes: impl Into<Bytes>,
    ) -> Digest {
        let bytes = bytes.into();
        let digest = Digest::sha256(&bytes);
        let mut content = self.content();
        let key = (repository.to_owned(), digest.clone());
        content.manifests.insert(key, (media_type.to_owned(), bytes));
        if let Some(tag) = tag {
            content.tags.insert((repository.to_owned(), tag.to_owned()), digest.clone());
        }
        digest
    }

    /// Serves a manifest by another digest than SHA-256.
    pub fn put_manifest_as(&self, repository: &str, digest: &Digest, bytes: impl Into<Bytes>) {
        let key = (repository.to_owned(), digest.clone());
        let value = (media_type::OCI_MANIFEST.to_owned(), bytes.into());
        self.content().manifests.insert(key, value);
    }

    /// Serves a file beside the registry, as a web server does.
    pub fn put_file(&self, path: &str, bytes: impl Into<Bytes>) {
        self.content().files.insert(path.to_owned(), bytes.into());
    }

    /// Misbehaves for the next `times` requests whose path has this in it; a `$` behind it stands for
    /// the path's end.
    pub fn fail(&self, path_part: &str, fault: Fault, times: usize) {
        self.content().faults.push((path_part.to_owned(), fault, times));
    }

    /// Misbehaves no more.
    pub fn behave(&self) {
        self.content().faults.clear();
    }

    /// Forgets all tokens that were given out.
    pub fn revoke_tokens(&self) {
        self.content().tokens.clear();
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.content().seen.clone()
    }

    /// The paths of all requests so far that have `part` in them.
    pub fn asked(&self, part: &str) -> Vec<String> {
        let seen = self.seen().into_iter().map(|seen| seen.path);
        seen.filter(|path| path.contains(part)).collect()
    }

    fn content(&self) -> std::sync::MutexGuard<'_, Content> {
        self.shared.content.lock().unwrap()
    }
}
