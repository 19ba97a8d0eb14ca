//! Pulls by the whole daemon: from whom, as whom, in which form, and what is left when they fail.

use std::time::Duration;

use crioxide::cri::api;
use crioxide::oci::digest::Digest;
use crioxide::oci::media_type;
use serde_json::Value;
use serde_json::json;
use tonic::Code;

use crate::images::Image;
use crate::images::Layer;
use crate::images::Tar;
use crate::publish;
use crate::support::client::Client;
use crate::support::daemon::Daemon;
use crate::support::host;
use crate::support::net;
use crate::test_registry::Fault;
use crate::test_registry::Guard;
use crate::test_registry::Setup;
use crate::test_registry::TestRegistry;

/// A daemon with a registry that it may speak plain HTTP to.
async fn scene(setup: Setup) -> (Daemon, TestRegistry, Client) {
    let registry = TestRegistry::with(setup).await;
    let mut daemon = Daemon::new();
    daemon.registries(&publish::insecure(&[&registry]));
    daemon.start().await;
    let client = daemon.client().await;
    (daemon, registry, client)
}

/// Tells a story in a network of its own, if this host can.
fn story<F: Future<Output = ()>>(story: impl FnOnce() -> F + Send) {
    if host::can(&["root", "ip", "runc", "conmon"]) {
        net::in_own_network(story);
    }
}

fn archive(name: &str, content: &[u8]) -> Vec<u8> {
    Tar::new().dir("data/", 0o755).file(&format!("data/{name}"), 0o644, content).finish()
}

/// An image of one small layer.
fn small(text: &str) -> Image {
    Image::new(vec![Layer::gzip(archive("text", text.as_bytes()))], &["/bin/true"])
}

/// Bytes that do not get smaller.
fn noise(length: usize, mut seed: u64) -> Vec<u8> {
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

/// An image whose one layer is of this many bytes, as they are.
fn large(length: usize, seed: u64) -> Image {
    Image::new(vec![Layer::plain(archive("noise", &noise(length, seed)))], &["/bin/true"])
}

/// What of a blob was asked for.
fn asked_of(registry: &TestRegistry, digest: &Digest) -> usize {
    registry.asked(&format!("/blobs/{digest}")).len()
}

fn login(username: &str, password: &str) -> Option<api::AuthConfig> {
    let (username, password) = (username.to_owned(), password.to_owned());
    Some(api::AuthConfig { username, password, ..Default::default() })
}

#[test]
fn an_image_is_pulled_by_tag_by_digest_and_by_both() {
    story(|| async {
        let (daemon, registry, mut client) = scene(Setup::default()).await;
        let image = small("names");
        let digest = publish::image(&registry, "shop/api:1", &image);
        publish::image(&registry, "shop/api:latest", &image);
        let id = image.config_digest().hex().to_owned();
        let host = registry.host();
        for name in [
            format!("{host}/shop/api:1"),
            format!("{host}/shop/api"),
            format!("{host}/shop/api@{digest}"),
            format!("{host}/shop/api:1@{digest}"),
            // The tag says nothing where there is a digest.
            format!("{host}/shop/api:other@{digest}"),
        ] {
            assert_eq!(client.pull(&name).await.unwrap(), id, "{name}");
            let found = client.image(&name).await.unwrap().unwrap();
            assert_eq!(found.id, id, "{name}");
        }
        let images = client.images().await.unwrap();
        assert_eq!(images.len(), 1);
        assert_eq!(
            images[0].repo_tags,
            [format!("{host}/shop/api:1"), format!("{host}/shop/api:latest")]
        );
        assert_eq!(images[0].repo_digests, [format!("{host}/shop/api@{digest}")]);
        assert!(images[0].size > 0);
        // The layer that is here is not asked for again.
        assert_eq!(asked_of(&registry, &image.layers[0].digest()), 1);
        for text in [&*id, &id[..12], &format!("sha256:{id}")] {
            assert_eq!(client.image(text).await.unwrap().unwrap().id, id, "{text}");
        }
        let unknown = client.pull(&format!("{host}/shop/api:2")).await.unwrap_err();
        assert_eq!(unknown.code(), Code::NotFound, "{unknown}");
        let invalid = client.pull("Not A Name").await.unwrap_err();
        assert_eq!(invalid.code(), Code::InvalidArgument, "{invalid}");
        daemon.finish().await;
    });
}

#[test]
fn an_image_is_removed_by_name_and_by_id_and_a_second_time() {
    story(|| async {
        let (daemon, registry, mut client) = scene(Setup::default()).await;
        let image = small("removal");
        publish::image(&registry, "shop/api:1", &image);
        publish::image(&registry, "shop/api:2", &image);
        let name = |tag: &str| format!("{}/shop/api:{tag}", registry.host());
        let id = client.pull(&name("1")).await.unwrap();
        client.pull(&name("2")).await.unwrap();
        client.remove_image(&name("1")).await.unwrap();
        assert!(client.image(&name("1")).await.unwrap().is_none());
        assert!(client.image(&name("2")).await.unwrap().is_some());
        client.remove_image(&name("1")).await.unwrap();
        client.remove_image(&name("2")).await.unwrap();
        assert!(client.images().await.unwrap().is_empty());
        daemon.holds_nothing();
        client.pull(&name("1")).await.unwrap();
        client.pull(&name("2")).await.unwrap();
        client.remove_image(&id).await.unwrap();
        client.remove_image(&id).await.unwrap();
        assert!(client.images().await.unwrap().is_empty());
        daemon.holds_nothing();
        daemon.finish().await;
    });
}

#[test]
fn the_size_of_the_store_grows_with_an_image_and_shrinks_again() {
    story(|| async {
        let (daemon, registry, mut client) = scene(Setup::default()).await;
        let image = large(3 << 20, 1);
        publish::image(&registry, "shop/api:1", &image);
        let before = fs_info(&mut client).await;
        let id = client.pull(&format!("{}/shop/api:1", registry.host())).await.unwrap();
        let with = fs_info(&mut client).await;
        client.remove_image(&id).await.unwrap();
        let after = fs_info(&mut client).await;
        let (bytes, inodes) = (with.0 - before.0, with.1 - before.1);
        assert!(((3 << 20)..(4 << 20)).contains(&bytes), "{bytes}");
        assert!((3..40).contains(&inodes), "{inodes}");
        assert!(after.0 < before.0 + (1 << 20) && after.1 <= before.1 + 4, "{before:?} {after:?}");
        daemon.finish().await;
    });
}

/// Bytes and inodes that images take.
async fn fs_info(client: &mut Client) -> (u64, u64) {
    let answer = client.image.image_fs_info(api::ImageFsInfoRequest {}).await.unwrap();
    let usage = answer.into_inner().image_filesystems.remove(0);
    let mountpoint = usage.fs_id.unwrap().mountpoint;
    assert!(std::path::Path::new(&mountpoint).is_dir(), "{mountpoint}");
    assert!(usage.timestamp > 1_700_000_000_000_000_000);
    (usage.used_bytes.unwrap().value, usage.inodes_used.unwrap().value)
}

#[test]
fn short_names_mirrors_and_blocked_registries_are_as_registries_conf_says() {
    story(|| async {
        let (daemon, primary, mut client) = scene(Setup::default()).await;
        let mirror = TestRegistry::start().await;
        let broken = TestRegistry::start().await;
        let image = small("mirror");
        publish::image(&primary, "shop/api:1", &image);
        publish::image(&mirror, "copy/shop/api:1", &image);
        broken.fail("/v2/", Fault::Status(403, String::new()), usize::MAX);
        let conf = |mirrors: &[String]| {
            let mirrors = mirrors
                .iter()
                .map(|at| format!("[[registry.mirror]]\nlocation = \"{at}\"\ninsecure = true\n"))
                .collect::<String>();
            daemon.registries(&format!(
                "unqualified-search-registries = [\"images.test\"]\n\
                 [[registry]]\nprefix = \"images.test\"\nlocation = \"{}\"\ninsecure = true\n\
                 {mirrors}\
                 [[registry]]\nlocation = \"evil.test\"\nblocked = true\n",
                primary.host()
            ));
        };
        // The mirror answers, and the registry itself is not asked.
        conf(&[format!("{}/copy", mirror.host())]);
        let id = client.pull("shop/api:1").await.unwrap();
        assert_eq!(primary.seen().len(), 0);
        assert_eq!(asked_of(&mirror, &image.layers[0].digest()), 1);
        let found = client.image("images.test/shop/api:1").await.unwrap().unwrap();
        assert_eq!(found.repo_tags, ["images.test/shop/api:1"]);
        assert!(client.image("shop/api:1").await.unwrap().is_some());
        client.remove_image(&id).await.unwrap();
        // It is asked after the mirror has failed.
        conf(&[broken.host()]);
        client.pull("images.test/shop/api:1").await.unwrap();
        assert!(!broken.seen().is_empty());
        assert_eq!(asked_of(&primary, &image.layers[0].digest()), 1);
        // Where none has it, all are told of, and the registry's own word counts.
        let nowhere = client.pull("images.test/shop/api:none").await.unwrap_err();
        assert_eq!(nowhere.code(), Code::NotFound, "{nowhere}");
        for host in [broken.host(), primary.host()] {
            assert!(nowhere.message().contains(&host), "{nowhere}");
        }
        let blocked = client.pull("evil.test/shop/api:1").await.unwrap_err();
        assert_eq!(blocked.code(), Code::InvalidArgument, "{blocked}");
        let file = daemon.path("registries.conf").display().to_string();
        assert!(blocked.message().contains(&file), "{blocked}");
        assert!(blocked.message().contains("blocked"), "{blocked}");
        daemon.finish().await;
    });
}

#[test]
fn credentials_come_with_the_request_or_from_the_nodes_file() {
    for guard in [Guard::Basic("me", "secret"), Guard::Token("me", "secret")] {
        story(|| async {
            let registry =
                TestRegistry::with(Setup { guard: guard.clone(), ..Setup::default() }).await;
            let mut daemon = Daemon::new();
            daemon.registries(&publish::insecure(&[&registry]));
            let file = daemon.path("auth.json");
            daemon.argument("--global-auth-file");
            daemon.argument(file.to_str().unwrap());
            daemon.write("auth.json", r#"{"auths": {}}"#);
            daemon.start().await;
            let mut client = daemon.client().await;
            let image = small("credentials");
            publish::image(&registry, "shop/api:1", &image);
            let name = format!("{}/shop/api:1", registry.host());
            for wrong in [None, login("me", "wrong"), login("you", "secret")] {
                let refused = client.pull_as(&name, wrong, "default").await.unwrap_err();
                assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
                assert!(!refused.message().contains("wrong"), "{refused}");
            }
            daemon.holds_nothing();
            let id = client.pull_as(&name, login("me", "secret"), "default").await.unwrap();
            client.remove_image(&id).await.unwrap();
            // As docker's configuration has it.
            let auth = "bWU6c2VjcmV0".to_owned();
            let packed = Some(api::AuthConfig { auth: auth.clone(), ..Default::default() });
            let id = client.pull_as(&name, packed, "default").await.unwrap();
            client.remove_image(&id).await.unwrap();
            let auths = json!({ "auths": { registry.host(): { "auth": auth } } });
            daemon.write("auth.json", &auths.to_string());
            client.pull(&name).await.unwrap();
            assert!(!daemon.log().contains("secret") && !daemon.log().contains(&auth));
            daemon.finish().await;
        });
    }
}

/// The manifest as Docker writes it.
fn docker_manifest(image: &Image) -> String {
    let mut manifest: Value = serde_json::from_slice(&image.manifest).unwrap();
    manifest["mediaType"] = json!(media_type::DOCKER_MANIFEST);
    manifest["config"]["mediaType"] = json!(media_type::DOCKER_CONFIG);
    for layer in manifest["layers"].as_array_mut().unwrap() {
        layer["mediaType"] = json!("application/vnd.docker.image.rootfs.diff.tar.gzip");
    }
    manifest.to_string()
}

#[test]
fn every_form_of_image_is_pulled_and_schema_1_is_not() {
    story(|| async {
        let (daemon, registry, mut client) = scene(Setup::default()).await;
        let name = |rest: &str| format!("{}/{rest}", registry.host());
        let oci = Image::new(
            vec![
                Layer::gzip(archive("a", b"gzip")),
                Layer::zstd(archive("b", b"zstd")),
                Layer::plain(archive("c", b"plain")),
            ],
            &["/bin/true"],
        );
        publish::image(&registry, "forms/oci:1", &oci);
        assert_eq!(client.pull(&name("forms/oci:1")).await.unwrap(), oci.config_digest().hex());

        let docker = small("docker");
        publish::image(&registry, "forms/docker:oci", &docker);
        let manifest = docker_manifest(&docker);
        registry.put_manifest("forms/docker", Some("1"), media_type::DOCKER_MANIFEST, manifest);
        let id = client.pull(&name("forms/docker:1")).await.unwrap();
        assert_eq!(id, docker.config_digest().hex());

        for (tag, kind) in [("oci", media_type::OCI_INDEX), ("docker", media_type::DOCKER_LIST)] {
            let ours = small(&format!("ours {tag}"));
            let other = small(&format!("other {tag}"));
            let entry = |image: &Image, architecture: &str| {
                let digest =
                    publish::image(&registry, &format!("forms/index:{architecture}"), image);
                json!({
                    "mediaType": media_type::OCI_MANIFEST, "digest": digest.to_string(),
                    "size": image.manifest.len(),
                    "platform": { "os": "linux", "architecture": architecture },
                })
            };
            let here = if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" };
            let index = |entries: &[Value]| {
                json!({ "schemaVersion": 2, "mediaType": kind, "manifests": entries }).to_string()
            };
            let entries = [entry(&other, "s390x"), entry(&ours, here)];
            let listed = registry.put_manifest("forms/index", Some(tag), kind, index(&entries));
            let id = client.pull(&name(&format!("forms/index:{tag}"))).await.unwrap();
            assert_eq!(id, ours.config_digest().hex());
            // It goes by the digest of either, in order, and is there by that of the index too.
            let by = |digest: &Digest| name(&format!("forms/index@{digest}"));
            let mut digests = [by(&ours.digest()), by(&listed)];
            digests.sort();
            let found = client.image(&by(&listed)).await.unwrap().unwrap();
            assert_eq!((found.id, found.repo_digests), (id.clone(), digests.to_vec()));
            assert_eq!(asked_of(&registry, &other.layers[0].digest()), 0);
            registry.put_manifest("forms/index", Some("none"), kind, index(&entries[..1]));
            let none = client.pull(&name("forms/index:none")).await.unwrap_err();
            assert!(none.message().contains("s390x"), "{none}");
        }

        let schema1 = r#"{"schemaVersion":1,"name":"a","tag":"1","fsLayers":[],"history":[]}"#;
        let kind = "application/vnd.docker.distribution.manifest.v1+prettyjws";
        registry.put_manifest("forms/old", Some("1"), kind, schema1);
        let refused = client.pull(&name("forms/old:1")).await.unwrap_err();
        assert!(refused.message().contains("schema 1"), "{refused}");
        assert_eq!(client.images().await.unwrap().len(), 4);
        daemon.finish().await;
    });
}

#[test]
fn a_cut_connection_is_taken_up_where_it_broke() {
    story(|| async {
        let (daemon, registry, mut client) = scene(Setup::default()).await;
        let image = large(4 << 20, 2);
        publish::image(&registry, "shop/api:1", &image);
        let blob = image.layers[0].digest();
        registry.fail(&format!("/blobs/{blob}"), Fault::Cut(1 << 20), 1);
        client.pull(&format!("{}/shop/api:1", registry.host())).await.unwrap();
        let seen = registry.seen();
        let of_blob = seen.iter().filter(|seen| seen.path.contains(&blob.to_string()));
        let ranges: Vec<_> = of_blob.map(|seen| (seen.range.clone(), seen.status)).collect();
        assert_eq!(ranges.len(), 2, "{ranges:?}");
        assert_eq!(ranges[0], (None, 200));
        let second = ranges[1].0.clone().unwrap_or_default();
        let first: usize = second
            .strip_prefix("bytes=")
            .and_then(|range| range.strip_suffix('-'))
            .and_then(|range| range.parse().ok())
            .unwrap();
        assert!(first > 0 && first <= 1 << 20, "{second}");
        assert_eq!(ranges[1].1, 206);
        daemon.finish().await;
    });
}

#[test]
fn the_same_pull_twice_at_once_asks_once() {
    story(|| async {
        let (daemon, registry, client) = scene(Setup::default()).await;
        let image = large(2 << 20, 3);
        publish::image(&registry, "shop/api:1", &image);
        let name = format!("{}/shop/api:1", registry.host());
        let pulls = (0..6).map(|_| {
            let (mut client, name) = (client.clone(), name.clone());
            async move { client.pull(&name).await.unwrap() }
        });
        let ids = futures_util::future::join_all(pulls).await;
        assert!(ids.iter().all(|id| id == image.config_digest().hex()), "{ids:?}");
        for (digest, _) in image.blobs() {
            assert_eq!(asked_of(&registry, &digest), 1);
        }
        daemon.finish().await;
    });
}

#[test]
fn a_base_that_two_images_share_is_fetched_once() {
    story(|| async {
        let (daemon, registry, mut client) = scene(Setup::default()).await;
        let base = Layer::plain(archive("base", &noise(3 << 20, 4)));
        let on_base = |text: &str| {
            let own = Layer::gzip(archive(text, text.as_bytes()));
            Image::new(vec![base.clone(), own], &["/bin/true"])
        };
        let images = ["one", "two", "three"].map(on_base);
        for (image, name) in images.iter().zip(["one", "two", "three"]) {
            publish::image(&registry, &format!("shop/{name}:1"), image);
        }
        let name = |name: &str| format!("{}/shop/{name}:1", registry.host());
        let (mut first, mut second) = (client.clone(), client.clone());
        let (one, two) = (name("one"), name("two"));
        let (one, two) = tokio::join!(first.pull(&one), second.pull(&two));
        one.unwrap();
        two.unwrap();
        assert_eq!(asked_of(&registry, &base.digest()), 1);
        // What is here already is not fetched at all.
        client.pull(&name("three")).await.unwrap();
        assert_eq!(asked_of(&registry, &base.digest()), 1);
        // It stays as long as anyone has it.
        client.remove_image(&name("one")).await.unwrap();
        client.remove_image(&name("two")).await.unwrap();
        assert!(client.image(&name("three")).await.unwrap().is_some());
        client.remove_image(&name("three")).await.unwrap();
        daemon.holds_nothing();
        daemon.finish().await;
    });
}

/// A layer that nothing is wrong with.
fn base() -> Layer {
    Layer::gzip(archive("good", b"good"))
}

/// An image of two layers, before something is done to it.
fn promised(text: &str) -> Image {
    let own = Layer::gzip(archive(text, &noise(200_000, text.len() as u64)));
    Image::new(vec![base(), own], &["/bin/true"])
}

/// The image's manifest with a change.
fn edited(image: &Image, edit: &dyn Fn(&mut Value)) -> String {
    let mut manifest: Value = serde_json::from_slice(&image.manifest).unwrap();
    edit(&mut manifest);
    manifest.to_string()
}

fn serve_bad_layers(registry: &TestRegistry) {
    // A layer's blob is another one of the same length: a good archive, or a damaged one.
    let swapped = Layer::plain(archive("swapped", b"what was judged"));
    let served = archive("swapped", b"what is served!");
    let swap = Image::new(vec![base(), swapped.clone()], &["/bin/true"]);
    publish::image(registry, "bad/swapped:1", &swap);
    registry.put_blob_as(&swapped.digest(), served);
    let digest = promised("digest");
    publish::image(registry, "bad/digest:1", &digest);
    let blob = &digest.layers[1];
    let mut bytes = blob.blob.clone();
    bytes[100] ^= 1;
    registry.put_blob_as(&blob.digest(), bytes);
}

fn serve_bad_manifests(registry: &TestRegistry) {
    let kind = media_type::OCI_MANIFEST;
    // The whole blob, but the manifest has another size for it: more, and fewer.
    let size = promised("size");
    publish::image(registry, "bad/longer:0", &size);
    publish::image(registry, "bad/shorter:0", &size);
    for (repository, by) in [("bad/longer", 1_i64), ("bad/shorter", -1)] {
        let manifest = edited(&size, &|manifest| {
            let told = manifest["layers"][1]["size"].as_i64().unwrap() + by;
            manifest["layers"][1]["size"] = json!(told);
        });
        registry.put_manifest(repository, Some("1"), kind, manifest);
    }

    // The config promises other files than the layer has.
    let mut diff_id = promised("diff-id");
    let mut config: Value = serde_json::from_slice(&diff_id.config).unwrap();
    config["rootfs"]["diff_ids"][1] = json!(Digest::sha256(b"other").to_string());
    diff_id.config = config.to_string().into_bytes();
    let manifest = edited(&diff_id, &|manifest| {
        manifest["config"]["digest"] = json!(diff_id.config_digest().to_string());
        manifest["config"]["size"] = json!(diff_id.config.len());
    });
    publish::image(registry, "bad/diff-id:0", &diff_id);
    registry.put_manifest("bad/diff-id", Some("1"), kind, manifest);

    // The config has fewer layers than the manifest, and is none that was promised.
    let fewer = promised("fewer");
    publish::image(registry, "bad/fewer:0", &fewer);
    let manifest = edited(&fewer, &|manifest| {
        let first = manifest["layers"][0].clone();
        manifest["layers"].as_array_mut().unwrap().push(first);
    });
    registry.put_manifest("bad/fewer", Some("1"), kind, manifest);
    let config = promised("config");
    publish::image(registry, "bad/config:1", &config);
    registry.put_blob_as(&config.config_digest(), vec![b' '; config.config.len()]);

    // A manifest of more than four megabytes.
    let huge = edited(&promised("huge"), &|manifest| {
        manifest["annotations"] = json!({ "much": "x".repeat(5 << 20) });
    });
    registry.put_manifest("bad/huge", Some("1"), kind, huge);

    // A layer that climbs out of its directory.
    let climb = Tar::new().file("../../../../../../tmp/climbed", 0o644, b"x").finish();
    publish::image(registry, "bad/climb:1", &Image::new(vec![Layer::gzip(climb)], &["/bin/true"]));
}

#[test]
fn an_image_that_is_not_what_it_claims_leaves_nothing() {
    story(|| async {
        let (daemon, registry, mut client) = scene(Setup::default()).await;
        let name = |rest: &str| format!("{}/{rest}", registry.host());
        serve_bad_layers(&registry);
        serve_bad_manifests(&registry);
        for (case, words) in [
            ("swapped", "the registry sent bytes of digest"),
            ("digest", "no valid gzip stream"),
            ("longer", "were promised"),
            ("shorter", "were promised"),
            ("diff-id", "diff-id"),
            ("fewer", "3"),
            ("config", "bytes are not those"),
            ("huge", "larger than"),
            ("climb", ".."),
        ] {
            let refused = client.pull(&name(&format!("bad/{case}:1"))).await.unwrap_err();
            assert!(refused.message().contains(words), "{case}: {refused}");
            assert!(refused.message().contains(&format!("bad/{case}")), "{case}: {refused}");
            daemon.holds_nothing();
            assert!(client.images().await.unwrap().is_empty(), "{case}");
        }
        // It is not the place that is bad.
        let whole = promised("whole");
        publish::image(&registry, "good/whole:1", &whole);
        client.pull(&name("good/whole:1")).await.unwrap();
        daemon.finish().await;
    });
}

#[test]
fn a_daemon_killed_within_a_layer_starts_again_without_a_half_image() {
    story(|| async {
        let (mut daemon, registry, client) = scene(Setup::default()).await;
        let first = Layer::gzip(archive("first", b"whole"));
        let second = Layer::plain(archive("second", &noise(1 << 20, 5)));
        let image = Image::new(vec![first, second.clone()], &["/bin/true"]);
        publish::image(&registry, "shop/api:1", &image);
        let name = format!("{}/shop/api:1", registry.host());
        // Slow enough to be in the middle of it.
        let slow = Fault::Drip(Duration::from_millis(1));
        registry.fail(&format!("/blobs/{}", second.digest()), slow, 1);
        let mut puller = client.clone();
        let pulled = name.clone();
        let pull = tokio::spawn(async move { puller.pull(&pulled).await });
        let staging = daemon.path("storage/overlay/tempdirs");
        let patience = Duration::from_secs(10);
        host::eventually("a layer being unpacked", patience, || unpacks(&staging));
        daemon.kill().await;
        assert!(pull.await.unwrap().is_err());
        assert!(!daemon.stored().is_empty(), "it was killed too late or too early");
        daemon.start().await;
        let mut client = daemon.client().await;
        assert!(client.images().await.unwrap().is_empty());
        daemon.holds_nothing();
        client.pull(&name).await.unwrap();
        assert_eq!(client.images().await.unwrap().len(), 1);
        daemon.finish().await;
    });
}

/// Whether there is the file that comes last, and not whole.
fn unpacks(staging: &std::path::Path) -> bool {
    let found = host::output("find", &[staging.to_str().unwrap(), "-path", "*data/second"]);
    !found.stdout.is_empty()
}

#[test]
fn a_pull_goes_on_when_its_caller_is_gone() {
    story(|| async {
        let (daemon, registry, client) = scene(Setup::default()).await;
        let image = small("caller");
        publish::image(&registry, "shop/api:1", &image);
        let name = format!("{}/shop/api:1", registry.host());
        let slow = Fault::Drip(Duration::from_millis(5));
        registry.fail(&format!("/blobs/{}", image.layers[0].digest()), slow, 1);
        let mut puller = client.clone();
        let pull = puller.pull(&name);
        assert!(tokio::time::timeout(Duration::from_millis(50), pull).await.is_err());
        let mut client = client.clone();
        client.pull(&name).await.unwrap();
        assert_eq!(asked_of(&registry, &image.layers[0].digest()), 1);
        daemon.finish().await;
    });
}
