//! Creates a container: image → may it run here? → rootfs → spec → runtime → record.
//!
//! Every step pushes its way back. A request that fails leaves nothing; a request whose caller went
//! away goes on, and its container is the answer to the same request asked again.

mod noted;

use std::borrow::Cow;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use oci_spec::runtime::Spec;

use crate::container::Containers;
use crate::container::Created;
use crate::container::Parts;
use crate::container::blocking;
use crate::container::devices;
use crate::container::error::ContainerError;
use crate::container::facts;
use crate::container::hooks;
use crate::container::judged::Asker;
use crate::container::judged::Judged;
use crate::container::labels;
use crate::container::now;
use crate::container::pod_facts::PodFacts;
use crate::container::seccomp_artifact::ArtifactProfile;
use crate::container::secrets;
use crate::container::target::Target;
use crate::container::volumes;
use crate::failure::chain;
use crate::judge::Event;
use crate::model::container::ContainerConfig;
use crate::model::container::Mount;
use crate::model::ids::ContainerId;
use crate::model::in_flight::Stage;
use crate::model::in_flight::Unanswered;
use crate::model::sandbox::SandboxState;
use crate::model::signal;
use crate::model::undo::Undo;
use crate::runtime::Create;
use crate::spec::facts::ContainerFacts;
use crate::spec::facts::ImageFacts;
use crate::spec::facts::MadeFiles;
use crate::spec::facts::MadeVolume;
use crate::spec::facts::ResolvedMount;
use crate::spec::hooks::NodeHook;
use crate::spec::selinux::ContainerLabels;
use crate::spec::user::ResolvedUser;
use crate::state::ContainerUser;
use crate::state::SandboxRecord;
use crate::storage::NewContainer;
use crate::sys::files;
use crate::sys::user_ns::IdMap;

/// A container on its way: what each step found out.
#[derive(Clone)]
struct Draft {
    id: ContainerId,
    name: String,
    config: ContainerConfig,
    sandbox: Arc<SandboxRecord>,
    bundle: PathBuf,
    persist_dir: PathBuf,
    log: PathBuf,
    labels: ContainerLabels,
    created: i64,
    stage: Stage,
}

impl Draft {
    /// Whether it is the pod's own process.
    fn is_infra(&self) -> bool {
        self.id == self.sandbox.id.of_infra()
    }

    /// The container, as one that wants an image.
    fn asker(&self, event: Event) -> Asker {
        Asker {
            event,
            pod: self.sandbox.config.metadata.clone(),
            container: self.config.metadata.name.clone(),
        }
    }
}

/// What the prepared files on disk say.
struct Prepared {
    judged: Judged,
    mounts: Vec<Mount>,
    user: ContainerUser,
    stop_signal: String,
    /// Held until the runtime has joined it.
    _target: Option<Target>,
}

/// What was found and made for a container on this node.
struct Found<'a> {
    mounts: &'a [ResolvedMount<'a>],
    own_volumes: &'a [MadeVolume],
    devices: &'a devices::Found,
    hooks: &'a [NodeHook],
    files: MadeFiles<'a>,
    target: Option<&'a Target>,
}

impl Containers {
    /// Creates a container and gives its id. The same container asked for again is the same one, also
    /// while it is being made and after its caller has left.
    ///
    /// # Errors
    ///
    /// [`ContainerError`] of the step that failed; nothing is left then. [`ContainerError::Late`]
    /// when it is not made within `patience`; it is made all the same.
    pub async fn create(
        &self,
        sandbox: &str,
        config: ContainerConfig,
        patience: Option<Duration>,
    ) -> Created {
        let records = &self.parts().records;
        let sandbox = records.sandboxes.find(sandbox).map_err(|e| Arc::new(e.into()))?;
        if sandbox.state != SandboxState::Ready {
            return Err(Arc::new(ContainerError::SandboxStopped(sandbox.id.clone())));
        }
        let mut config = config;
        config.metadata.label(&mut config.labels, &sandbox.config.metadata);
        let name = config.metadata.full_name(&sandbox.config.metadata);
        let parts = self.parts();
        let key = format!("{}/{name}", sandbox.id);
        if let Some(stage) = self.creates.stage(&key) {
            tracing::info!(container = name, stage, "asked for again while it is being made");
            parts.metrics.stalled(stage);
        }
        let asked = name.clone();
        let work = |stage: Stage| async move {
            stage.is("container creating");
            if let Some(id) = parts.of_this_name(&sandbox, &name).await {
                return Ok(id);
            }
            let id = fresh_id().map_err(Arc::new)?;
            parts.create(id, sandbox, name, config, stage).await.map_err(Arc::new)
        };
        let id = match self.creates.run_within(key, patience, work).await {
            Ok(created) => created?,
            Err(Unanswered::Late(stage)) => {
                return Err(Arc::new(ContainerError::Late { name: asked, stage }));
            }
            Err(Unanswered::Vanished(_)) => return Err(Arc::new(ContainerError::Vanished)),
        };
        // Only a caller that is still there comes here. Without one it stays hidden, so that the
        // kubelet asks for the same again instead of counting a container that it has not started.
        let answered = self.parts().records.containers.update(&id, |record| record.answered = true);
        match answered {
            Ok(Some(_)) => Ok(id),
            // With its sandbox, between the work's end and here.
            Ok(None) => Err(Arc::new(ContainerError::Gone(id))),
            Err(error) => Err(Arc::new(error.into())),
        }
    }
}

impl Parts {
    /// The container of this name in the sandbox. One that is being removed is waited for: its id
    /// would be of nothing a moment later.
    async fn of_this_name(&self, sandbox: &SandboxRecord, name: &str) -> Option<ContainerId> {
        let containers = &self.records.containers;
        loop {
            let records = self.records.containers_of(&sandbox.id);
            let found = records.iter().find(|record| record.name == name)?;
            let _turn = containers.turn(&found.id).await;
            if containers.by_id(&found.id).is_some() {
                return Some(found.id.clone());
            }
        }
    }

    pub(super) async fn create(
        self: &Arc<Self>,
        id: ContainerId,
        sandbox: Arc<SandboxRecord>,
        name: String,
        config: ContainerConfig,
        stage: Stage,
    ) -> Result<ContainerId, ContainerError> {
        let draft = self.draft(id, sandbox, name, config, stage)?;
        let mut undo = Undo::default();
        match self.build(&draft, &mut undo).await {
            Ok(()) => Ok(draft.id),
            Err(failure) => {
                draft.stage.is("container removal after a failure");
                let leftovers = undo.roll_back().await;
                if leftovers.is_empty() {
                    return Err(failure);
                }
                Err(ContainerError::Leftovers { failure: Box::new(failure), leftovers })
            }
        }
    }

    fn draft(
        &self,
        id: ContainerId,
        sandbox: Arc<SandboxRecord>,
        name: String,
        config: ContainerConfig,
        stage: Stage,
    ) -> Result<Draft, ContainerError> {
        let persist_dir = self.store.container_dir(&id);
        let log_path = &config.log_path;
        let directory = &sandbox.config.log_directory;
        let log = match (directory.is_empty(), log_path.is_empty()) {
            // Nobody reads what a pod's own process says; it goes with it.
            _ if id == sandbox.id.of_infra() => persist_dir.join("infra.log"),
            (false, false) => PathBuf::from(directory).join(log_path),
            (false, true) => PathBuf::from(directory).join(format!("{id}.log")),
            (true, _) => self.settings.log_dir.join(id.as_str()).join(if log_path.is_empty() {
                "container.log"
            } else {
                log_path
            }),
        };
        Ok(Draft {
            bundle: self.store.container_run_dir(&id),
            persist_dir,
            log,
            labels: labels::of(&config, &sandbox, &self.settings)?,
            created: now(),
            id,
            name,
            config,
            sandbox,
            stage,
        })
    }

    async fn build(self: &Arc<Self>, draft: &Draft, undo: &mut Undo) -> Result<(), ContainerError> {
        self.ready_profile(&draft.config.security).await?;
        let prepared = self.prepare(draft, undo).await?;
        draft.stage.is("container runtime creation");
        let created = self
            .runtime
            .create(Create {
                id: draft.id.clone(),
                name: draft.name.clone(),
                handler: draft.sandbox.handler.clone(),
                bundle: draft.bundle.clone(),
                persist_dir: draft.persist_dir.clone(),
                log: draft.log.clone(),
                tty: draft.config.tty,
                stdin: draft.config.stdin,
                stdin_once: draft.config.stdin_once,
                cgroup_parent: draft.sandbox.config.cgroup_parent.clone(),
            })
            .await?;
        let (parts, id) = (Arc::clone(self), draft.id.clone());
        let (handler, parent) =
            (draft.sandbox.handler.clone(), draft.sandbox.config.cgroup_parent.clone());
        undo.push("delete the container from the runtime", async move {
            parts.runtime.delete(&handler, &id).await.map_err(|error| chain(&error))?;
            parts.runtime.forget(&id, &parent).await.map_err(|error| chain(&error))
        });
        let record = noted::record(draft, prepared, created.pid);
        self.records.containers.insert(&draft.id, record)?;
        // A sandbox that was stopped meanwhile has not seen this container. Its own process comes
        // before it is ready, and nobody can stop it then.
        let sandbox = self.records.sandboxes.by_id(&draft.sandbox.id);
        let takes = |sandbox: &SandboxRecord| sandbox.state == SandboxState::Ready;
        if !draft.is_infra() && !sandbox.is_some_and(|sandbox| takes(&sandbox)) {
            self.records.containers.remove(&draft.id)?;
            return Err(ContainerError::SandboxStopped(draft.sandbox.id.clone()));
        }
        Ok(())
    }

    /// Judges the image, makes the writable layer, mounts it, and writes the bundle.
    async fn prepare(
        self: &Arc<Self>,
        draft: &Draft,
        undo: &mut Undo,
    ) -> Result<Prepared, ContainerError> {
        draft.stage.is("container image check");
        let (parts, choice) = (Arc::clone(self), draft.config.image.clone());
        let asker = draft.asker(Event::Create);
        let mut judged = blocking(move || parts.judged_image(&choice, &asker)).await?;
        let asker = draft.asker(Event::Seccomp);
        judged.profile =
            self.artifact_profile(&draft.config, &draft.sandbox, &judged, asker).await?;

        let (store, id) = (self.store.clone(), draft.id.clone());
        let new = NewContainer {
            id: draft.id.clone(),
            names: vec![draft.name.clone()],
            image: judged.image.id.clone(),
            archives: judged.archives.clone(),
            metadata: noted::metadata(draft, &judged),
            mount_label: draft.labels.mount.clone(),
            id_map: id_map(&draft.sandbox),
        };
        let (parts, undo_id, log) = (Arc::clone(self), id.clone(), draft.log.clone());
        undo.push("remove the container from the store", async move {
            let (stored, runtime) = (undo_id.clone(), parts.runtime.clone());
            blocking(move || parts.forget_stored(&stored)).await.map_err(|error| chain(&error))?;
            // Its monitor may have told of its end meanwhile.
            runtime.remove_exit_event(&undo_id).map_err(|error| chain(&error))?;
            files::remove(&log).map_err(|error| error.to_string())
        });
        let (parts, input) = (Arc::clone(self), draft.clone());
        blocking(move || {
            input.stage.is("container storage creation");
            store.create_container(new)?;
            let user_namespace = match &input.sandbox.namespaces.user {
                Some(path) => Some(File::open(path).map_err(|source| ContainerError::File {
                    action: "open the user namespace",
                    path: path.clone(),
                    source,
                })?),
                None => None,
            };
            let rootfs = store.mount(&id, user_namespace.as_ref())?;
            input.stage.is("container spec configuration");
            parts.write_bundle(&input, judged, &rootfs)
        })
        .await
    }

    fn write_bundle(
        &self,
        draft: &Draft,
        judged: Judged,
        rootfs: &Path,
    ) -> Result<Prepared, ContainerError> {
        let accounts = facts::Accounts::read(rootfs)?;
        let user = accounts.resolve(&draft.config, &judged.run, &self.settings.defaults.env)?;
        let bundle = &draft.bundle;
        std::fs::create_dir_all(bundle).map_err(|source| ContainerError::File {
            action: "create",
            path: bundle.clone(),
            source,
        })?;
        let owner = id_map(&draft.sandbox).map_or(0, |map| map.host);
        let (passwd, group) = accounts.write(&user, bundle, owner)?;
        facts::prepare_log(&draft.log)?;
        let localtime = facts::localtime(self.settings.localtime.as_deref(), bundle)?;
        let files = MadeFiles {
            passwd: passwd.as_deref(),
            group: group.as_deref(),
            localtime: localtime.as_deref(),
        };
        let asker = draft.asker(Event::Volume);
        let mounts = self.find_mounts(&draft.config.mounts, &draft.id, &asker)?;
        let target = self.target(&draft.sandbox, &draft.config)?;
        let (own, devices) = self.extras(draft, &judged, rootfs, &user)?;
        let found = Found {
            devices: &devices,
            hooks: &hooks::read(&self.settings.hooks_dirs)?,
            mounts: &mounts.resolved,
            own_volumes: &own,
            files,
            target: target.as_ref(),
        };
        labels::volumes(
            &mounts.resolved,
            draft.labels.mount.as_deref(),
            &draft.config,
            &draft.sandbox,
            &self.settings,
        )?;
        let sandbox = &draft.sandbox;
        let shared = [sandbox.resolv_conf(), sandbox.hostname_file(), sandbox.containerenv()];
        let seen = shared.iter().map(PathBuf::as_path).chain(files.passwd).chain(files.group);
        let seen = seen.chain(files.localtime);
        let seen = seen.chain(found.own_volumes.iter().map(|volume| volume.source.as_path()));
        labels::label(seen, draft.labels.mount.as_deref())?;
        let spec = self.spec(draft, &judged, rootfs, &user, &found)?;
        noted::write_spec(draft, &spec)?;
        let asked = &draft.config.stop_signal;
        let own = judged.run.stop_signal.clone().unwrap_or_default();
        let mut groups = vec![user.gid];
        groups.extend(user.additional_gids.iter().filter(|gid| **gid != user.gid));
        Ok(Prepared {
            stop_signal: signal::name(if asked.is_empty() { &own } else { asked }),
            user: ContainerUser { uid: user.uid, gid: user.gid, groups },
            mounts: mounts.recorded,
            judged,
            _target: target,
        })
    }

    /// What a container gets besides what it asks for: its image's volumes, the node's secrets, and
    /// devices. A pod's own process gets none of them.
    fn extras(
        &self,
        draft: &Draft,
        judged: &Judged,
        rootfs: &Path,
        user: &ResolvedUser,
    ) -> Result<(Vec<MadeVolume>, devices::Found), ContainerError> {
        if draft.is_infra() {
            return Ok((Vec::new(), devices::Found::default()));
        }
        let (how, bundle) = (self.settings.image_volumes, &draft.bundle);
        let mut own = volumes::make(how, judged.run.volumes.as_ref(), (rootfs, bundle), user)?;
        let owner = id_map(&draft.sandbox).map_or(0, |map| map.host);
        let whose = secrets::Owner { root: owner, label: draft.labels.mount.as_deref() };
        own.extend(secrets::make(self.settings.default_mounts_file.as_deref(), bundle, whose));
        Ok((own, devices::find(&draft.config, &draft.sandbox, &self.settings)?))
    }

    /// Gathers the facts and makes the runtime spec of them.
    fn spec(
        &self,
        draft: &Draft,
        judged: &Judged,
        rootfs: &Path,
        user: &ResolvedUser,
        found: &Found<'_>,
    ) -> Result<Spec, ContainerError> {
        let (config, sandbox) = (&draft.config, &draft.sandbox);
        let pod = PodFacts::new(sandbox);
        let mut host = Cow::Borrowed(&self.settings.host);
        if config.security.privileged {
            host.to_mut().devices = devices::on_node(Path::new("/dev"));
        }
        let spec = crate::spec::container(&ContainerFacts {
            id: &draft.id,
            name: &draft.name,
            config,
            sandbox: &pod.facts(),
            image: &ImageFacts {
                run: &judged.run,
                id: &judged.image.id,
                name: &judged.image.name,
                repo_digests: &judged.repo_digests,
            },
            handler: &self.settings.handlers.get(&sandbox.handler).cloned().unwrap_or_default(),
            rootfs,
            user,
            defaults: &self.settings.defaults,
            host: &host,
            mounts: found.mounts,
            own_volumes: found.own_volumes,
            devices: &found.devices.devices,
            hooks: found.hooks,
            cdi: &found.devices.edits,
            seccomp_profile: facts::seccomp_profile(&config.security.seccomp)?.as_deref(),
            seccomp_artifact: judged.profile.as_ref().map(ArtifactProfile::parts),
            files: found.files,
            cgroups_path: &self.runtime.cgroups_path(&sandbox.config.cgroup_parent, &draft.id)?,
            target_pid: found.target.map(Target::path).as_deref(),
            log_path: &draft.log,
            created: &noted::moment(draft.created),
        })?;
        Ok(spec)
    }
}

fn fresh_id() -> Result<ContainerId, ContainerError> {
    ContainerId::fresh().map_err(|source| ContainerError::File {
        action: "read random bytes from",
        path: "/dev/urandom".into(),
        source,
    })
}

/// The ids of the sandbox's user namespace, where it has one.
fn id_map(sandbox: &SandboxRecord) -> Option<IdMap> {
    let map = sandbox.config.security.namespaces.user_namespace?;
    Some(IdMap { host: map.host_id, length: map.length })
}
