//! Exec and attach as clients see them: crictl over both transports, and clients that go away, say
//! nothing, or come twice.

use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use crioxide::cri::api;
use tonic::Code;

use crate::scene;
use crate::scene::refused;
use crate::scene::script;
use crate::support::client::Client;
use crate::support::daemon::Daemon;
use crate::support::host;
use crate::support::typed::Typed;

/// What kubectl and crictl speak.
pub(crate) const TRANSPORTS: [&str; 2] = ["spdy", "websocket"];

pub(crate) fn crictl(daemon: &Daemon, arguments: &[&str]) -> Command {
    let mut command = host::command("crictl");
    command.args(["--runtime-endpoint", &format!("unix://{}", daemon.socket().display())]);
    // Its own two seconds are not enough on a machine that does much else.
    command.args(["--timeout", "60s"]);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it with this input, and gives what it says.
pub(crate) fn talk(mut command: Command, input: Vec<u8>) -> Output {
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writes = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    let _ = writes.join().unwrap();
    output
}

pub(crate) async fn running(client: &mut Client, text: &str) -> (String, String) {
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

/// Starts crictl on a terminal of its own, and gives that too, for who pulls at its window.
fn on_a_terminal(daemon: &Daemon, arguments: &[&str]) -> (Typed, String) {
    let crictl = crictl(daemon, arguments);
    let words = std::iter::once(crictl.get_program()).chain(crictl.get_args());
    let words: Vec<_> = words.map(|word| word.to_str().unwrap()).collect();
    let line = words.join(" ");
    let mut script = host::command("script");
    script.args(["-qefc", &format!("stty rows 24 cols 80; exec {line}"), "/dev/null"]);
    let typed = Typed::start(script);
    let mut terminal = String::new();
    host::eventually("crictl's terminal", Duration::from_secs(20), || {
        let ours = scene::processes(&[&words[1..].join(" ")]);
        let links = ours.iter().map(|pid| std::fs::read_link(format!("/proc/{pid}/fd/0")));
        let mut links = links.flatten().map(|link| link.display().to_string());
        terminal = links.find(|link| link.starts_with("/dev/pts/")).unwrap_or_default();
        !terminal.is_empty()
    });
    (typed, terminal)
}

/// Pulls at the window, and waits until who is at the other end is told so when asking with this
/// line. One side at a time: crictl may overlook the second of two changes that come together.
fn resized(typed: &mut Typed, terminal: &str, line: &str) {
    for (side, size, told) in
        [("", "", "24 80"), ("rows", "33", "33 80"), ("cols", "77", "33 77"), ("rows", "9", "9 77")]
    {
        if !side.is_empty() {
            host::run("stty", &["-F", terminal, side, size]);
        }
        for _ in 0..100 {
            typed.say(line);
            std::thread::sleep(Duration::from_millis(100));
            if typed.heard().contains(told) {
                break;
            }
        }
        assert!(typed.heard().contains(told), "{told} is not in {:?}", typed.heard());
    }
}

#[test]
fn a_terminal_has_the_size_of_the_client_s_whenever_that_changes() {
    if !host::can(&["crictl", "script", "stty"]) {
        return;
    }
    scene::story(&[], |daemon, mut client| async move {
        let (pod_id, id) = running(&mut client, "sleep 600").await;
        for transport in TRANSPORTS {
            let arguments = ["exec", "-r", transport, "-it", &id, "/bin/sh"];
            let (mut shell, terminal) = on_a_terminal(&daemon, &arguments);
            resized(&mut shell, &terminal, "/bin/busybox stty size\n");
            shell.say("exit 5\n");
            let (status, heard) = shell.end();
            assert!(!status.success() && heard.contains("exit code 5"), "{transport}: {heard}");
        }
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

#[test]
fn crictl_attaches_over_both_transports_with_and_without_a_terminal() {
    if !host::can(&["crictl", "script", "stty"]) {
        return;
    }
    scene::story(&[], |daemon, mut client| async move {
        let pod = client.pod("shop");
        let pod_id = client.run_pod(&pod).await.unwrap();
        let text = "while read line; do echo got $line at $(/bin/busybox stty size); done";
        let mut plain = script(&client, "plain", text);
        plain.stdin = true;
        let mut tty = script(&client, "tty", text);
        (tty.stdin, tty.tty) = (true, true);
        let plain = client.run(&pod_id, &pod, &plain).await.unwrap();
        let tty = client.run(&pod_id, &pod, &tty).await.unwrap();
        for transport in TRANSPORTS {
            let command = crictl(&daemon, &["attach", "-r", transport, "-i", &plain]);
            let mut attached = Typed::start(command);
            attached.say(&format!("{transport}\n"));
            attached.until(&format!("got {transport} at"));
            let (status, heard) = attached.end();
            assert!(status.success(), "{transport}: {heard}");

            let arguments = ["attach", "-r", transport, "-it", &tty];
            let (mut attached, terminal) = on_a_terminal(&daemon, &arguments);
            resized(&mut attached, &terminal, "word\n");
            // The two keys that leave a container to itself.
            attached.say("\u{10}\u{11}");
            let (status, heard) = attached.end();
            assert!(status.success(), "{transport}: {heard}");
        }
        for id in [&plain, &tty] {
            let status = client.status(id).await.unwrap();
            assert_eq!(status.state(), api::ContainerState::ContainerRunning);
        }
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

pub(crate) fn wanted(id: &str, text: &str) -> api::ExecRequest {
    api::ExecRequest {
        container_id: id.to_owned(),
        cmd: ["/bin/sh", "-c", text].map(str::to_owned).to_vec(),
        stdin: true,
        stdout: true,
        ..Default::default()
    }
}

/// Says this to the server and gives the first line of its answer, and the connection. A server that
/// does not want it may have closed before all was said; then there is no answer.
pub(crate) fn ask(url: &str, method: &str, more: &str) -> (String, TcpStream) {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    let request = format!("{method} /{path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n");
    let _ = stream.write_all(request.as_bytes());
    let (mut line, mut byte) = (Vec::new(), [0]);
    while !line.ends_with(b"\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        line.push(byte[0]);
    }
    (String::from_utf8_lossy(&line).into_owned(), stream)
}

/// A client of the oldest channels, whose command begins at once.
pub(crate) const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Leaves the rest of the headers behind, up to what is said after them.
pub(crate) fn skip_headers(stream: &mut TcpStream) {
    let (mut headers, mut byte) = (Vec::new(), [0]);
    while !headers.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
        headers.push(byte[0]);
    }
}

/// The next message that the server sends over WebSocket: a channel's number, and bytes.
pub(crate) fn message(stream: &mut TcpStream) -> Vec<u8> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).unwrap();
    let mut length = usize::from(head[1]);
    if length == 126 {
        let mut long = [0; 2];
        stream.read_exact(&mut long).unwrap();
        length = u16::from_be_bytes(long).into();
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// Sends a short message over WebSocket, with a mask that changes nothing.
pub(crate) fn say(stream: &mut TcpStream, bytes: &[u8]) {
    let length = u8::try_from(bytes.len()).unwrap() | 0x80;
    stream.write_all(&[&[0x82, length, 0, 0, 0, 0], bytes].concat()).unwrap();
}

/// What the daemon holds now: descriptors, threads, and processes it started.
fn held(daemon: &Daemon) -> [usize; 3] {
    let count = |name: &str| {
        let directory = format!("/proc/{}/{name}", daemon.pid().unwrap());
        std::fs::read_dir(directory).unwrap().count()
    };
    [count("fd"), count("task"), scene::processes(&["sleep 4321"]).len()]
}

/// Waits until the daemon holds no more than before of anything. Its spare threads stay for a while.
async fn nothing_more_is_held(daemon: &Daemon, before: [usize; 3]) {
    let mut now = before;
    for _ in 0..2000 {
        now = held(daemon);
        if now.iter().zip(before).all(|(now, before)| *now <= before) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("descriptors, threads, processes were {before:?} and are {now:?}");
}

#[test]
fn urls_are_good_once() {
    scene::story(&[], |daemon, mut client| async move {
        let (pod_id, id) = running(&mut client, "sleep 600").await;
        refused(client.runtime.exec(wanted(&"0".repeat(64), "true")).await, Code::NotFound);
        let attach =
            api::AttachRequest { container_id: id.clone(), stdout: true, ..Default::default() };
        let ports = api::PortForwardRequest { pod_sandbox_id: pod_id.clone(), port: vec![80] };
        let urls = [
            client.runtime.exec(wanted(&id, "sleep 4321; true")).await.unwrap().into_inner().url,
            client.runtime.attach(attach.clone()).await.unwrap().into_inner().url,
            client.runtime.port_forward(ports).await.unwrap().into_inner().url,
        ];
        for url in urls {
            for (method, url, headers, status) in [
                ("GET", format!("{url}x"), UPGRADE, " 404 "),
                ("PUT", url.clone(), UPGRADE, " 405 "),
                ("GET", url.clone(), UPGRADE, " 101 "),
                ("GET", url.clone(), UPGRADE, " 404 "),
                ("POST", url.clone(), "", " 404 "),
            ] {
                let (line, _) = ask(&url, method, headers);
                assert!(line.contains(status), "{method} {url}: {line}");
            }
        }
        // Whoever comes with nonsense has used it too, and so has who takes it for something else.
        let url = client.runtime.attach(attach.clone()).await.unwrap().into_inner().url;
        for status in [" 400 ", " 404 "] {
            let (line, _) = ask(&url, "POST", "");
            assert!(line.contains(status), "{line}");
        }
        let url = client.runtime.attach(attach).await.unwrap().into_inner().url;
        for url in [url.replace("/attach/", "/exec/"), url] {
            let (line, _) = ask(&url, "GET", UPGRADE);
            assert!(line.contains(" 404 "), "{line}");
        }
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

/// A client of the newest protocol of SPDY, which then opens no stream.
const SPDY: &str = "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
                    X-Stream-Protocol-Version: v4.channel.k8s.io\r\n\
                    X-Stream-Protocol-Version: portforward.k8s.io\r\n";

#[test]
fn two_hundred_clients_that_go_away_leave_nothing() {
    scene::story(&[], |daemon, mut client| async move {
        let serve = "/bin/busybox httpd -p 8080 -h /data; exec sleep 600";
        let (pod_id, id) = running(&mut client, serve).await;
        let terminal = |tty: bool| api::ExecRequest { tty, ..wanted(&id, "sleep 4321; true") };
        let attach = api::AttachRequest {
            container_id: id.clone(),
            stdout: true,
            stderr: true,
            ..Default::default()
        };
        let ports = api::PortForwardRequest { pod_sandbox_id: pod_id.clone(), port: vec![8080] };
        let before = held(&daemon);
        for _ in 0..20 {
            let mut clients = Vec::new();
            for (number, upgrade) in [UPGRADE, SPDY].into_iter().cycle().take(10).enumerate() {
                let url = match number / 2 {
                    0 | 1 => client.runtime.exec(terminal(false)).await.unwrap().into_inner().url,
                    2 => client.runtime.exec(terminal(true)).await.unwrap().into_inner().url,
                    3 => client.runtime.attach(attach.clone()).await.unwrap().into_inner().url,
                    _ => client.runtime.port_forward(ports.clone()).await.unwrap().into_inner().url,
                };
                let (line, stream) = ask(&url, "GET", upgrade);
                assert!(line.contains(" 101 "), "{url}: {line}");
                clients.push(stream);
            }
            scene::until("a command runs", || held(&daemon)[2] > 0).await;
            drop(clients);
        }
        nothing_more_is_held(&daemon, before).await;
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

#[test]
fn a_client_that_stands_still_is_cut_off_and_its_command_with_it() {
    let idle = |daemon: &mut Daemon| daemon.config("[crio.api]\nstream_idle_timeout = \"2s\"\n");
    scene::prepared(&[], idle, |daemon, mut client| async move {
        let (pod_id, id) = running(&mut client, "sleep 600").await;
        let before = held(&daemon);
        let begun = Instant::now();
        let request = wanted(&id, "sleep 4321; true");
        let url = client.runtime.exec(request).await.unwrap().into_inner().url;
        let (line, mut stream) = ask(&url, "GET", UPGRADE);
        assert!(line.contains(" 101 "), "{line}");
        scene::until("the command runs", || held(&daemon)[2] > 0).await;
        // As long as something is said it goes on.
        for _ in 0..8 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            say(&mut stream, b"\x00x");
        }
        assert!(held(&daemon)[2] > 0 && begun.elapsed() > Duration::from_secs(3));
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        let rest = String::from_utf8_lossy(&rest).into_owned();
        assert!(rest.contains("nothing was said for too long"), "{rest:?}");
        drop(stream);
        nothing_more_is_held(&daemon, before).await;
        client.remove_pod(&pod_id).await.unwrap();
        daemon
    });
}

#[test]
fn clients_that_say_nothing_or_open_no_streams_are_not_waited_for_long() {
    scene::story(&[], |daemon, mut client| async move {
        let (pod_id, id) = running(&mut client, "sleep 600").await;
        let before = held(&daemon);
        let begun = Instant::now();
        let url = client.runtime.exec(wanted(&id, "true")).await.unwrap().into_inner().url;
        let (line, mut opener) = ask(&url, "POST", SPDY);
        assert!(line.contains(" 101 "), "{line}");
        let host = url.strip_prefix("http://").unwrap().split('/').next().unwrap();
        let mut silent = TcpStream::connect(host).unwrap();
        let mut slow = TcpStream::connect(host).unwrap();
        slow.write_all(b"GET /exec/x HTTP/1.1\r\nHost: ").unwrap();
        let mut said = Vec::new();
        for stream in [&mut silent, &mut slow, &mut opener] {
            stream.set_read_timeout(Some(Duration::from_secs(45))).unwrap();
            stream.read_to_end(&mut said).unwrap();
        }
        let waited = begun.elapsed();
        assert!((29..45).contains(&waited.as_secs()), "{waited:?}");
        assert!(daemon.log().contains("did not open its streams in time"));
        drop((silent, slow, opener));
        nothing_more_is_held(&daemon, before).await;
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
        scene::until("the command runs", || held(&daemon)[2] > 0).await;
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
