//! What happens is told to whoever listens, as the kubelet's evented PLEG does; and it is counted.

use std::io::Read;
use std::io::Write;
use std::time::Duration;

use crioxide::cri::api;
use crioxide::cri::api::ContainerEventType;
use crioxide::cri::api::ContainerState;
use crioxide::cri::api::PodSandboxState;
use tokio::sync::mpsc;
use tonic::Code;
use tonic::Status;

use crate::scene;
use crate::scene::script;
use crate::support::client::Client;
use crate::support::daemon::Daemon;

fn with_events(daemon: &mut Daemon) {
    daemon.config("[crio.runtime]\nenable_pod_events = true\n");
}

/// What a client hears, read as it comes.
struct Heard {
    events: mpsc::UnboundedReceiver<Result<api::ContainerEventResponse, Status>>,
}

/// Listens; the server knows of it when this is over.
async fn listen(client: &Client) -> Heard {
    let mut client = client.clone();
    let answer = client.runtime.get_container_events(api::GetEventsRequest {}).await;
    let mut stream = answer.unwrap().into_inner();
    let (sender, events) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(event) = stream.message().await.transpose() {
            if sender.send(event).is_err() {
                break;
            }
        }
    });
    Heard { events }
}

impl Heard {
    async fn next(&mut self) -> api::ContainerEventResponse {
        let next = tokio::time::timeout(Duration::from_secs(20), self.events.recv()).await;
        next.expect("an event within 20 seconds").expect("no end of the stream").unwrap()
    }

    /// The next events are these and no others, each later than the one before.
    #[track_caller]
    fn are<'a>(
        &'a mut self,
        expected: &'a [(ContainerEventType, &'a str)],
    ) -> impl Future<Output = Vec<api::ContainerEventResponse>> + use<'a> {
        let place = std::panic::Location::caller();
        async move {
            let mut all: Vec<api::ContainerEventResponse> = Vec::new();
            for (kind, id) in expected {
                let event = self.next().await;
                let heard = (event.container_event_type(), event.container_id.as_str());
                assert_eq!(heard, (*kind, *id), "{place}");
                assert!(all.last().is_none_or(|last| last.created_at < event.created_at));
                all.push(event);
            }
            all
        }
    }
}

#[test]
fn a_pods_life_is_told_in_order_with_the_whole_pod_in_every_event() {
    use ContainerEventType::ContainerCreatedEvent as Created;
    use ContainerEventType::ContainerDeletedEvent as Deleted;
    use ContainerEventType::ContainerStartedEvent as Started;
    use ContainerEventType::ContainerStoppedEvent as Stopped;
    scene::prepared(&[], with_events, |daemon, mut client| async move {
        let (mut heard, mut other) = (listen(&client).await, listen(&client).await);
        let pod = client.pod("shop");
        let pod_id = client.run_pod(&pod).await.unwrap();
        let events = heard.are(&[(Created, &pod_id), (Started, &pod_id)]).await;
        let status = events[0].pod_sandbox_status.clone().unwrap();
        assert_eq!(status, client.pod_status(&pod_id).await.unwrap());
        assert_eq!(status.state(), PodSandboxState::SandboxReady);
        assert!(events[0].containers_statuses.is_empty());

        let over = client.run(&pod_id, &pod, &script(&client, "over", "exit 3")).await.unwrap();
        let events = heard.are(&[(Created, &over), (Started, &over), (Stopped, &over)]).await;
        let states: Vec<_> =
            events.iter().map(|event| event.containers_statuses[0].state()).collect();
        use ContainerState::*;
        assert_eq!(states, [ContainerCreated, ContainerRunning, ContainerExited]);
        let ended = client.status(&over).await.unwrap();
        assert_eq!(events[2].containers_statuses, std::slice::from_ref(&ended));
        assert_eq!((ended.exit_code, ended.reason.as_str()), (3, "Error"));

        // One whose monitor dies before it is told of by whoever looks.
        let lost = client.run(&pod_id, &pod, &script(&client, "lost", "sleep 600")).await.unwrap();
        let events = heard.are(&[(Created, &lost), (Started, &lost)]).await;
        assert_eq!(events[1].containers_statuses.len(), 2, "the ended one is there too");
        let pid = scene::pid_of(&mut client, &lost).await;
        for monitor in scene::processes(&["conmon", &lost]) {
            scene::kill(monitor);
        }
        if std::path::Path::new("/proc").join(pid.to_string()).exists() {
            scene::kill(pid);
        }
        heard.are(&[(Stopped, &lost)]).await;
        client.stop(&lost, 1).await.unwrap();
        client.remove(&over).await.unwrap();
        client.remove(&over).await.unwrap();
        let events = heard.are(&[(Deleted, &over)]).await;
        assert_eq!(events[0].containers_statuses.len(), 1, "it is not there any more");

        client.stop_pod(&pod_id).await.unwrap();
        client.stop_pod(&pod_id).await.unwrap();
        let events = heard.are(&[(Stopped, &pod_id)]).await;
        let status = events[0].pod_sandbox_status.clone().unwrap();
        assert_eq!(status.state(), PodSandboxState::SandboxNotready);
        client.remove_pod(&pod_id).await.unwrap();
        client.remove_pod(&pod_id).await.unwrap();
        let events = heard.are(&[(Deleted, &lost), (Deleted, &pod_id)]).await;
        let metadata = events[1].pod_sandbox_status.clone().unwrap().metadata;
        assert_eq!(metadata, pod.metadata, "the kubelet knows the pod by it");

        // Whoever listens beside it hears the same, and nothing else.
        let again = client.run_pod(&pod).await.unwrap();
        heard.are(&[(Created, &again), (Started, &again)]).await;
        let count = 2 + 3 + 3 + 1 + 1 + 2 + 2;
        let mut ids = Vec::new();
        for _ in 0..count {
            ids.push(other.next().await.container_id);
        }
        assert_eq!(ids.last(), Some(&again));
        client.remove_pod(&again).await.unwrap();
        daemon
    });
}

#[test]
fn a_pod_whose_process_was_killed_is_told_of_as_stopped_and_its_status_is_as_of_a_time() {
    scene::prepared(&[], with_events, |daemon, mut client| async move {
        let pod = client.pod("shop");
        let id = client.run_pod(&pod).await.unwrap();
        let web = client.run(&id, &pod, &script(&client, "web", "sleep 600")).await.unwrap();
        let request = api::PodSandboxStatusRequest { pod_sandbox_id: id.clone(), verbose: true };
        let answer = client.runtime.pod_sandbox_status(request).await.unwrap().into_inner();
        assert_eq!(answer.containers_statuses, [client.status(&web).await.unwrap()]);
        let mut heard = listen(&client).await;
        let info: serde_json::Value = serde_json::from_str(&answer.info["info"]).unwrap();
        scene::kill(i32::try_from(info["pid"].as_i64().unwrap()).unwrap());
        let mut ids = [heard.next().await, heard.next().await].map(|event| {
            assert_eq!(event.container_event_type(), ContainerEventType::ContainerStoppedEvent);
            assert!(event.created_at > answer.timestamp, "it is news beside the status");
            event.container_id
        });
        ids.sort_unstable();
        let mut expected = [id.clone(), web];
        expected.sort_unstable();
        assert_eq!(ids, expected);
        client.remove_pod(&id).await.unwrap();
        daemon
    });
}

#[test]
fn a_pod_that_fails_on_the_way_is_not_told_of() {
    scene::prepared(&["RunPodSandbox"], with_events, |daemon, mut client| async move {
        let mut heard = listen(&client).await;
        let mut pod = client.pod("shop");
        pod.linux.as_mut().unwrap().sysctls.insert("net.core.nothing".into(), "1".into());
        client.run_pod(&pod).await.unwrap_err();
        let good = client.run_pod(&client.pod("shop")).await.unwrap();
        assert_eq!(heard.next().await.container_id, good);
        client.remove_pod(&good).await.unwrap();
        daemon
    });
}

#[test]
fn without_the_setting_the_stream_ends_well_and_the_kubelet_looks_at_the_lists() {
    scene::story(&[], |daemon, mut client| async move {
        let mut heard = listen(&client).await;
        assert!(heard.events.recv().await.is_none());
        let pod = client.pod("shop");
        let id = client.run_pod(&pod).await.unwrap();
        let request = api::PodSandboxStatusRequest { pod_sandbox_id: id.clone(), verbose: false };
        let answer = client.runtime.pod_sandbox_status(request).await.unwrap().into_inner();
        assert_eq!((answer.timestamp, answer.containers_statuses.len()), (0, 0));
        client.remove_pod(&id).await.unwrap();
        daemon
    });
}

#[test]
fn those_who_listen_do_not_hold_up_the_end_of_the_daemon() {
    scene::prepared(&[], with_events, |mut daemon, client| async move {
        let mut heard = listen(&client).await;
        let begun = std::time::Instant::now();
        daemon.stop().await;
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        // Told of the end, or cut off with the connection.
        let end = heard.events.recv().await;
        assert!(end.is_none_or(|event| event.unwrap_err().code() != Code::ResourceExhausted));
        daemon.start().await;
        daemon
    });
}

/// What the metrics server says.
pub(crate) fn scrape(mut stream: impl Read + Write) -> String {
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: node\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    assert!(text.contains("text/plain; version=0.0.4"), "{text}");
    text
}

#[test]
fn what_the_daemon_does_is_counted_under_the_names_that_dashboards_know() {
    let prepare = |daemon: &mut Daemon| {
        let socket = daemon.path("metrics.sock");
        daemon.config(&format!(
            "[crio.metrics]\nenable_metrics = true\nmetrics_port = 19090\nmetrics_socket = {socket:?}\n"
        ));
    };
    scene::prepared(&[], prepare, |daemon, mut client| async move {
        let pod = client.pod("shop");
        let id = client.run_pod(&pod).await.unwrap();
        let mut hungry = script(&client, "hungry", "a=x; while :; do a=$a$a$a$a; done");
        hungry.linux.as_mut().unwrap().resources = Some(api::LinuxContainerResources {
            memory_limit_in_bytes: 16 << 20,
            memory_swap_limit_in_bytes: 16 << 20,
            ..Default::default()
        });
        let hungry = client.run(&id, &pod, &hungry).await.unwrap();
        assert_eq!(client.exited(&hungry).await.unwrap().reason, "OOMKilled");
        client.status(&"0".repeat(64)).await.unwrap_err();
        client.pull("127.0.0.1:1/nothing:1").await.unwrap_err();

        let text = scrape(std::net::TcpStream::connect("127.0.0.1:19090").unwrap());
        let name = "k8s_hungry_shop_default_shop-uid_0";
        for line in [
            "operations_total{operation=\"RunPodSandbox\"} 1",
            "operations_errors_total{operation=\"ContainerStatus\"} 1",
            "operations_latency_seconds_total_count{operation=\"RunPodSandbox\"} 1",
            "containers_events_dropped_total 0",
            "containers_oom_total 1",
            &format!("containers_oom_count_total{{name=\"{name}\"}} 1"),
            "image_pulls_failure_total{error=\"CONNECTION_REFUSED\"} 1",
            "image_pulls_success_total 0",
            "default_runtime{runtime=\"runc\"} 1",
        ] {
            let line = format!("container_runtime_crio_{line}");
            assert!(text.lines().any(|have| have == line), "{line} in\n{text}");
        }
        assert!(text.contains("\ncontainer_runtime_crio_processes_defunct "), "{text}");
        client.remove_pod(&id).await.unwrap();
        let socket = daemon.path("metrics.sock");
        let text = scrape(std::os::unix::net::UnixStream::connect(socket).unwrap());
        assert!(!text.contains(name), "a container that is gone is not shown:\n{text}");
        assert!(text.contains("containers_oom_total 1"), "{text}");
        daemon
    });
}
