//! Runs a sandbox: name → record → namespaces → network → files → ready.
//!
//! Every step pushes its way back. The record is written before anything that could outlive a
//! crash is made, as not ready, so that a daemon that dies half-way finds what to clear away.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::failure::chain;
use crate::model::ids::SandboxId;
use crate::model::in_flight::Stage;
use crate::model::in_flight::Unanswered;
use crate::model::sandbox::SandboxConfig;
use crate::model::sandbox::SandboxState;
use crate::model::security::NamespaceMode;
use crate::model::undo::Undo;
use crate::sandbox::Parts;
use crate::sandbox::Ran;
use crate::sandbox::Sandboxes;
use crate::sandbox::blocking;
use crate::sandbox::error::SandboxError;
use crate::sandbox::files;
use crate::sandbox::id_map;
use crate::sandbox::labels;
use crate::sandbox::now;
use crate::sandbox::pod_network;
use crate::spec::sysctls;
use crate::spec::wishes;
use crate::state::Infra;
use crate::state::NamespacePaths;
use crate::state::NetworkState;
use crate::state::SandboxRecord;
use crate::sys::namespace;

impl Sandboxes {
    /// Runs a sandbox and gives its id. The same sandbox asked for again is the same one, also while
    /// it is being made and after its caller has left.
    ///
    /// # Errors
    ///
    /// [`SandboxError`] of the step that failed; nothing is left then. [`SandboxError::Late`] when
    /// it is not made within `patience`; it is made all the same.
    pub async fn run(&self, config: SandboxConfig, patience: Option<Duration>) -> Ran {
        let name = config.metadata.full_name();
        let parts = self.parts();
        let key = name.clone();
        if let Some(stage) = self.runs.stage(&key) {
            tracing::info!(pod = name, stage, "asked for again while it is being made");
            parts.metrics.stalled(stage);
        }
        let work = |stage: Stage| async move {
            let same = |record: &&Arc<SandboxRecord>| {
                record.config.metadata.full_name() == name && record.state == SandboxState::Ready
            };
            if let Some(record) = parts.records.sandboxes.all().iter().find(same) {
                return Ok(record.id.clone());
            }
            parts.run(config, &stage).await.map_err(Arc::new)
        };
        match self.runs.run_within(key.clone(), patience, work).await {
            Ok(ran) => ran,
            Err(Unanswered::Late(stage)) => Err(Arc::new(SandboxError::Late { name: key, stage })),
            Err(Unanswered::Vanished(_)) => Err(Arc::new(SandboxError::Vanished)),
        }
    }
}

impl Parts {
    async fn run(
        self: &Arc<Self>,
        config: SandboxConfig,
        stage: &Stage,
    ) -> Result<SandboxId, SandboxError> {
        stage.is("sandbox creating");
        let sysctls = self.check(&config)?;
        if config.security.namespaces.network != NamespaceMode::Node {
            self.network.wait_ready(Instant::now() + self.settings.network_patience).await?;
        }
        stage.is("sandbox network ready");
        if self.needs_process(&config) {
            stage.is("sandbox pause image");
            self.bring_pause(&config.metadata).await?;
        }
        let mut record = self.new_record(config)?;
        let id = record.id.clone();
        self.runtime.cgroups_path_of_pod(&record.config.cgroup_parent, &id)?;
        // The names of the pins are written down before the pins are made.
        record.namespaces = self.future_pins(&record);
        // Kept until the end, and over the way back: nobody stops or removes what is half made.
        let _turn = self.label_and_insert(&mut record)?;
        let mut undo = Undo::default();
        let (parts, undo_id) = (Arc::clone(self), id.clone());
        undo.push("clear the sandbox away", async move {
            parts.clear_away(&undo_id).await.map_err(|error| chain(&error))
        });
        match self.build(record, sysctls, stage).await {
            Ok(()) => Ok(id),
            Err(failure) => {
                stage.is("sandbox removal after a failure");
                let leftovers = undo.roll_back().await;
                if leftovers.is_empty() {
                    return Err(failure);
                }
                Err(SandboxError::Leftovers { failure: Box::new(failure), leftovers })
            }
        }
    }

    /// Refuses what cannot be built, before anything is made. Gives the sysctls to set.
    fn check(&self, config: &SandboxConfig) -> Result<Vec<(String, String)>, SandboxError> {
        let handler = &config.handler;
        if !handler.is_empty() && !self.runtime.has_handler(handler) {
            return Err(SandboxError::UnknownHandler {
                name: handler.clone(),
                known: self.runtime.handlers().join(", "),
            });
        }
        self.shm_size(config, self.handler_of(config))?;
        let namespaces = &config.security.namespaces;
        for (kind, mode) in [("process", namespaces.pid), ("IPC", namespaces.ipc)] {
            if namespaces.user_namespace.is_some() && mode == NamespaceMode::Node {
                return Err(SandboxError::UserNamespaceOnNode(kind));
            }
        }
        let least = self.settings.least_host_id;
        if let Some(map) = namespaces.user_namespace
            && u64::from(map.host_id) < least
        {
            return Err(SandboxError::MapTooLow { host_id: map.host_id, least });
        }
        let shared = sysctls::Shared {
            network: namespaces.network == NamespaceMode::Node,
            ipc: namespaces.ipc == NamespaceMode::Node,
        };
        let mut wanted: BTreeMap<String, String> =
            self.settings.default_sysctls.iter().cloned().collect();
        wanted.extend(config.sysctls.clone());
        if let Some(map) = namespaces.user_namespace {
            sysctls::map_groups(&mut wanted, map);
        }
        let checked = sysctls::check(&wanted, shared)?;
        for (key, why) in &checked.skipped {
            tracing::warn!(pod = config.metadata.full_name(), key, why, "sysctl left out");
        }
        Ok(checked.allowed.into_iter().collect())
    }

    fn handler_of<'a>(&'a self, config: &'a SandboxConfig) -> &'a str {
        if config.handler.is_empty() { self.runtime.default_handler() } else { &config.handler }
    }

    /// The size of the pod's `/dev/shm`: what it wishes for, where its handler allows that.
    fn shm_size(&self, config: &SandboxConfig, handler: &str) -> Result<u64, SandboxError> {
        let allowed = self.settings.allowed_annotations.get(handler);
        let allowed = allowed.map(Vec::as_slice).unwrap_or_default();
        let wish = wishes::SHM_SIZE.of(&config.annotations, allowed);
        Ok(wish.map(wishes::shm_size).transpose()?.unwrap_or(files::SHM_SIZE))
    }

    fn new_record(&self, config: SandboxConfig) -> Result<SandboxRecord, SandboxError> {
        let id = SandboxId::fresh().map_err(|source| SandboxError::File {
            action: "read random bytes from",
            path: "/dev/urandom".into(),
            source,
        })?;
        let host_network = config.security.namespaces.network == NamespaceMode::Node;
        let hostname = if host_network {
            nix::unistd::gethostname()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default()
        } else if config.hostname.is_empty() {
            id.short().to_owned()
        } else {
            config.hostname.clone()
        };
        let handler = self.handler_of(&config).to_owned();
        Ok(SandboxRecord {
            namespaces: NamespacePaths::default(),
            run_dir: self.settings.run_dir.join(id.as_str()),
            created: now(),
            state: SandboxState::NotReady,
            ready_since: None,
            network: if host_network { NetworkState::Host } else { NetworkState::Down },
            ips: Vec::new(),
            infra: None,
            hostname,
            handler,
            selinux: None,
            id,
            config,
        })
    }

    async fn build(
        self: &Arc<Self>,
        mut record: SandboxRecord,
        sysctls: Vec<(String, String)>,
        stage: &Stage,
    ) -> Result<(), SandboxError> {
        let id = record.id.clone();
        stage.is("sandbox namespace creation");
        self.pin(&record, sysctls).await?;
        if record.network != NetworkState::Host {
            record.network = NetworkState::Up;
        }
        self.records.sandboxes.update(&id, |kept| *kept = record.clone())?;
        stage.is("sandbox network creation");
        // CNI is the long pole; the files and the infra process are made beside it.
        let (network, local) = tokio::join!(self.connect(&record), self.make_local(&record));
        record.infra = local?;
        // Written before the network's error is looked at: the way back needs to know the process.
        self.records.sandboxes.update(&id, |kept| *kept = record.clone())?;
        let ips = network?;
        self.records.sandboxes.update(&id, |kept| {
            kept.ips = ips;
            kept.state = SandboxState::Ready;
            kept.ready_since = Some(now());
        })?;
        Ok(())
    }

    /// Where the namespaces of a sandbox are going to be pinned.
    fn future_pins(&self, record: &SandboxRecord) -> NamespacePaths {
        let options = &record.config.security.namespaces;
        let pin = |wanted: bool, kind: &str| {
            wanted.then(|| self.settings.namespaces_dir.join(kind).join(record.id.as_str()))
        };
        let own_network = options.network != NamespaceMode::Node;
        NamespacePaths {
            net: pin(own_network, "netns"),
            ipc: pin(options.ipc != NamespaceMode::Node, "ipcns"),
            // A pod in the node's network has the node's host name.
            uts: pin(own_network, "utsns"),
            pid: pin(self.needs_process(&record.config), "pidns"),
            user: pin(options.user_namespace.is_some(), "userns"),
        }
    }

    async fn pin(
        &self,
        record: &SandboxRecord,
        sysctls: Vec<(String, String)>,
    ) -> Result<(), SandboxError> {
        let namespaces = &record.namespaces;
        let request = namespace::Pin {
            directory: self.settings.namespaces_dir.clone(),
            name: record.id.to_string(),
            user: id_map(record),
            net: namespaces.net.is_some(),
            ipc: namespaces.ipc.is_some(),
            uts: namespaces.uts.is_some(),
            hostname: namespaces.uts.is_some().then(|| record.hostname.clone()),
            sysctls,
        };
        blocking(move || {
            namespace::pin(request)?;
            Ok(())
        })
        .await
    }

    async fn connect(&self, record: &SandboxRecord) -> Result<Vec<std::net::IpAddr>, SandboxError> {
        match (record.network, pod_network(record)) {
            (NetworkState::Up, Some(pod)) => Ok(self.network.add(&pod).await?.ips),
            _ => Ok(Vec::new()),
        }
    }

    async fn make_local(
        self: &Arc<Self>,
        record: &SandboxRecord,
    ) -> Result<Option<Infra>, SandboxError> {
        let (parts, made) = (Arc::clone(self), record.clone());
        blocking(move || {
            let label = labels::of_mounts(&made)?;
            let shm_size = parts.shm_size(&made.config, &made.handler)?;
            let shm_size = made.namespaces.ipc.is_some().then_some(shm_size);
            files::make(&made, shm_size, label.as_deref())?;
            if made.namespaces.pid.is_none() {
                parts.runtime.mark_pod(&made.config.cgroup_parent, &made.id)?;
            }
            Ok(())
        })
        .await?;
        self.start_infra(record).await
    }
}
