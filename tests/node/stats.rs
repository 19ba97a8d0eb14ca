//! What containers and pods use, as the kubelet and `crictl stats` see it: figures that grow with
//! what is really done in a container.

use std::collections::HashMap;
use std::net::TcpStream;
use std::time::Duration;

use crioxide::cri::api;
use tokio_stream::StreamExt;
use tonic::Code;

use crate::scene;
use crate::scene::refused;
use crate::scene::said;
use crate::scene::script;
use crate::support::client::Client;

const MEGABYTE: u64 = 1 << 20;

async fn containers(
    client: &mut Client,
    filter: api::ContainerStatsFilter,
) -> Vec<api::ContainerStats> {
    let request = api::ListContainerStatsRequest { filter: Some(filter) };
    client.runtime.list_container_stats(request).await.unwrap().into_inner().stats
}

async fn container(client: &mut Client, id: &str) -> api::ContainerStats {
    let request = api::ContainerStatsRequest { container_id: id.to_owned() };
    client.runtime.container_stats(request).await.unwrap().into_inner().stats.unwrap()
}

async fn pod(client: &mut Client, id: &str) -> api::PodSandboxStats {
    let request = api::PodSandboxStatsRequest { pod_sandbox_id: id.to_owned() };
    client.runtime.pod_sandbox_stats(request).await.unwrap().into_inner().stats.unwrap()
}

fn value(number: &Option<api::UInt64Value>) -> u64 {
    number.as_ref().map_or(0, |number| number.value)
}

fn id_of(stats: &api::ContainerStats) -> &str {
    &stats.attributes.as_ref().unwrap().id
}

fn layer(stats: &api::ContainerStats) -> (u64, u64) {
    let layer = stats.writable_layer.as_ref().unwrap();
    (value(&layer.used_bytes), value(&layer.inodes_used))
}

/// Looks until it is so, and gives what was seen then.
async fn seen(
    client: &mut Client,
    id: &str,
    what: &str,
    holds: impl Fn(&api::ContainerStats) -> bool,
) -> api::ContainerStats {
    let mut last = None;
    for _ in 0..1000 {
        let stats = container(client, id).await;
        if holds(&stats) {
            return stats;
        }
        last = Some(stats);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("not within 20 seconds: {what}: {last:#?}");
}

#[test]
fn figures_of_a_container_grow_with_what_it_does() {
    scene::story(&[], |daemon, mut client| async move {
        let pod = client.pod("shop");
        let pod_id = client.run_pod(&pod).await.unwrap();
        let mut busy = script(&client, "busy", "while :; do :; done");
        busy.labels.insert("tier".into(), "front".into());
        busy.linux.as_mut().unwrap().resources = Some(api::LinuxContainerResources {
            memory_limit_in_bytes: 64 << 20,
            ..Default::default()
        });
        let idle = script(&client, "idle", "sleep 600");
        let busy = client.run(&pod_id, &pod, &busy).await.unwrap();
        let idle = client.run(&pod_id, &pod, &idle).await.unwrap();

        let first = container(&mut client, &busy).await;
        let attributes = first.attributes.as_ref().unwrap();
        assert_eq!(attributes.metadata.as_ref().unwrap().name, "busy");
        assert_eq!(attributes.labels["tier"], "front");
        let cpu = first.cpu.unwrap();
        assert!(cpu.timestamp > 1_600_000_000_000_000_000, "{cpu:?}");
        assert!(cpu.usage_nano_cores.is_none(), "a rate at the first look: {cpu:?}");
        let more = seen(&mut client, &busy, "a busy loop", |stats| {
            value(&stats.cpu.as_ref().unwrap().usage_nano_cores) > 100_000_000
        });
        let more = more.await.cpu.unwrap();
        assert!(value(&more.usage_core_nano_seconds) > value(&cpu.usage_core_nano_seconds));
        assert!(value(&more.usage_nano_cores) < 3_000_000_000, "{more:?}");
        assert!(more.timestamp > cpu.timestamp);

        let memory = first.memory.unwrap();
        assert!(value(&memory.working_set_bytes) > 0 && value(&memory.rss_bytes) > 0, "{memory:?}");
        assert!(value(&memory.page_faults) > 0, "{memory:?}");
        let limited = value(&memory.available_bytes) + value(&memory.working_set_bytes);
        assert_eq!(limited, 64 << 20);
        let before = container(&mut client, &idle).await;
        assert_eq!(value(&before.memory.as_ref().unwrap().available_bytes), 0);
        said(&mut client, &idle, "dd if=/dev/zero of=/dev/shm/m bs=1M count=8 2>&1").await;
        let held = value(&before.memory.as_ref().unwrap().working_set_bytes) + 7 * MEGABYTE;
        seen(&mut client, &idle, "memory in use", |stats| {
            value(&stats.memory.as_ref().unwrap().working_set_bytes) > held
        })
        .await;

        // One file, and then more than are added up while one waits.
        let place = &before.writable_layer.as_ref().unwrap().fs_id.as_ref().unwrap().mountpoint;
        assert!(place.ends_with("/merged") && std::path::Path::new(place).is_dir(), "{place}");
        let (bytes, inodes) = layer(&before);
        said(&mut client, &idle, "dd if=/dev/zero of=/data/f bs=1M count=3 2>&1").await;
        seen(&mut client, &idle, "a file written", |stats| {
            layer(stats).0 >= bytes + 3 * MEGABYTE && layer(stats).1 > inodes
        })
        .await;
        said(&mut client, &idle, "for i in $(seq 200); do echo x > /data/$i; done").await;
        seen(&mut client, &idle, "many files written", |stats| layer(stats).1 >= inodes + 201)
            .await;
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

/// The ids of what a filter finds, which must be the same in a list and in a stream.
async fn listed_and_streamed(
    client: &mut Client,
    filter: api::ContainerStatsFilter,
) -> Vec<String> {
    let stats = containers(client, filter.clone()).await;
    let mut listed: Vec<_> = stats.iter().map(|stats| id_of(stats).to_owned()).collect();
    listed.sort_unstable();
    let request = api::StreamContainerStatsRequest { filter: Some(filter) };
    let stream = client.runtime.stream_container_stats(request).await.unwrap();
    let chunks: Vec<_> = stream.into_inner().map(Result::unwrap).collect().await;
    assert_eq!(chunks.len(), usize::from(!listed.is_empty()));
    let streamed = chunks.iter().flat_map(|chunk| &chunk.container_stats);
    let mut streamed: Vec<_> = streamed.map(id_of).collect();
    streamed.sort_unstable();
    assert_eq!(streamed, listed);
    listed
}

#[test]
fn containers_are_found_by_what_they_are_and_ended_ones_are_left_out() {
    scene::story(&[], |daemon, mut client| async move {
        let mut ids = Vec::new();
        let mut pods = Vec::new();
        for name in ["one", "two"] {
            let pod = client.pod(name);
            let pod_id = client.run_pod(&pod).await.unwrap();
            let mut container = script(&client, "web", "sleep 600");
            container.labels.insert("in".into(), name.into());
            ids.push(client.run(&pod_id, &pod, &container).await.unwrap());
            let ended = script(&client, "ended", "true");
            let ended = client.run(&pod_id, &pod, &ended).await.unwrap();
            client.exited(&ended).await.unwrap();
            let request = api::ContainerStatsRequest { container_id: ended };
            let answer = client.runtime.container_stats(request).await.unwrap().into_inner();
            assert!(answer.stats.is_none());
            pods.push(pod_id);
        }
        let filter = api::ContainerStatsFilter::default;
        let labels = |name: &str| HashMap::from([("in".to_owned(), name.to_owned())]);
        for (filter, expected) in [
            (filter(), vec![&ids[0], &ids[1]]),
            (api::ContainerStatsFilter { id: ids[0][..13].to_owned(), ..filter() }, vec![&ids[0]]),
            (
                api::ContainerStatsFilter { pod_sandbox_id: pods[1].clone(), ..filter() },
                vec![&ids[1]],
            ),
            (
                api::ContainerStatsFilter { label_selector: labels("one"), ..filter() },
                vec![&ids[0]],
            ),
            (
                api::ContainerStatsFilter {
                    pod_sandbox_id: pods[1].clone(),
                    label_selector: labels("one"),
                    ..filter()
                },
                vec![],
            ),
            (api::ContainerStatsFilter { id: "f".repeat(64), ..filter() }, vec![]),
        ] {
            let mut expected: Vec<_> = expected.into_iter().cloned().collect();
            expected.sort_unstable();
            assert_eq!(
                listed_and_streamed(&mut client, filter.clone()).await,
                expected,
                "{filter:?}"
            );
        }
        let unknown = api::ContainerStatsRequest { container_id: "f".repeat(64) };
        refused(client.runtime.container_stats(unknown).await, Code::NotFound);
        for pod in pods {
            client.remove_pod(&pod).await.unwrap();
        }
        daemon
    });
}

#[test]
fn a_pod_counts_its_containers_its_processes_and_its_traffic() {
    scene::story(&[], |daemon, mut client| async move {
        let config = client.pod("shop");
        let id = client.run_pod(&config).await.unwrap();
        let empty = pod(&mut client, &id).await;
        let attributes = empty.attributes.unwrap();
        assert_eq!(
            (attributes.id.as_str(), attributes.metadata),
            (id.as_str(), config.metadata.clone())
        );
        let many = script(&client, "many", "for i in 1 2 3 4; do sleep 6001 & done; wait");
        let many = client.run(&id, &config, &many).await.unwrap();
        let count = |stats: &api::PodSandboxStats| {
            value(&stats.linux.as_ref().unwrap().process.as_ref().unwrap().process_count)
        };
        let mut stats = pod(&mut client, &id).await;
        for _ in 0..500 {
            if count(&stats) >= 5 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            stats = pod(&mut client, &id).await;
        }
        let stats = stats.linux.unwrap();
        assert_eq!(stats.containers.len(), 1);
        assert_eq!(id_of(&stats.containers[0]), many);
        assert!(value(&stats.process.unwrap().process_count) >= 5);
        let (cpu, memory) = (stats.cpu.unwrap(), stats.memory.unwrap());
        let own = stats.containers[0].memory.as_ref().unwrap();
        assert!(value(&cpu.usage_core_nano_seconds) > 0);
        assert!(value(&memory.usage_bytes) >= value(&own.rss_bytes), "{memory:?} {own:?}");

        let network = stats.network.unwrap();
        let before = network.default_interface.unwrap();
        assert_eq!(before.name, "eth0");
        let others: Vec<_> = network.interfaces.iter().map(|other| other.name.as_str()).collect();
        assert_eq!(others, ["lo"]);
        let address = std::net::SocketAddr::new(client.pod_ip(&id).await.unwrap(), 9);
        for _ in 0..20 {
            // Refused, and that takes a packet each way.
            let refused = TcpStream::connect_timeout(&address, Duration::from_secs(5));
            assert!(refused.is_err());
        }
        let network = pod(&mut client, &id).await.linux.unwrap().network.unwrap();
        let after = network.default_interface.unwrap();
        assert!(value(&after.rx_bytes) >= value(&before.rx_bytes) + 20 * 40, "{after:?}");
        assert!(value(&after.tx_bytes) >= value(&before.tx_bytes) + 20 * 40, "{after:?}");

        let unknown = api::PodSandboxStatsRequest { pod_sandbox_id: "f".repeat(64) };
        refused(client.runtime.pod_sandbox_stats(unknown).await, Code::NotFound);
        client.stop_pod(&id).await.unwrap();
        let stopped = pod(&mut client, &id).await.linux.unwrap();
        assert!(stopped.network.is_none() && stopped.containers.is_empty());
        client.remove_pod(&id).await.unwrap();
        daemon
    });
}

#[test]
fn pods_without_a_cgroup_or_a_network_of_their_own_are_counted_too() {
    scene::story(&[], |daemon, mut client| async move {
        let mut host = client.pod("host");
        host.linux.as_mut().unwrap().security_context = Some(api::LinuxSandboxSecurityContext {
            namespace_options: Some(api::NamespaceOption {
                network: api::NamespaceMode::Node.into(),
                pid: api::NamespaceMode::Container.into(),
                ..Default::default()
            }),
            ..Default::default()
        });
        host.labels.insert("kind".into(), "host".into());
        let host_id = client.run_pod(&host).await.unwrap();
        let mut shared = client.pod("shared");
        shared.linux.as_mut().unwrap().cgroup_parent = String::new();
        let shared_id = client.run_pod(&shared).await.unwrap();
        let web = script(&client, "web", "sleep 600");
        let web = client.run(&shared_id, &shared, &web).await.unwrap();
        // The shell that begins takes more memory between two looks; then it rests.
        let (mut sum, mut own) = (0, 1);
        for _ in 0..250 {
            let stats = pod(&mut client, &shared_id).await.linux.unwrap();
            sum = value(&stats.memory.as_ref().unwrap().rss_bytes);
            own = value(&container(&mut client, &web).await.memory.unwrap().rss_bytes);
            if sum == own && own > 0 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert_eq!(sum, own);

        let network = pod(&mut client, &host_id).await.linux.unwrap().network.unwrap();
        let names = network.interfaces.iter().chain(&network.default_interface);
        assert!(names.map(|interface| interface.name.as_str()).any(|name| name == "cni0"));

        let labels = HashMap::from([("kind".to_owned(), "host".to_owned())]);
        for (filter, expected) in [
            (api::PodSandboxStatsFilter::default(), 2),
            (api::PodSandboxStatsFilter { id: host_id[..20].to_owned(), ..Default::default() }, 1),
            (api::PodSandboxStatsFilter { label_selector: labels, ..Default::default() }, 1),
            (api::PodSandboxStatsFilter { id: "f".repeat(64), ..Default::default() }, 0),
        ] {
            let request = api::ListPodSandboxStatsRequest { filter: Some(filter.clone()) };
            let listed = client.runtime.list_pod_sandbox_stats(request).await.unwrap();
            let id = |stats: &api::PodSandboxStats| stats.attributes.as_ref().unwrap().id.clone();
            let listed: Vec<_> = listed.into_inner().stats.iter().map(id).collect();
            assert_eq!(listed.len(), expected, "{filter:?}");
            let request = api::StreamPodSandboxStatsRequest { filter: Some(filter) };
            let stream = client.runtime.stream_pod_sandbox_stats(request).await.unwrap();
            let chunks: Vec<_> = stream.into_inner().map(Result::unwrap).collect().await;
            let streamed = chunks.iter().flat_map(|chunk| &chunk.pod_sandbox_stats);
            assert_eq!(streamed.map(id).collect::<Vec<_>>(), listed);
        }
        for id in [host_id, shared_id] {
            client.remove_pod(&id).await.unwrap();
        }
        daemon
    });
}

#[test]
fn lists_come_in_chunks_too() {
    scene::story(&[], |daemon, mut client| async move {
        let none = client.runtime.stream_containers(api::StreamContainersRequest::default()).await;
        assert_eq!(none.unwrap().into_inner().collect::<Vec<_>>().await.len(), 0);
        let mut pods = Vec::new();
        for name in ["one", "two"] {
            let config = client.pod(name);
            let id = client.run_pod(&config).await.unwrap();
            let container = script(&client, "web", "sleep 600");
            client.create(&id, &config, &container).await.unwrap();
            pods.push(id);
        }
        client.stop_pod(&pods[0]).await.unwrap();
        let state = api::PodSandboxStateValue { state: api::PodSandboxState::SandboxReady.into() };
        let ready = api::PodSandboxFilter { state: Some(state), ..Default::default() };
        for filter in [None, Some(ready)] {
            let request = api::ListPodSandboxRequest { filter: filter.clone() };
            let listed = client.runtime.list_pod_sandbox(request).await.unwrap().into_inner().items;
            let request = api::StreamPodSandboxesRequest { filter };
            let stream = client.runtime.stream_pod_sandboxes(request).await.unwrap().into_inner();
            let chunks: Vec<_> = stream.map(Result::unwrap).collect().await;
            assert_eq!(chunks.len(), 1);
            assert_eq!(chunks[0].pod_sandboxes, listed);
        }
        let listed = client.containers().await.unwrap();
        assert_eq!(listed.len(), 2);
        let request = api::StreamContainersRequest::default();
        let stream = client.runtime.stream_containers(request).await.unwrap().into_inner();
        let chunks: Vec<_> = stream.map(Result::unwrap).collect().await;
        assert_eq!(chunks[0].containers, listed);
        let listed = client.images().await.unwrap();
        let request = api::StreamImagesRequest::default();
        let stream = client.image.stream_images(request).await.unwrap().into_inner();
        let chunks: Vec<_> = stream.map(Result::unwrap).collect().await;
        assert_eq!(chunks[0].images, listed);
        for id in pods {
            client.remove_pod(&id).await.unwrap();
        }
        daemon
    });
}

/// Whether a process of the container itself runs with these words, not only its shell.
fn is_running(words: &str) -> bool {
    scene::processes(&[words]).into_iter().any(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.starts_with(b"sleep")
    })
}

async fn metrics(client: &mut Client) -> Vec<api::PodSandboxMetrics> {
    let request = api::ListPodSandboxMetricsRequest {};
    client.runtime.list_pod_sandbox_metrics(request).await.unwrap().into_inner().pod_metrics
}

async fn described(client: &mut Client) -> HashMap<String, Vec<String>> {
    let request = api::ListMetricDescriptorsRequest {};
    let answer = client.runtime.list_metric_descriptors(request).await.unwrap().into_inner();
    answer.descriptors.into_iter().map(|row| (row.name, row.label_keys)).collect()
}

#[test]
fn metrics_are_as_they_are_described() {
    let all = |daemon: &mut crate::support::daemon::Daemon| {
        daemon.config("[crio.stats]\nincluded_pod_metrics = [\"all\"]\n");
    };
    scene::prepared(&[], all, |daemon, mut client| async move {
        let described = described(&mut client).await;
        assert_eq!(described.len(), 56);
        let config = client.pod("shop");
        let id = client.run_pod(&config).await.unwrap();
        let web = script(&client, "web", "sleep 6002 & sleep 6003; :");
        let web = client.run(&id, &config, &web).await.unwrap();
        scene::until("its processes", || is_running("sleep 6002") && is_running("sleep 6003"))
            .await;
        let found = metrics(&mut client).await;
        assert_eq!((found.len(), found[0].pod_sandbox_id.as_str()), (1, id.as_str()));
        let of_container = &found[0].container_metrics;
        assert_eq!((of_container.len(), of_container[0].container_id.as_str()), (1, web.as_str()));
        for metric in found[0].metrics.iter().chain(&of_container[0].metrics) {
            let keys = &described[&metric.name];
            assert_eq!(keys.len(), metric.label_values.len(), "{metric:?}");
            assert_eq!(metric.timestamp, 0, "{metric:?}");
        }
        let one = |name: &str| {
            let found = of_container[0].metrics.iter().find(|metric| metric.name == name);
            found.unwrap_or_else(|| panic!("no {name}"))
        };
        let base = [web.as_str(), scene::IMAGE, "default", "shop", "web"];
        assert_eq!(one("container_last_seen").label_values, base);
        assert_eq!(value(&one("container_processes").value), 3);
        assert_eq!(value(&one("container_threads").value), 3);
        assert!(value(&one("container_file_descriptors").value) >= 9);
        assert!(value(&one("container_memory_working_set_bytes").value) > 0);
        assert!(value(&one("container_fs_limit_bytes").value) > 0);
        assert_eq!(one("container_ulimits_soft").label_values[5], "max_open_files");
        assert_eq!(value(&one("container_oom_events_total").value), 0);
        let received = "container_network_receive_bytes_total";
        let of_pod = found[0].metrics.iter().filter(|metric| metric.name == received);
        let mut places: Vec<_> = of_pod.map(|metric| metric.label_values.clone()).collect();
        places.sort_unstable();
        let pod = |name: &str| [id.as_str(), "", "default", "shop", "POD", name].map(str::to_owned);
        assert_eq!(places, [pod("eth0"), pod("lo")]);

        let request = api::StreamPodSandboxMetricsRequest {};
        let stream = client.runtime.stream_pod_sandbox_metrics(request).await.unwrap();
        let chunks: Vec<_> = stream.into_inner().map(Result::unwrap).collect().await;
        assert_eq!(chunks.len(), 1);
        assert_eq!(chunks[0].pod_sandbox_metrics[0].pod_sandbox_id, id);
        client.remove_pod(&id).await.unwrap();
        daemon
    });
}

#[test]
fn statistics_that_are_collected_are_shown_until_the_next_time() {
    let every_second = |daemon: &mut crate::support::daemon::Daemon| {
        daemon.config("[crio.stats]\ncollection_period = 1\n");
    };
    scene::prepared(&[], every_second, |daemon, mut client| async move {
        assert_eq!(described(&mut client).await.len(), 1);
        let config = client.pod("shop");
        let id = client.run_pod(&config).await.unwrap();
        let web = script(&client, "web", "while :; do :; done");
        let web = client.run(&id, &config, &web).await.unwrap();
        // What was never collected yet is looked at when it is asked for.
        let mut first = 0;
        while first == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            first = metrics(&mut client).await[0].container_metrics[0].metrics[0].timestamp;
        }
        let kept = container(&mut client, &web).await.cpu.unwrap().timestamp;
        let of_pod = pod(&mut client, &id).await.linux.unwrap();
        assert!(of_pod.containers[0].cpu.as_ref().unwrap().timestamp >= kept);
        let metric = metrics(&mut client).await[0].container_metrics[0].metrics[0].clone();
        assert_eq!(metric.name, "container_last_seen");
        assert!(metric.timestamp >= kept);
        seen(&mut client, &web, "the next collection", |stats| {
            stats.cpu.as_ref().unwrap().timestamp > kept
        })
        .await;
        client.stop(&web, 0).await.unwrap();
        let left = containers(&mut client, api::ContainerStatsFilter::default()).await;
        assert!(left.is_empty());
        client.remove_pod(&id).await.unwrap();
        daemon
    });
}
