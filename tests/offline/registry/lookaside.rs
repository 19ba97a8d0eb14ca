//! Signatures beside the registry: found, absent, or not found out about.

use crioxide::failure::chain;
use crioxide::oci::digest::Digest;
use crioxide::oci::stored_signature::StoredSignature;
use crioxide::registry::RegistryError;
use crioxide::registry::Source;

use super::write;
use crate::registry::Client;
use crate::test_registry::Fault;
use crate::test_registry::Setup;
use crate::test_registry::TestRegistry;

/// What stands for an OpenPGP message: how one begins.
const MESSAGE: &[u8] = &[0x90, 1, 2, 3];

/// A registry that is its own lookaside below `/sigs`, and a client that knows.
struct Scene {
    registry: TestRegistry,
    client: Client,
    source: Source,
    digest: Digest,
}

impl Scene {
    async fn new() -> Self {
        Self::with(Setup::default()).await
    }

    async fn with(setup: Setup) -> Self {
        let registry = TestRegistry::with(setup).await;
        let entry = format!("[[registry]]\nlocation = \"{}\"\ninsecure = true\n", registry.host());
        let client = Client::with(&entry, |settings| {
            let root = settings.registries_conf.parent().unwrap().to_owned();
            settings.registries_d = vec![root.join("absent"), root.join("registries.d")];
            settings.lookaside = root.join("sigstore");
        });
        let source = client.source(&format!("{}/shop/api:1", registry.host()));
        let scene = Self { registry, client, source, digest: Digest::sha256(b"manifest") };
        scene.lookaside(&format!("{}/sigs", scene.registry.base()));
        scene
    }

    fn lookaside(&self, url: &str) {
        let directory = self.client.directory.path().join("registries.d");
        std::fs::create_dir_all(&directory).unwrap();
        let host = self.registry.host();
        let text = format!("docker:\n  \"{host}/shop\":\n    lookaside: {url}\n");
        write(&directory.join("shop.yaml"), &text);
    }

    fn path(&self, number: usize) -> String {
        format!("/sigs/shop/api@sha256={}/signature-{number}", self.digest.hex())
    }

    async fn ask(&self) -> Result<Vec<StoredSignature>, RegistryError> {
        self.client.registry.signatures(&self.source, &self.digest).await
    }

    async fn fails(&self, words: &str) {
        let error = chain(&self.ask().await.unwrap_err());
        assert!(error.contains(words), "{words:?} is not in: {error}");
    }
}

#[tokio::test]
async fn signatures_are_read_until_there_is_no_more() {
    let scene = Scene::new().await;
    assert!(scene.ask().await.unwrap().is_empty());
    scene.registry.put_file(&scene.path(1), MESSAGE);
    scene.registry.put_file(&scene.path(2), &b"\0simple-signing\n\x90"[..]);
    // Behind a gap there is nothing.
    scene.registry.put_file(&scene.path(4), MESSAGE);
    let found = scene.ask().await.unwrap();
    let expected = [MESSAGE.to_vec(), vec![0x90]].map(StoredSignature::OpenPgp);
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_lookaside_that_does_not_answer_does_not_pass_for_an_empty_one() {
    let scene = Scene::new().await;
    scene.registry.put_file(&scene.path(1), MESSAGE);
    scene.registry.put_file(&scene.path(2), MESSAGE);
    for (fault, words) in [
        (Fault::Status(500, "down".to_owned()), "answered 500"),
        (Fault::Status(503, String::new()), "answered 503"),
        (Fault::Status(429, String::new()), "answered 429"),
        (Fault::Status(403, String::new()), "answered 403"),
        (Fault::Status(401, String::new()), "answered 401"),
        (Fault::Status(410, String::new()), "answered 410"),
        (Fault::Status(204, String::new()), "answered 204"),
        (Fault::Garbage, "no signature"),
        (Fault::Cut(2), "cannot be reached"),
        (Fault::Silence, "shop/api"),
        (Fault::Endless, "larger than"),
    ] {
        scene.registry.fail("/sigs/", fault.clone(), 100);
        scene.fails(words).await;
        scene.registry.behave();
        // What holds for the first holds for the end of the list.
        scene.registry.fail("signature-2", fault, 100);
        scene.fails(words).await;
        scene.registry.behave();
        assert_eq!(scene.ask().await.unwrap().len(), 2);
    }
}

#[tokio::test]
async fn a_lookaside_that_stumbles_is_asked_again() {
    let scene = Scene::new().await;
    scene.registry.put_file(&scene.path(1), MESSAGE);
    scene.registry.fail("/sigs/", Fault::Status(503, String::new()), 2);
    assert_eq!(scene.ask().await.unwrap().len(), 1);
}

#[tokio::test]
async fn signatures_without_end_are_an_error() {
    let scene = Scene::new().await;
    for number in 1..=101 {
        scene.registry.put_file(&scene.path(number), MESSAGE);
        if number == 100 {
            assert_eq!(scene.ask().await.unwrap().len(), 100);
        }
    }
    scene.fails("more than 100 signatures").await;
    // Together they are as bounded as one.
    let scene = Scene::new().await;
    let large = [&[0x90_u8][..], &vec![0; 3 * 1024 * 1024]].concat();
    scene.registry.put_file(&scene.path(1), large.clone());
    assert_eq!(scene.ask().await.unwrap().len(), 1);
    scene.registry.put_file(&scene.path(2), large);
    scene.fails("larger than").await;
}

#[tokio::test]
async fn a_directory_is_a_lookaside_too() {
    let scene = Scene::new().await;
    let root = scene.client.directory.path().join("local");
    scene.lookaside(&format!("file://{}", root.display()));
    assert!(scene.ask().await.unwrap().is_empty());
    let directory = root.join(format!("shop/api@sha256={}", scene.digest.hex()));
    std::fs::create_dir_all(&directory).unwrap();
    crioxide::sys::files::replace(
        &directory.join("signature-1"),
        MESSAGE,
        0o600,
        crioxide::sys::files::Durability::Process,
    )
    .unwrap();
    assert_eq!(scene.ask().await.unwrap(), [StoredSignature::OpenPgp(MESSAGE.to_vec())]);
    write(&directory.join("signature-2"), "<html>");
    scene.fails("unrecognized signature format").await;
    std::fs::remove_file(directory.join("signature-2")).unwrap();
    std::fs::create_dir(directory.join("signature-2")).unwrap();
    scene.fails("signature-2").await;
    scene.lookaside("file://elsewhere/directory");
    scene.fails("names no directory").await;
}

#[tokio::test]
async fn where_nothing_is_configured_the_usual_directory_counts() {
    let scene = Scene::new().await;
    let root = scene.client.directory.path();
    std::fs::remove_dir_all(root.join("registries.d")).unwrap();
    assert!(scene.ask().await.unwrap().is_empty());
    let directory = root.join(format!("sigstore/shop/api@sha256={}", scene.digest.hex()));
    std::fs::create_dir_all(&directory).unwrap();
    write(&directory.join("signature-1"), "\0sigstore-json\n{\"mimeType\":\"a\",\"payload\":\"\"}");
    assert_eq!(scene.ask().await.unwrap().len(), 1);
    assert_eq!(scene.registry.asked("/sigs"), [""; 0]);
}

#[tokio::test]
async fn registries_d_that_cannot_be_understood_is_no_empty_lookaside() {
    let scene = Scene::new().await;
    write(&scene.client.directory.path().join("registries.d/broken.yaml"), "docker: [");
    scene.fails("broken.yaml").await;
    assert!(scene.client.registry.wants_attachments(&scene.source).is_err());
}

#[tokio::test]
async fn no_credentials_go_to_a_lookaside() {
    let scene = Scene::new().await;
    scene.registry.put_file(&scene.path(1), MESSAGE);
    let source = scene.client.source_as(
        &format!("{}/shop/api:1", scene.registry.host()),
        &super::basic("user", "secret"),
    );
    scene.client.registry.signatures(&source, &scene.digest).await.unwrap();
    let seen = scene.registry.seen();
    let mut lookaside = seen.iter().filter(|seen| seen.path.starts_with("/sigs/"));
    assert!(lookaside.all(|seen| seen.authorization.is_none()));
}

#[tokio::test]
async fn a_registry_that_keeps_signatures_is_asked_itself() {
    let scene = Scene::with(Setup { signatures: true, ..Setup::default() }).await;
    scene.registry.put_file(&scene.path(1), MESSAGE);
    let path = format!("/extensions/v2/shop/api/signatures/{}", scene.digest);
    scene.fails("answered 404").await;
    let list = r#"{"signatures":[
        {"schemaVersion":2,"name":"a","type":"atomic","content":"kAECAw=="},
        {"schemaVersion":2,"name":"b","type":"other","content":"AAAA"},
        {"schemaVersion":1,"name":"c","type":"atomic","content":"AAAA"}]}"#;
    scene.registry.put_file(&path, list);
    assert_eq!(scene.ask().await.unwrap(), [StoredSignature::OpenPgp(MESSAGE.to_vec())]);
    assert_eq!(scene.registry.asked("/sigs"), [""; 0]);
    scene.registry.put_file(&path, r#"{"signatures":null}"#);
    assert!(scene.ask().await.unwrap().is_empty());
    for broken in ["", "[]", r#"{"signatures":1}"#, &list.replace("kAECAw==", "%")] {
        scene.registry.put_file(&path, broken.to_owned());
        scene.fails("list of signatures").await;
    }
}
