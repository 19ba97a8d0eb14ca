//! A registry that answers anything but what it should, wherever an answer matters: "could not find
//! out" is never "is allowed", and not the same as "there is none".

use std::time::Duration;
use std::time::Instant;

use crioxide::cri::api;
use crioxide::oci::digest::Digest;
use crioxide::oci::media_type::OCI_INDEX;
use serde_json::json;
use tonic::Status;

use super::Faults;
use super::Scene;
use super::story;
use crate::images::Image;
use crate::images::Layer;
use crate::images::Tar;
use crate::keys;
use crate::publish;
use crate::support::client::Client;
use crate::test_registry::Fault;
use crate::test_registry::Guard;
use crate::test_registry::Setup;
use crate::test_registry::TestRegistry;

/// The steps of a pull under a policy that demands a signature. The name says which answer is spoilt.
const STEPS: [&str; 7] = [
    "image-manifest",
    "signature-tag",
    "signature-blob",
    "referrers",
    "bundle-manifest",
    "bundle-blob",
    "referrers-tag",
];

/// How often an answer is spoilt.
const ALWAYS: usize = usize::MAX;

struct Answer {
    name: &'static str,
    fault: Fault,
    times: usize,
    /// Words of which the message has one; none where the pull must succeed after all.
    words: &'static [&'static str],
}

fn answer(name: &'static str, fault: Fault, words: &'static [&'static str]) -> Answer {
    Answer { name, fault, times: ALWAYS, words }
}

const UNREADABLE: &[&str] =
    &["cannot use", "cannot be judged", "cannot be read", "promised", "are not those", "served as"];

fn answers(elsewhere: &TestRegistry) -> Vec<Answer> {
    let status = |code: u16| Fault::Status(code, r#"{"errors":[]}"#.to_owned());
    let later = |seconds: &str| Fault::Header(429, "Retry-After", seconds.to_owned());
    let denied = Fault::Status(404, r#"{"errors":[{"code":"DENIED"}]}"#.to_owned());
    let html = Fault::Status(404, "<h1>404</h1>".to_owned());
    let large = Fault::Status(200, "x".repeat(5 << 20));
    let missing = &["not found", "answered 404, but", "no signature exists"];
    let unreachable = &["cannot be reached", "broke off"];
    vec![
        answer("unauthorized", status(401), &["access refused"]),
        answer("forbidden", status(403), &["access refused"]),
        answer("missing-in-a-proxys-words", html, missing),
        answer("missing-for-want-of-rights", denied, missing),
        answer("throttled", status(429), &["429"]),
        Answer { times: 1, words: &[], ..answer("throttled-for-a-second", later("1"), &[]) },
        answer("throttled-for-a-day", later("86400"), &["429"]),
        answer("failing", status(500), &["500"]),
        Answer { times: 2, words: &[], ..answer("failing-twice", status(500), &[]) },
        answer("unavailable", status(503), &["503"]),
        answer("a-teapot", status(418), &["418"]),
        answer("garbage", Fault::Garbage, UNREADABLE),
        answer("nothing-with-200", Fault::Status(200, String::new()), UNREADABLE),
        answer("nothing-with-204", Fault::Status(204, String::new()), &["204"]),
        answer("half-of-it", Fault::Cut(40), unreachable),
        Answer { times: 1, words: &[], ..answer("half-of-it-once", Fault::Cut(40), &[]) },
        answer("half-of-it-as-if-whole", Fault::Shorter(40), UNREADABLE),
        answer("other-bytes", Fault::OtherBytes, UNREADABLE),
        answer("five-megabytes", large, &["larger than", "promised"]),
        answer("bytes-without-end", Fault::Endless, &["larger than", "promised"]),
        answer("sent-in-a-circle", Fault::Redirect("?again".to_owned()), &["too many"]),
        answer(
            "sent-nowhere",
            Fault::Header(307, "X-Nothing", "1".to_owned()),
            &["names no place"],
        ),
        answer(
            "sent-to-a-file",
            Fault::Redirect("file:///etc/passwd".to_owned()),
            &["something else than http"],
        ),
        answer(
            "sent-to-another-host",
            Fault::Redirect(format!("{}/nothing", elsewhere.base())),
            missing,
        ),
    ]
}

/// An image whose signature is where the step looks for it, and which path is to be spoilt.
fn publish_for(scene: &Scene, registry: &TestRegistry, step: &str, repository: &str) -> String {
    let tar = Tar::new().file("motd", 0o644, repository.as_bytes()).finish();
    let image = Image::new(vec![Layer::gzip(tar)], &["/bin/true"]);
    let digest = publish::image(registry, &format!("{repository}:1"), &image);
    let name = format!("{}/{repository}", registry.host());
    if step.starts_with("signature") || step == "image-manifest" {
        publish::sign_at_tag(registry, repository, &digest, &scene.key, &name);
    }
    let payload = Digest::sha256(&keys::payload(&name, &digest.to_string()));
    let list = format!("{repository}/manifests/sha256-{}", digest.hex());
    match step {
        "image-manifest" => format!("{repository}/manifests/1"),
        "signature-tag" => format!("{list}.sig"),
        "signature-blob" => format!("{repository}/blobs/{payload}"),
        _ => {
            let (manifest, bundle) =
                publish::sign_by_referrer(registry, repository, &digest, &scene.key);
            match step {
                "referrers" => format!("{repository}/referrers/"),
                "bundle-manifest" => format!("{repository}/manifests/{manifest}"),
                "bundle-blob" => format!("{repository}/blobs/{bundle}"),
                _ => {
                    // A registry without the API: the list is under a tag.
                    let entry = json!({
                        "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 1,
                        "digest": manifest, "artifactType": publish::BUNDLE,
                    });
                    let index = json!({
                        "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry],
                    });
                    let tag = format!("sha256-{}", digest.hex());
                    registry.put_manifest(repository, Some(&tag), OCI_INDEX, index.to_string());
                    let nothing = Fault::Status(404, "404 page not found".to_owned());
                    registry.fail(&format!("{repository}/referrers/"), nothing, ALWAYS);
                    format!("{list}$")
                }
            }
        }
    }
}

fn login() -> Option<api::AuthConfig> {
    let (username, password) = ("me".to_owned(), "secret".to_owned());
    Some(api::AuthConfig { username, password, ..Default::default() })
}

/// Pulls all these at once.
async fn pull_all(client: &Client, names: Vec<String>) -> Vec<Result<String, Status>> {
    let pulls = names.into_iter().map(|name| {
        let mut client = client.clone();
        async move { client.pull_as(&name, login(), "default").await }
    });
    futures_util::future::join_all(pulls).await
}

#[test]
fn no_wrong_answer_lets_an_image_in() {
    story(|| async {
        let guard = Guard::Basic("me", "secret");
        let scene = Scene::new(Setup { guard, ..Setup::default() }).await;
        let registry = &scene.registry;
        let elsewhere = TestRegistry::start().await;
        let requirement = |identity: &str| {
            let key = scene.daemon.path("cosign.pub");
            let identity = json!({ "type": identity });
            json!([{ "type": "sigstoreSigned", "keyPath": key, "signedIdentity": identity }])
        };
        let scope = |step: &str| match step {
            "image-manifest" | "signature-tag" | "signature-blob" => requirement("matchRepository"),
            _ => requirement("matchSubjectDigest"),
        };
        let scopes: serde_json::Map<_, _> =
            STEPS.iter().map(|step| (scene.name(step), scope(step))).collect();
        let reject = json!([{ "type": "reject" }]);
        scene.daemon.policy(&json!({ "default": reject, "transports": { "docker": scopes } }));
        let (mut cases, mut faults) = (Vec::new(), Faults::default());
        for step in STEPS {
            for answer in answers(&elsewhere) {
                let repository = format!("{step}/{}", answer.name);
                let path = publish_for(&scene, registry, step, &repository);
                registry.fail(&path, answer.fault.clone(), answer.times);
                cases.push((repository, answer));
            }
        }
        let names: Vec<String> =
            cases.iter().map(|(repository, _)| scene.name(&format!("{repository}:1"))).collect();
        let pulled = pull_all(&scene.client, names.clone()).await;
        for ((repository, answer), pulled) in cases.iter().zip(pulled) {
            faults.check(repository, || assert_ended(&scene, repository, answer, pulled));
        }
        faults.none();
        scene.assert_untouched("wrong answers");
        // It was the registry and nothing else.
        registry.behave();
        for (name, pulled) in names.iter().zip(pull_all(&scene.client, names.clone()).await) {
            pulled.unwrap_or_else(|status| panic!("{name}: {status}"));
        }
        let mut client = scene.client.clone();
        for name in &names {
            client.remove_image(name).await.unwrap();
        }
        // Whoever a registry sends us to learns no password.
        assert!(!elsewhere.seen().is_empty());
        assert!(elsewhere.seen().iter().all(|seen| seen.authorization.is_none()));
        scene.finish().await;
    });
}

#[track_caller]
fn assert_ended(scene: &Scene, repository: &str, answer: &Answer, pulled: Result<String, Status>) {
    let right_bytes = answer.words.is_empty();
    match pulled {
        Ok(_) => assert!(right_bytes, "{repository} was pulled"),
        Err(status) => {
            assert!(!right_bytes, "{repository}: {status}");
            let message = status.message();
            scene.assert_told(repository, message, answer.words);
            // A failure is not told as if there were no signature, but where the registry's answer
            // means just that: no such API, and no such list.
            let absent = message.contains("no signature exists");
            assert!(
                !absent
                    || answer.name.starts_with("missing")
                    || answer.name == "sent-to-another-host",
                "{repository}: {message}"
            );
        }
    }
}

/// Absence, in a registry's own words, at both places: that is an answer, and the policy's refusal.
#[test]
fn a_signature_that_is_not_there_is_another_refusal_than_one_that_cannot_be_looked_for() {
    story(|| async {
        let mut scene = Scene::new(Setup::default()).await;
        scene.demand("matchRepository");
        let path = publish_for(&scene, &scene.registry, "signature-tag", "shop/api");
        let name = scene.name("shop/api:1");
        let said = Fault::Status(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#.to_owned());
        for (fault, prefix, words) in [
            (said, "SignatureValidationFailed: ", "no signature exists"),
            (
                Fault::Status(404, String::new()),
                "RegistryUnavailable: ",
                "whether it exists is not known",
            ),
            (Fault::Status(500, String::new()), "RegistryUnavailable: ", "500"),
            (Fault::Garbage, "SignatureValidationFailed: ", "cannot be judged"),
        ] {
            scene.registry.behave();
            scene.registry.fail(&path, fault, ALWAYS);
            let status = scene.client.pull(&name).await.unwrap_err();
            assert!(status.message().starts_with(prefix), "{status}");
            scene.assert_told("shop/api", status.message(), &[words]);
        }
        scene.finish().await;
    });
}

/// A token that cannot be had is no token.
#[test]
fn a_token_server_that_fails_lets_nothing_in() {
    story(|| async {
        let guard = Guard::AnonymousToken;
        let mut scene = Scene::new(Setup { guard, ..Setup::default() }).await;
        scene.demand("matchRepository");
        publish_for(&scene, &scene.registry, "signature-tag", "shop/api");
        let name = scene.name("shop/api:1");
        for (fault, words) in [
            (Fault::Status(401, String::new()), "access refused"),
            (Fault::Status(403, String::new()), "access refused"),
            (Fault::Status(404, String::new()), "404"),
            (Fault::Status(500, String::new()), "500"),
            (Fault::Header(429, "Retry-After", "86400".to_owned()), "429"),
            (Fault::Garbage, "no usable token"),
            (Fault::Status(200, r#"{"token":""}"#.to_owned()), "no usable token"),
            (Fault::Status(200, "x".repeat(5 << 20)), "larger than"),
            (Fault::Endless, "larger than"),
            (Fault::Cut(5), "cannot be reached"),
            (Fault::Redirect("?again".to_owned()), "too many"),
        ] {
            scene.registry.behave();
            scene.registry.fail("/token", fault, ALWAYS);
            let status = scene.client.pull(&name).await.unwrap_err();
            scene.assert_told("shop/api", status.message(), &[words]);
            scene.assert_untouched(words);
        }
        scene.registry.behave();
        let id = scene.client.pull(&name).await.unwrap();
        scene.client.remove_image(&id).await.unwrap();
        scene.finish().await;
    });
}

/// A registry that trickles holds neither its own pulls for ever nor anybody else's.
#[test]
fn a_layer_that_trickles_holds_up_no_other_registry_and_ends() {
    story(|| async {
        let other = TestRegistry::start().await;
        let registry = TestRegistry::start().await;
        let both = publish::insecure(&[&registry, &other]);
        let scene = Scene::with(registry, |daemon| {
            daemon.registries(&both);
            daemon.config("[crio.image]\npull_progress_timeout = \"3s\"\n");
        })
        .await;
        let mut slow = Vec::new();
        // More layers than there are lanes.
        for number in 0..8 {
            let text = format!("{number}").repeat(5000);
            let tar = Tar::new().file("motd", 0o644, text.as_bytes()).finish();
            let image = Image::new(vec![Layer::plain(tar)], &["/bin/true"]);
            publish::image(&scene.registry, &format!("slow/{number}:1"), &image);
            let layer = format!("/blobs/{}", image.layers[0].digest());
            scene.registry.fail(&layer, Fault::Drip(Duration::from_millis(50)), ALWAYS);
            slow.push(scene.name(&format!("slow/{number}:1")));
        }
        let begun = Instant::now();
        let client = scene.client.clone();
        let pulls = tokio::spawn(async move { pull_all(&client, slow).await });
        while scene.registry.asked("/blobs/").len() < 8 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let quick =
            Image::new(vec![Layer::plain(Tar::new().file("a", 0o644, b"x").finish())], &["x"]);
        publish::image(&other, "quick:1", &quick);
        let name = format!("{}/quick:1", other.host());
        let mut client = scene.client.clone();
        client.pull(&name).await.unwrap();
        assert!(!pulls.is_finished(), "it waited for the slow ones");
        client.remove_image(&name).await.unwrap();
        for (number, pulled) in pulls.await.unwrap().into_iter().enumerate() {
            let status = pulled.unwrap_err();
            assert!(status.message().starts_with("RegistryUnavailable: "), "{status}");
            scene.assert_told(&format!("slow/{number}"), status.message(), &["stands still"]);
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        scene.finish().await;
    });
}
