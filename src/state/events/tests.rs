use super::*;
use crate::model::container::ContainerConfig;
use crate::model::names::SandboxMetadata;
use crate::model::sandbox::SandboxConfig;
use crate::state::Exit;
use crate::state::NamespacePaths;
use crate::state::NetworkState;
use crate::state::Records;
use crate::state::RunImage;
use crate::state::Settings;

fn records(directory: &std::path::Path) -> Records {
    let (sandboxes, containers) = (directory.join("s"), directory.join("c"));
    Records::new(Settings { sandboxes, containers }, Metrics::default())
}

fn sandbox(records: &Records, pod: &str) -> SandboxId {
    let id = SandboxId::fresh().unwrap();
    let metadata = SandboxMetadata { name: pod.into(), uid: pod.into(), ..Default::default() };
    let record = SandboxRecord {
        id: id.clone(),
        config: SandboxConfig { metadata, ..SandboxConfig::default() },
        created: 1,
        state: SandboxState::NotReady,
        ready_since: None,
        network: NetworkState::Host,
        ips: Vec::new(),
        namespaces: NamespacePaths::default(),
        infra: None,
        hostname: String::new(),
        run_dir: "/run".into(),
        handler: "runc".into(),
        selinux: None,
    };
    records.sandboxes.insert(&id, record).unwrap();
    id
}

fn ready(records: &Records, id: &SandboxId) {
    let change = |record: &mut SandboxRecord| {
        record.state = SandboxState::Ready;
        record.ready_since = Some(2);
    };
    records.sandboxes.update(id, change).unwrap();
}

fn container(records: &Records, sandbox: &SandboxId) -> ContainerId {
    let id = ContainerId::fresh().unwrap();
    let image = RunImage {
        id: "a".repeat(64).parse().unwrap(),
        name: String::new(),
        reference: String::new(),
        allowed: String::new(),
    };
    let record = ContainerRecord {
        id: id.clone(),
        sandbox: sandbox.clone(),
        name: "web".into(),
        config: ContainerConfig::default(),
        image,
        handler: "runc".into(),
        created: 1,
        started: 0,
        state: ContainerState::Created,
        exit: None,
        start_failure: None,
        pid: 1,
        bundle: "/b".into(),
        persist_dir: "/p".into(),
        log: "/l".into(),
        user: crate::state::ContainerUser::default(),
        stop_signal: "SIGTERM".into(),
        cgroup_parent: String::new(),
        answered: false,
    };
    records.containers.insert(&id, record).unwrap();
    id
}

fn change(records: &Records, id: &ContainerId, change: impl FnOnce(&mut ContainerRecord)) {
    records.containers.update(id, change).unwrap();
}

fn exit(record: &mut ContainerRecord) {
    record.state = ContainerState::Exited;
    record.exit = Some(Exit { code: 0, finished: 3, oom: false });
}

/// What waits to be read: what happened, to whom, and how many containers the pod has.
fn waiting(subscription: &mut Subscription) -> Vec<(Happened, String, usize)> {
    let mut seen = Vec::new();
    let mut last = 0;
    while let Ok(event) = subscription.queue.try_recv() {
        assert!(event.at > last, "each is later than the one before");
        last = event.at;
        seen.push((event.happened, event.id.clone(), event.containers.len()));
    }
    seen
}

#[tokio::test]
async fn every_step_of_a_life_is_told_once_and_a_repeat_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let records = records(directory.path());
    let mut heard = records.events.subscribe().unwrap();
    let pod = sandbox(&records, "pod");
    assert_eq!(waiting(&mut heard), [], "a pod that is being made is not there yet");
    ready(&records, &pod);
    ready(&records, &pod);
    let web = container(&records, &pod);
    change(&records, &web, |record| record.pid = 2);
    assert_eq!(waiting(&mut heard).len(), 2, "nobody was told of the container yet");
    change(&records, &web, |record| record.answered = true);
    change(&records, &web, |record| {
        record.state = ContainerState::Running;
        record.started = 2;
    });
    change(&records, &web, exit);
    change(&records, &web, |record| record.log = "/other".into());
    records.containers.remove(&web).unwrap();
    records.containers.remove(&web).unwrap();
    let told = |happened, count| (happened, web.to_string(), count);
    let expected = [
        told(Happened::Created, 1),
        told(Happened::Started, 1),
        told(Happened::Stopped, 1),
        told(Happened::Deleted, 0),
    ];
    assert_eq!(waiting(&mut heard), expected);
    let not_ready = |record: &mut SandboxRecord| record.state = SandboxState::NotReady;
    records.sandboxes.update(&pod, not_ready).unwrap();
    records.sandboxes.update(&pod, not_ready).unwrap();
    records.sandboxes.remove(&pod).unwrap();
    let told = |happened| (happened, pod.to_string(), 0);
    assert_eq!(waiting(&mut heard), [told(Happened::Stopped), told(Happened::Deleted)]);
}

#[tokio::test]
async fn a_container_that_was_killed_before_its_start_did_not_start() {
    let directory = tempfile::tempdir().unwrap();
    let records = records(directory.path());
    let pod = sandbox(&records, "pod");
    let mut heard = records.events.subscribe().unwrap();
    let web = container(&records, &pod);
    change(&records, &web, exit);
    change(&records, &web, |record| record.answered = true);
    let seen: Vec<_> = waiting(&mut heard).into_iter().map(|(happened, ..)| happened).collect();
    assert_eq!(seen, [Happened::Created, Happened::Stopped]);
}

#[tokio::test]
async fn a_sandbox_has_stopped_when_the_last_of_its_containers_has() {
    let directory = tempfile::tempdir().unwrap();
    let records = records(directory.path());
    let pod = sandbox(&records, "pod");
    ready(&records, &pod);
    let [one, other, unknown] = [(); 3].map(|()| container(&records, &pod));
    for id in [&one, &other] {
        change(&records, id, |record| record.answered = true);
    }
    let mut heard = records.events.subscribe().unwrap();
    change(&records, &one, exit);
    records.sandboxes.update(&pod, |record| record.state = SandboxState::NotReady).unwrap();
    change(&records, &other, exit);
    change(&records, &unknown, exit);
    records.containers.remove(&other).unwrap();
    let seen: Vec<_> =
        waiting(&mut heard).into_iter().map(|(happened, id, _)| (happened, id)).collect();
    let expected = [
        (Happened::Stopped, one.to_string()),
        (Happened::Stopped, other.to_string()),
        (Happened::Stopped, pod.to_string()),
        (Happened::Deleted, other.to_string()),
    ];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn an_event_has_the_containers_of_all_sandboxes_of_its_pod_and_of_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let records = records(directory.path());
    let (old, new) = (sandbox(&records, "pod"), sandbox(&records, "pod"));
    let other = sandbox(&records, "other");
    for sandbox in [&old, &new, &other, &new] {
        let id = container(&records, sandbox);
        change(&records, &id, |record| record.answered = true);
    }
    container(&records, &new);
    let mut heard = records.events.subscribe().unwrap();
    ready(&records, &new);
    let event = heard.next().await.unwrap().unwrap();
    assert_eq!(event.containers.len(), 3);
    assert!(event.containers.iter().all(|record| record.sandbox != other));
}

#[tokio::test]
async fn a_listener_that_does_not_read_loses_its_place_and_holds_up_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let records = records(directory.path());
    let pod = sandbox(&records, "pod");
    ready(&records, &pod);
    let mut slow = records.events.subscribe().unwrap();
    let mut quick = records.events.subscribe().unwrap();
    for round in 0..QUEUE + 1 {
        let state = if round % 2 == 0 { SandboxState::NotReady } else { SandboxState::Ready };
        records.sandboxes.update(&pod, |record| record.state = state).unwrap();
        assert!(quick.next().await.unwrap().is_some());
    }
    assert_eq!(records.events.lock().queues.len(), 1);
    for _ in 0..QUEUE {
        assert!(slow.next().await.unwrap().is_some());
    }
    assert_eq!(slow.next().await.unwrap_err(), FellBehind);
}

#[tokio::test]
async fn places_are_bounded_and_free_when_a_listener_leaves() {
    let directory = tempfile::tempdir().unwrap();
    let records = records(directory.path());
    let mut all: Vec<_> = (0..LISTENERS).map(|_| records.events.subscribe().unwrap()).collect();
    assert_eq!(records.events.subscribe().unwrap_err(), TooMany);
    all.truncate(1);
    assert_eq!(records.events.lock().queues.len(), 1);
    records.events.close();
    assert!(all[0].next().await.unwrap().is_none(), "the end is no error");
    let mut late = records.events.subscribe().unwrap();
    assert!(late.next().await.unwrap().is_none());
}
