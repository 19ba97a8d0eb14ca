//! The kubelet's probes on containers that end, are frozen, or say too much.

use crioxide::cri::api;
use tonic::Code;

use crate::scene;
use crate::scene::refused;
use crate::scene::script;
use crate::support::client::Client;
use crate::support::host;

/// The most output that a probe's answer has, in bytes.
const LIMIT: usize = 16 * 1024 * 1024;

/// That containers of a pod share a process namespace.
fn shared() -> Option<api::NamespaceOption> {
    Some(api::NamespaceOption { pid: api::NamespaceMode::Pod.into(), ..Default::default() })
}

fn sharing_pod(client: &Client) -> api::PodSandboxConfig {
    let mut pod = client.pod("shop");
    let linux = pod.linux.get_or_insert_default();
    linux.security_context.get_or_insert_default().namespace_options = shared();
    pod
}

fn sharing(client: &Client, name: &str, text: &str) -> api::ContainerConfig {
    let mut container = script(client, name, text);
    let linux = container.linux.get_or_insert_default();
    linux.security_context.get_or_insert_default().namespace_options = shared();
    container
}

#[test]
fn a_probe_says_so_much_and_no_more() {
    scene::story(&[], |daemon, mut client| async move {
        let pod = client.pod("shop");
        let pod_id = client.run_pod(&pod).await.unwrap();
        let id = client.run(&pod_id, &pod, &script(&client, "web", "sleep 600")).await.unwrap();
        let text = "head -c 16777217 /dev/zero; echo end >&2; exit 2";
        let ran = client.exec(&id, &["/bin/sh", "-c", text]).await.unwrap();
        assert_eq!((ran.code, ran.stdout.len(), ran.stderr.as_str()), (2, LIMIT, ""));
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

#[test]
fn a_probe_ends_with_a_container_that_shares_its_process_namespace() {
    scene::story(&[], |daemon, mut client| async move {
        let pod = sharing_pod(&client);
        let pod_id = client.run_pod(&pod).await.unwrap();
        let other =
            client.run(&pod_id, &pod, &sharing(&client, "other", "sleep 600")).await.unwrap();
        let id =
            client.run(&pod_id, &pod, &sharing(&client, "web", "exec sleep 600")).await.unwrap();
        let first = scene::said(&mut client, &id, "cat /proc/1/cmdline").await;
        assert!(!first.contains("600"), "{first} is the first of its namespace");
        let (mut prober, probed) = (client.clone(), id.clone());
        let deaf = "trap '' TERM HUP; echo up; while :; do sleep 2345; done";
        let probe =
            tokio::spawn(async move { prober.exec(&probed, &["/bin/sh", "-c", deaf]).await });
        scene::until("the probe", || !scene::processes(&["sleep 2345"]).is_empty()).await;
        client.stop(&id, 1).await.unwrap();
        let ran = probe.await.unwrap().unwrap();
        assert_eq!((ran.code, ran.stdout.as_str()), (137, "up\n"));
        scene::until("its end", || scene::processes(&["sleep 2345"]).is_empty()).await;
        refused(client.exec(&id, &["/bin/true"]).await, Code::FailedPrecondition);
        assert_eq!(client.exec(&other, &["/bin/true"]).await.unwrap().code, 0);
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

#[test]
fn a_probe_that_is_given_up_leaves_no_process() {
    scene::story(&[], |daemon, mut client| async move {
        let pod = client.pod("shop");
        let pod_id = client.run_pod(&pod).await.unwrap();
        let id = client.run(&pod_id, &pod, &script(&client, "web", "sleep 600")).await.unwrap();
        let (mut prober, probed) = (client.clone(), id.clone());
        let probe =
            tokio::spawn(async move { prober.exec(&probed, &["/bin/sleep", "2346"]).await });
        scene::until("the probe", || !scene::processes(&["sleep", "2346"]).is_empty()).await;
        probe.abort();
        scene::until("its end", || scene::processes(&["sleep", "2346"]).is_empty()).await;
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

#[test]
fn a_frozen_container_refuses_a_probe_at_once() {
    scene::story(&[], |daemon, mut client| async move {
        let pod = client.pod("shop");
        let pod_id = client.run_pod(&pod).await.unwrap();
        let id = client.run(&pod_id, &pod, &script(&client, "web", "sleep 600")).await.unwrap();
        let root = daemon.path("runc").display().to_string();
        host::run("runc", &["--root", &root, "pause", &id]);
        let told = refused(client.exec(&id, &["/bin/true"]).await, Code::FailedPrecondition);
        assert!(told.contains("paused"), "{told}");
        host::run("runc", &["--root", &root, "resume", &id]);
        assert_eq!(client.exec(&id, &["/bin/true"]).await.unwrap().code, 0);
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}
