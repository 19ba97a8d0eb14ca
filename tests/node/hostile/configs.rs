//! Image configs and user files: what an image says about how it wants to be run.

use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use super::Faults;
use super::Scene;
use super::edited;
use super::story;
use crate::images;
use crate::images::Entry;
use crate::images::Image;
use crate::images::Layer;
use crate::images::Tar;
use crate::publish;
use crate::support::host;
use crate::test_registry::Setup;

/// An image, and what must become of a container of it.
struct Case {
    name: &'static str,
    image: Image,
    end: End,
}

enum End {
    /// It is not created, for this reason.
    Refused(&'static str),
    /// It is created, and its runtime spec is as it should be.
    Created(fn(&Value)),
}

fn image(config: &Value, tar: Tar) -> Image {
    let mut config = config.clone();
    if config.get("Cmd").is_none() && config.get("Entrypoint").is_none() {
        config["Cmd"] = json!(["/bin/true"]);
    }
    let layers = vec![Layer::plain(images::busybox()), Layer::plain(tar.finish())];
    Image::with_config(layers, &config)
}

fn refused(name: &'static str, config: Value, words: &'static str) -> Case {
    Case { name, image: image(&config, Tar::new()), end: End::Refused(words) }
}

fn created(name: &'static str, config: Value, holds: fn(&Value)) -> Case {
    Case { name, image: image(&config, Tar::new()), end: End::Created(holds) }
}

fn with(tar: Tar, case: Case) -> Case {
    let config: Value = serde_json::from_slice(&case.image.config).unwrap();
    Case { image: image(&config["config"], tar), ..case }
}

fn fifo(path: &str) -> Tar {
    Tar::new().entry(&Entry { path: path.as_bytes(), kind: b'6', ..Entry::default() })
}

fn disk(path: &str) -> Tar {
    let device = (1, 5);
    Tar::new().entry(&Entry { path: path.as_bytes(), kind: b'3', device, ..Entry::default() })
}

fn nothing(_: &Value) {}

fn users(canary: &str) -> Vec<Case> {
    let line = "x".repeat(2 << 20);
    let passwd = || created("", json!({}), nothing);
    let named = |name, tar, case: Case| with(tar, Case { name, ..case });
    let unread = || refused("", json!({}), "etc/passwd");
    vec![
        refused("is-a-user-that-wraps-to-root", json!({ "User": "4294967296" }), "highest id"),
        refused("is-the-user-minus-one", json!({ "User": "-1" }), "highest id"),
        refused("is-the-user-that-means-leave-it", json!({ "User": "4294967295" }), "highest id"),
        refused(
            "has-a-group-that-wraps-to-root",
            json!({ "User": "1000:4294967296" }),
            "highest id",
        ),
        refused("is-a-user-that-is-not-there", json!({ "User": "nobody-here" }), "no user"),
        refused("is-a-user-with-a-line-break", json!({ "User": "a\nroot::0:0:::" }), "no user"),
        created("is-a-user-with-a-sign", json!({ "User": "+4711" }), |spec| {
            assert_eq!(spec["process"]["user"]["uid"], 4711);
        }),
        named("has-a-huge-passwd", Tar::new().file("etc/passwd", 0o644, line.as_bytes()), unread()),
        named("has-a-passwd-that-blocks", fifo("etc/passwd"), unread()),
        named("has-a-group-that-blocks", fifo("etc/group"), refused("", json!({}), "etc/group")),
        named("has-a-passwd-without-end", disk("etc/passwd"), unread()),
        named("has-a-passwd-that-is-a-directory", Tar::new().dir("etc/passwd/", 0o755), unread()),
        // Resolved in the image, where the target is not: as if there were none.
        named(
            "has-a-passwd-of-the-node",
            Tar::new().link("etc/passwd", &format!("{canary}/secret")),
            passwd(),
        ),
        named(
            "has-an-etc-of-the-node",
            Tar::new().link("etc/group", "/proc/1/root/etc/group"),
            passwd(),
        ),
        named(
            "gives-a-number-as-a-name",
            Tar::new().file("etc/passwd", 0o644, b"1000:x:0:0::/:/bin/sh\n"),
            created("", json!({ "User": "1000" }), |spec| {
                assert_eq!(spec["process"]["user"]["uid"], 1000);
            }),
        ),
    ]
}

fn places(canary: &str) -> Vec<Case> {
    let up = format!("/../../../../../../../..{canary}/volume");
    let volumes: serde_json::Map<_, _> = (0..1000).map(|n| (format!("/v{n}"), json!({}))).collect();
    let through = json!({ "Volumes": { "/l/volume": {} } });
    vec![
        created("has-a-volume-that-climbs", json!({ "Volumes": { up: {} } }), nothing),
        with(
            Tar::new().link("l", canary),
            refused("has-a-volume-through-a-link", through, "volume"),
        ),
        refused("has-a-thousand-volumes", json!({ "Volumes": volumes }), "volumes"),
        refused(
            "starts-in-a-descriptor",
            json!({ "WorkingDir": "/proc/self/fd/8" }),
            "leads into a process",
        ),
        refused(
            "starts-in-a-climbing-descriptor",
            json!({ "WorkingDir": "/a/../proc/self/fd/8" }),
            "leads into a process",
        ),
        refused("starts-in-a-line-break", json!({ "WorkingDir": "/a\n/b" }), "control character"),
        with(
            Tar::new().link("l", canary),
            refused(
                "starts-in-a-link-to-the-node",
                json!({ "WorkingDir": "/l" }),
                "did not create",
            ),
        ),
        created("starts-above-the-root", json!({ "WorkingDir": "/../../etc" }), |spec| {
            assert_eq!(spec["process"]["cwd"], "/etc");
        }),
    ]
}

fn texts() -> Vec<Case> {
    vec![
        refused(
            "has-a-home-with-a-line-break",
            json!({ "User": "4711", "Env": ["HOME=/\nroot::0:0::/:/bin/sh"] }),
            "control character",
        ),
        created(
            "has-a-home-with-a-colon",
            json!({ "User": "4711", "Env": ["HOME=/:/bin/sh"] }),
            nothing,
        ),
        refused("has-a-zero-in-its-environment", json!({ "Env": ["A=b\u{0}C=d"] }), "NUL"),
        refused("has-a-zero-in-its-command", json!({ "Entrypoint": ["/bin/true\u{0}"] }), "NUL"),
        refused("has-no-command", json!({ "Cmd": [], "Entrypoint": [] }), "no command"),
        refused("has-an-empty-command", json!({ "Cmd": [""] }), "no command"),
        created(
            "has-an-environment-without-names",
            json!({ "Env": ["", "=x", "noname", "A=1"] }),
            |spec| {
                let env = spec["process"]["env"].as_array().unwrap();
                assert!(env.contains(&json!("A=1")) && !env.contains(&json!("=x")), "{env:?}");
            },
        ),
        created(
            "has-a-stop-signal-that-is-a-command",
            json!({ "StopSignal": "KILL; rm -rf /" }),
            nothing,
        ),
        created(
            "has-labels-with-escapes",
            json!({ "Labels": { "a\u{1b}[2J\n": "b\nlevel=error x\u{0}" } }),
            not_of_the_image,
        ),
        created("has-labels-of-the-runtime", json!({ "Labels": smuggled() }), not_of_the_image),
    ]
}

/// Annotations that mean something to a runtime, a monitor or this daemon.
fn smuggled() -> Value {
    json!({
        "io.kubernetes.cri-o.userns-mode": "auto",
        "io.kubernetes.cri-o.Devices": "/dev/sda:/dev/sda:rwm",
        "io.kubernetes.cri-o.TrySkipVolumeSELinuxLabel": "true",
        "io.kubernetes.cri-o.ContainerID": "evil",
        "io.kubernetes.container.name": "evil",
        "run.oci.keep_original_groups": "1",
        "run.oci.systemd.force_cgroup_v1": "/sys/fs/cgroup",
        "cdi.k8s.io/evil": "vendor.example/class=device",
        "org.systemd.property.ExecStart": "'/bin/evil'",
        "module.wasm.image/variant": "compat",
        "containerd.io/evil": "x",
    })
}

/// Nothing that an image says of itself is an annotation of its container (CVE-2026-53488).
fn not_of_the_image(spec: &Value) {
    let annotations = spec["annotations"].as_object().unwrap();
    for (key, value) in annotations {
        assert!(!value.as_str().unwrap().contains("evil"), "{key}: {value}");
        assert!(!key.chars().any(char::is_control), "{key:?}");
        for word in ["cdi.k8s.io", "run.oci", "org.systemd", "userns-mode", "Devices", "wasm"] {
            assert!(!key.contains(word), "{key}: {value}");
        }
    }
}

#[test]
fn no_config_reaches_the_node() {
    story(|| async {
        let mut scene = Scene::new(Setup::default()).await;
        let canary = scene.canary();
        let mut cases = users(&canary);
        cases.extend(places(&canary));
        cases.extend(texts());
        // The same labels, said by the manifest.
        let mut annotated = created("has-annotations-of-the-runtime", json!({}), not_of_the_image);
        annotated.image.manifest =
            edited(&annotated.image.manifest, |it| it["annotations"] = smuggled());
        cases.push(annotated);
        let pod = scene.client.pod("hostile");
        let pod_id = scene.client.run_pod(&pod).await.unwrap();
        let before = scene.daemon.leftovers();
        let mut faults = Faults::default();
        for Case { name, image, end } in cases {
            publish::image(&scene.registry, &format!("configs/{name}:1"), &image);
            let reference = scene.name(&format!("configs/{name}:1"));
            scene.client.pull(&reference).await.unwrap_or_else(|status| panic!("{name}: {status}"));
            let container = scene.client.container(name, &reference, &[]);
            let answer = scene.client.create(&pod_id, &pod, &container).await;
            faults.check(name, || match (end, &answer) {
                (End::Refused(words), Err(status)) => {
                    let message = status.message();
                    assert!(message.contains(words), "{message}");
                    assert!(!message.chars().any(char::is_control), "{message:?}");
                }
                (End::Created(holds), Ok(id)) => {
                    holds(&spec(&scene, id));
                    assert_accounts(&scene, id);
                }
                (End::Refused(_), Ok(_)) => panic!("it was created"),
                (End::Created(_), Err(status)) => panic!("{status}"),
            });
            if let Ok(id) = answer {
                scene.client.remove(&id).await.unwrap();
            }
            scene.client.remove_image(&reference).await.unwrap();
            faults.check(name, || {
                let leaves = || scene.daemon.leftovers() == before;
                host::eventually("nothing of it", Duration::from_secs(5), leaves);
                scene.daemon.holds_nothing();
                scene.assert_untouched(name);
            });
        }
        faults.none();
        assert!(!scene.daemon.log().contains("\nlevel=error x"));
        scene.client.remove_pod(&pod_id).await.unwrap();
        scene.finish().await;
    });
}

fn spec(scene: &Scene, id: &str) -> Value {
    let path = scene.daemon.path("storage-run/overlay-containers").join(id).join("userdata");
    serde_json::from_slice(&std::fs::read(path.join("config.json")).unwrap()).unwrap()
}

/// The account files that were made for a container have whole lines, and one root at most.
fn assert_accounts(scene: &Scene, id: &str) {
    let bundle = scene.daemon.path("storage-run/overlay-containers").join(id).join("userdata");
    let Ok(text) = std::fs::read_to_string(bundle.join("passwd")) else { return };
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(':').collect()).collect();
    assert!(lines.iter().all(|fields| fields.len() == 7), "{text}");
    assert!(lines.iter().filter(|fields| fields[2] == "0").count() <= 1, "{text}");
    assert!(!text.lines().any(|line| line.starts_with(['+', '-'])), "{text}");
}

#[test]
fn a_path_within_a_volume_image_stays_within_it() {
    use crioxide::cri::api;

    story(|| async {
        let mut scene = Scene::new(Setup::default()).await;
        let canary = scene.canary();
        let main = image(&json!({}), Tar::new());
        publish::image(&scene.registry, "main:1", &main);
        let tar = Tar::new().dir("d/", 0o755).link("l", &canary);
        let volume = image(&json!({}), tar.file("file", 0o644, b"x"));
        publish::image(&scene.registry, "volume:1", &volume);
        let (main, volume) = (scene.name("main:1"), scene.name("volume:1"));
        scene.client.pull(&main).await.unwrap();
        scene.client.pull(&volume).await.unwrap();
        let pod = scene.client.pod("hostile");
        let pod_id = scene.client.run_pod(&pod).await.unwrap();
        for within in ["..", "d/../../..", "/", "/etc", "l", "l/secret", "nothing", "d\n"] {
            let mut container = scene.client.container("c", &main, &[]);
            container.mounts = vec![api::Mount {
                container_path: "/vol".to_owned(),
                image: Some(api::ImageSpec { image: volume.clone(), ..Default::default() }),
                image_sub_path: within.to_owned(),
                readonly: true,
                ..Default::default()
            }];
            let answer = scene.client.create(&pod_id, &pod, &container).await;
            let Err(status) = answer else { panic!("{within} was mounted") };
            assert!(!status.message().chars().any(char::is_control), "{status:?}");
            scene.assert_untouched(within);
        }
        scene.client.remove_pod(&pod_id).await.unwrap();
        for name in [main, volume] {
            scene.client.remove_image(&name).await.unwrap();
        }
        scene.finish().await;
    });
}
