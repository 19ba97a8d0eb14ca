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
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::Response;
use axum::http::header;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use crioxide::oci::digest::Digest;
use crioxide::oci::media_type;
use futures_util::StreamExt;
use serde_json::Value;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

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
}

impl Default for Setup {
    fn default() -> Self {
        let guard = Guard::Open;
        Self { guard, realm: None, tls: None, referrers: true, ranges: true, page: 100 }
    }
}

/// Keys and certificates for 127.0.0.1, made for one test.
#[derive(Debug, Clone)]
pub struct Tls {
    /// The authority's certificate, PEM.
    pub authority: String,
    /// A client certificate by the same authority, PEM.
    pub client_certificate: String,
    /// Its key, PEM.
    pub client_key: String,
    /// Whether a client must show its certificate.
    pub client_required: bool,
    certificate: Vec<u8>,
    key: Vec<u8>,
    authority_der: Vec<u8>,
}

impl Tls {
    /// Makes an authority, a server certificate and a client certificate.
    pub fn make(client_required: bool) -> Self {
        let authority_key = rcgen::KeyPair::generate().unwrap();
        let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority_certificate = authority.self_signed(&authority_key).unwrap();
        let issuer = rcgen::Issuer::new(authority, authority_key);
        let signed = |name: &str, usage: rcgen::ExtendedKeyUsagePurpose| {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
            params.extended_key_usages = vec![usage];
            (params.signed_by(&key, &issuer).unwrap(), key)
        };
        let (server, server_key) = signed("127.0.0.1", rcgen::ExtendedKeyUsagePurpose::ServerAuth);
        let (client, client_key) = signed("client", rcgen::ExtendedKeyUsagePurpose::ClientAuth);
        Self {
            authority: authority_certificate.pem(),
            client_certificate: client.pem(),
            client_key: client_key.serialize_pem(),
            client_required,
            certificate: server.der().to_vec(),
            key: server_key.serialize_der(),
            authority_der: authority_certificate.der().to_vec(),
        }
    }

    fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        use rustls::pki_types::CertificateDer;
        use rustls::pki_types::PrivatePkcs8KeyDer;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if self.client_required {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(CertificateDer::from(self.authority_der.clone())).unwrap();
            let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
                Arc::new(roots),
                provider,
            );
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivatePkcs8KeyDer::from(self.key.clone());
        let chain = vec![CertificateDer::from(self.certificate.clone())];
        Arc::new(builder.with_single_cert(chain, key.into()).unwrap()).into()
    }
}

/// How to misbehave.
#[derive(Debug, Clone)]
pub enum Fault {
    /// This status, with this body.
    Status(u16, String),
    /// This status, with this header.
    Header(u16, &'static str, String),
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
    /// 200, without a length, and bytes without end.
    Endless,
    /// No answer at all.
    Silence,
}

impl Fault {
    /// Whether it is the usual answer, spoilt.
    fn spoils(&self) -> bool {
        matches!(self, Self::Cut(_) | Self::Drip(_) | Self::OtherBytes)
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
        let router = axum::Router::new().fallback(handle).with_state(Arc::clone(&shared));
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

    /// Misbehaves for the next `times` requests whose path has this in it.
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

struct TlsListener {
    listener: TcpListener,
    acceptor: tokio_rustls::TlsAcceptor,
}

impl axum::serve::Listener for TlsListener {
    type Io = tokio_rustls::server::TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let Ok((stream, address)) = self.listener.accept().await else { continue };
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

async fn handle(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    let headers = request.headers();
    let text = |name: header::HeaderName| {
        headers.get(name).map(|value| value.to_str().unwrap_or_default().to_owned())
    };
    let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let mut seen = Seen {
        method: request.method().to_string(),
        path: path.clone(),
        authorization: text(header::AUTHORIZATION),
        range: text(header::RANGE),
        user_agent: text(header::USER_AGENT).unwrap_or_default(),
        status: 0,
    };
    let fault = {
        let mut content = shared.content.lock().unwrap();
        let found = content
            .faults
            .iter_mut()
            .find(|(part, _, times)| *times > 0 && path.contains(part.as_str()));
        found.map(|(_, fault, times)| {
            *times = times.saturating_sub(1);
            fault.clone()
        })
    };
    let answer = match fault {
        None => Some(answer(&shared, &request)),
        Some(Fault::Silence) => None,
        Some(fault) => {
            let usual = fault.spoils().then(|| answer(&shared, &request));
            Some(misbehave(usual, fault).await)
        }
    };
    seen.status = answer.as_ref().map_or(0, |answer| answer.status().as_u16());
    shared.content.lock().unwrap().seen.push(seen);
    match answer {
        Some(answer) => answer,
        None => std::future::pending().await,
    }
}

async fn misbehave(usual: Option<Response<Body>>, fault: Fault) -> Response<Body> {
    match fault {
        Fault::Status(status, body) => plain(status, body),
        Fault::Header(status, name, value) => {
            let mut response = plain(status, String::new());
            response.headers_mut().insert(name, value.parse().unwrap());
            response
        }
        Fault::Redirect(place) => {
            let mut response = plain(307, String::new());
            response.headers_mut().insert(header::LOCATION, place.parse().unwrap());
            response
        }
        Fault::Garbage => plain(200, "<html>welcome to the hotel's network</html>".to_owned()),
        Fault::Endless => {
            let chunks = futures_util::stream::repeat_with(|| {
                Ok::<_, io::Error>(Bytes::from_static(&[0; 65536]))
            });
            Response::new(Body::from_stream(chunks))
        }
        Fault::Silence => std::future::pending().await,
        Fault::Cut(_) | Fault::Drip(_) | Fault::OtherBytes => {
            let (head, body) = usual.unwrap().into_parts();
            let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
            let body = match fault {
                Fault::Cut(length) => {
                    let kept = bytes.slice(..length.min(bytes.len()));
                    let chunks = [Ok(kept), Err(io::Error::other("cut"))];
                    // Time for the first part to leave.
                    let chunks = futures_util::stream::iter(chunks).then(|chunk| async {
                        if chunk.is_err() {
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        }
                        chunk
                    });
                    Body::from_stream(chunks)
                }
                Fault::Drip(pause) => {
                    let singles: Vec<Bytes> =
                        (0..bytes.len()).map(|at| bytes.slice(at..=at)).collect();
                    Body::from_stream(futures_util::stream::iter(singles).then(
                        move |byte| async move {
                            tokio::time::sleep(pause).await;
                            Ok::<_, io::Error>(byte)
                        },
                    ))
                }
                _ => Body::from(vec![b'!'; bytes.len()]),
            };
            let mut response = Response::from_parts(head, body);
            response.headers_mut().insert(header::CONTENT_LENGTH, bytes.len().into());
            response
        }
    }
}

/// What a well-behaved registry answers.
fn answer(shared: &Shared, request: &Request) -> Response<Body> {
    let path = request.uri().path();
    let query = request.uri().query().unwrap_or_default();
    if path == "/token" {
        return token(shared, request.headers(), query);
    }
    let Some(rest) = path.strip_prefix("/v2/") else {
        return plain(404, "404 page not found".to_owned());
    };
    let part = ["/manifests/", "/blobs/", "/referrers/"]
        .into_iter()
        .find_map(|kind| rest.rsplit_once(kind).map(|(name, last)| (name, kind, last)));
    let repository = part.map(|(name, _, _)| name).unwrap_or_default();
    if !admitted(shared, request.headers(), repository) {
        return unauthorized(shared, repository);
    }
    match part {
        None if rest.is_empty() => plain(200, "{}".to_owned()),
        Some((name, "/manifests/", which)) => manifest(shared, name, which),
        Some((_, "/blobs/", which)) => blob(shared, which, request.headers()),
        Some((name, "/referrers/", which)) if shared.setup.referrers => {
            referrers(shared, name, which, query)
        }
        _ => plain(404, "404 page not found".to_owned()),
    }
}

fn plain(status: u16, body: String) -> Response<Body> {
    Response::builder().status(status).body(Body::from(body)).unwrap()
}

fn refusal(status: u16, code: &str) -> Response<Body> {
    let body = json!({"errors": [{"code": code, "message": code.to_lowercase()}]});
    plain(status, body.to_string())
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

fn sent(headers: &HeaderMap) -> &str {
    let header = headers.get(header::AUTHORIZATION);
    header.and_then(|header| header.to_str().ok()).unwrap_or_default()
}

fn admitted(shared: &Shared, headers: &HeaderMap, repository: &str) -> bool {
    match shared.setup.guard {
        Guard::Open => true,
        Guard::Basic(user, password) => sent(headers) == basic(user, password),
        Guard::AnonymousToken | Guard::Token(..) => {
            let token = sent(headers).strip_prefix("Bearer ").unwrap_or_default();
            let content = shared.content.lock().unwrap();
            content.tokens.get(token) == Some(&format!("repository:{repository}:pull"))
        }
    }
}

fn unauthorized(shared: &Shared, repository: &str) -> Response<Body> {
    let challenge = if let Guard::Basic(..) = shared.setup.guard {
        "Basic realm=\"test\"".to_owned()
    } else {
        let own = format!("{}/token", shared.base);
        let realm = shared.setup.realm.clone().unwrap_or(own);
        let scope = if repository.is_empty() {
            String::new()
        } else {
            format!(",scope=\"repository:{repository}:pull\"")
        };
        format!("Bearer realm=\"{realm}\",service=\"test\"{scope}")
    };
    let mut response = refusal(401, "UNAUTHORIZED");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge.parse().unwrap());
    response
}

fn token(shared: &Shared, headers: &HeaderMap, query: &str) -> Response<Body> {
    if let Guard::Token(user, password) = shared.setup.guard
        && sent(headers) != basic(user, password)
    {
        return refusal(401, "UNAUTHORIZED");
    }
    let scope = query.split('&').find_map(|pair| pair.strip_prefix("scope=")).unwrap_or_default();
    let scope = scope.replace("%3A", ":").replace("%2F", "/");
    let mut content = shared.content.lock().unwrap();
    content.issued += 1;
    let token = format!("token-{}", content.issued);
    content.tokens.insert(token.clone(), scope);
    plain(200, json!({"token": token, "expires_in": 300}).to_string())
}

fn manifest(shared: &Shared, repository: &str, which: &str) -> Response<Body> {
    let content = shared.content.lock().unwrap();
    let tagged = content.tags.get(&(repository.to_owned(), which.to_owned())).cloned();
    let digest = tagged.or_else(|| which.parse().ok());
    let found = digest.and_then(|digest| {
        let key = (repository.to_owned(), digest);
        content.manifests.get(&key).map(|value| (key.1, value))
    });
    let Some((digest, (media_type, bytes))) = found else {
        return refusal(404, "MANIFEST_UNKNOWN");
    };
    Response::builder()
        .header(header::CONTENT_TYPE, media_type)
        .header("Docker-Content-Digest", digest.to_string())
        .body(Body::from(bytes.clone()))
        .unwrap()
}

fn blob(shared: &Shared, which: &str, headers: &HeaderMap) -> Response<Body> {
    let content = shared.content.lock().unwrap();
    let found = which.parse().ok().and_then(|digest| content.blobs.get(&digest));
    let Some(bytes) = found else { return refusal(404, "BLOB_UNKNOWN") };
    let range = headers.get(header::RANGE).and_then(|range| range.to_str().ok());
    let first = range
        .filter(|_| shared.setup.ranges)
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    match first {
        None => Response::new(Body::from(bytes.clone())),
        Some(first) if first < bytes.len() => {
            let range = format!("bytes {first}-{}/{}", bytes.len() - 1, bytes.len());
            Response::builder()
                .status(206)
                .header(header::CONTENT_RANGE, range)
                .body(Body::from(bytes.slice(first..)))
                .unwrap()
        }
        Some(_) => plain(416, String::new()),
    }
}

fn referrers(shared: &Shared, repository: &str, subject: &str, query: &str) -> Response<Body> {
    let content = shared.content.lock().unwrap();
    let mut found = Vec::new();
    for ((name, digest), (media_type, bytes)) in &content.manifests {
        let value: Value = serde_json::from_slice(bytes).unwrap_or_default();
        if name == repository && value["subject"]["digest"] == subject {
            let mut descriptor = json!({
                "mediaType": media_type, "digest": digest.to_string(), "size": bytes.len(),
            });
            for key in ["artifactType", "annotations"] {
                if !value[key].is_null() {
                    descriptor[key] = value[key].clone();
                }
            }
            found.push(descriptor);
        }
    }
    let first: usize = query.strip_prefix("last=").and_then(|last| last.parse().ok()).unwrap_or(0);
    let last = found.len().min(first + shared.setup.page);
    let page = &found[first.min(last)..last];
    let index = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": page,
    });
    let mut builder = Response::builder().header(header::CONTENT_TYPE, media_type::OCI_INDEX);
    if last < found.len() {
        let link = format!("</v2/{repository}/referrers/{subject}?last={last}>; rel=\"next\"");
        builder = builder.header(header::LINK, link);
    }
    builder.body(Body::from(index.to_string())).unwrap()
}
