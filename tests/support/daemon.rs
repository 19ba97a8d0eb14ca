//! The daemon under test: the built program, with all its files in one directory, in the story's
//! own network.
//!
//! ```ignore
//! net::in_own_network(|| async {
//!     let mut daemon = Daemon::new();
//!     daemon.config("[crio.runtime]\npids_limit = 100\n");
//!     daemon.start().await;
//!     let mut client = daemon.client().await;
//!     …
//!     daemon.finish().await;
//! });
//! ```
//!
//! `CRIO_BINARY` names another program to tell the stories to, such as the reference.

use std::fs;
use std::os::unix::process::CommandExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::ExitStatus;
use std::process::Output;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use nix::sys::signal::Signal;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;

use super::client::Client;
use super::host;
use super::leftovers;

/// How long a daemon may take to answer, or to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// A daemon and its directory.
#[derive(Debug)]
pub(crate) struct Daemon {
    directory: TempDir,
    process: Option<Child>,
    arguments: Vec<String>,
    without: Vec<&'static str>,
}

impl Daemon {
    /// The directory with a permissive policy, a bridge network and no daemon yet.
    pub(crate) fn new() -> Self {
        // Short, because conmon's sockets must fit into 107 characters with a container's id; not
        // in /tmp, which may be an overlay or in memory.
        let directory = tempfile::Builder::new().prefix("crio.").tempdir_in("/var/tmp");
        let daemon = Self {
            directory: directory.expect("a directory"),
            process: None,
            arguments: Vec::new(),
            without: Vec::new(),
        };
        for name in ["cni", "crio.conf.d", "policies", "registries.conf.d", "hooks", "pods"] {
            fs::create_dir(daemon.path(name)).expect("a directory");
        }
        daemon.registries("");
        daemon.policy(&json!({"default": [{"type": "insecureAcceptAnything"}]}));
        daemon.bridge();
        daemon.write_base_config();
        daemon
    }

    /// The name that everything of this daemon has which lies outside of its directory: the cgroup
    /// that pods are to be put below, and the CNI network.
    pub(crate) fn token(&self) -> String {
        let name = self.directory.path().file_name().and_then(|name| name.to_str());
        name.expect("a name").replace('.', "-")
    }

    /// A file or directory of the daemon.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.path("crio.sock")
    }

    /// Writes a file of the daemon.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        let mut file = fs::File::create(&path).expect("a file");
        std::io::Write::write_all(&mut file, text.as_bytes()).expect("to write");
    }

    /// Says what is allowed to be pulled.
    pub(crate) fn policy(&self, policy: &Value) {
        self.write("policy.json", &policy.to_string());
    }

    /// Says what is allowed in one Kubernetes namespace.
    pub(crate) fn namespace_policy(&self, namespace: &str, policy: &Value) {
        self.write(&format!("policies/{namespace}.json"), &policy.to_string());
    }

    /// Says where images come from, as registries.conf.
    pub(crate) fn registries(&self, toml: &str) {
        self.write("registries.conf", toml);
    }

    /// Adds a drop-in to the configuration; a later one wins.
    pub(crate) fn config(&self, toml: &str) {
        let number = fs::read_dir(self.path("crio.conf.d")).expect("the drop-ins").count();
        self.write(&format!("crio.conf.d/{:02}-story.conf", number + 10), toml);
    }

    /// Adds a flag.
    pub(crate) fn argument(&mut self, argument: &str) {
        self.arguments.push(argument.to_owned());
    }

    /// Leaves one of the usual flags out, because a flag goes before what a file says.
    pub(crate) fn without(&mut self, flag: &'static str) {
        self.without.push(flag);
    }

    /// A bridge that only this story has, with addresses of its own.
    fn bridge(&self) {
        let ipam = json!({
            "type": "host-local", "dataDir": self.path("ipam"),
            "ranges": [[{"subnet": "10.85.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}],
        });
        let list = json!({
            "cniVersion": "1.0.0", "name": self.token(), "plugins": [
                {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true,
                 "hairpinMode": true, "ipam": ipam},
            ],
        });
        self.write("cni/10-bridge.conflist", &list.to_string());
    }

    fn write_base_config(&self) {
        let runc = host::program("runc").unwrap_or_default();
        let conmon = host::program("conmon").unwrap_or_default();
        let text = format!(
            "[crio.runtime]\n\
             default_runtime = \"runc\"\n\
             hooks_dir = [{hooks:?}]\n\
             \n\
             [crio.runtime.runtimes.runc]\n\
             runtime_path = {runc:?}\n\
             runtime_type = \"oci\"\n\
             runtime_root = {root:?}\n\
             monitor_path = {conmon:?}\n\
             \n\
             [crio.audit]\n\
             audit_log = {audit:?}\n\
             audit_journald = false\n",
            hooks = self.path("hooks"),
            root = self.path("runc"),
            audit = self.path("audit.log"),
        );
        self.write("crio.conf", &text);
    }

    fn flags(&self) -> Vec<String> {
        let cni = host::cni_directory().unwrap_or_default();
        let files = [
            ("--listen", "crio.sock"),
            ("--config", "crio.conf"),
            ("--config-dir", "crio.conf.d"),
            ("--root", "storage"),
            ("--runroot", "storage-run"),
            ("--log-dir", "pods"),
            ("--version-file", "version"),
            ("--clean-shutdown-file", "clean.shutdown"),
            ("--namespaces-dir", "ns"),
            ("--container-exits-dir", "exits"),
            ("--container-attach-socket-dir", "attach"),
            ("--cni-config-dir", "cni"),
            ("--signature-policy", "policy.json"),
            ("--signature-policy-dir", "policies"),
            ("--registries-conf", "registries.conf"),
            ("--registries-conf-dir", "registries.conf.d"),
        ];
        let mut flags: Vec<String> = files
            .iter()
            .flat_map(|(flag, name)| [(*flag).to_owned(), self.path(name).display().to_string()])
            .collect();
        for (flag, value) in [
            ("--cni-plugin-dir", cni.to_str().unwrap_or_default()),
            ("--storage-driver", "overlay"),
            ("--cgroup-manager", "cgroupfs"),
            ("--conmon-cgroup", "pod"),
            ("--log-level", "debug"),
        ] {
            flags.extend([flag.to_owned(), value.to_owned()]);
        }
        for flag in &self.without {
            let at = flags.iter().position(|found| found == flag).expect("a usual flag");
            flags.drain(at..at + 2);
        }
        flags.extend(self.arguments.iter().cloned());
        flags
    }

    /// Runs a command of the program with the daemon's configuration, to its end.
    pub(crate) fn crio(&self, arguments: &[&str]) -> Output {
        let mut command = host::command(env!("CARGO_BIN_EXE_crio"));
        command.args(self.flags()).args(arguments).stdin(Stdio::null());
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.path("home"));
        command.output().expect("the program")
    }

    /// The audit records.
    pub(crate) fn audit(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.path("audit.log")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("a record")).collect()
    }

    /// Starts it and waits until it answers.
    pub(crate) async fn start(&mut self) {
        if let Err(status) = self.try_start().await {
            panic!("the daemon did not come up ({status}):\n{}", self.log_end());
        }
    }

    /// Starts it; gives how it ended if it ends instead of answering.
    pub(crate) async fn try_start(&mut self) -> Result<(), ExitStatus> {
        assert!(self.process.is_none(), "the daemon runs already");
        assert!(in_own_network(), "the story is not told within net::in_own_network");
        let log = fs::File::options().append(true).create(true).open(self.path("crio.log"));
        let log = log.expect("the log");
        let binary = std::env::var_os("CRIO_BINARY");
        let binary = binary.unwrap_or_else(|| env!("CARGO_BIN_EXE_crio").into());
        let mut command = host::command(binary);
        command.args(self.flags()).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("the log")).stderr(log);
        // What the developer's shell says is not part of the story.
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.path("home"));
        // A signal for the group of `cargo test` ends the story, and the story ends the daemon.
        command.process_group(0);
        self.process = Some(command.spawn().expect("the daemon"));
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.ended() {
                return Err(status);
            }
            if self.answers().await {
                return Ok(());
            }
            assert!(Instant::now() < end, "the daemon does not answer:\n{}", self.log_end());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn answers(&self) -> bool {
        match Client::connect(&self.socket(), &self.token(), &self.path("pods")).await {
            Ok(mut client) => client.version().await.is_ok(),
            Err(_) => false,
        }
    }

    /// A client of it.
    pub(crate) async fn client(&self) -> Client {
        let client = Client::connect(&self.socket(), &self.token(), &self.path("pods")).await;
        client.expect("a connection")
    }

    /// Its process number.
    pub(crate) fn pid(&self) -> Option<i32> {
        self.process.as_ref().and_then(|process| i32::try_from(process.id()).ok())
    }

    /// Ends it as a service manager does; its containers go on.
    pub(crate) async fn stop(&mut self) {
        self.signal(Signal::SIGTERM);
        let status = self.wait().await;
        assert!(status.success(), "the daemon ended with {status}:\n{}", self.log_end());
    }

    /// Ends it as a crash does; its containers go on.
    pub(crate) async fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        assert_eq!(self.wait().await.signal(), Some(9));
    }

    /// Ends it, with or without its consent, and starts it again.
    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.start().await;
    }

    /// Has it read its configuration again, and gives what it logged of that.
    pub(crate) async fn reload(&self) -> String {
        let before = self.log().len();
        self.signal(Signal::SIGHUP);
        let end = Instant::now() + PATIENCE;
        loop {
            let said = self.log().split_off(before);
            let last = ["configuration reloaded", "configuration was not reloaded"];
            if said.ends_with('\n') && last.iter().any(|words| said.contains(words)) {
                return said;
            }
            assert!(Instant::now() < end, "no reload:\n{}", self.log_end());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = nix::unistd::Pid::from_raw(self.pid().expect("a daemon"));
        nix::sys::signal::kill(pid, signal).expect("to signal the daemon");
    }

    async fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(Instant::now() < end, "the daemon does not end:\n{}", self.log_end());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.process.as_mut()?.try_wait().expect("the daemon's end")?;
        self.process = None;
        Some(status)
    }

    /// What it logged so far, over all its starts.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("crio.log")).unwrap_or_default()
    }

    fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// The name of an image in its store, for skopeo and buildah.
    pub(crate) fn in_store(&self, name: &str) -> String {
        let (root, run) = (self.path("storage"), self.path("storage-run"));
        format!("containers-storage:[overlay@{}+{}]{name}", root.display(), run.display())
    }

    /// Has skopeo put an image, which lies in a directory of the daemon, into its store.
    pub(crate) fn skopeo_copy(&self, directory: &str, name: &str) {
        let from = format!("dir:{}", self.path(directory).display());
        host::run("skopeo", &["--insecure-policy", "copy", "-q", &from, &self.in_store(name)]);
    }

    /// Has podman do something with its store, and gives what it says.
    pub(crate) fn podman(&self, arguments: &[&str]) -> String {
        let (root, run) = (self.path("storage"), self.path("storage-run"));
        let (root, run) = (root.display().to_string(), run.display().to_string());
        let mut all = vec!["--root", &root, "--runroot", &run, "--storage-driver", "overlay"];
        all.extend(["--events-backend", "none", "--cgroup-manager", "cgroupfs"]);
        all.extend(["--runtime", "runc"]);
        all.extend(arguments);
        host::run("podman", &all)
    }

    /// What there is of images in the store, now: files and directories of layers and images,
    /// what is being unpacked, and what the indexes name. Nothing, if no image was ever there.
    pub(crate) fn stored(&self) -> Vec<String> {
        let root = self.path("storage");
        let mut found = Vec::new();
        for (directory, own) in [
            ("overlay", &["l", "tempdirs"][..]),
            ("overlay/l", &[]),
            ("overlay/tempdirs", &[]),
            ("overlay-layers", &["layers.lock", "layers.json", "volatile-layers.json"]),
            ("overlay-images", &["images.lock", "images.json"]),
        ] {
            let entries = fs::read_dir(root.join(directory)).expect("the store");
            let names = entries.map(|entry| entry.expect("an entry").file_name());
            let names = names.map(|name| name.to_string_lossy().into_owned());
            // Locks stay; podman's notes of what the filesystem can do, too.
            let foreign = |name: &String| {
                !own.contains(&name.as_str())
                    && !name.starts_with(".has-")
                    && !name.ends_with(".lock")
                    && !matches!(name.as_str(), "backingFsBlockDev" | "staging")
            };
            found.extend(names.filter(foreign).map(|name| format!("{directory}/{name}")));
        }
        for index in [
            "overlay-layers/layers.json",
            "overlay-layers/volatile-layers.json",
            "overlay-images/images.json",
        ] {
            let text = fs::read_to_string(root.join(index)).unwrap_or_else(|_| "[]".to_owned());
            let records: Vec<Value> = serde_json::from_str(&text).expect("an index");
            found.extend(records.iter().map(|record| format!("{index}: {}", record["id"])));
        }
        found
    }

    /// Says that there is nothing of any image in the store, nor soon will be: what was being
    /// unpacked when a pull failed may still be on its way out.
    #[track_caller]
    pub(crate) fn holds_nothing(&self) {
        host::eventually("an empty store", Duration::from_secs(5), || self.stored().is_empty());
    }

    /// What there is of pods, now: see [`leftovers`].
    pub(crate) fn leftovers(&self) -> Vec<String> {
        leftovers::found(self.directory.path(), &self.token(), self.pid())
    }

    /// Ends it, and says that its pods, which the story has removed, left nothing.
    pub(crate) async fn finish(mut self) {
        // A process that was killed may still be on its way out. And a daemon that has just started
        // runs a dozen programs, each of which has the daemon's command line until it begins: the
        // look that found nothing is the one that counts, not another one after it.
        let end = Instant::now() + Duration::from_secs(3);
        let mut left = self.leftovers();
        while !left.is_empty() && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(20)).await;
            left = self.leftovers();
        }
        let left: Vec<_> =
            left.iter().map(|line| format!("{line}{}", leftovers::condition(line))).collect();
        assert!(left.is_empty(), "left behind:\n{}\n{}", left.join("\n"), self.log_end());
        if self.process.is_some() {
            self.stop().await;
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        if std::thread::panicking() {
            eprintln!("the end of the daemon's log:\n{}", self.log_end());
        }
        leftovers::remove(self.directory.path(), &self.token());
    }
}

/// Whether this thread's network is not the machine's.
fn in_own_network() -> bool {
    let ours = fs::read_link(Path::new("/proc/thread-self/ns/net")).ok();
    ours != fs::read_link(Path::new("/proc/1/ns/net")).ok()
}
