//! Undoes what pods left that live no more: after a crash of the daemon, or of the machine.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::RwLockWriteGuard;
use tokio::time::Instant;

use crate::model::ids::SandboxId;
use crate::sys::namespace;

use super::attach::Shared;
use super::attach::locked;
use super::attachment::Attachment;
use super::attachment::INTERFACE;
use super::chain;
use super::error::NetworkError;
use super::plugin;

/// How long the plugins of a network may take, as the reference has it.
const COLLECT_TIME: Duration = Duration::from_secs(30);
/// How often is looked whether verbs of pods still run.
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// What collecting did.
#[derive(Debug, Default)]
pub struct Collected {
    /// The sandboxes whose left-over attachments were undone.
    pub removed: Vec<SandboxId>,
    /// What could not be undone.
    pub failures: Vec<NetworkError>,
}

impl Shared {
    /// Undoes what is stale, and then lets the plugins look.
    pub(super) async fn collect(&self, living: &[SandboxId]) -> Collected {
        self.owes.store(false, Ordering::Relaxed);
        let mut collected = Collected::default();
        if let Err(error) = self.collect_stale(living, &mut collected).await {
            collected.failures.push(error);
        }
        match self.exclusive().await {
            Some(_gate) => {
                if let Err(error) = self.ask_plugins(living, &mut collected).await {
                    collected.failures.push(error);
                }
            }
            None => self.owes.store(true, Ordering::Relaxed),
        }
        if !collected.failures.is_empty() {
            self.owes.store(true, Ordering::Relaxed);
        }
        collected
    }

    /// One sandbox after the other, each in its turn: a plugin that hangs holds up nobody else.
    async fn collect_stale(
        &self,
        living: &[SandboxId],
        collected: &mut Collected,
    ) -> Result<(), NetworkError> {
        let (_, stale) = self.attachments(living)?;
        for attachment in stale.into_iter().filter(|stale| !stale.conf.disable_gc) {
            let id = attachment.id.clone();
            let _gate = self.gate.read().await;
            let _turn = self.turns.take(&id).await;
            match self.collect_one(attachment).await {
                Ok(()) => collected.removed.push(id),
                Err(error) => collected.failures.push(error),
            }
        }
        Ok(())
    }

    /// Our pods' attachments: those of the living, and the others.
    fn attachments(
        &self,
        living: &[SandboxId],
    ) -> Result<(Vec<Attachment>, Vec<Attachment>), NetworkError> {
        let found = self.cache.of_pods()?;
        // Looked at after the files: an `ADD` is in here before its file is there.
        let attached = locked(&self.attached);
        let ours = |found: &Attachment| {
            found.netns.as_deref().is_none_or(|netns| netns.starts_with(&self.namespaces))
        };
        let lives = |found: &Attachment| living.contains(&found.id) || attached.contains(&found.id);
        Ok(found.into_iter().filter(ours).partition(lives))
    }

    /// Waits until no verb of a pod runs, without making those wait that begin meanwhile.
    async fn exclusive(&self) -> Option<RwLockWriteGuard<'_, ()>> {
        let end = Instant::now() + COLLECT_TIME;
        loop {
            match self.gate.try_write() {
                Ok(gate) => return Some(gate),
                Err(_) if Instant::now() > end => return None,
                Err(_) => tokio::time::sleep(BUSY_PAUSE).await,
            }
        }
    }

    /// Tells all plugins which attachments live.
    async fn ask_plugins(
        &self,
        living: &[SandboxId],
        collected: &mut Collected,
    ) -> Result<(), NetworkError> {
        let (alive, _) = self.attachments(living)?;
        let attached = locked(&self.attached).clone();
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
        Ok(())
    }

    async fn collect_one(&self, mut attachment: Attachment) -> Result<(), NetworkError> {
        plugin::end_orphans(&attachment.id).await;
        let path = self.cache.path(&attachment);
        attachment.netns = attachment.netns.filter(|netns| namespace::is_pinned(netns));
        self.detach_one(attachment).await?;
        self.cache.forget(&path)
    }
}
