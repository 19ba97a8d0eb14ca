//! Seccomp profiles that pods name by annotation: artifacts of a registry, judged as images are.

use crioxide::cri::api;
use crioxide::oci::digest::Digest;
use crioxide::oci::seccomp_artifact::LARGEST;
use crioxide::oci::seccomp_artifact::MEDIA_TYPE;
use serde_json::json;
use tonic::Code;

use crate::images::Image;
use crate::keys::Key;
use crate::publish;
use crate::scene;
use crate::scene::refused;
use crate::scene::script;
use crate::support::client::Client;
use crate::support::daemon::Daemon;
use crate::test_registry::Fault;
use crate::test_registry::TestRegistry;

const NEW: &str = "seccomp-profile.crio.io";
const OLD: &str = "seccomp-profile.kubernetes.cri-o.io";
/// All is allowed but to make a pipe.
const NO_PIPES: &[u8] = br#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
    {"names": ["mknod", "mknodat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]}"#;
const ALL: &[u8] = br#"{"defaultAction": "SCMP_ACT_ALLOW"}"#;

fn allowed(daemon: &mut Daemon) {
    daemon.config(&format!(
        "[crio.runtime.runtimes.runc]\nallowed_annotations = [\"{NEW}\", \"{OLD}\"]\n"
    ));
}

/// A registry that the daemon speaks to.
async fn registry(daemon: &Daemon) -> TestRegistry {
    let registry = TestRegistry::start().await;
    daemon.registries(&publish::insecure(&[&registry]));
    registry
}

fn pod(client: &Client, name: &str, wishes: &[(String, String)]) -> api::PodSandboxConfig {
    let mut pod = client.pod(name);
    pod.annotations.extend(wishes.iter().cloned());
    pod
}

/// What a container says that makes a pipe.
async fn made_a_pipe(client: &mut Client, id: &str) -> String {
    let ran = client.exec(id, &["/bin/mknod", "/data/pipe", "p"]).await.unwrap();
    if ran.code == 0 { "made".to_owned() } else { ran.stderr }
}

#[test]
fn a_profile_from_a_registry_denies_what_it_says_and_the_security_context_goes_first() {
    scene::prepared(&[], allowed, |mut daemon, _| async move {
        let registry = registry(&daemon).await;
        daemon.restart().await;
        let mut client = daemon.client().await;
        publish::artifact_of(&registry, "profiles/pipes:1", MEDIA_TYPE, &[NO_PIPES]);
        publish::artifact_of(&registry, "profiles/all:1", MEDIA_TYPE, &[ALL]);
        let name = |repository: &str| format!("{}/profiles/{repository}:1", registry.host());
        let wishes = [
            (format!("{OLD}/POD"), name("pipes")),
            (format!("{NEW}/free"), name("all")),
            // One of another container, and one that stands for none.
            (format!("{NEW}/other"), name("missing")),
            (NEW.to_owned(), name("missing")),
        ];
        let shop = pod(&client, "shop", &wishes);
        let pod_id = client.run_pod(&shop).await.unwrap();
        let mut web = script(&client, "web", "sleep 600");
        let id = client.run(&pod_id, &shop, &web).await.unwrap();
        let said = made_a_pipe(&mut client, &id).await;
        assert!(said.contains("not permitted"), "{said}");
        let free = script(&client, "free", "sleep 600");
        let id = client.run(&pod_id, &shop, &free).await.unwrap();
        assert_eq!(made_a_pipe(&mut client, &id).await, "made");

        // Asked for is asked for: the annotation fills in only where nothing is.
        let profile = |kind: api::security_profile::ProfileType| api::SecurityProfile {
            profile_type: kind.into(),
            localhost_ref: String::new(),
        };
        for (name, kind, expected) in [
            ("default", api::security_profile::ProfileType::RuntimeDefault, "made"),
            ("unconfined", api::security_profile::ProfileType::Unconfined, "not permitted"),
        ] {
            web.metadata.as_mut().unwrap().name = name.to_owned();
            web.linux.as_mut().unwrap().security_context =
                Some(api::LinuxContainerSecurityContext {
                    seccomp: Some(profile(kind)),
                    ..Default::default()
                });
            let id = client.run(&pod_id, &shop, &web).await.unwrap();
            let said = made_a_pipe(&mut client, &id).await;
            assert!(said.contains(expected), "{name}: {said}");
        }
        client.remove_pod(&pod_id).await.unwrap();

        // It is here now: no registry is asked again.
        registry.fail("/v2/", Fault::Status(503, String::new()), 10_000);
        let asked = registry.seen().len();
        let again = client.run_pod(&shop).await.unwrap();
        let id = client.run(&again, &shop, &free).await.unwrap();
        assert_eq!(made_a_pipe(&mut client, &id).await, "made");
        assert_eq!(registry.seen().len(), asked);
        client.remove_pod(&again).await.unwrap();
        let judged = daemon.audit().into_iter().filter(|line| line["event"] == "seccomp").count();
        assert_eq!(judged, 4);

        daemon
    });
}

#[test]
fn a_handler_that_does_not_allow_it_lets_nobody_name_a_registry() {
    scene::story(&[], |mut daemon, _| async move {
        let registry = registry(&daemon).await;
        daemon.restart().await;
        let mut client = daemon.client().await;
        let asked = registry.seen().len();
        let reference = format!("{}/profiles/missing:1", registry.host());
        let wishes = [OLD, NEW].map(|name| (format!("{name}/POD"), reference.clone()));
        let shop = pod(&client, "shop", &wishes);
        let pod_id = client.run_pod(&shop).await.unwrap();
        let web = script(&client, "web", "sleep 600");
        let id = client.run(&pod_id, &shop, &web).await.unwrap();
        assert_eq!(made_a_pipe(&mut client, &id).await, "made");
        assert_eq!(registry.seen().len(), asked);
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

#[test]
fn an_unsigned_profile_is_refused_before_its_bytes_are_asked_for_and_again_at_each_create() {
    scene::prepared(&["changed on disk"], allowed, |mut daemon, _| async move {
        let registry = registry(&daemon).await;
        let key = Key::generate();
        daemon.write("cosign.pub", &key.public_pem());
        daemon.policy(&json!({"default": [{"type": "reject"}], "transports": {"docker": {
            "example.test": [{"type": "insecureAcceptAnything"}],
            registry.host(): [{"type": "sigstoreSigned", "keyPath": daemon.path("cosign.pub"),
                               "signedIdentity": {"type": "matchRepository"}}]}}}));
        daemon.restart().await;
        let mut client = daemon.client().await;
        let digest = publish::artifact_of(&registry, "profiles/pipes:1", MEDIA_TYPE, &[NO_PIPES]);
        let name = format!("{}/profiles/pipes:1", registry.host());
        let shop = pod(&client, "shop", &[(format!("{NEW}/POD"), name.clone())]);
        let pod_id = client.run_pod(&shop).await.unwrap();
        let before = scene::kept(&daemon);
        let web = script(&client, "web", "sleep 600");
        let blob = Digest::sha256(NO_PIPES).to_string();
        let text = refused(client.create(&pod_id, &shop, &web).await, Code::Unknown);
        assert!(text.starts_with("SignatureValidationFailed: the seccomp profile"), "{text}");
        assert!(text.contains(&name) && text.contains("policy.json"), "{text}");
        assert!(registry.asked(&blob).is_empty() && client.image(&name).await.unwrap().is_none());

        let repository = format!("{}/profiles/pipes", registry.host());
        publish::sign_at_tag(&registry, "profiles/pipes", &digest, &key, &repository);
        let id = client.create(&pod_id, &shop, &web).await.unwrap();
        client.remove(&id).await.unwrap();
        // It is here, and its signature with it; another key is wanted now.
        drop(registry);
        let id = client.create(&pod_id, &shop, &web).await.unwrap();
        client.remove(&id).await.unwrap();
        daemon.write("cosign.pub", &Key::generate().public_pem());
        let text = refused(client.create(&pod_id, &shop, &web).await, Code::Unknown);
        assert!(text.starts_with("SignatureValidationFailed: the seccomp profile"), "{text}");
        // Nor are other bytes taken for it, should they be there.
        daemon.write("cosign.pub", &key.public_pem());
        let hex = Digest::sha256(NO_PIPES).hex().to_owned();
        daemon.write(&format!("storage/artifacts/blobs/sha256/{hex}"), "{}");
        let text = refused(client.create(&pod_id, &shop, &web).await, Code::DataLoss);
        assert!(text.contains("changed on disk"), "{text}");
        scene::unchanged(&daemon, &before, "refused profiles").await;
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

#[test]
fn what_is_no_profile_is_not_fetched_and_none_names_a_listener_of_the_node() {
    scene::prepared(&[], allowed, |mut daemon, _| async move {
        let registry = registry(&daemon).await;
        daemon.restart().await;
        let mut client = daemon.client().await;
        let large = vec![b' '; usize::try_from(LARGEST).unwrap() + 1];
        let listener =
            br#"{"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/run/systemd/notify"}"#;
        let helm = "application/vnd.cncf.helm.config.v1+json";
        let image = scene::busybox(json!({}));
        publish::image(&registry, "evil/image:1", &image);
        for (name, media_type, layers) in [
            ("helm", helm, &[NO_PIPES][..]),
            ("large", MEDIA_TYPE, &[large.as_slice()]),
            ("two", MEDIA_TYPE, &[NO_PIPES, ALL]),
            ("none", MEDIA_TYPE, &[]),
            ("text", MEDIA_TYPE, &[b"not JSON"]),
            ("unknown", MEDIA_TYPE, &[br#"{"defaultAction": "SCMP_ACT_ALLOW", "more": 1}"#]),
            ("listener", MEDIA_TYPE, &[listener]),
        ] {
            publish::artifact_of(&registry, &format!("evil/{name}:1"), media_type, layers);
        }
        let before = scene::kept(&daemon);
        for (name, code, words) in [
            ("image", Code::InvalidArgument, "it is a container image"),
            ("helm", Code::InvalidArgument, helm),
            ("large", Code::InvalidArgument, "1048577 bytes"),
            ("two", Code::InvalidArgument, "2 layers"),
            ("none", Code::InvalidArgument, "0 layers"),
            ("text", Code::InvalidArgument, "evil/text:1"),
            ("unknown", Code::InvalidArgument, "unknown field"),
            ("listener", Code::InvalidArgument, "may not name a listener"),
            ("missing", Code::NotFound, "evil/missing:1"),
        ] {
            let reference = format!("{}/evil/{name}:1", registry.host());
            let shop = pod(&client, name, &[(format!("{OLD}/web"), reference.clone())]);
            let pod_id = client.run_pod(&shop).await.unwrap();
            let web = script(&client, "web", "sleep 600");
            let text = refused(client.create(&pod_id, &shop, &web).await, code);
            assert!(text.contains(words), "{name}: {text}");
            client.remove_pod(&pod_id).await.unwrap();
        }
        for bytes in [large.as_slice(), image.blobs()[0].1] {
            assert!(registry.asked(&Digest::sha256(bytes).to_string()).is_empty());
        }
        scene::unchanged(&daemon, &before, "what is no profile").await;
        // What is an image already is none for having been pulled.
        client.pull(&format!("{}/evil/image:1", registry.host())).await.unwrap();
        let reference = format!("{}/evil/image:1", registry.host());
        let shop = pod(&client, "shop", &[(format!("{OLD}/POD"), reference)]);
        let pod_id = client.run_pod(&shop).await.unwrap();
        let web = script(&client, "web", "sleep 600");
        let text = refused(client.create(&pod_id, &shop, &web).await, Code::InvalidArgument);
        assert!(text.contains("it is a container image"), "{text}");
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

#[test]
fn a_manifest_that_was_not_judged_names_no_profile_for_the_image_of_another() {
    scene::prepared(&[], allowed, |mut daemon, _| async move {
        let registry = registry(&daemon).await;
        let open = TestRegistry::start().await;
        daemon.registries(&publish::insecure(&[&registry, &open]));
        let key = Key::generate();
        daemon.write("cosign.pub", &key.public_pem());
        daemon.policy(&json!({"default": [{"type": "reject"}], "transports": {"docker": {
            "example.test": [{"type": "insecureAcceptAnything"}],
            open.host(): [{"type": "insecureAcceptAnything"}],
            registry.host(): [{"type": "sigstoreSigned", "keyPath": daemon.path("cosign.pub"),
                               "signedIdentity": {"type": "matchRepository"}}]}}}));
        daemon.restart().await;
        let mut client = daemon.client().await;
        publish::artifact_of(&open, "evil/profile:1", MEDIA_TYPE, &[NO_PIPES]);
        let signed = scene::busybox(json!({"Env": ["PATH=/bin"]}));
        let digest = publish::image(&registry, "shop/api:1", &signed);
        let repository = format!("{}/shop/api", registry.host());
        publish::sign_at_tag(&registry, "shop/api", &digest, &key, &repository);
        // The same image by its config and layers, with a note that nobody signed.
        let mut noted: serde_json::Value = serde_json::from_slice(&signed.manifest).unwrap();
        noted["annotations"] = json!({NEW: format!("{}/evil/profile:1", open.host())});
        let noted = Image { manifest: noted.to_string().into_bytes(), ..signed.clone() };
        publish::image(&open, "evil/api:1", &noted);
        let name = format!("{repository}:1");
        let evil = format!("{}/evil/api:1", open.host());
        for name in [&name, &evil] {
            client.pull(name).await.unwrap();
        }
        let shop = client.pod("shop");
        let pod_id = client.run_pod(&shop).await.unwrap();
        for (name, image, expected) in [("web", &name, "made"), ("evil", &evil, "not permitted")] {
            let mut config = client.container(name, image, &["/bin/sh", "-c", "sleep 600"]);
            config.image.as_mut().unwrap().user_specified_image.clone_from(image);
            config.mounts.clear();
            let id = client.run(&pod_id, &shop, &config).await.unwrap();
            let ran = client.exec(&id, &["/bin/mknod", "/pipe", "p"]).await.unwrap();
            let said = if ran.code == 0 { "made".to_owned() } else { ran.stderr };
            assert!(said.contains(expected), "{name}: {said}");
        }
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}
