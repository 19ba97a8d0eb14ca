//! Undoes what pods left that live no more: after a crash of the daemon, or of the machine.

use std::time::Duration;

use crate::model::ids::SandboxId;
use crate::sys::namespace;

use super::attach::Shared;
use super::attach::locked;
use super::attachment::Attachment;
use super::attachment::INTERFACE;
use super::chain;
use super::error::NetworkError;

/// How long the plugins of a network may take, as the reference has it.
const COLLECT_TIME: Duration = Duration::from_secs(30);

/// What collecting did.
#[derive(Debug, Default)]
pub struct Collected {
    /// The sandboxes whose left-over attachments were undone.
    pub removed: Vec<SandboxId>,
    /// What could not be undone.
    pub failures: Vec<NetworkError>,
}

impl Shared {
    pub(super) async fn collect(&self, living: &[SandboxId]) -> Collected {
        let _gate = self.gate.write().await;
        let mut collected = Collected::default();
        let attachments = match self.cache.of_pods() {
            Ok(attachments) => attachments,
            Err(error) => {
                collected.failures.push(error);
                return collected;
            }
        };
        let attached = locked(&self.attached).clone();
        let ours = |found: &Attachment| {
            found.netns.as_deref().is_none_or(|netns| netns.starts_with(&self.namespaces))
        };
        let (alive, stale): (Vec<_>, Vec<_>) = attachments
            .into_iter()
            .filter(ours)
            .partition(|found| living.contains(&found.id) || attached.contains(&found.id));
        for attachment in stale.into_iter().filter(|stale| !stale.conf.disable_gc) {
            let id = attachment.id.clone();
            match self.collect_one(attachment).await {
                Ok(()) => collected.removed.push(id),
                Err(error) => collected.failures.push(error),
            }
        }
        let unknown = |id: &&SandboxId| !alive.iter().any(|found| found.id == **id);
        let unknown: Vec<_> = living.iter().chain(&attached).filter(unknown).collect();
        for conf in self.select.all(&self.plugins).await {
            let of_this = alive.iter().filter(|found| found.conf.name == conf.name);
            // A living pod that nothing is written about may be anywhere.
            let living: Vec<(String, String)> = of_this
                .map(|found| (found.id.to_string(), found.interface.clone()))
                .chain(unknown.iter().map(|id| (id.to_string(), INTERFACE.to_owned())))
                .collect();
            let failures = chain::collect(&self.plugins, &conf, &living, COLLECT_TIME).await;
            if !failures.is_empty() {
                let network = conf.name;
                collected.failures.push(NetworkError::Collect { network, failures });
            }
        }
        collected
    }

    async fn collect_one(&self, mut attachment: Attachment) -> Result<(), NetworkError> {
        let path = self.cache.path(&attachment);
        let alive = attachment.netns.as_deref().is_some_and(namespace::is_pinned);
        attachment.netns = attachment.netns.filter(|_| alive);
        self.detach_one(attachment, alive).await?;
        self.cache.forget(&path)
    }
}
