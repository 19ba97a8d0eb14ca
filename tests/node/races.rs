//! Requests that cross each other, on purpose: plugins of the network and the runtime are held in the
//! middle of what they do, fail as often as they are told, and the daemon is killed beside them. In
//! the end everything is as if they had come one after the other, and nothing is left.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use crioxide::cri::api;
use crioxide::cri::api::ContainerState;
use crioxide::cri::api::PodSandboxState;
use tokio::sync::Semaphore;
use tonic::Code;
use tonic::Request;
use tonic::Status;

use crate::scene;
use crate::scene::refused;
use crate::scene::script;
use crate::scene::until;
use crate::support::client::Client;
use crate::support::daemon::Daemon;
use crate::support::host;
use crate::support::net;

/// Puts a program before another one: it notes each call, waits while there is a file `hold.<verb>`,
/// and fails as often as `fail.<verb>` says.
fn before(daemon: &Daemon, program: &Path, name: &str, verb: &str, failure: &str) {
    let root = daemon.path("").display().to_string();
    let program = program.display();
    let text = format!(
        "#!/bin/sh\n\
         root={root}\n\
         {verb}\n\
         echo \"$verb\" >> $root/calls\n\
         while [ -e $root/hold.$verb ]; do sleep 0.02; done\n\
         left=$(cat $root/fail.$verb 2>/dev/null || echo 0)\n\
         if [ $left -gt 0 ]; then echo $((left - 1)) > $root/fail.$verb; {failure}; fi\n\
         exec {program} \"$@\"\n"
    );
    daemon.write(name, &text);
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(daemon.path(name), mode).unwrap();
}

/// The bridge plugin and runc, to be held.
fn can_be_held(daemon: &mut Daemon) {
    let cni = host::cni_directory().unwrap();
    std::fs::create_dir(daemon.path("plugins")).unwrap();
    let failure = "echo '{\"cniVersion\":\"1.0.0\",\"code\":100,\"msg\":\"not today\"}'; exit 1";
    before(daemon, &cni.join("bridge"), "plugins/held", "verb=$CNI_COMMAND", failure);
    let list = std::fs::read_to_string(daemon.path("cni/10-bridge.conflist")).unwrap();
    let list = list.replace(r#""type":"bridge""#, r#""type":"held""#);
    daemon.write("cni/10-bridge.conflist", &list);
    daemon.argument(&format!("--cni-plugin-dir={}", daemon.path("plugins").display()));
    let verb = "for word in \"$@\"; do case $word in create|start|delete) verb=$word;; esac; done";
    before(daemon, &host::program("runc").unwrap(), "slow-runc", verb, "exit 1");
    daemon.config(&format!(
        "[crio.runtime.runtimes.runc]\nruntime_path = {:?}\nruntime_root = {:?}\nmonitor_path = {:?}\n",
        daemon.path("slow-runc"),
        daemon.path("runc"),
        host::program("conmon").unwrap(),
    ));
}

fn hold(daemon: &Daemon, verb: &str) {
    daemon.write("calls", "");
    daemon.write(&format!("hold.{verb}"), "");
}

/// Waits until the verb is held.
async fn held(daemon: &Daemon, verb: &str) {
    let calls = daemon.path("calls");
    let called = || std::fs::read_to_string(&calls).is_ok_and(|text| text.contains(verb));
    until(&format!("{verb} is held"), called).await;
}

fn let_go(daemon: &Daemon, verb: &str) {
    std::fs::remove_file(daemon.path(&format!("hold.{verb}"))).unwrap();
}

/// Asks for a pod as one who waits for so long.
async fn run_within(
    client: &mut Client,
    pod: &api::PodSandboxConfig,
    patience: Duration,
) -> Result<String, Status> {
    let mut request =
        Request::new(api::RunPodSandboxRequest { config: Some(pod.clone()), ..Default::default() });
    request.set_timeout(patience);
    Ok(client.runtime.run_pod_sandbox(request).await?.into_inner().pod_sandbox_id)
}

/// Asks for a container as one who waits for so long.
async fn create_within(
    client: &mut Client,
    pod_id: &str,
    container: &api::ContainerConfig,
    patience: Duration,
) -> Result<String, Status> {
    let mut request = Request::new(api::CreateContainerRequest {
        pod_sandbox_id: pod_id.to_owned(),
        config: Some(container.clone()),
        sandbox_config: None,
    });
    request.set_timeout(patience);
    Ok(client.runtime.create_container(request).await?.into_inner().container_id)
}

fn metrics(daemon: &mut Daemon) {
    can_be_held(daemon);
    daemon.config("[crio.metrics]\nenable_metrics = true\nmetrics_port = 19091\n");
}

fn scrape() -> String {
    use std::io::Read;
    use std::io::Write;
    let mut stream = std::net::TcpStream::connect("127.0.0.1:19091").unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: node\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn who_runs_out_of_time_is_told_the_stage_and_given_the_same_pod_at_the_next_try() {
    scene::prepared(&[], metrics, |daemon, mut client| async move {
        let pod = client.pod("shop");
        hold(&daemon, "ADD");
        let late = run_within(&mut client, &pod, Duration::from_secs(2)).await;
        let told = refused(late, Code::DeadlineExceeded);
        assert!(told.starts_with("kubelet may be retrying requests that are timing out"), "{told}");
        assert!(told.contains("Currently at stage sandbox network creation: "), "{told}");
        assert!(client.pods().await.unwrap().is_empty(), "half a pod is none");
        let (mut other, asked) = (client.clone(), pod.clone());
        let next = tokio::spawn(async move { other.run_pod(&asked).await });
        let late = run_within(&mut client, &pod, Duration::from_millis(300)).await;
        refused(late, Code::DeadlineExceeded);
        let_go(&daemon, "ADD");
        let id = next.await.unwrap().unwrap();
        assert_eq!(client.run_pod(&pod).await.unwrap(), id);
        assert_eq!(client.pods().await.unwrap().len(), 1);
        let stalled = scrape();
        let name = "container_runtime_crio_resources_stalled_at_stage";
        let line = format!("{name}{{stage=\"sandbox network creation\"}} 2");
        assert!(stalled.lines().any(|have| have == line), "{stalled}");
        client.remove_pod(&id).await.unwrap();
        daemon
    });
}

#[test]
fn a_container_whose_creator_ran_out_of_time_is_hidden_and_handed_to_the_next_try() {
    scene::prepared(&[], can_be_held, |mut daemon, mut client| async move {
        let pod = client.pod("shop");
        let pod_id = client.run_pod(&pod).await.unwrap();
        let before = scene::kept(&daemon);
        let web = script(&client, "web", "sleep 600");
        hold(&daemon, "create");
        let patience = Duration::from_secs(2);
        let told = create_within(&mut client, &pod_id, &web, patience).await;
        let told = refused(told, Code::DeadlineExceeded);
        assert!(told.contains("Currently at stage container runtime creation: "), "{told}");
        let_go(&daemon, "create");
        let runc = daemon.path("runc");
        until("it is made", || std::fs::read_dir(&runc).is_ok_and(|found| found.count() == 1))
            .await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(client.containers().await.unwrap().is_empty(), "nobody was told of it");
        let id = client.create(&pod_id, &pod, &web).await.unwrap();
        assert_eq!(std::fs::read_dir(&runc).unwrap().count(), 1, "it is that one");
        client.start(&id).await.unwrap();
        client.remove(&id).await.unwrap();

        // One that nobody asks for again goes; here with the daemon that knew of it.
        hold(&daemon, "create");
        let told = create_within(&mut client, &pod_id, &web, Duration::from_secs(1)).await;
        refused(told, Code::DeadlineExceeded);
        let_go(&daemon, "create");
        until("it is made", || std::fs::read_dir(&runc).is_ok_and(|found| found.count() == 1))
            .await;
        daemon.restart().await;
        client = daemon.client().await;
        assert!(client.containers().await.unwrap().is_empty());
        scene::unchanged(&daemon, &before, "nobody asked again").await;
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

/// The id of the only pod that is being made.
fn half_made(daemon: &Daemon) -> String {
    let mut found = std::fs::read_dir(daemon.path("storage/crioxide/sandboxes")).unwrap();
    found.next().unwrap().unwrap().file_name().into_string().unwrap()
}

#[test]
fn a_pod_that_is_being_made_is_neither_stopped_nor_removed() {
    scene::prepared(&[], can_be_held, |daemon, mut client| async move {
        let pod = client.pod("shop");
        hold(&daemon, "ADD");
        let (mut other, asked) = (client.clone(), pod.clone());
        let run = tokio::spawn(async move { other.run_pod(&asked).await });
        held(&daemon, "ADD").await;
        let id = half_made(&daemon);
        let told = refused(client.stop_pod(&id).await, Code::FailedPrecondition);
        assert!(told.contains("still being made"), "{told}");
        let request = api::RemovePodSandboxRequest { pod_sandbox_id: id.clone() };
        let removed = client.runtime.remove_pod_sandbox(request).await;
        refused(removed, Code::FailedPrecondition);
        let_go(&daemon, "ADD");
        assert_eq!(run.await.unwrap().unwrap(), id);
        client.remove_pod(&id).await.unwrap();
        daemon
    });
}

#[test]
fn a_pod_that_is_stopped_or_removed_takes_no_container_that_was_on_its_way() {
    scene::prepared(&["CreateContainer"], can_be_held, |daemon, mut client| async move {
        for remove in [false, true] {
            let pod = client.pod("shop");
            let pod_id = client.run_pod(&pod).await.unwrap();
            let web = script(&client, "web", "sleep 600");
            hold(&daemon, "create");
            let (mut other, of, asked) = (client.clone(), pod.clone(), web.clone());
            let in_pod = pod_id.clone();
            let create = tokio::spawn(async move { other.create(&in_pod, &of, &asked).await });
            held(&daemon, "create").await;
            if remove {
                client.remove_pod(&pod_id).await.unwrap();
            } else {
                client.stop_pod(&pod_id).await.unwrap();
                let status = client.pod_status(&pod_id).await.unwrap();
                assert_eq!(status.state(), PodSandboxState::SandboxNotready);
            }
            let_go(&daemon, "create");
            create.await.unwrap().unwrap_err();
            assert!(client.containers().await.unwrap().is_empty());
            client.remove_pod(&pod_id).await.unwrap();
            scene::unchanged(&daemon, &[], "its pod went").await;
        }
        daemon
    });
}

#[test]
fn a_container_is_stopped_while_it_starts_and_removed_while_it_stops() {
    scene::prepared(&["StartContainer"], can_be_held, |daemon, mut client| async move {
        let pod = client.pod("shop");
        let pod_id = client.run_pod(&pod).await.unwrap();
        let before = scene::kept(&daemon);
        let web = script(&client, "web", "sleep 600");
        let id = client.create(&pod_id, &pod, &web).await.unwrap();
        hold(&daemon, "start");
        let (mut other, asked) = (client.clone(), id.clone());
        let start = tokio::spawn(async move { other.start(&asked).await });
        held(&daemon, "start").await;
        client.stop(&id, 0).await.unwrap();
        let_go(&daemon, "start");
        // It came too late; whatever it says, the container is over.
        let _ = start.await.unwrap();
        let status = client.status(&id).await.unwrap();
        assert_eq!(status.state(), ContainerState::ContainerExited);
        client.remove(&id).await.unwrap();

        let text = "trap 'echo asked' TERM; echo ready; while :; do sleep 0.1; done";
        let deaf = script(&client, "deaf", text);
        let id = client.run(&pod_id, &pod, &deaf).await.unwrap();
        until("it can be asked", || client.log(&pod, &deaf).contains("ready")).await;
        let (mut other, asked) = (client.clone(), id.clone());
        let stop = tokio::spawn(async move { other.stop(&asked, 600).await });
        until("it is asked", || client.log(&pod, &deaf).contains("asked")).await;
        let (mut other, asked) = (client.clone(), id.clone());
        let again = tokio::spawn(async move { other.remove(&asked).await });
        client.remove(&id).await.unwrap();
        stop.await.unwrap().unwrap();
        again.await.unwrap().unwrap();
        refused(client.status(&id).await, Code::NotFound);
        scene::unchanged(&daemon, &before, "removed").await;
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

#[test]
fn a_name_whose_container_is_being_removed_is_for_a_new_one() {
    scene::prepared(&[], can_be_held, |daemon, mut client| async move {
        let pod = client.pod("shop");
        let pod_id = client.run_pod(&pod).await.unwrap();
        let web = script(&client, "web", "sleep 600");
        let old = client.create(&pod_id, &pod, &web).await.unwrap();
        hold(&daemon, "delete");
        let (mut other, asked) = (client.clone(), old.clone());
        let remove = tokio::spawn(async move { other.remove(&asked).await });
        held(&daemon, "delete").await;
        let (mut other, of, asked) = (client.clone(), pod.clone(), web.clone());
        let in_pod = pod_id.clone();
        let create = tokio::spawn(async move { other.create(&in_pod, &of, &asked).await });
        let stage = "asked for again";
        assert!(!daemon.log().contains(stage));
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(!create.is_finished(), "it waits for the removal");
        let_go(&daemon, "delete");
        remove.await.unwrap().unwrap();
        let new = create.await.unwrap().unwrap();
        assert_ne!(new, old);
        client.start(&new).await.unwrap();
        refused(client.status(&old).await, Code::NotFound);
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

#[test]
fn a_paused_container_hears_its_stop_signal() {
    scene::story(&[], |daemon, mut client| async move {
        let pod = client.pod("shop");
        let pod_id = client.run_pod(&pod).await.unwrap();
        let text = "trap 'exit 42' TERM; echo ready; while :; do sleep 0.05; done";
        let polite = script(&client, "polite", text);
        let id = client.run(&pod_id, &pod, &polite).await.unwrap();
        until("it can be asked", || client.log(&pod, &polite).contains("ready")).await;
        let root = daemon.path("runc").display().to_string();
        host::run("runc", &["--root", &root, "pause", &id]);
        client.stop(&id, 20).await.unwrap();
        assert_eq!(client.status(&id).await.unwrap().exit_code, 42);
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

#[test]
fn an_end_that_is_told_of_too_late_leaves_no_file() {
    scene::story(&[], |daemon, mut client| async move {
        let pod = client.pod("shop");
        let pod_id = client.run_pod(&pod).await.unwrap();
        let web = script(&client, "web", "sleep 600");
        let id = client.run(&pod_id, &pod, &web).await.unwrap();
        client.remove(&id).await.unwrap();
        // As its monitor does it, when it is slow.
        daemon.write(&format!("exits/{id}"), "0");
        let file = daemon.path("exits").join(&id);
        until("no file of it", || !file.exists()).await;
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

#[test]
fn a_network_that_is_not_given_back_is_asked_again_until_it_is() {
    scene::prepared(&["not today"], can_be_held, |daemon, mut client| async move {
        let pod = client.pod("shop");
        let id = client.run_pod(&pod).await.unwrap();
        daemon.write("fail.DEL", "3");
        assert!(client.stop_pod(&id).await.unwrap_err().message().contains("not today"));
        assert!(client.remove_pod(&id).await.is_err(), "its address is still taken");
        let left = daemon.path("fail.DEL");
        let paid = || std::fs::read_to_string(&left).is_ok_and(|text| text.trim() == "0");
        until("nobody but the daemon asks again", paid).await;
        client.remove_pod(&id).await.unwrap();
        scene::unchanged(&daemon, &[], "given back").await;
        daemon
    });
}

#[test]
fn a_daemon_starts_while_the_network_of_a_half_made_pod_hangs() {
    let allowed = ["not today"];
    scene::prepared(&allowed, can_be_held, |mut daemon, mut client| async move {
        hold(&daemon, "ADD");
        let (mut other, asked) = (client.clone(), client.pod("half"));
        let run = tokio::spawn(async move { other.run_pod(&asked).await });
        held(&daemon, "ADD").await;
        let plugin = daemon.path("plugins/held").display().to_string();
        let orphans = scene::processes(&["/bin/sh", &plugin]);
        assert!(!orphans.is_empty());
        daemon.kill().await;
        assert!(run.await.unwrap().is_err());
        hold(&daemon, "DEL");
        daemon.write("fail.DEL", "1");
        let begun = Instant::now();
        daemon.start().await;
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        client = daemon.client().await;
        held(&daemon, "DEL").await;
        // The ADD that the dead daemon began is ended; the DEL of this one is what is there.
        let left = scene::processes(&["/bin/sh", &plugin]);
        assert!(!left.is_empty() && orphans.iter().all(|pid| !left.contains(pid)), "{left:?}");
        assert!(client.pods().await.unwrap().is_empty());
        let_go(&daemon, "ADD");
        let id = client.run_pod(&client.pod("whole")).await.unwrap();
        let half = |daemon: &Daemon| {
            let places = std::fs::read_dir(daemon.path("storage/crioxide/sandboxes")).unwrap();
            places.count() - 1
        };
        assert_eq!(half(&daemon), 1);
        let_go(&daemon, "DEL");
        // It fails once, and is tried again.
        until("the half-made pod is gone", || half(&daemon) == 0).await;
        client.remove_pod(&id).await.unwrap();
        scene::unchanged(&daemon, &[], "all gone").await;
        daemon
    });
}

/// One pod with a container, from its beginning to its end.
async fn life(mut client: Client, number: usize) -> Result<(), Status> {
    let pod = client.pod(&format!("shop{number}"));
    let id = client.run_pod(&pod).await?;
    client.run(&id, &pod, &script(&client, "web", "sleep 600")).await?;
    client.remove_pod(&id).await
}

/// Begins these lives, 20 at once, until the turns are closed.
fn begin(client: &Client, numbers: &[usize], turns: &Arc<Semaphore>) -> Vec<Life> {
    let one = |&number: &usize| {
        let (client, turns) = (client.clone(), Arc::clone(turns));
        tokio::spawn(async move {
            let turn = turns.acquire().await.map_err(|_| Status::aborted("no turn"));
            let lived = match turn {
                Ok(_turn) => life(client, number).await,
                Err(status) => Err(status),
            };
            lived.map_err(|status| (number, status))
        })
    };
    numbers.iter().map(one).collect()
}

type Life = tokio::task::JoinHandle<Result<(), (usize, Status)>>;

#[test]
fn a_hundred_pods_come_and_go_over_a_crash_and_nothing_is_left() {
    scene::story(&[], |mut daemon, mut client| async move {
        let begun = Instant::now();
        let turns = Arc::new(Semaphore::new(20));
        let all: Vec<usize> = (0..100).collect();
        let lives = begin(&client, &all, &turns);
        until("pods come and go", || daemon.log().matches("rpc=RemovePodSandbox").count() > 20)
            .await;
        turns.close();
        daemon.kill().await;
        daemon.start().await;
        client = daemon.client().await;
        let mut again = Vec::new();
        for life in lives {
            again.extend(life.await.unwrap().err().map(|(number, _)| number));
        }
        assert!(again.len() > 20 && again.len() < 90, "in the middle of it: {}", again.len());
        // As the kubelet does with pods that it does not know of.
        for pod in client.pods().await.unwrap() {
            client.remove_pod(&pod.id).await.unwrap();
        }
        for life in begin(&client, &again, &Arc::new(Semaphore::new(20))) {
            life.await.unwrap().unwrap();
        }
        assert!(client.pods().await.unwrap().is_empty());
        assert!(client.containers().await.unwrap().is_empty());
        scene::unchanged(&daemon, &[], "100 pods").await;
        assert!(net::interfaces().iter().all(|name| !name.starts_with("veth")));
        eprintln!("100 pods over a crash: {:?}", begun.elapsed());
        daemon
    });
}
