//! The daemon's own life, and pods without containers.

use std::time::Duration;

use crate::scene;
use crate::support::daemon::Daemon;
use crate::support::host;
use crate::support::net;

fn can() -> bool {
    host::can(&["root", "cni", "runc", "conmon", "ip"])
}

#[test]
fn a_daemon_ends_when_asked_and_starts_over_what_a_killed_one_left() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        let mut daemon = Daemon::new();
        daemon.start().await;
        let version = daemon.client().await.version().await.unwrap();
        assert_eq!(version.runtime_api_version, "v1");
        daemon.restart().await;
        daemon.kill().await;
        assert!(daemon.socket().exists());
        daemon.start().await;
        assert!(daemon.client().await.version().await.is_ok());
        daemon.finish().await;
    });
}

#[test]
fn the_network_is_ready_when_a_provider_has_written_its_file() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        let mut daemon = Daemon::new();
        let file = daemon.path("cni/10-bridge.conflist");
        let away = daemon.path("cni/10-bridge.conflist.mk_disabled");
        std::fs::rename(&file, &away).unwrap();
        daemon.start().await;
        let mut client = daemon.client().await;
        let condition = client.condition("NetworkReady").await.unwrap();
        assert!(!condition.status);
        assert!(condition.message.contains("Has your network provider started?"), "{condition:?}");
        std::fs::rename(&away, &file).unwrap();
        let mut ready = false;
        for _ in 0..100 {
            ready = client.condition("NetworkReady").await.unwrap().status;
            if ready {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(ready);
        daemon.finish().await;
    });
}

#[test]
fn a_pod_has_an_address_also_after_a_restart_and_leaves_nothing() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        let mut daemon = Daemon::new();
        daemon.start().await;
        let mut client = daemon.client().await;
        let pod = client.pod("shop");
        let id = client.run_pod(&pod).await.unwrap();
        let ip = client.pod_ip(&id).await.unwrap();
        assert!(ip.to_string().starts_with("10.85.0."), "{ip}");
        daemon.kill().await;
        daemon.start().await;
        let mut client = daemon.client().await;
        assert_eq!(client.pod_ip(&id).await.unwrap(), ip);
        assert!(!daemon.leftovers().is_empty());
        client.remove_pod(&id).await.unwrap();
        assert!(client.pods().await.unwrap().is_empty());
        daemon.finish().await;
    });
}

#[test]
fn what_pods_can_leave_is_seen_and_taken_away() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        let daemon = Daemon::new();
        assert_eq!(daemon.leftovers(), [""; 0]);
        let (path, token) = (daemon.path("planted"), daemon.token());
        std::fs::create_dir_all(daemon.path("ipam").join(&token)).unwrap();
        daemon.write(&format!("ipam/{token}/10.85.0.9"), "");
        daemon.write(&format!("ipam/{token}/lock"), "");
        std::fs::create_dir_all(daemon.path("ns/netns")).unwrap();
        let pin = net::Netns::new(&daemon.path("ns/netns/pin"));
        let pod = format!("crio-{}", "0".repeat(64));
        host::run("ip", &["link", "add", "veth0", "type", "veth", "peer", "name", "veth1"]);
        host::run(
            "nft",
            &["add table ip t; add chain ip t c; add rule ip t c tcp dport 81 accept"],
        );
        let root = if host::has_cgroup_v2() { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/pids" };
        let cgroup = std::path::Path::new(root).join(&token);
        std::fs::create_dir_all(cgroup.join(&pod)).unwrap();
        let mut command = host::command("sleep");
        command.arg("600");
        let mut in_cgroup = command.spawn().unwrap();
        std::fs::File::options()
            .write(true)
            .open(cgroup.join(&pod).join("cgroup.procs"))
            .and_then(|mut file| {
                std::io::Write::write_all(&mut file, in_cgroup.id().to_string().as_bytes())
            })
            .unwrap();
        let mut named =
            host::command("tail").arg("-f").arg("/dev/null").arg(&path).spawn().unwrap();

        // Between its fork and its exec a process has the name of this one.
        let path = path.display().to_string();
        scene::until("tail runs", || !scene::processes(&["tail -f", &path]).is_empty()).await;
        let left = daemon.leftovers();
        for (kind, what) in [
            ("process", "sleep 600"),
            ("process", "tail -f"),
            ("mount", "/ns/netns/pin"),
            ("interface", "veth0"),
            ("interface", "veth1"),
            ("address", "10.85.0.9"),
            ("rule", "dport 81"),
            ("cgroup", "/crio-0000"),
            ("file", "/ns/netns/pin"),
        ] {
            let seen = |line: &&String| line.starts_with(kind) && line.contains(what);
            assert_eq!(left.iter().filter(seen).count(), 1, "{kind} {what}: {left:#?}");
        }
        assert_eq!(left.len(), 9, "{left:#?}");
        let directory = daemon.path("");
        drop(daemon);
        assert!(in_cgroup.try_wait().unwrap().is_some() && named.try_wait().unwrap().is_some());
        assert!(!directory.exists() && !cgroup.exists());
        assert!(!std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&token));
        drop(pin);
    });
}
