//! Signatures: everything but one that the policy's key made of this very image under this name.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;
use serde_json::json;

use super::Faults;
use super::Scene;
use super::edited;
use super::story;
use crate::images::Image;
use crate::images::Layer;
use crate::images::Tar;
use crate::keys;
use crate::keys::Key;
use crate::publish;
use crate::test_registry::Setup;
use crate::test_registry::TestRegistry;
use crioxide::oci::digest::Digest;
use crioxide::oci::media_type;
use crioxide::oci::media_type::OCI_INDEX;
use crioxide::oci::media_type::OCI_MANIFEST;

/// What the forger has: the registry, the true key (of which only true signatures of other things are
/// made), and the image whose signature is to be forged.
struct Forger<'a> {
    registry: &'a TestRegistry,
    key: &'a Key,
    repository: String,
    /// The repository with its host: what a signature should name.
    name: String,
    digest: Digest,
}

impl Forger<'_> {
    fn payload(&self) -> Vec<u8> {
        keys::payload(&self.name, &self.digest.to_string())
    }

    /// Puts a payload that the key has signed.
    fn signed(&self, payload: &[u8]) {
        publish::payload_at_tag(self.registry, &self.repository, &self.digest, self.key, payload);
    }

    /// Puts a manifest of signatures.
    fn manifest(&self, layers: &[Value]) {
        let manifest = publish::signature_manifest(self.registry, layers);
        publish::at_tag(self.registry, &self.repository, &self.digest, &manifest);
    }

    fn layer(&self) -> Value {
        publish::signature_layer(self.registry, self.key, &self.payload())
    }

    fn bundle(&self) -> Vec<u8> {
        keys::bundle(self.key, &keys::statement(keys::SIGN, &self.digest.to_string()))
    }

    fn refer(&self, bundle: Vec<u8>) -> (Digest, Digest) {
        publish::bundle_by_referrer(self.registry, &self.repository, &self.digest, bundle)
    }

    /// Puts a document that refers to the image.
    fn refer_with(&self, edit: impl FnOnce(&mut Value)) {
        let layer = publish::blob(self.registry, publish::BUNDLE, self.bundle());
        let mut manifest = publish::signature_manifest(self.registry, &[layer]);
        manifest["artifactType"] = json!(publish::BUNDLE);
        manifest["subject"] = json!({
            "mediaType": OCI_MANIFEST, "size": 1, "digest": self.digest.to_string(),
        });
        edit(&mut manifest);
        let text = manifest.to_string();
        self.registry.put_manifest(&self.repository, None, OCI_MANIFEST, text);
    }
}

/// What is tried, how, and the words of the refusal.
type Case = (&'static str, fn(&Forger<'_>), &'static str);

const AT_THE_TAG: [Case; 19] = [
    ("nothing", |_| (), "no signature exists"),
    (
        "by-another-key",
        |it| {
            let (registry, repository) = (it.registry, &it.repository);
            publish::payload_at_tag(
                registry,
                repository,
                &it.digest,
                &Key::generate(),
                &it.payload(),
            );
        },
        "1 signature found",
    ),
    (
        "of-another-repository",
        |it| it.signed(&keys::payload("evil.example/shop", &it.digest.to_string())),
        "another repository",
    ),
    (
        "of-a-repository-that-begins-so",
        |it| it.signed(&keys::payload(&format!("{}-evil", it.name), &it.digest.to_string())),
        "another repository",
    ),
    (
        "of-another-image",
        |it| it.signed(&keys::payload(&it.name, &Digest::sha256(b"other").to_string())),
        "1 signature found",
    ),
    (
        "of-a-digest-that-is-none",
        |it| it.signed(&keys::payload(&it.name, "sha256:../../x")),
        "1 signature found",
    ),
    (
        "payload-swapped-after-signing",
        |it| {
            let mut layer = publish::signature_layer(
                it.registry,
                it.key,
                &keys::payload(&it.name, &Digest::sha256(b"other").to_string()),
            );
            let swapped = publish::blob(it.registry, "", it.payload());
            layer["digest"] = swapped["digest"].clone();
            layer["size"] = swapped["size"].clone();
            it.manifest(&[layer]);
        },
        "1 signature found",
    ),
    (
        "payload-with-a-key-twice",
        |it| {
            let text = String::from_utf8(it.payload()).unwrap();
            let other = format!(
                "\"image\":{{\"docker-manifest-digest\":\"{}\"}},\"image\":",
                Digest::sha256(b"other")
            );
            it.signed(text.replacen("\"image\":", &other, 1).as_bytes());
        },
        "is malformed",
    ),
    (
        "payload-with-one-more-critical-key",
        |it| it.signed(&edited(&it.payload(), |payload| payload["critical"]["also"] = json!(1))),
        "1 signature found",
    ),
    (
        "payload-of-another-type",
        |it| {
            it.signed(&edited(&it.payload(), |payload| {
                payload["critical"]["type"] = json!("atomic container signature")
            }))
        },
        "1 signature found",
    ),
    (
        "signature-that-is-no-base64",
        |it| {
            let mut layer = it.layer();
            layer["annotations"]["dev.cosignproject.cosign/signature"] = json!("!!!");
            it.manifest(&[layer]);
        },
        "1 signature found",
    ),
    (
        "signature-that-is-empty",
        |it| {
            let mut layer = it.layer();
            layer["annotations"]["dev.cosignproject.cosign/signature"] = json!("");
            it.manifest(&[layer]);
        },
        "1 signature found",
    ),
    (
        "signature-of-zeros",
        |it| {
            let mut layer = it.layer();
            // r and s are 0: the forgery of CVE-2022-21449.
            layer["annotations"]["dev.cosignproject.cosign/signature"] =
                json!(BASE64.encode([0x30, 6, 2, 1, 0, 2, 1, 0]));
            it.manifest(&[layer]);
        },
        "1 signature found",
    ),
    (
        "tag-that-names-an-index",
        |it| {
            let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [] });
            publish::at_tag(it.registry, &it.repository, &it.digest, &index);
        },
        "an index stands where",
    ),
    (
        "tag-that-names-five-megabytes",
        |it| {
            let mut manifest = publish::signature_manifest(it.registry, &[it.layer()]);
            manifest["annotations"] = json!({ "much": "x".repeat(5 << 20) });
            publish::at_tag(it.registry, &it.repository, &it.digest, &manifest);
        },
        "larger than",
    ),
    (
        "a-thousand-signatures",
        |it| {
            let layers: Vec<Value> = (0..1000).map(|_| it.layer()).collect();
            it.manifest(&layers);
        },
        "can be mounted",
    ),
    (
        "three-hundred-signatures",
        |it| {
            let layers: Vec<Value> = (0..300).map(|_| it.layer()).collect();
            it.manifest(&layers);
        },
        "more than",
    ),
    (
        "signature-of-five-megabytes",
        |it| {
            let mut layer = it.layer();
            layer["size"] = json!(5 << 20);
            it.manifest(&[layer]);
        },
        "larger than",
    ),
    (
        "signature-of-another-length",
        |it| {
            let mut layer = it.layer();
            layer["size"] = json!(10);
            it.manifest(&[layer]);
        },
        "were promised",
    ),
];

const BY_REFERRER: [Case; 14] = [
    (
        "bundle-by-another-key",
        |it| {
            it.refer(keys::bundle(
                &Key::generate(),
                &keys::statement(keys::SIGN, &it.digest.to_string()),
            ));
        },
        "1 signature found",
    ),
    (
        "bundle-of-another-image",
        |it| {
            it.refer(keys::bundle(
                it.key,
                &keys::statement(keys::SIGN, &Digest::sha256(b"other").to_string()),
            ));
        },
        "1 signature found",
    ),
    (
        "bundle-that-attests",
        |it| {
            it.refer(keys::bundle(it.key, &keys::statement(keys::SPDX, &it.digest.to_string())));
        },
        "",
    ),
    (
        "bundle-with-a-key-twice",
        |it| {
            let text = String::from_utf8(it.bundle()).unwrap();
            it.refer(
                text.replacen("\"dsseEnvelope\":", "\"dsseEnvelope\":{},\"dsseEnvelope\":", 1)
                    .into_bytes(),
            );
        },
        "is malformed",
    ),
    (
        "statement-with-a-key-twice",
        |it| {
            let statement =
                String::from_utf8(keys::statement(keys::SIGN, &it.digest.to_string())).unwrap();
            let twice = statement.replacen(
                "\"predicateType\":",
                "\"predicateType\":\"x\",\"predicateType\":",
                1,
            );
            it.refer(keys::bundle(it.key, twice.as_bytes()));
        },
        "is malformed",
    ),
    (
        "payload-changed-after-signing",
        |it| {
            it.refer(edited(&it.bundle(), |bundle| {
                let other = keys::statement(keys::SIGN, &it.digest.to_string()).repeat(1);
                let text = String::from_utf8(other).unwrap().replace("{}", "{\"x\":1}");
                bundle["dsseEnvelope"]["payload"] = json!(BASE64.encode(text));
            }));
        },
        "1 signature found",
    ),
    (
        "bundle-without-a-signature",
        |it| {
            it.refer(edited(&it.bundle(), |bundle| {
                bundle["dsseEnvelope"]["signatures"] = json!([])
            }));
        },
        "",
    ),
    (
        "bundle-that-is-none",
        |it| {
            it.refer(b"<html>".to_vec());
        },
        "",
    ),
    (
        "bundle-nested-without-end",
        |it| {
            it.refer(vec![b'['; 100_000]);
        },
        "",
    ),
    (
        "referrer-that-is-about-something-else",
        |it| {
            // The list is the registry's claim; what counts is the referrer's own word.
            it.refer_with(|_| ());
            let list = format!("{}/referrers/{}", it.repository, it.digest);
            let stray = json!({
                "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": publish::BUNDLE,
                "config": publish::blob(it.registry, media_type::OCI_EMPTY, b"{}".to_vec()),
                "layers": [publish::blob(it.registry, publish::BUNDLE, it.bundle())],
            })
            .to_string();
            let size = stray.len();
            let stray = it.registry.put_manifest(&it.repository, None, OCI_MANIFEST, stray);
            let listed = json!({
                "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [{
                    "mediaType": OCI_MANIFEST, "digest": stray, "size": size,
                    "artifactType": publish::BUNDLE,
                }],
            });
            let fault = crate::test_registry::Fault::Status(200, listed.to_string());
            it.registry.fail(&list, fault, usize::MAX);
        },
        "about something else",
    ),
    (
        "referrer-that-is-an-index",
        |it| {
            it.refer_with(|manifest| {
                *manifest = json!({
                    "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [],
                    "artifactType": publish::BUNDLE, "subject": manifest["subject"],
                });
            });
        },
        "cannot be judged",
    ),
    (
        "list-of-referrers-that-names-itself",
        |it| {
            let list = json!({
                "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [{
                    "mediaType": OCI_INDEX, "digest": Digest::sha256(b"itself"), "size": 100,
                    "artifactType": publish::BUNDLE,
                }],
            })
            .to_string();
            it.registry.put_manifest_as(&it.repository, &Digest::sha256(b"itself"), list.clone());
            let path = format!("{}/referrers/{}", it.repository, it.digest);
            it.registry.fail(&path, crate::test_registry::Fault::Status(200, list), usize::MAX);
        },
        "bytes are not those",
    ),
    (
        "a-thousand-bundles-in-one-referrer",
        |it| {
            it.refer_with(|manifest| {
                let layer = manifest["layers"][0].clone();
                manifest["layers"] = json!(vec![layer; 1000]);
            });
        },
        "can be mounted",
    ),
    (
        "referrers-of-many-megabytes",
        |it| {
            let entry = json!({
                "mediaType": OCI_MANIFEST, "digest": Digest::sha256(b"?"), "size": 1,
                "artifactType": "application/x", "annotations": { "much": "x".repeat(3 << 20) },
            });
            let list = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry] });
            let path = format!("{}/referrers/{}", it.repository, it.digest);
            let next = format!("</v2/{path}>; rel=\"next\"");
            it.registry.fail(
                &path,
                crate::test_registry::Fault::Linked(list.to_string(), next),
                usize::MAX,
            );
        },
        "more than",
    ),
];

#[test]
fn no_forged_signature_is_accepted() {
    story(|| async {
        let mut scene = Scene::new(Setup::default()).await;
        let mut faults = Faults::default();
        for (identity, cases) in
            [("matchRepository", &AT_THE_TAG[..]), ("matchSubjectDigest", &BY_REFERRER[..])]
        {
            scene.demand(identity);
            for (case, forge, words) in cases {
                let repository = format!("forged/{case}");
                let tar = Tar::new().file("motd", 0o644, case.as_bytes()).finish();
                let image = Image::new(vec![Layer::gzip(tar)], &["/bin/true"]);
                let digest = publish::image(&scene.registry, &format!("{repository}:1"), &image);
                let (registry, key) = (&scene.registry, &scene.key);
                let name = scene.name(&repository);
                forge(&Forger { registry, key, repository: repository.clone(), name, digest });
                let pulled = scene.client.pull(&scene.name(&format!("{repository}:1"))).await;
                faults.check(case, || {
                    let status = pulled.expect_err("it was accepted");
                    scene.assert_told(&repository, status.message(), &[words]);
                    // Nothing of the image was asked for.
                    for (blob, _) in image.blobs() {
                        assert_eq!(scene.registry.asked(&blob.to_string()), [""; 0]);
                    }
                    scene.daemon.holds_nothing();
                    scene.assert_untouched(case);
                });
            }
        }
        faults.none();
        scene.finish().await;
    });
}

/// What a stranger may put beside a true signature: few bytes, each of which would become a hundred.
#[test]
fn evidence_of_many_parts_beside_a_true_signature_takes_no_memory() {
    let many = format!("[{}1]", r#"{"":0},"#.repeat((5 << 19) / 7));
    let many = &many;
    story(|| async {
        let mut scene = Scene::new(Setup::default()).await;
        scene.demand("matchRepository");
        let image = Image::new(vec![Layer::gzip(Tar::new().finish())], &["/bin/true"]);
        let digest = publish::image(&scene.registry, "shop/heavy:1", &image);
        let (registry, key, name) = (&scene.registry, &scene.key, scene.name("shop/heavy"));
        let stranger = Key::generate();
        let payload = keys::payload(&name, &digest.to_string());
        let mut heavy = String::from_utf8(payload.clone()).unwrap();
        let end = heavy.rfind("null").unwrap();
        heavy.replace_range(end..end + 4, &format!("{{\"much\":{many}}}"));
        let layers = [
            publish::signature_layer(registry, &stranger, heavy.as_bytes()),
            publish::signature_layer(registry, key, &payload),
        ];
        let manifest = publish::signature_manifest(registry, &layers);
        publish::at_tag(registry, "shop/heavy", &digest, &manifest);
        let statement = keys::statement(keys::SIGN, &digest.to_string());
        let statement = String::from_utf8(statement).unwrap();
        let statement = format!("{},\"more\":{many}}}", statement.strip_suffix('}').unwrap());
        let bundle = keys::bundle(&stranger, statement.as_bytes());
        publish::bundle_by_referrer(registry, "shop/heavy", &digest, bundle);
        scene.client.pull(&format!("{name}:1")).await.unwrap();
        scene.assert_untouched("pulled");
        let image = Some(crioxide::cri::api::ImageSpec {
            image: format!("{name}:1"),
            ..Default::default()
        });
        let request = crioxide::cri::api::ImageStatusRequest { image, verbose: true };
        let shown = scene.client.image.image_status(request).await.unwrap().into_inner();
        assert!(format!("{:?}", shown.info).contains("sigstore bundle"), "{:?}", shown.info);
        scene.assert_untouched("shown");
        scene.client.remove_image(&format!("{name}:1")).await.unwrap();
        scene.finish().await;
    });
}
