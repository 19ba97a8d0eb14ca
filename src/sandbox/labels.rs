//! SELinux labels of sandboxes: each has a level of its own.

use std::collections::BTreeSet;
use std::io;
use std::sync::Mutex;
use std::sync::PoisonError;

use tokio::sync::OwnedMutexGuard;

use crate::sandbox::Parts;
use crate::sandbox::error::SandboxError;
use crate::spec::selinux;
use crate::spec::selinux::Contexts;
use crate::state::Records;
use crate::state::SandboxRecord;
use crate::sys::selinux as kernel;

/// Gives sandboxes their labels.
///
/// Which levels are taken is read from the records each time: so none is forgotten at a restart,
/// and none stays taken when its sandbox is gone.
#[derive(Debug)]
pub struct Labelling {
    contexts: Option<Contexts>,
    /// Held from the look at the records until the new one is among them.
    turn: Mutex<()>,
}

impl Labelling {
    /// With what the policy calls containers; `None` gives no labels.
    #[must_use]
    pub fn new(contexts: Option<Contexts>) -> Self {
        Self { contexts, turn: Mutex::new(()) }
    }
}

impl Parts {
    /// Labels the record of a new sandbox and keeps it, as `insert_taken` does.
    pub(super) fn label_and_insert(
        &self,
        record: &mut SandboxRecord,
    ) -> Result<Option<OwnedMutexGuard<()>>, SandboxError> {
        let insert = |record: &SandboxRecord| {
            Ok(self.records.sandboxes.insert_taken(&record.id, record.clone())?)
        };
        let Some(contexts) = &self.labelling.contexts else { return insert(record) };
        let _turn = self.labelling.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let level = selinux::free_level(&taken(&self.records), random()?)?;
        let mut labels = contexts.of_sandbox(&level, record.config.security.selinux.as_ref())?;
        for label in [&mut labels.process, &mut labels.mount] {
            *label = kernel::canonical(label)
                .map_err(|source| SandboxError::Label { label: label.clone(), source })?;
        }
        record.selinux = Some(labels);
        insert(record)
    }
}

/// The levels of all sandboxes, and those that containers were given by name.
fn taken(records: &Records) -> BTreeSet<String> {
    let mut levels = BTreeSet::new();
    for sandbox in records.sandboxes.all() {
        let label = sandbox.selinux.as_ref().and_then(|label| selinux::level_of(&label.process));
        levels.extend(label.map(str::to_owned));
    }
    for container in records.containers.all() {
        let options = container.config.security.selinux.as_ref();
        levels.extend(options.map(|options| options.level.clone()));
    }
    levels
}

/// The label of what is mounted for the sandbox's containers, if it has one.
pub(super) fn of_mounts(record: &SandboxRecord) -> Result<Option<String>, SandboxError> {
    let Some(labels) = &record.selinux else { return Ok(None) };
    Ok(selinux::of_container(&record.config.security, labels, false)?.mount)
}

fn random() -> Result<u32, SandboxError> {
    let mut bytes = [0_u8; 4];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| SandboxError::File {
        action: "read random bytes from",
        path: "/dev/urandom".into(),
        source: io::Error::other("the kernel gives none"),
    })?;
    Ok(u32::from_ne_bytes(bytes))
}
