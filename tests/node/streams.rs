//! Commands and containers that a client talks to: what comes through, in which order, and what is
//! left when either side goes.

use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use crioxide::model::ids::ContainerId;
use crioxide::model::streams::ProcessStreams;
use crioxide::model::streams::TerminalSize;
use crioxide::runtime::Attach;
use crioxide::runtime::Create;
use crioxide::runtime::Created;
use crioxide::runtime::RuntimeError;
use crioxide::runtime::Stdin;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;

use crate::runtime::Node;
use crate::runtime::wait;
use crate::scene::processes;

/// A script that tells the size of its terminal after each line it is told. It takes no signal:
/// that would end a `read` of busybox.
const TELLS_SIZE: &str = "while read line; do echo got $line at $(stty size); done";

/// The client's side of all streams.
struct Talk {
    stdin: DuplexStream,
    stdout: DuplexStream,
    stderr: DuplexStream,
    sizes: mpsc::Sender<TerminalSize>,
}

impl Talk {
    /// Says something.
    async fn say(&mut self, text: &str) {
        self.stdin.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads the output until it ends with this.
    async fn hear(&mut self, end: &str) -> String {
        let mut heard = Vec::new();
        let reading = async {
            while !heard.ends_with(end.as_bytes()) {
                heard.push(self.stdout.read_u8().await.unwrap());
            }
        };
        let done = tokio::time::timeout(Duration::from_secs(10), reading).await;
        let heard = String::from_utf8(heard).unwrap();
        assert!(done.is_ok(), "{end:?} is not in {heard:?}");
        heard
    }

    /// Asks for the size of the terminal until it is this one: it comes by another way.
    async fn until_told(&mut self, size: &str) {
        let asking = async {
            loop {
                self.say("size\n").await;
                self.hear("got size at ").await;
                if self.hear("\r\n").await.trim_end() == size {
                    return;
                }
            }
        };
        let told = tokio::time::timeout(Duration::from_secs(10), asking).await;
        assert!(told.is_ok(), "the size is not {size}");
    }

    async fn size(&self, width: u16, height: u16) {
        self.sizes.send(TerminalSize { width, height }).await.unwrap();
    }
}

/// All streams; with a terminal there is no third.
fn talk(tty: bool) -> (ProcessStreams, Talk) {
    let (stdin, its_stdin) = tokio::io::duplex(1024);
    let (stdout, its_stdout) = tokio::io::duplex(1024);
    let (stderr, its_stderr) = tokio::io::duplex(1024);
    let (sizes, its_sizes) = mpsc::channel(4);
    let streams = ProcessStreams {
        stdin: Some(Box::new(its_stdin)),
        stdout: Some(Box::new(its_stdout)),
        stderr: (!tty).then(|| Box::new(its_stderr) as _),
        sizes: Some(its_sizes),
    };
    (streams, Talk { stdin, stdout, stderr, sizes })
}

async fn all(stream: &mut DuplexStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

/// Starts a command for a client.
async fn exec(
    node: &Node,
    id: &ContainerId,
    tty: bool,
    arguments: &[&str],
) -> (Talk, tokio::task::JoinHandle<Result<i32, RuntimeError>>) {
    let mut command = node.command(id, arguments).await;
    command.process.set_terminal(Some(tty));
    let (streams, talk) = talk(tty);
    let runtime = node.runtime.clone();
    (talk, tokio::spawn(async move { runtime.exec(command, streams).await }))
}

async fn end(node: &Node, request: &Create) {
    node.end(request).await;
    node.assert_gone(request).await;
}

/// The terminals that this process holds the other end of.
fn terminals() -> usize {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let targets = descriptors.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    targets.filter(|target| target.ends_with("ptmx")).count()
}

#[tokio::test]
async fn a_command_and_its_client_talk_to_the_end() {
    let Some(node) = Node::new() else { return };
    let (request, _) = node.run(&["sleep", "1000"]).await;
    let id = &request.id;
    let script = "echo begun; cat; echo fault >&2; exit 3";
    let (mut talk, command) = exec(&node, id, false, &["sh", "-c", script]).await;
    talk.hear("begun\n").await;
    talk.say("one\n").await;
    talk.hear("one\n").await;
    talk.say("two").await;
    talk.stdin.shutdown().await.unwrap();
    assert_eq!(all(&mut talk.stdout).await, "two");
    assert_eq!(all(&mut talk.stderr).await, "fault\n");
    assert_eq!(command.await.unwrap().unwrap(), 3);

    // One that does not read what it is told, and one whose client opened nothing.
    let (mut deaf, command) = exec(&node, id, false, &["sh", "-c", "exec <&-; kill -9 $$"]).await;
    assert_eq!(command.await.unwrap().unwrap(), 137);
    assert_eq!(all(&mut deaf.stdout).await, "");
    let script = "cat; yes | head -c 1000000; yes | head -c 1000000 >&2; exit 8";
    let silent = node.command(id, &["sh", "-c", script]).await;
    assert_eq!(node.runtime.exec(silent, ProcessStreams::default()).await.unwrap(), 8);

    let missing = node.command(id, &["no-such-program"]).await;
    let missing = node.runtime.exec(missing, self::talk(false).0).await.unwrap_err();
    assert!(matches!(missing, RuntimeError::Refused { .. }), "{missing}");
    assert!(missing.to_string().contains("no-such-program"), "{missing}");
    node.wait_for_calm(id).await;
    end(&node, &request).await;
}

/// How many bytes the one of a container's processes has written that has written most.
fn most_written(node: &Node, id: &ContainerId) -> u64 {
    let written = |line: String| {
        let pid = line.split(' ').next()?;
        let counts = std::fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
        counts.lines().find_map(|line| line.strip_prefix("wchar: "))?.parse().ok()
    };
    node.processes(id).into_iter().filter_map(written).max().unwrap_or_default()
}

#[tokio::test]
async fn a_slow_client_holds_a_command_up_and_misses_nothing() {
    let Some(node) = Node::new() else { return };
    let (request, _) = node.run(&["sleep", "1000"]).await;
    let script = "yes | head -c 5000000; echo last; echo done > /tmp/done";
    let (mut talk, command) = exec(&node, &request.id, false, &["sh", "-c", script]).await;
    talk.hear("y\n").await;
    let mut written = vec![0; 30];
    wait("a standstill", || {
        written.rotate_left(1);
        *written.last_mut().unwrap() = most_written(&node, &request.id);
        written[0] > 0 && written[0] == written[29]
    })
    .await;
    // What is under way is in two pipes and a buffer or two, whatever there is to come.
    assert!(written[0] < 256 * 1024, "{}", written[0]);
    assert!(!command.is_finished());
    let rest = all(&mut talk.stdout).await;
    assert_eq!(rest.len(), 5_000_000 - 2 + 5);
    assert!(rest.ends_with("y\nlast\n"));
    assert_eq!(command.await.unwrap().unwrap(), 0);
    end(&node, &request).await;
}

#[tokio::test]
async fn a_process_left_in_the_background_holds_nobody_up() {
    let Some(node) = Node::new() else { return };
    let (request, _) = node.run(&["sleep", "1000"]).await;
    let id = &request.id;
    for (tty, script) in [
        (false, "echo begun; sleep 1000 & exit 4"),
        (false, "echo begun; yes >&2 & exit 4"),
        (true, "trap '' HUP; echo begun; sleep 1000 & exit 4"),
    ] {
        let begun = Instant::now();
        let (mut talk, command) = exec(&node, id, tty, &["sh", "-c", script]).await;
        let mut noise = talk.stderr;
        let drain = tokio::spawn(async move { all(&mut noise).await });
        assert_eq!(all(&mut talk.stdout).await.trim_end(), "begun");
        assert_eq!(command.await.unwrap().unwrap(), 4, "{script}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{script}");
        drop(drain);
    }
    end(&node, &request).await;
}

#[tokio::test]
async fn a_terminal_has_its_clients_size_and_all_three_streams() {
    let Some(node) = Node::new() else { return };
    let (request, _) = node.run(&["sleep", "1000"]).await;
    let script = format!("echo $(stty size); echo ready >&2; {TELLS_SIZE}; exit 6");
    let mut command = node.command(&request.id, &["sh", "-c", &script]).await;
    command.process.set_terminal(Some(true));
    let (streams, mut talk) = talk(true);
    talk.size(97, 31).await;
    let runtime = node.runtime.clone();
    let command = tokio::spawn(async move { runtime.exec(command, streams).await });
    assert_eq!(talk.hear("ready\r\n").await, "31 97\r\nready\r\n");
    talk.say("word\n").await;
    let heard = talk.hear("got word at 31 97\r\n").await;
    assert!(heard.starts_with("word\r\n"), "no echo in {heard:?}");
    talk.size(120, 40).await;
    talk.until_told("40 120").await;
    // Control and D is the end of what is typed.
    talk.say("\u{4}").await;
    assert_eq!(command.await.unwrap().unwrap(), 6);
    let missing = exec(&node, &request.id, true, &["no-such-program"]).await.1;
    let missing = missing.await.unwrap().unwrap_err();
    assert!(missing.to_string().contains("no-such-program"), "{missing}");
    end(&node, &request).await;
}

#[tokio::test]
async fn a_client_that_goes_takes_its_command_with_it() {
    let Some(node) = Node::new() else { return };
    let (request, _) = node.run(&["sleep", "1000"]).await;
    let id = &request.id;
    let script = "trap '' TERM HUP; setsid sleep 1000 & echo up; while :; do sleep 1; done";
    for tty in [false, true] {
        for patience in [1, 10, 30] {
            let mut command = node.command(id, &["sh", "-c", script]).await;
            command.process.set_terminal(Some(tty));
            let running = node.runtime.exec(command, talk(tty).0);
            let gone = tokio::time::timeout(Duration::from_millis(patience), running).await;
            assert!(gone.is_err());
        }
        let (mut talk, command) = exec(&node, id, tty, &["sh", "-c", script]).await;
        talk.hear("up").await;
        assert!(node.processes(id).len() > 2);
        command.abort();
        assert!(command.await.unwrap_err().is_cancelled());
        node.wait_for_calm(id).await;
    }
    wait("all terminals' end", || terminals() == 0).await;
    end(&node, &request).await;
}

/// A container whose first process is not the first of its process namespace, as in a pod that
/// shares one: there the kernel ends nothing with it.
async fn shared(node: &Node) -> (Create, Created) {
    let request = node.request_with(&["sleep", "1000"], |_, config| {
        config["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "network"}]);
    });
    node.start(request).await
}

#[tokio::test]
async fn a_command_ends_with_its_container_where_the_kernel_does_not_see_to_it() {
    let Some(node) = Node::new() else { return };
    let script = "trap '' TERM HUP; (sleep 1000 &) ; echo up; while :; do sleep 1; done";
    for tty in [false, true] {
        let (request, _) = shared(&node).await;
        let id = &request.id;
        let (mut talk, command) = exec(&node, id, tty, &["sh", "-c", script]).await;
        talk.hear("up").await;
        let probe = node.command(id, &["sh", "-c", "echo probe; sleep 1000; true"]).await;
        let runtime = node.runtime.clone();
        let probe = tokio::spawn(async move { runtime.exec_sync(probe, None).await });
        wait("the probe", || node.processes(id).iter().any(|line| line.contains("probe"))).await;
        // Before that the runtime, not the command, would end with the container.
        wait("the runtime's end", || processes(&["exec", "--detach", id.as_str()]).is_empty())
            .await;
        node.runtime.kill("runc", id, "SIGKILL", false).await.unwrap();
        assert_eq!(command.await.unwrap().unwrap(), 137);
        let probe = probe.await.unwrap().unwrap();
        assert_eq!((probe.exit_code, probe.stdout.as_slice()), (137, b"probe\n".as_slice()));
        wait("its processes' end", || node.processes(id).is_empty()).await;
        let late = node.runtime.exec(node.command(id, &["true"]).await, self::talk(tty).0).await;
        assert!(matches!(late, Err(RuntimeError::NotRunning { .. })), "{late:?}");
        end(&node, &request).await;
    }
}

/// A container that a client may talk to.
async fn talkative(node: &Node, script: &str, stdin: Stdin) -> (Create, Created) {
    let request = node.request_with(&["sh", "-c", script], |request, config| {
        request.tty = matches!(stdin, Stdin::Terminal { .. });
        request.stdin = stdin != Stdin::None;
        request.stdin_once = stdin == Stdin::Once;
        config["process"]["terminal"] = json!(request.tty);
    });
    node.start(request).await
}

fn attach(
    node: &Node,
    container: &(Create, Created),
    stdin: Stdin,
) -> (Talk, tokio::task::JoinHandle<Result<(), RuntimeError>>) {
    let (streams, talk) = talk(matches!(stdin, Stdin::Terminal { .. }));
    let request = Attach {
        id: container.0.id.clone(),
        first_process: container.1.pid,
        bundle: container.0.bundle.clone(),
        stdin,
    };
    let runtime = node.runtime.clone();
    (talk, tokio::spawn(async move { runtime.attach(request, streams).await }))
}

#[tokio::test]
async fn the_first_client_of_a_container_ends_its_input() {
    let Some(node) = Node::new() else { return };
    let script = "while read line; do echo got $line; done; echo bye; echo fault >&2; exit 5";
    let container = talkative(&node, script, Stdin::Once).await;
    let (mut first, attached) = attach(&node, &container, Stdin::Once);
    first.say("one\n").await;
    first.hear("got one\n").await;
    // A second one hears the same.
    let (mut second, also_attached) = attach(&node, &container, Stdin::None);
    first.say("two\n").await;
    first.hear("got two\n").await;
    second.hear("got two\n").await;
    first.stdin.shutdown().await.unwrap();
    assert_eq!(all(&mut first.stdout).await, "bye\n");
    assert_eq!(all(&mut first.stderr).await, "fault\n");
    attached.await.unwrap().unwrap();
    also_attached.await.unwrap().unwrap();
    wait("the exit file", || node.exit_code(&container.0) == Some(5)).await;
    let (_talk, late) = attach(&node, &container, Stdin::Once);
    let late = late.await.unwrap();
    assert!(matches!(late, Err(RuntimeError::NotRunning { .. })), "{late:?}");
    end(&node, &container.0).await;
}

#[tokio::test]
async fn an_input_that_is_kept_open_outlives_its_clients() {
    let Some(node) = Node::new() else { return };
    let script = "while read line; do echo got $line; done; echo bye";
    let container = talkative(&node, script, Stdin::KeptOpen).await;
    for word in ["one", "two"] {
        let (mut talk, attached) = attach(&node, &container, Stdin::KeptOpen);
        talk.say(&format!("{word}\n")).await;
        talk.hear(&format!("got {word}\n")).await;
        talk.stdin.shutdown().await.unwrap();
        attached.await.unwrap().unwrap();
    }
    // One that is cut off leaves it as it is.
    let (mut talk, attached) = attach(&node, &container, Stdin::KeptOpen);
    talk.say("three\n").await;
    talk.hear("got three\n").await;
    attached.abort();
    assert!(attached.await.unwrap_err().is_cancelled());
    assert_eq!(node.exit_code(&container.0), None);
    end(&node, &container.0).await;
}

#[tokio::test]
async fn a_terminal_is_left_by_two_keys_and_found_again() {
    let Some(node) = Node::new() else { return };
    let script = format!("{TELLS_SIZE}; exit 7");
    let container = talkative(&node, &script, Stdin::Terminal { once: false }).await;
    let (mut talk, attached) = attach(&node, &container, Stdin::Terminal { once: false });
    talk.size(101, 37).await;
    talk.until_told("37 101").await;
    talk.say("\u{10}").await;
    talk.say("\u{11}").await;
    attached.await.unwrap().unwrap();
    // A client that looks for the keys itself ends its input then.
    let (mut talk, attached) = attach(&node, &container, Stdin::Terminal { once: false });
    talk.say("one\n").await;
    talk.hear("got one at 37 101\r\n").await;
    talk.stdin.shutdown().await.unwrap();
    attached.await.unwrap().unwrap();
    // The one client that a container waits for stays to the end of it.
    let (mut talk, attached) = attach(&node, &container, Stdin::Terminal { once: true });
    talk.say("two\n").await;
    talk.hear("got two at 37 101\r\n").await;
    talk.say("\u{4}").await;
    talk.stdin.shutdown().await.unwrap();
    attached.await.unwrap().unwrap();
    wait("the exit file", || node.exit_code(&container.0) == Some(7)).await;
    end(&node, &container.0).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_cannot_keep_a_container_from_ending() {
    let Some(node) = Node::new() else { return };
    let script = "read line; yes";
    let container = talkative(&node, script, Stdin::Once).await;
    let (mut talk, attached) = attach(&node, &container, Stdin::Once);
    talk.say("go\n").await;
    talk.hear("y\n").await;
    let begun = Instant::now();
    node.runtime.kill("runc", &container.0.id, "SIGKILL", false).await.unwrap();
    attached.await.unwrap().unwrap();
    wait("the exit file", || node.exit_code(&container.0) == Some(137)).await;
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    end(&node, &container.0).await;
}

#[tokio::test]
async fn a_monitor_that_is_gone_is_named() {
    let Some(node) = Node::new() else { return };
    let container = talkative(&node, "sleep 1000", Stdin::Once).await;
    let mut elsewhere = container.0.clone();
    elsewhere.bundle = Path::new("/no/such/bundle").to_owned();
    let (_talk, gone) = attach(&node, &(elsewhere, container.1), Stdin::Once);
    let gone = gone.await.unwrap();
    assert!(matches!(gone, Err(RuntimeError::MonitorGone { .. })), "{gone:?}");
    end(&node, &container.0).await;
}
