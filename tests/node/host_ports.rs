//! Host ports: who reaches a pod through a port of the node, from where, and who does not.

use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::UdpSocket;

use crioxide::failure::chain;
use crioxide::model::sandbox::PortMapping;
use crioxide::model::sandbox::Protocol;
use crioxide::network::HostPortError;
use crioxide::network::Network;
use crioxide::network::NetworkError;
use crioxide::network::PodNetwork;
use crioxide::sys::sysctl;

use crate::network::GATEWAY;
use crate::network::Node;
use crate::network::can;
use crate::support::host;
use crate::support::net;
use crate::support::net::Netns;

const NODE: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
const NODE_V6: Ipv6Addr = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 1);

/// Another machine, on a cable to the node.
fn outside(node: &Node) -> Netns {
    let path = node.path("ns/outside");
    let netns = Netns::new(&path);
    let ip = |line: &str| host::run("ip", &line.split(' ').collect::<Vec<_>>());
    ip("link add cable type veth peer name far");
    ip(&format!("link set far netns {}", path.display()));
    for line in [
        "addr add 10.99.0.1/24 dev cable",
        "addr add fd99::1/64 dev cable nodad",
        "link set cable up",
    ] {
        ip(line);
    }
    netns.inside(|| {
        for line in [
            "addr add 10.99.0.2/24 dev far",
            "addr add fd99::2/64 dev far nodad",
            "link set far up",
            "route add default via 10.99.0.1",
        ] {
            ip(line);
        }
    });
    sysctl::write("net/ipv6/conf/all/forwarding", "1").unwrap();
    netns
}

fn port(protocol: Protocol, host_ip: &str, host_port: u16) -> PortMapping {
    let host_ip = (!host_ip.is_empty()).then(|| host_ip.parse().unwrap());
    PortMapping { protocol, container_port: 80, host_port, host_ip }
}

fn tcp(host_ip: &str, host_port: u16) -> PortMapping {
    port(Protocol::Tcp, host_ip, host_port)
}

/// A pod that serves and wants these ports, attached.
async fn serving(
    node: &Node,
    network: &Network,
    words: &'static str,
    ports: &[PortMapping],
) -> (PodNetwork, Netns) {
    let (pod, netns) = node.pod();
    let pod = PodNetwork { port_mappings: ports.to_vec(), ..pod };
    netns.serve(80, words);
    net::serve_udp(&netns, 80, words);
    network.add(&pod).await.unwrap();
    (pod, netns)
}

/// Who reaches the port from where: everything that a host port promises.
fn reaches(outside: &Netns, pod: &Netns, other: &Netns) {
    let said = |place: &str, answer: std::io::Result<String>| {
        assert_eq!(answer.unwrap_or_else(|error| panic!("{place}: {error}")), "here", "{place}");
    };
    said("outside", outside.inside(|| net::ask(NODE, 18080)));
    said("outside, IPv6", outside.inside(|| net::ask(NODE_V6, 18080)));
    said("the node", net::ask(NODE, 18080));
    said("the node, IPv6", net::ask(NODE_V6, 18080));
    said("the node's other address", net::ask(GATEWAY, 18080));
    said("the node's own loopback", net::ask(Ipv4Addr::LOCALHOST, 18080));
    said("the pod itself", pod.inside(|| net::ask(NODE, 18080)));
    said("the pod itself, IPv6", pod.inside(|| net::ask(NODE_V6, 18080)));
    said("the pod itself, by its gateway", pod.inside(|| net::ask(GATEWAY, 18080)));
    said("another pod", other.inside(|| net::ask(NODE, 18080)));
    said("another pod, IPv6", other.inside(|| net::ask(NODE_V6, 18080)));
    // A port at one address is at that address only.
    said("outside, one address", outside.inside(|| net::ask(NODE, 18081)));
    assert!(outside.inside(|| net::ask(NODE_V6, 18081)).is_err());
    assert!(net::ask(GATEWAY, 18081).is_err());
    said("loopback only", net::ask(Ipv4Addr::LOCALHOST, 18082));
    assert!(outside.inside(|| net::ask(NODE, 18082)).is_err());
    said("IPv6 only", outside.inside(|| net::ask(NODE_V6, 18083)));
    assert!(outside.inside(|| net::ask(NODE, 18083)).is_err());
    // UDP of the same number is another port.
    let client = outside.inside(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    assert_eq!(net::ask_udp(&client, NODE, 18080), None);
    assert_eq!(net::ask_udp(&client, NODE, 18053).as_deref(), Some("here"));
    let client = outside.inside(|| UdpSocket::bind("[::]:0").unwrap());
    assert_eq!(net::ask_udp(&client, NODE_V6, 18053).as_deref(), Some("here"));
}

fn all_kinds() -> Vec<PortMapping> {
    vec![
        tcp("", 18080),
        tcp("10.99.0.1", 18081),
        tcp("127.0.0.1", 18082),
        tcp("::", 18083),
        port(Protocol::Udp, "", 18053),
        // Rules for SCTP are made; that they work needs a kernel with the protocol.
        port(Protocol::Sctp, "", 18080),
    ]
}

/// What a node without nft has.
const IPTABLES: [&str; 4] = ["iptables", "iptables-restore", "ip6tables", "ip6tables-restore"];

async fn a_port_answers_from_everywhere(network: impl Fn(&Node) -> Network) {
    let node = Node::new("1.0.0", &[]);
    let network = network(&node);
    let outside = outside(&node);
    let (other, other_netns) = node.pod();
    network.add(&other).await.unwrap();
    let (pod, netns) = serving(&node, &network, "here", &all_kinds()).await;
    reaches(&outside, &netns, &other_netns);

    network.remove(&pod).await.unwrap();
    assert!(net::ask(Ipv4Addr::LOCALHOST, 18080).is_err());
    assert!(outside.inside(|| net::ask(NODE, 18080)).is_err());
    network.remove(&other).await.unwrap();
    host::run("ip", &["link", "del", "cable"]);
    node.assert_nothing_left();
}

#[test]
fn a_host_port_answers_from_everywhere() {
    if can() {
        net::in_own_network(|| a_port_answers_from_everywhere(Node::network));
    }
}

#[test]
fn a_host_port_answers_from_everywhere_where_nft_is_missing() {
    if can() {
        let iptables = |node: &Node| node.network_with_tools(&IPTABLES);
        net::in_own_network(|| a_port_answers_from_everywhere(iptables));
    }
}

/// The chains of ours that iptables has, and the tables that nft has.
fn rules_by_tool() -> [bool; 3] {
    let has = |program: &str| host::run(program, &[]).contains("KUBE-HOSTPORTS");
    let nft = host::run("nft", &["list", "tables"]).contains("crio-hostports");
    [has("iptables-save"), has("ip6tables-save"), nft]
}

#[test]
fn rules_of_the_other_tool_go_when_a_later_daemon_has_another() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        let node = Node::new("1.0.0", &[]);
        let first = node.network();
        let (pod, _netns) = serving(&node, &first, "here", &[tcp("", 18080)]).await;
        assert_eq!(rules_by_tool(), [false, false, true]);
        let addresses = first.cached(&pod.id).unwrap().unwrap();
        drop(first);
        for (tools, expected) in [
            (&IPTABLES[..], [true, true, false]),
            (
                &["nft", "iptables", "iptables-restore", "ip6tables", "ip6tables-restore"][..],
                [false, false, true],
            ),
        ] {
            let later = node.network_with_tools(tools);
            later.adopt(&pod, &addresses.ips);
            later.settle().await.unwrap();
            assert_eq!(rules_by_tool(), expected);
            assert_eq!(net::ask(Ipv4Addr::LOCALHOST, 18080).unwrap(), "here");
        }
        let last = node.network();
        last.adopt(&pod, &addresses.ips);
        last.remove(&pod).await.unwrap();
        node.assert_nothing_left();
    });
}

#[test]
fn rules_that_somebody_flushed_come_back() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        for (tools, flush) in [
            (&["nft"][..], &["nft", "delete", "table", "ip", "crio-hostports"][..]),
            (&IPTABLES[..], &["iptables", "-t", "nat", "-F", "KUBE-HOSTPORTS"][..]),
        ] {
            let node = Node::new("1.0.0", &[]);
            let network = node.network_with_tools(tools);
            let (pod, _netns) = serving(&node, &network, "here", &[tcp("", 18080)]).await;
            assert_eq!(net::ask(Ipv4Addr::LOCALHOST, 18080).unwrap(), "here");
            host::run(flush[0], &flush[1..]);
            assert!(net::ask(Ipv4Addr::LOCALHOST, 18080).is_err());
            network.settle().await.unwrap();
            assert!(net::ask(Ipv4Addr::LOCALHOST, 18080).is_err(), "nobody has told it yet");
            network.doubt().await;
            network.settle().await.unwrap();
            assert_eq!(net::ask(Ipv4Addr::LOCALHOST, 18080).unwrap(), "here", "{tools:?}");
            network.remove(&pod).await.unwrap();
            assert_eq!(rules_by_tool(), [false; 3]);
        }
    });
}

#[test]
fn a_service_on_the_nodes_loopback_stays_the_nodes() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        let node = Node::new("1.0.0", &[]);
        let network = node.network();
        let (pod, netns) = serving(&node, &network, "here", &[tcp("", 18080)]).await;
        let private = std::net::TcpListener::bind("127.0.0.1:19000").unwrap();
        std::thread::spawn(move || while private.accept().is_ok() {});
        // As a pod that may send raw packets does it (CVE-2020-8558).
        netns.inside(|| {
            host::run("ip", &["addr", "del", "127.0.0.1/8", "dev", "lo"]);
            host::run("ip", &["route", "add", "127.0.0.1/32", "via", &GATEWAY.to_string()]);
            sysctl::write("net/ipv4/conf/eth0/route_localnet", "1").unwrap();
            sysctl::write("net/ipv4/conf/all/route_localnet", "1").unwrap();
        });
        assert!(netns.inside(|| net::ask(Ipv4Addr::LOCALHOST, 19000)).is_err());
        assert_eq!(net::ask(Ipv4Addr::LOCALHOST, 18080).unwrap(), "here");
        // Nothing but that rule keeps them away.
        host::run("nft", &["flush", "chain", "ip", "crio-hostports", "localnet"]);
        assert!(netns.inside(|| net::ask(Ipv4Addr::LOCALHOST, 19000)).is_ok());
        network.remove(&pod).await.unwrap();
        node.assert_nothing_left();
    });
}

#[test]
fn a_udp_flow_follows_the_port_from_pod_to_pod() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        let node = Node::new("1.0.0", &[]);
        let network = node.network();
        let outside = outside(&node);
        // The node tracks connections from the first pod on.
        let (other, _other_netns) = node.pod();
        network.add(&other).await.unwrap();
        let client = outside.inside(|| UdpSocket::bind("10.99.0.2:5353").unwrap());
        assert_eq!(net::ask_udp(&client, NODE, 18053), None);
        let ports = [port(Protocol::Udp, "", 18053)];
        let (first, first_netns) = serving(&node, &network, "first", &ports).await;
        assert_eq!(net::ask_udp(&client, NODE, 18053).as_deref(), Some("first"));
        // Its namespace and the server stay, so that only the rules decide.
        network.remove(&first).await.unwrap();
        assert_eq!(net::ask_udp(&client, NODE, 18053), None);
        let (second, _second_netns) = serving(&node, &network, "second", &ports).await;
        assert_eq!(net::ask_udp(&client, NODE, 18053).as_deref(), Some("second"));
        drop(first_netns);
        network.remove(&second).await.unwrap();
        network.remove(&other).await.unwrap();
    });
}

#[test]
fn a_port_that_another_pod_has_is_refused_and_says_who_has_it() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        let node = Node::new("1.0.0", &[]);
        let network = node.network();
        let (pod, _netns) = serving(&node, &network, "here", &[tcp("", 18080)]).await;
        let (second, second_netns) = node.pod();
        let second = PodNetwork { port_mappings: vec![tcp("10.99.0.1", 18080)], ..second };
        let error = network.add(&second).await.unwrap_err();
        let words = format!(
            "host port 10.99.0.1:18080/tcp is held by pod default/{} (sandbox {})",
            pod.name, pod.id
        );
        assert_eq!(chain(&error), words);
        assert!(matches!(error, NetworkError::HostPorts(HostPortError::Taken { .. })));
        assert_eq!(second_netns.interfaces(), ["lo"]);
        assert_eq!(net::ask(Ipv4Addr::LOCALHOST, 18080).unwrap(), "here");
        network.remove(&pod).await.unwrap();
        network.add(&second).await.unwrap();
        network.remove(&second).await.unwrap();
        node.assert_nothing_left();
    });
}

#[test]
fn a_later_daemon_makes_the_rules_of_its_pods_and_no_others() {
    if !can() {
        return;
    }
    net::in_own_network(|| async {
        let node = Node::new("1.0.0", &[]);
        let earlier = node.network();
        let (dead, dead_netns) = serving(&node, &earlier, "dead", &[tcp("", 18090)]).await;
        let (pod, _netns) = serving(&node, &earlier, "here", &[tcp("", 18080)]).await;
        let addresses = earlier.cached(&pod.id).unwrap().unwrap();
        drop(earlier);
        dead_netns.destroy();
        for flushed in [false, true] {
            if flushed {
                host::run("nft", &["delete", "table", "ip", "crio-hostports"]);
                sysctl::write("net/ipv4/conf/cxtest0/route_localnet", "0").unwrap();
                assert!(net::ask(Ipv4Addr::LOCALHOST, 18080).is_err());
            }
            let network = node.network();
            network.adopt(&pod, &addresses.ips);
            network.settle().await.unwrap();
            assert_eq!(net::ask(Ipv4Addr::LOCALHOST, 18080).unwrap(), "here", "{flushed}");
            let rules = host::run("nft", &["list", "table", "ip", "crio-hostports"]);
            assert!(rules.contains("18080") && !rules.contains("18090"), "{rules}");
            let (second, _netns) = node.pod();
            let second = PodNetwork { port_mappings: vec![tcp("", 18080)], ..second };
            assert!(network.add(&second).await.is_err());
        }
        let network = node.network();
        network.adopt(&pod, &addresses.ips);
        assert_eq!(network.collect(std::slice::from_ref(&pod.id)).await.removed, [dead.id]);
        network.remove(&pod).await.unwrap();
        // The bridge plugin leaves a rule of a pod whose namespace went first; that is its own.
        node.assert_no_host_ports();
    });
}
