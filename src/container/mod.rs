//! Use cases on containers: one file per verb.
//!
//! A container is created only in a ready sandbox, from an image that the policy allows *now*.
//! Verbs that change one container go one after another; every verb may be called again and says
//! then that nothing changed.
//!
//! Not here: pods (`sandbox` uses this room, never the reverse; a container finds its pod in
//! `state`).

mod attach;
mod create;
mod devices;
mod error;
mod exec;
mod exec_sync;
mod exits;
mod facts;
mod hooks;
mod infra;
mod judged;
mod labels;
mod missing;
mod mounts;
mod pause;
pub mod pod_facts;
mod profile;
mod remove;
mod reopen_log;
mod seccomp_artifact;
mod secrets;
mod start;
mod stats;
mod stop;
mod target;
mod update;
mod volumes;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::broadcast;

pub use error::ContainerError;
pub use hooks::read as hooks;
pub use infra::PauseImage;
pub use seccomp_artifact::ProfileSource;
pub use stats::ContainerStats;
pub use stop::Stops;

use crate::artifacts::Artifacts;
use crate::catalog::Catalog;
use crate::judge::Finder;
use crate::judge::Judge;
use crate::metrics::Metrics;
use crate::model::container::Device;
use crate::model::current::Current;
use crate::model::ids::ContainerId;
use crate::model::in_flight::InFlight;
use crate::runtime::Runtime;
use crate::spec::facts::Defaults;
use crate::spec::facts::HandlerFacts;
use crate::spec::facts::HostFacts;
use crate::state::ContainerRecord;
use crate::state::Records;
use crate::state::StateError;
use crate::storage::Store;
use crate::sys::files;
use crate::sys::files::Links;

/// The largest `config.json` that is read back, in bytes.
const SPEC_LIMIT: u64 = 16 * 1024 * 1024;

/// The answer that everyone who asked for the same container gets.
type Created = Result<ContainerId, Arc<ContainerError>>;

/// What the daemon's configuration says about containers.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where logs go when the sandbox names no directory.
    pub log_dir: PathBuf,
    /// What every container gets.
    pub defaults: Defaults,
    /// What a container takes from its runtime handler, by the handler's name.
    pub handlers: BTreeMap<String, HandlerFacts>,
    /// What this host can do.
    pub host: HostFacts,
    /// The text of our own AppArmor profile, where it can be loaded.
    pub own_profile: Option<String>,
    /// OCI artifacts may be mounted.
    pub artifact_mounts: bool,
    /// What becomes of the volumes that an image declares.
    pub image_volumes: ImageVolumes,
    /// The devices that a pod may wish for by annotation.
    pub allowed_devices: Vec<String>,
    /// Devices for every container.
    pub additional_devices: Vec<Device>,
    /// Where the node's hooks are; a later directory counts more.
    pub hooks_dirs: Vec<PathBuf>,
    /// Where CDI specifications are; a later directory counts more.
    pub cdi_spec_dirs: Vec<PathBuf>,
    /// The node's `mounts.conf`; `None` looks where the field keeps it.
    pub default_mounts_file: Option<PathBuf>,
    /// The file of the time zone that every container gets; `None` leaves the image's.
    pub localtime: Option<PathBuf>,
    /// Sources of mounts that are not made as directories when they are missing.
    pub absent_mount_sources_to_reject: Vec<PathBuf>,
    /// Where the node's root is, for the sources of mounts; `None` is `/`.
    pub bind_mount_prefix: Option<PathBuf>,
    /// The SELinux label of files that every container may read and none may write, where the policy
    /// has one.
    pub shared_label: Option<String>,
}

impl Settings {
    /// The annotations of pods that have an effect with this runtime handler.
    fn allowed_annotations(&self, handler: &str) -> &[String] {
        let handler = self.handlers.get(handler);
        handler.map(|handler| handler.allowed_annotations.as_slice()).unwrap_or_default()
    }
}

/// What becomes of the volumes that an image declares.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ImageVolumes {
    /// A directory in the container's root.
    #[default]
    Mkdir,
    /// A directory of the node that is mounted there, and goes with the container.
    Bind,
    /// Nothing.
    Ignore,
}

/// The use cases on containers.
#[derive(Debug)]
pub struct Containers {
    parts: Current<Parts>,
    creates: InFlight<String, Created>,
    looks: Arc<stats::Looks>,
}

/// The subsystems that these verbs bring together.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The store.
    pub store: Store,
    /// The records.
    pub records: Arc<Records>,
    /// runc and conmon.
    pub runtime: Runtime,
    /// The artifacts.
    pub artifacts: Artifacts,
    /// The images.
    pub catalog: Arc<Catalog>,
    /// The policy.
    pub judge: Judge,
    /// Looks evidence up for what came without; `None` refuses it.
    pub finder: Option<Arc<dyn Finder>>,
    /// Brings seccomp profiles that are artifacts.
    pub profiles: Arc<dyn ProfileSource>,
    /// The configuration.
    pub settings: Settings,
    /// Tells those who wait that a container's end was recorded.
    pub exited: broadcast::Sender<ContainerId>,
    /// The stops that go on.
    pub stops: Arc<Stops>,
    /// The counters.
    pub metrics: Metrics,
}

impl Containers {
    /// The use cases over these parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self { parts: Current::new(parts), creates: InFlight::default(), looks: Arc::default() }
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

    /// All containers, without those whose creator has not been told of them.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<ContainerRecord>> {
        let mut all = self.parts().records.containers.all();
        all.retain(|record| record.answered);
        all
    }

    /// The container whose id is, or begins with, `id`.
    ///
    /// # Errors
    ///
    /// [`ContainerError::State`] when there is none, or more than one.
    pub fn find(&self, id: &str) -> Result<Arc<ContainerRecord>, ContainerError> {
        let record = self.parts().records.containers.find(id)?;
        if record.is_infra() {
            let (what, id) = ("container", record.id.to_string());
            return Err(StateError::Unknown { what, id }.into());
        }
        Ok(record)
    }

    /// The container's runtime spec as JSON text; empty where it is gone.
    ///
    /// # Errors
    ///
    /// [`ContainerError::Vanished`] while the daemon shuts down.
    pub async fn spec_text(&self, record: &ContainerRecord) -> Result<String, ContainerError> {
        // The second outlives a reboot.
        let places = [&record.bundle, &record.persist_dir].map(|place| place.join("config.json"));
        blocking(move || {
            let mut found =
                places.iter().filter_map(|path| files::read(path, SPEC_LIMIT, Links::Refuse).ok());
            Ok(String::from_utf8_lossy(&found.next().unwrap_or_default()).into_owned())
        })
        .await
    }
}

impl Parts {
    /// Removes a container from the store, and lets go of what it had mounted. Blocks.
    fn forget_stored(&self, id: &ContainerId) -> Result<(), ContainerError> {
        self.store.remove_container(id)?;
        Ok(self.artifacts.release(id.as_str())?)
    }

    /// The container to act on: its record once it is our turn, and the turn itself.
    async fn begin(
        &self,
        id: &str,
    ) -> Result<(Arc<ContainerRecord>, tokio::sync::OwnedMutexGuard<()>), ContainerError> {
        let table = &self.records.containers;
        let found = table.find(id)?;
        let turn = table.turn(&found.id).await.ok_or(ContainerError::Gone(found.id.clone()))?;
        // What was found may have changed, or gone, while we waited.
        let record = table.by_id(&found.id).ok_or(ContainerError::Gone(found.id.clone()))?;
        Ok((record, turn))
    }
}

/// Runs blocking work on a thread that may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ContainerError> + Send + 'static,
) -> Result<T, ContainerError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| ContainerError::Vanished)?
}

/// Now, in nanoseconds since 1970.
fn now() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}
