//! What a container is given, what it does, and how it ends, seen from the CRI and from inside.

use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use crioxide::cri::api;
use crioxide::cri::api::ContainerState;
use crioxide::cri::api::security_profile::ProfileType;
use serde_json::json;
use tonic::Code;

use crate::scene;
use crate::scene::IMAGE;
use crate::scene::refused;
use crate::scene::said;
use crate::scene::script;
use crate::support::client::Client;
use crate::support::host;

/// The nine default capabilities, by their numbers in `capability.h`.
const DEFAULT_CAPABILITIES: [u64; 9] = [0, 1, 3, 4, 5, 6, 7, 8, 10];

async fn pod(client: &mut Client) -> (api::PodSandboxConfig, String) {
    let pod = client.pod("shop");
    let id = client.run_pod(&pod).await.unwrap();
    (pod, id)
}

fn security(container: &mut api::ContainerConfig) -> &mut api::LinuxContainerSecurityContext {
    let linux = container.linux.get_or_insert_default();
    linux.security_context.get_or_insert_default()
}

fn profile(kind: ProfileType) -> Option<api::SecurityProfile> {
    Some(api::SecurityProfile { profile_type: kind.into(), localhost_ref: String::new() })
}

/// The lines of a log as `stream tag text`; each has a time before that.
fn log(
    client: &Client,
    pod: &api::PodSandboxConfig,
    container: &api::ContainerConfig,
) -> Vec<String> {
    let text = client.log(pod, container);
    let line = |line: &str| {
        let (time, rest) = line.split_once(' ').unwrap();
        let format = time::format_description::well_known::Rfc3339;
        assert!(time::OffsetDateTime::parse(time, &format).is_ok(), "{line}");
        rest.to_owned()
    };
    text.lines().map(line).collect()
}

#[test]
fn a_container_goes_from_created_to_gone_and_its_words_are_in_its_log() {
    scene::story(&[], |daemon, mut client| async move {
        let (pod, pod_id) = pod(&mut client).await;
        let before = scene::kept(&daemon);
        let mut container = script(&client, "web", "echo out; echo err >&2; printf part");
        container.labels.insert("app".into(), "web".into());
        container.annotations.insert("note".into(), "a b".into());
        let id = client.create(&pod_id, &pod, &container).await.unwrap();
        assert_eq!(client.create(&pod_id, &pod, &container).await.unwrap(), id);
        let status = client.status(&id).await.unwrap();
        assert_eq!(status.state(), ContainerState::ContainerCreated);
        assert_eq!((status.started_at, status.finished_at), (0, 0));
        let listed = client.containers().await.unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!((&listed[0].id, &listed[0].pod_sandbox_id), (&id, &pod_id));
        assert_eq!(listed[0].labels["app"], "web");
        assert_eq!(listed[0].annotations["note"], "a b");

        client.start(&id).await.unwrap();
        let status = client.exited(&id).await.unwrap();
        assert_eq!((status.exit_code, status.reason.as_str()), (0, "Completed"));
        assert!(status.created_at < status.started_at && status.started_at < status.finished_at);
        assert_eq!(status.image.as_ref().unwrap().image, IMAGE);
        let mut lines = log(&client, &pod, &container);
        lines.sort_unstable();
        assert_eq!(lines, ["stderr F err", "stdout F out", "stdout P part"]);
        refused(client.start(&id).await, Code::FailedPrecondition);
        refused(client.exec(&id, &["/bin/true"]).await, Code::FailedPrecondition);
        client.stop(&id, 5).await.unwrap();
        client.remove(&id).await.unwrap();
        client.remove(&id).await.unwrap();
        client.stop(&id, 5).await.unwrap();
        assert!(refused(client.status(&id).await, Code::NotFound).contains(&id));
        scene::unchanged(&daemon, &before, "removed").await;

        let failing = script(&client, "failing", "exit 3");
        let failing = client.run(&pod_id, &pod, &failing).await.unwrap();
        let status = client.exited(&failing).await.unwrap();
        assert_eq!((status.exit_code, status.reason.as_str()), (3, "Error"));
        client.remove_pod(&pod_id).await.unwrap();
        refused(client.status(&failing).await, Code::NotFound);
        daemon
    });
}

#[test]
fn a_log_that_was_moved_away_is_opened_anew() {
    scene::story(&[], |daemon, mut client| async move {
        let (pod, pod_id) = pod(&mut client).await;
        let container = script(&client, "web", "while :; do echo tick; sleep 0.05; done");
        let id = client.run(&pod_id, &pod, &container).await.unwrap();
        scene::until("a log", || !client.log(&pod, &container).is_empty()).await;
        let path = Path::new(&pod.log_directory).join(&container.log_path);
        let moved = path.with_extension("1");
        std::fs::rename(&path, &moved).unwrap();
        let request = api::ReopenContainerLogRequest { container_id: id.clone() };
        client.runtime.reopen_container_log(request.clone()).await.unwrap();
        assert!(path.exists());
        let size = std::fs::metadata(&moved).unwrap().len();
        scene::until("a new log", || !client.log(&pod, &container).is_empty()).await;
        assert_eq!(std::fs::metadata(&moved).unwrap().len(), size);
        client.stop(&id, 0).await.unwrap();
        let answer = client.runtime.reopen_container_log(request).await;
        refused(answer, Code::FailedPrecondition);
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

#[test]
fn commands_in_a_container_answer_and_are_ended_in_time() {
    scene::story(&["/bin/nothing"], |daemon, mut client| async move {
        let (pod, pod_id) = pod(&mut client).await;
        let container = script(&client, "web", "sleep 600");
        let id = client.run(&pod_id, &pod, &container).await.unwrap();
        let ran = client.exec(&id, &["/bin/sh", "-c", "echo a; echo b >&2; exit 5"]).await.unwrap();
        assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (5, "a\n", "b\n"));
        let begun = Instant::now();
        let request = api::ExecSyncRequest {
            container_id: id.clone(),
            cmd: ["/bin/sh", "-c", "sleep 4321; true"].map(str::to_owned).to_vec(),
            timeout: 1,
        };
        let ran = client.runtime.exec_sync(request).await.unwrap().into_inner();
        assert_eq!(ran.exit_code, -1);
        assert!(String::from_utf8_lossy(&ran.stderr).contains("command timed out"));
        assert!(begun.elapsed() < Duration::from_secs(5));
        scene::until("no process of it", || scene::processes(&["sleep 4321"]).is_empty()).await;
        refused(client.exec(&id, &[]).await, Code::InvalidArgument);
        let missing = client.exec(&id, &["/bin/nothing"]).await;
        let told = missing.map_or_else(|status| status.message().to_owned(), |ran| ran.stderr);
        assert!(told.contains("nothing"), "{told}");
        refused(client.exec(&"0".repeat(64), &["/bin/true"]).await, Code::NotFound);
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

#[test]
fn a_process_has_the_place_and_the_rights_that_were_asked_for_and_no_more() {
    scene::story(&[], |daemon, mut client| async move {
        let mut pod = client.pod("shop");
        pod.hostname = "front".to_owned();
        pod.dns_config = Some(api::DnsConfig {
            servers: vec!["10.9.8.7".into()],
            searches: vec!["shop.test".into()],
            options: vec!["ndots:2".into()],
        });
        let sysctls = &mut pod.linux.as_mut().unwrap().sysctls;
        sysctls.insert("net.ipv4.ip_unprivileged_port_start".into(), "80".into());
        let pod_id = client.run_pod(&pod).await.unwrap();

        let tell = "echo $ONE-$FROM; echo $0 $1; pwd; grep -E '^(Cap|NoNew|Seccomp:)' /proc/self/status; \
                    sleep 600";
        let mut container = client.container("root", IMAGE, &["/bin/sh", "-c", tell]);
        container.args = vec!["zero".into(), "first".into()];
        container.working_dir = "/data".to_owned();
        container.envs = vec![api::KeyValue { key: "ONE".into(), value: b"1".to_vec() }];
        security(&mut container).seccomp = profile(ProfileType::RuntimeDefault);
        let root = client.run(&pod_id, &pod, &container).await.unwrap();
        scene::until("its words", || log(&client, &pod, &container).len() == 10).await;
        let lines = log(&client, &pod, &container);
        let lines: Vec<_> = lines.iter().map(|line| line.trim_start_matches("stdout F ")).collect();
        assert_eq!(lines[..3], ["1-image", "zero first", "/data"]);
        let status = |name: &str| status_of(&lines.join("\n"), name);
        let bounding = own_bounding();
        let nine = DEFAULT_CAPABILITIES.iter().fold(0, |set, number| set | 1 << number);
        for set in ["CapPrm", "CapEff", "CapBnd"] {
            assert_eq!(u64::from_str_radix(&status(set), 16).unwrap(), nine & bounding, "{set}");
        }
        for set in ["CapInh", "CapAmb"] {
            assert_eq!(u64::from_str_radix(&status(set), 16).unwrap(), 0, "{set}");
        }
        assert_eq!((status("NoNewPrivs"), status("Seccomp")), ("0".into(), "2".into()));
        // A command that is run in it gets no more than its first process has.
        let of_command = said(&mut client, &root, "cat /proc/self/status").await;
        for name in ["CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb", "Seccomp"] {
            assert_eq!(status_of(&of_command, name), status(name), "{name}");
        }

        assert_eq!(said(&mut client, &root, "hostname").await, "front");
        let resolv = said(&mut client, &root, "cat /etc/resolv.conf").await;
        assert_eq!(resolv, "search shop.test\nnameserver 10.9.8.7\noptions ndots:2");
        let sysctl = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start";
        assert_eq!(said(&mut client, &root, sysctl).await, "80");
        let shm = said(&mut client, &root, "df -k /dev/shm | tail -1").await;
        assert_eq!(shm.split_whitespace().nth(1), Some("65536"), "{shm}");
        let _ = said(&mut client, &root, "echo shared > /dev/shm/word").await;

        let other = script(&client, "other", "sleep 600");
        let other = client.run(&pod_id, &pod, &other).await.unwrap();
        assert_eq!(said(&mut client, &other, "cat /dev/shm/word").await, "shared");
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

#[test]
fn a_process_can_be_held_tighter_than_by_default() {
    scene::story(&[], |daemon, mut client| async move {
        let (pod, pod_id) = pod(&mut client).await;
        let mut plain = script(&client, "plain", "sleep 600");
        let asked = security(&mut plain);
        asked.run_as_user = Some(api::Int64Value { value: 1234 });
        asked.run_as_group = Some(api::Int64Value { value: 2345 });
        asked.supplemental_groups = vec![3456];
        asked.no_new_privs = true;
        asked.seccomp = profile(ProfileType::Unconfined);
        asked.masked_paths = vec!["/proc/timer_list".into(), "/proc/acpi".into()];
        asked.readonly_paths = vec!["/proc/sys".into()];
        asked.readonly_rootfs = true;
        let plain_id = client.run(&pod_id, &pod, &plain).await.unwrap();
        let text = said(&mut client, &plain_id, "cat /proc/self/status").await;
        assert_eq!(status_of(&text, "CapEff"), "0000000000000000");
        assert_eq!(
            (status_of(&text, "NoNewPrivs"), status_of(&text, "Seccomp")),
            ("1".into(), "0".into())
        );
        let ids = said(&mut client, &plain_id, "id -u; id -g; id -G").await;
        assert_eq!(ids, "1234\n2345\n2345 3456");
        let user = client.status(&plain_id).await.unwrap().user.unwrap().linux.unwrap();
        assert_eq!((user.uid, user.gid, user.supplemental_groups), (1234, 2345, vec![2345, 3456]));
        assert_eq!(said(&mut client, &plain_id, "cat /proc/timer_list | wc -c").await, "0");
        let read_only = "grep -E ' (/|/proc/sys) (ro|ro,[^ ]*) ' /proc/self/mountinfo | wc -l";
        assert_eq!(said(&mut client, &plain_id, read_only).await, "2");
        // Without a configuration of its own the pod resolves names as the node does.
        let node = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let resolv = said(&mut client, &plain_id, "cat /etc/resolv.conf").await;
        assert_eq!(resolv, node.trim_end());
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

fn status_of(text: &str, name: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).trim().to_owned()
}

fn own_bounding() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    u64::from_str_radix(&status_of(&text, "CapBnd"), 16).unwrap()
}

#[test]
fn directories_and_devices_of_the_node_are_where_they_were_asked_for() {
    scene::story(&[], |daemon, mut client| async move {
        let (pod, pod_id) = pod(&mut client).await;
        std::fs::create_dir(daemon.path("files")).unwrap();
        std::os::unix::fs::symlink(daemon.path("files"), daemon.path("link")).unwrap();
        daemon.write("files/from-node", "node");
        let mount = |name: &str, at: &str, readonly: bool| api::Mount {
            host_path: daemon.path(name).display().to_string(),
            container_path: at.to_owned(),
            readonly,
            ..Default::default()
        };
        let mut container = script(&client, "web", "sleep 600");
        container.mounts = vec![
            mount("files", "/rw", false),
            mount("files", "/ro", true),
            mount("missing/deeper", "/missing", false),
            mount("link", "/by/link", false),
            mount("files/from-node", "/etc/one-file", true),
        ];
        container.devices = vec![api::Device {
            // One that the runtime does not allow to every container.
            host_path: "/dev/loop-control".into(),
            container_path: "/dev/mine".into(),
            permissions: "r".into(),
        }];
        let id = client.run(&pod_id, &pod, &container).await.unwrap();
        assert_eq!(client.status(&id).await.unwrap().mounts.len(), 5);
        let _ = said(&mut client, &id, "echo inside > /rw/word; echo new > /missing/word").await;
        let read = |name: &str| std::fs::read_to_string(daemon.path(name)).unwrap();
        assert_eq!(
            (read("files/word"), read("missing/deeper/word")),
            ("inside\n".into(), "new\n".into())
        );
        assert_eq!(said(&mut client, &id, "cat /by/link/word /ro/word").await, "inside\ninside");
        assert_eq!(said(&mut client, &id, "cat /etc/one-file").await, "node");
        let ran = client.exec(&id, &["/bin/sh", "-c", "echo x > /ro/word"]).await.unwrap();
        assert!(ran.code != 0 && ran.stderr.contains("Read-only"), "{ran:?}");
        let open = |how: &str| format!("( : {how} /dev/mine )");
        assert_eq!(said(&mut client, &id, &open("<")).await, "");
        let ran = client.exec(&id, &["/bin/sh", "-c", &open(">")]).await.unwrap();
        assert!(ran.code != 0 && ran.stderr.contains("not permitted"), "{ran:?}");
        let ran = client.exec(&id, &["/bin/sh", "-c", "mknod /data/d b 7 0"]).await.unwrap();
        assert!(ran.code != 0, "{ran:?}");
        client.remove_pod(&pod_id).await.unwrap();
        assert_eq!(read("files/from-node"), "node");
        daemon
    });
}

/// A limit of a container, as the kernel has it.
fn limit(parent: &str, id: &str, v1: &str, v2: &str) -> String {
    let parent = parent.trim_start_matches('/');
    let path = if host::has_cgroup_v2() {
        format!("/sys/fs/cgroup/{parent}/crio-{id}/{v2}")
    } else {
        let controller = v1.split('.').next().unwrap();
        format!("/sys/fs/cgroup/{controller}/{parent}/crio-{id}/{v1}")
    };
    std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{path}: {error}"))
        .trim()
        .to_owned()
}

#[test]
fn limits_hold_change_and_are_what_kills_for_memory() {
    scene::story(&[], |daemon, mut client| async move {
        let (pod, pod_id) = pod(&mut client).await;
        let parent = pod.linux.as_ref().unwrap().cgroup_parent.clone();
        let mut container = script(&client, "web", "sleep 600");
        container.linux.as_mut().unwrap().resources = Some(api::LinuxContainerResources {
            cpu_shares: 512,
            cpu_period: 100_000,
            cpu_quota: 50_000,
            memory_limit_in_bytes: 64 << 20,
            ..Default::default()
        });
        let id = client.run(&pod_id, &pod, &container).await.unwrap();
        let memory = |id: &str| limit(&parent, id, "memory.limit_in_bytes", "memory.max");
        assert_eq!(memory(&id), (64 << 20).to_string());
        let quota = limit(&parent, &id, "cpu.cfs_quota_us", "cpu.max");
        assert_eq!(quota.split(' ').next(), Some("50000"));
        let request = api::UpdateContainerResourcesRequest {
            container_id: id.clone(),
            linux: Some(api::LinuxContainerResources {
                cpu_quota: 20_000,
                memory_limit_in_bytes: 96 << 20,
                ..Default::default()
            }),
            ..Default::default()
        };
        client.runtime.update_container_resources(request.clone()).await.unwrap();
        assert_eq!(memory(&id), (96 << 20).to_string());
        let quota = limit(&parent, &id, "cpu.cfs_quota_us", "cpu.max");
        assert_eq!(quota.split(' ').next(), Some("20000"));
        let told = client.status(&id).await.unwrap().resources.unwrap().linux.unwrap();
        assert_eq!((told.cpu_shares, told.cpu_quota), (512, 20_000));
        assert_eq!(told.memory_limit_in_bytes, 96 << 20);
        client.stop(&id, 0).await.unwrap();
        let answer = client.runtime.update_container_resources(request).await;
        refused(answer, Code::FailedPrecondition);

        let mut hungry = script(&client, "hungry", "a=x; while :; do a=$a$a$a$a; done");
        hungry.linux.as_mut().unwrap().resources = Some(api::LinuxContainerResources {
            memory_limit_in_bytes: 16 << 20,
            memory_swap_limit_in_bytes: 16 << 20,
            ..Default::default()
        });
        let hungry = client.run(&pod_id, &pod, &hungry).await.unwrap();
        let status = client.exited(&hungry).await.unwrap();
        assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"));
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

#[test]
fn a_container_is_asked_to_end_once_however_often_and_the_least_patience_counts() {
    scene::story(&[], |daemon, mut client| async move {
        let (pod, pod_id) = pod(&mut client).await;
        let text = "trap 'echo asked' TERM; echo ready; while :; do sleep 0.1; done";
        let container = script(&client, "deaf", text);
        let id = client.run(&pod_id, &pod, &container).await.unwrap();
        let told = |words: &str| client.log(&pod, &container).matches(words).count();
        scene::until("it can be asked", || told("ready") == 1).await;
        let begun = Instant::now();
        let (mut first, mut second, asked) = (client.clone(), client.clone(), id.clone());
        let patient = tokio::spawn(async move { first.stop(&asked, 600).await });
        scene::until("it is asked", || told("asked") == 1).await;
        second.stop(&id, 2).await.unwrap();
        patient.await.unwrap().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
        assert_eq!(told("asked"), 1);
        let status = client.status(&id).await.unwrap();
        assert_eq!((status.state(), status.exit_code), (ContainerState::ContainerExited, 137));
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

#[test]
fn a_stop_comes_to_its_end_when_its_caller_has_left() {
    scene::story(&[], |daemon, mut client| async move {
        let (pod, pod_id) = pod(&mut client).await;
        let container = script(
            &client,
            "deaf",
            "trap 'echo asked' TERM; echo ready; while :; do sleep 0.1; done",
        );
        let id = client.run(&pod_id, &pod, &container).await.unwrap();
        let told = |words: &str| client.log(&pod, &container).contains(words);
        scene::until("it can be asked", || told("ready")).await;
        let (mut caller, asked) = (client.clone(), id.clone());
        let call = tokio::spawn(async move { caller.stop(&asked, 1).await });
        scene::until("it is asked", || told("asked")).await;
        call.abort();
        assert_eq!(client.exited(&id).await.unwrap().exit_code, 137);
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

#[test]
fn a_container_is_asked_to_end_before_it_is_made_to() {
    scene::story(&[], |daemon, mut client| async move {
        let signal = "example.test/signal:1";
        let config = json!({"Env": ["PATH=/bin"], "StopSignal": "SIGUSR1"});
        scene::bring(&daemon, signal, &scene::busybox(config));
        let (pod, pod_id) = pod(&mut client).await;
        let wait = "echo up; while :; do sleep 0.05; done";
        for (name, image, trap, patience, code) in [
            ("polite", IMAGE, "trap 'exit 42' TERM", 20, 42),
            ("deaf", IMAGE, "trap '' TERM", 1, 137),
            ("own", signal, "trap '' TERM; trap 'exit 9' USR1", 20, 9),
            ("now", IMAGE, "trap 'exit 42' TERM", 0, 137),
        ] {
            let container =
                client.container(name, image, &["/bin/sh", "-c", &format!("{trap}; {wait}")]);
            let id = client.run(&pod_id, &pod, &container).await.unwrap();
            scene::until("its start", || client.log(&pod, &container).contains("up")).await;
            let begun = Instant::now();
            client.stop(&id, patience).await.unwrap();
            let took = begun.elapsed();
            let status = client.status(&id).await.unwrap();
            assert_eq!(status.state(), ContainerState::ContainerExited, "{name}");
            assert_eq!(status.exit_code, code, "{name}");
            assert!(took < Duration::from_secs(8), "{name}: {took:?}");
            assert!(name != "deaf" || took >= Duration::from_secs(1), "{took:?}");
            client.stop(&id, patience).await.unwrap();
        }
        let never = script(&client, "never", "true");
        let never = client.create(&pod_id, &pod, &never).await.unwrap();
        client.stop(&never, 10).await.unwrap();
        let status = client.status(&never).await.unwrap();
        assert_eq!(status.state(), ContainerState::ContainerExited);
        let unknown = "f".repeat(64);
        client.stop(&unknown, 1).await.unwrap();
        client.remove(&unknown).await.unwrap();
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

#[test]
fn a_container_that_cannot_be_leaves_nothing() {
    // The runtime's refusals are the host's fault or ours for all that the daemon knows.
    let allowed = ["/bin/nothing", "/dev/nothing"];
    scene::story(&allowed, |daemon, mut client| async move {
        let (pod, pod_id) = pod(&mut client).await;
        let before = scene::kept(&daemon);
        let unknown = client.container("unknown", "example.test/unknown:1", &["/bin/true"]);
        let told = refused(client.create(&pod_id, &pod, &unknown).await, Code::NotFound);
        assert!(told.contains("example.test/unknown:1"), "{told}");
        scene::unchanged(&daemon, &before, "unknown image").await;

        let mut privileged = script(&client, "privileged", "true");
        security(&mut privileged).privileged = true;
        let told = client.create(&pod_id, &pod, &privileged).await.unwrap_err();
        assert!(told.message().contains("privileged"), "{told}");
        scene::unchanged(&daemon, &before, "privileged").await;

        let mut device = script(&client, "device", "true");
        device.devices = vec![api::Device {
            host_path: "/dev/nothing".into(),
            container_path: "/dev/nothing".into(),
            permissions: "r".into(),
        }];
        let told = client.create(&pod_id, &pod, &device).await.unwrap_err();
        assert!(told.message().contains("/dev/nothing"), "{told}");
        scene::unchanged(&daemon, &before, "missing device").await;

        let mut misspelt = script(&client, "misspelt", "true");
        security(&mut misspelt).capabilities = Some(api::Capability {
            drop_capabilities: vec!["NET_RAWW".into()],
            ..Default::default()
        });
        let told = refused(client.create(&pod_id, &pod, &misspelt).await, Code::InvalidArgument);
        assert!(told.contains("NET_RAWW"), "{told}");
        scene::unchanged(&daemon, &before, "misspelt capability").await;

        let missing = client.container("missing", IMAGE, &["/bin/nothing"]);
        match client.create(&pod_id, &pod, &missing).await {
            // What version of runc looks when is its own business.
            Err(status) => assert!(status.message().contains("/bin/nothing"), "{status}"),
            Ok(id) => {
                let told = client.start(&id).await.unwrap_err();
                assert!(told.message().contains("/bin/nothing"), "{told}");
                let status = client.status(&id).await.unwrap();
                assert_eq!(status.state(), ContainerState::ContainerExited);
                assert_eq!((status.exit_code, status.reason.as_str()), (128, "Error"));
                assert!(status.message.contains("/bin/nothing"), "{}", status.message);
                client.remove(&id).await.unwrap();
            }
        }
        scene::unchanged(&daemon, &before, "missing command").await;
        assert!(client.containers().await.unwrap().is_empty());

        client.stop_pod(&pod_id).await.unwrap();
        let late = script(&client, "late", "true");
        let told = refused(client.create(&pod_id, &pod, &late).await, Code::FailedPrecondition);
        assert!(told.contains("stopped"), "{told}");
        client.remove_pod(&pod_id).await.unwrap();
        refused(client.create(&pod_id, &pod, &late).await, Code::NotFound);
        daemon
    });
}
