//! OCI artifacts: pulled and judged like images, listed among them, and mounted as volumes.

use crioxide::cri::api;
use crioxide::oci::digest::Digest;
use serde_json::json;
use tonic::Code;

use crate::keys::Key;
use crate::publish;
use crate::scene;
use crate::scene::refused;
use crate::scene::said;
use crate::scene::script;
use crate::support::client::Client;
use crate::support::daemon::Daemon;
use crate::support::host;
use crate::test_registry::Fault;
use crate::test_registry::TestRegistry;

const FILES: [(&str, &[u8]); 3] =
    [("weights/a.bin", b"aaa"), ("weights/deep/b.bin", b"bbbb"), ("card.md", b"a card\n")];

fn mount(image: &str, at: &str, sub_path: &str) -> api::Mount {
    api::Mount {
        container_path: at.to_owned(),
        image: Some(api::ImageSpec { image: image.to_owned(), ..Default::default() }),
        image_sub_path: sub_path.to_owned(),
        readonly: true,
        ..Default::default()
    }
}

fn with_volume(client: &Client, name: &str, mounts: Vec<api::Mount>) -> api::ContainerConfig {
    api::ContainerConfig { mounts, ..script(client, name, "sleep 600") }
}

/// A registry that the daemon speaks to.
async fn registry(daemon: &Daemon) -> TestRegistry {
    let registry = TestRegistry::start().await;
    daemon.registries(&publish::insecure(&[&registry]));
    registry
}

fn layout(daemon: &Daemon) -> Vec<String> {
    let blobs = std::fs::read_dir(daemon.path("storage/artifacts/blobs/sha256"));
    let names = blobs.into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.map(|name| name.to_string_lossy().into_owned()).collect()
}

#[test]
fn an_artifact_is_listed_among_images_and_mounted_file_by_file() {
    scene::story(&[], |mut daemon, _| async move {
        let registry = registry(&daemon).await;
        daemon.restart().await;
        let mut client = daemon.client().await;
        let digest = publish::artifact(&registry, "models/a:1", &FILES);
        let name = format!("{}/models/a:1", registry.host());
        let id = client.pull(&name).await.unwrap();
        assert_eq!(id, digest.hex());
        // Everything calls it by the same ID, whatever it is asked for by.
        let pinned = format!("{}/models/a@{digest}", registry.host());
        for text in [name.as_str(), &id, &format!("sha256:{id}"), &id[..12], &pinned] {
            let found = client.image(text).await.unwrap().unwrap_or_else(|| panic!("{text}"));
            assert_eq!((found.id, found.size), (id.clone(), 14), "{text}");
            assert_eq!(found.repo_tags, [name.as_str()]);
            assert_eq!(found.repo_digests, [pinned.as_str()]);
            assert_eq!(found.spec.unwrap().annotations["org.example.kind"], "model");
        }
        let listed = client.images().await.unwrap();
        assert_eq!(listed.iter().filter(|image| image.id == id).count(), 1);
        assert_eq!(listed.len(), 2);
        // Other tools read the same store.
        let oci = format!("oci:{}:{name}", daemon.path("storage/artifacts").display());
        let raw = host::run("skopeo", &["inspect", "--raw", &oci]);
        assert_eq!(Digest::sha256(raw.as_bytes()), digest);

        let pod = client.pod("shop");
        let pod_id = client.run_pod(&pod).await.unwrap();
        let volumes = vec![mount(&id, "/model", ""), mount(&name, "/sub", "weights")];
        let web = with_volume(&client, "web", volumes);
        let web = client.run(&pod_id, &pod, &web).await.unwrap();
        let text = "cat /model/weights/a.bin /model/card.md /sub/a.bin /sub/deep/b.bin; ls /sub";
        assert_eq!(said(&mut client, &web, text).await, "aaaa card\naaabbbba.bin\ndeep");
        for place in ["/model/card.md", "/sub/a.bin"] {
            let ran = client.exec(&web, &["/bin/sh", "-c", &format!("echo x >> {place}")]).await;
            assert!(ran.unwrap().stderr.contains("Read-only"), "{place}");
        }
        let status = client.status(&web).await.unwrap();
        let of = |path: &str| {
            status.mounts.iter().find(|mount| mount.container_path == path).unwrap().clone()
        };
        assert_eq!(of("/model").image.unwrap().image_ref, id);
        assert_eq!(of("/sub").image_sub_path, "weights");

        // It is in use, also for the next daemon, until the container goes.
        daemon.restart().await;
        let mut client = daemon.client().await;
        for text in [&name, &id] {
            let text = refused(client.remove_image(text).await, Code::FailedPrecondition);
            assert!(text.contains("in use by container"), "{text}");
        }
        client.remove_pod(&pod_id).await.unwrap();
        client.remove_image(&id).await.unwrap();
        client.remove_image(&id).await.unwrap();
        assert!(client.image(&name).await.unwrap().is_none() && layout(&daemon).is_empty());
        daemon
    });
}

#[test]
fn an_artifact_is_judged_before_any_blob_is_asked_for_and_again_at_create() {
    scene::story(&[], |mut daemon, _| async move {
        let registry = registry(&daemon).await;
        let (key, other) = (Key::generate(), Key::generate());
        daemon.write("cosign.pub", &key.public_pem());
        daemon.write("other.pub", &other.public_pem());
        let signed = |file: &str| {
            json!([{"type": "sigstoreSigned", "keyPath": daemon.path(file),
                    "signedIdentity": {"type": "matchRepository"}}])
        };
        let accept = json!([{"type": "insecureAcceptAnything"}]);
        let policy = |file: &str| {
            json!({"default": [{"type": "reject"}], "transports": {"docker": {
                "example.test/busybox": accept, registry.host(): signed(file)}}})
        };
        daemon.policy(&policy("cosign.pub"));
        daemon.restart().await;
        let mut client = daemon.client().await;
        let digest = publish::artifact(&registry, "models/a:1", &FILES);
        let name = format!("{}/models/a:1", registry.host());
        let blobs = || {
            let all = FILES.iter().map(|(_, bytes)| Digest::sha256(bytes).to_string());
            all.flat_map(|blob| registry.asked(&blob)).collect::<Vec<_>>()
        };
        let text = refused(client.pull(&name).await, Code::Unknown);
        assert!(text.starts_with("SignatureValidationFailed: "), "{text}");
        assert!(blobs().is_empty() && layout(&daemon).is_empty());
        assert!(client.image(&name).await.unwrap().is_none());

        let repository = format!("{}/models/a", registry.host());
        publish::sign_at_tag(&registry, "models/a", &digest, &key, &repository);
        let id = client.pull(&name).await.unwrap();
        let pod = client.pod("shop");
        let pod_id = client.run_pod(&pod).await.unwrap();
        // Its evidence was kept: no registry is needed to judge it again.
        drop(registry);
        let named = |mut mount: api::Mount| {
            mount.image.as_mut().unwrap().user_specified_image.clone_from(&name);
            mount
        };
        let web = with_volume(&client, "web", vec![named(mount(&id, "/model", ""))]);
        client.run(&pod_id, &pod, &web).await.unwrap();
        // The policy of the pod's namespace is another one now.
        let text = std::fs::read_to_string(daemon.path("policy.json")).unwrap();
        daemon.write("policies/default.json", &text.replace("cosign.pub", "other.pub"));
        let late = with_volume(&client, "late", vec![named(mount(&id, "/model", ""))]);
        let text = refused(client.create(&pod_id, &pod, &late).await, Code::Unknown);
        assert!(text.starts_with("ImageVolumeMountFailed: "), "{text}");
        assert!(text.contains("policies/default.json"), "{text}");
        // Nor does another name that is allowed vouch for it.
        let mut lent = mount(&id, "/model", "");
        lent.image.as_mut().unwrap().user_specified_image = scene::IMAGE.to_owned();
        let late = with_volume(&client, "late", vec![lent]);
        refused(client.create(&pod_id, &pod, &late).await, Code::Unknown);
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

#[test]
fn a_title_that_climbs_or_hides_another_is_not_mounted_and_an_artifact_is_not_run() {
    scene::story(&[], |mut daemon, _| async move {
        let registry = registry(&daemon).await;
        daemon.restart().await;
        let mut client = daemon.client().await;
        let pod = client.pod("shop");
        let pod_id = client.run_pod(&pod).await.unwrap();
        let before = scene::kept(&daemon);
        for (number, files) in [
            [("../../etc/passwd", b"x".as_slice()), ("b", b"y")],
            [("/etc/passwd", b"x"), ("b", b"y")],
            [("a", b"x"), ("a", b"y")],
            [("a", b"x"), ("a/../../b", b"y")],
        ]
        .iter()
        .enumerate()
        {
            publish::artifact(&registry, &format!("evil/{number}:1"), files);
            let name = format!("{}/evil/{number}:1", registry.host());
            client.pull(&name).await.unwrap();
            let web = with_volume(&client, "web", vec![mount(&name, "/model", "")]);
            let text = refused(client.create(&pod_id, &pod, &web).await, Code::Unknown);
            assert!(text.starts_with("ImageVolumeMountFailed: the volume at /model: "), "{text}");
        }
        publish::artifact(&registry, "models/a:1", &FILES);
        let name = format!("{}/models/a:1", registry.host());
        client.pull(&name).await.unwrap();
        for sub_path in ["nothing", "card.md", "..", "weights/../..", "/etc"] {
            let web = with_volume(&client, "web", vec![mount(&name, "/model", sub_path)]);
            let text = refused(client.create(&pod_id, &pod, &web).await, Code::Unknown);
            assert!(text.starts_with("ImageVolumeMountFailed: "), "{text}");
        }
        for place in ["/", "/proc"] {
            let web = with_volume(&client, "web", vec![mount(&name, place, "")]);
            refused(client.create(&pod_id, &pod, &web).await, Code::InvalidArgument);
        }
        let web = client.container("web", &name, &["/bin/sh"]);
        let text = refused(client.create(&pod_id, &pod, &web).await, Code::Unimplemented);
        assert!(text.contains("OCI artifact"), "{text}");
        scene::unchanged(&daemon, &before, "refused artifacts").await;
        // None of them is held by a container that does not exist.
        client.remove_image(&name).await.unwrap();
        client.remove_pod(&pod_id).await.unwrap();

        daemon.config("[crio.image]\noci_artifact_mount_support = false\n");
        client.pull(&name).await.unwrap();
        daemon.restart().await;
        let mut client = daemon.client().await;
        let pod_id = client.run_pod(&pod).await.unwrap();
        let web = with_volume(&client, "web", vec![mount(&name, "/model", "")]);
        let text = refused(client.create(&pod_id, &pod, &web).await, Code::Unknown);
        assert!(text.contains("oci_artifact_mount_support"), "{text}");
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

#[test]
fn other_bytes_or_a_daemon_that_dies_leave_no_half_of_an_artifact() {
    scene::story(&["cannot keep artifact"], |mut daemon, _| async move {
        let registry = registry(&daemon).await;
        daemon.restart().await;
        let mut client = daemon.client().await;
        publish::artifact(&registry, "models/a:1", &FILES);
        let name = format!("{}/models/a:1", registry.host());
        let blob = Digest::sha256(FILES[1].1).to_string();
        registry.fail(&format!("/blobs/{blob}"), Fault::OtherBytes, 100);
        refused(client.pull(&name).await, Code::DataLoss);
        assert!(client.image(&name).await.unwrap().is_none() && layout(&daemon).is_empty());
        let staging = daemon.path("storage/crioxide/artifacts/staging");
        assert_eq!(std::fs::read_dir(&staging).unwrap().count(), 0);

        registry.behave();
        registry.fail(&format!("/blobs/{blob}"), Fault::Silence, 100);
        let pull = {
            let (mut client, name) = (client.clone(), name.clone());
            tokio::spawn(async move { client.pull(&name).await })
        };
        scene::until("a blob on its way", || {
            std::fs::read_dir(&staging)
                .into_iter()
                .flatten()
                .flatten()
                .any(|pull| std::fs::read_dir(pull.path()).is_ok_and(|blobs| blobs.count() > 0))
        })
        .await;
        daemon.kill().await;
        let _ = pull.await;
        daemon.start().await;
        let mut client = daemon.client().await;
        assert!(!staging.exists() && client.image(&name).await.unwrap().is_none());
        registry.behave();
        client.pull(&name).await.unwrap();
        // What is here already is not fetched again, and a tag that moved takes its name along.
        let before = registry.asked(&blob).len();
        let moved = publish::artifact(&registry, "models/a:1", &FILES[1..]);
        assert_eq!(client.pull(&name).await.unwrap(), moved.hex());
        assert_eq!(registry.asked(&blob).len(), before);
        assert_eq!(client.image(&name).await.unwrap().unwrap().id, moved.hex());
        daemon
    });
}

/// As of an image, what was judged under one name stays true when it is pulled under another.
#[test]
fn the_evidence_of_one_name_of_an_artifact_does_not_replace_that_of_another() {
    scene::story(&[], |mut daemon, _| async move {
        let registry = registry(&daemon).await;
        let mut docker = json!({"example.test/busybox": [{"type": "insecureAcceptAnything"}]});
        let mut names = Vec::new();
        for which in ["a", "b"] {
            let (key, file) = (Key::generate(), format!("{which}.pub"));
            daemon.write(&file, &key.public_pem());
            let repository = format!("{}/models/{which}", registry.host());
            docker[&repository] = json!([{"type": "sigstoreSigned", "keyPath": daemon.path(&file),
                                          "signedIdentity": {"type": "matchSubjectDigest"}}]);
            let path = format!("models/{which}");
            let digest = publish::artifact(&registry, &format!("{path}:1"), &FILES);
            publish::sign_by_referrer(&registry, &path, &digest, &key);
            names.push(format!("{repository}:1"));
        }
        daemon.policy(&json!({"default": [{"type": "reject"}], "transports": {"docker": docker}}));
        daemon.restart().await;
        let mut client = daemon.client().await;
        for name in &names {
            client.pull(name).await.unwrap();
        }
        let pod = client.pod("shop");
        let pod_id = client.run_pod(&pod).await.unwrap();
        for (name, of) in names.iter().zip(["first", "second"]) {
            let mut volume = mount(name, "/model", "");
            volume.image.as_mut().unwrap().user_specified_image.clone_from(name);
            let web = with_volume(&client, of, vec![volume]);
            client.run(&pod_id, &pod, &web).await.unwrap();
        }
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}
