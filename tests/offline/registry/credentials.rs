//! Credentials open what they are for, and reach nobody else.

use crioxide::failure::Classify;
use crioxide::failure::Kind;
use crioxide::failure::chain;
use crioxide::oci::media_type;
use crioxide::oci::reference::Reference;
use crioxide::registry::Credentials;
use crioxide::registry::RegistryError;

use crate::registry::Client;
use crate::registry::MANIFEST;
use crate::registry::basic;
use crate::registry::descriptor;
use crate::registry::simple;
use crate::registry::write;
use crate::test_registry::Fault;
use crate::test_registry::Guard;
use crate::test_registry::Setup;
use crate::test_registry::TestRegistry;

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
