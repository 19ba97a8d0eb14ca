//! The daemon ends, in every way, and comes back: pods and containers go on and are known again.

use std::time::Duration;

use crioxide::cri::api;
use crioxide::cri::api::ContainerState;
use crioxide::cri::api::PodSandboxState;
use tonic::Code;

use crate::scene;
use crate::scene::said;
use crate::scene::script;
use crate::support::client::Client;
use crate::support::daemon::Daemon;

/// Everything that the daemon says of its pods and containers.
async fn told(client: &mut Client) -> String {
    let pods = client.pods().await.unwrap();
    let containers = client.containers().await.unwrap();
    let mut text = String::new();
    for pod in &pods {
        text += &format!("{pod:#?}\n{:#?}\n", client.pod_status(&pod.id).await.unwrap());
    }
    for container in &containers {
        let status = client.status(&container.id).await.unwrap();
        text += &format!("{container:#?}\n{status:#?}\n");
    }
    // Maps have no order of their own.
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

fn lines(client: &Client, pod: &api::PodSandboxConfig, container: &api::ContainerConfig) -> usize {
    client.log(pod, container).lines().count()
}

#[test]
fn pods_and_containers_are_the_same_after_a_crash_and_after_an_orderly_end() {
    scene::story(&[], |mut daemon, mut client| async move {
        let pod = client.pod("shop");
        let pod_id = client.run_pod(&pod).await.unwrap();
        let mut of_node = client.pod("node");
        let options =
            api::NamespaceOption { network: api::NamespaceMode::Node.into(), ..Default::default() };
        of_node.linux.as_mut().unwrap().security_context = Some(api::LinuxSandboxSecurityContext {
            namespace_options: Some(options),
            ..Default::default()
        });
        let of_node_id = client.run_pod(&of_node).await.unwrap();
        let stopped_id = client.run_pod(&client.pod("stopped")).await.unwrap();
        client.stop_pod(&stopped_id).await.unwrap();

        let ticks = script(&client, "ticks", "while :; do echo tick; sleep 0.05; done");
        let ticks_id = client.run(&pod_id, &pod, &ticks).await.unwrap();
        let over = script(&client, "over", "exit 3");
        let over_id = client.run(&pod_id, &pod, &over).await.unwrap();
        assert_eq!(client.exited(&over_id).await.unwrap().exit_code, 3);
        let fresh = script(&client, "fresh", "echo fresh; sleep 600");
        let fresh_id = client.create(&pod_id, &pod, &fresh).await.unwrap();
        let before = told(&mut client).await;
        assert!(before.contains("10.85.0.") && before.contains("exit_code: 3"), "{before}");

        for crash in [true, false] {
            if crash {
                daemon.kill().await;
            } else {
                daemon.stop().await;
            }
            let count = lines(&client, &pod, &ticks);
            scene::until("a log that goes on", || lines(&client, &pod, &ticks) > count + 2).await;
            daemon.start().await;
            client = daemon.client().await;
            assert_eq!(told(&mut client).await, before);
            let count = lines(&client, &pod, &ticks);
            scene::until("a log that goes on", || lines(&client, &pod, &ticks) > count + 2).await;
            assert_eq!(said(&mut client, &ticks_id, "echo here").await, "here");
        }

        client.start(&fresh_id).await.unwrap();
        scene::until("its log", || client.log(&pod, &fresh).contains("fresh")).await;
        let more = client.run(&pod_id, &pod, &script(&client, "more", "sleep 600")).await.unwrap();
        client.stop(&more, 0).await.unwrap();
        assert_eq!(client.status(&more).await.unwrap().exit_code, 137);
        client.remove(&over_id).await.unwrap();
        for id in [pod_id, of_node_id, stopped_id] {
            client.remove_pod(&id).await.unwrap();
        }
        assert!(client.containers().await.unwrap().is_empty());
        daemon
    });
}

#[test]
fn ends_that_no_daemon_saw_are_told_after_it_comes_back() {
    scene::story(&[], |mut daemon, mut client| async move {
        let pod = client.pod("shop");
        let pod_id = client.run_pod(&pod).await.unwrap();
        std::fs::create_dir(daemon.path("gate")).unwrap();
        let gate = daemon.path("gate").display().to_string();
        let code = behind(&gate, script(&client, "code", "exit 7"));
        let code = client.run(&pod_id, &pod, &code).await.unwrap();
        let hungry = script(&client, "hungry", "a=x; while :; do a=$a$a$a$a; done");
        let mut hungry = behind(&gate, hungry);
        hungry.linux.as_mut().unwrap().resources = Some(api::LinuxContainerResources {
            memory_limit_in_bytes: 16 << 20,
            memory_swap_limit_in_bytes: 16 << 20,
            ..Default::default()
        });
        let hungry = client.run(&pod_id, &pod, &hungry).await.unwrap();
        let lost = script(&client, "lost", "sleep 600");
        let lost = client.run(&pod_id, &pod, &lost).await.unwrap();
        let lost_pid = scene::pid_of(&mut client, &lost).await;
        let orphan = script(&client, "orphan", "trap : TERM; while :; do sleep 0.1; done");
        let orphan = client.run(&pod_id, &pod, &orphan).await.unwrap();
        daemon.kill().await;
        let from = now();
        daemon.write("gate/open", "");
        for id in [&lost, &orphan] {
            for monitor in scene::processes(&["conmon", id]) {
                scene::kill(monitor);
            }
        }
        scene::kill(lost_pid);
        let ended = |id: &String| daemon.path("exits").join(id).exists();
        scene::until("two ends", || ended(&code) && ended(&hungry)).await;
        let to = now();
        tokio::time::sleep(Duration::from_millis(300)).await;

        daemon.start().await;
        client = daemon.client().await;
        for (id, code, reason) in
            [(&code, 7, "Error"), (&hungry, 137, "OOMKilled"), (&lost, 255, "Error")]
        {
            let status = client.status(id).await.unwrap();
            assert_eq!(status.state(), ContainerState::ContainerExited, "{reason}");
            assert_eq!((status.exit_code, status.reason.as_str()), (code, reason));
            assert!(status.started_at < status.finished_at);
            if *id != lost {
                assert!((from..=to).contains(&status.finished_at), "{status:?}");
            }
        }
        // Nobody will write down how this one ends.
        let status = client.status(&orphan).await.unwrap();
        assert_eq!(status.state(), ContainerState::ContainerRunning);
        client.stop(&orphan, 1).await.unwrap();
        let status = client.status(&orphan).await.unwrap();
        assert_eq!(status.state(), ContainerState::ContainerExited);
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

/// The container, which does what it does once there is a file `open` in a directory of the node.
fn behind(gate: &str, mut container: api::ContainerConfig) -> api::ContainerConfig {
    let then = container.command.pop().unwrap();
    container.command.push(format!("until [ -e /gate/open ]; do sleep 0.05; done; {then}"));
    container.mounts.push(api::Mount {
        host_path: gate.to_owned(),
        container_path: "/gate".to_owned(),
        ..Default::default()
    });
    container
}

fn now() -> i64 {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    i64::try_from(now.as_nanos()).unwrap()
}

/// Cuts what the daemon is doing after so long, and starts it again.
async fn cut(daemon: &mut Daemon, after: Duration) -> Client {
    tokio::time::sleep(after).await;
    daemon.kill().await;
    daemon.start().await;
    daemon.client().await
}

fn moments(longest: Duration, count: u32) -> impl Iterator<Item = Duration> {
    (0..count).map(move |step| longest * step / count)
}

#[test]
fn a_pod_that_was_being_made_is_no_half_pod_after_a_crash() {
    scene::story(&[], |mut daemon, mut client| async move {
        let mut pod = client.pod("shop");
        pod.linux.as_mut().unwrap().sysctls.insert("net.core.somaxconn".into(), "99".into());
        let begun = std::time::Instant::now();
        let id = client.run_pod(&pod).await.unwrap();
        let took = begun.elapsed();
        client.remove_pod(&id).await.unwrap();
        for moment in moments(took + Duration::from_millis(10), 12) {
            let (mut other, asked) = (client.clone(), pod.clone());
            let request = tokio::spawn(async move { other.run_pod(&asked).await });
            client = cut(&mut daemon, moment).await;
            let answered = request.await.unwrap().ok();
            let pods = client.pods().await.unwrap();
            let ready = |pod: &api::PodSandbox| pod.state() == PodSandboxState::SandboxReady;
            assert!(pods.iter().all(ready), "{moment:?}: {pods:?}");
            if let Some(id) = &answered {
                assert_eq!(pods.len(), 1);
                assert_eq!(&pods[0].id, id);
            }
            if pods.is_empty() {
                scene::unchanged(&daemon, &[], &format!("cut after {moment:?}")).await;
            }
            let id = client.run_pod(&pod).await.unwrap();
            assert_eq!(client.pods().await.unwrap().len(), 1);
            client.remove_pod(&id).await.unwrap();
            scene::unchanged(&daemon, &[], "removed").await;
        }
        daemon
    });
}

#[test]
fn a_container_that_was_being_made_is_no_half_container_after_a_crash() {
    scene::story(&[], |mut daemon, mut client| async move {
        let pod = client.pod("shop");
        let pod_id = client.run_pod(&pod).await.unwrap();
        let untouched = scene::kept(&daemon);
        let container = script(&client, "web", "sleep 600");
        let begun = std::time::Instant::now();
        let id = client.create(&pod_id, &pod, &container).await.unwrap();
        let took = begun.elapsed();
        client.remove(&id).await.unwrap();
        for moment in moments(took + Duration::from_millis(20), 12) {
            let (mut other, asked, of) = (client.clone(), container.clone(), pod.clone());
            let in_pod = pod_id.clone();
            let request = tokio::spawn(async move { other.create(&in_pod, &of, &asked).await });
            client = cut(&mut daemon, moment).await;
            let answered = request.await.unwrap().ok();
            let containers = client.containers().await.unwrap();
            let created = |one: &api::Container| one.state() == ContainerState::ContainerCreated;
            assert!(containers.iter().all(created), "{moment:?}: {containers:?}");
            if let Some(id) = &answered {
                assert_eq!(containers.len(), 1);
                assert_eq!(&containers[0].id, id);
            }
            if containers.is_empty() {
                scene::unchanged(&daemon, &untouched, &format!("cut after {moment:?}")).await;
            }
            let id = client.run(&pod_id, &pod, &container).await.unwrap();
            assert_eq!(client.containers().await.unwrap().len(), 1);
            client.remove(&id).await.unwrap();
            scene::unchanged(&daemon, &untouched, "removed").await;
        }
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

#[test]
fn a_record_of_a_later_version_is_left_alone() {
    scene::story(&["its record is left alone"], |mut daemon, mut client| async move {
        let pod = client.pod("shop");
        let pod_id = client.run_pod(&pod).await.unwrap();
        let id = client.run(&pod_id, &pod, &script(&client, "web", "sleep 600")).await.unwrap();
        daemon.stop().await;
        let files = [
            format!("storage/crioxide/sandboxes/{pod_id}/record.json"),
            format!("storage/overlay-containers/{id}/userdata/record.json"),
        ];
        let texts = files.clone().map(|file| std::fs::read_to_string(daemon.path(&file)).unwrap());
        for (file, text) in files.iter().zip(&texts) {
            assert!(text.starts_with(r#"{"format":1,"#));
            daemon.write(file, &text.replacen(r#""format":1"#, r#""format":9"#, 1));
        }
        daemon.start().await;
        client = daemon.client().await;
        assert!(client.pods().await.unwrap().is_empty());
        assert!(client.containers().await.unwrap().is_empty());
        let refusal = client.status(&id).await;
        scene::refused(refusal, Code::NotFound);
        daemon.stop().await;
        for (file, text) in files.iter().zip(&texts) {
            assert!(daemon.path(file).exists());
            daemon.write(file, text);
        }
        daemon.start().await;
        client = daemon.client().await;
        assert_eq!(client.pods().await.unwrap().len(), 1);
        assert_eq!(said(&mut client, &id, "echo here").await, "here");
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}
