//! What people see: the answers of `crictl` as CRI-O gives them, and what a pod's network is told.

use std::os::unix::fs::PermissionsExt;

use crioxide::cri::api;
use serde_json::Value;
use serde_json::json;

use crate::scene;
use crate::scene::IMAGE;
use crate::streaming::crictl;
use crate::streaming::talk;
use crate::support::daemon::Daemon;
use crate::support::host;

/// What crictl prints.
fn said(daemon: &Daemon, arguments: &[&str]) -> String {
    let output = talk(crictl(daemon, arguments), Vec::new());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn json_of(daemon: &Daemon, arguments: &[&str]) -> Value {
    serde_json::from_str(&said(daemon, arguments)).unwrap()
}

#[test]
fn crictl_shows_pods_containers_and_the_node_as_with_crio() {
    if !host::can(&["crictl"]) {
        return;
    }
    scene::story(&[], |daemon, mut client| async move {
        let mut pod = client.pod("shop");
        pod.annotations.insert("note".into(), "a b".into());
        let pod_id = client.run_pod(&pod).await.unwrap();
        let numbered = "example.test/numbered:1";
        let config = json!({"Env": ["PATH=/bin"], "StopSignal": "37"});
        scene::bring(&daemon, numbered, &scene::busybox(config));
        let web = client.container("web", numbered, &["/bin/sleep", "600"]);
        let id = client.run(&pod_id, &pod, &web).await.unwrap();

        let inspected = json_of(&daemon, &["inspectp", &pod_id]);
        let info = &inspected["info"];
        assert!(info["pid"].as_i64().unwrap() > 1 && info["image"].is_string(), "{info:#}");
        let spec = &info["runtimeSpec"];
        let namespaces = spec["linux"]["namespaces"].as_array().unwrap();
        let network = namespaces.iter().find(|one| one["type"] == "network").unwrap();
        let netns = daemon.path("ns/netns").join(&pod_id);
        assert_eq!(network["path"], netns.display().to_string());
        let parent = pod.linux.as_ref().unwrap().cgroup_parent.clone();
        assert_eq!(spec["linux"]["cgroupsPath"], format!("{parent}/crio-{pod_id}"));
        let of_crio = |key: &str| &spec["annotations"][format!("io.kubernetes.cri-o.{key}")];
        assert_eq!(of_crio("ContainerType"), "sandbox");
        assert_eq!(of_crio("SandboxID"), &json!(pod_id));
        assert_eq!(inspected["status"]["labels"]["io.kubernetes.pod.uid"], "shop-uid");
        assert_eq!(inspected["status"]["annotations"]["note"], "a b");

        let inspected = json_of(&daemon, &["inspect", &id]);
        let info = &inspected["info"];
        assert_eq!(info["sandboxID"], pod_id.as_str());
        assert_eq!((&info["privileged"], info["pid"].is_i64()), (&json!(false), true));
        assert_eq!(info["runtimeSpec"]["process"]["args"][0], "/bin/sleep");
        let status = &inspected["status"];
        assert_eq!(status["state"], "CONTAINER_RUNNING");
        assert_eq!(status["stopSignal"], "SIGRTMINPLUS3");
        assert_eq!(status["labels"]["io.kubernetes.container.name"], "web");

        let table = said(&daemon, &["ps"]);
        assert!(table.lines().nth(1).unwrap().contains(" shop"), "{table}");
        let table = said(&daemon, &["pods"]);
        assert!(table.contains("shop") && table.contains("Ready"), "{table}");
        assert!(json_of(&daemon, &["inspecti", IMAGE])["info"]["imageSpec"].is_object());

        let config = &json_of(&daemon, &["info"])["config"];
        assert!(config["sandboxImage"].is_string());
        let crio = &config["crio"];
        assert_eq!(crio["DefaultRuntime"], "runc");
        assert_eq!(crio["CgroupManagerName"], "cgroupfs");
        assert_eq!(crio["PidsLimit"], -1);
        assert_eq!(crio["DefaultCapabilities"].as_array().unwrap().len(), 9);
        let runc = &crio["Runtimes"]["runc"];
        assert_eq!(runc["RuntimeRoot"], daemon.path("runc").display().to_string());
        assert!(runc["RuntimePath"].as_str().unwrap().ends_with("/runc"));

        // The container's own signal is what stops it: with a number that only the kernel knows.
        client.stop(&id, 20).await.unwrap();
        assert_eq!(client.status(&id).await.unwrap().exit_code, 128 + 37);
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

/// Two families, and a plugin behind the bridge that notes what it is asked.
fn noting(daemon: &mut Daemon) {
    let path = daemon.path("cni/10-bridge.conflist");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut list: Value = serde_json::from_str(&text).unwrap();
    let plugins = list["plugins"].as_array_mut().unwrap();
    plugins[0]["ipam"]["ranges"] = json!([[{"subnet": "10.85.0.0/24"}], [{"subnet": "fd85::/64"}]]);
    plugins.push(json!({"type": "bandwidth", "capabilities": {"bandwidth": true}}));
    list["cniVersion"] = json!("1.1.0");
    list["cniVersions"] = json!(["1.0.0", "1.1.0"]);
    daemon.write("cni/10-bridge.conflist", &list.to_string());
    std::fs::create_dir(daemon.path("plugins")).unwrap();
    daemon.argument(&format!("--cni-plugin-dir={}", daemon.path("plugins").display()));
}

#[test]
fn a_pod_has_addresses_of_both_families_and_no_more_bandwidth_than_it_may() {
    scene::prepared(&[], noting, |daemon, mut client| async move {
        let mut pod = client.pod("shop");
        pod.annotations.insert("kubernetes.io/ingress-bandwidth".into(), "1M".into());
        pod.annotations.insert("kubernetes.io/egress-bandwidth".into(), "2M".into());
        let id = client.run_pod(&pod).await.unwrap();
        let network = client.pod_status(&id).await.unwrap().network.unwrap();
        assert!(network.ip.starts_with("10.85.0."), "{network:?}");
        let more: Vec<_> = network.additional_ips.iter().map(|ip| ip.ip.as_str()).collect();
        assert!(more.len() == 1 && more[0].starts_with("fd85::"), "{network:?}");
        // The plugin limits what leaves the node's end of the pod's cable, in bits.
        let shaped = host::run("tc", &["qdisc", "show"]);
        assert!(shaped.contains("rate 1Mbit") && shaped.contains("rate 2Mbit"), "{shaped}");
        client.remove_pod(&id).await.unwrap();

        pod.annotations.insert("kubernetes.io/egress-bandwidth".into(), "fast".into());
        let told = client.run_pod(&pod).await;
        let told = scene::refused(told, tonic::Code::InvalidArgument);
        assert!(told.contains("egress-bandwidth"), "{told}");
        daemon
    });
}

#[test]
fn the_network_is_ready_as_long_as_its_plugins_are_there_and_say_so() {
    let prepare = |daemon: &mut Daemon| {
        noting(daemon);
        let text = "{\"cniVersion\":\"1.1.0\",\"name\":\"pods\",\"plugins\":[{\"type\":\"late\"}]}";
        daemon.write("cni/10-bridge.conflist", text);
    };
    scene::prepared(&[], prepare, |daemon, mut client| async move {
        let told = client.condition("NetworkReady").await.unwrap();
        assert!(!told.status && told.message.contains("late"), "{told:?}");
        let root = daemon.path("").display().to_string();
        let text = format!(
            "#!/bin/sh\n\
             echo $CNI_COMMAND >> {root}/asked\n\
             case $CNI_COMMAND in\n\
             VERSION) echo '{{\"cniVersion\":\"1.1.0\",\"supportedVersions\":[\"1.1.0\"]}}';;\n\
             STATUS) [ -e {root}/well ] || {{ echo '{{\"cniVersion\":\"1.1.0\",\"code\":50,\"msg\":\"no route\"}}'; exit 1; }};;\n\
             esac\n"
        );
        daemon.write("plugins/new", &text);
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(daemon.path("plugins/new"), mode).unwrap();
        std::fs::rename(daemon.path("plugins/new"), daemon.path("plugins/late")).unwrap();
        let told = client.condition("NetworkReady").await.unwrap();
        assert!(!told.status && told.message.contains("no route"), "{told:?}");
        assert_eq!(told.reason, "NetworkPluginNotReady");
        daemon.write("well", "");
        assert!(client.condition("NetworkReady").await.unwrap().status);
        // When it is ready, plugins are told what lives, so that they can collect the rest.
        let asked = daemon.path("asked");
        let collected = || std::fs::read_to_string(&asked).is_ok_and(|text| text.contains("GC"));
        scene::until("GC is asked", collected).await;
        std::fs::remove_file(daemon.path("plugins/late")).unwrap();
        assert!(!client.condition("NetworkReady").await.unwrap().status);
        daemon
    });
}

#[test]
fn a_pod_without_a_process_of_its_own_has_no_number_to_show() {
    scene::story(&[], |daemon, mut client| async move {
        let mut pod = client.pod("shop");
        let options = api::NamespaceOption {
            pid: api::NamespaceMode::Container.into(),
            ..Default::default()
        };
        pod.linux.as_mut().unwrap().security_context = Some(api::LinuxSandboxSecurityContext {
            namespace_options: Some(options),
            ..Default::default()
        });
        let id = client.run_pod(&pod).await.unwrap();
        let request = api::PodSandboxStatusRequest { pod_sandbox_id: id.clone(), verbose: true };
        let answer = client.runtime.pod_sandbox_status(request).await.unwrap().into_inner();
        let info: Value = serde_json::from_str(&answer.info["info"]).unwrap();
        assert!(info.get("pid").is_none() && info.get("image").is_none(), "{info}");
        assert!(info["runtimeSpec"]["linux"].is_object());
        client.remove_pod(&id).await.unwrap();
        daemon
    });
}
