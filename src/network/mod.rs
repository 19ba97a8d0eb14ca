//! The pods' networks: the only place that knows CNI.
//!
//! A pod is attached to the node's network by the plugins of a configuration that a network
//! provider wrote, and detached by what was written down about it then, whatever the
//! configuration says by now. An `ADD` that fails, or that nobody waits for any more, is undone.
//!
//! Verbs of one sandbox come one after the other; those of different sandboxes run side by side.
//!
//! Not here: the network namespace and its `lo` (`sys`), host ports without a plugin for them
//! (a pod that wants some is refused then), the verb `CHECK`.
//!
//! Facts: the CNI specification 1.1.0 and CONVENTIONS.md of containernetworking/cni.

mod attachment;
mod cache;
mod chain;
mod conf;
mod error;
mod plugin;
mod quantity;
mod result;
mod select;
mod turns;

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::RwLock;
use tokio::time::Instant;

use crate::failure;
use crate::model::change::Change;
use crate::model::ids::SandboxId;
use crate::model::sandbox::PortMapping;
use crate::sys::netns;

pub use error::ConfError;
pub use error::NetworkError;
pub use error::NotReady;
pub use error::PluginError;
pub use error::PluginFailure;
pub use error::ResultError;

use attachment::Attachment;
use cache::Cache;
use cache::Entry;
use conf::NetworkConf;
use conf::Version;
use plugin::Plugins;
use select::Select;
use turns::Turns;

/// How long detaching may take, as the reference has it: half of the kubelet's patience.
const REMOVE_TIME: Duration = Duration::from_secs(60);
/// How long collecting may take, as the reference has it.
const COLLECT_TIME: Duration = Duration::from_secs(30);
/// How often is looked whether a network provider has started.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Where this node keeps what belongs to CNI.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The directory of the configuration files.
    pub conf_dir: PathBuf,
    /// The directories of the plugins; the first that has one wins.
    pub plugin_dirs: Vec<PathBuf>,
    /// The name of the network to use; `None` takes the first usable file.
    pub default_network: Option<String>,
    /// The directory of the results, shared with libcni: `/var/lib/cni/results`.
    pub cache_dir: PathBuf,
    /// How long an `ADD` of a whole chain may take.
    pub timeout: Duration,
}

/// A pod to attach or detach.
#[derive(Debug, Clone)]
pub struct PodNetwork {
    /// Its sandbox.
    pub id: SandboxId,
    /// Its name.
    pub name: String,
    /// Its Kubernetes namespace.
    pub namespace: String,
    /// Its uid.
    pub uid: String,
    /// Its pinned network namespace.
    pub netns: PathBuf,
    /// The ports of the node that lead into it.
    pub port_mappings: Vec<PortMapping>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its cgroup; may be empty.
    pub cgroup_path: String,
}

/// What a pod got.
#[derive(Debug, Clone, PartialEq)]
pub struct Addresses {
    /// Its addresses, the primary first.
    pub ips: Vec<IpAddr>,
    /// The whole CNI result, at most 1 MiB.
    pub result: Value,
}

/// What collecting did.
#[derive(Debug, Default)]
pub struct Collected {
    /// The sandboxes whose left-over attachments were undone.
    pub removed: Vec<SandboxId>,
    /// What could not be undone.
    pub failures: Vec<NetworkError>,
}

/// The node's pod network.
#[derive(Debug, Clone)]
pub struct Network {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    timeout: Duration,
    plugins: Plugins,
    select: Select,
    cache: Cache,
    turns: Turns,
    /// Read by verbs of pods, written by the collector: it must run alone.
    gate: RwLock<()>,
    /// The sandboxes attached by this process, which are not for the collector.
    attached: Mutex<HashSet<SandboxId>>,
    /// The configuration whose `STATUS` was good.
    passed: Mutex<Vec<u8>>,
}

impl Network {
    /// The network of these settings; directories may appear later.
    ///
    /// # Errors
    ///
    /// [`NetworkError::PluginDirectories`] for a path that cannot stand in `CNI_PATH`.
    pub fn new(settings: Settings) -> Result<Self, NetworkError> {
        let shared = Shared {
            timeout: settings.timeout,
            plugins: Plugins::new(settings.plugin_dirs)?,
            select: Select::new(settings.conf_dir, settings.default_network),
            cache: Cache::new(settings.cache_dir),
            turns: Turns::default(),
            gate: RwLock::default(),
            attached: Mutex::default(),
            passed: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Whether pods can be attached now.
    ///
    /// Reads the directories again. A plugin is asked for its versions once, and for its `STATUS`
    /// (CNI 1.1) until the answer was good once for this configuration, as the reference does.
    ///
    /// # Errors
    ///
    /// [`NotReady`], in words that the kubelet shows.
    pub async fn ready(&self) -> Result<(), NotReady> {
        let shared = &self.shared;
        let conf = shared.select.one(&shared.plugins).await?;
        if conf.version < Version::V1_1_0 || *locked(&shared.passed) == conf.bytes {
            return Ok(());
        }
        let time = shared.timeout.min(COLLECT_TIME);
        match chain::status(&shared.plugins, &conf, time).await {
            Ok(()) => {
                *locked(&shared.passed) = conf.bytes;
                Ok(())
            }
            Err(failed) => Err(NotReady::Status {
                network: conf.name,
                plugin: failed.plugin,
                reason: failure::chain(&failed.source),
            }),
        }
    }

    /// Waits until pods can be attached.
    ///
    /// # Errors
    ///
    /// [`NotReady`] when it is not so at the deadline.
    pub async fn wait_ready(&self, deadline: Instant) -> Result<(), NotReady> {
        loop {
            let next = Instant::now() + LOOK_AGAIN;
            match self.ready().await {
                Err(error) if next > deadline => return Err(error),
                Err(_) => tokio::time::sleep_until(next).await,
                Ok(()) => return Ok(()),
            }
        }
    }

    /// Attaches a pod and gives its addresses.
    ///
    /// When it fails, or when the future is dropped, what was done is undone.
    ///
    /// # Errors
    ///
    /// [`NetworkError`]; with [`NetworkError::NotUndone`] something is left, which stays written
    /// down for [`Network::remove`].
    pub async fn add(&self, pod: &PodNetwork) -> Result<Addresses, NetworkError> {
        let shared = &self.shared;
        let _gate = shared.gate.read().await;
        let _turn = shared.turns.take(&pod.id).await;
        let conf = shared.select.one(&shared.plugins).await?;
        let mut attachment = Attachment::plan(pod, conf)?;
        if !shared.cache.of(&pod.id)?.is_empty() {
            let network = attachment.conf.name;
            return Err(NetworkError::Attached { id: pod.id.clone(), network });
        }
        shared.cache.put(&attachment)?;
        locked(&shared.attached).insert(pod.id.clone());
        let undo = Undo { pod: Some((self.clone(), pod.clone())) };
        let outcome = match shared.attach(&mut attachment).await {
            Ok(addresses) => Ok(addresses),
            Err(add) => Err(match shared.detach(pod).await {
                Ok(_) => add,
                Err(undo) => {
                    NetworkError::NotUndone { add: Box::new(add), undo: failure::chain(&undo) }
                }
            }),
        };
        undo.disarm();
        outcome
    }

    /// Detaches a pod, as it was written down when it was attached.
    ///
    /// May be called again, and when the namespace is gone. All plugins are asked, also after one
    /// of them failed. Failures of a pod whose namespace is gone are logged and forgotten, as the
    /// reference does: nothing of the pod is left to be reached.
    ///
    /// # Errors
    ///
    /// [`NetworkError::Remove`]; the attachment stays written down then.
    pub async fn remove(&self, pod: &PodNetwork) -> Result<Change, NetworkError> {
        let _gate = self.shared.gate.read().await;
        let _turn = self.shared.turns.take(&pod.id).await;
        self.shared.detach(pod).await
    }

    /// The addresses that a sandbox was given, also by an earlier daemon or the reference.
    ///
    /// # Errors
    ///
    /// [`NetworkError::Cache`] when the cache cannot be read.
    pub fn cached(&self, id: &SandboxId) -> Result<Option<Addresses>, NetworkError> {
        let entries = self.shared.cache.of(id)?;
        let attachments = entries.into_iter().filter_map(|entry| entry.attachment);
        let mut results = attachments
            .filter(|attachment| attachment.interface == attachment::INTERFACE)
            .filter_map(|attachment| {
                result::check(attachment.result?, attachment.conf.version).ok()
            });
        Ok(results.next().map(|answer| Addresses { ips: answer.ips, result: answer.value }))
    }

    /// Undoes the attachments of pods that live no more, and lets CNI 1.1 plugins do the same.
    ///
    /// To be called once at start, when the network is ready and the living sandboxes are known.
    /// Sandboxes attached since then are spared, and so is what is not a pod's.
    pub async fn collect(&self, living: &[SandboxId]) -> Collected {
        let shared = &self.shared;
        let _gate = shared.gate.write().await;
        let mut collected = Collected::default();
        let attachments = match shared.cache.of_pods() {
            Ok(attachments) => attachments,
            Err(error) => {
                collected.failures.push(error);
                return collected;
            }
        };
        let attached = locked(&shared.attached).clone();
        let (alive, stale): (Vec<_>, Vec<_>) = attachments
            .into_iter()
            .partition(|found| living.contains(&found.id) || attached.contains(&found.id));
        for attachment in stale.into_iter().filter(|stale| !stale.conf.disable_gc) {
            let id = attachment.id.clone();
            match shared.collect_one(attachment).await {
                Ok(()) => collected.removed.push(id),
                Err(error) => collected.failures.push(error),
            }
        }
        for conf in shared.select.all(&shared.plugins).await {
            let living: Vec<_> = alive
                .iter()
                .filter(|found| found.conf.name == conf.name)
                .map(|found| (found.id.to_string(), found.interface.clone()))
                .collect();
            let failures = chain::collect(&shared.plugins, &conf, &living, COLLECT_TIME).await;
            if !failures.is_empty() {
                let network = conf.name;
                collected.failures.push(NetworkError::Collect { network, failures });
            }
        }
        collected
    }
}

impl Shared {
    async fn attach(&self, attachment: &mut Attachment) -> Result<Addresses, NetworkError> {
        let answer = chain::add(&self.plugins, attachment, self.timeout).await;
        let answer = answer.map_err(|source| NetworkError::Add {
            id: attachment.id.clone(),
            network: attachment.conf.name.clone(),
            source,
        })?;
        attachment.result = Some(answer.value.clone());
        self.cache.put(attachment)?;
        Ok(Addresses { ips: answer.ips, result: answer.value })
    }

    async fn detach(&self, pod: &PodNetwork) -> Result<Change, NetworkError> {
        let alive = netns::is_alive(&pod.netns);
        let entries = self.cache.of(&pod.id)?;
        let unreadable = entries.iter().any(|entry| entry.attachment.is_none());
        let mut todo = Vec::new();
        if unreadable || (entries.is_empty() && alive) {
            // Nothing tells how it was attached: today's network is the best guess there is.
            let conf = self.select.one(&self.plugins).await.ok();
            todo.extend(conf.and_then(|conf| Attachment::plan(pod, conf).ok()));
        }
        let change = if todo.is_empty() && entries.is_empty() {
            Change::Unchanged(())
        } else {
            Change::Made(())
        };
        for Entry { attachment, .. } in &entries {
            // The reference's older releases attached `lo` by a plugin too; nothing is to be undone.
            let attachment = attachment.clone().filter(|found| found.interface != "lo");
            todo.extend(attachment);
        }
        for mut attachment in todo {
            attachment.netns = alive.then(|| pod.netns.clone());
            self.detach_one(attachment, alive).await?;
        }
        for Entry { path, .. } in &entries {
            self.cache.forget(path)?;
        }
        locked(&self.attached).remove(&pod.id);
        Ok(change)
    }

    async fn detach_one(&self, attachment: Attachment, alive: bool) -> Result<(), NetworkError> {
        let attachment = self.as_added(attachment).await;
        let time = self.timeout.min(REMOVE_TIME);
        let failures = chain::delete(&self.plugins, &attachment, time).await;
        if failures.is_empty() {
            return Ok(());
        }
        let (id, network) = (attachment.id, attachment.conf.name);
        let error = NetworkError::Remove { id, network, failures };
        if alive {
            return Err(error);
        }
        tracing::warn!(%error, "network of a sandbox without namespace may not be undone wholly");
        Ok(())
    }

    async fn collect_one(&self, mut attachment: Attachment) -> Result<(), NetworkError> {
        let path = self.cache.path(&attachment);
        let alive = attachment.netns.as_deref().is_some_and(netns::is_alive);
        attachment.netns = attachment.netns.filter(|_| alive);
        self.detach_one(attachment, alive).await?;
        self.cache.forget(&path)
    }

    /// The attachment in the version of its `ADD`.
    async fn as_added(&self, mut attachment: Attachment) -> Attachment {
        let said = attachment.result.as_ref().and_then(|result| result.get("cniVersion"));
        let said = said.and_then(Value::as_str).and_then(Version::parse);
        match said.filter(|version| attachment.conf.versions.contains(version)) {
            Some(version) => attachment.conf.version = version,
            None => {
                if let Ok(NetworkConf { version, .. }) =
                    select::agree(&self.plugins, attachment.conf.clone()).await
                {
                    attachment.conf.version = version;
                }
            }
        }
        attachment
    }
}

/// Detaches a pod when the future that attaches it is dropped.
struct Undo {
    pod: Option<(Network, PodNetwork)>,
}

impl Undo {
    fn disarm(mut self) {
        self.pod = None;
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        let Some((network, pod)) = self.pod.take() else { return };
        // Without a runtime the daemon ends; the cache tells the next one.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            if let Err(error) = network.remove(&pod).await {
                let error = failure::chain(&error);
                tracing::warn!(sandbox = %pod.id, error, "network of a cancelled sandbox is left");
            }
        });
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
