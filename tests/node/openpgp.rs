//! OpenPGP signatures from end to end: made by skopeo and GnuPG, kept in a lookaside, judged at the
//! pull and again, without network, at the create.

use std::path::PathBuf;

use serde_json::Value;
use serde_json::json;
use tonic::Status;

use crate::gpg::Gpg;
use crate::images;
use crate::images::Image;
use crate::images::Layer;
use crate::images::Tar;
use crate::publish;
use crate::support::client::Client;
use crate::support::daemon::Daemon;
use crate::support::host;
use crate::support::net;
use crate::test_registry::Fault;
use crate::test_registry::TestRegistry;

const NONE: &str = "A signature was required, but no signature exists";

/// A daemon, a registry, and the OpenPGP key that the policy trusts for it.
struct Scene {
    daemon: Daemon,
    registry: TestRegistry,
    gpg: Gpg,
    key: String,
}

impl Scene {
    /// The policy demands the key for the registry; signatures are where `lookaside` says.
    async fn new(lookaside: impl Fn(&Daemon, &TestRegistry) -> String) -> Self {
        let daemon = Daemon::new();
        let registry = TestRegistry::start().await;
        let gpg = Gpg::new();
        let key = gpg.key("shop <shop@shop.example>", "ed25519");
        daemon.registries(&publish::insecure(&[&registry]));
        std::fs::create_dir_all(daemon.path("home/.config/containers/registries.d")).unwrap();
        let lookaside = lookaside(&daemon, &registry);
        daemon.write(
            "home/.config/containers/registries.d/default.yaml",
            &format!("default-docker:\n  lookaside: {lookaside}\n"),
        );
        let scene = Self { daemon, registry, gpg, key };
        scene.trust(&scene.gpg.export(&scene.key));
        let requirement =
            json!({ "type": "signedBy", "keyType": "GPGKeys", "keyPath": scene.key_file() });
        scene.daemon.policy(&json!({
            "default": [{ "type": "reject" }],
            "transports": { "docker": { scene.registry.host(): [requirement] } },
        }));
        scene
    }

    async fn start(&mut self) -> Client {
        self.daemon.start().await;
        self.daemon.client().await
    }

    fn key_file(&self) -> PathBuf {
        self.daemon.path("shop.gpg")
    }

    fn trust(&self, key: &[u8]) {
        let durability = crioxide::sys::files::Durability::Process;
        crioxide::sys::files::replace(&self.key_file(), key, 0o600, durability).unwrap();
    }

    fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.registry.host())
    }

    /// Has skopeo sign the image under a name.
    fn sign(&self, image: &Image, name: &str) -> Vec<u8> {
        let directory = self.daemon.path("to-sign");
        let _ = std::fs::remove_dir_all(&directory);
        image.write_dir(&directory);
        let output = self.daemon.path("signature");
        let mut command = host::command("skopeo");
        command.env("GNUPGHOME", self.gpg.home());
        command.args(["standalone-sign", "-o"]).arg(&output);
        command.arg(directory.join("manifest.json")).args([name, &*self.key]);
        let ran = command.output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        std::fs::read(output).unwrap()
    }

    /// Where a signature of the image belongs, below the lookaside.
    fn place(image: &Image, repository: &str, number: usize) -> String {
        format!("{repository}@sha256={}/signature-{number}", image.digest().hex())
    }

    #[track_caller]
    fn refused(&self, answer: Result<String, Status>, words: &str) {
        let status = answer.expect_err("an image that must not be used was");
        let message = status.message();
        assert!(message.starts_with("SignatureValidationFailed: "), "{message}");
        assert!(message.contains(words), "{words:?} is not in: {message}");
    }
}

/// An image that no other test has. Its layers are as they lie in the store: what is signed cannot be
/// copied from there in another form.
fn image(text: &str) -> Image {
    let tar = Tar::new().dir("etc/", 0o755).file("etc/motd", 0o644, text.as_bytes());
    let layers = vec![Layer::plain(images::busybox()), Layer::plain(tar.finish())];
    Image::new(layers, &["/bin/sleep", "600"])
}

fn can() -> bool {
    host::can(&["root", "ip", "runc", "conmon", "cni", "skopeo", "gpg"])
}

fn on_the_web(_: &Daemon, registry: &TestRegistry) -> String {
    format!("{}/sigs", registry.base())
}

fn in_a_directory(daemon: &Daemon, _: &TestRegistry) -> String {
    format!("file://{}", daemon.path("sigs").display())
}

fn put(scene: &Scene, place: &str, signature: &[u8]) {
    let path = scene.daemon.path("sigs").join(place);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let durability = crioxide::sys::files::Durability::Process;
    crioxide::sys::files::replace(&path, signature, 0o644, durability).unwrap();
}

#[test]
fn an_image_signed_by_skopeo_is_pulled_and_judged_again_without_network() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        let mut scene = Scene::new(on_the_web).await;
        let mut client = scene.start().await;
        let image = image("signed by skopeo");
        publish::image(&scene.registry, "shop/api:1", &image);
        let name = scene.name("shop/api:1");
        scene.refused(client.pull(&name).await, NONE);
        assert_eq!(scene.registry.asked("/blobs/"), [""; 0]);
        assert_eq!(scene.daemon.stored(), [""; 0]);

        let signature = scene.sign(&image, &name);
        let place = Scene::place(&image, "shop/api", 1);
        scene.registry.put_file(&format!("/sigs/{place}"), signature.clone());
        client.pull(&name).await.unwrap();
        // Nothing of sigstore's was looked for.
        assert_eq!(scene.registry.asked(".sig"), [""; 0]);
        assert_eq!(scene.registry.asked("/referrers/"), [""; 0]);

        let asked = scene.registry.seen().len();
        let pod = client.pod("judged");
        let pod_id = client.run_pod(&pod).await.unwrap();
        let config = client.container("allowed", &name, &[]);
        client.run(&pod_id, &pod, &config).await.unwrap();
        assert_eq!(scene.registry.seen().len(), asked);

        // A key that is revoked after the pull vouches for no new container.
        let revoked = [scene.gpg.export_armored(&scene.key), scene.gpg.revocation(&scene.key)];
        scene.trust(&revoked.concat());
        let config = client.container("refused", &name, &[]);
        let refused = client.create(&pod_id, &pod, &config).await;
        scene.refused(refused, "is revoked");
        assert_eq!(scene.registry.seen().len(), asked);
        client.remove_pod(&pod_id).await.unwrap();

        // The tools that share the store find the signature where they look for it.
        let copy = scene.daemon.path("copy").display().to_string();
        let from = scene.daemon.in_store(&name);
        let to = format!("dir:{copy}");
        host::run("skopeo", &["--insecure-policy", "copy", "-q", &from, &to]);
        let found = std::fs::read(scene.daemon.path("copy/signature-1")).unwrap();
        assert_eq!(found, signature);
        scene.daemon.finish().await;
    });
}

#[test]
fn a_signature_that_another_tool_brought_counts() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        let mut scene = Scene::new(on_the_web).await;
        let mut client = scene.start().await;
        let image = image("brought by skopeo");
        let name = scene.name("shop/brought:1");
        let signature = scene.sign(&image, &name);
        let bring = |scene: &Scene| {
            image.write_dir(&scene.daemon.path("image"));
            scene.daemon.skopeo_copy("image", &name);
        };
        bring(&scene);
        let pod = client.pod("brought");
        let pod_id = client.run_pod(&pod).await.unwrap();
        let config = client.container("brought", &name, &[]);
        scene.refused(client.create(&pod_id, &pod, &config).await, NONE);
        client.remove_image(&name).await.unwrap();
        std::fs::create_dir_all(scene.daemon.path("image")).unwrap();
        let path = scene.daemon.path("image/signature-1");
        let durability = crioxide::sys::files::Durability::Process;
        crioxide::sys::files::replace(&path, &signature, 0o644, durability).unwrap();
        bring(&scene);
        client.run(&pod_id, &pod, &config).await.unwrap();
        client.remove_pod(&pod_id).await.unwrap();
        scene.daemon.finish().await;
    });
}

#[test]
fn a_lookaside_in_a_directory_and_its_attackers() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        let mut scene = Scene::new(in_a_directory).await;
        let mut client = scene.start().await;
        let (ours, other) = (image("ours"), image("another"));
        publish::image(&scene.registry, "shop/api:1", &ours);
        publish::image(&scene.registry, "shop/api:2", &ours);
        let name = scene.name("shop/api:1");
        let place = |number| Scene::place(&ours, "shop/api", number);

        // A true signature of another image, moved to this one.
        put(&scene, &place(1), &scene.sign(&other, &name));
        let words = format!("Signature for digest {} does not match", other.digest());
        scene.refused(client.pull(&name).await, &words);
        // A true signature of this image for another repository.
        put(&scene, &place(1), &scene.sign(&ours, &scene.name("games/api:1")));
        scene.refused(client.pull(&name).await, "is not accepted");
        // A signature by a key that calls itself the same.
        let thief = Gpg::new();
        let stolen = thief.key("shop <shop@shop.example>", "ed25519");
        let payload = crate::gpg::payload(&name, &ours.digest().to_string());
        put(&scene, &place(1), &thief.sign(&stolen, &payload));
        scene.refused(client.pull(&name).await, &format!("by the OpenPGP key {stolen}"));
        assert_eq!(scene.daemon.stored(), [""; 0]);
        // A good one behind it is enough, for its tag alone.
        put(&scene, &place(2), &scene.sign(&ours, &name));
        client.pull(&name).await.unwrap();
        scene.refused(client.pull(&scene.name("shop/api:2")).await, "is not accepted");
        scene.daemon.finish().await;
    });
}

#[test]
fn a_lookaside_that_will_not_say_is_not_one_that_says_no() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        let mut scene = Scene::new(on_the_web).await;
        let mut client = scene.start().await;
        let image = image("faults");
        publish::image(&scene.registry, "shop/api:1", &image);
        let name = scene.name("shop/api:1");
        let signature = scene.sign(&image, &name);
        let place = Scene::place(&image, "shop/api", 1);
        scene.registry.put_file(&format!("/sigs/{place}"), signature);
        for (fault, word) in [
            (Fault::Status(500, String::new()), "500"),
            (Fault::Status(403, String::new()), "403"),
            (Fault::Garbage, "unrecognized signature format"),
            (Fault::Cut(20), "cannot be reached"),
        ] {
            scene.registry.fail("/sigs/", fault, 100);
            let message = client.pull(&name).await.unwrap_err().message().to_owned();
            assert!(message.contains(word), "{word:?} is not in: {message}");
            assert!(!message.contains(NONE), "{message}");
            scene.registry.behave();
        }
        assert_eq!(scene.registry.asked("/blobs/"), [""; 0]);
        assert_eq!(scene.daemon.stored(), [""; 0]);
        client.pull(&name).await.unwrap();
        scene.daemon.finish().await;
    });
}

#[test]
fn an_administrator_can_forbid_to_look_for_attachments() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        let mut scene = Scene::new(on_the_web).await;
        let key = crate::keys::Key::generate();
        scene.daemon.write("cosign.pub", &key.public_pem());
        let requirement = json!({
            "type": "sigstoreSigned", "keyPath": scene.daemon.path("cosign.pub"),
            "signedIdentity": { "type": "matchRepository" },
        });
        let policy: Value = json!({ "default": [requirement] });
        scene.daemon.policy(&policy);
        let mut client = scene.start().await;
        let image = image("attached");
        let digest = publish::image(&scene.registry, "shop/api:1", &image);
        let name = scene.name("shop/api:1");
        publish::sign_at_tag(&scene.registry, "shop/api", &digest, &key, &scene.name("shop/api"));
        let says = |wanted: bool| {
            scene.daemon.write(
                "home/.config/containers/registries.d/default.yaml",
                &format!("default-docker:\n  use-sigstore-attachments: {wanted}\n"),
            );
        };
        says(false);
        scene.refused(client.pull(&name).await, NONE);
        assert_eq!(scene.registry.asked(".sig"), [""; 0]);
        says(true);
        client.pull(&name).await.unwrap();
        scene.daemon.finish().await;
    });
}
