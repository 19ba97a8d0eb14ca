//! Removes every pod of this node, and the images that they ran.
//!
//! `crio wipe --force` is for a node that leaves its cluster, or whose pods nobody will ask about again; a
//! start does it after a reboot or an upgrade. What podman, buildah
//! and skopeo have in the store stays. The daemon must not run meanwhile; its socket is held.

use std::collections::BTreeSet;

use crate::config::Config;
use crate::config::Values;
use crate::daemon::assemble;
use crate::daemon::assemble::Parts;
use crate::daemon::error::DaemonError;
use crate::daemon::listen;
use crate::daemon::offline;
use crate::daemon::reconcile;
use crate::failure::chain;

/// What was removed, and what could not be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wiped {
    /// Pods.
    pub pods: usize,
    /// Images.
    pub images: usize,
    /// What could not be removed; the log says why.
    pub failures: usize,
}

/// Removes every pod, and, where `images` says so, the images that their containers ran.
///
/// # Errors
///
/// [`DaemonError`] where nothing could be begun, as when a daemon runs.
pub fn wipe(config: &Config, values: &Values, images: bool) -> Result<Wiped, DaemonError> {
    offline::wait_for(async {
        let socket = listen::bind(&config.api.listen).await?;
        let parts = assemble::assemble(config, values, Vec::new()).await?;
        reconcile::reconcile(&parts).await?;
        let wiped = pods(&parts, images).await;
        listen::let_go(socket, &config.api.listen);
        Ok(wiped)
    })?
}

/// Removes every pod, and the images that they ran if these are to go too.
pub(super) async fn pods(parts: &Parts, images: bool) -> Wiped {
    let mut wiped = Wiped::default();
    let used: BTreeSet<_> =
        parts.records.containers.all().iter().map(|container| container.image.id.clone()).collect();
    for sandbox in parts.sandboxes.list() {
        let id = sandbox.id.as_str();
        let stopped = parts.sandboxes.stop(id, None).await;
        let removed = match stopped {
            Ok(_) => parts.sandboxes.remove(id).await,
            Err(error) => Err(error),
        };
        match removed {
            Ok(_) => wiped.pods += 1,
            Err(error) => {
                tracing::error!(sandbox = id, error = chain(&error), "cannot remove it");
                wiped.failures += 1;
            }
        }
    }
    for image in used.into_iter().filter(|_| images) {
        match parts.images.remove(image.as_str()).await {
            Ok(_) => wiped.images += 1,
            Err(error) => {
                tracing::error!(%image, error = chain(&error), "cannot remove it");
                wiped.failures += 1;
            }
        }
    }
    wiped
}
