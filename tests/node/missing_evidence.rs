//! Images that came to the node without the signatures that the policy wants.

use crioxide::cri::api;
use serde_json::Value;
use serde_json::json;
use tonic::Code;

use crate::images::Image;
use crate::images::Layer;
use crate::images::Tar;
use crate::keys::Key;
use crate::publish;
use crate::scene;
use crate::scene::refused;
use crate::support::client::Client;
use crate::support::daemon::Daemon;
use crate::support::host;
use crate::test_registry::Fault;
use crate::test_registry::TestRegistry;

/// A daemon whose policy wants one key's signature on what comes from the registry, and an image there.
struct Scene {
    registry: TestRegistry,
    key: Key,
    image: Image,
    name: String,
}

impl Scene {
    async fn of(daemon: &mut Daemon) -> Self {
        let registry = TestRegistry::start().await;
        daemon.registries(&publish::insecure(&[&registry]));
        let key = Key::generate();
        daemon.write("cosign.pub", &key.public_pem());
        daemon.policy(&json!({"default": [{"type": "reject"}], "transports": {"docker": {
            "example.test": [{"type": "insecureAcceptAnything"}],
            registry.host(): [{"type": "sigstoreSigned", "keyPath": daemon.path("cosign.pub"),
                               "signedIdentity": {"type": "matchRepository"}}]}}}));
        let image = scene::busybox(json!({"Env": ["PATH=/bin"]}));
        publish::image(&registry, "shop/api:1", &image);
        let name = format!("{}/shop/api:1", registry.host());
        Self { registry, key, image, name }
    }

    fn sign(&self) {
        let repository = format!("{}/shop/api", self.registry.host());
        let digest = self.image.digest();
        publish::sign_at_tag(&self.registry, "shop/api", &digest, &self.key, &repository);
    }

    /// As on a node without network: an archive that was made elsewhere, and podman.
    fn load(&self, daemon: &Daemon) {
        let archive = daemon.path("image.tar").display().to_string();
        let (from, to) =
            (format!("docker://{}", self.name), format!("oci-archive:{archive}:{}", self.name));
        let options =
            ["--insecure-policy", "copy", "-q", "--preserve-digests", "--src-tls-verify=false"];
        host::run("skopeo", &[&options[..], &[&from, &to]].concat());
        daemon.podman(&["load", "-q", "-i", &archive]);
    }

    async fn create(&self, client: &mut Client, name: &str) -> Result<String, tonic::Status> {
        let pod = client.pod(name);
        let pod_id = client.run_pod(&pod).await.unwrap();
        let web = client.container("web", &self.name, &["/bin/sh", "-c", "sleep 600"]);
        let made = client.run(&pod_id, &pod, &web).await;
        client.remove_pod(&pod_id).await.unwrap();
        made
    }
}

#[test]
fn a_loaded_image_is_refused_and_the_refusal_names_the_setting() {
    if !host::can(&["podman"]) {
        return;
    }
    scene::story(&[], |mut daemon, _| async move {
        let scene = Scene::of(&mut daemon).await;
        scene.sign();
        daemon.restart().await;
        let mut client = daemon.client().await;
        scene.load(&daemon);
        assert!(client.image(&scene.name).await.unwrap().is_some());
        let asked = scene.registry.seen().len();
        let made = scene.create(&mut client, "first").await;
        let text = refused(made, Code::Unknown);
        assert!(text.starts_with("SignatureValidationFailed: "), "{text}");
        assert!(text.contains("on_missing_evidence = \"fetch\""), "{text}");
        assert_eq!(scene.registry.seen().len(), asked, "judged without network");
        daemon
    });
}

/// An image with the config of another over a layer of its own, as anyone can push one.
fn disguised(good: &Image) -> Image {
    let own = Tar::new().dir("data/", 0o755).file("data/evil", 0o644, b"evil");
    let layers = vec![good.layers[0].clone(), Layer::plain(own.finish())];
    let manifest = |image: &Image| serde_json::from_slice::<Value>(&image.manifest).unwrap();
    let mut both = manifest(good);
    both["layers"] = manifest(&Image::new(layers.clone(), &[]))["layers"].take();
    Image { config: good.config.clone(), manifest: both.to_string().into_bytes(), layers }
}

/// The ID of an image is that of its config, and containers/image does not compare the layers with it.
#[test]
fn other_layers_under_the_config_of_a_signed_image_are_not_run() {
    const EVIL: &str = "example.test/evil:1";
    const REFUSED: &str = "other layers than its config names";
    scene::story(&[REFUSED], |mut daemon, _| async move {
        let scene = Scene::of(&mut daemon).await;
        scene.sign();
        daemon.restart().await;
        let mut client = daemon.client().await;
        scene::bring(&daemon, EVIL, &disguised(&scene.image));
        let id = client.image(EVIL).await.unwrap().unwrap().id;
        assert_eq!(id, scene.image.config_digest().hex());
        // The policy allows what has this name; what is there is another image than it says.
        let pod = client.pod("shop");
        let pod_id = client.run_pod(&pod).await.unwrap();
        let mut web = client.container("web", EVIL, &["/bin/sh", "-c", "sleep 600"]);
        let made = client.run(&pod_id, &pod, &web).await.unwrap_err();
        assert!(made.message().contains(REFUSED), "{made}");
        let mut with = scene::script(&client, "with", "sleep 600");
        with.mounts.push(api::Mount {
            container_path: "/vol".to_owned(),
            image: Some(api::ImageSpec { image: EVIL.to_owned(), ..Default::default() }),
            readonly: true,
            ..Default::default()
        });
        let made = client.run(&pod_id, &pod, &with).await.unwrap_err();
        assert!(made.message().contains(REFUSED), "{made}");
        // A pull brings the layers that were signed, and they are the image's from then on.
        assert_eq!(client.pull(&scene.name).await.unwrap(), id);
        for name in [scene.name.as_str(), EVIL] {
            web.metadata.as_mut().unwrap().attempt += 1;
            web.image.as_mut().unwrap().image = name.to_owned();
            let made = client.run(&pod_id, &pod, &web).await.unwrap();
            assert_eq!(scene::said(&mut client, &made, "ls /data").await, "", "{name}");
        }
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

/// Evidence that is not there is looked for.
fn fetches(daemon: &mut Daemon) {
    daemon.config("[crio.image]\non_missing_evidence = \"fetch\"\n");
}

#[test]
fn evidence_of_a_loaded_image_is_fetched_where_that_is_wanted_and_kept() {
    if !host::can(&["podman"]) {
        return;
    }
    scene::prepared(&[], fetches, |mut daemon, _| async move {
        let scene = Scene::of(&mut daemon).await;
        daemon.restart().await;
        let mut client = daemon.client().await;
        scene.load(&daemon);
        // A registry that cannot be asked is no registry without signatures.
        scene.registry.fail(".sig", Fault::Status(403, "{}".to_owned()), 100);
        let text = refused(scene.create(&mut client, "asked").await, Code::Unknown);
        assert!(text.starts_with("SignatureValidationFailed: "), "{text}");
        assert!(text.contains("cannot be looked up"), "{text}");
        scene.registry.behave();
        // That nobody signed it is an answer, and is not asked for at every try.
        let text = refused(scene.create(&mut client, "unsigned").await, Code::Unknown);
        assert!(text.starts_with("SignatureValidationFailed: "), "{text}");
        assert!(!text.contains("cannot be looked up"), "{text}");
        let asked = scene.registry.seen().len();
        for name in ["again", "and-again"] {
            refused(scene.create(&mut client, name).await, Code::Unknown);
        }
        assert_eq!(scene.registry.seen().len(), asked);
        scene.sign();
        daemon.restart().await;
        let mut client = daemon.client().await;
        scene.create(&mut client, "found").await.unwrap();
        // It was kept: the registry is not needed any more, nor asked.
        scene.registry.fail("/v2/", Fault::Status(503, String::new()), 10_000);
        let asked = scene.registry.seen().len();
        scene.create(&mut client, "kept").await.unwrap();
        daemon.restart().await;
        let mut client = daemon.client().await;
        scene.create(&mut client, "restarted").await.unwrap();
        assert_eq!(scene.registry.seen().len(), asked);
        // What was kept is judged, not looked up again: another key is demanded now.
        daemon.write("cosign.pub", &Key::generate().public_pem());
        refused(scene.create(&mut client, "other").await, Code::Unknown);
        assert_eq!(scene.registry.seen().len(), asked);
        daemon
    });
}

#[test]
fn what_is_found_for_one_name_does_not_stand_in_for_another_that_could_not_be_asked_about() {
    if !host::can(&["podman"]) {
        return;
    }
    scene::prepared(&[], fetches, |mut daemon, _| async move {
        let scene = Scene::of(&mut daemon).await;
        let other = TestRegistry::start().await;
        publish::image(&other, "shop/api:1", &scene.image);
        daemon.registries(&publish::insecure(&[&scene.registry, &other]));
        daemon.write("other.pub", &Key::generate().public_pem());
        let signed = |key: &str| {
            json!([{"type": "sigstoreSigned", "keyPath": daemon.path(key),
                    "signedIdentity": {"type": "matchSubjectDigest"}}])
        };
        daemon.policy(&json!({"default": [{"type": "reject"}], "transports": {"docker": {
            "example.test": [{"type": "insecureAcceptAnything"}],
            scene.registry.host(): signed("other.pub"), other.host(): signed("cosign.pub")}}}));
        publish::sign_by_referrer(&scene.registry, "shop/api", &scene.image.digest(), &scene.key);
        daemon.restart().await;
        let mut client = daemon.client().await;
        scene.load(&daemon);
        daemon.podman(&["tag", &scene.name, &format!("{}/shop/api:1", other.host())]);
        let id = client.image(&scene.name).await.unwrap().unwrap().id;
        other.fail("/v2/", Fault::Status(403, "{}".to_owned()), 10_000);
        let by_id = Scene { name: id, ..scene };
        let text = refused(by_id.create(&mut client, "half").await, Code::Unknown);
        assert!(text.starts_with("SignatureValidationFailed: "), "{text}");
        // Nor was the half of it kept.
        other.behave();
        by_id.create(&mut client, "whole").await.unwrap();
        daemon
    });
}

#[test]
fn what_only_a_tried_policy_wants_and_nobody_answers_holds_up_no_container_for_long() {
    if !host::can(&["podman"]) {
        return;
    }
    let fetch = |daemon: &mut Daemon| {
        let tried = daemon.path("tried.json");
        daemon.config(&format!(
            "[crio.image]\non_missing_evidence = \"fetch\"\nsignature_policy_dry_run = {tried:?}\n"
        ));
    };
    scene::prepared(&[], fetch, |mut daemon, _| async move {
        let scene = Scene::of(&mut daemon).await;
        let attested = json!([{"type": "sigstoreAttested", "keyPath": daemon.path("cosign.pub"),
                               "predicateType": "https://slsa.dev/provenance/v1"}]);
        daemon.write("tried.json", &json!({"default": attested}).to_string());
        scene.sign();
        daemon.restart().await;
        let mut client = daemon.client().await;
        scene.load(&daemon);
        scene.registry.fail(".att", Fault::Silence, 100);
        scene.create(&mut client, "tried").await.unwrap();
        let tried = daemon.audit().into_iter().find(|line| line["mode"] == "dry-run").unwrap();
        assert_ne!(tried["verdict"], "allowed");
        daemon
    });
}
