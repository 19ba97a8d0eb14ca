//! Images as volumes: what a container sees of them, who may have them, and when they go.

use std::path::Path;

use crioxide::cri::api;
use serde_json::json;
use tonic::Code;

use crate::images;
use crate::images::Image;
use crate::images::Layer;
use crate::images::Tar;
use crate::scene;
use crate::scene::refused;
use crate::scene::said;
use crate::scene::script;
use crate::scene::until;
use crate::support::client::Client;
use crate::support::daemon::Daemon;

const VOLUME: &str = "example.test/volume:1";

/// Two layers, the upper one hiding a file of the lower one; and links that lead everywhere.
fn volume() -> Image {
    let busybox = std::fs::read("/bin/busybox").unwrap();
    let lower = Tar::new()
        .dir("data/", 0o755)
        .file("data/model", 0o644, b"weights")
        .file("data/old", 0o644, b"old")
        .dir("etc/", 0o755)
        .file("etc/hostname", 0o644, b"of the image\n")
        .file("busybox", 0o755, &busybox);
    let upper = Tar::new()
        .file("data/.wh.old", 0o644, b"")
        .link("climb", "../../../../../etc")
        .link("absolute", "/etc")
        .link("proc", "/proc/self/root")
        .link("nowhere", "/nothing");
    let layers = vec![Layer::plain(lower.finish()), Layer::gzip(upper.finish())];
    Image::with_config(layers, &json!({}))
}

fn mount(at: &str, sub_path: &str) -> api::Mount {
    api::Mount {
        container_path: at.to_owned(),
        image: Some(api::ImageSpec { image: VOLUME.to_owned(), ..Default::default() }),
        image_sub_path: sub_path.to_owned(),
        readonly: true,
        ..Default::default()
    }
}

fn with_volume(client: &Client, name: &str, mounts: Vec<api::Mount>) -> api::ContainerConfig {
    api::ContainerConfig { mounts, ..script(client, name, "sleep 600") }
}

/// The mounts of images as volumes on the node.
fn mounted(daemon: &Daemon) -> Vec<String> {
    let overlay = daemon.path("storage/overlay");
    let table = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    let ours = |line: &&str| line.contains(overlay.to_str().unwrap()) && !line.contains("upperdir");
    let ours = table.lines().filter(ours).filter(|line| line.contains("lowerdir"));
    ours.map(str::to_owned).collect()
}

#[test]
fn an_image_is_mounted_to_be_read_and_goes_with_its_last_container() {
    scene::story(&[], |daemon, mut client| async move {
        scene::bring(&daemon, VOLUME, &volume());
        let pod = client.pod("shop");
        let pod_id = client.run_pod(&pod).await.unwrap();
        let before = scene::kept(&daemon);
        let volumes = vec![mount("/vol", ""), mount("/sub", "data"), mount("/file", "data/model")];
        let first = with_volume(&client, "first", volumes);
        let first = client.run(&pod_id, &pod, &first).await.unwrap();
        let text = "cat /vol/data/model /sub/model /file; ls /vol/data; /vol/busybox echo runs";
        assert_eq!(said(&mut client, &first, text).await, "weightsweightsweightsmodel\nruns");
        for place in ["/vol/new", "/vol/data/model", "/sub/new", "/file"] {
            let ran = client.exec(&first, &["/bin/sh", "-c", &format!("echo x >> {place}")]).await;
            let ran = ran.unwrap();
            assert!(ran.code != 0 && ran.stderr.contains("Read-only"), "{place}: {}", ran.stderr);
        }
        // The kubelet reports the image of a volume from here.
        let image = client.image(VOLUME).await.unwrap().unwrap();
        let status = client.status(&first).await.unwrap();
        let sub = status.mounts.iter().find(|mount| mount.container_path == "/sub").unwrap();
        assert_eq!(sub.image_sub_path, "data");
        let of = sub.image.clone().unwrap();
        assert_eq!((of.image.as_str(), &of.image_ref), (VOLUME, &image.id));

        // One mount serves both, and is there until the second one goes.
        let second = with_volume(&client, "second", vec![mount("/vol", "")]);
        let second = client.run(&pod_id, &pod, &second).await.unwrap();
        assert_eq!(mounted(&daemon).len(), 1);
        let text = refused(client.remove_image(VOLUME).await, Code::FailedPrecondition);
        assert!(text.contains("in use by container"), "{text}");
        client.remove(&first).await.unwrap();
        assert_eq!(mounted(&daemon).len(), 1);
        assert_eq!(said(&mut client, &second, "cat /vol/data/model").await, "weights");
        refused(client.remove_image(VOLUME).await, Code::FailedPrecondition);
        client.remove(&second).await.unwrap();
        assert!(mounted(&daemon).is_empty());
        scene::unchanged(&daemon, &before, "volumes").await;
        client.remove_image(VOLUME).await.unwrap();
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

#[test]
fn a_sub_path_leads_nowhere_but_into_the_image() {
    scene::story(&[], |daemon, mut client| async move {
        scene::bring(&daemon, VOLUME, &volume());
        let pod = client.pod("shop");
        let pod_id = client.run_pod(&pod).await.unwrap();
        let before = scene::kept(&daemon);
        for sub_path in ["nothing", "data/old", "..", "data/../../etc", "/etc", "nowhere", "proc"] {
            let container = with_volume(&client, "web", vec![mount("/vol", sub_path)]);
            let made = client.create(&pod_id, &pod, &container).await;
            let text = refused(made, Code::Unknown);
            assert!(text.starts_with("ImageVolumeMountFailed: the volume at /vol: "), "{text}");
            assert!(text.contains(sub_path), "{text}");
        }
        assert!(mounted(&daemon).is_empty());
        scene::unchanged(&daemon, &before, "refused sub paths").await;
        // A link to /etc, however it is written, is the image's own /etc.
        let volumes = vec![mount("/climb", "climb"), mount("/absolute", "absolute")];
        let container = with_volume(&client, "web", volumes);
        let id = client.run(&pod_id, &pod, &container).await.unwrap();
        let text = said(&mut client, &id, "cat /climb/hostname; ls /absolute").await;
        assert_eq!(text, "of the image\nhostname");
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

#[test]
fn a_volume_that_is_not_there_or_says_two_things_is_refused() {
    scene::story(&[], |daemon, mut client| async move {
        let pod = client.pod("shop");
        let pod_id = client.run_pod(&pod).await.unwrap();
        let container = with_volume(&client, "web", vec![mount("/vol", "")]);
        let text = refused(client.create(&pod_id, &pod, &container).await, Code::Unknown);
        assert!(text.starts_with("ImageVolumeMountFailed: "), "{text}");
        assert!(text.contains(VOLUME) && text.contains("pull it first"), "{text}");
        let both = api::Mount { host_path: "/etc".to_owned(), ..mount("/vol", "") };
        let container = with_volume(&client, "web", vec![both]);
        refused(client.create(&pod_id, &pod, &container).await, Code::InvalidArgument);
        // It would run something else than the image that was judged.
        scene::bring(&daemon, VOLUME, &volume());
        for place in ["/", "/proc", "/proc/self"] {
            let container = with_volume(&client, "web", vec![mount(place, "")]);
            let made = client.create(&pod_id, &pod, &container).await;
            refused(made, Code::InvalidArgument);
        }
        assert!(mounted(&daemon).is_empty());
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

#[test]
fn an_image_that_was_allowed_when_it_was_pulled_is_judged_again_as_a_volume() {
    scene::story(&[], |daemon, mut client| async move {
        scene::bring(&daemon, VOLUME, &volume());
        let pod = client.pod("shop");
        let pod_id = client.run_pod(&pod).await.unwrap();
        let accept = json!([{"type": "insecureAcceptAnything"}]);
        let policy = json!({
            "default": [{"type": "reject"}],
            "transports": {"docker": {"example.test/busybox": accept}},
        });
        daemon.namespace_policy("default", &policy);
        let container = with_volume(&client, "web", vec![mount("/vol", "")]);
        let text = refused(client.create(&pod_id, &pod, &container).await, Code::Unknown);
        assert!(text.starts_with("ImageVolumeMountFailed: "), "{text}");
        assert!(text.contains("policies/default.json"), "{text}");
        // Another name that is allowed does not vouch for it.
        let mut lent = mount("/vol", "");
        lent.image.as_mut().unwrap().user_specified_image = scene::IMAGE.to_owned();
        let container = with_volume(&client, "web", vec![lent]);
        refused(client.create(&pod_id, &pod, &container).await, Code::Unknown);
        assert!(mounted(&daemon).is_empty());
        let both = json!({"example.test/busybox": accept, "example.test/volume": accept});
        let policy = json!({"default": [{"type": "reject"}], "transports": {"docker": both}});
        daemon.namespace_policy("default", &policy);
        let container = with_volume(&client, "web", vec![mount("/vol", "")]);
        client.run(&pod_id, &pod, &container).await.unwrap();
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

#[test]
fn volumes_outlive_the_daemon_and_are_let_go_after_a_crash() {
    scene::story(&[], |mut daemon, mut client| async move {
        scene::bring(&daemon, VOLUME, &volume());
        let pod = client.pod("shop");
        let pod_id = client.run_pod(&pod).await.unwrap();
        let container = with_volume(&client, "web", vec![mount("/vol", "")]);
        let id = client.run(&pod_id, &pod, &container).await.unwrap();
        daemon.kill().await;
        // A container of the dead daemon that is not known any more, as after a cut create.
        let users = daemon.path("storage-run/crioxide/image-volumes");
        let image = std::fs::read_dir(&users).unwrap().next().unwrap().unwrap().path();
        std::fs::File::create(image.join("f".repeat(64))).unwrap();
        daemon.start().await;
        let mut client = daemon.client().await;
        assert!(!image.join("f".repeat(64)).exists());
        assert_eq!(said(&mut client, &id, "cat /vol/data/model").await, "weights");
        refused(client.remove_image(VOLUME).await, Code::FailedPrecondition);
        client.remove_pod(&pod_id).await.unwrap();
        until("no mount", || mounted(&daemon).is_empty()).await;
        assert!(std::fs::read_dir(&users).unwrap().next().is_none());
        client.remove_image(VOLUME).await.unwrap();
        daemon
    });
}

#[test]
fn one_image_for_many_containers_at_once_is_mounted_once() {
    scene::story(&[], |daemon, mut client| async move {
        let one = Image::with_config(vec![Layer::plain(images::busybox())], &json!({}));
        scene::bring(&daemon, VOLUME, &one);
        let pod = client.pod("shop");
        let pod_id = client.run_pod(&pod).await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..6 {
            let container = with_volume(&client, &format!("c{number}"), vec![mount("/vol", "")]);
            let (mut client, pod, pod_id) = (client.clone(), pod.clone(), pod_id.clone());
            tasks.spawn(async move { client.run(&pod_id, &pod, &container).await.unwrap() });
        }
        let ids = tasks.join_all().await;
        assert_eq!(mounted(&daemon).len(), 1);
        for id in &ids {
            assert_eq!(said(&mut client, id, "ls /vol/bin/busybox").await, "/vol/bin/busybox");
        }
        client.remove_pod(&pod_id).await.unwrap();
        assert!(mounted(&daemon).is_empty() && Path::new("/bin/busybox").exists());
        daemon
    });
}
