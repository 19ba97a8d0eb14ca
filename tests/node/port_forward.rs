//! Ports of pods, as `crictl port-forward` and clients with channels reach them: whichever family
//! the pod's server listens on, and what is told when nobody listens.

use std::io::Read;
use std::io::Write;
use std::net::TcpStream;

use crioxide::cri::api;

use crate::scene;
use crate::scene::script;
use crate::streaming;
use crate::streaming::TRANSPORTS;
use crate::support::daemon::Daemon;
use crate::support::host;
use crate::support::typed::Typed;

/// Two servers, each on one family only, and a third that has nobody.
const SERVERS: &str = "mkdir /four /six; echo by four > /four/who; echo by six > /six/who; \
                       /bin/busybox httpd -p 127.0.0.1:8084 -h /four; \
                       /bin/busybox httpd -p '[::1]:8086' -h /six; \
                       echo up; exec sleep 600";

/// Forwards a port of a pod with crictl, and gives it and the port of ours.
fn forwarded(daemon: &Daemon, transport: &str, pod: &str, port: u16) -> (Typed, u16) {
    let ports = format!("0:{port}");
    let typed = Typed::start(streaming::crictl(
        daemon,
        &["port-forward", "-r", transport, pod, ports.as_str()],
    ));
    typed.until(&format!(" -> {port}"));
    let heard = typed.heard();
    let (_, ours) = heard.split_once("Forwarding from 127.0.0.1:").unwrap();
    let ours = ours.split(' ').next().unwrap().parse().unwrap();
    (typed, ours)
}

/// What the web server behind a port of ours says.
fn fetched(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"GET /who HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

fn in_nodes_network(pod: &mut api::PodSandboxConfig, container: &mut api::ContainerConfig) {
    let namespaces = Some(api::NamespaceOption {
        network: api::NamespaceMode::Node.into(),
        pid: api::NamespaceMode::Container.into(),
        ..Default::default()
    });
    pod.linux.as_mut().unwrap().security_context = Some(api::LinuxSandboxSecurityContext {
        namespace_options: namespaces.clone(),
        ..Default::default()
    });
    container.linux.as_mut().unwrap().security_context = Some(api::LinuxContainerSecurityContext {
        namespace_options: namespaces,
        ..Default::default()
    });
}

#[test]
fn a_server_is_reached_on_either_family_over_both_transports_and_in_the_node_s_network() {
    if !host::can(&["crictl"]) {
        return;
    }
    scene::story(&[], |daemon, mut client| async move {
        for name in ["own", "node"] {
            let (mut pod, mut web) = (client.pod(name), script(&client, "web", SERVERS));
            if name == "node" {
                in_nodes_network(&mut pod, &mut web);
            }
            let pod_id = client.run_pod(&pod).await.unwrap();
            client.run(&pod_id, &pod, &web).await.unwrap();
            scene::until("the servers are up", || client.log(&pod, &web).contains("up")).await;
            for transport in TRANSPORTS {
                for (port, words) in [(8084, "by four\n"), (8086, "by six\n")] {
                    let (_forwards, ours) = forwarded(&daemon, transport, &pod_id, port);
                    // Several connections, one after another and at once.
                    let _silent = TcpStream::connect(("127.0.0.1", ours)).unwrap();
                    for _ in 0..3 {
                        let answer = fetched(ours);
                        assert!(answer.ends_with(words), "{name} {transport} {port}: {answer:?}");
                    }
                }
                // Nobody listens there, and the client is told why.
                let (forwards, ours) = forwarded(&daemon, transport, &pod_id, 8085);
                assert_eq!(fetched(ours), "", "{name} {transport}");
                forwards.until("Connection refused");
                forwards.until("8085");
            }
            client.remove_pod(&pod_id).await.unwrap();
        }
        daemon
    });
}

#[test]
fn channels_say_which_port_they_are_for_and_why_one_cannot_be_forwarded() {
    scene::story(&[], |daemon, mut client| async move {
        let (pod_id, id) = streaming::running(&mut client, SERVERS).await;
        let is_up = "until wget -q -O - http://[::1]:8086/who; do :; done";
        scene::said(&mut client, &id, is_up).await;
        let request =
            api::PortForwardRequest { pod_sandbox_id: pod_id.clone(), port: vec![8085, 8086] };
        let url = client.runtime.port_forward(request).await.unwrap().into_inner().url;
        let upgrade =
            format!("{}Sec-WebSocket-Protocol: v4.channel.k8s.io\r\n", streaming::UPGRADE);
        let (line, mut stream) = streaming::ask(&url, "GET", &upgrade);
        assert!(line.contains(" 101 "), "{line}");
        streaming::skip_headers(&mut stream);
        // Each of four channels begins with its port, in the order of least bytes first.
        let mut seen = Vec::new();
        let mut error = String::new();
        while error.is_empty() {
            let mut message = streaming::message(&mut stream);
            let channel = message.remove(0);
            match channel {
                1 if seen.contains(&(1, 8085)) => error = String::from_utf8(message).unwrap(),
                _ => seen.push((channel, u16::from_le_bytes([message[0], message[1]]))),
            }
        }
        for expected in [(0, 8085), (1, 8085), (2, 8086), (3, 8086)] {
            assert!(seen.contains(&expected), "{seen:?}");
        }
        assert!(error.contains("8085") && error.contains("refused"), "{error}");
        // The other goes on.
        streaming::say(&mut stream, b"\x02GET /who HTTP/1.0\r\n\r\n");
        let mut answer = String::new();
        while !answer.ends_with("by six\n") {
            let message = streaming::message(&mut stream);
            assert_eq!(message[0], 2, "{message:?}");
            answer.push_str(std::str::from_utf8(&message[1..]).unwrap());
        }
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}
