//! `crio check`: looks for damage in the store, and repairs it if asked to.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::config::Config;
use crate::daemon::error::DaemonError;
use crate::daemon::listen;
use crate::daemon::offline;
use crate::daemon::settings;
use crate::storage;
use crate::storage::CheckOptions;
use crate::storage::Depth;
use crate::storage::Part;
use crate::storage::Report;
use crate::storage::Store;

/// What to look for, and what to do about it.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    /// Does not look for files that do not belong to a layer.
    pub quick: bool,
    /// For how long a layer may be there that nothing uses.
    pub age: Duration,
    /// Removes damaged images and layers.
    pub repair: bool,
    /// Removes damaged containers too.
    pub force: bool,
    /// Removes the whole store where damage is left.
    pub wipe: bool,
}

/// What was found, and done.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Checked {
    /// The store.
    pub root: PathBuf,
    /// How many layers were looked at.
    pub layers: usize,
    /// How many images.
    pub images: usize,
    /// How many containers.
    pub containers: usize,
    /// Each fault.
    pub faults: Vec<Found>,
    /// What was removed because of them; `None` if nothing was asked for.
    pub repair: Option<storage::Repair>,
    /// The whole store was removed.
    pub wiped: bool,
}

/// A fault, and of what.
#[derive(Debug, Serialize)]
pub struct Found {
    /// `layer`, `image`, `container` or `index`.
    pub part: Part,
    /// Its id; of an index, its path.
    pub id: String,
    /// What is wrong.
    pub fault: String,
}

impl Checked {
    /// Whether there is damage now.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        match &self.repair {
            None => !self.faults.is_empty(),
            Some(repair) => !self.wiped && !repair.left.is_empty(),
        }
    }
}

/// Looks, and repairs if asked to; meanwhile no daemon may run.
///
/// # Errors
///
/// [`DaemonError`] where there is no store, or a daemon answers that would work on it.
pub fn check(config: &Config, ask: Ask) -> Result<Checked, DaemonError> {
    if !ask.repair {
        return Ok(looked(&Store::look(settings::store(config))?, ask)?.0);
    }
    let socket = &config.api.listen;
    offline::wait_for(async {
        let held = listen::bind(socket).await?;
        let done = repaired(config, ask);
        listen::let_go(held, socket);
        done
    })?
}

fn looked(store: &Store, ask: Ask) -> Result<(Checked, Report), DaemonError> {
    let depth = if ask.quick { Depth::Digests } else { Depth::Contents };
    let report = store.check(&CheckOptions { depth, unused_for: ask.age })?;
    let found = report.findings.iter().map(|found| Found {
        part: found.part,
        id: found.id.clone(),
        fault: found.fault.to_string(),
    });
    let [layers, images, containers] = report.counted;
    let checked = Checked {
        root: store.root().to_owned(),
        layers,
        images,
        containers,
        faults: found.collect(),
        repair: None,
        wiped: false,
    };
    Ok((checked, report))
}

fn repaired(config: &Config, ask: Ask) -> Result<Checked, DaemonError> {
    let settings = settings::store(config);
    let store = Store::look(settings.clone())?;
    let (mut checked, mut report) = looked(&store, ask)?;
    let mut repair = storage::Repair::default();
    if !report.damaged(Part::Index).is_empty() {
        repair = store.put_aside(&report);
        // Now that it can be read, there is more to say.
        let (again, second) = looked(&store, ask)?;
        checked.faults.retain(|found| found.part == Part::Index);
        checked.faults.extend(again.faults);
        report = second;
    }
    drop(store);
    // As at a start: its directories are made, and what was half done is taken away.
    let store = Store::open(settings.clone())?;
    let more = store.repair(&report, ask.force);
    repair.removed.extend(more.removed);
    repair.left.extend(more.left);
    if ask.wipe && !repair.left.is_empty() {
        drop(store);
        storage::remove_all(&settings, ask.force)?;
        checked.wiped = true;
    }
    checked.repair = Some(repair);
    Ok(checked)
}
