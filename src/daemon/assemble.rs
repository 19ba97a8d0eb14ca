//! Builds every subsystem and hands each its own settings. The only place that builds objects.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;

use crate::artifacts::Artifacts;
use crate::audit::Audit;
use crate::catalog::Catalog;
use crate::config::CgroupManager;
use crate::config::Config;
use crate::config::MissingEvidence;
use crate::config::Values;
use crate::container;
use crate::container::Containers;
use crate::cri::node::Node;
use crate::daemon::error::DaemonError;
use crate::daemon::host;
use crate::daemon::pause_image;
use crate::daemon::profile_source;
use crate::daemon::protections;
use crate::daemon::settings;
use crate::failure::chain;
use crate::image::Images;
use crate::image::Verifier;
use crate::judge::Finder;
use crate::judge::Judge;
use crate::judge::Remembering;
use crate::judge::Settings;
use crate::metrics::Metrics;
use crate::network::Network;
use crate::registry::Registry;
use crate::runtime::Runtime;
use crate::sandbox;
use crate::sandbox::Sandboxes;
use crate::spec::facts::HandlerFacts;
use crate::spec::wishes;
use crate::state::Records;
use crate::storage::Store;

/// How many ends of containers may wait to be seen by one who waits.
const WAITING_EXITS: usize = 1024;

/// For how long "the registry has no signatures" is taken for true: the kubelet tries a container
/// that is refused again within seconds, for as long as it is there.
const ABSENT: Duration = Duration::from_secs(60);

/// The parts of a daemon.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) store: Store,
    pub(super) artifacts: Artifacts,
    pub(super) records: Arc<Records>,
    pub(super) runtime: Runtime,
    pub(super) images: Arc<Images>,
    pub(super) containers: Arc<Containers>,
    pub(super) sandboxes: Arc<Sandboxes>,
    pub(super) node: Node,
    /// Where the sandboxes' records lie.
    pub(super) sandbox_records: PathBuf,
    pub(super) metrics: Metrics,
}

/// Builds all parts.
pub(super) async fn assemble(
    config: &Config,
    values: &Values,
    mut warnings: Vec<String>,
) -> Result<Parts, DaemonError> {
    let (mut host, mut found) = host::look();
    let apparmor = protections::apparmor(config, &host).await?;
    let (contexts, warning) = protections::selinux(config, &mut host);
    found.extend(apparmor.warning.iter().cloned().chain(warning));
    warnings.extend(found.into_iter().inspect(|warning| tracing::warn!("{warning}")));
    let store = Store::open(settings::store(config))?;
    let metrics = settings::metrics(config);
    let (sandbox_records, records) = keep_records(&store, &metrics);
    let (registry, artifacts, catalog) = look_up(config, &store)?;
    let audit = Audit::new(settings::audit(config));
    warnings.extend(look_at_audit(&audit)?);
    let judge = Judge::new(settings::policies(config), audit, metrics.clone());
    warnings.extend(look_at_policy(&judge, &metrics));
    let policies = judge.settings().clone();
    let runtime = Runtime::new(settings::runtime(config))?;
    let mut handlers = settings::handlers(config)?;
    let user_namespaces = look_at_handlers(&mut handlers, &runtime, &store).await?;
    let recursive_read_only = with_recursive_read_only(&handlers);
    warnings.extend(look_at_hooks(config, &handlers)?);
    let verifier = Verifier::new(registry, judge.clone());
    let images = Arc::new(images(&store, &artifacts, &catalog, &verifier));
    let containers = Arc::new(Containers::new(container::Parts {
        store: store.clone(),
        records: Arc::clone(&records),
        runtime: runtime.clone(),
        artifacts: artifacts.clone(),
        catalog,
        judge,
        finder: finder(config, &verifier),
        profiles: Arc::new(profile_source::Puller(Arc::clone(&images))),
        settings: settings::container(config, handlers, host, apparmor, contexts.as_ref())?,
        exited: broadcast::channel(WAITING_EXITS).0,
        stops: Arc::default(),
        metrics: metrics.clone(),
    }));
    let sandboxes = Arc::new(Sandboxes::new(sandbox::Parts {
        records: Arc::clone(&records),
        network: Network::new(settings::network(config, store.runroot()))?,
        runtime: runtime.clone(),
        containers: Arc::clone(&containers),
        pause: pause_image::source(config, values, &images),
        labelling: sandbox::Labelling::new(contexts),
        metrics: metrics.clone(),
        settings: settings::sandbox(config, store.runroot(), sandbox_records.clone()),
    }));
    let (known, config) = (runtime.handlers(), (config, values));
    let node = node(config, policies, known, recursive_read_only, user_namespaces, warnings);
    Ok(Parts {
        store,
        artifacts,
        records,
        runtime,
        images,
        containers,
        sandboxes,
        node,
        sandbox_records,
        metrics,
    })
}

/// The records, and where those of sandboxes lie.
fn keep_records(store: &Store, metrics: &Metrics) -> (PathBuf, Arc<Records>) {
    let of_sandboxes = store.root().join("crioxide").join("sandboxes");
    let records = Records::new(settings::records(store, &of_sandboxes), metrics.clone());
    (of_sandboxes, Arc::new(records))
}

/// The registries, the artifacts of the node, and what of them and the images is here by which name.
fn look_up(
    config: &Config,
    store: &Store,
) -> Result<(Registry, Artifacts, Arc<Catalog>), DaemonError> {
    let registry = Registry::new(settings::registry(config))?;
    let artifacts = Artifacts::open(&settings::artifacts(config))?;
    let pinned = settings::pinned(config);
    let catalog = Catalog::new(store.clone(), registry.clone(), artifacts.clone(), pinned);
    Ok((registry, artifacts, Arc::new(catalog)))
}

/// The use cases on images over these parts, which others work with too.
fn images(
    store: &Store,
    artifacts: &Artifacts,
    catalog: &Arc<Catalog>,
    verifier: &Verifier,
) -> Images {
    Images::new(store.clone(), artifacts.clone(), Arc::clone(catalog), verifier.clone())
}

/// Who looks up the evidence of images that came without, if anyone is to.
fn finder(config: &Config, verifier: &Verifier) -> Option<Arc<dyn Finder>> {
    match config.image.on_missing_evidence {
        MissingEvidence::Refuse => None,
        MissingEvidence::Fetch => Some(Arc::new(Remembering::new(verifier.clone(), ABSENT))),
    }
}

/// What the node says of itself.
fn node(
    (config, values): (&Config, &Values),
    policies: Settings,
    handlers: Vec<String>,
    recursive_read_only: Vec<String>,
    user_namespaces: Vec<String>,
    warnings: Vec<String>,
) -> Node {
    Node {
        systemd_cgroups: config.runtime.cgroup_manager == CgroupManager::Systemd,
        handlers,
        recursive_read_only,
        user_namespaces,
        default_handler: config.runtime.default_runtime.clone(),
        pause_image: config.image.pause_image.clone(),
        configuration: crate::config::inspect(config, values),
        policy: policies.global,
        dry_run: policies.dry_run.into_iter().chain(policies.dry_run_namespaces).collect(),
        warnings,
    }
}

/// Asks the runtimes what they can do; gives the handlers that can give a pod users of its own.
async fn look_at_handlers(
    handlers: &mut BTreeMap<String, HandlerFacts>,
    runtime: &Runtime,
    store: &Store,
) -> Result<Vec<String>, DaemonError> {
    let mut user_namespaces = Vec::new();
    for (name, facts) in handlers {
        let features = runtime.features(name).await?;
        facts.recursive_read_only = features.recursive_read_only_mounts;
        facts.id_mapped_mounts = features.user_namespaces;
        if features.user_namespaces {
            user_namespaces.push(name.clone());
        }
    }
    if !user_namespaces.is_empty()
        && let Err(error) = store.can_map_owners()
    {
        tracing::info!(error = chain(&error), "pods cannot have user namespaces of their own");
        user_namespaces.clear();
    }
    Ok(user_namespaces)
}

/// The handlers whose mounts can be read-only recursively.
fn with_recursive_read_only(handlers: &BTreeMap<String, HandlerFacts>) -> Vec<String> {
    let able = handlers.iter().filter(|(_, facts)| facts.recursive_read_only);
    able.map(|(name, _)| name.clone()).collect()
}

/// Reads the hooks, for a fault is better known now than at the first container; gives the
/// annotations that handlers allow and that mean nothing here.
fn look_at_hooks(
    config: &Config,
    handlers: &BTreeMap<String, HandlerFacts>,
) -> Result<Vec<String>, DaemonError> {
    container::hooks(&config.runtime.hooks_dir).map_err(DaemonError::Hook)?;
    let of = |(name, facts): (&String, &HandlerFacts)| {
        let keys: Vec<&str> = facts
            .allowed_annotations
            .iter()
            .map(String::as_str)
            .filter(|key| wishes::NOT_BUILT.contains(key))
            .collect();
        let keys = (!keys.is_empty()).then(|| keys.join(", "))?;
        Some(format!("runtime handler {name} allows annotations that are not built: {keys}"))
    };
    let warnings: Vec<String> = handlers.iter().filter_map(of).collect();
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    Ok(warnings)
}

/// Says aloud what the policy means for this node, at a time when somebody looks.
fn look_at_policy(judge: &Judge, metrics: &Metrics) -> Vec<String> {
    let path = judge.settings().global.display();
    let mut warnings = match judge.policy(None) {
        Err(error) => vec![chain(&error)],
        Ok(policy) => {
            let mut found: Vec<String> =
                policy.faults().iter().map(|fault| format!("the policy {path}: {fault}")).collect();
            if policy.accepts_anything_by_default() {
                found.push(format!(
                    "the policy {path} accepts any image by default; stricter ones are in \
                     /usr/share/crioxide/policy"
                ));
            }
            found
        }
    };
    let Settings { dry_run, dry_run_namespaces, .. } = judge.settings();
    metrics.dry_run(dry_run.is_some() || dry_run_namespaces.is_some());
    for place in dry_run.iter().chain(dry_run_namespaces) {
        warnings.push(format!(
            "the policy {} is tried in a dry run: what it would refuse is recorded, and runs",
            place.display()
        ));
    }
    warnings.extend(judge.dry_run(None).and_then(Result::err).map(|error| chain(&error)));
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    warnings
}

/// Looks whether the account can be kept; where it must be, there is no daemon without.
fn look_at_audit(audit: &Audit) -> Result<Option<String>, DaemonError> {
    let Err(error) = audit.look() else { return Ok(None) };
    if audit.is_required() {
        return Err(error.into());
    }
    let warning = chain(&error);
    tracing::error!("{warning}");
    Ok(Some(warning))
}
