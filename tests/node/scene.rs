//! What stories of pods begin with: a daemon whose store has one small image, and a client of it.

use std::time::Duration;

use crioxide::cri::api;
use serde_json::json;
use tonic::Status;

use crate::images;
use crate::images::Image;
use crate::images::Layer;
use crate::images::Tar;
use crate::support::client::Client;
use crate::support::daemon::Daemon;
use crate::support::host;
use crate::support::net;

/// The image that every scene has: busybox under its own names.
pub(crate) const IMAGE: &str = "example.test/busybox:1";

const APPLETS: [&str; 24] = [
    "awk", "cut", "dd", "df", "env", "find", "grep", "head", "hostname", "kill", "mkdir", "mknod",
    "mount", "ps", "pwd", "readlink", "rm", "sed", "seq", "tail", "touch", "tr", "wc", "wget",
];

/// Tells a story of a daemon that runs, if this host can. Errors that the daemon logs fail it,
/// unless they have one of the words that the story allows.
pub(crate) fn story<F>(allowed: &[&str], story: impl FnOnce(Daemon, Client) -> F + Send)
where
    F: Future<Output = Daemon>,
{
    prepared(allowed, |_| (), story);
}

/// Tells a story of a daemon that is prepared before it starts.
pub(crate) fn prepared<F>(
    allowed: &[&str],
    prepare: impl FnOnce(&mut Daemon) + Send,
    story: impl FnOnce(Daemon, Client) -> F + Send,
) where
    F: Future<Output = Daemon>,
{
    if !host::can(&["root", "cni", "runc", "conmon", "ip", "skopeo"]) {
        return;
    }
    net::in_own_network(|| async {
        let mut daemon = Daemon::new();
        prepare(&mut daemon);
        bring(&daemon, IMAGE, &busybox(json!({"Env": ["PATH=/bin", "FROM=image"]})));
        daemon.start().await;
        let client = daemon.client().await;
        let daemon = story(daemon, client).await;
        let log = daemon.log();
        let unexpected: Vec<_> = log
            .lines()
            .filter(|line| line.contains(" level=error "))
            .filter(|line| !allowed.iter().any(|words| line.contains(words)))
            .collect();
        daemon.finish().await;
        assert!(unexpected.is_empty(), "errors were logged:\n{}", unexpected.join("\n"));
    });
}

/// An image with busybox and this `config`.
pub(crate) fn busybox(config: serde_json::Value) -> Image {
    let links = APPLETS.iter().fold(Tar::new().dir("data/", 0o755), |tar, name| {
        tar.link(&format!("bin/{name}"), "busybox")
    });
    let layers = vec![Layer::plain(images::busybox()), Layer::plain(links.finish())];
    Image::with_config(layers, &config)
}

/// Puts an image into the daemon's store, as an administrator does.
pub(crate) fn bring(daemon: &Daemon, name: &str, image: &Image) {
    let directory = daemon.path("image");
    let _ = std::fs::remove_dir_all(&directory);
    image.write_dir(&directory);
    let (root, run) = (daemon.path("storage"), daemon.path("storage-run"));
    let to = format!("containers-storage:[overlay@{}+{}]{name}", root.display(), run.display());
    let from = format!("dir:{}", directory.display());
    host::run("skopeo", &["--insecure-policy", "copy", "-q", &from, &to]);
}

/// A container of the scene's image that runs a script.
pub(crate) fn script(client: &Client, name: &str, text: &str) -> api::ContainerConfig {
    client.container(name, IMAGE, &["/bin/sh", "-c", text])
}

/// Runs a script in a container, which must end well, and gives what it says without the last
/// line's end.
#[track_caller]
pub(crate) fn said(
    client: &mut Client,
    id: &str,
    text: &str,
) -> impl Future<Output = String> + use<> {
    let place = std::panic::Location::caller();
    let (mut client, id, text) = (client.clone(), id.to_owned(), text.to_owned());
    async move {
        let ran = client.exec(&id, &["/bin/sh", "-c", &text]).await;
        let ran = ran.unwrap_or_else(|status| panic!("{place}: {text}: {status}"));
        assert_eq!(ran.code, 0, "{place}: {text}: {} {}", ran.stdout, ran.stderr);
        ran.stdout.trim_end().to_owned()
    }
}

/// Waits until a file has the words, or a log has them.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("not within 20 seconds: {what}");
}

/// Everything of pods and containers that is there now: see [`Daemon::leftovers`]; and what the
/// store has of containers, and the records.
pub(crate) fn kept(daemon: &Daemon) -> Vec<String> {
    let mut kept = daemon.leftovers();
    let places = [
        "storage/overlay-containers",
        "storage/crioxide/sandboxes",
        "storage-run/crioxide/sandboxes",
    ];
    for name in places {
        let entries = std::fs::read_dir(daemon.path(name)).into_iter().flatten().flatten();
        let directories = entries.filter(|entry| entry.path().is_dir());
        kept.extend(directories.map(|entry| format!("stored {}", entry.path().display())));
    }
    kept
}

/// Says that nothing is there but what was there before; processes that were killed may still be
/// on their way out.
pub(crate) async fn unchanged(daemon: &Daemon, before: &[String], what: &str) {
    let mut more = Vec::new();
    for _ in 0..100 {
        more = kept(daemon);
        more.retain(|line| !before.contains(line));
        if more.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{what}: {more:#?}");
}

/// The text of a refusal, which must be of this kind.
#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: tonic::Code) -> String {
    let status = answer.expect_err("a refusal");
    assert_eq!(status.code(), code, "{}", status.message());
    status.message().to_owned()
}

/// The processes of the node that have these words in their command line.
pub(crate) fn processes(words: &[&str]) -> Vec<i32> {
    let numbers = std::fs::read_dir("/proc").unwrap().flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    numbers
        .filter(|pid| {
            let text = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).replace('\0', " ");
            !text.is_empty() && words.iter().all(|word| text.contains(word))
        })
        .collect()
}

/// Kills a process of this story's own pods.
pub(crate) fn kill(pid: i32) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)
        .unwrap();
}

/// What the runtime knows of a container: its first process on the node.
pub(crate) async fn pid_of(client: &mut Client, id: &str) -> i32 {
    let request = api::ContainerStatusRequest { container_id: id.to_owned(), verbose: true };
    let answer = client.runtime.container_status(request).await.unwrap().into_inner();
    let info: serde_json::Value = serde_json::from_str(&answer.info["info"]).unwrap();
    i32::try_from(info["pid"].as_i64().unwrap()).unwrap()
}
