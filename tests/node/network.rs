//! Pods on the plugins that nodes have: bridge, host-local, portmap, firewall.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use crioxide::model::change::Change;
use crioxide::model::ids::SandboxId;
use crioxide::model::sandbox::PortMapping;
use crioxide::model::sandbox::Protocol;
use crioxide::network::Network;
use crioxide::network::NetworkError;
use crioxide::network::PodNetwork;
use crioxide::network::Settings;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;

use crate::support::host;
use crate::support::net;
use crate::support::net::Netns;

pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// A node's CNI set-up in a directory.
pub(crate) struct Node {
    directory: TempDir,
}

impl Node {
    pub(crate) fn new(version: &str, more: &[Value]) -> Self {
        let node = Self { directory: tempfile::tempdir().unwrap() };
        for name in ["conf", "bin", "ns"] {
            fs::create_dir(node.path(name)).unwrap();
        }
        let ipam = json!({
            "type": "host-local",
            "dataDir": node.path("leases"),
            "ranges": [[{"subnet": "10.77.0.0/24"}], [{"subnet": "fd77::/64"}]],
        });
        let bridge = json!({
            "type": "bridge", "bridge": "cxtest0", "isDefaultGateway": true, "ipMasq": true,
            "hairpinMode": true, "ipam": ipam,
        });
        let plugins: Vec<Value> = std::iter::once(bridge).chain(more.iter().cloned()).collect();
        let list = json!({"cniVersion": version, "name": "pods", "plugins": plugins});
        fs::File::create(node.path("conf/10-pods.conflist"))
            .and_then(|file| serde_json::to_writer(file, &list).map_err(Into::into))
            .unwrap();
        node
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn network(&self) -> Network {
        self.network_with(None)
    }

    /// The network of a node that has only these tools for rules.
    pub(crate) fn network_with_tools(&self, tools: &[&str]) -> Network {
        let directory = self.path("tools");
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir(&directory).unwrap();
        for tool in tools {
            let program = host::program(tool).unwrap();
            std::os::unix::fs::symlink(program, directory.join(tool)).unwrap();
        }
        self.network_with(Some(vec![directory]))
    }

    fn network_with(&self, tool_dirs: Option<Vec<PathBuf>>) -> Network {
        Network::new(Settings {
            conf_dir: self.path("conf"),
            plugin_dirs: vec![self.path("bin"), host::cni_directory().unwrap()],
            default_network: None,
            cache_dir: self.path("results"),
            namespaces_dir: "/".into(),
            timeout: Duration::from_secs(60),
            host_ports: true,
            localnet_note: self.path("localnet"),
            tool_dirs,
        })
        .unwrap()
    }

    pub(crate) fn pod(&self) -> (PodNetwork, Netns) {
        let id = SandboxId::fresh().unwrap();
        let netns = Netns::new(&self.path("ns").join(id.short()));
        let pod = PodNetwork {
            name: format!("pod-{}", id.short()),
            namespace: "default".to_owned(),
            uid: "0-1-2".to_owned(),
            netns: netns.path().to_owned(),
            port_mappings: vec![],
            annotations: BTreeMap::new(),
            cgroup_path: String::new(),
            id,
        };
        (pod, netns)
    }

    /// The addresses that are taken.
    fn leases(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("leases/pods")).into_iter().flatten();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut taken: Vec<_> =
            names.filter(|name| name.starts_with("10.") || name.starts_with("fd")).collect();
        taken.sort();
        taken
    }

    /// No rule, setting or note of a host port is left.
    pub(crate) fn assert_no_host_ports(&self) {
        let rules = host::run("nft", &["list", "ruleset"]);
        assert!(!rules.contains("crio-hostports"), "{rules}");
        assert!(!self.path("localnet").exists());
        let localnet = fs::read_to_string("/proc/sys/net/ipv4/conf/cxtest0/route_localnet");
        assert_eq!(localnet.unwrap(), "0\n");
    }

    /// No address, interface, rule or cache entry of a pod is left.
    pub(crate) fn assert_nothing_left(&self) {
        assert_eq!(self.leases(), [""; 0]);
        assert_eq!(net::interfaces(), ["lo", "cxtest0"]);
        for table in ["nat", "filter"] {
            let rules = host::run("iptables", &["-t", table, "-S"]);
            let of_pods = |rule: &&str| rule.contains("10.77.0.") || rule.contains("CNI-DN-");
            assert_eq!(rules.lines().filter(of_pods).collect::<Vec<_>>(), [""; 0], "{rules}");
        }
        self.assert_no_host_ports();
        assert_eq!(fs::read_dir(self.path("results")).unwrap().count(), 0);
    }
}

pub(crate) fn can() -> bool {
    host::can(&["root", "cni", "ip", "iptables", "nft"])
}

fn portmap() -> Value {
    json!({"type": "portmap", "capabilities": {"portMappings": true}})
}

fn tcp(host_port: u16) -> PortMapping {
    PortMapping { protocol: Protocol::Tcp, container_port: 80, host_port, host_ip: None }
}

#[test]
fn a_pods_address_answers_and_is_given_back() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        let node = Node::new("1.0.0", &[portmap()]);
        let network = node.network();
        network.ready().await.unwrap();
        let (pod, netns) = node.pod();
        netns.serve(80, "hello from the pod");
        let addresses = network.add(&pod).await.unwrap();
        let [ip @ IpAddr::V4(_), ip6 @ IpAddr::V6(_)] = addresses.ips[..] else {
            panic!("{:?}", addresses.ips)
        };
        assert_eq!(net::ask(ip, 80).unwrap(), "hello from the pod");
        assert_eq!(node.leases(), [ip.to_string(), ip6.to_string()]);
        assert!(netns.interfaces().contains(&"eth0".to_owned()));

        // After a restart, the same addresses; and another daemon can detach.
        let network = node.network();
        assert_eq!(network.cached(&pod.id).unwrap().unwrap(), addresses);
        assert_eq!(network.remove(&pod).await.unwrap(), Change::Made(()));
        assert_eq!(netns.interfaces(), ["lo"]);
        node.assert_nothing_left();
        netns.destroy();
        assert_eq!(network.remove(&pod).await.unwrap(), Change::Unchanged(()));
    });
}

#[test]
fn pods_added_at_once_reach_each_other() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        let node = Node::new("0.3.1", &[]);
        let network = node.network();
        let pods: Vec<_> = (0..4).map(|_| node.pod()).collect();
        let adds = pods.iter().map(|(pod, _)| network.add(pod));
        let addresses: Vec<_> =
            futures_util::future::join_all(adds).await.into_iter().map(Result::unwrap).collect();
        pods[0].1.serve(80, "here");
        let ip = addresses[0].ips[0];
        for (_, netns) in &pods[1..] {
            assert_eq!(netns.inside(|| net::ask(ip, 80)).unwrap(), "here");
        }
        let removes = pods.iter().map(|(pod, _)| network.remove(pod));
        for change in futures_util::future::join_all(removes).await {
            assert_eq!(change.unwrap(), Change::Made(()));
        }
        node.assert_nothing_left();
    });
}

#[test]
fn an_address_is_freed_when_the_namespace_is_gone_already() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        let node = Node::new("1.0.0", &[portmap()]);
        let network = node.network();
        let (pod, netns) = node.pod();
        network.add(&pod).await.unwrap();
        assert_eq!(node.leases().len(), 2);
        netns.destroy();
        assert_eq!(network.remove(&pod).await.unwrap(), Change::Made(()));
        assert_eq!(node.leases(), [""; 0]);
        assert_eq!(network.remove(&pod).await.unwrap(), Change::Unchanged(()));
    });
}

#[test]
fn a_plugin_that_fails_leaves_nothing_of_those_before_it() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        let node = Node::new("1.0.0", &[portmap(), json!({"type": "bad"})]);
        let versions = r#"{"cniVersion":"1.0.0","supportedVersions":["1.0.0"]}"#;
        let network = node.network();
        for does in ["exit 9", "kill -9 $$", "echo lies", "echo '{\"ips\":[{\"address\":\"x\"}]}'"]
        {
            let text = format!(
                "#!/bin/sh\n[ $CNI_COMMAND = VERSION ] && echo '{versions}'\n\
                 [ $CNI_COMMAND = ADD ] && {{ {does}; }}\nexit 0\n"
            );
            let file = node.path("bin/bad.new");
            fs::copy("/bin/true", &file).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
            let mut script = fs::File::create(&file).unwrap();
            std::io::Write::write_all(&mut script, text.as_bytes()).unwrap();
            drop(script);
            fs::rename(&file, node.path("bin/bad")).unwrap();

            let (pod, netns) = node.pod();
            let pod = PodNetwork { port_mappings: vec![tcp(18080)], ..pod };
            let error = network.add(&pod).await.unwrap_err();
            assert!(matches!(&error, NetworkError::Add { source, .. } if source.plugin == "bad"));
            assert_eq!(netns.interfaces(), ["lo"], "{does}");
            node.assert_nothing_left();
        }
    });
}

#[test]
fn what_a_killed_daemon_left_is_collected() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        let node = Node::new("1.0.0", &[portmap()]);
        let ((dead, gone), (living, netns)) = (node.pod(), node.pod());
        let earlier = node.network();
        earlier.add(&dead).await.unwrap();
        let addresses = earlier.add(&living).await.unwrap();
        gone.destroy();
        netns.serve(80, "still here");
        let network = node.network();
        let collected = network.collect(std::slice::from_ref(&living.id)).await;
        assert!(collected.failures.is_empty(), "{:?}", collected.failures);
        assert_eq!(collected.removed, [dead.id]);
        assert_eq!(net::ask(addresses.ips[0], 80).unwrap(), "still here");
        network.remove(&living).await.unwrap();
        assert_eq!(node.leases(), [""; 0]);
    });
}
