//! What is said of an image beside its signature, told to the whole daemon: where it is found, and
//! that it is judged again without the registry.

use crioxide::oci::digest::Digest;
use serde_json::Value;
use serde_json::json;
use tonic::Code;

use crate::images;
use crate::images::Image;
use crate::images::Layer;
use crate::keyless::Fulcio;
use crate::keyless::Leaf;
use crate::keyless::Order;
use crate::keyless::Tsa;
use crate::keys;
use crate::keys::Key;
use crate::keys::Log;
use crate::publish;
use crate::support::client::Client;
use crate::support::daemon::Daemon;
use crate::support::host;
use crate::support::net;
use crate::test_registry::Fault;
use crate::test_registry::TestRegistry;

const V1: &str = "https://slsa.dev/provenance/v1";
const API: &str = "https://github.com/shop/api";

/// A daemon, a registry, and the key of the builder that the policy trusts.
struct Scene {
    daemon: Daemon,
    registry: TestRegistry,
    key: Key,
}

impl Scene {
    async fn started() -> (Self, Client) {
        let daemon = Daemon::new();
        let registry = TestRegistry::start().await;
        let key = Key::generate();
        daemon.write("builder.pub", &key.public_pem());
        daemon.registries(&publish::insecure(&[&registry]));
        let mut scene = Self { daemon, registry, key };
        scene.built_from(API);
        scene.daemon.start().await;
        let client = scene.daemon.client().await;
        (scene, client)
    }

    /// The policy that wants provenance from this repository, and rejects all else.
    fn built_from(&self, repository: &str) {
        let requirement = json!({
            "type": "sigstoreAttested",
            "keyPath": self.daemon.path("builder.pub"),
            "predicateType": V1,
            "conditions": {
                "slsa": { "sourceRepository": repository, "sourceRef": "refs/heads/main" },
            },
        });
        self.daemon.policy(&json!({
            "default": [{ "type": "reject" }],
            "transports": { "docker": { self.registry.host(): [requirement] } },
        }));
    }

    fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.registry.host())
    }

    fn statement(&self, digest: &Digest) -> Vec<u8> {
        keys::attestation(V1, &provenance(), &digest.to_string())
    }

    /// What the registry was asked for that is of an image.
    fn blobs_asked_of(&self, image: &Image) -> Vec<String> {
        let parts = image.blobs().into_iter().map(|(digest, _)| digest.to_string());
        parts.flat_map(|digest| self.registry.asked(&digest)).collect()
    }
}

fn provenance() -> Value {
    json!({
        "buildDefinition": {
            "buildType": "https://actions.github.io/buildtypes/workflow/v1",
            "externalParameters": { "workflow": { "repository": API, "ref": "refs/heads/main" } },
        },
        "runDetails": { "builder": { "id": "https://github.com/actions/runner/github-hosted" } },
    })
}

/// An image that runs, and that no other test has.
fn image(text: &str) -> Image {
    Image::new(vec![Layer::gzip(images::busybox())], &["/bin/sleep", "600", text])
}

fn can() -> bool {
    host::can(&["root", "ip", "runc", "conmon"])
}

#[test]
fn an_image_is_judged_by_its_provenance_and_again_without_the_registry() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        let (scene, mut client) = Scene::started().await;
        let image = image("provenance");
        let digest = publish::image(&scene.registry, "shop/api:1", &image);
        let name = scene.name("shop/api:1");
        let refused = client.pull(&name).await.unwrap_err();
        let none = format!("An attestation of type {V1} was required, but no attestation exists");
        assert!(refused.message().contains(&none), "{refused}");

        let bundle = keys::bundle(&scene.key, &scene.statement(&digest));
        publish::attest_by_referrer(&scene.registry, "shop/api", &digest, V1, bundle);
        // What is of another type is not even fetched.
        let sbom = keys::attestation(keys::SPDX, &json!({}), &digest.to_string());
        let sbom = keys::bundle(&scene.key, &sbom);
        let sbom =
            publish::attest_by_referrer(&scene.registry, "shop/api", &digest, keys::SPDX, sbom);

        scene.built_from("https://github.com/shop/api-evil");
        let refused = client.pull(&name).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unknown);
        assert!(refused.message().starts_with("SignatureValidationFailed: "), "{refused}");
        let words = format!("is provenance of another source repository: {API:?}");
        assert!(refused.message().contains(&words), "{refused}");
        assert_eq!(scene.blobs_asked_of(&image), [""; 0]);
        assert_eq!(scene.daemon.stored(), [""; 0]);

        scene.built_from(API);
        let id = client.pull(&name).await.unwrap();
        assert_eq!(scene.registry.asked(&sbom.to_string()), [""; 0]);
        assert_eq!(scene.registry.asked(".sig"), [""; 0]);

        // Without the registry.
        scene.registry.fail("/", Fault::Silence, usize::MAX);
        let asked = scene.registry.seen().len();
        let pod = client.pod("attested");
        let pod_id = client.run_pod(&pod).await.unwrap();
        let mut config = client.container("attested", &id, &[]);
        config.image.as_mut().unwrap().user_specified_image.clone_from(&name);
        let container = client.run(&pod_id, &pod, &config).await.unwrap();
        client.remove(&container).await.unwrap();
        scene.built_from("https://github.com/shop/web");
        let refused = client.create(&pod_id, &pod, &config).await.unwrap_err();
        assert!(refused.message().starts_with("SignatureValidationFailed: "), "{refused}");
        assert!(refused.message().contains(&words), "{refused}");
        assert_eq!(scene.registry.seen().len(), asked);
        client.remove_pod(&pod_id).await.unwrap();
        scene.daemon.finish().await;
    });
}

impl Scene {
    /// From now on this person must have attested what the registry has.
    fn attested_by(&self, email: &str) {
        let requirement = json!({
            "type": "sigstoreAttested",
            "fulcio": {
                "trustedRootPath": self.daemon.path("trusted_root.json"),
                "oidcIssuer": "https://login.example",
                "subjectEmail": email,
            },
            "predicateType": V1,
            "conditions": { "slsa": { "sourceRepository": API } },
        });
        self.daemon.policy(&json!({
            "default": [{ "type": "reject" }],
            "transports": { "docker": { self.registry.host(): [requirement] } },
        }));
    }

    /// A create is judged by what was kept, under the policy as it is then.
    async fn judged_again(&self, client: &mut Client, name: &str, id: &str) {
        let asked = self.registry.seen().len();
        let pod = client.pod("judged-again");
        let pod_id = client.run_pod(&pod).await.unwrap();
        let mut config = client.container("attested", id, &[]);
        config.image.as_mut().unwrap().user_specified_image = name.to_owned();
        client.create(&pod_id, &pod, &config).await.unwrap();
        self.attested_by("somebody@shop.example");
        config.metadata.as_mut().unwrap().attempt = 1;
        let refused = client.create(&pod_id, &pod, &config).await.unwrap_err();
        assert!(refused.message().starts_with("SignatureValidationFailed: "), "{refused}");
        assert!(refused.message().contains("is by someone else"), "{refused}");
        self.attested_by("builder@shop.example");
        assert_eq!(self.registry.seen().len(), asked);
        client.remove_pod(&pod_id).await.unwrap();
    }
}

#[test]
fn an_image_is_judged_by_keyless_attestations_and_again_without_the_registry() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        let (scene, mut client) = Scene::started().await;
        let (fulcio, log, tsa) = (Fulcio::make(), Log::default(), Tsa::make());
        let root = fulcio.trusted_root(&[&log], Some(&tsa));
        scene.daemon.write("trusted_root.json", &root.to_string());
        scene.attested_by("builder@shop.example");
        // Rekor v2 with a time stamp, as a referrer; and as cosign 2 attaches it.
        let (leaf, thief) = (
            fulcio.issue(&Order::email("builder@shop.example")),
            fulcio.issue(&Order::email("thief@evil.example")),
        );
        for (repository, attached) in [("shop/api", false), ("shop/old", true)] {
            let image = image(repository);
            let digest = publish::image(&scene.registry, &format!("{repository}:1"), &image);
            let name = scene.name(&format!("{repository}:1"));
            let attest = |leaf: &Leaf| {
                let statement = scene.statement(&digest);
                if attached {
                    let chain = [&fulcio.intermediate, &fulcio.root];
                    let (envelope, beside) = leaf.attached(&statement, &chain, &log, Log::TIME);
                    let attachment = [(V1, envelope, beside)];
                    publish::attach_at_tag(&scene.registry, repository, &digest, &attachment);
                } else {
                    let bundle = leaf.stamped_bundle(&statement, &log, &tsa, Log::TIME);
                    let bundle = bundle.to_string().into_bytes();
                    publish::attest_by_referrer(&scene.registry, repository, &digest, V1, bundle);
                }
            };
            attest(&thief);
            // Of the first image the second has the layer.
            let before = scene.blobs_asked_of(&image);
            let refused = client.pull(&name).await.unwrap_err();
            let words = "1 attestation found, which is by someone else: Required email";
            assert!(refused.message().contains(words), "{refused}");
            assert_eq!(scene.blobs_asked_of(&image), before);
            attest(&leaf);
            let id = client.pull(&name).await.unwrap();

            scene.judged_again(&mut client, &name, &id).await;
        }
        scene.daemon.finish().await;
    });
}

#[test]
fn an_attestation_that_cosign_2_attached_is_found() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        let (scene, mut client) = Scene::started().await;
        let image = image("attached");
        let digest = publish::image(&scene.registry, "shop/api:1", &image);
        let ours = keys::envelope(&scene.key, &scene.statement(&digest));
        let thief = keys::envelope(&Key::generate(), &scene.statement(&digest));
        let name = scene.name("shop/api:1");
        let attach = |envelopes: &[(&str, Vec<u8>)]| {
            publish::attest_at_tag(&scene.registry, "shop/api", &digest, envelopes);
        };
        attach(&[(V1, thief.clone())]);
        let refused = client.pull(&name).await.unwrap_err();
        assert!(refused.message().contains("1 attestation found, none by the key"), "{refused}");
        attach(&[(keys::SPDX, thief.clone()), (V1, thief), (V1, ours)]);
        client.pull(&name).await.unwrap();
        scene.daemon.finish().await;
    });
}

#[test]
fn a_registry_that_hides_attestations_behind_failures_does_not_get_them_taken_for_absent() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        let (scene, client) = Scene::started().await;
        let image = image("hidden");
        let faults = [
            ("forbidden", Fault::Status(403, r#"{"errors":[]}"#.to_owned()), "access refused"),
            ("failing", Fault::Status(500, String::new()), "500"),
            ("garbage", Fault::Garbage, ""),
            ("other", Fault::OtherBytes, ""),
        ];
        let mut pulls = Vec::new();
        for (repository, fault, word) in faults {
            let digest = publish::image(&scene.registry, &format!("{repository}:1"), &image);
            let envelope = keys::envelope(&scene.key, &scene.statement(&digest));
            publish::attest_at_tag(&scene.registry, repository, &digest, &[(V1, envelope)]);
            scene.registry.fail(&format!("{repository}/manifests/sha256-"), fault, 100);
            let (mut client, name) = (client.clone(), scene.name(&format!("{repository}:1")));
            pulls.push(async move { (repository, word, client.pull(&name).await) });
        }
        for (repository, word, answer) in futures_util::future::join_all(pulls).await {
            let status = answer.expect_err(repository);
            let message = status.message();
            assert!(message.contains(word) && message.contains(repository), "{message}");
            assert!(!message.contains("no attestation exists"), "{repository}: {message}");
        }
        assert_eq!(scene.blobs_asked_of(&image), [""; 0]);
        assert_eq!(scene.daemon.stored(), [""; 0]);
        scene.daemon.finish().await;
    });
}

#[test]
fn an_attestation_beyond_the_bounds_is_refused_and_one_of_megabytes_is_not() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        let (scene, mut client) = Scene::started().await;
        let image = image("large");
        let attest = |repository: &str, bytes: usize, times: usize| {
            let digest = publish::image(&scene.registry, &format!("{repository}:1"), &image);
            for place in 0..times {
                let mut large = provenance();
                large["more"] = json!(format!("{place}{}", "x".repeat(bytes)));
                let statement = keys::attestation(V1, &large, &digest.to_string());
                let bundle = keys::bundle(&scene.key, &statement);
                publish::attest_by_referrer(&scene.registry, repository, &digest, V1, bundle);
            }
            scene.name(&format!("{repository}:1"))
        };
        // Of base64 four letters for three bytes.
        let mebi = 1024 * 1024;
        client.pull(&attest("shop/good", 5 * mebi, 1)).await.unwrap();
        let refused = client.pull(&attest("shop/one", 7 * mebi, 1)).await.unwrap_err();
        assert!(refused.message().contains("8388608"), "{refused}");
        let refused = client.pull(&attest("shop/many", 5 * mebi, 3)).await.unwrap_err();
        assert!(refused.message().contains("more than 16777216 bytes"), "{refused}");
        scene.daemon.finish().await;
    });
}
