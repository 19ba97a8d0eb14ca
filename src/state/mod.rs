//! Our records of sandboxes and containers, and their return after a restart.
//!
//! Memory answers the questions; the disk is written before memory changes, so that what was
//! answered is there after a crash. A record is one JSON file with a format version, replaced as a
//! whole. The daemon may die at any moment: containers go on, and the files say what they are.
//!
//! Not here: what containers/storage knows of a container (`storage`), and what is really running
//! (`runtime`); `daemon::reconcile` brings the three together.

mod container;
mod error;
mod events;
mod sandbox;
mod table;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;

pub use container::ContainerRecord;
pub use container::ContainerUser;
pub use container::Exit;
pub use container::RunImage;
pub use error::StateError;
pub use events::Event;
pub use events::Events;
pub use events::FellBehind;
pub use events::Happened;
pub use events::Subscription;
pub use events::TooMany;
pub use sandbox::Infra;
pub use sandbox::NamespacePaths;
pub use sandbox::NetworkState;
pub use sandbox::SandboxRecord;
pub use table::Found;
pub use table::Table;

use crate::metrics::Metrics;
use crate::model::ids::ContainerId;
use crate::model::ids::SandboxId;

/// Where the records lie.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Holds a directory for each sandbox.
    pub sandboxes: PathBuf,
    /// Holds `<container id>/userdata` for each container: the store's container directories.
    pub containers: PathBuf,
}

/// All records.
#[derive(Debug)]
pub struct Records {
    /// The sandboxes.
    pub sandboxes: Table<SandboxId, SandboxRecord>,
    /// The containers.
    pub containers: Table<ContainerId, ContainerRecord>,
    /// What happens to them.
    pub events: Arc<Events>,
}

impl Records {
    /// Empty records over these directories; nothing is read yet.
    #[must_use]
    pub fn new(settings: Settings, metrics: Metrics) -> Self {
        let (sandboxes, containers) = (settings.sandboxes, settings.containers);
        let sandboxes =
            Table::new(move |id: &SandboxId| sandboxes.join(id.as_str()).join("record.json"));
        let containers = Table::new(move |id: &ContainerId| {
            containers.join(id.as_str()).join("userdata").join("record.json")
        });
        let events = Arc::new(Events::new(sandboxes.rows(), containers.rows(), metrics));
        let order = Arc::new(Mutex::new(()));
        let (of_sandboxes, of_containers) = (Arc::clone(&events), Arc::clone(&events));
        Self {
            sandboxes: sandboxes.telling(
                Arc::clone(&order),
                Box::new(move |before, after| of_sandboxes.sandbox_changed(before, after)),
            ),
            containers: containers.telling(
                order,
                Box::new(move |before, after| of_containers.container_changed(before, after)),
            ),
            events,
        }
    }

    /// The containers of a sandbox, oldest first, without the one that is its own process.
    #[must_use]
    pub fn containers_of(&self, sandbox: &SandboxId) -> Vec<Arc<ContainerRecord>> {
        let mut records = self.containers.all();
        records.retain(|record| record.sandbox == *sandbox && !record.is_infra());
        records.sort_by_key(|record| record.created);
        records
    }
}
