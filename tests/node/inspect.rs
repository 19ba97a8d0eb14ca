//! What the daemon's socket tells programs that do not speak the CRI: cAdvisor, `crio status`; and
//! `crio wipe`, for a node whose pods nobody asks about any more.

use std::io::Read;
use std::io::Write;
use std::os::unix::net::UnixStream;

use serde_json::Value;
use serde_json::json;

use crioxide::cri::api::ContainerState;
use crioxide::cri::api::NamespaceMode;

use crate::scene;
use crate::support::daemon::Daemon;
use crate::support::host;

/// Asks as cAdvisor does; gives the status and the body.
fn asked(daemon: &Daemon, path: &str) -> (String, String) {
    let mut stream = UnixStream::connect(daemon.socket()).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: crio\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().to_owned(), body.to_owned())
}

/// What `crio status` prints.
#[track_caller]
fn status(daemon: &Daemon, words: &[&str]) -> String {
    let socket = daemon.socket();
    let output = daemon.crio(&[&["status", "--socket", socket.to_str().unwrap()], words].concat());
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_running_daemon_is_asked_over_plain_http_and_by_crio_status() {
    scene::story(&[], |daemon, mut client| async move {
        let pod = client.pod("shop");
        let sandbox = client.run_pod(&pod).await.unwrap();
        let container = scene::script(&client, "web", "sleep 1000");
        let id = client.run(&sandbox, &pod, &container).await.unwrap();
        let (code, body) = asked(&daemon, "/info");
        let info: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((code.as_str(), &info["storage_driver"]), ("200", &json!("overlay")));
        assert_eq!(info["cgroup_driver"], "cgroupfs");
        let (code, body) = asked(&daemon, &format!("/containers/{id}"));
        let found: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((code.as_str(), &found["sandbox"]), ("200", &json!(sandbox)));
        let pid = scene::pid_of(&mut client, &id).await;
        assert_eq!(found["pid"], pid);
        let root = found["root"].as_str().unwrap();
        assert!(std::path::Path::new(root).join("bin").is_dir(), "{root}");
        let ip = client.pod_ip(&sandbox).await.unwrap().to_string();
        assert_eq!(found["ip_addresses"], json!([ip]));
        assert_eq!(asked(&daemon, "/containers/0123").0, "404");

        let shown = status(&daemon, &["containers", "--id", &id]);
        assert!(shown.contains(&format!("sandbox: {sandbox}\n")), "{shown}");
        assert!(status(&daemon, &["info"]).starts_with("cgroup driver: cgroupfs\n"));
        let config = status(&daemon, &["config"]);
        assert!(config.lines().any(|line| line == "cgroup_manager = \"cgroupfs\""), "{config}");
        let output = daemon.crio(&["status", "--socket", "/nowhere.sock", "info"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("no daemon answers on"), "{said}");
        client.remove_pod(&sandbox).await.unwrap();
        daemon
    });
}

/// The kubelet takes what pods use of the network from cAdvisor, which finds a pod by a cgroup of the
/// pod's id and asks here whose that is.
#[test]
fn cadvisor_finds_the_network_of_a_pod() {
    scene::story(&[], |daemon, mut client| async move {
        for shared in [false, true] {
            let mut pod = client.pod("shop");
            let linux = pod.linux.as_mut().unwrap();
            let cgroup = linux.cgroup_parent.trim_start_matches('/').to_owned();
            if shared {
                let context = linux.security_context.get_or_insert_default();
                context.namespace_options.get_or_insert_default().pid = NamespaceMode::Pod.into();
            }
            let sandbox = client.run_pod(&pod).await.unwrap();
            let container = scene::script(&client, "web", "sleep 1000");
            let id = client.run(&sandbox, &pod, &container).await.unwrap();
            let pid = scene::pid_of(&mut client, &id).await;
            let controller = if host::has_cgroup_v2() { "" } else { "memory/" };
            let own = format!("/sys/fs/cgroup/{controller}{cgroup}/crio-{sandbox}");
            let there = || std::path::Path::new(&own).is_dir();
            assert!(there(), "{own}");
            let (code, body) = asked(&daemon, &format!("/containers/{sandbox}"));
            let found: Value = serde_json::from_str(&body).unwrap();
            assert_eq!((code.as_str(), &found["sandbox"]), ("200", &json!(sandbox)), "{body}");
            assert_eq!(found["labels"]["io.kubernetes.container.name"], "POD");
            assert_eq!(found["labels"]["io.kubernetes.pod.name"], "shop");
            assert!(found["name"].as_str().unwrap().starts_with("k8s_POD_shop_"), "{body}");
            let network = |pid: &Value| std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
            assert_eq!(network(&found["pid"]), network(&json!(pid)));
            let layer = found["root"].as_str().unwrap().strip_suffix("merged").unwrap();
            assert_eq!(std::fs::read_dir(format!("{layer}diff")).unwrap().count(), 0);
            let listed = client.pods().await.unwrap();
            assert!(!listed[0].labels.contains_key("io.kubernetes.container.name"));
            client.remove_pod(&sandbox).await.unwrap();
            assert!(!there(), "{own}");
        }
        assert_eq!(asked(&daemon, "/nosuch").0, "404");
        daemon
    });
}

#[test]
fn a_daemon_that_is_sent_crios_signals_goes_on() {
    scene::story(&[], |daemon, mut client| async move {
        for signal in ["USR1", "USR2"] {
            host::run("kill", &["-s", signal, &daemon.pid().unwrap().to_string()]);
        }
        scene::until("both are heard", || {
            ["SIGUSR1", "SIGUSR2"].iter().all(|signal| daemon.log().contains(signal))
        })
        .await;
        assert!(client.pods().await.unwrap().is_empty());
        daemon
    });
}

#[test]
fn a_container_is_paused_and_unpaused_over_plain_http() {
    scene::story(&[], |daemon, mut client| async move {
        let pod = client.pod("shop");
        let sandbox = client.run_pod(&pod).await.unwrap();
        let script = scene::script(&client, "web", "while :; do echo beat; sleep 0.01; done");
        let id = client.create(&sandbox, &pod, &script).await.unwrap();
        let told = |verb: &str| asked(&daemon, &format!("/{verb}/{id}"));
        let (code, why) = told("pause");
        assert_eq!(code, "409", "it was not started");
        assert!(why.contains("must be running"), "{why}");
        client.start(&id).await.unwrap();

        let (code, why) = told("unpause");
        assert_eq!(code, "409");
        assert!(why.ends_with("is not paused"), "{why}");
        assert_eq!(told("pause"), ("200".to_owned(), "200 OK".to_owned()));
        let root = daemon.path("runc").display().to_string();
        let state = || host::run("runc", &["--root", &root, "state", &id]);
        assert!(state().contains("\"status\": \"paused\""), "{}", state());
        let (code, why) = told("pause");
        assert_eq!(code, "409");
        assert!(why.ends_with("is already paused"), "{why}");
        assert_eq!(client.status(&id).await.unwrap().state(), ContainerState::ContainerRunning);
        assert_eq!(told("unpause").0, "200");
        assert!(state().contains("\"status\": \"running\""), "{}", state());
        let before = client.log(&pod, &script).len();
        scene::until("it goes on", || client.log(&pod, &script).len() > before).await;

        assert_eq!(asked(&daemon, "/pause/0123").0, "404");
        let infra = format!("/pause/{sandbox}");
        assert_eq!(asked(&daemon, &infra).0, "404", "a pod's own process is nobody's to pause");
        assert_eq!(told("pause").0, "200");
        client.stop(&id, 0).await.unwrap();
        assert_eq!(client.status(&id).await.unwrap().exit_code, 137);
        assert_eq!(told("unpause").0, "409");
        client.remove_pod(&sandbox).await.unwrap();
        daemon
    });
}

#[test]
fn a_forced_wipe_removes_all_pods_and_not_while_a_daemon_runs() {
    scene::story(&[], |mut daemon, mut client| async move {
        for name in ["shop", "bank"] {
            let pod = client.pod(name);
            let sandbox = client.run_pod(&pod).await.unwrap();
            let container = scene::script(&client, "web", "sleep 1000");
            client.run(&sandbox, &pod, &container).await.unwrap();
        }
        let running = daemon.crio(&["wipe", "--force"]);
        let said = String::from_utf8_lossy(&running.stderr).into_owned();
        assert!(!running.status.success() && said.contains("another daemon answers"), "{said}");
        assert_eq!(client.pods().await.unwrap().len(), 2);
        daemon.stop().await;
        let unforced = daemon.crio(&["wipe"]);
        assert!(unforced.status.success());
        assert!(!daemon.leftovers().is_empty(), "pods outlive a wipe that is not forced");
        let wiped = daemon.crio(&["wipe", "--force"]);
        assert!(wiped.status.success(), "{}", String::from_utf8_lossy(&wiped.stderr));
        assert_eq!(daemon.leftovers(), [""; 0]);
        daemon.start().await;
        let mut client = daemon.client().await;
        assert!(client.pods().await.unwrap().is_empty());
        assert!(client.images().await.unwrap().is_empty());
        daemon
    });
}
