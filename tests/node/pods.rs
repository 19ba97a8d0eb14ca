//! Pods: who shares what with whom, what is refused, and that nothing stays of what failed.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use crioxide::cri::api;
use crioxide::cri::api::ContainerState;
use crioxide::cri::api::NamespaceMode;
use crioxide::cri::api::PodSandboxState;
use serde_json::json;
use tonic::Code;

use crate::scene;
use crate::scene::refused;
use crate::scene::said;
use crate::scene::script;
use crate::support::client::Client;
use crate::support::daemon::Daemon;
use crate::support::host;

/// A pod with these namespaces.
fn pod_with(client: &Client, name: &str, options: &api::NamespaceOption) -> api::PodSandboxConfig {
    let mut pod = client.pod(name);
    let linux = pod.linux.as_mut().unwrap();
    linux.security_context = Some(api::LinuxSandboxSecurityContext {
        namespace_options: Some(options.clone()),
        ..Default::default()
    });
    pod
}

/// A container that sleeps, with these namespaces.
fn sleeper(client: &Client, name: &str, options: &api::NamespaceOption) -> api::ContainerConfig {
    let mut container = script(client, name, "sleep 600");
    container.linux.as_mut().unwrap().security_context = Some(api::LinuxContainerSecurityContext {
        namespace_options: Some(options.clone()),
        ..Default::default()
    });
    container
}

fn pid_mode(mode: NamespaceMode) -> api::NamespaceOption {
    api::NamespaceOption { pid: mode.into(), ..Default::default() }
}

#[test]
fn the_same_pod_asked_for_twice_is_one_pod() {
    scene::story(&[], |daemon, mut client| async move {
        let mut pod = client.pod("shop");
        pod.labels.insert("app".into(), "shop".into());
        pod.annotations.insert("note".into(), "a b".into());
        let (mut one, mut other) = (client.clone(), client.clone());
        let (one, other) = tokio::join!(one.run_pod(&pod), other.run_pod(&pod));
        let id = one.unwrap();
        assert_eq!(other.unwrap(), id);
        assert_eq!(client.run_pod(&pod).await.unwrap(), id);
        let pods = client.pods().await.unwrap();
        assert_eq!(pods.len(), 1);
        assert_eq!(pods[0].labels["app"], "shop");
        let status = client.pod_status(&id).await.unwrap();
        assert_eq!(status.state(), PodSandboxState::SandboxReady);
        assert_eq!(status.annotations["note"], "a b");
        assert_eq!(status.metadata, pod.metadata);

        client.stop_pod(&id).await.unwrap();
        client.stop_pod(&id).await.unwrap();
        let status = client.pod_status(&id).await.unwrap();
        assert_eq!(status.state(), PodSandboxState::SandboxNotready);
        let filter = api::PodSandboxFilter {
            state: Some(api::PodSandboxStateValue { state: PodSandboxState::SandboxReady.into() }),
            ..Default::default()
        };
        let request = api::ListPodSandboxRequest { filter: Some(filter) };
        let ready = client.runtime.list_pod_sandbox(request).await.unwrap().into_inner().items;
        assert!(ready.is_empty());
        client.remove_pod(&id).await.unwrap();
        client.remove_pod(&id).await.unwrap();
        refused(client.pod_status(&id).await, Code::NotFound);
        daemon
    });
}

#[test]
fn pods_reach_each_other_and_a_pod_of_the_node_is_in_its_network() {
    scene::story(&[], |daemon, mut client| async move {
        let (a, b) = (client.pod("a"), client.pod("b"));
        let (a_id, b_id) = (client.run_pod(&a).await.unwrap(), client.run_pod(&b).await.unwrap());
        let (a_ip, b_ip) =
            (client.pod_ip(&a_id).await.unwrap(), client.pod_ip(&b_id).await.unwrap());
        assert_ne!(a_ip, b_ip);
        let serve = "echo hello from a > /data/index.html; httpd -f -p 8080 -h /data";
        let server = script(&client, "server", serve);
        client.run(&a_id, &a, &server).await.unwrap();
        let browser = script(&client, "browser", "sleep 600");
        let browser = client.run(&b_id, &b, &browser).await.unwrap();
        let fetch = format!(
            "for i in $(seq 20); do printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {a_ip} 8080 | \
             grep hello && exit; sleep 0.1; done; exit 1"
        );
        assert_eq!(said(&mut client, &browser, &fetch).await, "hello from a");

        let options =
            api::NamespaceOption { network: NamespaceMode::Node.into(), ..Default::default() };
        let of_node = pod_with(&client, "node", &options);
        let node_id = client.run_pod(&of_node).await.unwrap();
        assert_eq!(client.pod_status(&node_id).await.unwrap().network.unwrap().ip, "");
        let inside = sleeper(&client, "inside", &options);
        let inside = client.run(&node_id, &of_node, &inside).await.unwrap();
        let name = nix::unistd::gethostname().unwrap().into_string().unwrap();
        assert_eq!(said(&mut client, &inside, "hostname").await, name);
        let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap().display().to_string();
        let seen = said(&mut client, &inside, "readlink /proc/self/ns/net").await;
        assert_eq!(seen, own);
        assert_eq!(said(&mut client, &inside, &fetch).await, "hello from a");
        for id in [a_id, b_id, node_id] {
            client.remove_pod(&id).await.unwrap();
        }
        daemon
    });
}

#[test]
fn processes_are_seen_by_those_they_are_shared_with() {
    scene::story(&[], |daemon, mut client| async move {
        let namespace = "readlink /proc/self/ns/pid";
        let first = "tr '\\0' ' ' < /proc/1/cmdline";
        let shared = pid_mode(NamespaceMode::Pod);
        let pod = pod_with(&client, "shared", &shared);
        let pod_id = client.run_pod(&pod).await.unwrap();
        let a = sleeper(&client, "a", &shared);
        let a = client.run(&pod_id, &pod, &a).await.unwrap();
        let b = sleeper(&client, "b", &shared);
        let b = client.run(&pod_id, &pod, &b).await.unwrap();
        assert_eq!(said(&mut client, &a, namespace).await, said(&mut client, &b, namespace).await);
        assert!(said(&mut client, &a, first).await.contains("pause"));
        let both = "ps | grep -c '[s]leep 600'";
        assert_eq!(said(&mut client, &a, both).await, "2");

        let own = pid_mode(NamespaceMode::Container);
        let apart = pod_with(&client, "apart", &own);
        let apart_id = client.run_pod(&apart).await.unwrap();
        let c = sleeper(&client, "c", &own);
        let c = client.run(&apart_id, &apart, &c).await.unwrap();
        assert!(said(&mut client, &c, first).await.contains("sleep 600"));
        let mut options = pid_mode(NamespaceMode::Target);
        options.target_id.clone_from(&c);
        let debug = sleeper(&client, "debug", &options);
        let debug = client.run(&apart_id, &apart, &debug).await.unwrap();
        let of_c = said(&mut client, &c, namespace).await;
        assert_eq!(said(&mut client, &debug, namespace).await, of_c);
        client.stop(&c, 0).await.unwrap();
        options.target_id = c;
        let late = sleeper(&client, "late", &options);
        let told = client.create(&apart_id, &apart, &late).await;
        refused(told, Code::FailedPrecondition);

        let node = pid_mode(NamespaceMode::Node);
        let of_node = pod_with(&client, "node", &node);
        let node_id = client.run_pod(&of_node).await.unwrap();
        let d = sleeper(&client, "d", &node);
        let d = client.run(&node_id, &of_node, &d).await.unwrap();
        let ours = std::fs::read_link("/proc/self/ns/pid").unwrap().display().to_string();
        assert_eq!(said(&mut client, &d, namespace).await, ours);
        for id in [pod_id, apart_id, node_id] {
            client.remove_pod(&id).await.unwrap();
        }
        daemon
    });
}

#[test]
fn a_pod_that_cannot_be_is_refused_and_leaves_nothing() {
    let allowed = ["RunPodSandbox"];
    scene::story(&allowed, |daemon, mut client| async move {
        // What is there once for all pods.
        let id = client.run_pod(&client.pod("first")).await.unwrap();
        client.remove_pod(&id).await.unwrap();

        let request = api::RunPodSandboxRequest {
            config: Some(client.pod("shop")),
            runtime_handler: "kata".into(),
        };
        let told = refused(client.runtime.run_pod_sandbox(request).await, Code::NotFound);
        assert!(told.contains("kata") && told.contains("runc"), "{told}");

        let mut pod = client.pod("shop");
        pod.linux.as_mut().unwrap().cgroup_parent = "some.slice".into();
        let told = client.run_pod(&pod).await.unwrap_err();
        assert!(told.message().contains("some.slice"), "{told}");
        scene::unchanged(&daemon, &[], "a slice for cgroupfs").await;

        let options = api::NamespaceOption {
            userns_options: Some(api::UserNamespace {
                mode: NamespaceMode::Pod.into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let told = client.run_pod(&pod_with(&client, "shop", &options)).await;
        assert!(refused(told, Code::InvalidArgument).contains("userns_options.uids"));

        for (name, value) in
            [("net.core.somaxconn", "many"), ("net.core.nothing", "1"), ("net.core/../x", "1")]
        {
            let mut pod = client.pod("shop");
            pod.linux.as_mut().unwrap().sysctls.insert(name.into(), value.into());
            let told = client.run_pod(&pod).await.unwrap_err();
            assert!(told.message().contains(name), "{told}");
            scene::unchanged(&daemon, &[], name).await;
        }

        let mut pod = client.pod("shop");
        pod.hostname = "x".repeat(65);
        refused(client.run_pod(&pod).await, Code::InvalidArgument);
        let mut pod = client.pod("shop");
        pod.metadata = None;
        refused(client.run_pod(&pod).await, Code::InvalidArgument);

        // Files cannot be made where a file is in the way.
        let place = daemon.path("storage-run/crioxide/sandboxes");
        std::fs::remove_dir(&place).unwrap();
        daemon.write("storage-run/crioxide/sandboxes", "");
        let told = client.run_pod(&client.pod("shop")).await.unwrap_err();
        assert!(told.message().contains("storage-run"), "{told}");
        scene::unchanged(&daemon, &[], "no directory").await;
        std::fs::remove_file(&place).unwrap();

        // No way to pin the namespace of its processes.
        std::fs::rename(daemon.path("ns/pidns"), daemon.path("ns/away")).ok();
        daemon.write("ns/pidns", "");
        let told = client.run_pod(&client.pod("shop")).await.unwrap_err();
        assert!(told.message().contains("pidns"), "{told}");
        scene::unchanged(&daemon, &[], "no pidns").await;
        std::fs::remove_file(daemon.path("ns/pidns")).unwrap();
        std::fs::rename(daemon.path("ns/away"), daemon.path("ns/pidns")).ok();

        assert!(client.pods().await.unwrap().is_empty());
        let id = client.run_pod(&client.pod("shop")).await.unwrap();
        client.remove_pod(&id).await.unwrap();
        daemon
    });
}

/// A directory of plugins in which one does what a file says, behind the others.
fn prepare_plugins(daemon: &mut Daemon) {
    let plugins = daemon.path("plugins");
    std::fs::create_dir(&plugins).unwrap();
    for entry in std::fs::read_dir(host::cni_directory().unwrap()).unwrap().flatten() {
        std::os::unix::fs::symlink(entry.path(), plugins.join(entry.file_name())).unwrap();
    }
    let word = daemon.path("word");
    let text = format!(
        "#!/bin/sh\n\
         [ \"$CNI_COMMAND\" = VERSION ] && \\\n\
         echo '{{\"cniVersion\":\"1.0.0\",\"supportedVersions\":[\"1.0.0\"]}}'\n\
         [ \"$CNI_COMMAND\" = ADD ] || exit 0\n\
         [ \"$(cat {word})\" = hang ] && exec sleep 5432\n\
         echo '{{\"cniVersion\":\"1.0.0\",\"code\":100,\"msg\":\"no luck today\"}}'\n\
         exit 1\n",
        word = word.display(),
    );
    daemon.write("plugins/moody", &text);
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(plugins.join("moody"), mode).unwrap();
    daemon.argument(&format!("--cni-plugin-dir={}", plugins.display()));
}

#[test]
fn a_network_that_fails_or_hangs_leaves_nothing_and_the_next_try_works() {
    scene::prepared(&["no luck today"], prepare_plugins, |mut daemon, mut client| async move {
        let pod = client.pod("shop");
        let conflist = daemon.path("cni/10-bridge.conflist");
        let good = std::fs::read_to_string(&conflist).unwrap();
        let mut moody: serde_json::Value = serde_json::from_str(&good).unwrap();
        let plugins = moody["plugins"].as_array_mut().unwrap();
        plugins.push(json!({"type": "moody"}));
        let moody = moody.to_string();

        daemon.write("word", "fail");
        daemon.write("cni/10-bridge.conflist", &moody);
        let mut told = String::new();
        for _ in 0..50 {
            // The daemon reads the file when it is told of the change.
            match client.run_pod(&pod).await {
                Err(status) => {
                    status.message().clone_into(&mut told);
                    break;
                }
                Ok(id) => client.remove_pod(&id).await.unwrap(),
            }
        }
        assert!(told.contains("no luck today"), "{told}");
        assert!(client.pods().await.unwrap().is_empty());
        scene::unchanged(&daemon, &[], "failed").await;

        daemon.write("word", "hang");
        let (mut other, asked) = (client.clone(), pod.clone());
        let hanging = tokio::spawn(async move { other.run_pod(&asked).await });
        scene::until("a plugin that hangs", || !scene::processes(&["sleep 5432"]).is_empty()).await;
        let pods = client.pods().await.unwrap();
        assert!(pods.iter().all(|pod| pod.state() == PodSandboxState::SandboxNotready));
        daemon.kill().await;
        assert!(hanging.await.unwrap().is_err());
        daemon.write("cni/10-bridge.conflist", &good);
        daemon.start().await;
        client = daemon.client().await;
        assert!(client.pods().await.unwrap().is_empty());
        // The plugin that hung does not work on beside those of this daemon.
        scene::until("it is ended", || scene::processes(&["sleep 5432"]).is_empty()).await;
        scene::unchanged(&daemon, &[], "hung").await;

        let id = client.run_pod(&pod).await.unwrap();
        assert!(client.pod_ip(&id).await.is_ok());
        client.remove_pod(&id).await.unwrap();
        daemon
    });
}

#[test]
fn host_ports_lead_into_the_pod_or_are_refused() {
    scene::story(&["is held by pod"], |mut daemon, mut client| async move {
        let mut pod = client.pod("shop");
        pod.port_mappings =
            vec![api::PortMapping { container_port: 8080, host_port: 18080, ..Default::default() }];
        let id = client.run_pod(&pod).await.unwrap();
        let ip = client.pod_ip(&id).await.unwrap();
        let rules = format!("{:?}", host::output("iptables-save", &[]))
            + &format!("{:?}", host::output("nft", &["list", "ruleset"]));
        assert!(rules.contains("18080") && rules.contains(&ip.to_string()), "{rules}");
        // A daemon that comes later knows whose the port is.
        daemon.restart().await;
        client = daemon.client().await;
        let before = scene::kept(&daemon);
        let mut second = client.pod("second");
        second.port_mappings.clone_from(&pod.port_mappings);
        let told = refused(client.run_pod(&second).await, Code::AlreadyExists);
        assert!(told.contains("18080/tcp is held by pod") && told.contains(&id), "{told}");
        scene::unchanged(&daemon, &before, "refused").await;
        client.remove_pod(&id).await.unwrap();
        scene::unchanged(&daemon, &[], "removed").await;
        let id = client.run_pod(&second).await.unwrap();
        client.remove_pod(&id).await.unwrap();
        daemon
    });
}

#[test]
fn a_pod_whose_own_process_was_killed_is_not_ready() {
    scene::story(&[], |daemon, mut client| async move {
        let pod = client.pod("shop");
        let id = client.run_pod(&pod).await.unwrap();
        let web = script(&client, "web", "sleep 600");
        let web = client.run(&id, &pod, &web).await.unwrap();
        let request = api::PodSandboxStatusRequest { pod_sandbox_id: id.clone(), verbose: true };
        let answer = client.runtime.pod_sandbox_status(request).await.unwrap().into_inner();
        let info: serde_json::Value = serde_json::from_str(&answer.info["info"]).unwrap();
        scene::kill(i32::try_from(info["pid"].as_i64().unwrap()).unwrap());
        // With the first process of a namespace go all others of it.
        let status = client.exited(&web).await.unwrap();
        assert_eq!(status.exit_code, 137);
        let mut state = PodSandboxState::SandboxReady;
        for _ in 0..100 {
            state = client.pod_status(&id).await.unwrap().state();
            if state == PodSandboxState::SandboxNotready {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(state, PodSandboxState::SandboxNotready);
        let late = script(&client, "late", "true");
        refused(client.create(&id, &pod, &late).await, Code::FailedPrecondition);
        let mut next = pod.clone();
        next.metadata.as_mut().unwrap().attempt = 1;
        let next_id = client.run_pod(&next).await.unwrap();
        client.remove_pod(&id).await.unwrap();
        client.remove_pod(&next_id).await.unwrap();
        daemon
    });
}

#[test]
fn a_container_whose_monitor_was_killed_ends_all_the_same() {
    scene::story(&[], |daemon, mut client| async move {
        let pod = client.pod("shop");
        let id = client.run_pod(&pod).await.unwrap();
        let web = script(&client, "web", "sleep 600");
        let web = client.run(&id, &pod, &web).await.unwrap();
        let pid = scene::pid_of(&mut client, &web).await;
        for monitor in scene::processes(&["conmon", &web]) {
            scene::kill(monitor);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        let status = client.status(&web).await.unwrap();
        assert_eq!(status.state(), ContainerState::ContainerRunning);
        if Path::new("/proc").join(pid.to_string()).exists() {
            scene::kill(pid);
        }
        let status = client.exited(&web).await.unwrap();
        assert_eq!((status.exit_code, status.reason.as_str()), (255, "Error"));
        client.remove_pod(&id).await.unwrap();
        daemon
    });
}

#[test]
fn no_rpc_is_unimplemented() {
    scene::story(&["CheckpointContainer"], |daemon, mut client| async move {
        let runtime = &mut client.runtime;
        let refused = [
            runtime.exec(api::ExecRequest::default()).await.err(),
            runtime.attach(api::AttachRequest::default()).await.err(),
            runtime.port_forward(api::PortForwardRequest::default()).await.err(),
            runtime.exec_sync(api::ExecSyncRequest::default()).await.err(),
            runtime.container_stats(api::ContainerStatsRequest::default()).await.err(),
            runtime.pod_sandbox_stats(api::PodSandboxStatsRequest::default()).await.err(),
            runtime.checkpoint_container(api::CheckpointContainerRequest::default()).await.err(),
            runtime
                .update_pod_sandbox_resources(api::UpdatePodSandboxResourcesRequest::default())
                .await
                .err(),
            runtime
                .update_container_resources(api::UpdateContainerResourcesRequest::default())
                .await
                .err(),
            runtime.reopen_container_log(api::ReopenContainerLogRequest::default()).await.err(),
        ];
        for status in refused {
            let status = status.expect("a refusal");
            assert_ne!(status.code(), Code::Unimplemented, "{status}");
        }
        runtime.list_container_stats(api::ListContainerStatsRequest::default()).await.unwrap();
        runtime.list_pod_sandbox_stats(api::ListPodSandboxStatsRequest::default()).await.unwrap();
        runtime.list_metric_descriptors(api::ListMetricDescriptorsRequest {}).await.unwrap();
        runtime.list_pod_sandbox_metrics(api::ListPodSandboxMetricsRequest {}).await.unwrap();
        runtime.stream_containers(api::StreamContainersRequest::default()).await.unwrap();
        runtime.stream_pod_sandboxes(api::StreamPodSandboxesRequest::default()).await.unwrap();
        runtime.stream_container_stats(api::StreamContainerStatsRequest::default()).await.unwrap();
        runtime
            .stream_pod_sandbox_stats(api::StreamPodSandboxStatsRequest::default())
            .await
            .unwrap();
        runtime
            .stream_pod_sandbox_metrics(api::StreamPodSandboxMetricsRequest::default())
            .await
            .unwrap();
        runtime.get_container_events(api::GetEventsRequest {}).await.unwrap();
        runtime.update_runtime_config(api::UpdateRuntimeConfigRequest::default()).await.unwrap();
        daemon
    });
}
