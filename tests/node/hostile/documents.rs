//! Manifests, indexes and configs: documents that mean two things, or more than a node can bear.

use serde_json::Value;
use serde_json::json;

use super::Faults;
use super::Scene;
use super::edited;
use super::story;
use crate::images::Image;
use crate::images::Layer;
use crate::images::Tar;
use crate::publish;
use crate::test_registry::Setup;
use crate::test_registry::TestRegistry;
use crioxide::oci::digest::Digest;
use crioxide::oci::media_type;
use crioxide::oci::media_type::DOCKER_SCHEMA1_SIGNED;
use crioxide::oci::media_type::OCI_INDEX;
use crioxide::oci::media_type::OCI_MANIFEST;

/// What the registry serves under the tag, and the words of the refusal; without words, it is an image
/// like any other.
struct Case {
    name: &'static str,
    words: Option<&'static str>,
    kind: &'static str,
    document: Vec<u8>,
}

fn case(name: &'static str, words: &'static str, document: Vec<u8>) -> Case {
    Case { name, words: Some(words), kind: OCI_MANIFEST, document }
}

fn served(kind: &'static str, case: Case) -> Case {
    Case { kind, ..case }
}

fn harmless(name: &'static str, document: Vec<u8>) -> Case {
    Case { name, words: None, kind: OCI_MANIFEST, document }
}

/// An image that nothing is wrong with, whose blobs are served.
fn good(registry: &TestRegistry, text: &str) -> Image {
    let tar = Tar::new().dir("etc/", 0o755).file("etc/motd", 0o644, text.as_bytes());
    let image = Image::new(vec![Layer::gzip(tar.finish())], &["/bin/true"]);
    publish::image(registry, "documents/good:1", &image);
    image
}

/// The manifest of an image whose config has a change.
fn with_config(registry: &TestRegistry, image: &Image, config: Vec<u8>) -> Vec<u8> {
    let config = publish::blob(registry, media_type::OCI_CONFIG, config);
    edited(&image.manifest, |manifest| manifest["config"] = config)
}

fn with_text(document: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = String::from_utf8(document.to_vec()).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    text.replacen(from, to, 1).into_bytes()
}

fn index(entries: &[Value]) -> Vec<u8> {
    json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries }).to_string().into()
}

fn host_entry(kind: &str, digest: &str, size: usize) -> Value {
    let architecture = if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" };
    let platform = json!({ "os": "linux", "architecture": architecture });
    json!({ "mediaType": kind, "digest": digest, "size": size, "platform": platform })
}

fn ambiguous(registry: &TestRegistry) -> Vec<Case> {
    let image = good(registry, "ambiguous");
    let (manifest, config) = (&image.manifest, &image.config);
    let entry = host_entry(OCI_MANIFEST, &image.digest().to_string(), manifest.len());
    let list = index(&[entry]);
    let twice = |document: &[u8], key: &str| {
        with_text(document, &format!("\"{key}\":"), &format!("\"{key}\":null,\"{key}\":"))
    };
    let both = edited(manifest, |it| it["manifests"] = json!([]));
    let escaped = with_text(manifest, "\"layers\":", "\"l\\u0061yers\":[],\"layers\":");
    vec![
        case("says-layers-twice", "stands twice", twice(manifest, "layers")),
        case("says-layers-twice-with-an-escape", "stands twice", escaped),
        case("says-a-layers-digest-twice", "stands twice", twice(manifest, "digest")),
        case(
            "says-config-keys-twice",
            "stands twice",
            with_config(registry, &image, twice(config, "diff_ids")),
        ),
        served(OCI_INDEX, case("says-manifests-twice", "stands twice", twice(&list, "manifests"))),
        served(
            OCI_INDEX,
            case("is-a-manifest-served-as-an-index", "is served as", manifest.clone()),
        ),
        case("is-an-index-served-as-a-manifest", "is served as", list.clone()),
        served("", case("is-both-and-served-as-nothing", "is served as", both.clone())),
        served(OCI_INDEX, case("is-both-served-as-an-index", "is served as", both.clone())),
        case("is-both-served-as-a-manifest", "is served as", both),
        served(
            DOCKER_SCHEMA1_SIGNED,
            case(
                "is-of-schema-1",
                "schema 1",
                br#"{"schemaVersion":1,"fsLayers":[],"history":[]}"#.to_vec(),
            ),
        ),
        case(
            "is-of-schema-1-within-schema-2",
            "schema 1",
            edited(manifest, |it| it["fsLayers"] = json!([])),
        ),
        case("goes-on-behind-its-end", "trailing", [manifest.as_slice(), b"{}"].concat()),
        case("is-no-text", "cannot use", vec![0xff; 100]),
        case(
            "is-nested-without-end",
            "recursion",
            [b"{\"x\":".to_vec(), vec![b'['; 200_000]].concat(),
        ),
    ]
}

fn names_of_bytes(registry: &TestRegistry) -> Vec<Case> {
    let image = good(registry, "digests");
    let digest = image.layers[0].digest().to_string();
    let named = |name: &str| with_text(&image.manifest, &digest, name);
    let size = format!("\"size\":{}", image.layers[0].blob.len());
    let sized = |size_: &str| with_text(&image.manifest, &size, &format!("\"size\":{size_}"));
    let more = (image.layers[0].blob.len() + 1).to_string();
    let fewer = (image.layers[0].blob.len() - 1).to_string();
    let hex = digest.strip_prefix("sha256:").unwrap();
    let swapped = good(registry, "swapped");
    registry.put_blob_as(&swapped.layers[0].digest(), image.layers[0].blob.clone());
    let other_size = image.layers[0].blob.len().to_string();
    let swapped = with_text(
        &swapped.manifest,
        &format!("\"size\":{}", swapped.layers[0].blob.len()),
        &format!("\"size\":{other_size}"),
    );
    let other = edited(&image.config, |it| {
        it["rootfs"]["diff_ids"][0] = json!(Digest::sha256(b"other").to_string())
    });
    let false_config = good(registry, "false config");
    registry.put_blob_as(&false_config.config_digest(), vec![b' '; false_config.config.len()]);
    vec![
        case("has-a-digest-with-slashes", "digest", named("sha256:../../../../../../etc/passwd")),
        case(
            "has-a-digest-of-an-unknown-algorithm",
            "unknown algorithm",
            named(&format!("md5:{}", &hex[..32])),
        ),
        case(
            "has-an-algorithm-with-slashes",
            "unknown algorithm",
            named(&format!("../sha256:{hex}")),
        ),
        case(
            "has-a-digest-in-capitals",
            "lower-case",
            named(&format!("sha256:{}", hex.to_uppercase())),
        ),
        case("has-a-digest-that-is-too-long", "lower-case", named(&format!("sha256:{hex}00"))),
        case("has-a-digest-that-is-empty", "lower-case", named("sha256:")),
        case("has-a-negative-size", "invalid value", sized("-1")),
        case("has-half-a-byte", "invalid", sized("1.5")),
        case("has-a-size-beyond-all-numbers", "", sized("99999999999999999999999")),
        case("has-a-layer-that-is-shorter", "were promised", sized(&more)),
        case("has-a-layer-that-is-longer", "were promised", sized(&fewer)),
        case("has-another-layers-bytes", "the registry sent bytes of digest", swapped),
        case("promises-other-files", "diff-id", with_config(registry, &image, other)),
        case("has-another-config", "bytes are not those", false_config.manifest),
    ]
}

fn shapes(registry: &TestRegistry) -> Vec<Case> {
    let image = good(registry, "shapes");
    let layers = |count: usize| {
        edited(&image.manifest, |it| it["layers"] = json!(vec![it["layers"][0].clone(); count]))
    };
    let diff_ids = edited(&image.config, |it| {
        it["rootfs"]["diff_ids"] = json!(vec![it["rootfs"]["diff_ids"][0].clone(); 5000]);
    });
    let none = edited(&image.config, |it| it["rootfs"]["diff_ids"] = json!([]));
    let huge = edited(&image.config, |it| it["x"] = json!("x".repeat(5 << 20)));
    let lies = edited(&image.config, |it| it["architecture"] = json!("s390x"));
    // Four megabytes of text that would be a hundred as values.
    let numbers = format!("[{}1]", "1,".repeat(2_000_000));
    let swelling = with_text(&image.config, "{", &format!("{{\"x\":{numbers},"));
    let volumes =
        with_text(&image.config, "\"Cmd\":", &format!("\"Volumes\":{{\"/v\":{numbers}}},\"Cmd\":"));
    let of_kind =
        |kind: &str| edited(&image.manifest, |it| it["layers"][0]["mediaType"] = json!(kind));
    vec![
        case("has-more-layers-than-can-be-mounted", "500 can be mounted", layers(501)),
        case(
            "has-thousands-of-diff-ids",
            "its manifest has 1 layers",
            with_config(registry, &image, diff_ids),
        ),
        case("has-no-diff-ids", "its manifest has 1 layers", with_config(registry, &image, none)),
        case("has-a-huge-config", "larger than", with_config(registry, &image, huge)),
        case(
            "is-a-huge-manifest",
            "larger than",
            edited(&image.manifest, |it| it["x"] = json!("x".repeat(5 << 20))),
        ),
        harmless("swells-in-memory", with_config(registry, &image, swelling)),
        harmless("swells-in-its-volumes", with_config(registry, &image, volumes)),
        harmless("lies-about-its-platform", with_config(registry, &image, lies)),
        case(
            "has-a-layer-that-is-encrypted",
            "no container image",
            of_kind("application/vnd.oci.image.layer.v1.tar+gzip+encrypted"),
        ),
        case(
            "has-a-layer-that-is-a-program",
            "no container image",
            of_kind("application/x-executable"),
        ),
    ]
}

fn indexes(registry: &TestRegistry) -> Vec<Case> {
    let image = good(registry, "indexes");
    let digest = image.digest().to_string();
    let own = Digest::sha256(b"an index that names itself");
    let circle = index(&[host_entry(OCI_MANIFEST, &own.to_string(), 100)]);
    registry.put_manifest_as("documents/names-itself", &own, circle.clone());
    let inner = index(&[host_entry(OCI_MANIFEST, &digest, 100)]);
    let inner_digest =
        registry.put_manifest("documents/is-an-index-in-an-index", None, OCI_INDEX, inner);
    let nested = index(&[host_entry(OCI_MANIFEST, &inner_digest.to_string(), 100)]);
    let typed = index(&[host_entry(OCI_INDEX, &inner_digest.to_string(), 100)]);
    vec![
        served(OCI_INDEX, case("names-itself", "", circle)),
        served(OCI_INDEX, case("is-an-index-in-an-index", "another index", nested)),
        served(OCI_INDEX, case("is-an-index-in-an-index-and-says-so", "no image for", typed)),
        served(OCI_INDEX, case("is-an-empty-index", "no image for", index(&[]))),
        served(
            OCI_INDEX,
            case(
                "names-what-is-not-there",
                "not found",
                index(&[host_entry(OCI_MANIFEST, &Digest::sha256(b"?").to_string(), 2)]),
            ),
        ),
    ]
}

#[test]
fn no_document_means_two_things_or_costs_more_than_it_may() {
    story(|| async {
        let mut scene = Scene::new(Setup::default()).await;
        let mut cases = ambiguous(&scene.registry);
        cases.extend(names_of_bytes(&scene.registry));
        cases.extend(shapes(&scene.registry));
        cases.extend(indexes(&scene.registry));
        assert!(cases.len() > 40, "{}", cases.len());
        let mut faults = Faults::default();
        for Case { name, words, kind, document } in cases {
            let repository = format!("documents/{name}");
            scene.registry.put_manifest(&repository, Some("1"), kind, document);
            let reference = scene.name(&format!("{repository}:1"));
            let pulled = scene.client.pull(&reference).await;
            faults.check(name, || match (words, &pulled) {
                (Some(words), Err(status)) => {
                    scene.assert_told(&repository, status.message(), &[words]);
                }
                (None, Ok(_)) => {}
                (Some(_), Ok(_)) => panic!("it was pulled"),
                (None, Err(status)) => panic!("{status}"),
            });
            scene.client.remove_image(&reference).await.unwrap();
            faults.check(name, || {
                scene.daemon.holds_nothing();
                scene.assert_untouched(name);
            });
        }
        faults.none();
        scene.finish().await;
    });
}

/// CVE-2020-15157: a URL in a manifest that is dialled gives the registry's credentials away.
#[test]
fn an_address_in_a_manifest_is_not_dialled() {
    story(|| async {
        let mut scene = Scene::new(Setup::default()).await;
        let thief = TestRegistry::start().await;
        let image = good(&scene.registry, "foreign");
        let address = format!("{}/v2/x/blobs/{}", thief.base(), image.layers[0].digest());
        let foreign = |image: &Image| {
            edited(&image.manifest, |it| {
                it["layers"][0]["urls"] = json!([address]);
                it["layers"][0]["mediaType"] =
                    json!("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
            })
        };
        let name = scene.name("documents/foreign:1");
        let (kind, registry) = (OCI_MANIFEST, &scene.registry);
        registry.put_manifest("documents/foreign", Some("1"), kind, foreign(&image));
        // The registry has the blob itself: that one is taken.
        let id = scene.client.pull(&name).await.unwrap();
        scene.client.remove_image(&id).await.unwrap();
        // It has not: then nobody has.
        let gone = Image::new(vec![Layer::gzip(Tar::new().file("x", 0o644, b"").finish())], &["x"]);
        publish::blob(registry, media_type::OCI_CONFIG, gone.config.clone());
        registry.put_manifest("documents/foreign", Some("1"), kind, foreign(&gone));
        let status = scene.client.pull(&name).await.unwrap_err();
        scene.assert_told("documents/foreign", status.message(), &["not found"]);
        assert_eq!(thief.seen().len(), 0);
        scene.finish().await;
    });
}
