//! Blobs that break off, and blobs that are not what was promised.

use std::time::Duration;

use crioxide::failure::Classify;
use crioxide::failure::Kind;
use crioxide::registry::BlobStream;
use crioxide::registry::RegistryError;

use crate::registry::Client;
use crate::registry::descriptor;
use crate::registry::simple;
use crate::test_registry::Fault;
use crate::test_registry::Setup;
use crate::test_registry::TestRegistry;

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

async fn collect(mut stream: BlobStream) -> Result<Vec<u8>, RegistryError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk?);
        assert!(bytes.len() <= 1_000_000, "more than any blob here has");
    }
    assert!(stream.next().await.is_none());
    Ok(bytes)
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
async fn a_blob_that_trickles_is_given_up_and_one_that_is_read_slowly_is_not() {
    let (registry, _, source) = simple().await;
    let conf = format!("[[registry]]\nlocation = \"{}\"\ninsecure = true\n", registry.host());
    let wait = Duration::from_millis(600);
    let client = Client::with(&conf, |settings| settings.progress_timeout = wait);
    let bytes = pattern(300_000);
    let digest = registry.put_blob(bytes.clone());
    // Never silent for as long as a connection may be, and never getting anywhere.
    registry.fail("/blobs/", Fault::Drip(Duration::from_millis(50)), 1);
    let begun = tokio::time::Instant::now();
    let stream = client.registry.blob(&source, &descriptor(&digest, bytes.len())).await.unwrap();
    let error = collect(stream).await.unwrap_err();
    assert!(matches!(error, RegistryError::Standstill { .. }), "{error}");
    assert_eq!(error.kind(), Kind::RegistryUnavailable);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    // What is slow here is the reader: the registry is not waited for.
    let mut stream =
        client.registry.blob(&source, &descriptor(&digest, bytes.len())).await.unwrap();
    let mut read = Vec::new();
    let begun = tokio::time::Instant::now();
    while let Some(chunk) = stream.next().await {
        read.extend_from_slice(&chunk.unwrap());
        if begun.elapsed() < 2 * wait {
            tokio::time::sleep(wait / 2).await;
        }
    }
    assert!(read == bytes && begun.elapsed() >= 2 * wait);
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
