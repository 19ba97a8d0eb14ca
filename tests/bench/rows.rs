//! The rows: what is measured, and how.

use std::time::Duration;
use std::time::Instant;

use crioxide::cri::api;
use tokio::task::JoinSet;

use crate::Daemon;
use crate::client::Client;
use crate::options::Options;
use crate::table::Table;

/// How many pods are made at once.
const AT_ONCE: usize = 10;
/// How many large images there are: each is pulled once, cold.
const LARGE: usize = 3;
/// How often lists are asked for.
const LISTS: usize = 50;
/// How long a daemon may rest before its memory is looked at.
const REST: Duration = Duration::from_secs(2);

/// An image, and the rows of what it costs to judge it.
struct Judging {
    image: &'static str,
    pull: &'static str,
    asked: &'static str,
    create: &'static str,
}

/// The same small image, let in without a look and by its signature.
const JUDGING: [Judging; 2] = [
    Judging {
        image: "small:1",
        pull: "pull of a small image, accepted unseen",
        asked: "asked of the registry, accepted unseen",
        create: "CreateContainer, accepted unseen",
    },
    Judging {
        image: "signed:1",
        pull: "pull of a small image, judged by signature",
        asked: "asked of the registry, judged by signature",
        create: "CreateContainer, judged by signature",
    },
];

/// Measures every row of every daemon.
pub(crate) async fn all(daemons: &mut [Daemon], options: &Options, table: &mut Table) {
    let wanted = |name: &str| options.only.is_empty() || name.contains(&options.only);
    for (number, daemon) in daemons.iter_mut().enumerate() {
        still(daemon, number, table).await;
        for image in ["small:1", "pause:1"] {
            daemon.client.pull(&options.image(image)).await.expect("the small image");
        }
    }
    if wanted("pods") {
        for round in 0..options.rounds {
            for (number, daemon) in daemons.iter_mut().enumerate() {
                one_pod(daemon, number, round, options, table).await;
            }
        }
    }
    if wanted("many") {
        for (number, daemon) in daemons.iter_mut().enumerate() {
            many_pods(daemon, number, options, table).await;
        }
    }
    if wanted("judged") {
        for round in 0..options.rounds {
            for (number, daemon) in daemons.iter_mut().enumerate() {
                judged(daemon, number, round, options, table).await;
            }
        }
    }
    if wanted("pull") {
        for image in 1..=LARGE {
            for (number, daemon) in daemons.iter_mut().enumerate() {
                pull(daemon, number, &options.image(&format!("large:{image}")), table).await;
            }
        }
    }
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

/// What a daemon is that has done nothing yet.
async fn still(daemon: &mut Daemon, number: usize, table: &mut Table) {
    tokio::time::sleep(REST).await;
    if let Some(took) = daemon.start {
        table.add("from exec to an answering socket", "ms", number, took);
    }
    table.add("resident, idle", "MB", number, daemon.process.resident());
    table.add("anonymous, idle", "MB", number, daemon.process.anonymous());
    table.add("program", "MB", number, daemon.process.program());
}

/// A pod's whole life.
async fn one_pod(
    daemon: &mut Daemon,
    number: usize,
    round: usize,
    options: &Options,
    table: &mut Table,
) {
    let client = &mut daemon.client;
    let config = pod(client, &format!("one-{number}-{round}"), options);
    let begun = Instant::now();
    let pod_id = client.run_pod(&config).await.expect("a pod");
    table.add("RunPodSandbox", "ms", number, milliseconds(begun));
    let created = Instant::now();
    let container = container(client, options);
    let id = client.create(&pod_id, &config, &container).await.expect("a container");
    table.add("CreateContainer", "ms", number, milliseconds(created));
    let started = Instant::now();
    client.start(&id).await.expect("to start it");
    table.add("StartContainer", "ms", number, milliseconds(started));
    table.add("pod: Run + Create + Start", "ms", number, milliseconds(begun));

    let executed = Instant::now();
    let ran = client.exec(&id, &["/bin/true"]).await.expect("to run a command");
    table.add("ExecSync of true", "ms", number, milliseconds(executed));
    assert_eq!(ran.code, 0, "{}", ran.stderr);

    let stopped = Instant::now();
    client.stop(&id, 10).await.expect("to stop it");
    table.add("StopContainer, ends on TERM", "ms", number, milliseconds(stopped));
    let removed = Instant::now();
    client.stop_pod(&pod_id).await.expect("to stop the pod");
    table.add("StopPodSandbox", "ms", number, milliseconds(removed));
    let request = api::RemovePodSandboxRequest { pod_sandbox_id: pod_id };
    client.runtime.remove_pod_sandbox(request).await.expect("to remove the pod");
    table.add("StopPodSandbox + RemovePodSandbox", "ms", number, milliseconds(removed));
}

/// What it costs that the policy looks at signatures: the same small image with and without.
async fn judged(
    daemon: &mut Daemon,
    number: usize,
    round: usize,
    options: &Options,
    table: &mut Table,
) {
    let client = &mut daemon.client;
    let config = pod(client, &format!("judged-{number}-{round}"), options);
    let pod_id = client.run_pod(&config).await.expect("a pod");
    for Judging { image, pull, asked, create } in &JUDGING {
        let image = options.image(image);
        // Whoever is not there yet cannot be removed.
        let _ = client.remove_image(&image).await;
        let (before, begun) = (requests(options), Instant::now());
        client.pull(&image).await.expect("the small image");
        table.add(pull, "ms", number, milliseconds(begun));
        if let Some((before, after)) = before.zip(requests(options)) {
            table.add(asked, "requests", number, after - before);
        }
        let mut container = container(client, options);
        let name = container.metadata.as_mut().expect("a name");
        name.name = image.rsplit('/').next().expect("a name").replace(':', "-");
        let spec = container.image.as_mut().expect("an image");
        spec.image.clone_from(&image);
        spec.user_specified_image.clone_from(&image);
        let begun = Instant::now();
        client.create(&pod_id, &config, &container).await.expect("a container");
        table.add(create, "ms", number, milliseconds(begun));
    }
    client.remove_pod(&pod_id).await.expect("to remove the pod");
}

/// How many requests the registry has answered so far, by its log.
fn requests(options: &Options) -> Option<f64> {
    let text = std::fs::read_to_string(options.registry_log.as_ref()?).ok()?;
    let count = text.lines().filter(|line| line.contains("response completed")).count();
    u32::try_from(count).ok().map(f64::from)
}

/// Many pods at once, and what lists and memory are then.
async fn many_pods(daemon: &mut Daemon, number: usize, options: &Options, table: &mut Table) {
    let begun = Instant::now();
    let pods = each(options.pods, |place| {
        let mut client = daemon.client.clone();
        let config = pod(&client, &format!("many-{number}-{place}"), options);
        let container = container(&client, options);
        async move {
            let id = client.run_pod(&config).await.expect("a pod");
            client.run(&id, &config, &container).await.expect("a container");
            id
        }
    })
    .await;
    table.add("all pods, 10 at once", "s", number, begun.elapsed().as_secs_f64());
    lists(daemon, number, table).await;
    tokio::time::sleep(REST).await;
    table.add("resident, all pods", "MB", number, daemon.process.resident());
    table.add("anonymous, all pods", "MB", number, daemon.process.anonymous());
    let begun = Instant::now();
    each(pods.len(), |place| {
        let (mut client, id) = (daemon.client.clone(), pods[place].clone());
        async move { client.remove_pod(&id).await.expect("to remove the pod") }
    })
    .await;
    table.add("all pods removed, 10 at once", "s", number, begun.elapsed().as_secs_f64());
}

async fn lists(daemon: &mut Daemon, number: usize, table: &mut Table) {
    let runtime = &mut daemon.client.runtime;
    for _ in 0..LISTS {
        let begun = Instant::now();
        let answer = runtime.list_containers(api::ListContainersRequest::default()).await;
        assert!(!answer.expect("the containers").into_inner().containers.is_empty());
        table.add("ListContainers", "ms", number, milliseconds(begun));
        let begun = Instant::now();
        let answer = runtime.list_pod_sandbox(api::ListPodSandboxRequest::default()).await;
        assert!(!answer.expect("the pods").into_inner().items.is_empty());
        table.add("ListPodSandbox", "ms", number, milliseconds(begun));
        let begun = Instant::now();
        let answer = runtime.list_container_stats(api::ListContainerStatsRequest::default()).await;
        // One that does not have it says so once.
        let Ok(answer) = answer else { continue };
        assert!(!answer.into_inner().stats.is_empty());
        table.add("ListContainerStats", "ms", number, milliseconds(begun));
    }
}

/// A cold pull of a large image.
async fn pull(daemon: &mut Daemon, number: usize, image: &str, table: &mut Table) {
    let watch = daemon.process.watch();
    let before = daemon.process.cpu_seconds();
    let begun = Instant::now();
    daemon.client.pull(image).await.expect("the large image");
    table.add("pull of the large image", "s", number, begun.elapsed().as_secs_f64());
    table.add("processor time of that pull", "s", number, daemon.process.cpu_seconds() - before);
    table.add("anonymous, peak of that pull", "MB", number, watch.peak());
}

/// Runs so many futures, a few at once, and gives what they gave.
async fn each<T: Send + 'static, F>(count: usize, work: impl Fn(usize) -> F) -> Vec<T>
where
    F: Future<Output = T> + Send + 'static,
{
    let (mut running, mut done) = (JoinSet::new(), Vec::new());
    for place in 0..count {
        if running.len() == AT_ONCE {
            done.extend(running.join_next().await.map(|one| one.expect("no panic")));
        }
        running.spawn(work(place));
    }
    while let Some(one) = running.join_next().await {
        done.push(one.expect("no panic"));
    }
    done
}

/// A pod as the kubelet asks for one, whose containers have process namespaces of their own.
fn pod(client: &Client, name: &str, options: &Options) -> api::PodSandboxConfig {
    let mut config = client.pod(name);
    let linux = config.linux.as_mut().expect("a Linux pod");
    // One for all, which is removed at the end.
    linux.cgroup_parent = format!("/{}", options.cgroup);
    let namespaces =
        api::NamespaceOption { pid: api::NamespaceMode::Container.into(), ..Default::default() };
    let security = api::LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces),
        ..Default::default()
    };
    linux.security_context = Some(security);
    config
}

/// A shell that ends on TERM, as a well-behaved program does.
fn container(client: &Client, options: &Options) -> api::ContainerConfig {
    let script = "trap 'exit 0' TERM; while :; do sleep 3600 & wait; done";
    let image = options.image("small:1");
    let mut config = client.container("only", &image, &["/bin/sh", "-c", script]);
    let namespaces =
        api::NamespaceOption { pid: api::NamespaceMode::Container.into(), ..Default::default() };
    let security = api::LinuxContainerSecurityContext {
        namespace_options: Some(namespaces),
        ..Default::default()
    };
    config.linux.as_mut().expect("a Linux container").security_context = Some(security);
    // As the kubelet does. CRI-O makes no container without, where it has a policy.
    config.image.as_mut().expect("an image").user_specified_image = image;
    config
}
