//! SIGHUP: what of a changed configuration holds at once, what waits, and that a fault changes nothing.

use std::time::Duration;

use crioxide::cri::api;
use crioxide::cri::api::NamespaceMode;
use serde_json::Value;
use serde_json::json;
use tonic::Code;

use crate::images::Image;
use crate::images::Layer;
use crate::images::Tar;
use crate::publish;
use crate::scene;
use crate::scene::refused;
use crate::scene::script;
use crate::support::client::Client;
use crate::support::daemon::Daemon;
use crate::support::host;
use crate::support::net;
use crate::test_registry::Fault;
use crate::test_registry::TestRegistry;

/// The drop-in that a story changes.
const FILE: &str = "crio.conf.d/50-changed.conf";
/// What a refusal is logged with.
const REFUSED: &str = "the configuration was not reloaded";

fn status(daemon: &Daemon, what: &str) -> String {
    let socket = daemon.socket();
    let output = daemon.crio(&["status", "--socket", socket.to_str().unwrap(), what]);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What `crictl info` shows of the daemon.
async fn info(client: &mut Client) -> Value {
    let answer = client.runtime.status(api::StatusRequest { verbose: true }).await.unwrap();
    serde_json::from_str(&answer.into_inner().info["config"]).unwrap()
}

async fn environment(client: &mut Client, id: &str) -> String {
    client.exec(id, &["/bin/env"]).await.unwrap().stdout
}

async fn pinned(client: &mut Client) -> bool {
    let images = client.images().await.unwrap();
    images.iter().find(|image| image.repo_tags == [scene::IMAGE]).unwrap().pinned
}

#[test]
fn a_new_log_level_holds_at_once_and_each_change_is_told_with_its_place() {
    scene::prepared(
        &[],
        |daemon| {
            daemon.without("--log-level");
            daemon.write(FILE, "[crio.runtime]\nlog_level = \"info\"\n");
        },
        |daemon, mut client| async move {
            client.pods().await.unwrap();
            assert!(!daemon.log().contains("level=debug"));
            daemon.write(FILE, "[crio.runtime]\n\nlog_level = \"debug\"\n");
            let said = daemon.reload().await;
            let change = said.lines().find(|line| line.contains("\"setting reloaded\"")).unwrap();
            let place = format!("source={}:3", daemon.path(FILE).display());
            for words in ["level=info", "key=crio.runtime.log_level", "debug", &place] {
                assert!(change.contains(words), "{words}: {change}");
            }
            client.pods().await.unwrap();
            scene::until("a debug line", || daemon.log().contains("level=debug")).await;

            // Only what the filter matches; the end of a reload is among it.
            daemon.write(FILE, "[crio.runtime]\nlog_filter = \"reloaded\"\n");
            daemon.reload().await;
            let before = daemon.log().len();
            client.pods().await.unwrap();
            daemon.reload().await;
            let after = daemon.log().split_off(before);
            assert_eq!(after.lines().count(), 1, "{after}");
            daemon
        },
    );
}

#[test]
fn a_flag_goes_before_a_file_also_when_it_is_read_again() {
    scene::story(&[], |daemon, mut client| async move {
        daemon.write(FILE, "[crio.runtime]\nlog_level = \"error\"\n");
        daemon.reload().await;
        let before = daemon.log().len();
        client.pods().await.unwrap();
        assert!(daemon.log().split_off(before).contains("level=debug"));
        daemon
    });
}

#[test]
fn a_fault_in_any_file_changes_nothing_and_is_told_with_file_line_and_key() {
    scene::story(&[REFUSED], |daemon, mut client| async move {
        assert!(!status(&daemon, "info").contains("reload"));
        let pin = format!("[crio.image]\npinned_images = [\"{}\"]\n", scene::IMAGE);
        daemon.write(FILE, &format!("{pin}[crio.runtime]\npids_limit = \"many\"\n"));
        let said = daemon.reload().await;
        let line = said.lines().find(|line| line.contains(REFUSED)).unwrap();
        let place = format!("{}:4: crio.runtime.pids_limit must be", daemon.path(FILE).display());
        assert!(line.contains("level=error") && line.contains(&place), "{line}");
        assert!(!pinned(&mut client).await);
        let shown = status(&daemon, "info");
        assert!(shown.contains(&format!("last reload refused: {place}")), "{shown}");
        assert!(!status(&daemon, "config").contains(scene::IMAGE));

        // No file may be wrong, also not one of registries, which are read at each pull.
        daemon.write(FILE, &pin);
        daemon.registries("[[registry]\n");
        let said = daemon.reload().await;
        assert!(said.contains(REFUSED) && said.contains("registries.conf"), "{said}");
        assert!(!pinned(&mut client).await);

        daemon.registries("");
        daemon.reload().await;
        assert!(pinned(&mut client).await);
        let shown = status(&daemon, "info");
        assert!(shown.contains("last reload: 2") && !shown.contains("refused"), "{shown}");
        assert!(status(&daemon, "config").contains(scene::IMAGE));
        daemon
    });
}

#[test]
fn a_key_that_needs_a_restart_is_named_and_has_its_old_value_until_then() {
    scene::story(&[], |mut daemon, mut client| async move {
        let text = "[crio.api]\nstream_port = \"10010\"\n[crio.image]\npinned_images = [\"a\"]\n";
        daemon.write(FILE, text);
        let said = daemon.reload().await;
        let line = said.lines().find(|line| line.contains("needs a restart")).unwrap();
        let words = ["level=warning", "key=crio.api.stream_port", "10010", ":2"];
        assert!(words.iter().all(|word| line.contains(word)), "{line}");
        let shown = status(&daemon, "info");
        assert!(shown.contains("needs a restart: crio.api.stream_port\n"), "{shown}");
        assert_eq!(info(&mut client).await["reload"]["needsRestart"][0], "crio.api.stream_port");
        assert!(status(&daemon, "config").contains("\nstream_port = \"0\"\n"));
        daemon.restart().await;
        assert!(status(&daemon, "config").contains("\nstream_port = \"10010\"\n"));
        assert!(!status(&daemon, "info").contains("restart"));
        daemon
    });
}

#[test]
fn new_containers_get_the_new_defaults_and_running_ones_keep_theirs() {
    scene::story(&[], |daemon, mut client| async move {
        daemon.write(FILE, "[crio.runtime]\ndefault_env = [\"NODE=old\"]\n");
        daemon.reload().await;
        let pod = client.pod("shop");
        let id = client.run_pod(&pod).await.unwrap();
        let old = client.run(&id, &pod, &script(&client, "old", "sleep 600")).await.unwrap();
        daemon.write(FILE, "[crio.runtime]\ndefault_env = [\"NODE=new\"]\n");
        let said = daemon.reload().await;
        // A list can hold what a log must not.
        assert!(said.contains("key=crio.runtime.default_env") && !said.contains("NODE="), "{said}");
        let new = client.run(&id, &pod, &script(&client, "new", "sleep 600")).await.unwrap();
        assert!(environment(&mut client, &old).await.contains("NODE=old\n"));
        assert!(environment(&mut client, &new).await.contains("NODE=new\n"));
        client.remove_pod(&id).await.unwrap();
        daemon
    });
}

#[test]
fn a_new_pause_image_is_run_by_new_pods_and_shown_to_kubeadm() {
    const PAUSE: &str = "example.test/pause:1";
    let image = || {
        let waits = b"#!/bin/sh\nwhile :; do /bin/busybox sleep 1000; done\n";
        let program = Tar::new().file("pause", 0o755, waits).finish();
        let layers = vec![Layer::plain(crate::images::busybox()), Layer::plain(program)];
        Image::with_config(layers, &json!({"Entrypoint": ["/pause"]}))
    };
    let prepare = |daemon: &mut Daemon| scene::bring(daemon, PAUSE, &image());
    scene::prepared(&[], prepare, |daemon, mut client| async move {
        let mut pod = client.pod("shop");
        let options = api::NamespaceOption { pid: NamespaceMode::Pod.into(), ..Default::default() };
        pod.linux.as_mut().unwrap().security_context = Some(api::LinuxSandboxSecurityContext {
            namespace_options: Some(options),
            ..Default::default()
        });
        daemon.write(FILE, &format!("[crio.image]\npause_image = \"{PAUSE}\"\n"));
        daemon.reload().await;
        assert_eq!(info(&mut client).await["sandboxImage"], PAUSE);
        let id = client.run_pod(&pod).await.unwrap();
        let request = api::PodSandboxStatusRequest { pod_sandbox_id: id.clone(), verbose: true };
        let shown = client.runtime.pod_sandbox_status(request).await.unwrap().into_inner();
        let shown: Value = serde_json::from_str(&shown.info["info"]).unwrap();
        assert_eq!(shown["image"], PAUSE);
        let command = std::fs::read_to_string(format!("/proc/{}/cmdline", shown["pid"])).unwrap();
        assert!(command.starts_with("/bin/sh\0/pause"), "{command:?}");
        client.remove_pod(&id).await.unwrap();
        daemon
    });
}

#[test]
fn a_runtime_handler_comes_at_once_and_goes_when_no_pod_needs_it() {
    scene::story(&[REFUSED], |daemon, mut client| async move {
        let pod = client.pod("shop");
        let with = |handler: &str| api::RunPodSandboxRequest {
            config: Some(pod.clone()),
            runtime_handler: handler.to_owned(),
        };
        let unknown = client.runtime.run_pod_sandbox(with("second")).await;
        assert!(refused(unknown, Code::NotFound).contains("second"));
        let program = |name| host::program(name).unwrap().display().to_string();
        let table = |root: &str| {
            format!(
                "[crio.runtime.runtimes.second]\nruntime_path = {:?}\nruntime_root = {:?}\n\
                 monitor_path = {:?}\n",
                program("runc"),
                daemon.path(root),
                program("conmon"),
            )
        };
        daemon.write(FILE, &table("runc-second"));
        assert!(daemon.reload().await.contains("key=crio.runtime.runtimes.second value=added"));
        let answer = client.runtime.run_pod_sandbox(with("second")).await.unwrap();
        let id = answer.into_inner().pod_sandbox_id;
        let web = client.run(&id, &pod, &script(&client, "web", "sleep 600")).await.unwrap();
        assert!(daemon.path("runc-second").join(&web).exists());

        // Its containers could not be stopped any more.
        for text in [String::new(), table("runc-third")] {
            daemon.write(FILE, &text);
            let said = daemon.reload().await;
            assert!(said.contains("the runtime handler second has pods"), "{said}");
        }
        client.remove_pod(&id).await.unwrap();
        daemon.write(FILE, "");
        assert!(daemon.reload().await.contains("key=crio.runtime.runtimes.second value=removed"));
        let unknown = client.runtime.run_pod_sandbox(with("second")).await;
        refused(unknown, Code::NotFound);
        // The default one cannot be left out.
        daemon.write(FILE, "[crio.runtime]\ndefault_runtime = \"second\"\n");
        assert!(daemon.reload().await.contains("crio.runtime.default_runtime is \\\"second\\\""));
        daemon
    });
}

#[test]
fn another_policy_file_judges_the_next_container() {
    scene::prepared(
        &[],
        |daemon| daemon.without("--signature-policy"),
        |daemon, mut client| async move {
            let named = |name: &str| {
                let path = daemon.path(name);
                daemon.write(FILE, &format!("[crio.image]\nsignature_policy = {path:?}\n"));
            };
            daemon.write("none.json", &json!({"default": [{"type": "reject"}]}).to_string());
            named("policy.json");
            daemon.reload().await;
            let pod = client.pod("shop");
            let id = client.run_pod(&pod).await.unwrap();
            client.create(&id, &pod, &script(&client, "one", "true")).await.unwrap();
            named("none.json");
            daemon.reload().await;
            let answer = client.create(&id, &pod, &script(&client, "two", "true")).await;
            assert!(answer.unwrap_err().message().contains("none.json"));
            client.remove_pod(&id).await.unwrap();
            daemon
        },
    );
}

#[test]
fn a_pull_that_is_under_way_ends_well_and_mirrors_need_no_signal() {
    if !host::can(&["root", "ip", "runc", "conmon"]) {
        return;
    }
    net::in_own_network(|| async {
        let (mirror, registry) = (TestRegistry::start().await, TestRegistry::start().await);
        let layer = Layer::plain(Tar::new().file("text", 0o644, &[7; 3000]).finish());
        let image = Image::new(vec![layer.clone()], &["/bin/true"]);
        publish::image(&registry, "shop/api:1", &image);
        publish::image(&mirror, "copy/shop/api:2", &image);
        let mut daemon = Daemon::new();
        daemon.registries(&publish::insecure(&[&registry]));
        daemon.start().await;
        let mut client = daemon.client().await;
        let slow = Fault::Drip(Duration::from_millis(1));
        registry.fail(&format!("/blobs/{}", layer.digest()), slow, 1);
        let (mut puller, host) = (client.clone(), registry.host().to_owned());
        let pulled = format!("{host}/shop/api:1");
        let name = pulled.clone();
        let pull = tokio::spawn(async move { puller.pull(&name).await });
        let asked = || !registry.asked(&format!("/blobs/{}", layer.digest())).is_empty();
        scene::until("the layer is asked for", asked).await;
        daemon.write(FILE, "[crio.image]\npinned_images = [\"*shop*\"]\n");
        daemon.reload().await;
        assert!(!pull.is_finished(), "it was too fast to show anything");
        pull.await.unwrap().unwrap();
        assert!(client.image(&pulled).await.unwrap().unwrap().pinned);

        let (at, copy) = (registry.host(), mirror.host());
        daemon.registries(&format!(
            "[[registry]]\nlocation = \"{at}\"\ninsecure = true\n\
             [[registry.mirror]]\nlocation = \"{copy}/copy\"\ninsecure = true\n"
        ));
        client.pull(&format!("{at}/shop/api:2")).await.unwrap();
        assert!(!mirror.asked("copy/shop/api").is_empty());
        client.remove_image(&pulled).await.unwrap();
        daemon.finish().await;
    });
}
