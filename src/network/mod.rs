//! The pods' networks: the only place that knows CNI.
//!
//! A pod is attached to the node's network by the plugins of a configuration that a network
//! provider wrote, and detached by what was written down about it then, whatever the
//! configuration says by now. An `ADD` that fails, or that nobody waits for any more, is undone.
//!
//! Verbs of one sandbox come one after the other; those of different sandboxes run side by side.
//!
//! Not here: the network namespace and its `lo` (`sys`), the verb `CHECK`.
//!
//! Facts: the CNI specification 1.1.0 and CONVENTIONS.md of containernetworking/cni.

mod attach;
mod attachment;
mod cache;
mod chain;
mod collect;
mod conf;
mod counters;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod host_ports;
mod plugin;
mod result;
mod select;
mod turns;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::failure;
use crate::model::change::Change;
use crate::model::ids::SandboxId;
use crate::model::sandbox::PortMapping;

pub use collect::Collected;
pub use counters::counters;
pub use error::ConfError;
pub use error::NetworkError;
pub use error::NotReady;
pub use error::PluginError;
pub use error::PluginFailure;
pub use error::ResultError;
pub use host_ports::HostPortError;

use attach::Shared;
use attach::Undo;
use attach::locked;
use attachment::Attachment;
use conf::Version;

/// How long plugins may take to answer `STATUS`.
const STATUS_TIME: Duration = Duration::from_secs(30);
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
    /// Where this daemon pins its pods' namespaces: the cache has other daemons' pods too, and the
    /// collector is to leave them alone.
    pub namespaces_dir: PathBuf,
    /// How long an `ADD` of a whole chain may take.
    pub timeout: Duration,
    /// Whether host ports are made, or left to others.
    pub host_ports: bool,
    /// The directories of nft and iptables; `None` looks where the environment says.
    pub tool_dirs: Option<Vec<PathBuf>>,
    /// The file that notes which interfaces may carry packets from 127.0.0.1; gone after a reboot.
    pub localnet_note: PathBuf,
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

/// The node's pod network.
#[derive(Debug, Clone)]
pub struct Network {
    shared: Arc<Shared>,
}

impl Network {
    /// The network of these settings; directories may appear later.
    ///
    /// # Errors
    ///
    /// [`NetworkError::PluginDirectories`] for a path that cannot stand in `CNI_PATH`.
    pub fn new(settings: Settings) -> Result<Self, NetworkError> {
        let shared = Shared::new(settings)?;
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
        let time = shared.timeout.min(STATUS_TIME);
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
        shared.host_ports.hold(pod)?;
        locked(&shared.attached).insert(pod.id.clone());
        if let Err(error) = shared.cache.put(&attachment) {
            locked(&shared.attached).remove(&pod.id);
            shared.host_ports.close(&pod.id).await;
            return Err(error);
        }
        let undo = Undo { pod: Some((self.clone(), pod.clone())) };
        let outcome = match shared.attach(&mut attachment).await {
            Ok(addresses) => Ok(addresses),
            Err(add) => Err(shared.undo(pod, add).await),
        };
        undo.disarm();
        outcome
    }

    /// Detaches a pod, as it was written down when it was attached.
    ///
    /// May be called again, and when the namespace is gone. All plugins are asked, also after one
    /// of them failed. What fails for a pod whose namespace is gone is no error: nothing of the pod is
    /// left to be reached. The attachment stays written down, and is owed ([`Network::owes`]).
    ///
    /// # Errors
    ///
    /// [`NetworkError::Remove`]; the attachment stays written down then.
    pub async fn remove(&self, pod: &PodNetwork) -> Result<Change, NetworkError> {
        let _gate = self.shared.gate.read().await;
        let _turn = self.shared.turns.take(&pod.id).await;
        self.shared.detach(pod).await
    }

    /// Takes over the host ports of a pod that an earlier daemon attached.
    ///
    /// They are held from now on. Whether the rules are there still is looked after by
    /// [`Network::settle`].
    pub fn adopt(&self, pod: &PodNetwork, addresses: &[IpAddr]) {
        self.shared.host_ports.adopt(pod, addresses);
    }

    /// Makes the rules for host ports what they should be: at a start, when the living pods are
    /// adopted, and when an earlier change of them failed.
    ///
    /// # Errors
    ///
    /// [`HostPortError`]; it is to be tried again.
    pub async fn settle(&self) -> Result<(), HostPortError> {
        self.shared.host_ports.settle().await
    }

    /// Takes the rules for host ports for lost, as when somebody flushed the node's: the next
    /// [`Network::settle`] makes them all.
    pub async fn doubt(&self) {
        self.shared.host_ports.doubt().await;
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

    /// Whether something could not be undone that nobody asks for again: [`Network::collect`] does.
    #[must_use]
    pub fn owes(&self) -> bool {
        self.shared.owes.load(Ordering::Relaxed)
    }

    /// Undoes the attachments of pods that live no more, and lets CNI 1.1 plugins do the same.
    ///
    /// To be called at start, when the network is ready and the living sandboxes are known, and when
    /// something is owed.
    /// Sandboxes attached since then are spared, and so is what is not a pod's.
    pub async fn collect(&self, living: &[SandboxId]) -> Collected {
        self.shared.collect(living).await
    }
}

#[cfg(test)]
mod tests;
