//! Exec and port-forward as clients see them: crictl over both transports, and clients that go away.

use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;

use crioxide::cri::api;
use tonic::Code;

use crate::scene;
use crate::scene::refused;
use crate::scene::script;
use crate::support::client::Client;
use crate::support::daemon::Daemon;
use crate::support::host;

const TRANSPORTS: [&str; 2] = ["spdy", "websocket"];

fn crictl(daemon: &Daemon, arguments: &[&str]) -> Command {
    let mut command = host::command("crictl");
    command.args(["--runtime-endpoint", &format!("unix://{}", daemon.socket().display())]);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it with this input, and gives what it says.
fn talk(mut command: Command, input: Vec<u8>) -> Output {
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writes = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    let _ = writes.join().unwrap();
    output
}

async fn running(client: &mut Client, text: &str) -> (String, String) {
    let pod = client.pod("shop");
    let pod_id = client.run_pod(&pod).await.unwrap();
    let container = script(client, "web", text);
    let id = client.run(&pod_id, &pod, &container).await.unwrap();
    (pod_id, id)
}

#[test]
fn crictl_runs_commands_over_both_transports() {
    if !host::can(&["crictl"]) {
        return;
    }
    scene::story(&[], |daemon, mut client| async move {
        let (pod_id, id) = running(&mut client, "sleep 600").await;
        for transport in TRANSPORTS {
            let exec = |more: &[&str], input: &[u8]| {
                let all = [&["exec", "-r", transport], more].concat();
                talk(crictl(&daemon, &all), input.to_vec())
            };
            let ran = exec(&[&id, "/bin/sh", "-c", "echo out; echo err >&2; exit 3"], b"");
            assert_eq!(ran.stdout, b"out\n", "{transport}");
            let told = String::from_utf8(ran.stderr).unwrap();
            assert!(told.contains("err\n") && told.contains("exit code 3"), "{transport}: {told}");
            // The end of the input is the end of the command, and all of it comes back.
            let much: Vec<u8> = (0_u32..10_000_000)
                .flat_map(|n| u32::to_le_bytes(n.wrapping_mul(2_654_435_761) % 4093))
                .collect();
            let ran = exec(&["-i", &id, "/bin/sh", "-c", "exec /bin/busybox cat"], &much);
            assert!(ran.status.success(), "{transport}: {}", String::from_utf8_lossy(&ran.stderr));
            assert!(ran.stdout == much, "{transport}: {} of {}", ran.stdout.len(), much.len());
            // A command that does not want its input ends all the same.
            let ran = exec(&["-i", &id, "/bin/true"], &much);
            assert!(ran.status.success() || transport == "websocket", "{transport}");
        }
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

#[test]
fn crictl_forwards_ports_over_both_transports() {
    if !host::can(&["crictl"]) {
        return;
    }
    scene::story(&[], |daemon, mut client| async move {
        let serve = "mkdir -p /w; exec /bin/busybox httpd -f -p 8080 -h /data";
        let (pod_id, _) = running(&mut client, serve).await;
        for (transport, port) in TRANSPORTS.into_iter().zip([18_080_u16, 18_081]) {
            let ports = format!("{port}:8080");
            let mut forwards = crictl(&daemon, &["port-forward", "-r", transport, &pod_id, &ports])
                .spawn()
                .unwrap();
            // The web server may not be up at once; crictl ends when it is refused.
            let mut answer = String::new();
            scene::until("an answer", || {
                answer.clear();
                let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
                let asked = stream.write_all(b"GET /nothing HTTP/1.0\r\n\r\n");
                asked.is_ok() && stream.read_to_string(&mut answer).is_ok() && !answer.is_empty()
            })
            .await;
            assert!(answer.starts_with("HTTP/1.1 404") || answer.starts_with("HTTP/1.0 404"));
            forwards.kill().unwrap();
            forwards.wait().unwrap();
        }
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

fn wanted(id: &str, text: &str) -> api::ExecRequest {
    api::ExecRequest {
        container_id: id.to_owned(),
        cmd: ["/bin/sh", "-c", text].map(str::to_owned).to_vec(),
        stdin: true,
        stdout: true,
        ..Default::default()
    }
}

/// Says this to the server and gives the first line of its answer, and the connection.
fn ask(url: &str, method: &str, more: &str) -> (String, TcpStream) {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    write!(stream, "{method} /{path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n").unwrap();
    let (mut line, mut byte) = (Vec::new(), [0]);
    while !line.ends_with(b"\r\n") && stream.read(&mut byte).unwrap() == 1 {
        line.push(byte[0]);
    }
    (String::from_utf8(line).unwrap(), stream)
}

/// A client of the oldest channels, whose command begins at once.
const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// What the daemon holds now: descriptors, and processes it started.
fn held(daemon: &Daemon) -> (usize, usize) {
    let pid = daemon.pid().unwrap();
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    (files, scene::processes(&["sleep 4321"]).len())
}

#[test]
fn urls_are_good_once_and_clients_that_go_away_leave_nothing() {
    scene::story(&[], |daemon, mut client| async move {
        let (pod_id, id) = running(&mut client, "sleep 600").await;
        refused(client.runtime.exec(wanted(&"0".repeat(64), "true")).await, Code::NotFound);
        let url =
            client.runtime.exec(wanted(&id, "sleep 4321; true")).await.unwrap().into_inner().url;
        for (method, url, status) in [
            ("GET", format!("{url}x"), " 404 "),
            ("PUT", url.clone(), " 405 "),
            ("POST", url.clone(), " 400 "),
            ("POST", url, " 404 "),
        ] {
            let (line, _) = ask(&url, method, "");
            assert!(line.contains(status), "{method} {url}: {line}");
        }
        let before = held(&daemon);
        for _ in 0..20 {
            let mut clients = Vec::new();
            for _ in 0..10 {
                let request = wanted(&id, "sleep 4321; true");
                let url = client.runtime.exec(request).await.unwrap().into_inner().url;
                let (line, stream) = ask(&url, "GET", UPGRADE);
                assert!(line.contains(" 101 "), "{line}");
                clients.push(stream);
            }
            scene::until("a command runs", || held(&daemon).1 > 0).await;
            drop(clients);
        }
        scene::until("nothing is held", || held(&daemon) <= before).await;
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

#[test]
fn a_daemon_that_stops_ends_the_streams_that_still_go_on() {
    scene::story(&[], |mut daemon, mut client| async move {
        let (pod_id, id) = running(&mut client, "sleep 600").await;
        let request = wanted(&id, "sleep 4321; true");
        let url = client.runtime.exec(request).await.unwrap().into_inner().url;
        let (_, mut stream) = ask(&url, "GET", UPGRADE);
        scene::until("the command runs", || held(&daemon).1 > 0).await;
        drop(client);
        daemon.stop().await;
        let mut said = Vec::new();
        stream.read_to_end(&mut said).unwrap();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(said.contains("the daemon is stopping"), "{said:?}");
        scene::until("it is gone", || scene::processes(&["sleep 4321"]).is_empty()).await;
        daemon.start().await;
        daemon.client().await.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}
