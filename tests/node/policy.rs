//! What the policy allows and refuses, told to the whole daemon: a pull is judged before anything
//! of the image is asked for, and a container's image again.

use crioxide::cri::api;
use serde_json::Value;
use serde_json::json;
use tonic::Code;
use tonic::Status;

use crate::images;
use crate::images::Image;
use crate::images::Layer;
use crate::images::Tar;
use crate::keys::Key;
use crate::publish;
use crate::support::client::Client;
use crate::support::daemon::Daemon;
use crate::support::host;
use crate::support::net;
use crate::test_registry::Fault;
use crate::test_registry::TestRegistry;

/// A daemon, a registry, and the key that the policy trusts for it.
pub(crate) struct Scene {
    pub(crate) daemon: Daemon,
    pub(crate) registry: TestRegistry,
    pub(crate) key: Key,
}

impl Scene {
    /// The policy demands the key for the registry, under the identity, and rejects all else.
    pub(crate) async fn strict(identity: &str) -> Self {
        let daemon = Daemon::new();
        let registry = TestRegistry::start().await;
        let key = Key::generate();
        daemon.write("cosign.pub", &key.public_pem());
        daemon.registries(&publish::insecure(&[&registry]));
        let scene = Self { daemon, registry, key };
        scene.demand(&json!({ scene.registry.host(): [scene.signed(identity)] }));
        scene
    }

    pub(crate) async fn started(identity: &str) -> (Self, Client) {
        let mut scene = Self::strict(identity).await;
        scene.daemon.start().await;
        let client = scene.daemon.client().await;
        (scene, client)
    }

    /// The policy of these scopes, which rejects what none of them names.
    pub(crate) fn demand(&self, scopes: &Value) {
        self.daemon.policy(&only(scopes));
    }

    /// The requirement of a signature by the key.
    pub(crate) fn signed(&self, identity: &str) -> Value {
        let mut requirement =
            json!({ "type": "sigstoreSigned", "keyPath": self.daemon.path("cosign.pub") });
        if !identity.is_empty() {
            requirement["signedIdentity"] = json!({ "type": identity });
        }
        requirement
    }

    pub(crate) fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.registry.host())
    }

    /// What the registry was asked for that is of an image: no manifest, no signature.
    pub(crate) fn blobs_asked_of(&self, image: &Image) -> Vec<String> {
        let parts = image.blobs().into_iter().map(|(digest, _)| digest.to_string());
        parts.flat_map(|digest| self.registry.asked(&digest)).collect()
    }

    /// Refused in the kubelet's words, with where and why; nothing asked for, nothing kept.
    #[track_caller]
    fn refused(&self, answer: Result<String, Status>, image: &Image, name: &str, words: &[&str]) {
        let status = answer.expect_err("an image that must not be pulled was");
        let message = status.message();
        assert_eq!(status.code(), Code::Unknown, "{message}");
        assert!(message.starts_with("SignatureValidationFailed: "), "{message}");
        let digest = image.digest().to_string();
        let policy = self.daemon.path("policy.json").display().to_string();
        let repository = self.name(name.split_once(':').expect("a tag").0);
        for word in words.iter().copied().chain([&*digest, &policy, &repository]) {
            assert!(message.contains(word), "{word} is not in: {message}");
        }
        assert_eq!(self.blobs_asked_of(image), [""; 0]);
        assert_eq!(self.daemon.stored(), [""; 0]);
    }
}

pub(crate) fn only(scopes: &Value) -> Value {
    json!({ "default": [{ "type": "reject" }], "transports": { "docker": scopes } })
}

pub(crate) fn anything() -> Value {
    json!({ "default": [{ "type": "insecureAcceptAnything" }] })
}

/// An image that no other test has.
pub(crate) fn image(text: &str) -> Image {
    let tar = Tar::new().dir("etc/", 0o755).file("etc/motd", 0o644, text.as_bytes());
    Image::new(vec![Layer::gzip(tar.finish())], &["/bin/true"])
}

pub(crate) fn can() -> bool {
    host::can(&["root", "ip", "runc", "conmon"])
}

#[test]
fn an_unsigned_image_is_refused_before_any_of_its_blobs_is_asked_for() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        let (scene, mut client) = Scene::started("matchRepository").await;
        let image = image("unsigned");
        publish::image(&scene.registry, "shop/api:1", &image);
        let answer = client.pull(&scene.name("shop/api:1")).await;
        let scope = format!("(scope {})", scene.registry.host());
        let words =
            [&*scope, "sigstoreSigned", "A signature was required, but no signature exists"];
        scene.refused(answer, &image, "shop/api:1", &words);
        // It was looked for in both places.
        let tag = format!("/manifests/sha256-{}.sig", image.digest().hex());
        assert_eq!(scene.registry.asked(&tag).len(), 1);
        assert_eq!(scene.registry.asked("/referrers/").len(), 1);
        assert_eq!(scene.registry.asked("/blobs/"), [""; 0]);
        assert!(client.images().await.unwrap().is_empty());
        assert!(client.image(&scene.name("shop/api:1")).await.unwrap().is_none());
        // And by digest it is the same.
        let by_digest = scene.name(&format!("shop/api@{}", image.digest()));
        scene.refused(client.pull(&by_digest).await, &image, "shop/api:1", &words);
        scene.daemon.finish().await;
    });
}

#[test]
fn an_image_signed_at_its_tag_is_pulled() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        let (scene, mut client) = Scene::started("matchRepository").await;
        let image = image("signed");
        let digest = publish::image(&scene.registry, "shop/api:1", &image);
        let signed_name = scene.name("shop/api");
        publish::sign_at_tag(&scene.registry, "shop/api", &digest, &scene.key, &signed_name);
        let id = client.pull(&scene.name("shop/api:1")).await.unwrap();
        assert_eq!(id, image.config_digest().hex());
        assert!(client.image(&scene.name("shop/api:1")).await.unwrap().is_some());
        // What is evidence was asked for before what is image.
        let asked = scene.registry.asked("/");
        let first = |part: &str| asked.iter().position(|path| path.contains(part)).unwrap();
        let config = first(&image.config_digest().to_string());
        assert!(first(".sig") < config && first("/referrers/") < config, "{asked:?}");
        scene.daemon.finish().await;
    });
}

#[test]
fn a_bundle_is_accepted_by_its_digest_and_the_refusal_says_how() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        let (scene, mut client) = Scene::started("").await;
        let image = image("bundle");
        let digest = publish::image(&scene.registry, "shop/api:1", &image);
        publish::sign_by_referrer(&scene.registry, "shop/api", &digest, &scene.key);
        let answer = client.pull(&scene.name("shop/api:1")).await;
        let line = r#""signedIdentity": {"type": "matchSubjectDigest"}"#;
        scene.refused(answer, &image, "shop/api:1", &[line]);
        // The change holds at once.
        let scopes = json!({ scene.registry.host(): [scene.signed("matchSubjectDigest")] });
        scene.demand(&scopes);
        client.pull(&scene.name("shop/api:1")).await.unwrap();
        scene.daemon.finish().await;
    });
}

#[test]
fn a_signature_that_the_registry_lists_and_has_no_more_is_none() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        let (scene, mut client) = Scene::started("matchSubjectDigest").await;
        let image = image("listed");
        let digest = publish::image(&scene.registry, "shop/api:1", &image);
        let sign = || publish::sign_by_referrer(&scene.registry, "shop/api", &digest, &scene.key);
        let (gone, _) = sign();
        let path = format!("/manifests/{gone}");
        let unknown = r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#.to_owned();
        let is_gone = Fault::Status(404, unknown);
        scene.registry.fail(&path, is_gone.clone(), usize::MAX);
        let answer = client.pull(&scene.name("shop/api:1")).await;
        scene.refused(answer, &image, "shop/api:1", &["no signature exists"]);
        // That it is kept back is something else.
        scene.registry.behave();
        scene.registry.fail(&path, Fault::Status(403, String::new()), usize::MAX);
        let answer = client.pull(&scene.name("shop/api:1")).await.unwrap_err();
        assert!(answer.message().contains("access refused"), "{answer}");
        // And the next one counts.
        scene.registry.behave();
        scene.registry.fail(&path, is_gone, usize::MAX);
        let (other, _) = sign();
        assert_ne!(other, gone);
        client.pull(&scene.name("shop/api:1")).await.unwrap();
        scene.daemon.finish().await;
    });
}

#[test]
fn a_signature_of_something_else_is_no_signature() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        let (scene, mut client) = Scene::started("matchRepository").await;
        let (registry, key) = (&scene.registry, &scene.key);

        let by_another = image("by another key");
        let digest = publish::image(registry, "shop/a:1", &by_another);
        let thief = Key::generate();
        publish::sign_at_tag(registry, "shop/a", &digest, &thief, &scene.name("shop/a"));
        let key_file = scene.daemon.path("cosign.pub").display().to_string();
        let answer = client.pull(&scene.name("shop/a:1")).await;
        scene.refused(answer, &by_another, "shop/a:1", &["1 signature found", &key_file]);

        let elsewhere = image("signed for another repository");
        let digest = publish::image(registry, "shop/b:1", &elsewhere);
        publish::sign_at_tag(registry, "shop/b", &digest, key, &scene.name("games/b"));
        let answer = client.pull(&scene.name("shop/b:1")).await;
        let words = ["is for another repository", &*scene.name("games/b")];
        scene.refused(answer, &elsewhere, "shop/b:1", &words);

        // A true signature of another image, put where this one's belongs.
        let swapped = image("swapped");
        let digest = publish::image(registry, "shop/c:1", &swapped);
        let payload = crate::keys::payload(&scene.name("shop/c"), &by_another.digest().to_string());
        publish::payload_at_tag(registry, "shop/c", &digest, key, &payload);
        let answer = client.pull(&scene.name("shop/c:1")).await;
        let signed = by_another.digest().to_string();
        scene.refused(answer, &swapped, "shop/c:1", &[&signed]);

        // A good one beside a bad one is enough: anyone can put bad ones there.
        publish::sign_by_referrer(registry, "shop/a", &by_another.digest(), &thief);
        publish::sign_at_tag(registry, "shop/a", &by_another.digest(), key, &scene.name("shop/a"));
        client.pull(&scene.name("shop/a:1")).await.unwrap();
        scene.daemon.finish().await;
    });
}

#[test]
fn the_most_specific_scope_decides() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        let (scene, mut client) = Scene::started("").await;
        let image = image("scopes");
        for name in ["shop/api:1", "shop/free:1", "games/api:1"] {
            publish::image(&scene.registry, name, &image);
        }
        scene.demand(&json!({
            scene.name("shop"): [{ "type": "reject" }],
            scene.name("shop/free"): [{ "type": "insecureAcceptAnything" }],
        }));
        let answer = client.pull(&scene.name("shop/api:1")).await;
        let scope = format!("(scope {})", scene.name("shop"));
        scene.refused(answer, &image, "shop/api:1", &[&scope, "reject"]);
        let answer = client.pull(&scene.name("games/api:1")).await;
        scene.refused(answer, &image, "games/api:1", &["reject"]);
        // Where the policy wants no evidence, none is looked for.
        assert_eq!(scene.registry.asked(".sig"), [""; 0]);
        assert_eq!(scene.registry.asked("/referrers/"), [""; 0]);
        client.pull(&scene.name("shop/free:1")).await.unwrap();
        // That the bytes are here now does not make them allowed under another name.
        let again = client.pull(&scene.name("shop/api:1")).await.unwrap_err();
        assert!(again.message().starts_with("SignatureValidationFailed: "), "{again}");
        let found = client.image(&scene.name("shop/api:1")).await.unwrap();
        assert!(found.is_none());
        scene.daemon.finish().await;
    });
}

#[test]
fn the_policy_of_a_namespace_replaces_the_nodes() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        let (scene, mut client) = Scene::started("").await;
        let image = image("namespaces");
        publish::image(&scene.registry, "shop/api:1", &image);
        let name = scene.name("shop/api:1");
        scene.daemon.namespace_policy("lab", &anything());
        scene.daemon.namespace_policy("vault", &json!({ "default": [{ "type": "reject" }] }));
        // Looser than the node's, stricter, and none of its own.
        let refused = client.pull_as(&name, None, "default").await;
        scene.refused(refused, &image, "shop/api:1", &["sigstoreSigned"]);
        let id = client.pull_as(&name, None, "lab").await.unwrap();
        client.remove_image(&id).await.unwrap();
        scene.daemon.policy(&anything());
        let refused = client.pull_as(&name, None, "vault").await.unwrap_err();
        let file = scene.daemon.path("policies/vault.json").display().to_string();
        assert!(refused.message().starts_with("SignatureValidationFailed: "), "{refused}");
        assert!(refused.message().contains(&file), "{refused}");
        scene.daemon.holds_nothing();
        // A namespace whose file is damaged gets nothing, rather than the node's policy.
        scene.daemon.write("policies/broken.json", "{");
        let refused = client.pull_as(&name, None, "broken").await.unwrap_err();
        assert!(refused.message().contains("broken.json"), "{refused}");
        // One that climbs out of the directory is no namespace.
        scene.daemon.write("climbed.json", &anything().to_string());
        scene.daemon.policy(&json!({ "default": [{ "type": "reject" }] }));
        assert!(client.pull_as(&name, None, "../climbed").await.is_err());
        scene.daemon.holds_nothing();
        client.pull_as(&name, None, "lab").await.unwrap();
        scene.daemon.finish().await;
    });
}

#[test]
fn without_a_usable_policy_nothing_is_pulled() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        let (scene, mut client) = Scene::started("").await;
        let image = image("no policy");
        publish::image(&scene.registry, "shop/api:1", &image);
        let path = scene.daemon.path("policy.json");
        let mut cases = vec![
            ("", "policy.json"),
            ("{}", "default"),
            ("{\"default\": []}", "default"),
            (r#"{"default":[{"type":"insecureAcceptAnything"}],"defualt":[]}"#, "defualt"),
            (r#"{"default":[{"type":"acceptAll"}]}"#, "acceptAll"),
            (r#"{"default":[{"type":"insecureAcceptAnything","x":1}]}"#, "x"),
            (
                r#"{"default":[{"type":"reject"}],"default":[{"type":"insecureAcceptAnything"}]}"#,
                "",
            ),
        ];
        for (text, word) in cases.drain(..) {
            scene.daemon.write("policy.json", text);
            let refused = client.pull(&scene.name("shop/api:1")).await.unwrap_err();
            assert_eq!(refused.code(), Code::Unknown, "{text}: {refused}");
            let message = refused.message();
            assert!(message.starts_with("SignatureValidationFailed: "), "{text}: {message}");
            assert!(message.contains(&*path.to_string_lossy()), "{text}: {message}");
            assert!(message.contains(word), "{text}: {message}");
        }
        std::fs::remove_file(&path).unwrap();
        let refused = client.pull(&scene.name("shop/api:1")).await.unwrap_err();
        assert!(refused.message().contains(&*path.to_string_lossy()), "{refused}");
        assert_eq!(scene.registry.asked("/blobs/"), [""; 0]);
        assert_eq!(scene.daemon.stored(), [""; 0]);
        // A key file that is away is no reason to accept.
        let scopes = json!({ scene.registry.host(): [scene.signed("matchRepository")] });
        scene.demand(&scopes);
        std::fs::remove_file(scene.daemon.path("cosign.pub")).unwrap();
        let refused = client.pull(&scene.name("shop/api:1")).await.unwrap_err();
        assert!(refused.message().starts_with("SignatureValidationFailed: "), "{refused}");
        assert!(refused.message().contains("cosign.pub"), "{refused}");
        scene.daemon.finish().await;
    });
}

/// What a registry can do instead of giving a signature, and what the message then says.
fn faults() -> Vec<(&'static str, Fault, &'static str)> {
    let status = |code: u16| Fault::Status(code, r#"{"errors":[]}"#.to_owned());
    vec![
        ("unauthorized", status(401), "access refused"),
        ("forbidden", status(403), "access refused"),
        ("throttled", status(429), "429"),
        ("failing", status(500), "500"),
        ("garbage", Fault::Garbage, ""),
        ("half", Fault::Cut(40), "cannot be reached"),
        ("other", Fault::OtherBytes, ""),
    ]
}

#[test]
fn a_registry_that_will_not_say_is_not_one_that_says_no() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        let (scene, client) = Scene::started("").await;
        scene.demand(&json!({
            scene.name("tag"): [scene.signed("matchRepository")],
            scene.name("referrer"): [scene.signed("matchSubjectDigest")],
        }));
        let registry = &scene.registry;
        let image = image("faults");
        let mut cases = Vec::new();
        for (name, fault, word) in faults() {
            let repository = format!("tag/{name}");
            let digest = publish::image(registry, &format!("{repository}:1"), &image);
            let signed_name = scene.name(&repository);
            publish::sign_at_tag(registry, &repository, &digest, &scene.key, &signed_name);
            registry.fail(&format!("{repository}/manifests/sha256-"), fault.clone(), 100);
            cases.push((repository, word));

            let repository = format!("referrer/{name}");
            publish::image(registry, &format!("{repository}:1"), &image);
            publish::sign_by_referrer(registry, &repository, &digest, &scene.key);
            registry.fail(&format!("{repository}/referrers/"), fault, 100);
            cases.push((repository, word));
        }
        // A 404 that is not in a registry's words may be a proxy's. (Of the referrers' path it says
        // that there is no such API, as the distribution specification has it.)
        let repository = "tag/not-here".to_owned();
        let digest = publish::image(registry, &format!("{repository}:1"), &image);
        let signed_name = scene.name(&repository);
        publish::sign_at_tag(registry, &repository, &digest, &scene.key, &signed_name);
        let nothing = Fault::Status(404, "<h1>404</h1>".to_owned());
        registry.fail(&format!("{repository}/manifests/sha256-"), nothing, 100);
        cases.push((repository, "404"));
        let pulls = cases.iter().map(|(repository, word)| {
            let (mut client, name) = (client.clone(), scene.name(&format!("{repository}:1")));
            async move { (repository, word, client.pull(&name).await) }
        });
        for (repository, word, answer) in futures_util::future::join_all(pulls).await {
            let Err(status) = answer else { panic!("{repository} was pulled") };
            let message = status.message();
            assert!(message.contains(word) && message.contains(repository), "{message}");
            assert!(!message.contains("no signature exists"), "{repository}: {message}");
        }
        assert_eq!(scene.blobs_asked_of(&image), [""; 0]);
        assert_eq!(scene.daemon.stored(), [""; 0]);
        // It was the registry, and nothing else.
        registry.behave();
        for (repository, _) in cases {
            client.clone().pull(&scene.name(&format!("{repository}:1"))).await.unwrap();
        }
        scene.daemon.finish().await;
    });
}

#[test]
fn a_short_name_leads_to_no_other_registry_because_signatures_cannot_be_looked_up() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        let mut scene = Scene::strict("matchRepository").await;
        scene.daemon.config("[crio.image]\nshort_name_mode = \"disabled\"\n");
        scene.daemon.start().await;
        let mut client = scene.daemon.client().await;
        let open = TestRegistry::start().await;
        scene.daemon.registries(&format!(
            "unqualified-search-registries = [{:?}, {:?}]\n{}",
            scene.registry.host(),
            open.host(),
            publish::insecure(&[&scene.registry, &open])
        ));
        scene.demand(&json!({
            scene.registry.host(): [scene.signed("matchRepository")],
            open.host(): [{ "type": "insecureAcceptAnything" }],
        }));
        let ours = image("ours");
        let digest = publish::image(&scene.registry, "shop/api:1", &ours);
        publish::sign_at_tag(
            &scene.registry,
            "shop/api",
            &digest,
            &scene.key,
            &scene.name("shop/api"),
        );
        publish::image(&open, "shop/api:1", &image("theirs"));
        scene.registry.fail(".sig", Fault::Status(403, "{}".to_owned()), 100);
        client.pull("shop/api:1").await.unwrap_err();
        assert!(open.seen().is_empty() && scene.daemon.stored().is_empty());
        scene.registry.behave();
        client.pull("shop/api:1").await.unwrap();
        assert!(open.seen().is_empty());
        // Where there is no such image, the next one is asked.
        publish::image(&open, "shop/web:1", &image("web"));
        client.pull("shop/web:1").await.unwrap();
        scene.daemon.finish().await;
    });
}

#[test]
fn a_policy_made_stricter_after_the_pull_holds_for_new_containers() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        let (scene, mut client) = Scene::started("").await;
        scene.daemon.policy(&anything());
        let registry = &scene.registry;
        let image = Image::new(vec![Layer::gzip(images::busybox())], &["/bin/sleep", "600"]);
        let digest = publish::image(registry, "shop/plain:1", &image);
        publish::image(registry, "shop/signed:1", &image);
        let signed_name = scene.name("shop/signed");
        publish::sign_at_tag(registry, "shop/signed", &digest, &scene.key, &signed_name);
        let id = client.pull(&scene.name("shop/plain:1")).await.unwrap();
        let pod = client.pod("judged");
        let pod_id = client.run_pod(&pod).await.unwrap();
        let config = |client: &Client, name: &str, written: &str| {
            let mut config = client.container(name, &id, &[]);
            if let Some(image) = config.image.as_mut() {
                written.clone_into(&mut image.user_specified_image);
            }
            config
        };
        let plain = scene.name("shop/plain:1");
        let allowed = config(&client, "allowed", &plain);
        let first = client.create(&pod_id, &pod, &allowed).await.unwrap();
        client.remove(&first).await.unwrap();

        let scopes = json!({ scene.registry.host(): [scene.signed("matchRepository")] });
        scene.demand(&scopes);
        for written in [&*plain, ""] {
            let config = config(&client, "refused", written);
            let refused = client.create(&pod_id, &pod, &config).await.unwrap_err();
            assert_refused_at_create(&refused, &scene);
            assert!(client.containers().await.unwrap().is_empty());
        }
        // A name that the image was not pulled by.
        let other = config(&client, "refused", &scene.name("shop/signed:1"));
        let refused = client.create(&pod_id, &pod, &other).await.unwrap_err();
        assert!(refused.message().contains("pull it by that name"), "{refused}");

        // The same bytes, pulled under the name that they are signed for.
        client.pull(&scene.name("shop/signed:1")).await.unwrap();
        let config_signed = config(&client, "signed", &scene.name("shop/signed:1"));
        client.run(&pod_id, &pod, &config_signed).await.unwrap();
        let refused =
            client.create(&pod_id, &pod, &config(&client, "refused", &plain)).await.unwrap_err();
        assert_refused_at_create(&refused, &scene);
        client.remove_pod(&pod_id).await.unwrap();
        scene.daemon.finish().await;
    });
}

#[track_caller]
fn assert_refused_at_create(refused: &Status, scene: &Scene) {
    let message = refused.message();
    assert!(message.starts_with("SignatureValidationFailed: "), "{message}");
    let policy = scene.daemon.path("policy.json").display().to_string();
    assert!(message.contains(&policy) && message.contains("sigstoreSigned"), "{message}");
}

#[test]
fn an_image_that_another_tool_brought_is_judged_before_it_runs() {
    if !can() || !host::can(&["skopeo"]) {
        return;
    }
    net::in_own_network(|| async {
        let (scene, mut client) = Scene::started("matchRepository").await;
        let image = Image::new(vec![Layer::gzip(images::busybox())], &["/bin/sleep", "600"]);
        image.write_dir(&scene.daemon.path("image"));
        let name = scene.name("shop/brought:1");
        scene.daemon.skopeo_copy("image", &name);
        assert!(client.image(&name).await.unwrap().is_some());
        let pod = client.pod("brought");
        let pod_id = client.run_pod(&pod).await.unwrap();
        let config = client.container("brought", &name, &[]);
        let refused = client.create(&pod_id, &pod, &config).await.unwrap_err();
        assert_refused_at_create(&refused, &scene);
        assert!(refused.message().contains("no signature exists"), "{refused}");
        scene.daemon.policy(&anything());
        client.run(&pod_id, &pod, &config).await.unwrap();
        client.remove_pod(&pod_id).await.unwrap();
        scene.daemon.finish().await;
    });
}

#[test]
fn a_pull_for_no_pod_is_judged_by_the_nodes_policy() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        let (scene, mut client) = Scene::started("").await;
        let image = image("no pod");
        publish::image(&scene.registry, "shop/api:1", &image);
        scene.daemon.namespace_policy("default", &anything());
        let spec = api::ImageSpec { image: scene.name("shop/api:1"), ..Default::default() };
        let request = api::PullImageRequest { image: Some(spec), auth: None, sandbox_config: None };
        let answer = client.image.pull_image(request).await;
        let answer = answer.map(|answer| answer.into_inner().image_ref);
        scene.refused(answer, &image, "shop/api:1", &["sigstoreSigned"]);
        scene.daemon.finish().await;
    });
}
