//! What the last life of the daemon and of the node left, and what a start does about it.
//!
//! Three files tell. The version file lies where a reboot takes it: gone, or of another minor version,
//! means that no pod of before runs, and all are removed (`internal_wipe`). The persistent version file
//! tells of an upgrade: the images of these pods go too. The file of a clean shutdown is written last
//! at a stop: if it is missing, the store is looked through and repaired (`internal_repair`).
//!
//! CRI-O removes the whole store where it cannot repair it. This program does not: what stays damaged
//! is told, and `crio check --repair --wipe` is for an administrator to say.

use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::Config;
use crate::daemon::assemble::Parts;
use crate::daemon::error::DaemonError;
use crate::daemon::settings;
use crate::daemon::wipe;
use crate::failure::chain;
use crate::model::container::ContainerState;
use crate::model::ids::ContainerId;
use crate::storage::CheckOptions;
use crate::storage::Depth;
use crate::storage::Part;
use crate::storage::Report;
use crate::storage::Store;
use crate::sys::files;
use crate::sys::files::Durability;
use crate::sys::files::Links;

/// The version that the files have.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The largest version file that is read, in bytes.
const LIMIT: u64 = 4096;
/// How long a layer that nothing uses is left alone.
const UNUSED_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// What is due at this start.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    due: Due,
    damage: Option<Report>,
}

/// What is to be removed because its time is over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Due {
    /// All pods: the node was rebooted, or this is another version.
    pub pods: bool,
    /// The images that they ran: this is another version.
    pub images: bool,
}

/// What the version files say is due.
#[must_use]
pub fn due(config: &Config) -> Due {
    let images = config.root.version_file_persist.as_deref().is_some_and(is_outdated);
    Due { pods: images || is_outdated(&config.root.version_file), images }
}

/// Before the store is opened: looks what is due, and has the store usable. What fails here is told, and
/// keeps no daemon from starting.
pub(super) fn begin(config: &Config) -> Recovery {
    let due = if config.root.internal_wipe { due(config) } else { Due::default() };
    let mut damage = None;
    if was_unclean(config) {
        if config.root.internal_repair {
            damage = look(config).unwrap_or_else(|error| {
                tracing::error!(error = chain(&error), "the store cannot be looked through");
                None
            });
        } else {
            tracing::warn!("the last shutdown was not clean, and internal_repair is false");
        }
    }
    if let Err(error) = begin_unclean(config) {
        let error = chain(&error);
        tracing::error!(error, "an unclean shutdown will be taken for a clean one");
    }
    Recovery { due, damage }
}

/// After records and reality were brought together: repairs, removes what is due, and writes down
/// which version was here.
///
/// # Errors
///
/// [`DaemonError::File`] where a version file cannot be written.
pub(super) async fn finish(
    recovery: Recovery,
    parts: &Parts,
    config: &Config,
) -> Result<(), DaemonError> {
    if let Some(report) = recovery.damage {
        repair(parts, report).await;
    }
    if recovery.due.pods && !parts.records.sandboxes.all().is_empty() {
        let wiped = wipe::pods(parts, recovery.due.images).await;
        let wipe::Wiped { pods, images, failures } = wiped;
        let why = if recovery.due.images { "another version" } else { "the node was rebooted" };
        tracing::info!(why, pods, images, failures, "pods of before were removed");
    }
    for path in std::iter::once(&config.root.version_file).chain(&config.root.version_file_persist)
    {
        let text = format!("\"{VERSION}\"");
        write(path, text.as_bytes())?;
    }
    Ok(())
}

/// The last deed of a daemon that ends well: all is on disk, and a file says so.
pub(super) fn end_clean(config: &Config, store: &Store) {
    let Some(path) = &config.root.clean_shutdown_file else { return };
    let synced = store.sync().map_err(|error| chain(&error));
    let written = synced.and_then(|()| write(path, b"").map_err(|error| chain(&error)));
    if let Err(error) = written {
        tracing::error!(error, "the next start takes this shutdown for an unclean one");
    }
}

/// Whether the file says another minor version, or is gone.
fn is_outdated(path: &Path) -> bool {
    let bytes = match files::read(path, LIMIT, Links::Follow) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return true,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the version file cannot be read");
            return true;
        }
    };
    let text: Option<String> = serde_json::from_slice(&bytes).ok();
    let Some(found) = text.as_deref().and_then(minor) else {
        tracing::warn!(path = %path.display(), "the version file says no version");
        return true;
    };
    minor(VERSION) != Some(found)
}

/// Major and minor of a version.
fn minor(version: &str) -> Option<(u64, u64)> {
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The file that says that this program, or one like it, writes the other at all.
fn supported(clean: &Path) -> PathBuf {
    let mut name = clean.as_os_str().to_owned();
    name.push(".supported");
    PathBuf::from(name)
}

fn was_unclean(config: &Config) -> bool {
    let clean = config.root.clean_shutdown_file.as_deref();
    clean.is_some_and(|clean| supported(clean).exists() && !clean.exists())
}

/// From here on the store changes, so that a stop without a last word is not clean.
fn begin_unclean(config: &Config) -> Result<(), DaemonError> {
    let Some(path) = &config.root.clean_shutdown_file else { return Ok(()) };
    write(&supported(path), b"")?;
    let wrap = |source| DaemonError::File { path: path.clone(), source };
    files::remove(path).map_err(wrap)?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    std::fs::File::open(directory).and_then(|directory| directory.sync_all()).map_err(wrap)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), DaemonError> {
    let wrap = |source| DaemonError::File { path: path.to_owned(), source };
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(wrap)?;
    }
    files::replace(path, bytes, 0o644, Durability::Machine).map_err(wrap)
}

/// Looks through the store as it lies there; gives its damage, if there is any.
fn look(config: &Config) -> Result<Option<Report>, DaemonError> {
    let Ok(store) = Store::look(settings::store(config)) else { return Ok(None) };
    let root = store.root().display();
    tracing::warn!(%root, "the last shutdown was not clean: looking through the store");
    let options = CheckOptions { depth: Depth::Records, unused_for: UNUSED_FOR };
    let mut report = store.check(&options)?;
    if !report.damaged(Part::Index).is_empty() {
        for item in store.put_aside(&report).removed {
            tracing::error!(
                index = item.id,
                "it was damaged and is put aside; an empty one follows"
            );
        }
        report = store.check(&options)?;
    }
    for found in &report.findings {
        tracing::warn!(part = %found.part, id = found.id, fault = %found.fault, "damage in the store");
    }
    Ok((!report.findings.is_empty()).then_some(report))
}

/// Removes what is damaged and not in use. Containers that run go on, whatever their image is like.
async fn repair(parts: &Parts, mut report: Report) {
    for id in report.damaged(Part::Container) {
        let Ok(id) = id.parse::<ContainerId>() else { continue };
        let Some(record) = parts.records.containers.by_id(&id) else { continue };
        if record.state == ContainerState::Running || record.is_infra() {
            tracing::warn!(container = %id, "it is damaged, and stays because it runs");
            continue;
        }
        match parts.containers.remove(id.as_str()).await {
            Ok(_) => tracing::warn!(container = %id, "it was damaged and is removed"),
            Err(error) => {
                tracing::error!(container = %id, error = chain(&error), "it stays damaged")
            }
        }
    }
    // Those of other tools are theirs.
    report.findings.retain(|found| found.part != Part::Container);
    let store = parts.store.clone();
    let repaired = tokio::task::spawn_blocking(move || store.repair(&report, false)).await;
    let Ok(repaired) = repaired else { return };
    for item in repaired.removed {
        tracing::warn!(part = %item.part, id = item.id, "it was damaged and is removed");
    }
    for left in repaired.left {
        let (part, id) = (left.item.part, left.item.id);
        tracing::error!(%part, id, why = left.why, "it stays damaged");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_minor_version_a_missing_file_and_a_cut_one_are_outdated() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("version");
        assert!(is_outdated(&path));
        let (major, second) = minor(VERSION).unwrap();
        for (text, expected) in [
            (format!("\"{VERSION}\""), false),
            (format!("\"{major}.{second}.99+0123abc\""), false),
            (format!("\"{major}.{}.0\"", second + 1), true),
            (format!("\"{}.{second}.0\"", major + 1), true),
            (format!("\"{major}.{second}"), true),
            (VERSION.to_owned(), true),
            (String::new(), true),
        ] {
            write(&path, text.as_bytes()).unwrap();
            assert_eq!(is_outdated(&path), expected, "{text}");
        }
    }
}
