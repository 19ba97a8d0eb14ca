//! The registry client against a registry that misbehaves.

mod blobs;
mod credentials;
mod lookaside;
mod referrers;
mod tls;

use std::path::Path;
use std::time::Duration;

use crioxide::failure::Classify;
use crioxide::failure::Kind;
use crioxide::failure::chain;
use crioxide::oci::descriptor::Descriptor;
use crioxide::oci::digest::Algorithm;
use crioxide::oci::digest::Digest;
use crioxide::oci::digest::Hasher;
use crioxide::oci::document::DOCUMENT_LIMIT;
use crioxide::oci::media_type;
use crioxide::oci::reference::Reference;
use crioxide::registry::Credentials;
use crioxide::registry::Registry;
use crioxide::registry::RegistryError;
use crioxide::registry::Settings;
use crioxide::registry::Source;
use crioxide::registry::TagOrDigest;
use serde_json::json;

use crate::registry::referrers::referrer;
use crate::test_registry::Fault;
use crate::test_registry::Guard;
use crate::test_registry::Setup;
use crate::test_registry::TestRegistry;

/// A client with its files in a directory of its own.
struct Client {
    registry: Registry,
    directory: tempfile::TempDir,
}

impl Client {
    fn new(registries_conf: &str) -> Self {
        Self::with(registries_conf, |_| {})
    }

    fn with(registries_conf: &str, adjust: impl FnOnce(&mut Settings)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        write(&path.join("registries.conf"), registries_conf);
        let mut settings = Settings {
            user_agent: "test/1".to_owned(),
            registries_conf: path.join("registries.conf"),
            registries_conf_dir: path.join("registries.conf.d"),
            certs_dirs: vec![path.join("certs.d")],
            auth_files: vec![path.join("auth.json")],
            read_timeout: Duration::from_millis(400),
            document_timeout: Duration::from_millis(800),
            backoff: Duration::from_millis(5),
            ..Settings::default()
        };
        adjust(&mut settings);
        Self { registry: Registry::new(settings).unwrap(), directory }
    }

    /// A client that may speak plain HTTP to these.
    fn insecure(registries: &[&TestRegistry]) -> Self {
        let entries: Vec<String> = registries
            .iter()
            .map(|it| format!("[[registry]]\nlocation = \"{}\"\ninsecure = true\n", it.host()))
            .collect();
        Self::new(&entries.concat())
    }

    fn source(&self, reference: &str) -> Source {
        self.source_as(reference, &Credentials::None)
    }

    fn source_as(&self, reference: &str, credentials: &Credentials) -> Source {
        let reference: Reference = reference.parse().unwrap();
        let mut sources = self.registry.sources(&reference, credentials).unwrap();
        assert_eq!(sources.len(), 1);
        sources.remove(0)
    }

    async fn tag(&self, source: &Source) -> Result<Vec<u8>, RegistryError> {
        let which = TagOrDigest::from(source.logical());
        self.registry.manifest(source, &which).await.map(|manifest| manifest.bytes)
    }
}

fn write(path: &Path, text: &str) {
    crioxide::sys::files::replace(
        path,
        text.as_bytes(),
        0o600,
        crioxide::sys::files::Durability::Process,
    )
    .unwrap();
}

fn basic(username: &str, password: &str) -> Credentials {
    Credentials::Basic { username: username.to_owned(), password: password.to_owned() }
}

fn descriptor(digest: &Digest, size: usize) -> Descriptor {
    serde_json::from_value(json!({"digest": digest.to_string(), "size": size})).unwrap()
}

const MANIFEST: &[u8] = b"{\"schemaVersion\":2}";

/// A registry with one manifest `a:1`, and a client and source for it.
async fn simple() -> (TestRegistry, Client, Source) {
    let registry = TestRegistry::start().await;
    registry.put_manifest("a", Some("1"), media_type::OCI_MANIFEST, MANIFEST);
    let client = Client::insecure(&[&registry]);
    let source = client.source(&format!("{}/a:1", registry.host()));
    (registry, client, source)
}

#[tokio::test]
async fn a_manifest_comes_by_tag_and_by_digest() {
    let (registry, client, source) = simple().await;
    let tag = TagOrDigest::Tag("1".to_owned());
    let by_tag = client.registry.manifest(&source, &tag).await.unwrap();
    assert_eq!(by_tag.bytes, MANIFEST);
    assert_eq!(by_tag.media_type, media_type::OCI_MANIFEST);
    assert_eq!(by_tag.digest, Digest::sha256(MANIFEST));
    let digest = TagOrDigest::Digest(by_tag.digest.clone());
    assert_eq!(client.registry.manifest(&source, &digest).await.unwrap(), by_tag);
    assert!(registry.seen().iter().all(|seen| seen.user_agent == "test/1"));
}

#[tokio::test]
async fn a_tag_cannot_leave_its_path() {
    let (registry, client, source) = simple().await;
    let tag = TagOrDigest::Tag("../../b/manifests/1".to_owned());
    assert!(client.registry.manifest(&source, &tag).await.is_err());
    assert!(registry.seen().is_empty());
}

#[tokio::test]
async fn sha512_names_bytes_too() {
    let (registry, client, source) = simple().await;
    let mut hasher = Hasher::new(Algorithm::Sha512);
    hasher.update(b"bytes");
    let digest = hasher.finish();
    registry.put_blob_as(&digest, &b"bytes"[..]);
    registry.put_manifest_as("a", &digest, &b"bytes"[..]);
    let descriptor = descriptor(&digest, 5);
    let blob = client.registry.small_blob(&source, &descriptor, 10).await.unwrap();
    assert_eq!(blob, b"bytes");
    let which = TagOrDigest::Digest(digest);
    assert_eq!(client.registry.manifest(&source, &which).await.unwrap().bytes, b"bytes");
}

#[tokio::test]
async fn other_bytes_than_those_named_are_refused() {
    let (registry, client, source) = simple().await;
    registry.fail("/manifests/", Fault::OtherBytes, usize::MAX);
    registry.fail("/blobs/", Fault::OtherBytes, usize::MAX);
    let digest = TagOrDigest::Digest(Digest::sha256(MANIFEST));
    // By tag, the registry's own header tells.
    for which in [digest, TagOrDigest::Tag("1".to_owned())] {
        let error = client.registry.manifest(&source, &which).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt, "{error}");
    }
    let blob = registry.put_blob(&b"blob"[..]);
    let error = client.registry.small_blob(&source, &descriptor(&blob, 4), 10).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt, "{error}");
}

#[tokio::test]
async fn an_oversize_manifest_is_refused_unread() {
    let (registry, client, source) = simple().await;
    let large = vec![b' '; usize::try_from(DOCUMENT_LIMIT).unwrap() + 1];
    registry.put_manifest("a", Some("1"), media_type::OCI_MANIFEST, large);
    let error = client.tag(&source).await.unwrap_err();
    assert!(matches!(error, RegistryError::TooLarge { .. }), "{error}");
    registry.fail("/manifests/", Fault::Endless, 1);
    let error = client.tag(&source).await.unwrap_err();
    assert!(matches!(error, RegistryError::TooLarge { .. }), "{error}");
    assert_eq!(registry.asked("/manifests/").len(), 2);
}

#[tokio::test]
async fn what_may_pass_is_asked_again_and_what_is_an_answer_is_not() {
    for (status, kind, asked) in [
        (500, Kind::RegistryUnavailable, 4),
        (503, Kind::RegistryUnavailable, 4),
        (429, Kind::RegistryUnavailable, 4),
        (400, Kind::RegistryUnavailable, 1),
        (418, Kind::RegistryUnavailable, 1),
        (403, Kind::Unauthenticated, 1),
        (404, Kind::NotFound, 1),
    ] {
        let (registry, client, source) = simple().await;
        let body = "something\r\nodd \x1b[31m".to_owned();
        registry.fail("/manifests/", Fault::Status(status, body), usize::MAX);
        let error = client.tag(&source).await.unwrap_err();
        let text = chain(&error);
        assert_eq!(error.kind(), kind, "{text}");
        assert_eq!(registry.asked("/manifests/").len(), asked, "{text}");
        assert!(text.contains(&registry.host()) && text.contains("something  odd [31m"), "{text}");
    }
}

#[tokio::test]
async fn a_registry_that_recovers_is_forgiven() {
    let (registry, client, source) = simple().await;
    registry.fail("/v2/", Fault::Status(502, String::new()), 1);
    registry.fail("/manifests/", Fault::Status(500, String::new()), 1);
    registry.fail("/manifests/", Fault::Cut(3), 1);
    assert_eq!(client.tag(&source).await.unwrap(), MANIFEST);
}

#[tokio::test]
async fn retry_after_is_waited_for() {
    let (registry, _, source) = simple().await;
    let client = patient(&registry, Duration::from_secs(10));
    registry.fail("/manifests/", Fault::Header(429, "Retry-After", "1".to_owned()), 1);
    let before = tokio::time::Instant::now();
    assert_eq!(client.tag(&source).await.unwrap(), MANIFEST);
    assert!(before.elapsed() >= Duration::from_secs(1));
}

/// A client that gives a document so much time.
fn patient(registry: &TestRegistry, document_timeout: Duration) -> Client {
    let conf = format!("[[registry]]\nlocation = \"{}\"\ninsecure = true\n", registry.host());
    Client::with(&conf, |settings| settings.document_timeout = document_timeout)
}

#[tokio::test]
async fn a_wait_past_the_deadline_is_not_begun() {
    let (registry, client, source) = simple().await;
    registry.fail("/manifests/", Fault::Header(429, "Retry-After", "50".to_owned()), usize::MAX);
    let before = tokio::time::Instant::now();
    let error = client.tag(&source).await.unwrap_err();
    assert!(matches!(error, RegistryError::Status { status: 429, .. }), "{error}");
    assert!(before.elapsed() < Duration::from_millis(700));
    assert_eq!(registry.asked("/manifests/").len(), 1);
}

/// Each step of an answer may be within its own time, and all of them together are not.
#[tokio::test]
async fn all_tries_together_have_one_deadline() {
    let (registry, client, source) = simple().await;
    let times = usize::MAX;
    registry.fail("/manifests/", Fault::Silence, times);
    let before = tokio::time::Instant::now();
    let error = client.tag(&source).await.unwrap_err();
    assert!(matches!(error, RegistryError::TimedOut { .. }), "{error}");
    assert!(before.elapsed() < Duration::from_millis(1200), "{:?}", before.elapsed());
    registry.behave();
    registry.fail("/manifests/", Fault::Drip(Duration::from_millis(100)), times);
    let digest = registry.put_blob(&b"blob"[..]);
    registry.fail("/blobs/", Fault::Drip(Duration::from_millis(300)), times);
    let small = client.registry.small_blob(&source, &descriptor(&digest, 4), 10).await;
    assert!(matches!(small, Err(RegistryError::TimedOut { .. })), "{small:?}");
}

#[tokio::test]
async fn silence_and_dripping_have_an_end() {
    let (registry, client, source) = simple().await;
    registry.fail("/manifests/", Fault::Silence, usize::MAX);
    let error = client.tag(&source).await.unwrap_err();
    assert_eq!(error.kind(), Kind::RegistryUnavailable, "{error}");
    registry.behave();
    registry.fail("/manifests/", Fault::Drip(Duration::from_millis(100)), usize::MAX);
    let error = client.tag(&source).await.unwrap_err();
    assert!(matches!(error, RegistryError::TimedOut { .. }), "{error}");
}

#[tokio::test]
async fn nobody_there_is_unavailable() {
    let gone = TestRegistry::start().await.host();
    let client = Client::new("");
    let source = client.source(&format!("{gone}/a:1"));
    let error = client.tag(&source).await.unwrap_err();
    assert_eq!(error.kind(), Kind::RegistryUnavailable);
    let text = chain(&error);
    assert!(text.contains(&format!("{gone}/a:1")) && text.contains("refused"), "{text}");
}

#[tokio::test]
async fn absent_is_only_what_a_registry_says_is_absent() {
    let (registry, client, source) = simple().await;
    let which = TagOrDigest::Tag("2".to_owned());
    assert_eq!(client.registry.manifest_if_exists(&source, &which).await.unwrap(), None);
    for (status, body) in [
        (404, "<html>not found</html>"),
        (404, ""),
        (404, r#"{"errors":[{"code":"DENIED","message":"not found"}]}"#),
        (500, r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#),
        (403, r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#),
        (401, r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#),
        (204, ""),
    ] {
        registry.behave();
        registry.fail("/manifests/", Fault::Status(status, body.to_owned()), usize::MAX);
        let found = client.registry.manifest_if_exists(&source, &which).await;
        assert!(found.is_err(), "{status} {body}");
    }
}

/// The test registry must be a registry also to somebody else's client, or it proves nothing.
#[tokio::test]
async fn the_test_registry_serves_an_independent_client() {
    use oci_client::client::ClientConfig;
    use oci_client::client::ClientProtocol;
    use oci_client::secrets::RegistryAuth;

    let setup = Setup { guard: Guard::Token("me", "secret"), ..Setup::default() };
    let registry = TestRegistry::with(setup).await;
    let manifest = referrer(&Digest::sha256(b"subject"), "application/x");
    let digest =
        registry.put_manifest("a/b", Some("1"), media_type::OCI_MANIFEST, manifest.clone());
    let config = ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() };
    let client = oci_client::Client::new(config);
    let reference: oci_client::Reference = format!("{}/a/b:1", registry.host()).parse().unwrap();
    let auth = RegistryAuth::Basic("me".to_owned(), "secret".to_owned());
    let accepted = [media_type::OCI_MANIFEST];
    let (bytes, found) = client.pull_manifest_raw(&reference, &auth, &accepted).await.unwrap();
    assert_eq!((&bytes[..], found), (&manifest[..], digest.to_string()));
}
