//! A node that kubeadm makes part of a cluster: the calls of kubeadm and the kubelet in their order; kubeadm
//! itself with the configurations that are in the package; and what the package's script says a node lacks.

use std::path::Path;
use std::process::Output;
use std::time::Duration;
use std::time::Instant;

use crioxide::cri::api;
use crioxide::cri::api::CgroupDriver;
use crioxide::cri::api::ContainerState;
use crioxide::cri::api::NamespaceMode;
use crioxide::cri::api::PodSandboxState;
use serde_json::Value;
use serde_json::json;

use crate::publish;
use crate::scene;
use crate::support::client::Client;
use crate::support::daemon::Daemon;
use crate::support::host;
use crate::support::net;
use crate::test_registry::TestRegistry;

/// How long kubeadm waits for each answer.
const KUBEADM: Duration = Duration::from_secs(2);

/// A node with a registry that it may speak plain HTTP to.
fn story<F: Future<Output = Daemon>>(
    needs: &[&str],
    story: impl FnOnce(Daemon, TestRegistry, Client) -> F + Send,
) {
    if !host::can(&[&["root", "cni", "runc", "conmon", "ip"], needs].concat()) {
        return;
    }
    net::in_own_network(|| async {
        let registry = TestRegistry::start().await;
        let mut daemon = Daemon::new();
        daemon.registries(&publish::insecure(&[&registry]));
        daemon.start().await;
        let client = daemon.client().await;
        story(daemon, registry, client).await.finish().await;
    });
}

/// A request as kubeadm asks: it waits for two seconds.
fn hurried<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(KUBEADM);
    request
}

/// What the runtime says of itself: whether it is ready, and its pause image.
async fn state_of(client: &mut Client) -> (bool, String) {
    let request = hurried(api::StatusRequest { verbose: true });
    let answer = client.runtime.status(request).await.unwrap().into_inner();
    let conditions = answer.status.unwrap().conditions;
    let ready = conditions.iter().any(|it| it.r#type == "RuntimeReady" && it.status);
    let config: Value = serde_json::from_str(&answer.info["config"]).unwrap();
    (ready, config["sandboxImage"].as_str().unwrap().to_owned())
}

async fn image_of(client: &mut Client, name: &str) -> Option<api::Image> {
    let image = Some(api::ImageSpec { image: name.to_owned(), ..Default::default() });
    let request = hurried(api::ImageStatusRequest { image, verbose: false });
    client.image.image_status(request).await.unwrap().into_inner().image
}

/// Stops and removes all pods, as `kubeadm reset` does, each within its time.
async fn reset(client: &mut Client) {
    let request = hurried(api::ListPodSandboxRequest { filter: None });
    for pod in client.runtime.list_pod_sandbox(request).await.unwrap().into_inner().items {
        let id = || pod.id.clone();
        // Each may be asked for again.
        for _ in 0..2 {
            let stop = hurried(api::StopPodSandboxRequest { pod_sandbox_id: id() });
            client.runtime.stop_pod_sandbox(stop).await.unwrap();
        }
        for _ in 0..2 {
            let remove = hurried(api::RemovePodSandboxRequest { pod_sandbox_id: id() });
            client.runtime.remove_pod_sandbox(remove).await.unwrap();
        }
    }
}

fn labels(pairs: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// The node's network, and processes apart.
fn namespaces() -> api::NamespaceOption {
    api::NamespaceOption {
        network: NamespaceMode::Node.into(),
        pid: NamespaceMode::Container.into(),
        ..Default::default()
    }
}

/// A pod of the control plane as the kubelet asks for it: read from a file, in the node's network.
fn static_pod(client: &Client) -> api::PodSandboxConfig {
    let mut pod = client.pod("kube-apiserver-node");
    let metadata = pod.metadata.as_mut().unwrap();
    metadata.namespace = "kube-system".into();
    pod.hostname = String::new();
    pod.labels = labels(&[
        ("component", "kube-apiserver"),
        ("io.kubernetes.pod.name", "kube-apiserver-node"),
        ("io.kubernetes.pod.namespace", "kube-system"),
        ("io.kubernetes.pod.uid", "kube-apiserver-node-uid"),
        ("tier", "control-plane"),
    ])
    .into_iter()
    .collect();
    pod.annotations = labels(&[
        ("kubernetes.io/config.hash", "0123456789abcdef"),
        ("kubernetes.io/config.seen", "2026-01-01T00:00:00.000000000Z"),
        ("kubernetes.io/config.source", "file"),
    ])
    .into_iter()
    .collect();
    pod.dns_config = Some(api::DnsConfig {
        servers: vec!["192.0.2.53".into()],
        searches: vec!["example.test".into()],
        options: Vec::new(),
    });
    let linux = pod.linux.as_mut().unwrap();
    let profile = api::security_profile::ProfileType::RuntimeDefault;
    linux.security_context = Some(api::LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces()),
        seccomp: Some(api::SecurityProfile {
            profile_type: profile.into(),
            localhost_ref: String::new(),
        }),
        ..Default::default()
    });
    linux.overhead = Some(api::LinuxContainerResources::default());
    linux.resources = Some(api::LinuxContainerResources {
        cpu_period: 100_000,
        cpu_shares: 256,
        ..Default::default()
    });
    pod
}

/// Its container, which does not listen to who asks it to end.
fn control_plane(client: &Client, image_id: &str, name: &str, kept: &Path) -> api::ContainerConfig {
    let text = "trap '' TERM; echo serving; while :; do sleep 0.1; done";
    let mut container = client.container("kube-apiserver", image_id, &["/bin/sh", "-c", text]);
    container.image = Some(api::ImageSpec {
        image: image_id.to_owned(),
        user_specified_image: name.to_owned(),
        ..Default::default()
    });
    container.linux.as_mut().unwrap().security_context = Some(api::LinuxContainerSecurityContext {
        namespace_options: Some(namespaces()),
        ..Default::default()
    });
    container.log_path = "kube-apiserver/0.log".into();
    container.labels = labels(&[
        ("io.kubernetes.container.name", "kube-apiserver"),
        ("io.kubernetes.pod.name", "kube-apiserver-node"),
        ("io.kubernetes.pod.namespace", "kube-system"),
        ("io.kubernetes.pod.uid", "kube-apiserver-node-uid"),
    ])
    .into_iter()
    .collect();
    container.annotations = labels(&[
        ("io.kubernetes.container.hash", "c0ffee"),
        ("io.kubernetes.container.restartCount", "0"),
        ("io.kubernetes.container.terminationMessagePath", "/dev/termination-log"),
        ("io.kubernetes.container.terminationMessagePolicy", "File"),
        ("io.kubernetes.pod.terminationGracePeriod", "30"),
    ])
    .into_iter()
    .collect();
    container.mounts = vec![api::Mount {
        container_path: "/dev/termination-log".into(),
        host_path: kept.display().to_string(),
        ..Default::default()
    }];
    container
}

#[test]
fn what_kubeadm_and_the_kubelet_ask_is_answered_in_their_order() {
    story(&[], |daemon, registry, mut client| async move {
        let name = format!("{}/kube-apiserver:v1.36.0", registry.host());
        publish::image(
            &registry,
            "kube-apiserver:v1.36.0",
            &scene::busybox(json!({"Env": ["PATH=/bin"]})),
        );

        // kubeadm init: is it there, does it tell the cgroup driver, which pause image has it?
        let request = hurried(api::VersionRequest { version: "0.1.0".into() });
        let version = client.runtime.version(request).await.unwrap().into_inner();
        assert_eq!((&*version.version, &*version.runtime_name), ("0.1.0", "cri-o"));
        assert_eq!(version.runtime_api_version, "v1");
        assert_eq!(version.runtime_version, env!("CARGO_PKG_VERSION"));
        let (ready, pause_image) = state_of(&mut client).await;
        assert!(ready);
        assert!(pause_image.starts_with("registry.k8s.io/pause:"), "{pause_image}");
        let request = hurried(api::RuntimeConfigRequest {});
        let config = client.runtime.runtime_config(request).await.unwrap().into_inner();
        assert_eq!(config.linux.unwrap().cgroup_driver(), CgroupDriver::Cgroupfs);

        // The images, where they are missing.
        assert!(image_of(&mut client, &name).await.is_none());
        assert!(image_of(&mut client, &pause_image).await.is_none());
        let id = client.pull(&name).await.unwrap();
        assert_eq!(image_of(&mut client, &name).await.unwrap().id, id);

        // The kubelet: a pod from a file, which needs no pause image, and what is in it.
        let pod = static_pod(&client);
        let pod_id = client.run_pod(&pod).await.unwrap();
        let status = client.pod_status(&pod_id).await.unwrap();
        assert_eq!(status.state(), PodSandboxState::SandboxReady);
        assert_eq!(status.annotations, pod.annotations);
        let options = status.linux.unwrap().namespaces.unwrap().options.unwrap();
        assert_eq!(options.network(), NamespaceMode::Node);
        daemon.write("termination-log", "");
        let kept = daemon.path("termination-log");
        let container = control_plane(&client, &id, &name, &kept);
        let container_id = client.create(&pod_id, &pod, &container).await.unwrap();
        client.start(&container_id).await.unwrap();
        let status = client.status(&container_id).await.unwrap();
        assert_eq!(status.state(), ContainerState::ContainerRunning);
        assert_eq!((&status.image_id, &status.annotations), (&id, &container.annotations));
        let log = Path::new(&pod.log_directory).join("kube-apiserver/0.log");
        assert_eq!(status.log_path, log.display().to_string());
        scene::until("its log", || {
            std::fs::read_to_string(&log).is_ok_and(|text| text.contains("serving"))
        })
        .await;
        let uid = pod.metadata.as_ref().unwrap().uid.clone();
        let filter = api::ContainerFilter {
            label_selector: [("io.kubernetes.pod.uid".to_owned(), uid)].into(),
            ..Default::default()
        };
        let request = api::ListContainersRequest { filter: Some(filter) };
        let found = client.runtime.list_containers(request).await.unwrap().into_inner();
        assert_eq!(found.containers.len(), 1);
        assert_eq!(found.containers[0].id, container_id);

        // kubeadm reset: it waits two seconds for each answer, however stubborn what runs is.
        reset(&mut client).await;
        assert!(client.pods().await.unwrap().is_empty());
        assert!(client.containers().await.unwrap().is_empty());
        assert!(image_of(&mut client, &name).await.is_some(), "a reset keeps the images");
        daemon
    });
}

/// The package's configuration of that name, for this daemon and registry.
fn shipped(name: &str, daemon: &Daemon, registry: &str) -> std::path::PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("kubeadm").join(name);
    let text = std::fs::read_to_string(path).unwrap();
    let socket = format!("unix://{}", daemon.socket().display());
    let usual = "unix:///var/run/crio/crio.sock";
    assert!(text.contains(usual), "{name}");
    let version = "kubernetesVersion:";
    let text = text.replace(usual, &socket);
    let text = text.replace(version, &format!("imageRepository: {registry}\n{version}"));
    daemon.write(name, &text);
    daemon.path(name)
}

/// Runs kubeadm to its end, where it finds no service manager, and no files of the node's kubelet.
fn kubeadm(arguments: &[&str]) -> Output {
    let hidden = "for dir in /etc/kubernetes /var/lib/kubelet /var/lib/etcd; do \
                  [ ! -d $dir ] || mount -t tmpfs none $dir; done; \
                  program=$0; PATH=/nonexistent; exec \"$program\" \"$@\"";
    let program = host::program("kubeadm").unwrap();
    let mut command = host::command("unshare");
    command.args(["--mount", "--propagation=private", "sh", "-c", hidden]).arg(program);
    command.args(arguments).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.output().unwrap()
}

/// What it says when it ends well.
#[track_caller]
fn good(arguments: &[&str]) -> String {
    let output = kubeadm(arguments);
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    assert!(output.status.success(), "{arguments:?}: {said}");
    said
}

#[test]
fn kubeadm_takes_the_configurations_of_the_package() {
    if !host::can(&["kubeadm", "unshare", "root"]) {
        return;
    }
    let daemon = Daemon::new();
    for name in ["init.yaml", "join.yaml"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("kubeadm").join(name);
        let said = good(&["config", "validate", "--config", path.to_str().unwrap()]);
        assert!(said.contains("ok"), "{name}: {said}");
    }
    // It reads all of them, and says what it does not know.
    for (name, right, wrong) in [
        ("init.yaml", "imagePullSerial", "imagePullSerail"),
        ("init.yaml", "maxParallelImagePulls", "maxParallelImagePools"),
        ("join.yaml", "imagePullSerial", "imagePullSerail"),
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("kubeadm").join(name);
        let text = std::fs::read_to_string(path).unwrap();
        daemon.write(name, &text.replace(right, wrong));
        let path = daemon.path(name);
        let output = kubeadm(&["config", "validate", "--config", path.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(wrong), "{name}: {said}");
    }
}

#[test]
fn kubeadm_pulls_checks_and_resets_with_this_runtime() {
    story(&["kubeadm", "unshare"], |daemon, registry, mut client| async move {
        // kubeadm looks for the address that others reach the node by.
        host::run("ip", &["link", "add", "up0", "type", "veth", "peer", "name", "up1"]);
        host::run("ip", &["address", "add", "192.0.2.10/24", "dev", "up0"]);
        host::run("ip", &["link", "set", "up0", "up"]);
        host::run("ip", &["link", "set", "up1", "up"]);
        host::run("ip", &["route", "add", "default", "via", "192.0.2.1"]);
        let config = shipped("init.yaml", &daemon, &registry.host());
        let config = config.to_str().unwrap();
        let list = good(&["config", "images", "list", "--config", config]);
        let names: Vec<_> =
            list.lines().filter(|line| line.starts_with(&registry.host())).collect();
        assert!(names.len() >= 6, "{list}");
        for (number, name) in names.iter().enumerate() {
            let (_, path) = name.split_once('/').unwrap();
            let image = scene::busybox(json!({"Labels": {"number": number.to_string()}}));
            publish::image(&registry, path, &image);
        }
        let said = good(&["config", "images", "pull", "--config", config]);
        for name in &names {
            assert!(said.contains(&format!("Pulled {name}")), "{said}");
            assert!(image_of(&mut client, name).await.is_some(), "{name}");
        }

        // What it finds fault with may be this machine, but neither the runtime nor the images.
        let preflight = [
            "init",
            "phase",
            "preflight",
            "--config",
            config,
            "--ignore-preflight-errors=all",
            "-v=1",
        ];
        let said = good(&preflight);
        for fault in ["[WARNING CRI]", "[WARNING ContainerRuntimeVersion]", "[WARNING ImagePull]"] {
            assert!(!said.contains(fault), "{said}");
        }
        assert!(said.contains(&format!("image exists: {}", names[0])), "{said}");
        assert!(said.contains("sandbox image"), "it says that another pause image is set: {said}");

        let pod = client.pod("shop");
        let pod_id = client.run_pod(&pod).await.unwrap();
        let stubborn = "trap '' TERM; while :; do sleep 0.1; done";
        let container = client.container("web", names[0], &["/bin/sh", "-c", stubborn]);
        client.run(&pod_id, &pod, &container).await.unwrap();
        let socket = format!("unix://{}", daemon.socket().display());
        let start = Instant::now();
        let said = good(&["reset", "--force", "--cri-socket", &socket]);
        assert!(!said.contains("Failed to remove containers"), "{said}");
        assert!(client.pods().await.unwrap().is_empty(), "after {:?}: {said}", start.elapsed());
        daemon
    });
}

/// A node as it should be, below the directory.
fn ready_node(root: &Path) {
    let program = |name: &str| (format!("usr/bin/{name}"), "");
    let programs = ["crio", "runc", "conmon", "crictl", "kubelet", "kubeadm", "mount", "losetup"];
    let files = [
        ("usr/sbin/nft", ""),
        ("usr/lib/cni/bridge", ""),
        ("etc/cni/net.d/10-net.conflist", "{}"),
        ("proc/sys/net/ipv4/ip_forward", "1\n"),
        ("proc/sys/net/bridge/bridge-nf-call-iptables", "1\n"),
        ("proc/filesystems", "nodev\tproc\nnodev\toverlay\n"),
        ("proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n"),
        ("sys/fs/cgroup/cgroup.controllers", "cpu memory\n"),
        ("etc/crio/policy.json", "{}"),
    ];
    let files = files.map(|(name, text)| (name.to_owned(), text));
    for (name, text) in programs.map(program).into_iter().chain(files) {
        put(root, &name, text);
    }
    std::fs::create_dir_all(root.join("opt/cni/bin")).unwrap();
}

fn put(root: &Path, name: &str, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    let path = root.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let durability = crioxide::sys::files::Durability::Process;
    crioxide::sys::files::replace(&path, text.as_bytes(), 0o755, durability).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Whether the script is content, and what it says.
fn preflight(root: &Path) -> (bool, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("kubeadm/preflight.sh");
    let output = host::command("bash").arg(script).arg("--root").arg(root).output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn a_node_that_has_everything_is_ready() {
    let node = tempfile::tempdir().unwrap();
    ready_node(node.path());
    let (content, said) = preflight(node.path());
    assert!(content, "{said}");
    assert!(said.ends_with("this node is ready\n"), "{said}");
    assert!(!said.contains("MISSING") && !said.contains("warning"), "{said}");
}

#[test]
fn each_thing_that_a_node_lacks_is_named_with_what_mends_it() {
    // What is taken away, or what is there instead; what is said; and how it is mended.
    for (name, instead, said, mend) in [
        ("usr/bin/crio", None, "crio is not installed", "install crioxide"),
        ("usr/bin/runc", None, "runc is not installed", "install runc or crun"),
        ("usr/bin/conmon", None, "conmon is not installed", "install conmon"),
        ("usr/bin/kubelet", None, "kubelet is not installed", "install kubelet"),
        ("usr/bin/kubeadm", None, "kubeadm is not installed", "install kubeadm"),
        ("usr/bin/mount", None, "mount is not installed", "util-linux"),
        ("usr/bin/losetup", None, "losetup is not installed", "util-linux"),
        ("usr/sbin/nft", None, "iptables is not installed", "install nftables or iptables"),
        ("usr/lib/cni/bridge", None, "no CNI plugins", "install containernetworking-plugins"),
        (
            "proc/sys/net/ipv4/ip_forward",
            Some("0\n"),
            "ip_forward is 0",
            "sysctl -w net.ipv4.ip_forward=1",
        ),
        ("proc/sys/net/ipv4/ip_forward", None, "ip_forward is absent", "sysctl -w"),
        (
            "proc/sys/net/bridge/bridge-nf-call-iptables",
            None,
            "br_netfilter is not loaded",
            "modprobe br_netfilter",
        ),
        (
            "proc/sys/net/bridge/bridge-nf-call-iptables",
            Some("0\n"),
            "bridge-nf-call-iptables is 0",
            "sysctl -w",
        ),
        ("proc/filesystems", Some("nodev\toverlayish\n"), "no overlay", "modprobe overlay"),
        ("etc/crio/policy.json", None, "no policy", "/etc/crio/policy.json"),
    ] {
        let (content, told) = without(name, instead);
        assert!(!content, "without {name}: {told}");
        let line = told.lines().position(|line| line.starts_with("MISSING") && line.contains(said));
        let line = line.unwrap_or_else(|| panic!("without {name}: {told}"));
        assert!(told.lines().nth(line + 1).unwrap().contains(mend), "without {name}: {told}");
        assert!(told.ends_with("1 missing\n"), "without {name}: {told}");
    }
    for (name, instead, said) in [
        ("usr/bin/crictl", None, "crictl is not installed"),
        ("etc/cni/net.d/10-net.conflist", None, "no CNI network"),
        ("proc/swaps", Some("Filename\n/swap file 1 0 -2\n"), "swap is on"),
        ("sys/fs/cgroup/cgroup.controllers", None, "cgroup v1"),
    ] {
        let (content, told) = without(name, instead);
        assert!(content, "{name} is wished for only: {told}");
        let warned = told.lines().any(|line| line.starts_with("warning") && line.contains(said));
        assert!(warned, "without {name}: {told}");
    }
}

/// What is said of a node that is ready but for this file.
fn without(name: &str, instead: Option<&str>) -> (bool, String) {
    let node = tempfile::tempdir().unwrap();
    ready_node(node.path());
    match instead {
        Some(text) => put(node.path(), name, text),
        None => std::fs::remove_file(node.path().join(name)).unwrap(),
    }
    preflight(node.path())
}

#[test]
fn another_place_for_a_thing_serves_and_another_runtime_is_told_of() {
    let node = tempfile::tempdir().unwrap();
    ready_node(node.path());
    let moved = |from: &str, to: &str| {
        put(node.path(), to, "");
        std::fs::remove_file(node.path().join(from)).unwrap();
    };
    moved("usr/bin/crio", "usr/local/bin/crio");
    moved("usr/bin/runc", "usr/bin/crun");
    moved("usr/sbin/nft", "sbin/iptables");
    moved("usr/lib/cni/bridge", "opt/cni/bin/bridge");
    moved("etc/crio/policy.json", "etc/containers/policy.json");
    moved("etc/cni/net.d/10-net.conflist", "etc/cni/net.d/net.json");
    let (content, said) = preflight(node.path());
    assert!(content && !said.contains("warning"), "{said}");
    let socket = node.path().join("run/containerd/containerd.sock");
    std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let _listens = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let (content, said) = preflight(node.path());
    assert!(content && said.contains("another runtime listens on /run/containerd"), "{said}");
}
