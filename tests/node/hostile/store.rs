//! Between the pull and the start of a container: what another hand does to the store, or to a tag.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;

use super::Scene;
use super::edited;
use super::story;
use crate::images;
use crate::images::Image;
use crate::images::Layer;
use crate::publish;
use crate::support::host;
use crate::test_registry::Setup;
use crioxide::oci::media_type::OCI_MANIFEST;

const EVIDENCE: &str = "crioxide-evidence";

fn image(text: &str) -> Image {
    let layers = vec![Layer::plain(images::busybox())];
    Image::with_config(layers, &json!({ "Cmd": ["/bin/true"], "Env": [format!("TEXT={text}")] }))
}

/// Where a data item of an image lies.
fn item(scene: &Scene, image: &Image, key: &str) -> PathBuf {
    let directory = scene.daemon.path("storage/overlay-images");
    let plain = |byte: u8| byte == b'.' || byte.is_ascii_digit() || byte.is_ascii_lowercase();
    let name =
        if key.bytes().all(plain) { key.to_owned() } else { format!("={}", BASE64.encode(key)) };
    directory.join(image.config_digest().hex()).join(name)
}

/// A scene with one signed image, pulled, and a pod.
async fn signed(scene: &mut Scene, name: &str, image: &Image) -> String {
    let (repository, _) = name.split_once(':').unwrap();
    let digest = publish::image(&scene.registry, name, image);
    let signed_name = scene.name(repository);
    publish::sign_at_tag(&scene.registry, repository, &digest, &scene.key, &signed_name);
    scene.client.pull(&scene.name(name)).await.unwrap()
}

fn read(path: &PathBuf) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

fn write(path: &PathBuf, bytes: &[u8]) {
    std::io::Write::write_all(&mut std::fs::File::create(path).unwrap(), bytes).unwrap();
}

/// What is done, to which files, what they have then, and the words of the refusal.
type Change<'a> = (&'a str, Vec<&'a PathBuf>, Vec<u8>, &'a str);

/// The evidence with another last bit of its signature.
fn flipped(evidence: &[u8]) -> Vec<u8> {
    edited(evidence, |kept| {
        let annotations = &mut kept["signatures"][0]["annotations"];
        let signature = &mut annotations["dev.cosignproject.cosign/signature"];
        let mut bytes = BASE64.decode(signature.as_str().unwrap()).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        *signature = json!(BASE64.encode(bytes));
    })
}

#[test]
fn what_is_changed_in_the_store_does_not_run() {
    story(|| async {
        let mut scene = Scene::new(Setup::default()).await;
        scene.demand("matchRepository");
        let (own, other) = (image("own"), image("other"));
        signed(&mut scene, "shop/own:1", &own).await;
        signed(&mut scene, "shop/other:1", &other).await;
        let pod = scene.client.pod("hostile");
        let pod_id = scene.client.run_pod(&pod).await.unwrap();
        let name = scene.name("shop/own:1");
        let evidence = item(&scene, &own, EVIDENCE);
        let manifest = item(&scene, &own, "manifest");
        let by_digest = item(&scene, &own, &format!("manifest-{}", own.digest()));
        let config = item(&scene, &own, &own.config_digest().to_string());
        // The same signatures, where podman and skopeo look for them.
        let shared = ["signatures".to_owned(), format!("signature-{}", own.digest().hex())];
        let shared = shared.map(|key| item(&scene, &own, &key));
        let of_other = read(&item(&scene, &other, EVIDENCE));
        let shared_of_other = read(&item(&scene, &other, "signatures"));
        let bit = flipped(&read(&evidence));
        let none = br#"{"signatures":[],"bundles":[]}"#.to_vec();
        let more = br#"{"trusted":true}"#.to_vec();
        let privileged = edited(&own.config, |it| it["config"]["User"] = json!("0"));
        let cases: [Change<'_>; 8] = [
            ("evidence-with-a-bit-flipped", vec![&evidence], bit, ""),
            ("evidence-of-another-image", vec![&evidence], of_other, ""),
            ("evidence-taken-away", vec![&evidence], none, ""),
            ("evidence-that-is-none", vec![&evidence], b"{".to_vec(), "is damaged"),
            ("evidence-of-one-more-kind", vec![&evidence], more, "is damaged"),
            ("another-config", vec![&config], privileged, ""),
            (
                "the-manifest-of-another-image",
                vec![&manifest, &by_digest],
                other.manifest.clone(),
                "",
            ),
            ("no-manifest", vec![&manifest, &by_digest], Vec::new(), ""),
        ];
        for (what, files, bytes, words) in cases {
            let all: Vec<&PathBuf> = files.iter().copied().chain(&shared).collect();
            let before: Vec<Vec<u8>> = all.iter().map(|path| read(path)).collect();
            files.iter().for_each(|path| write(path, &bytes));
            if files.contains(&&evidence) {
                shared.iter().for_each(|path| write(path, &shared_of_other));
            }
            let container = scene.client.container("c", &name, &[]);
            let answer = scene.client.create(&pod_id, &pod, &container).await;
            let Err(status) = answer else { panic!("{what} ran") };
            assert!(status.message().contains(words), "{what}: {status}");
            all.iter().zip(&before).for_each(|(path, bytes)| write(path, bytes));
            let id = scene.client.create(&pod_id, &pod, &container).await;
            let id = id.unwrap_or_else(|status| panic!("{what}: {status}"));
            scene.client.remove(&id).await.unwrap();
            scene.assert_untouched(what);
        }
        scene.client.remove_pod(&pod_id).await.unwrap();
        scene.client.remove_image(&name).await.unwrap();
        scene.client.remove_image(&scene.name("shop/other:1")).await.unwrap();
        scene.finish().await;
    });
}

#[test]
fn a_tag_that_is_moved_brings_nothing_else_to_run() {
    story(|| async {
        let mut scene = Scene::new(Setup::default()).await;
        scene.demand("matchRepository");
        let (good, evil) = (image("good"), image("evil"));
        let id = signed(&mut scene, "shop/api:1", &good).await;
        let name = scene.name("shop/api:1");
        // In the registry: what is pulled next is judged anew, and the old one is as it was.
        publish::image(&scene.registry, "shop/api:1", &evil);
        let status = scene.client.pull(&name).await.unwrap_err();
        scene.assert_told("shop/api", status.message(), &["no signature exists"]);
        assert_eq!(scene.client.image(&name).await.unwrap().unwrap().id, id);
        // In the store, by a tool that asks no policy.
        if host::can(&["skopeo"]) {
            evil.write_dir(&scene.daemon.path("storage/evil"));
            scene.daemon.skopeo_copy("storage/evil", &name);
            std::fs::remove_dir_all(scene.daemon.path("storage/evil")).unwrap();
            let pod = scene.client.pod("hostile");
            let pod_id = scene.client.run_pod(&pod).await.unwrap();
            // By the name, it is the other one now. By its ID, with the name that was allowed, too.
            for asked in [name.clone(), evil.config_digest().hex().to_owned()] {
                let mut container = scene.client.container("c", &asked, &[]);
                container.image.as_mut().unwrap().user_specified_image.clone_from(&name);
                let status = scene.client.create(&pod_id, &pod, &container).await.unwrap_err();
                assert!(status.message().contains("no signature exists"), "{status}");
            }
            scene.client.remove_pod(&pod_id).await.unwrap();
            scene.client.remove_image(evil.config_digest().hex()).await.unwrap();
        }
        scene.client.remove_image(&id).await.unwrap();
        scene.finish().await;
    });
}

/// A signature that is true for one manifest is put beside another with the same config.
#[test]
fn another_manifest_around_a_signed_config_is_another_image_to_the_policy() {
    story(|| async {
        let mut scene = Scene::new(Setup::default()).await;
        scene.demand("matchRepository");
        let good = image("good");
        let id = signed(&mut scene, "shop/api:1", &good).await;
        let around = edited(&good.manifest, |it| it["annotations"] = json!({ "a": "b" }));
        scene.registry.put_manifest("shop/api", Some("2"), OCI_MANIFEST, around);
        let status = scene.client.pull(&scene.name("shop/api:2")).await.unwrap_err();
        scene.assert_told("shop/api", status.message(), &["no signature exists"]);
        scene.client.remove_image(&id).await.unwrap();
        scene.finish().await;
    });
}
