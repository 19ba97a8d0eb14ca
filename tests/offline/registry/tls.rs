//! TLS: whom we trust, who learns who we are, and what never leaves it.

use crioxide::failure::Classify;
use crioxide::failure::Kind;
use crioxide::failure::chain;
use crioxide::oci::media_type;
use crioxide::registry::RegistryError;

use crate::registry::Client;
use crate::registry::MANIFEST;
use crate::registry::basic;
use crate::registry::descriptor;
use crate::registry::write;
use crate::test_registry::Fault;
use crate::test_registry::Guard;
use crate::test_registry::Setup;
use crate::test_registry::TestRegistry;
use crate::test_registry::Tls;

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
    let advice = format!("certs.d/{}/ca.crt", registry.host());
    assert!(chain(&error).contains(&advice), "{}", chain(&error));
    let insecure = Client::insecure(&[&registry]);
    assert_eq!(insecure.tag(&insecure.source(&reference)).await.unwrap(), MANIFEST);
    // The files are read again when they change.
    let certs = client.directory.path().join("certs.d").join(registry.host());
    write(&certs.join("ca.crt"), &Tls::make(false).authority);
    assert!(client.tag(&client.source(&reference)).await.is_err());
}

#[tokio::test]
async fn a_plain_registry_is_used_only_where_that_is_meant() {
    let registry = TestRegistry::start().await;
    registry.put_manifest("a", Some("1"), media_type::OCI_MANIFEST, MANIFEST);
    let reference = format!("{}/a:1", registry.host());
    let client = Client::new("");
    let error = client.tag(&client.source(&reference)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::RegistryUnavailable);
    assert!(chain(&error).contains("insecure = true"), "{}", chain(&error));
    let client = Client::insecure(&[&registry]);
    assert_eq!(client.tag(&client.source(&reference)).await.unwrap(), MANIFEST);
}

#[tokio::test]
async fn a_self_signed_certificate_is_trusted_where_it_stands_in_the_hosts_directory() {
    let tls = Tls::self_signed("127.0.0.1", 4000);
    let (_registry, client, reference) = over_tls(&tls, Guard::Open, None).await;
    assert_eq!(client.tag(&client.source(&reference)).await.unwrap(), MANIFEST);
    let stranger = Client::new("");
    assert!(stranger.tag(&stranger.source(&reference)).await.is_err());
    // The same kind of certificate, but another one.
    let (registry, client, reference) = over_tls(&tls, Guard::Open, None).await;
    let certs = client.directory.path().join("certs.d").join(registry.host());
    write(&certs.join("ca.crt"), &Tls::self_signed("127.0.0.1", 4000).authority);
    assert!(client.tag(&client.source(&reference)).await.is_err());
}

#[tokio::test]
async fn a_trusted_certificate_still_has_its_dates_and_names_checked() {
    for (name, last_year, expected) in [("127.0.0.2", 4000, "name"), ("127.0.0.1", 2020, "expired")]
    {
        let tls = Tls::self_signed(name, last_year);
        let (_registry, client, reference) = over_tls(&tls, Guard::Open, None).await;
        let error = client.tag(&client.source(&reference)).await.unwrap_err();
        assert!(chain(&error).contains(expected), "{}", chain(&error));
    }
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
