//! What people sign with: the real cosign, of both releases in use, each in both of its forms, with
//! keys, a real registry and no network. What it signs is pulled, and created from what was kept
//! without the registry; what it did not sign is refused.
//!
//! What it signs keylessly is in `tests/data/signature/cosign-keyless`.

use std::path::Path;
use std::path::PathBuf;
use std::process::Output;

use crioxide::oci::media_type::OCI_INDEX;
use serde_json::Value;
use serde_json::json;

use crate::images::Image;
use crate::index::create;
use crate::index::entry;
use crate::index::image;
use crate::index::list;
use crate::index::refused;
use crate::policy::only;
use crate::publish;
use crate::support::client::Client;
use crate::support::daemon::Daemon;
use crate::support::distribution::Distribution;
use crate::support::host;
use crate::support::net;

/// What the attestations are of.
const KIND: &str = "https://tests.example/v1";

/// What cosign puts beside an image.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Form {
    /// A payload with annotations, at a tag of its own.
    Annotations,
    /// A bundle, as a referrer.
    Bundle,
}

use Form::Annotations;
use Form::Bundle;

/// Every release and form.
const WAYS: [(&str, Form); 4] = [
    ("cosign-2", Annotations),
    ("cosign-2", Bundle),
    ("cosign-3", Annotations),
    ("cosign-3", Bundle),
];

impl Form {
    /// The identity that a policy can ask of it: a bundle does not say the name.
    fn identity(self) -> &'static str {
        match self {
            Annotations => "matchRepository",
            Bundle => "matchSubjectDigest",
        }
    }
}

/// A release of cosign, with a home, and a key pair in it.
struct Cosign {
    program: &'static str,
    home: PathBuf,
}

impl Cosign {
    fn new(daemon: &Daemon, program: &'static str, who: &str) -> Self {
        let home = daemon.path(who);
        std::fs::create_dir(&home).unwrap();
        let none = json!({
            "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
            "rekorTlogConfig": { "selector": "ANY" }, "tsaConfig": { "selector": "ANY" },
        });
        daemon.write(&format!("{who}/no-services.json"), &none.to_string());
        daemon.write(&format!("{who}/predicate.json"), &json!({ "passed": true }).to_string());
        let cosign = Self { program, home };
        cosign.good(&["generate-key-pair"]);
        cosign
    }

    fn key(&self) -> PathBuf {
        self.home.join("cosign.pub")
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = host::command(program);
        command.args(arguments).current_dir(&self.home).env_clear();
        command.env("HOME", &self.home).env("COSIGN_PASSWORD", "").output().unwrap()
    }

    /// What it says when it ends well.
    #[track_caller]
    fn good(&self, arguments: &[&str]) -> String {
        let output = self.run(self.program, arguments);
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(output.status.success(), "{} {arguments:?}: {said}", self.program);
        said
    }

    /// How it makes this form, and asks no service.
    fn unlogged(&self, form: Form) -> &'static [&'static str] {
        match (self.program, form) {
            ("cosign-2", Annotations) => &["--tlog-upload=false"],
            ("cosign-2", Bundle) => &["--tlog-upload=false", "--new-bundle-format"],
            (_, Annotations) => {
                &["--tlog-upload=false", "--new-bundle-format=false", "--use-signing-config=false"]
            }
            (_, Bundle) => &["--signing-config", "no-services.json"],
        }
    }

    #[track_caller]
    fn sign(&self, form: Form, more: &[&str], name: &str) {
        let first = ["sign", "--yes", "--key", "cosign.key"];
        self.good(&[&first[..], self.unlogged(form), more, &[name]].concat());
    }

    #[track_caller]
    fn attest(&self, form: Form, name: &str) {
        let first = ["attest", "--yes", "--key", "cosign.key"];
        let what = ["--type", KIND, "--predicate", "predicate.json", name];
        self.good(&[&first[..], self.unlogged(form), &what].concat());
    }

    /// Whether cosign itself is content with an image: the third, as the second wants a trusted root for
    /// bundles, which has nothing to say of keys.
    fn verifies(&self, form: Form, name: &str) -> bool {
        let first = ["verify", "--key", "cosign.pub", "--insecure-ignore-tlog"];
        let bundle: &[&str] = match form {
            Annotations => &["--new-bundle-format=false"],
            Bundle => &["--new-bundle-format"],
        };
        self.run("cosign-3", &[&first[..], bundle, &[name]].concat()).status.success()
    }
}

struct Scene {
    daemon: Daemon,
    registry: Distribution,
}

impl Scene {
    fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.registry.host())
    }

    /// Pushes an image under the tag `1`, and gives its name by digest.
    fn publish(&self, repository: &str, image: &Image) -> String {
        let directory = self.daemon.path("pushed");
        let _ = std::fs::remove_dir_all(&directory);
        image.write_dir(&directory);
        self.registry.push(&directory, &format!("{repository}:1"));
        self.name(&format!("{repository}@{}", image.digest()))
    }

    /// Puts an index of images under the tag `1`, and gives its name.
    fn publish_index(&self, repository: &str, entries: &[Value]) -> String {
        self.registry.put_manifest(repository, "1", OCI_INDEX, &list(entries));
        self.name(&format!("{repository}:1"))
    }

    fn demand(&self, requirements: &[Value]) {
        self.daemon.policy(&only(&json!({ self.registry.host(): requirements })));
    }
}

fn signed(key: &Path, identity: &str) -> Value {
    json!({ "type": "sigstoreSigned", "keyPath": key, "signedIdentity": { "type": identity } })
}

fn attested(key: &Path, passed: bool) -> Value {
    json!({
        "type": "sigstoreAttested", "keyPath": key, "predicateType": KIND,
        "conditions": { "json": [{ "pointer": "/passed", "equals": passed }] },
    })
}

fn story<F: Future<Output = Daemon>>(story: impl FnOnce(Scene, Client) -> F + Send) {
    let needs = [
        "root",
        "ip",
        "runc",
        "conmon",
        "skopeo",
        "curl",
        "docker-registry",
        "cosign-2",
        "cosign-3",
    ];
    if !host::can(&needs) {
        return;
    }
    net::in_own_network(|| async {
        let registry = Distribution::start();
        let mut scene = Scene { daemon: Daemon::new(), registry };
        scene.daemon.registries(&publish::insecure_at(scene.registry.host()));
        scene.demand(&[json!({ "type": "reject" })]);
        scene.daemon.start().await;
        let client = scene.daemon.client().await;
        story(scene, client).await.finish().await;
    });
}

#[test]
fn what_cosign_signs_is_pulled_and_created() {
    story(|scene, mut client| async move {
        let mut pulled = Vec::new();
        for (number, (program, form)) in WAYS.into_iter().enumerate() {
            let way = format!("{program}, {form:?}");
            let cosign = Cosign::new(&scene.daemon, program, &format!("signer-{number}"));
            let demand = signed(&cosign.key(), form.identity());
            scene.demand(std::slice::from_ref(&demand));
            let repository = format!("shop/api{number}");
            let by_digest = scene.publish(&repository, &image(&way));
            let name = scene.name(&format!("{repository}:1"));
            refused(client.pull(&name).await, "no signature exists");
            assert!(!cosign.verifies(form, &by_digest), "{way}");

            // Somebody else's is none, and is no hindrance either.
            let thief = Cosign::new(&scene.daemon, program, &format!("thief-{number}"));
            thief.sign(form, &[], &by_digest);
            refused(client.pull(&name).await, "1 signature found, none by the key");
            assert!(!cosign.verifies(form, &by_digest), "{way}");
            cosign.sign(form, &["-a", "team=shop"], &by_digest);
            assert!(cosign.verifies(form, &by_digest), "{way}");
            let id = client.pull(&name).await.unwrap_or_else(|status| panic!("{way}: {status}"));
            pulled.push((way, name, id, demand));
        }
        let Scene { daemon, registry } = scene;
        let host = registry.host();
        drop(registry);
        for (number, (way, name, id, demand)) in pulled.iter().enumerate() {
            daemon.policy(&only(&json!({ host: [demand] })));
            let made = create(&mut client, &format!("good-{number}"), id, name).await;
            made.unwrap_or_else(|status| panic!("{way}: {status}"));
            let other = &pulled[(number + 1) % pulled.len()].3;
            daemon.policy(&only(&json!({ host: [other] })));
            let made = create(&mut client, &format!("other-{number}"), id, name).await;
            refused(made, "none by the key");
        }
        daemon
    });
}

#[test]
fn what_cosign_attests_is_judged_and_is_no_signature() {
    story(|scene, mut client| async move {
        for (number, (program, form)) in WAYS.into_iter().enumerate() {
            let way = format!("{program}, {form:?}");
            let cosign = Cosign::new(&scene.daemon, program, &format!("builder-{number}"));
            let repository = format!("shop/api{number}");
            let by_digest = scene.publish(&repository, &image(&format!("attested, {way}")));
            let name = scene.name(&format!("{repository}:1"));
            scene.demand(&[attested(&cosign.key(), true)]);
            refused(client.pull(&name).await, "no attestation exists");
            cosign.attest(form, &by_digest);
            scene.demand(&[signed(&cosign.key(), form.identity())]);
            refused(client.pull(&name).await, "signature");
            scene.demand(&[attested(&cosign.key(), false)]);
            refused(client.pull(&name).await, "/passed");
            scene.demand(&[attested(&cosign.key(), true)]);
            client.pull(&name).await.unwrap_or_else(|status| panic!("{way}: {status}"));
        }
        scene.daemon
    });
}

#[test]
fn what_cosign_signs_of_an_index_counts_for_its_images() {
    story(|scene, mut client| async move {
        for (number, (program, form)) in WAYS.into_iter().enumerate() {
            let cosign = Cosign::new(&scene.daemon, program, &format!("signer-{number}"));
            scene.demand(&[signed(&cosign.key(), form.identity())]);
            for recursive in [false, true] {
                let way = format!("{program}, {form:?}, recursive: {recursive}");
                let repository = format!("shop/api{number}-{recursive}");
                let image = self::image(&way);
                let by_digest = scene.publish(&repository, &image);
                let other = self::image(&format!("elsewhere, {way}"));
                scene.publish(&repository, &other);
                let mut elsewhere = entry(&other);
                elsewhere["platform"]["architecture"] = json!("s390x");
                let listed = [elsewhere, entry(&image)];
                let name = scene.publish_index(&repository, &listed);
                refused(client.pull(&name).await, "no signature exists");
                let more: &[&str] = if recursive { &["--recursive"] } else { &[] };
                cosign.sign(form, more, &name);
                client.pull(&name).await.unwrap_or_else(|status| panic!("{way}: {status}"));
                // By its own digest nothing says which index lists it.
                let own = client.pull(&by_digest).await;
                assert_eq!(own.is_ok(), recursive, "{way}: {own:?}");
            }
        }
        scene.daemon
    });
}

#[test]
fn two_releases_of_cosign_sign_one_image_and_both_are_demanded() {
    story(|scene, mut client| async move {
        let by_digest = scene.publish("shop/api", &image("signed by two"));
        let name = scene.name("shop/api:1");
        let old = Cosign::new(&scene.daemon, "cosign-2", "old");
        let new = Cosign::new(&scene.daemon, "cosign-3", "new");
        scene.demand(&[
            signed(&old.key(), "matchRepository"),
            signed(&new.key(), "matchSubjectDigest"),
            attested(&new.key(), true),
        ]);
        old.sign(Annotations, &[], &by_digest);
        refused(client.pull(&name).await, "none by the key");
        new.sign(Bundle, &[], &by_digest);
        refused(client.pull(&name).await, "no attestation exists");
        new.attest(Bundle, &by_digest);
        client.pull(&name).await.unwrap();
        scene.daemon
    });
}

#[test]
fn a_signature_that_cosign_copied_to_another_repository_is_of_the_first() {
    story(|scene, mut client| async move {
        let by_digest = scene.publish("shop/api", &image("copied"));
        let cosign = Cosign::new(&scene.daemon, "cosign-3", "signer");
        cosign.sign(Annotations, &[], &by_digest);
        scene.demand(&[signed(&cosign.key(), "matchRepository")]);
        let copy = scene.name("evil/api:1");
        cosign.good(&["copy", &by_digest, &copy]);
        // For cosign the digest is enough.
        assert!(cosign.verifies(Annotations, &copy));
        refused(client.pull(&copy).await, "evil/api");
        client.pull(&scene.name("shop/api:1")).await.unwrap();
        scene.daemon
    });
}

#[test]
fn cosign_signs_with_keys_of_other_kinds() {
    story(|scene, mut client| async move {
        let kinds = [
            "RSA -pkeyopt rsa_keygen_bits:3072",
            "EC -pkeyopt ec_paramgen_curve:P-384",
            "EC -pkeyopt ec_paramgen_curve:P-521",
            "ED25519",
        ];
        for (number, kind) in kinds.into_iter().enumerate() {
            let cosign = Cosign::new(&scene.daemon, "cosign-3", &format!("signer-{number}"));
            let pem = cosign.home.join("key.pem").display().to_string();
            let wanted: Vec<_> = kind.split(' ').collect();
            let first = ["genpkey", "-out", &pem, "-algorithm"];
            host::run("openssl", &[&first[..], &wanted].concat());
            cosign.good(&[
                "import-key-pair",
                "--yes",
                "--key",
                &pem,
                "--output-key-prefix",
                "cosign",
            ]);
            for form in [Annotations, Bundle] {
                let way = format!("{kind}, {form:?}");
                let repository = format!("shop/api{number}-{}", form.identity().to_lowercase());
                let by_digest = scene.publish(&repository, &image(&way));
                scene.demand(&[signed(&cosign.key(), form.identity())]);
                cosign.sign(form, &[], &by_digest);
                let pulled = client.pull(&scene.name(&format!("{repository}:1"))).await;
                pulled.unwrap_or_else(|status| panic!("{way}: {status}"));
            }
        }
        scene.daemon
    });
}
