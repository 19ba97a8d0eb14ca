//! Use cases on pods: one file per verb.
//!
//! A sandbox is a pod's namespaces, network, files and cgroup, and the process that holds its
//! process namespace where it has one. Making one pushes the way back of each step; stopping and
//! removing may be asked for any number of times.

mod error;
mod files;
mod infra;
mod inspect;
mod labels;
mod port_forward;
mod remove;
mod run;
mod stats;
mod stop;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

pub use error::SandboxError;
pub use infra::PauseSource;
pub use labels::Labelling;
pub use stats::PodStats;

use crate::container::Containers;
use crate::container::PauseImage;
use crate::failure::chain;
use crate::metrics::Metrics;
use crate::model::current::Current;
use crate::model::ids::SandboxId;
use crate::model::in_flight::InFlight;
use crate::model::resources::Resources;
use crate::network::Network;
use crate::network::NetworkError;
use crate::network::NotReady;
use crate::network::PodNetwork;
use crate::runtime::Runtime;
use crate::state::NetworkState;
use crate::state::Records;
use crate::state::SandboxRecord;
use crate::sys::namespace;
use crate::sys::user_ns::IdMap;

/// The answer that everyone who asked for the same sandbox gets.
type Ran = Result<SandboxId, Arc<SandboxError>>;

/// What the daemon's configuration says about sandboxes.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where namespaces are pinned.
    pub namespaces_dir: PathBuf,
    /// Where sandboxes' files lie until the next reboot.
    pub run_dir: PathBuf,
    /// Where sandboxes' records lie.
    pub records_dir: PathBuf,
    /// Kernel parameters that every pod gets.
    pub default_sysctls: Vec<(String, String)>,
    /// What a pod's own process is run from, where that is on this node.
    pub pause: PauseImage,
    /// Every pod has a process of its own, needed or not.
    pub always_infra: bool,
    /// The annotations of pods that have an effect, by the runtime handler's name.
    pub allowed_annotations: BTreeMap<String, Vec<String>>,
    /// The least id of the node that a pod's user namespace may have.
    pub least_host_id: u64,
    /// How long a pod waits for the network plugin to be configured.
    pub network_patience: Duration,
    /// How long containers of a stopped pod may take to end by themselves.
    pub stop_patience: Duration,
}

/// The use cases on sandboxes.
#[derive(Debug)]
pub struct Sandboxes {
    parts: Current<Parts>,
    runs: InFlight<String, Ran>,
    looks: Arc<stats::Looks>,
}

/// The subsystems that these verbs bring together.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The records.
    pub records: Arc<Records>,
    /// CNI.
    pub network: Network,
    /// runc and conmon.
    pub runtime: Runtime,
    /// The verbs on containers: a pod that stops, stops what is in it.
    pub containers: Arc<Containers>,
    /// Brings the pause image here; `None` takes it only where it is here already.
    pub pause: Option<Arc<dyn PauseSource>>,
    /// SELinux labels.
    pub labelling: Arc<Labelling>,
    /// The counters.
    pub metrics: Metrics,
    /// The configuration.
    pub settings: Settings,
}

impl Sandboxes {
    /// The use cases over these parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self { parts: Current::new(parts), runs: InFlight::default(), looks: Arc::default() }
    }

    /// The parts as they are now: a verb takes them once, and has the same to its end.
    #[must_use]
    pub fn parts(&self) -> Arc<Parts> {
        self.parts.now()
    }

    /// Verbs that begin from now on have these parts.
    pub fn replace(&self, parts: Parts) {
        self.parts.replace(parts);
    }

    /// All sandboxes, without those that are still being made.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<SandboxRecord>> {
        let mut all = self.parts().records.sandboxes.all();
        all.retain(|record| !self.parts().is_being_made(record));
        all
    }

    /// The sandbox whose id is, or begins with, `id`.
    ///
    /// # Errors
    ///
    /// [`SandboxError::State`] when there is none, or more than one.
    pub fn find(&self, id: &str) -> Result<Arc<SandboxRecord>, SandboxError> {
        Ok(self.parts().records.sandboxes.find(id)?)
    }

    /// Records what a pod may use from now on; nothing given stays as it is. The kubelet sets the
    /// pod's cgroup itself.
    ///
    /// # Errors
    ///
    /// [`SandboxError::State`] when there is no such sandbox, or the record cannot be written.
    pub fn update_resources(
        &self,
        id: &str,
        overhead: Option<Resources>,
        resources: Option<Resources>,
    ) -> Result<(), SandboxError> {
        let record = self.find(id)?;
        self.parts().records.sandboxes.update(&record.id, |record| {
            record.config.overhead = overhead.or(record.config.overhead.take());
            record.config.resources = resources.or(record.config.resources.take());
        })?;
        Ok(())
    }

    /// Whether pods can get a network now.
    ///
    /// # Errors
    ///
    /// [`NotReady`] says what is missing.
    pub async fn network_ready(&self) -> Result<(), NotReady> {
        self.parts().network.ready().await
    }

    /// Takes over the host ports of a sandbox that an earlier daemon made, if it still has a
    /// network. The rules for them come with [`Sandboxes::settle_network`].
    pub fn adopt_network(&self, id: &SandboxId) {
        let Some(record) = self.parts().records.sandboxes.by_id(id) else { return };
        let Some(pod) = pod_network(&record) else { return };
        if record.network == NetworkState::Up && namespace::is_pinned(&pod.netns) {
            self.parts().network.adopt(&pod, &record.ips);
        }
    }

    /// Makes the node's rules for host ports those of the sandboxes that are there.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Network`]; it is to be tried again.
    pub async fn settle_network(&self) -> Result<(), SandboxError> {
        Ok(self.parts().network.settle().await.map_err(NetworkError::from)?)
    }

    /// Takes the rules for host ports for lost, as when somebody flushed the node's: the next
    /// [`Sandboxes::settle_network`] makes them all.
    pub async fn doubt_network(&self) {
        self.parts().network.doubt().await;
    }

    /// The sandboxes whose stop failed at the network: see [`Sandboxes::go_on`].
    #[must_use]
    pub fn owing(&self) -> Vec<SandboxId> {
        let all = self.parts().records.sandboxes.all().into_iter();
        all.filter(|record| record.network == NetworkState::Owed)
            .map(|record| record.id.clone())
            .collect()
    }

    /// Whether the network keeps something for sandboxes that are gone.
    #[must_use]
    pub fn network_owes(&self) -> bool {
        self.parts().network.owes()
    }

    /// Undoes what the network still keeps for sandboxes that are not there any more.
    pub async fn collect_networks(&self) {
        let all = self.parts().records.sandboxes.all();
        let mut living: Vec<SandboxId> = all.iter().map(|record| record.id.clone()).collect();
        // A record that cannot be read, as of a later version, still stands for a pod that runs.
        let on_disk = std::fs::read_dir(&self.parts().settings.records_dir).into_iter().flatten();
        living
            .extend(on_disk.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()));
        let collected = self.parts().network.collect(&living).await;
        for id in collected.removed {
            tracing::info!(sandbox = %id, "its left-over network attachment was undone");
        }
        for error in collected.failures {
            tracing::warn!(error = chain(&error), "a left-over network attachment stays");
        }
    }
}

impl Parts {
    /// Whether a request is making this sandbox now. One that was never ready and that nobody makes
    /// is what a request could not take back; it can be stopped and removed.
    fn is_being_made(&self, record: &SandboxRecord) -> bool {
        record.ready_since.is_none() && self.records.sandboxes.is_taken(&record.id)
    }

    /// The turn of a sandbox to stop or remove; none if it is not there.
    async fn begin(
        &self,
        id: &str,
    ) -> Result<Option<(SandboxId, tokio::sync::OwnedMutexGuard<()>)>, SandboxError> {
        let Ok(record) = self.records.sandboxes.find(id) else { return Ok(None) };
        if self.is_being_made(&record) {
            return Err(SandboxError::BeingMade(record.id.clone()));
        }
        let turn = self.records.sandboxes.turn(&record.id).await;
        Ok(turn.map(|turn| (record.id.clone(), turn)))
    }
}

/// What CNI is told of a sandbox.
fn pod_network(record: &SandboxRecord) -> Option<PodNetwork> {
    let metadata = &record.config.metadata;
    Some(PodNetwork {
        id: record.id.clone(),
        name: metadata.name.clone(),
        namespace: metadata.namespace.clone(),
        uid: metadata.uid.clone(),
        netns: record.namespaces.net.clone()?,
        port_mappings: record.config.port_mappings.clone(),
        annotations: record.config.annotations.clone(),
        cgroup_path: record.config.cgroup_parent.clone(),
    })
}

/// The ids of the sandbox's user namespace, where it has one.
fn id_map(record: &SandboxRecord) -> Option<IdMap> {
    let map = record.config.security.namespaces.user_namespace?;
    Some(IdMap { host: map.host_id, length: map.length })
}

/// Runs blocking work on a thread that may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SandboxError> + Send + 'static,
) -> Result<T, SandboxError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| SandboxError::Vanished)?
}

/// Now, in nanoseconds since 1970.
fn now() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}
