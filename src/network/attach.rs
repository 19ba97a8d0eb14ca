//! Attaching and detaching one pod, and what undoes an attachment that nobody waits for.
//!
//! Before the first plugin runs, the attachment is written down; the file goes when all plugins
//! have undone their part. Whatever happens in between, somebody can finish it.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::RwLock;

use crate::failure;
use crate::model::change::Change;
use crate::model::ids::SandboxId;
use crate::sys::namespace;

use super::Addresses;
use super::Network;
use super::PodNetwork;
use super::Settings;
use super::attachment::Attachment;
use super::cache::Cache;
use super::cache::Entry;
use super::chain;
use super::conf::NetworkConf;
use super::conf::Version;
use super::error::NetworkError;
use super::host_ports::HostPorts;
use super::plugin;
use super::plugin::Plugins;
use super::select;
use super::select::Select;
use super::turns::Turns;

/// How long detaching may take, as the reference has it: half of the kubelet's patience.
const REMOVE_TIME: Duration = Duration::from_secs(60);

/// What the verbs of all pods share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) timeout: Duration,
    pub(super) plugins: Plugins,
    pub(super) select: Select,
    pub(super) cache: Cache,
    pub(super) namespaces: PathBuf,
    pub(super) host_ports: HostPorts,
    pub(super) turns: Turns,
    /// Read by verbs of pods, written by the collector: it must run alone.
    pub(super) gate: RwLock<()>,
    /// The sandboxes attached by this process, which are not for the collector.
    pub(super) attached: Mutex<HashSet<SandboxId>>,
    /// Whether something is left to undo that nobody will ask for again.
    pub(super) owes: AtomicBool,
    /// The configuration whose `STATUS` was good.
    pub(super) passed: Mutex<Vec<u8>>,
}

impl Shared {
    pub(super) fn new(settings: Settings) -> Result<Self, NetworkError> {
        Ok(Self {
            timeout: settings.timeout,
            plugins: Plugins::new(settings.plugin_dirs)?,
            select: Select::new(settings.conf_dir, settings.default_network),
            cache: Cache::new(settings.cache_dir),
            namespaces: settings.namespaces_dir,
            host_ports: HostPorts::new(
                settings.host_ports,
                settings.localnet_note,
                settings.tool_dirs,
            ),
            turns: Turns::default(),
            gate: RwLock::default(),
            attached: Mutex::default(),
            owes: AtomicBool::default(),
            passed: Mutex::default(),
        })
    }

    pub(super) async fn attach(
        &self,
        attachment: &mut Attachment,
    ) -> Result<Addresses, NetworkError> {
        let answer = chain::add(&self.plugins, attachment, self.timeout).await;
        let answer = answer.map_err(|source| NetworkError::Add {
            id: attachment.id.clone(),
            network: attachment.conf.name.clone(),
            source: Box::new(source),
        })?;
        attachment.result = Some(answer.value.clone());
        self.cache.put(attachment)?;
        self.host_ports.open(&attachment.id, &answer.ips).await?;
        Ok(Addresses { ips: answer.ips, result: answer.value })
    }

    /// Detaches after an `ADD` that failed, and gives what there is to say.
    ///
    /// A second try is worth it: the bridge plugin (1.1.1, with iptables on nftables) removes the
    /// address and the interface, and then says that rules which its `ADD` did not reach are
    /// missing. Asked again, it has nothing more to complain about.
    pub(super) async fn undo(&self, pod: &PodNetwork, add: NetworkError) -> NetworkError {
        if self.detach(pod).await.is_ok() {
            return add;
        }
        match self.detach(pod).await {
            Ok(_) => add,
            Err(undo) => {
                NetworkError::NotUndone { add: Box::new(add), undo: failure::chain(&undo) }
            }
        }
    }

    pub(super) async fn detach(&self, pod: &PodNetwork) -> Result<Change, NetworkError> {
        if !locked(&self.attached).contains(&pod.id) {
            plugin::end_orphans(&pod.id).await;
        }
        // First of all: nothing may be led to an address that is given back.
        self.host_ports.close(&pod.id).await;
        let alive = namespace::is_pinned(&pod.netns);
        let entries = self.cache.of(&pod.id)?;
        let unreadable = entries.iter().any(|entry| entry.attachment.is_none());
        let mut todo = Vec::new();
        if unreadable || (entries.is_empty() && alive) {
            // Nothing tells how it was attached: today's network is the best guess there is.
            let conf = self.select.one(&self.plugins).await.ok();
            todo.extend(conf.and_then(|conf| Attachment::plan(pod, conf).ok()));
        }
        let change = if todo.is_empty() && entries.is_empty() {
            Change::Unchanged(())
        } else {
            Change::Made(())
        };
        for Entry { attachment, .. } in &entries {
            // The reference's older releases attached `lo` by a plugin too; nothing is to be undone.
            let attachment = attachment.clone().filter(|found| found.interface != "lo");
            todo.extend(attachment);
        }
        let mut owed = false;
        for mut attachment in todo {
            attachment.netns = alive.then(|| pod.netns.clone());
            match self.detach_one(attachment).await {
                // Nothing of the pod can be reached any more, so it can go. What a plugin still
                // keeps for it, an address for one, is asked back by the collector.
                Err(error) if !alive => {
                    let error = failure::chain(&error);
                    tracing::warn!(error, "tried again later: the sandbox has no namespace");
                    owed = true;
                }
                other => other?,
            }
        }
        for Entry { path, attachment } in &entries {
            if !owed || attachment.is_none() {
                self.cache.forget(path)?;
            }
        }
        if owed {
            self.owes.store(true, Ordering::Relaxed);
        }
        locked(&self.attached).remove(&pod.id);
        Ok(change)
    }

    pub(super) async fn detach_one(&self, attachment: Attachment) -> Result<(), NetworkError> {
        let attachment = self.as_added(attachment).await;
        let time = self.timeout.min(REMOVE_TIME);
        let failures = chain::delete(&self.plugins, &attachment, time).await;
        if failures.is_empty() {
            return Ok(());
        }
        let (id, network) = (attachment.id, attachment.conf.name);
        Err(NetworkError::Remove { id, network, failures })
    }

    /// The attachment in the version of its `ADD`.
    async fn as_added(&self, mut attachment: Attachment) -> Attachment {
        let said = attachment.result.as_ref().and_then(|result| result.get("cniVersion"));
        let said = said.and_then(Value::as_str).and_then(Version::parse);
        match said.filter(|version| attachment.conf.versions.contains(version)) {
            Some(version) => attachment.conf.version = version,
            None => {
                if let Ok(NetworkConf { version, .. }) =
                    select::agree(&self.plugins, attachment.conf.clone()).await
                {
                    attachment.conf.version = version;
                }
            }
        }
        attachment
    }
}

/// Detaches a pod when the future that attaches it is dropped.
pub(super) struct Undo {
    pub(super) pod: Option<(Network, PodNetwork)>,
}

impl Undo {
    /// It is waited for no more: it is done.
    pub(super) fn disarm(mut self) {
        self.pod = None;
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        let Some((network, pod)) = self.pod.take() else { return };
        // Without a runtime the daemon ends; the cache tells the next one.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            if let Err(error) = network.remove(&pod).await {
                let error = failure::chain(&error);
                tracing::warn!(sandbox = %pod.id, error, "network of a cancelled sandbox is left");
            }
        });
    }
}

/// The content of a lock; a panic of another holder does not matter to what is in there.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
