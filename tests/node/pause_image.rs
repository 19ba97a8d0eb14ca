//! A pod's own process from the configured pause image: what it is and has, who sees it, what the
//! policy says of it, and that nothing stays of it.

use std::path::Path;
use std::time::Duration;

use crioxide::cri::api;
use crioxide::cri::api::NamespaceMode;
use crioxide::cri::api::PodSandboxState;
use serde_json::Value;
use serde_json::json;
use tonic::Code;

use crate::images;
use crate::images::Image;
use crate::images::Layer;
use crate::images::Tar;
use crate::publish;
use crate::scene;
use crate::scene::refused;
use crate::scene::said;
use crate::scene::script;
use crate::support::client::Client;
use crate::support::daemon::Daemon;
use crate::support::host;
use crate::support::net;
use crate::test_registry::Guard;
use crate::test_registry::Setup;
use crate::test_registry::TestRegistry;

const PAUSE: &str = "example.test/pause:1";
const CONFIG: &str = "[crio.image]\npause_image = \"example.test/pause:1\"\n";
/// The image where nobody sets another.
const DEFAULT: &str = "registry.k8s.io/pause:3.10.1";
/// What the kernel calls the built-in process.
const BUILT_IN: &str = "pause\n";

/// An image that waits, as a pause image does.
fn image() -> Image {
    let waits = b"#!/bin/sh\nwhile :; do /bin/busybox sleep 1000; done\n";
    let program = Tar::new().file("pause", 0o755, waits).finish();
    let layers = vec![Layer::plain(images::busybox()), Layer::plain(program)];
    let config = json!({"Entrypoint": ["/pause", "entrypoint"], "User": "65535:65535",
        "Volumes": {"/data": {}}});
    Image::with_config(layers, &config)
}

fn prepare(daemon: &Daemon) {
    daemon.config(CONFIG);
    scene::bring(daemon, PAUSE, &image());
}

/// What `crictl inspectp` shows of a pod.
async fn info(client: &mut Client, id: &str) -> Value {
    let request = api::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: true };
    let answer = client.runtime.pod_sandbox_status(request).await.unwrap().into_inner();
    serde_json::from_str(&answer.info["info"]).unwrap()
}

fn pid(info: &Value) -> i32 {
    i32::try_from(info["pid"].as_i64().unwrap()).unwrap()
}

fn proc(pid: i32, file: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    text.replace('\0', " ").trim_end().to_owned()
}

fn field(pid: i32, key: &str) -> String {
    let text = proc(pid, "status");
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(":\t"));
    line.unwrap().replace('\t', " ")
}

/// The containers that runc knows of.
fn of_runtime(daemon: &Daemon) -> String {
    let root = daemon.path("runc").display().to_string();
    host::run("runc", &["--root", &root, "list", "-q"])
}

fn apart(mut pod: api::PodSandboxConfig) -> api::PodSandboxConfig {
    let options =
        api::NamespaceOption { pid: NamespaceMode::Container.into(), ..Default::default() };
    pod.linux.as_mut().unwrap().security_context = Some(api::LinuxSandboxSecurityContext {
        namespace_options: Some(options),
        ..Default::default()
    });
    pod
}

/// The program of the image, with no power and no other user than the image's.
#[track_caller]
fn has_no_powers(pid: i32) {
    assert_eq!(proc(pid, "cmdline"), "/bin/sh /pause");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(field(pid, set), "0000000000000000", "{set}");
    }
    assert_eq!((field(pid, "NoNewPrivs"), field(pid, "Seccomp")), ("1".into(), "2".into()));
    assert_eq!(field(pid, "Uid"), "65535 65535 65535 65535");
}

#[test]
fn the_first_process_of_a_pod_is_that_of_the_pause_image_and_no_client_sees_a_container() {
    scene::prepared(
        &[],
        |daemon| prepare(daemon),
        |mut daemon, mut client| async move {
            let pod = client.pod("shop");
            let id = client.run_pod(&pod).await.unwrap();
            let web = client.run(&id, &pod, &script(&client, "web", "sleep 600")).await.unwrap();
            let first = "tr '\\0' ' ' < /proc/1/cmdline";
            assert_eq!(said(&mut client, &web, first).await, "/bin/sh /pause");

            let shown = info(&mut client, &id).await;
            let own = pid(&shown);
            assert_eq!(shown["image"], PAUSE);
            let spec = &shown["runtimeSpec"];
            assert_eq!(spec["annotations"]["io.kubernetes.cri-o.ContainerType"], "sandbox");
            assert_eq!(spec["annotations"]["io.kubernetes.container.name"], "POD");
            assert_eq!(spec["root"]["readonly"], true);
            let mounts = spec["mounts"].to_string();
            assert!(!mounts.contains("/data"), "{mounts}");
            has_no_powers(own);
            assert!(proc(own, "cgroup").contains(&format!("crio-{id}")));
            for kind in ["net", "ipc", "uts"] {
                let of = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
                let of_web = of(scene::pid_of(&mut client, &web).await);
                assert_eq!(of(own), of_web, "{kind}");
            }

            // The runtime knows it by the pod's id; clients do not know it.
            assert!(of_runtime(&daemon).contains(&id));
            let seen = client.containers().await.unwrap();
            assert_eq!(seen.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), [web.as_str()]);
            refused(client.status(&id).await, Code::NotFound);
            client.stop(&id, 0).await.unwrap();
            client.remove(&id).await.unwrap();
            refused(client.exec(&id, &["/bin/sh"]).await, Code::NotFound);
            let stats = api::ListContainerStatsRequest::default();
            let stats =
                client.runtime.list_container_stats(stats).await.unwrap().into_inner().stats;
            assert_eq!(stats.len(), 1);
            assert_eq!(pid(&info(&mut client, &id).await), own);
            client.remove_image(PAUSE).await.expect_err("it is in use");

            for crash in [true, false] {
                if crash {
                    daemon.kill().await;
                } else {
                    daemon.stop().await;
                }
                daemon.start().await;
                client = daemon.client().await;
                assert_eq!(info(&mut client, &id).await["pid"], own);
                let status = client.pod_status(&id).await.unwrap();
                assert_eq!(status.state(), PodSandboxState::SandboxReady);
                assert_eq!(client.containers().await.unwrap().len(), 1);
            }

            client.stop_pod(&id).await.unwrap();
            assert!(!Path::new(&format!("/proc/{own}/ns/pid")).exists());
            scene::until("runc forgets it", || !of_runtime(&daemon).contains(&id)).await;
            client.remove_pod(&id).await.unwrap();
            scene::unchanged(&daemon, &[], "removed").await;
            client.remove_image(PAUSE).await.unwrap();
            daemon
        },
    );
}

#[test]
fn without_the_pause_image_on_the_node_the_built_in_process_serves() {
    scene::story(&[], |daemon, mut client| async move {
        let id = client.run_pod(&client.pod("shop")).await.unwrap();
        let own = pid(&info(&mut client, &id).await);
        assert_eq!(std::fs::read_to_string(format!("/proc/{own}/comm")).unwrap(), BUILT_IN);
        assert!(!of_runtime(&daemon).contains(&id));
        client.remove_pod(&id).await.unwrap();
        daemon
    });
}

#[test]
fn a_pod_that_shares_no_processes_has_one_of_its_own_where_none_is_to_be_dropped() {
    let keep = |daemon: &mut Daemon| {
        daemon
            .config("[crio.runtime]\ndrop_infra_ctr = false\n[crio.image]\npause_command = \"\"\n");
        scene::bring(daemon, DEFAULT, &image());
    };
    scene::prepared(&[], keep, |daemon, mut client| async move {
        let pod = apart(client.pod("shop"));
        let id = client.run_pod(&pod).await.unwrap();
        let own = pid(&info(&mut client, &id).await);
        // The runtime has told it to begin; a kernel that is busy lets it begin later.
        scene::until("its program runs", || proc(own, "cmdline") == "/bin/sh /pause entrypoint")
            .await;
        let mut web = script(&client, "web", "sleep 600");
        let options =
            api::NamespaceOption { pid: NamespaceMode::Container.into(), ..Default::default() };
        web.linux.as_mut().unwrap().security_context = Some(api::LinuxContainerSecurityContext {
            namespace_options: Some(options),
            ..Default::default()
        });
        let web = client.run(&id, &pod, &web).await.unwrap();
        let first = "tr '\\0' ' ' < /proc/1/cmdline";
        assert!(!said(&mut client, &web, first).await.contains("pause"));
        client.remove_pod(&id).await.unwrap();
        scene::unchanged(&daemon, &[], "removed").await;

        client.remove_image(DEFAULT).await.unwrap();
        let id = client.run_pod(&pod).await.unwrap();
        let own = pid(&info(&mut client, &id).await);
        assert_eq!(std::fs::read_to_string(format!("/proc/{own}/comm")).unwrap(), BUILT_IN);
        client.remove_pod(&id).await.unwrap();
        daemon
    });
}

#[test]
fn a_pause_image_that_the_policy_refuses_does_not_run_and_nothing_runs_in_its_place() {
    scene::prepared(
        &["RunPodSandbox"],
        |daemon| prepare(daemon),
        |daemon, mut client| async move {
            let accept = json!([{"type": "insecureAcceptAnything"}]);
            let but = json!({"docker": {PAUSE: [{"type": "reject"}]}});
            daemon.policy(&json!({"default": accept, "transports": but}));
            let pod = client.pod("shop");
            let told = client.run_pod(&pod).await.expect_err("a refusal");
            let words = told.message();
            assert!(words.contains("pause image example.test/pause:1"), "{words}");
            assert!(words.contains("reject"), "{words}");
            assert!(client.pods().await.unwrap().is_empty());
            scene::unchanged(&daemon, &[], "refused").await;
            let last = daemon.audit().pop().unwrap();
            assert_eq!(last["container"], "POD", "{last}");
            // One that needs no process of its own needs no pause image.
            let id = client.run_pod(&apart(client.pod("apart"))).await.unwrap();
            client.remove_pod(&id).await.unwrap();

            daemon.policy(&json!({"default": accept}));
            let id = client.run_pod(&pod).await.unwrap();
            // What ran already goes on; the next is refused.
            daemon.namespace_policy("default", &json!({"default": [{"type": "reject"}]}));
            client.run_pod(&client.pod("next")).await.expect_err("a refusal");
            client.remove_pod(&id).await.unwrap();
            daemon
        },
    );
}

#[test]
fn a_pause_image_that_somebody_set_is_pulled_with_its_own_credentials_or_there_is_no_pod() {
    if !host::can(&["root", "cni", "runc", "conmon", "ip", "skopeo"]) {
        return;
    }
    net::in_own_network(|| async {
        let guard = Guard::Basic("me", "secret");
        let registry = TestRegistry::with(Setup { guard, ..Setup::default() }).await;
        let mut daemon = Daemon::new();
        daemon.registries(&publish::insecure(&[&registry]));
        let name = format!("{}/pause:1", registry.host());
        let auth = daemon.path("auth.json");
        daemon.config(&format!(
            "[crio.image]\npause_image = {name:?}\npause_image_auth_file = {auth:?}\n"
        ));
        daemon.start().await;
        let mut client = daemon.client().await;
        let pod = client.pod("shop");
        let refusal = |told: tonic::Status| {
            assert!(told.message().contains("pull the pause image"), "{told}");
            assert!(told.message().contains(&name), "{told}");
            assert!(!told.message().contains("secret"), "{told}");
        };
        let auths = json!({"auths": {registry.host(): {"auth": "bWU6c2VjcmV0"}}});
        refusal(client.run_pod(&pod).await.expect_err("no credentials"));
        daemon.write("auth.json", &auths.to_string());
        refusal(client.run_pod(&pod).await.expect_err("no image"));
        publish::image(&registry, "pause:1", &image());
        daemon.namespace_policy("default", &json!({"default": [{"type": "reject"}]}));
        refusal(client.run_pod(&pod).await.expect_err("no permission"));
        assert!(registry.asked("/blobs/").is_empty(), "nothing of a refused image is fetched");
        assert!(client.pods().await.unwrap().is_empty());
        scene::unchanged(&daemon, &[], "refused").await;

        daemon
            .namespace_policy("default", &json!({"default": [{"type": "insecureAcceptAnything"}]}));
        let id = client.run_pod(&pod).await.unwrap();
        let shown = info(&mut client, &id).await;
        assert_eq!(shown["image"], name);
        assert_eq!(proc(pid(&shown), "cmdline"), "/bin/sh /pause");
        let asked = registry.seen().len();
        let next = client.run_pod(&client.pod("next")).await.unwrap();
        assert_eq!(registry.seen().len(), asked, "it is here already");
        for id in [id, next] {
            client.remove_pod(&id).await.unwrap();
        }
        daemon.finish().await;
    });
}

#[test]
fn a_pause_image_without_its_program_is_refused_and_leaves_nothing() {
    let broken = |daemon: &mut Daemon| {
        daemon.config("[crio.image]\npause_command = \"/no/such\"\n");
        prepare(daemon);
    };
    scene::prepared(&["RunPodSandbox"], broken, |daemon, mut client| async move {
        let told = client.run_pod(&client.pod("shop")).await.expect_err("a refusal");
        assert!(told.message().contains("/no/such"), "{told}");
        assert!(client.pods().await.unwrap().is_empty());
        scene::unchanged(&daemon, &[], "refused").await;
        daemon
    });
}

#[test]
fn a_pod_whose_pause_container_was_killed_is_not_ready() {
    scene::prepared(
        &[],
        |daemon| prepare(daemon),
        |daemon, mut client| async move {
            let id = client.run_pod(&client.pod("shop")).await.unwrap();
            scene::kill(pid(&info(&mut client, &id).await));
            let mut state = PodSandboxState::SandboxReady;
            for _ in 0..100 {
                state = client.pod_status(&id).await.unwrap().state();
                if state == PodSandboxState::SandboxNotready {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            assert_eq!(state, PodSandboxState::SandboxNotready);
            client.remove_pod(&id).await.unwrap();
            scene::unchanged(&daemon, &[], "removed").await;
            daemon
        },
    );
}

#[test]
fn a_pod_with_users_of_its_own_has_them_for_its_pause_container_too() {
    scene::prepared(
        &[],
        |daemon| prepare(daemon),
        |daemon, mut client| async move {
            let mut pod = client.pod("shop");
            let map = api::IdMapping { host_id: 200_000, container_id: 0, length: 65_536 };
            let users = api::UserNamespace {
                mode: NamespaceMode::Pod.into(),
                uids: vec![map],
                gids: vec![map],
            };
            pod.linux.as_mut().unwrap().security_context = Some(api::LinuxSandboxSecurityContext {
                namespace_options: Some(api::NamespaceOption {
                    userns_options: Some(users),
                    ..Default::default()
                }),
                ..Default::default()
            });
            let id = client.run_pod(&pod).await.unwrap();
            let own = pid(&info(&mut client, &id).await);
            assert_eq!(field(own, "Uid"), "265535 265535 265535 265535");
            client.remove_pod(&id).await.unwrap();
            scene::unchanged(&daemon, &[], "removed").await;
            daemon
        },
    );
}

#[test]
fn a_pause_container_that_was_being_made_is_gone_after_a_crash() {
    scene::prepared(
        &[],
        |daemon| prepare(daemon),
        |mut daemon, mut client| async move {
            let pod = client.pod("shop");
            let begun = std::time::Instant::now();
            let id = client.run_pod(&pod).await.unwrap();
            let took = begun.elapsed();
            client.remove_pod(&id).await.unwrap();
            for step in 0..12 {
                let moment = (took + Duration::from_millis(20)) * step / 12;
                let (mut other, asked) = (client.clone(), pod.clone());
                let request = tokio::spawn(async move { other.run_pod(&asked).await });
                tokio::time::sleep(moment).await;
                daemon.kill().await;
                daemon.start().await;
                client = daemon.client().await;
                let answered = request.await.unwrap().ok();
                let pods = client.pods().await.unwrap();
                assert!(pods.iter().all(|pod| pod.state() == PodSandboxState::SandboxReady));
                assert!(answered.is_none_or(|id| pods.len() == 1 && pods[0].id == id));
                if pods.is_empty() {
                    scene::unchanged(&daemon, &[], &format!("cut after {moment:?}")).await;
                }
                let id = client.run_pod(&pod).await.unwrap();
                client.remove_pod(&id).await.unwrap();
                scene::unchanged(&daemon, &[], "removed").await;
            }
            daemon
        },
    );
}
