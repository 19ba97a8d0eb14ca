//! What the node's administrator gives every container: hooks, default mounts, a time zone.

use serde_json::json;

use crate::scene;
use crate::scene::said;
use crate::scene::script;
use crate::support::daemon::Daemon;

/// A hook that leaves the container's state in a file.
fn hook(daemon: &Daemon, name: &str, stage: &str, when: &serde_json::Value) {
    let left = daemon.path(name).display().to_string();
    let hook = json!({
        "version": "1.0.0",
        "hook": {"path": "/bin/sh", "args": ["sh", "-c", format!("cat >> {left}")]},
        "when": when,
        "stages": [stage],
    });
    daemon.write(&format!("hooks/{name}.json"), &hook.to_string());
}

#[test]
fn hooks_of_the_node_run_when_their_conditions_hold() {
    scene::prepared(
        &["hooks/broken.json"],
        |_| (),
        |daemon, mut client| async move {
            hook(&daemon, "always", "prestart", &json!({"always": true}));
            hook(&daemon, "after", "poststop", &json!({"commands": ["^/bin/sh$"]}));
            hook(
                &daemon,
                "asked",
                "createRuntime",
                &json!({"annotations": {"^example\\.com/x$": "yes"}}),
            );
            hook(&daemon, "gated", "createRuntime", &json!({"annotations": {"devices": ".*"}}));
            let pod = client.pod("shop");
            let pod_id = client.run_pod(&pod).await.unwrap();
            let web = script(&client, "web", "sleep 600");
            let id = client.run(&pod_id, &pod, &web).await.unwrap();
            let state = std::fs::read_to_string(daemon.path("always")).unwrap();
            assert!(state.contains(&id), "{state}");
            assert!(!daemon.path("asked").exists() && !daemon.path("after").exists());
            client.stop(&id, 0).await.unwrap();
            client.remove(&id).await.unwrap();
            scene::until("the hook at the end", || daemon.path("after").exists()).await;

            // An annotation fulfils a condition of a file; it cannot be one that the handler withholds.
            let mut web = script(&client, "asking", "sleep 600");
            web.annotations.insert("example.com/x".to_owned(), "yes".to_owned());
            web.annotations.insert("io.kubernetes.cri-o.Devices".to_owned(), "yes".to_owned());
            client.run(&pod_id, &pod, &web).await.unwrap();
            assert!(daemon.path("asked").exists() && !daemon.path("gated").exists());

            // What a hook would have done cannot be told from a file that is not understood.
            daemon.write("hooks/broken.json", "{");
            let made = client.create(&pod_id, &pod, &script(&client, "later", "sleep 600")).await;
            let text = made.unwrap_err().message().to_owned();
            assert!(text.contains("hooks/broken.json"), "{text}");
            std::fs::remove_file(daemon.path("hooks/broken.json")).unwrap();
            client.remove_pod(&pod_id).await.unwrap();
            daemon
        },
    );
}

#[test]
fn default_mounts_are_copies_and_the_time_zone_is_the_configured_one() {
    let prepare = |daemon: &mut Daemon| {
        std::fs::create_dir(daemon.path("subscription")).unwrap();
        daemon.write("subscription/key", "of the node");
        daemon.write("zone", "a zone");
        let (from, file) = (daemon.path("subscription"), daemon.path("zone"));
        let lines = format!("{}:/run/secrets\n{}:/opt/file\n", from.display(), file.display());
        daemon.write("mounts.conf", &lines);
        let conf = daemon.path("mounts.conf");
        daemon.config(&format!(
            "[crio.runtime]\ndefault_mounts_file = {conf:?}\ntimezone = \"Asia/Tokyo\"\n"
        ));
    };
    scene::prepared(&[], prepare, |daemon, mut client| async move {
        let pod = client.pod("shop");
        let pod_id = client.run_pod(&pod).await.unwrap();
        let id = client.run(&pod_id, &pod, &script(&client, "web", "sleep 600")).await.unwrap();
        let text = "cat /run/secrets/key /opt/file; echo changed > /run/secrets/key; \
                    tail -n 1 /etc/localtime";
        assert_eq!(said(&mut client, &id, text).await, "of the nodea zoneJST-9");
        let kept = std::fs::read_to_string(daemon.path("subscription/key")).unwrap();
        assert_eq!(kept, "of the node");
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}
