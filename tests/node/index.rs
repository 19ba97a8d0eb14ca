//! Images of which only the index is signed, as `cosign sign` does without `--recursive`: pulled,
//! created, and created again without the registry; and what an attacker makes of that.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use crioxide::oci::digest::Digest;
use crioxide::oci::media_type::OCI_INDEX;
use crioxide::oci::media_type::OCI_MANIFEST;
use crioxide::oci::platform::Platform;
use serde_json::Value;
use serde_json::json;
use tonic::Status;

use crate::images;
use crate::images::Image;
use crate::images::Layer;
use crate::keys;
use crate::keys::Key;
use crate::policy::Scene;
use crate::policy::anything;
use crate::policy::can;
use crate::publish;
use crate::support::client::Client;
use crate::support::net;
use crate::test_registry::Fault;
use crate::test_registry::TestRegistry;

pub(crate) const API: &str = "shop/api";

/// An image that runs, and that no other test has.
pub(crate) fn image(text: &str) -> Image {
    Image::new(vec![Layer::gzip(images::busybox())], &["/bin/sleep", "600", text])
}

/// An image as an index lists it, for this machine.
pub(crate) fn entry(image: &Image) -> Value {
    let host = Platform::host();
    json!({
        "mediaType": OCI_MANIFEST, "size": image.manifest.len(), "digest": image.digest().to_string(),
        "platform": { "os": host.os, "architecture": host.architecture, "variant": host.variant },
    })
}

/// The same for a machine that nobody has.
pub(crate) fn elsewhere() -> Value {
    json!({
        "mediaType": OCI_MANIFEST, "size": 7, "digest": Digest::sha256(b"elsewhere").to_string(),
        "platform": { "os": "linux", "architecture": "s390x" },
    })
}

pub(crate) fn list(entries: &[Value]) -> String {
    json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries }).to_string()
}

/// Serves the image, which no tag names.
fn serve(registry: &TestRegistry, image: &Image) {
    for (_, bytes) in image.blobs() {
        registry.put_blob(bytes.to_vec());
    }
    registry.put_manifest(API, None, OCI_MANIFEST, image.manifest.clone());
}

/// Serves the image in an index under the tag `1`, and gives the index's digest.
pub(crate) fn publish_listed(registry: &TestRegistry, image: &Image) -> Digest {
    serve(registry, image);
    registry.put_manifest(API, Some("1"), OCI_INDEX, list(&[elsewhere(), entry(image)]))
}

/// Makes a container of an image that is here, under the name that a user wrote.
pub(crate) async fn create(
    client: &mut Client,
    pod: &str,
    id: &str,
    name: &str,
) -> Result<String, Status> {
    let pod = client.pod(pod);
    let pod_id = client.run_pod(&pod).await?;
    let mut config = client.container("web", id, &[]);
    config.image.as_mut().unwrap().user_specified_image = name.to_owned();
    let made = client.create(&pod_id, &pod, &config).await;
    client.remove_pod(&pod_id).await?;
    made
}

#[track_caller]
pub(crate) fn refused<T>(answer: Result<T, Status>, words: &str) {
    let status = answer.err().expect("it was accepted");
    assert!(status.message().starts_with("SignatureValidationFailed: "), "{status}");
    assert!(status.message().contains(words), "{words:?} is not in: {status}");
}

/// The whole story, with one way to sign the index.
async fn is_pulled_and_created(identity: &str, sign: fn(&Scene, &Digest)) {
    let (mut scene, mut client) = Scene::started(identity).await;
    let image = image(&format!("listed, {identity}"));
    let (name, listed) = (scene.name("shop/api:1"), publish_listed(&scene.registry, &image));
    refused(client.pull(&name).await, "no signature exists");
    assert_eq!(scene.blobs_asked_of(&image), [""; 0]);
    for digest in [&listed, &image.digest()] {
        assert_eq!(scene.registry.asked(&format!("sha256-{}.sig", digest.hex())).len(), 1);
    }
    sign(&scene, &listed);
    let id = client.pull(&name).await.unwrap();

    let explained = scene.daemon.crio(&["verify", "-o", "json", &name]);
    let rows: Value = serde_json::from_slice(&explained.stdout).unwrap();
    let signed = &rows[0]["requirements"][0]["accepted"]["signed"];
    assert_eq!(*signed, json!({ "index": listed.to_string() }), "{rows}");
    let shown = String::from_utf8(scene.daemon.crio(&["verify", &name]).stdout).unwrap();
    assert!(shown.contains(&format!("index {listed}")), "{shown}");
    let kept = scene.daemon.crio(&["evidence", "-o", "json", &name]);
    let kept: Value = serde_json::from_slice(&kept.stdout).unwrap();
    assert_eq!(kept["evidence"][0]["subject"], listed.to_string(), "{kept}");
    assert_eq!(kept["evidence"][1]["kind"], "image index", "{kept}");
    assert_eq!(kept["evidence"][1]["digest"], listed.to_string(), "{kept}");

    // Without the registry, and by another daemon.
    scene.registry.fail("/", Fault::Silence, usize::MAX);
    let asked = scene.registry.seen().len();
    create(&mut client, "first", &id, &name).await.unwrap();
    scene.daemon.restart().await;
    let mut client = scene.daemon.client().await;
    create(&mut client, "again", &id, &name).await.unwrap();
    let own = scene.name(&format!("shop/api@{}", image.digest()));
    create(&mut client, "by-digest", &id, &own).await.unwrap();
    scene.daemon.write("cosign.pub", &Key::generate().public_pem());
    refused(create(&mut client, "other", &id, &name).await, "1 signature found, none by the key");
    assert_eq!(scene.registry.seen().len(), asked);
    for record in scene.daemon.audit() {
        let expected = match record["verdict"].as_str() {
            Some("allowed") => json!([format!("index {listed}")]),
            _ => json!([]),
        };
        assert_eq!(record["signed"], expected, "{record}");
    }
    scene.daemon.finish().await;
}

#[test]
fn an_image_of_which_only_the_index_is_signed_is_pulled_and_created_again() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        is_pulled_and_created("matchRepository", |scene, listed| {
            let name = scene.name(API);
            publish::sign_at_tag(&scene.registry, API, listed, &scene.key, &name);
        })
        .await;
        is_pulled_and_created("matchSubjectDigest", |scene, listed| {
            publish::sign_by_referrer(&scene.registry, API, listed, &scene.key);
        })
        .await;
    });
}

#[test]
fn an_attestation_of_the_index_counts_for_its_manifest() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        let (scene, mut client) = Scene::started("").await;
        let image = image("attested in an index");
        let listed = publish_listed(&scene.registry, &image);
        let kind = "https://shop.example/tests/v1";
        scene.demand(&json!({ scene.registry.host(): [{
            "type": "sigstoreAttested", "keyPath": scene.daemon.path("cosign.pub"),
            "predicateType": kind,
        }] }));
        let name = scene.name("shop/api:1");
        refused(client.pull(&name).await, "no attestation exists");
        let said = keys::attestation(kind, &json!({}), &listed.to_string());
        let bundle = keys::bundle(&scene.key, &said);
        publish::attest_by_referrer(&scene.registry, API, &listed, kind, bundle);
        let id = client.pull(&name).await.unwrap();
        scene.registry.fail("/", Fault::Silence, usize::MAX);
        create(&mut client, "attested", &id, &name).await.unwrap();
        scene.daemon.finish().await;
    });
}

/// What is tried with an image and the registry, where the true key has signed an index of another
/// image; and the words of the refusal.
type Case = (&'static str, fn(&Scene, &Image, &Image), &'static str);

const CASES: [Case; 8] = [
    (
        "the-tag-moved-to-an-index-that-nobody-signed",
        |it, evil, _| {
            publish_listed(&it.registry, evil);
        },
        "no signature exists",
    ),
    (
        "the-signature-of-the-true-index-put-beside-another",
        |it, evil, good| {
            let mine = publish_listed(&it.registry, evil);
            let truth = Digest::sha256(list(&[elsewhere(), entry(good)]).as_bytes());
            let payload = keys::payload(&it.name(API), &truth.to_string());
            for beside in [&mine, &evil.digest()] {
                publish::payload_at_tag(&it.registry, API, beside, &it.key, &payload);
            }
        },
        "for another digest",
    ),
    (
        "the-tag-moved-to-the-manifest-itself",
        |it, evil, _| {
            serve(&it.registry, evil);
            let signed = it.registry.put_manifest(API, None, OCI_INDEX, list(&[entry(evil)]));
            publish::sign_at_tag(&it.registry, API, &signed, &it.key, &it.name(API));
            it.registry.put_manifest(API, Some("1"), OCI_MANIFEST, evil.manifest.clone());
        },
        "no signature exists",
    ),
    (
        "an-attestation-manifest-of-a-signed-index-listed-anew-as-an-image",
        |it, evil, _| {
            let mut attestation = entry(evil);
            attestation["platform"] = json!({ "os": "unknown", "architecture": "unknown" });
            let signed = it.registry.put_manifest(API, None, OCI_INDEX, list(&[attestation]));
            publish::sign_at_tag(&it.registry, API, &signed, &it.key, &it.name(API));
            publish_listed(&it.registry, evil);
        },
        "no signature exists",
    ),
    (
        "an-attestation-manifest-of-a-signed-index-that-says-this-platform",
        |it, evil, _| {
            serve(&it.registry, evil);
            let mut attestation = entry(evil);
            attestation["annotations"] =
                json!({ "vnd.docker.reference.type": "attestation-manifest" });
            let list = list(&[attestation]);
            let signed = it.registry.put_manifest(API, Some("1"), OCI_INDEX, list);
            publish::sign_at_tag(&it.registry, API, &signed, &it.key, &it.name(API));
        },
        "no image for",
    ),
    (
        "an-index-in-a-signed-index",
        |it, evil, _| {
            let mut inner = entry(evil);
            inner["digest"] = json!(publish_listed(&it.registry, evil).to_string());
            let outer = it.registry.put_manifest(API, Some("1"), OCI_INDEX, list(&[inner]));
            publish::sign_at_tag(&it.registry, API, &outer, &it.key, &it.name(API));
        },
        "another index",
    ),
    (
        "the-index-signed-for-another-repository",
        |it, evil, _| {
            let listed = publish_listed(&it.registry, evil);
            let name = it.name("games/api");
            publish::sign_at_tag(&it.registry, API, &listed, &it.key, &name);
        },
        "is for another repository",
    ),
    (
        "the-signatures-of-the-index-hidden-behind-a-failure",
        |it, evil, _| {
            let listed = publish_listed(&it.registry, evil);
            // That the manifest is signed is no reason not to want to know.
            publish::sign_at_tag(&it.registry, API, &evil.digest(), &it.key, &it.name(API));
            let tag = format!("sha256-{}.sig", listed.hex());
            it.registry.fail(&tag, Fault::Status(403, "{}".to_owned()), 100);
        },
        "access refused",
    ),
];

#[test]
fn no_image_is_accepted_by_an_index_that_is_not_its_own() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        for (case, attack, words) in CASES {
            let (scene, mut client) = Scene::started("matchRepository").await;
            let (good, evil) = (image("good"), image(case));
            let listed = publish_listed(&scene.registry, &good);
            publish::sign_at_tag(&scene.registry, API, &listed, &scene.key, &scene.name(API));
            attack(&scene, &evil, &good);
            let answer = client.pull(&scene.name("shop/api:1")).await;
            let status = answer.expect_err(case);
            assert!(status.message().contains(words), "{case}: {status}");
            assert_eq!(scene.blobs_asked_of(&evil), [""; 0], "{case}");
            assert_eq!(scene.daemon.stored(), [""; 0], "{case}");
            scene.daemon.finish().await;
        }
    });
}

#[test]
fn manifest_of_a_signed_index_is_not_accepted_by_its_own_digest_before_the_index_is_known() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        let (scene, mut client) = Scene::started("matchRepository").await;
        let image = image("by its own digest");
        let listed = publish_listed(&scene.registry, &image);
        publish::sign_at_tag(&scene.registry, API, &listed, &scene.key, &scene.name(API));
        let own = scene.name(&format!("shop/api@{}", image.digest()));
        refused(client.pull(&own).await, "no signature exists");
        client.pull(&scene.name(&format!("shop/api@{listed}"))).await.unwrap();
        scene.daemon.finish().await;
    });
}

#[test]
fn index_swapped_in_the_store_after_the_pull_does_not_count_at_a_create() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        let (scene, mut client) = Scene::started("matchRepository").await;
        let image = image("swapped in the store");
        let listed = publish_listed(&scene.registry, &image);
        publish::sign_at_tag(&scene.registry, API, &listed, &scene.key, &scene.name(API));
        let name = scene.name("shop/api:1");
        let id = client.pull(&name).await.unwrap();
        let truth = BASE64.encode(list(&[elsewhere(), entry(&image)]));
        // One that lists the image too, and is as long.
        let swapped = BASE64.encode(list(&[entry(&image), elsewhere()]));
        assert_eq!(truth.len(), swapped.len());
        let directory = scene.daemon.path(&format!("storage/overlay-images/{id}"));
        let mut changed = 0;
        for file in std::fs::read_dir(&directory).unwrap() {
            let path = file.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            if text.contains(&truth) {
                let place = path.strip_prefix(scene.daemon.path("")).unwrap();
                scene.daemon.write(place.to_str().unwrap(), &text.replace(&truth, &swapped));
                changed += 1;
            }
        }
        assert_eq!(changed, 1);
        refused(create(&mut client, "swapped", &id, &name).await, "");
        scene.daemon.finish().await;
    });
}

#[test]
fn what_an_index_in_the_name_is_signed_with_is_looked_up_where_that_is_wanted() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        let mut scene = Scene::strict("matchRepository").await;
        scene.daemon.config("[crio.image]\non_missing_evidence = \"fetch\"\n");
        let image = image("looked up");
        let listed = publish_listed(&scene.registry, &image);
        publish::sign_at_tag(&scene.registry, API, &listed, &scene.key, &scene.name(API));
        let strict = json!({ scene.registry.host(): [scene.signed("matchRepository")] });
        // It comes under a policy that wants no signatures, so none are kept.
        scene.daemon.policy(&anything());
        scene.daemon.start().await;
        let mut client = scene.daemon.client().await;
        let name = scene.name(&format!("shop/api@{listed}"));
        let id = client.pull(&name).await.unwrap();
        scene.demand(&strict);
        create(&mut client, "found", &id, &name).await.unwrap();
        scene.registry.fail("/", Fault::Silence, usize::MAX);
        create(&mut client, "kept", &id, &name).await.unwrap();
        scene.daemon.finish().await;
    });
}

/// A daemon that looks evidence up, on which this image is, under these tags, and none is kept of it.
async fn loaded(image: &Image, tags: &[&str]) -> (Scene, Client, Digest, String) {
    let mut scene = Scene::strict("matchRepository").await;
    scene.daemon.config("[crio.image]\non_missing_evidence = \"fetch\"\n");
    scene.daemon.policy(&anything());
    scene.daemon.start().await;
    let mut client = scene.daemon.client().await;
    let listed = publish_listed(&scene.registry, image);
    let (mut id, index) = (String::new(), list(&[elsewhere(), entry(image)]));
    for tag in tags {
        scene.registry.put_manifest(API, Some(tag), OCI_INDEX, index.clone());
        id = client.pull(&scene.name(&format!("{API}:{tag}"))).await.unwrap();
    }
    scene.demand(&json!({ scene.registry.host(): [scene.signed("matchRepository")] }));
    (scene, client, listed, id)
}

#[test]
fn what_the_index_of_a_tag_is_signed_with_is_looked_up_where_that_is_wanted() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        let image = self::image("looked up by its tag");
        let tags = ["here", "moved", "attested", "gone", "hidden"];
        let (scene, mut client, listed, id) = loaded(&image, &tags).await;
        let sign = |index: &Digest| {
            publish::sign_at_tag(&scene.registry, API, index, &scene.key, &scene.name(API));
        };
        sign(&listed);
        let name = |tag: &str| scene.name(&format!("{API}:{tag}"));
        // Signed, and no index of this image: of another one, and of what is about an image.
        let mut attestation = entry(&image);
        attestation["annotations"] = json!({ "vnd.docker.reference.type": "attestation-manifest" });
        let other = self::image("where the tag leads to by now");
        serve(&scene.registry, &other);
        let others = [("moved", list(&[entry(&other)])), ("attested", list(&[attestation]))];
        for (tag, index) in others {
            sign(&scene.registry.put_manifest(API, Some(tag), OCI_INDEX, index));
            refused(create(&mut client, tag, &id, &name(tag)).await, "no signature exists");
        }
        let gone = r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#.to_owned();
        scene.registry.fail("manifests/gone", Fault::Status(404, gone), usize::MAX);
        refused(create(&mut client, "gone", &id, &name("gone")).await, "no signature exists");
        // Where the tag leads to could not be found out.
        scene.registry.fail("manifests/hidden", Fault::Status(403, "{}".to_owned()), usize::MAX);
        refused(create(&mut client, "hidden", &id, &name("hidden")).await, "cannot be looked up");

        create(&mut client, "here", &id, &name("here")).await.unwrap();
        let record = scene.daemon.audit().pop().unwrap();
        assert_eq!(record["signed"], json!([format!("index {listed}")]), "{record}");
        // It is kept: neither the tag nor anything else is asked for again.
        scene.registry.fail("/", Fault::Silence, usize::MAX);
        let asked = scene.registry.seen().len();
        create(&mut client, "kept", &id, &name("here")).await.unwrap();
        assert_eq!(scene.registry.seen().len(), asked);
        scene.daemon.finish().await;
    });
}

#[test]
fn a_tag_that_leads_elsewhere_by_now_does_not_hide_what_the_manifest_is_signed_with() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        let image = image("signed by itself, under a tag that moved");
        let (scene, mut client, _, id) = loaded(&image, &["1"]).await;
        let digest = image.digest();
        publish::sign_at_tag(&scene.registry, API, &digest, &scene.key, &scene.name(API));
        scene.registry.put_manifest(API, Some("1"), OCI_INDEX, list(&[elsewhere()]));
        create(&mut client, "moved", &id, &scene.name("shop/api:1")).await.unwrap();
        let record = scene.daemon.audit().pop().unwrap();
        assert_eq!(record["signed"], json!([format!("manifest {digest}")]), "{record}");
        scene.daemon.finish().await;
    });
}
