//! Referrers: found by either way, and never mistaken for absent.

use crioxide::oci::digest::Digest;
use crioxide::oci::media_type;
use crioxide::registry::RegistryError;
use serde_json::json;

use crate::registry::Client;
use crate::registry::simple;
use crate::test_registry::Fault;
use crate::test_registry::Setup;
use crate::test_registry::TestRegistry;

/// A manifest about `subject`.
pub(super) fn referrer(subject: &Digest, artifact_type: &str) -> Vec<u8> {
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
    // An image is no list; bytes that mean nothing are no answer.
    let manifest = referrer(&subject, "application/x");
    registry.put_manifest("a", Some(&tag), media_type::OCI_MANIFEST, manifest);
    assert!(client.registry.referrers(&source, &subject).await.unwrap().is_empty());
    registry.put_manifest("a", Some(&tag), media_type::OCI_INDEX, "{}");
    assert!(client.registry.referrers(&source, &subject).await.is_err());
}

#[tokio::test]
async fn referrers_come_from_the_tag_where_the_registry_does_not_know_what_was_asked() {
    let elsewhere = TestRegistry::start().await;
    let page = format!("http://{}/-/v2/packages/page", elsewhere.host());
    for fault in [
        Fault::Header(303, "location", page),
        Fault::Status(400, r#"{"errors":[{"code":"UNSUPPORTED"}]}"#.to_owned()),
        Fault::Status(406, String::new()),
        Fault::Header(200, "content-type", "text/html; charset=utf-8".to_owned()),
    ] {
        let registry = TestRegistry::start().await;
        registry.fail("/referrers/", fault.clone(), usize::MAX);
        let client = Client::insecure(&[&registry]);
        let source = client.source(&format!("{}/a:1", registry.host()));
        let subject = Digest::sha256(b"subject");
        assert!(client.registry.referrers(&source, &subject).await.unwrap().is_empty());
        let tag = subject.to_string().replace(':', "-");
        let entry = json!({
            "mediaType": media_type::OCI_MANIFEST, "size": 1, "digest": subject.to_string(),
        });
        let index = json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [entry],
        });
        registry.put_manifest("a", Some(&tag), media_type::OCI_INDEX, index.to_string());
        let found = client.registry.referrers(&source, &subject).await.unwrap();
        assert_eq!(found.len(), 1, "{fault:?}");
        // What the tag does not say clearly stays unclear.
        registry.fail("/manifests/sha256-", Fault::Status(403, String::new()), usize::MAX);
        assert!(client.registry.referrers(&source, &subject).await.is_err(), "{fault:?}");
    }
    assert!(elsewhere.seen().is_empty());
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
async fn many_large_pages_of_referrers_are_refused() {
    let (registry, client, source) = simple().await;
    let subject = Digest::sha256(b"subject");
    let entry = json!({
        "mediaType": media_type::OCI_MANIFEST, "size": 1, "annotations": { "much": "x".repeat(3 << 20) },
        "digest": Digest::sha256(b"x").to_string(),
    });
    let page = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [entry],
    });
    let next = format!("</v2/a/referrers/{subject}>; rel=\"next\"");
    registry.fail("/referrers/", Fault::Linked(page.to_string(), next), usize::MAX);
    let error = client.registry.referrers(&source, &subject).await.unwrap_err();
    let what = "bytes";
    let expected =
        matches!(error, RegistryError::TooManyReferrers { what: found, .. } if found == what);
    assert!(expected, "{error}");
    assert_eq!(registry.asked("/referrers/").len(), 3);
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
