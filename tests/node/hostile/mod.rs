//! What attackers try with images and signatures, and what a registry can answer instead of the truth.
//!
//! Each case is a few lines of a table and is named after what is tried. Whatever becomes of it:
//! nothing is written outside of the layer, nothing is accepted that the policy does not allow, the
//! daemon's memory stays bounded, and the store is as it was.
//!
//! Certificates that have expired, or are not valid yet, are in the tests of keyless signatures.

mod answers;
mod configs;
mod documents;
mod layers;
mod signatures;
mod store;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use crate::keys::Key;
use crate::publish;
use crate::support::client::Client;
use crate::support::daemon::Daemon;
use crate::support::host;
use crate::support::net;
use crate::test_registry::Setup;
use crate::test_registry::TestRegistry;

/// The most memory of its own that the daemon may take, in bytes: it is a debug build, and several
/// documents of four megabytes are under way at once.
const MEMORY: u64 = 128 << 20;

/// A daemon beside a directory that no image may touch.
struct Scene {
    daemon: Daemon,
    client: Client,
    registry: TestRegistry,
    key: Key,
    memory: Memory,
    outside: BTreeMap<PathBuf, String>,
}

/// Tells a story in a network of its own, if this host can.
fn story<F: Future<Output = ()>>(story: impl FnOnce() -> F + Send) {
    if host::can(&["root", "ip", "runc", "conmon", "cni"]) {
        net::in_own_network(story);
    }
}

impl Scene {
    /// The daemon runs, everything is allowed, and the registry is as it is set up.
    async fn new(setup: Setup) -> Self {
        let registry = TestRegistry::with(setup).await;
        Self::with(registry, |_| ()).await
    }

    async fn with(registry: TestRegistry, prepare: impl FnOnce(&mut Daemon)) -> Self {
        let mut daemon = Daemon::new();
        let key = Key::generate();
        daemon.write("cosign.pub", &key.public_pem());
        daemon.registries(&publish::insecure(&[&registry]));
        std::fs::create_dir(daemon.path("canary")).unwrap();
        daemon.write("canary/secret", "of the node");
        prepare(&mut daemon);
        daemon.start().await;
        let client = daemon.client().await;
        let memory = Memory::of(daemon.pid().unwrap());
        let outside = surroundings(&daemon);
        Self { daemon, client, registry, key, memory, outside }
    }

    /// Demands the key's signature for the whole registry.
    fn demand(&self, identity: &str) {
        let requirement = json!({
            "type": "sigstoreSigned", "keyPath": self.daemon.path("cosign.pub"),
            "signedIdentity": { "type": identity },
        });
        self.daemon.policy(&json!({
            "default": [{ "type": "reject" }],
            "transports": { "docker": { self.registry.host(): [requirement] } },
        }));
    }

    fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.registry.host())
    }

    /// The directory that no image may touch.
    fn canary(&self) -> String {
        self.daemon.path("canary").display().to_string()
    }

    /// Says that nothing outside of the store is other than it was, and that no more memory was
    /// taken than may be.
    #[track_caller]
    fn assert_untouched(&self, what: &str) {
        assert_eq!(surroundings(&self.daemon), self.outside, "{what}");
        let peak = self.memory.peak();
        assert!(peak < MEMORY, "{what}: the daemon took {} MiB", peak >> 20);
    }

    /// Says that a refusal gives this cause, names the image, and can be shown on a terminal.
    #[track_caller]
    fn assert_told(&self, what: &str, message: &str, words: &[&str]) {
        assert!(words.iter().any(|word| message.contains(word)), "{what}: {message}");
        assert!(message.contains(what), "{what}: {message}");
        assert!(!message.chars().any(char::is_control), "{what}: {message:?}");
    }

    async fn finish(self) {
        self.assert_untouched("in the end");
        self.daemon.holds_nothing();
        self.daemon.finish().await;
    }
}

/// What did not hold, over all cases of a table: one that fails does not hide the others.
#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn check(&mut self, case: &str, holds: impl FnOnce()) {
        let Err(panic) = std::panic::catch_unwind(AssertUnwindSafe(holds)) else { return };
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
        self.0.push(format!("{case}: {}", text.unwrap_or_default()));
    }

    #[track_caller]
    fn none(self) {
        assert!(self.0.is_empty(), "{} faults:\n{}", self.0.len(), self.0.join("\n"));
    }
}

/// Every file of the daemon's directory but its store, its logs and what belongs to pods: what kind,
/// mode, size and owner it has.
fn surroundings(daemon: &Daemon) -> BTreeMap<PathBuf, String> {
    let own = [
        "storage",
        "storage-run",
        "crio.log",
        "audit.log",
        "policy.json",
        "ipam",
        "pods",
        "ns",
        "runc",
    ];
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(daemon.path("")).unwrap().flatten() {
        if !own.contains(&entry.file_name().to_str().unwrap()) {
            gather(&entry.path(), &mut found);
        }
    }
    found
}

fn gather(path: &Path, found: &mut BTreeMap<PathBuf, String>) {
    let Ok(is) = path.symlink_metadata() else { return };
    let text = format!("{:o} {} {} {} {}", is.mode(), is.uid(), is.gid(), is.len(), is.rdev());
    if is.is_dir() {
        // A directory's size says nothing.
        found.insert(path.to_owned(), format!("{:o} {} {}", is.mode(), is.uid(), is.gid()));
        for entry in std::fs::read_dir(path).unwrap().flatten() {
            gather(&entry.path(), found);
        }
    } else {
        found.insert(path.to_owned(), text);
    }
}

/// The most memory that a process has taken for itself so far, looked at again and again.
struct Memory {
    peak: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
}

impl Memory {
    fn of(pid: i32) -> Self {
        let memory = Self { peak: Arc::default(), over: Arc::default() };
        let (peak, over) = (Arc::clone(&memory.peak), Arc::clone(&memory.over));
        std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                peak.fetch_max(anonymous(pid), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(3));
            }
        });
        memory
    }

    fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// `RssAnon` in bytes.
fn anonymous(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    number.unwrap_or_default() * 1024
}

/// A document with a change.
fn edited(document: &[u8], edit: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(document).unwrap();
    edit(&mut value);
    value.to_string().into_bytes()
}
