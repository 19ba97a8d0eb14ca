//! Limits of containers: given, changed while they live, and refused, as the kernel has them.

use crioxide::cri::api;
use tonic::Code;

use crate::scene;
use crate::scene::refused;
use crate::scene::said;
use crate::scene::script;
use crate::support::client::Client;
use crate::support::host;

async fn pod(client: &mut Client) -> (api::PodSandboxConfig, String) {
    let pod = client.pod("shop");
    let id = client.run_pod(&pod).await.unwrap();
    (pod, id)
}

/// A file of a container's cgroup, by its names in version 1 and 2.
fn cgroup_file(pod: &api::PodSandboxConfig, id: &str, v1: &str, v2: &str) -> std::path::PathBuf {
    let parent = pod.linux.as_ref().unwrap().cgroup_parent.trim_start_matches('/');
    if host::has_cgroup_v2() {
        format!("/sys/fs/cgroup/{parent}/crio-{id}/{v2}").into()
    } else {
        let controller = v1.split('.').next().unwrap();
        format!("/sys/fs/cgroup/{controller}/{parent}/crio-{id}/{v1}").into()
    }
}

fn read(path: &std::path::Path) -> String {
    let text = std::fs::read_to_string(path);
    text.unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
}

fn update(id: &str, limits: api::LinuxContainerResources) -> api::UpdateContainerResourcesRequest {
    api::UpdateContainerResourcesRequest {
        container_id: id.to_owned(),
        linux: Some(limits),
        ..Default::default()
    }
}

#[test]
fn a_memory_limit_below_what_is_used_is_refused_and_changes_nothing() {
    scene::story(&[], |daemon, mut client| async move {
        let (pod, pod_id) = pod(&mut client).await;
        // What lies in a tmpfs is memory of who wrote it.
        let text =
            "dd if=/dev/zero of=/dev/shm/held bs=1M count=40 2>/dev/null; echo held; sleep 600";
        let mut container = script(&client, "web", text);
        container.linux.as_mut().unwrap().resources = Some(api::LinuxContainerResources {
            memory_limit_in_bytes: 128 << 20,
            cpu_shares: 512,
            ..Default::default()
        });
        let id = client.run(&pod_id, &pod, &container).await.unwrap();
        scene::until("the memory is held", || client.log(&pod, &container).contains("held")).await;
        let limit = cgroup_file(&pod, &id, "memory.limit_in_bytes", "memory.max");
        let lower = |bytes: i64| api::LinuxContainerResources {
            memory_limit_in_bytes: bytes,
            cpu_shares: 256,
            ..Default::default()
        };
        let answer = client.runtime.update_container_resources(update(&id, lower(20 << 20))).await;
        let words = refused(answer, Code::FailedPrecondition);
        assert!(words.contains("20971520") && words.contains("uses"), "{words}");
        assert_eq!(read(&limit), (128_u64 << 20).to_string());
        let told = client.status(&id).await.unwrap().resources.unwrap().linux.unwrap();
        assert_eq!((told.memory_limit_in_bytes, told.cpu_shares), (128 << 20, 512));

        // Lower, and above what is used; then without any.
        client.runtime.update_container_resources(update(&id, lower(96 << 20))).await.unwrap();
        assert_eq!(read(&limit), (96_u64 << 20).to_string());
        client.runtime.update_container_resources(update(&id, lower(-1))).await.unwrap();
        assert_ne!(read(&limit), (96_u64 << 20).to_string());
        assert_eq!(client.exec(&id, &["/bin/sh", "-c", "true"]).await.unwrap().code, 0);
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

#[test]
fn processors_are_chosen_and_changed_and_those_that_are_not_there_are_refused() {
    scene::story(&["UpdateContainerResources"], |daemon, mut client| async move {
        let (pod, pod_id) = pod(&mut client).await;
        let mut container = script(&client, "web", "sleep 600");
        let on = |cpus: &str| api::LinuxContainerResources {
            cpuset_cpus: cpus.to_owned(),
            ..Default::default()
        };
        container.linux.as_mut().unwrap().resources = Some(on("0"));
        let id = client.run(&pod_id, &pod, &container).await.unwrap();
        let allowed = "grep Cpus_allowed_list /proc/self/status | tr -d '\\t'";
        assert_eq!(said(&mut client, &id, allowed).await, "Cpus_allowed_list:0");
        let all = std::thread::available_parallelism().unwrap().get();
        if all > 1 {
            client.runtime.update_container_resources(update(&id, on("0-1"))).await.unwrap();
            assert_eq!(said(&mut client, &id, allowed).await, "Cpus_allowed_list:0-1");
        }
        for bad in ["0-", "x", "9999"] {
            let answer = client.runtime.update_container_resources(update(&id, on(bad))).await;
            assert!(answer.is_err(), "{bad}");
        }
        let told = client.status(&id).await.unwrap().resources.unwrap().linux.unwrap();
        assert_eq!(told.cpuset_cpus, if all > 1 { "0-1" } else { "0" });
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

#[test]
fn the_node_s_limits_on_processes_and_open_files_hold_for_every_container() {
    scene::prepared(
        &[],
        |daemon| {
            daemon.config(
                "[crio.runtime]\npids_limit = 20\ndefault_ulimits = [\"nofile=300:400\"]\n",
            );
        },
        |daemon, mut client| async move {
            let (pod, pod_id) = pod(&mut client).await;
            let id = client.run(&pod_id, &pod, &script(&client, "web", "sleep 600")).await.unwrap();
            let files = said(&mut client, &id, "ulimit -Sn; ulimit -Hn").await;
            assert_eq!(files, "300\n400");
            assert_eq!(read(&cgroup_file(&pod, &id, "pids.max", "pids.max")), "20");
            let bomb = "i=0; while [ $i -lt 40 ]; do sleep 30 & i=$((i+1)); done; echo all";
            let ran = client.exec(&id, &["/bin/sh", "-c", bomb]).await.unwrap();
            assert!(!ran.stdout.contains("all") && ran.stderr.contains("fork"), "{ran:?}");
            // It hurts nobody else: what is left of it goes with the container.
            client.remove_pod(&pod_id).await.unwrap();
            daemon
        },
    );
}

#[test]
fn a_container_that_a_command_makes_too_large_is_told_as_killed_for_memory() {
    scene::story(&[], |daemon, mut client| async move {
        let (pod, pod_id) = pod(&mut client).await;
        let mut container = script(&client, "web", "sleep 600 & wait; exit 3");
        container.linux.as_mut().unwrap().resources = Some(api::LinuxContainerResources {
            memory_limit_in_bytes: 16 << 20,
            memory_swap_limit_in_bytes: 16 << 20,
            ..Default::default()
        });
        let id = client.run(&pod_id, &pod, &container).await.unwrap();
        let hungry = "a=x; while :; do a=$a$a$a$a; done";
        let ran = client.exec(&id, &["/bin/sh", "-c", hungry]).await.unwrap();
        assert_eq!(ran.code, 137, "{ran:?}");
        // Only the command was killed; the container goes on.
        let status = client.status(&id).await.unwrap();
        assert_eq!(status.state(), api::ContainerState::ContainerRunning);
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

#[test]
fn a_monitor_is_the_last_to_be_killed_for_memory_where_the_daemon_may_say_so() {
    scene::story(&[], |daemon, mut client| async move {
        let (pod, pod_id) = pod(&mut client).await;
        let mut container = script(&client, "web", "sleep 600");
        container.linux.as_mut().unwrap().resources =
            Some(api::LinuxContainerResources { oom_score_adj: 900, ..Default::default() });
        let id = client.run(&pod_id, &pod, &container).await.unwrap();
        let score = |pid: i32| read(std::path::Path::new(&format!("/proc/{pid}/oom_score_adj")));
        let monitors = scene::processes(&["conmon", &id]);
        assert_eq!(monitors.len(), 1, "{monitors:?}");
        assert_eq!(score(scene::pid_of(&mut client, &id).await), "900");
        if host::may_lower_oom_score() {
            assert_eq!(score(monitors[0]), "-1000");
        } else {
            // It could not, and was not left with its container's.
            assert_eq!(score(monitors[0]), score(daemon.pid().unwrap()));
        }
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

#[test]
fn a_pod_s_limits_are_taken_note_of_and_those_of_no_pod_are_refused() {
    scene::story(&[], |daemon, mut client| async move {
        let (_, pod_id) = pod(&mut client).await;
        let limits = |id: &str| api::UpdatePodSandboxResourcesRequest {
            pod_sandbox_id: id.to_owned(),
            resources: Some(api::LinuxContainerResources {
                memory_limit_in_bytes: 64 << 20,
                ..Default::default()
            }),
            ..Default::default()
        };
        client.runtime.update_pod_sandbox_resources(limits(&pod_id)).await.unwrap();
        client.runtime.update_pod_sandbox_resources(limits(&pod_id)).await.unwrap();
        let answer = client.runtime.update_pod_sandbox_resources(limits(&"0".repeat(64))).await;
        refused(answer, Code::NotFound);
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}
