//! A registry that takes pushes: the reference implementation, `docker-registry`, on a port of
//! 127.0.0.1 and with its files in a directory of its own. It ends when it is dropped.
//!
//! Of release 2, as distributions have it: without the referrers API, so that clients keep
//! referrers at a tag.

use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::process::Child;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;

use super::host;

/// Free, because each story has a network of its own.
const ADDRESS: &str = "127.0.0.1:5000";

/// The registry that runs.
#[derive(Debug)]
pub(crate) struct Distribution {
    directory: TempDir,
    process: Child,
}

impl Distribution {
    /// Starts it, and waits until it answers.
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path().display();
        let config = format!(
            "version: 0.1\nlog: {{level: warn}}\n\
             storage: {{filesystem: {{rootdirectory: {root}/files}}}}\nhttp: {{addr: {ADDRESS}}}\n"
        );
        let path = directory.path().join("config.yml");
        let mut file = std::fs::File::create(&path).expect("a file");
        file.write_all(config.as_bytes()).expect("to write");
        let log = std::fs::File::create(directory.path().join("log")).expect("a file");
        let mut command = host::command("docker-registry");
        command.arg("serve").arg(&path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let process = command.spawn().expect("docker-registry");
        let registry = Self { directory, process };
        host::eventually("docker-registry answers", Duration::from_secs(30), || {
            TcpStream::connect(ADDRESS).is_ok()
        });
        registry
    }

    /// Where it is, as in a reference.
    pub(crate) fn host(&self) -> &'static str {
        ADDRESS
    }

    /// Pushes what is in a directory, as skopeo has images in one.
    pub(crate) fn push(&self, directory: &Path, name: &str) {
        let from = format!("dir:{}", directory.display());
        let to = format!("docker://{ADDRESS}/{name}");
        let flags = ["--insecure-policy", "copy", "-q", "--preserve-digests"];
        host::run("skopeo", &[&flags[..], &["--dest-tls-verify=false", &from, &to]].concat());
    }

    /// Puts a manifest under a tag or its digest.
    pub(crate) fn put_manifest(&self, repository: &str, tag: &str, kind: &str, manifest: &str) {
        let url = format!("http://{ADDRESS}/v2/{repository}/manifests/{tag}");
        let kind = format!("Content-Type: {kind}");
        let put =
            ["-sS", "--fail-with-body", "-X", "PUT", "-H", &kind, "--data-binary", manifest, &url];
        host::run("curl", &put);
    }
}

impl Drop for Distribution {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
