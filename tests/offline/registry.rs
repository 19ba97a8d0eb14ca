//! The registry client against a registry that misbehaves.

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
use crioxide::registry::BlobStream;
use crioxide::registry::Credentials;
use crioxide::registry::Registry;
use crioxide::registry::RegistryError;
use crioxide::registry::Settings;
use crioxide::registry::Source;
use crioxide::registry::TagOrDigest;
use serde_json::json;

use crate::test_registry::Fault;
use crate::test_registry::Guard;
use crate::test_registry::Setup;
use crate::test_registry::TestRegistry;
use crate::test_registry::Tls;

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

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

async fn collect(mut stream: BlobStream) -> Result<Vec<u8>, RegistryError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    assert!(stream.next().await.is_none());
    Ok(bytes)
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
    registry.fail("/manifests/", Fault::Cut(3), 0);
    assert_eq!(client.tag(&source).await.unwrap(), MANIFEST);
}

#[tokio::test]
async fn retry_after_is_waited_for() {
    let (registry, client, source) = simple().await;
    registry.fail("/manifests/", Fault::Header(429, "Retry-After", "1".to_owned()), 1);
    let before = tokio::time::Instant::now();
    assert_eq!(client.tag(&source).await.unwrap(), MANIFEST);
    assert!(before.elapsed() >= Duration::from_secs(1));
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

#[tokio::test]
async fn a_blob_that_breaks_off_goes_on_where_it_was() {
    let (registry, client, source) = simple().await;
    let bytes = pattern(300_000);
    let digest = registry.put_blob(bytes.clone());
    registry.fail("/blobs/", Fault::Cut(100_000), 2);
    let stream = client.registry.blob(&source, &descriptor(&digest, bytes.len())).await.unwrap();
    assert!(collect(stream).await.unwrap() == bytes);
    let ranges: Vec<_> = registry.seen().into_iter().filter_map(|seen| seen.range).collect();
    assert_eq!(ranges.len(), 2);
    assert!(ranges.iter().all(|range| range.starts_with("bytes=") && range != "bytes=0-"));
}

#[tokio::test]
async fn a_blob_goes_on_at_a_registry_without_ranges() {
    let setup = Setup { ranges: false, ..Setup::default() };
    let registry = TestRegistry::with(setup).await;
    let client = Client::insecure(&[&registry]);
    let source = client.source(&format!("{}/a:1", registry.host()));
    let bytes = pattern(300_000);
    let digest = registry.put_blob(bytes.clone());
    registry.fail("/blobs/", Fault::Cut(123_456), 2);
    let stream = client.registry.blob(&source, &descriptor(&digest, bytes.len())).await.unwrap();
    assert!(collect(stream).await.unwrap() == bytes);
}

#[tokio::test]
async fn a_blob_without_progress_is_given_up() {
    let (registry, client, source) = simple().await;
    let digest = registry.put_blob(pattern(1000));
    registry.fail("/blobs/", Fault::Cut(1), usize::MAX);
    let stream = client.registry.blob(&source, &descriptor(&digest, 1000)).await.unwrap();
    let error = collect(stream).await.unwrap_err();
    assert!(matches!(error, RegistryError::Cut { .. }), "{error}");
    assert_eq!(error.kind(), Kind::RegistryUnavailable);
    assert_eq!(registry.asked("/blobs/").len(), 6);
}

#[tokio::test]
async fn a_blob_of_another_size_is_refused() {
    let (registry, client, source) = simple().await;
    let digest = registry.put_blob(pattern(1000));
    for size in [999, 1001] {
        let error = client.registry.blob(&source, &descriptor(&digest, size)).await.unwrap_err();
        assert!(matches!(error, RegistryError::Size { .. }), "{error}");
    }
    registry.fail("/blobs/", Fault::Endless, 1);
    let stream = client.registry.blob(&source, &descriptor(&digest, 100_000)).await.unwrap();
    let error = collect(stream).await.unwrap_err();
    assert!(matches!(error, RegistryError::Size { expected: 100_000, .. }), "{error}");
    let error =
        client.registry.small_blob(&source, &descriptor(&digest, 1000), 999).await.unwrap_err();
    assert!(matches!(error, RegistryError::TooLarge { .. }), "{error}");
}

#[tokio::test]
async fn a_part_that_is_not_the_part_asked_for_is_refused() {
    let (registry, client, source) = simple().await;
    let digest = registry.put_blob(pattern(1000));
    registry.fail("/blobs/", Fault::Cut(500), 1);
    registry.fail("/blobs/", Fault::Header(206, "Content-Range", "bytes 0-999/1000".to_owned()), 1);
    let stream = client.registry.blob(&source, &descriptor(&digest, 1000)).await.unwrap();
    let error = collect(stream).await.unwrap_err();
    assert!(matches!(error, RegistryError::Range { offset: 500, .. }), "{error}");
}

fn referrer(subject: &Digest, artifact_type: &str) -> Vec<u8> {
    let empty = json!({
        "mediaType": media_type::OCI_EMPTY, "size": 2, "digest": Digest::sha256(b"{}").to_string(),
    });
    let subject = json!({
        "mediaType": media_type::OCI_MANIFEST, "size": 1, "digest": subject.to_string(),
    });
    json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "artifactType": artifact_type,
        "config": empty, "layers": [empty], "subject": subject,
    })
    .to_string()
    .into_bytes()
}

#[tokio::test]
async fn referrers_come_page_by_page() {
    let registry = TestRegistry::with(Setup { page: 2, ..Setup::default() }).await;
    let client = Client::insecure(&[&registry]);
    let source = client.source(&format!("{}/a:1", registry.host()));
    let subject = Digest::sha256(b"subject");
    assert!(client.registry.referrers(&source, &subject).await.unwrap().is_empty());
    for number in 0..5 {
        let bytes = referrer(&subject, &format!("application/x{number}"));
        registry.put_manifest("a", None, media_type::OCI_MANIFEST, bytes);
    }
    let other = referrer(&Digest::sha256(b"other"), "application/y");
    registry.put_manifest("a", None, media_type::OCI_MANIFEST, other);
    let found = client.registry.referrers(&source, &subject).await.unwrap();
    let mut types: Vec<_> = found.iter().filter_map(|it| it.artifact_type.clone()).collect();
    types.sort();
    let expected: Vec<_> = (0..5).map(|number| format!("application/x{number}")).collect();
    assert_eq!(types, expected);
    assert_eq!(registry.asked("/referrers/").len(), 1 + 3);
}

#[tokio::test]
async fn referrers_come_from_the_tag_where_there_is_no_api() {
    let registry = TestRegistry::with(Setup { referrers: false, ..Setup::default() }).await;
    let client = Client::insecure(&[&registry]);
    let source = client.source(&format!("{}/a:1", registry.host()));
    let subject = Digest::sha256(b"subject");
    assert!(client.registry.referrers(&source, &subject).await.unwrap().is_empty());
    let entry = json!({
        "mediaType": media_type::OCI_MANIFEST, "size": 1, "artifactType": "application/x",
        "digest": Digest::sha256(b"x").to_string(),
    });
    let index = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [entry],
    });
    let tag = subject.to_string().replace(':', "-");
    registry.put_manifest("a", Some(&tag), media_type::OCI_INDEX, index.to_string());
    let found = client.registry.referrers(&source, &subject).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].artifact_type.as_deref(), Some("application/x"));
    // A list that is none is no empty list.
    let manifest = referrer(&subject, "application/x");
    registry.put_manifest("a", Some(&tag), media_type::OCI_MANIFEST, manifest);
    assert!(client.registry.referrers(&source, &subject).await.is_err());
}

#[tokio::test]
async fn a_failure_to_find_referrers_is_not_their_absence() {
    let subject = Digest::sha256(b"subject");
    let faults = || {
        [
            Fault::Status(500, String::new()),
            Fault::Status(503, String::new()),
            Fault::Status(429, r#"{"errors":[{"code":"TOOMANYREQUESTS"}]}"#.to_owned()),
            Fault::Status(403, r#"{"errors":[{"code":"DENIED"}]}"#.to_owned()),
            Fault::Status(401, String::new()),
            Fault::Status(404, r#"{"errors":[{"code":"DENIED"}]}"#.to_owned()),
            Fault::Status(200, String::new()),
            Fault::Garbage,
            Fault::Cut(10),
            Fault::Silence,
            Fault::Endless,
        ]
    };
    for (referrers, path) in [(true, "/referrers/"), (false, "/manifests/sha256-")] {
        for fault in faults() {
            if referrers && matches!(fault, Fault::Status(404, _)) {
                continue;
            }
            let registry = TestRegistry::with(Setup { referrers, ..Setup::default() }).await;
            let client = Client::insecure(&[&registry]);
            let source = client.source(&format!("{}/a:1", registry.host()));
            // Something for the fault to spoil.
            let tag = subject.to_string().replace(':', "-");
            let index = json!({"schemaVersion": 2, "manifests": []}).to_string();
            registry.put_manifest("a", Some(&tag), media_type::OCI_INDEX, index);
            registry.fail(path, fault.clone(), usize::MAX);
            let found = client.registry.referrers(&source, &subject).await;
            assert!(found.is_err(), "{path} {fault:?}: {found:?}");
        }
    }
}

#[tokio::test]
async fn a_list_of_referrers_without_end_is_refused() {
    let registry = TestRegistry::with(Setup { page: 0, ..Setup::default() }).await;
    let client = Client::insecure(&[&registry]);
    let source = client.source(&format!("{}/a:1", registry.host()));
    let subject = Digest::sha256(b"subject");
    let bytes = referrer(&subject, "application/x");
    registry.put_manifest("a", None, media_type::OCI_MANIFEST, bytes);
    let error = client.registry.referrers(&source, &subject).await.unwrap_err();
    assert!(matches!(error, RegistryError::TooManyReferrers { .. }), "{error}");
}

async fn guarded(guard: Guard) -> (TestRegistry, Client, String) {
    let registry = TestRegistry::with(Setup { guard, ..Setup::default() }).await;
    registry.put_manifest("a", Some("1"), media_type::OCI_MANIFEST, MANIFEST);
    let client = Client::insecure(&[&registry]);
    let reference = format!("{}/a:1", registry.host());
    (registry, client, reference)
}

#[tokio::test]
async fn basic_credentials_open_a_registry() {
    let (registry, client, reference) = guarded(Guard::Basic("me", "secret")).await;
    let source = client.source_as(&reference, &basic("me", "secret"));
    assert_eq!(client.tag(&source).await.unwrap(), MANIFEST);
    let wrong = client.source_as(&reference, &basic("me", "hunter2"));
    let error = client.tag(&wrong).await.unwrap_err();
    let text = chain(&error);
    assert_eq!(error.kind(), Kind::Unauthenticated, "{text}");
    assert!(text.contains("the request's credentials (user \"me\")"), "{text}");
    assert!(text.contains(&registry.host()) && !text.contains("hunter2"), "{text}");
    let none = client.source(&reference);
    let text = chain(&client.tag(&none).await.unwrap_err());
    assert!(text.contains("no credentials"), "{text}");
}

#[tokio::test]
async fn the_auth_file_opens_a_registry() {
    let (registry, client, reference) = guarded(Guard::Token("me", "secret")).await;
    let path = client.directory.path().join("auth.json");
    let host = registry.host();
    // "me:secret", and "me:wrong" for the host at large.
    let text = format!(
        r#"{{"auths":{{"{host}":{{"auth":"bWU6d3Jvbmc="}},"{host}/a":{{"auth":"bWU6c2VjcmV0"}}}}}}"#
    );
    write(&path, &text);
    assert_eq!(client.tag(&client.source(&reference)).await.unwrap(), MANIFEST);
    let other = client.source(&format!("{host}/b:1"));
    let text = chain(&client.tag(&other).await.unwrap_err());
    assert!(text.contains(&path.display().to_string()) && !text.contains("wrong"), "{text}");
}

#[tokio::test]
async fn a_token_is_fetched_once_and_again_when_it_is_refused() {
    let (registry, client, reference) = guarded(Guard::Token("me", "secret")).await;
    let source = client.source_as(&reference, &basic("me", "secret"));
    let blob = registry.put_blob(&b"blob"[..]);
    for _ in 0..3 {
        client.tag(&source).await.unwrap();
        client.registry.small_blob(&source, &descriptor(&blob, 4), 10).await.unwrap();
    }
    let asked = registry.asked("/token");
    assert_eq!(asked.len(), 1);
    assert!(asked[0].contains("service=test") && asked[0].contains("account=me"), "{asked:?}");
    registry.revoke_tokens();
    client.tag(&source).await.unwrap();
    assert_eq!(registry.asked("/token").len(), 2);
}

#[tokio::test]
async fn a_token_is_not_shared_between_credentials() {
    let (_registry, client, reference) = guarded(Guard::Token("me", "secret")).await;
    let good = client.source_as(&reference, &basic("me", "secret"));
    assert_eq!(client.tag(&good).await.unwrap(), MANIFEST);
    for other in [Credentials::None, basic("me", "other"), basic("you", "secret")] {
        let source = client.source_as(&reference, &other);
        let error = client.tag(&source).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unauthenticated, "{other:?}");
    }
}

#[tokio::test]
async fn anyone_gets_an_anonymous_token() {
    let (_registry, client, reference) = guarded(Guard::AnonymousToken).await;
    assert_eq!(client.tag(&client.source(&reference)).await.unwrap(), MANIFEST);
}

#[tokio::test]
async fn a_token_servers_rubbish_is_refused() {
    for fault in [
        Fault::Garbage,
        Fault::Status(200, "{}".to_owned()),
        Fault::Status(200, r#"{"token":"a\nb"}"#.to_owned()),
        Fault::Endless,
        Fault::Status(500, String::new()),
    ] {
        let (registry, client, reference) = guarded(Guard::AnonymousToken).await;
        registry.fail("/token", fault.clone(), usize::MAX);
        let error = client.tag(&client.source(&reference)).await.unwrap_err();
        assert_ne!(error.kind(), Kind::NotFound, "{fault:?}: {error}");
        assert!(registry.asked("/manifests/").is_empty());
    }
}

#[tokio::test]
async fn credentials_do_not_follow_a_redirect() {
    for guard in [Guard::Basic("me", "secret"), Guard::Token("me", "secret")] {
        let (registry, _, reference) = guarded(guard).await;
        let elsewhere = TestRegistry::start().await;
        let client = Client::insecure(&[&registry]);
        let blob = elsewhere.put_blob(&b"blob"[..]);
        let place =
            format!("http://you:pass@{}/v2/x/blobs/{blob}?signature=s3cret", elsewhere.host());
        registry.fail("/blobs/", Fault::Redirect(place), usize::MAX);
        let source = client.source_as(&reference, &basic("me", "secret"));
        let blob = descriptor(&blob, 4);
        assert_eq!(client.registry.small_blob(&source, &blob, 10).await.unwrap(), b"blob");
        let seen = elsewhere.seen();
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].authorization, None);
        assert!(registry.seen().iter().any(|seen| seen.authorization.is_some()));
        // Nor do they come back with it, and a signed address is not shown.
        elsewhere.fail("/blobs/", Fault::Status(400, String::new()), usize::MAX);
        let error = client.registry.small_blob(&source, &blob, 10).await.unwrap_err();
        assert!(!chain(&error).contains("s3cret"), "{}", chain(&error));
    }
}

#[tokio::test]
async fn redirects_have_an_end() {
    let (registry, client, source) = simple().await;
    registry.fail("/manifests/", Fault::Redirect("/v2/a/manifests/1".to_owned()), usize::MAX);
    let error = client.tag(&source).await.unwrap_err();
    assert!(matches!(error, RegistryError::Redirect { .. }), "{error}");
    assert_eq!(registry.asked("/manifests/").len(), 11);
    for place in ["file:///etc/passwd", "ftp://127.0.0.1/x"] {
        registry.behave();
        registry.fail("/manifests/", Fault::Redirect(place.to_owned()), usize::MAX);
        let error = client.tag(&source).await.unwrap_err();
        assert!(matches!(error, RegistryError::Redirect { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_requests_credentials_do_not_reach_a_mirror() {
    let (registry, _, reference) = guarded(Guard::Basic("me", "secret")).await;
    let mirror =
        TestRegistry::with(Setup { guard: Guard::Token("m", "m"), ..Setup::default() }).await;
    let conf = format!(
        "[[registry]]\nlocation = \"{}\"\ninsecure = true\n[[registry.mirror]]\nlocation = \"{}\"\ninsecure = true\n",
        registry.host(),
        mirror.host()
    );
    let client = Client::new(&conf);
    let reference: Reference = reference.parse().unwrap();
    let sources = client.registry.sources(&reference, &basic("me", "secret")).unwrap();
    assert_eq!(sources.len(), 2);
    assert!(sources[0].is_mirror() && sources[0].location().starts_with(&mirror.host()));
    let error = client.tag(&sources[0]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unauthenticated);
    assert!(chain(&error).starts_with(&reference.to_string()), "{}", chain(&error));
    assert!(mirror.seen().iter().all(|seen| seen.authorization.is_none()));
    assert_eq!(client.tag(&sources[1]).await.unwrap(), MANIFEST);
}

/// A TLS registry, and a client that has its authority.
async fn over_tls(
    tls: &Tls,
    guard: Guard,
    realm: Option<String>,
) -> (TestRegistry, Client, String) {
    let setup = Setup { tls: Some(tls.clone()), guard, realm, ..Setup::default() };
    let registry = TestRegistry::with(setup).await;
    registry.put_manifest("a", Some("1"), media_type::OCI_MANIFEST, MANIFEST);
    let client = Client::new("");
    let certs = client.directory.path().join("certs.d").join(registry.host());
    std::fs::create_dir_all(&certs).unwrap();
    write(&certs.join("ca.crt"), &tls.authority);
    let reference = format!("{}/a:1", registry.host());
    (registry, client, reference)
}

#[tokio::test]
async fn the_hosts_own_authority_is_trusted_and_no_other() {
    let tls = Tls::make(false);
    let (registry, client, reference) = over_tls(&tls, Guard::Open, None).await;
    assert_eq!(client.tag(&client.source(&reference)).await.unwrap(), MANIFEST);
    let stranger = Client::new("");
    let error = stranger.tag(&stranger.source(&reference)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::RegistryUnavailable);
    assert!(chain(&error).contains("certificate"), "{}", chain(&error));
    let insecure = Client::insecure(&[&registry]);
    assert_eq!(insecure.tag(&insecure.source(&reference)).await.unwrap(), MANIFEST);
    // The files are read again when they change.
    let certs = client.directory.path().join("certs.d").join(registry.host());
    write(&certs.join("ca.crt"), &Tls::make(false).authority);
    assert!(client.tag(&client.source(&reference)).await.is_err());
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_its_host_only() {
    let tls = Tls::make(true);
    let (registry, client, reference) = over_tls(&tls, Guard::Open, None).await;
    assert!(client.tag(&client.source(&reference)).await.is_err());
    let certs = client.directory.path().join("certs.d").join(registry.host());
    write(&certs.join("client.cert"), &tls.client_certificate);
    write(&certs.join("client.key"), &tls.client_key);
    assert_eq!(client.tag(&client.source(&reference)).await.unwrap(), MANIFEST);
    // Another host behind a redirect is trusted by the same authority, but not shown who we are.
    let curious = Setup { tls: Some(tls.clone()), ..Setup::default() };
    let curious = TestRegistry::with(curious).await;
    let blob = curious.put_blob(&b"blob"[..]);
    registry.fail(
        "/blobs/",
        Fault::Redirect(format!("{}/v2/a/blobs/{blob}", curious.base())),
        usize::MAX,
    );
    let source = client.source(&reference);
    let error = client.registry.small_blob(&source, &descriptor(&blob, 4), 9).await.unwrap_err();
    assert_eq!(error.kind(), Kind::RegistryUnavailable, "{error}");
    assert!(curious.seen().is_empty());
}

#[tokio::test]
async fn tls_is_not_left_by_a_redirect() {
    let tls = Tls::make(false);
    let (registry, client, reference) = over_tls(&tls, Guard::Open, None).await;
    let plain = TestRegistry::start().await;
    let blob = plain.put_blob(&b"blob"[..]);
    let place = format!("{}/v2/a/blobs/{blob}", plain.base());
    registry.fail("/blobs/", Fault::Redirect(place), usize::MAX);
    let source = client.source(&reference);
    let error = client.registry.small_blob(&source, &descriptor(&blob, 4), 9).await.unwrap_err();
    assert!(matches!(error, RegistryError::Redirect { .. }), "{error}");
    assert!(plain.seen().is_empty());
}

#[tokio::test]
async fn credentials_are_not_sent_to_a_token_server_in_the_clear() {
    let tls = Tls::make(false);
    let plain =
        TestRegistry::with(Setup { guard: Guard::Token("me", "secret"), ..Setup::default() }).await;
    let realm = format!("{}/token", plain.base());
    let (registry, client, reference) =
        over_tls(&tls, Guard::Token("me", "secret"), Some(realm)).await;
    let source = client.source_as(&reference, &basic("me", "secret"));
    let error = client.tag(&source).await.unwrap_err();
    assert!(matches!(error, RegistryError::ExposedRealm { .. }), "{error}");
    assert_eq!(error.kind(), Kind::Unauthenticated);
    assert!(plain.seen().is_empty());
    assert!(registry.seen().iter().all(|seen| seen.authorization.is_none()));
}

#[tokio::test]
async fn a_token_server_elsewhere_gets_the_credentials_over_tls() {
    let tls = Tls::make(false);
    let setup =
        Setup { tls: Some(tls.clone()), guard: Guard::Token("me", "secret"), ..Setup::default() };
    let elsewhere = TestRegistry::with(setup).await;
    let realm = format!("{}/token", elsewhere.base());
    let (registry, client, reference) =
        over_tls(&tls, Guard::Token("me", "secret"), Some(realm)).await;
    let source = client.source_as(&reference, &basic("me", "secret"));
    // The registry does not know the other's tokens: what counts is who saw what.
    assert!(client.tag(&source).await.is_err());
    assert!(elsewhere.seen().iter().any(|seen| seen.authorization.is_some() && seen.status == 200));
    let at_registry = registry.seen().into_iter().filter_map(|seen| seen.authorization);
    assert!(at_registry.into_iter().all(|header| header.starts_with("Bearer ")));
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
