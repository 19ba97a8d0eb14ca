//! What the commands work with that are no daemon: parts that look, and change nothing.

use std::future::Future;
use std::path::PathBuf;

use crate::artifacts::Artifacts;
use crate::audit::Audit;
use crate::catalog::Catalog;
use crate::config::Config;
use crate::daemon::DaemonError;
use crate::daemon::settings;
use crate::image::Verifier;
use crate::judge::Judge;
use crate::judge::Settings;
use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::storage::Store;

/// Asks the policies that the configuration names, or `policy` in their place: a file for every
/// namespace, a directory for those that have a file in it. What is asked this way is on no record,
/// because nothing comes of it.
#[must_use]
pub fn judge(config: &Config, policy: Option<PathBuf>) -> Judge {
    // Only what holds is explained; what is tried decides nothing.
    let from = Settings { dry_run: None, dry_run_namespaces: None, ..settings::policies(config) };
    let from = match policy {
        Some(directory) if directory.is_dir() => Settings { namespaces: Some(directory), ..from },
        Some(global) => Settings { global, namespaces: None, ..from },
        None => from,
    };
    Judge::new(from, Audit::none(), Metrics::default())
}

/// Finds out what the policy says of images in registries, as a pull of the daemon would.
///
/// # Errors
///
/// [`DaemonError::Registry`].
pub fn verifier(config: &Config, policy: Option<PathBuf>) -> Result<Verifier, DaemonError> {
    let registry = Registry::new(settings::registry(config))?;
    Ok(Verifier::new(registry, judge(config, policy)))
}

/// The daemon's stores, to be read, and the images and artifacts in them.
///
/// # Errors
///
/// [`DaemonError::Store`] where there is none, and [`DaemonError::Registry`].
pub fn images(config: &Config) -> Result<(Store, Artifacts, Catalog), DaemonError> {
    let store = Store::look(settings::store(config))?;
    let registry = Registry::new(settings::registry(config))?;
    let artifacts = Artifacts::beside(&settings::artifacts(config));
    let catalog =
        Catalog::new(store.clone(), registry, artifacts.clone(), settings::pinned(config));
    Ok((store, artifacts, catalog))
}

/// Runs work that waits for the network.
///
/// # Errors
///
/// [`DaemonError::Prepare`].
pub fn wait_for<T>(work: impl Future<Output = T>) -> Result<T, DaemonError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime.map_err(DaemonError::Prepare)?.block_on(work))
}
