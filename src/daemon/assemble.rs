//! Builds every subsystem and hands each its own settings. The only place that builds objects.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;

use crate::artifacts::Artifacts;
use crate::audit::Audit;
use crate::catalog::Catalog;
use crate::config::Config;
use crate::config::MissingEvidence;
use crate::config::Values;
use crate::container;
use crate::container::Containers;
use crate::cri::node::Node;
use crate::daemon::error::DaemonError;
use crate::daemon::live;
use crate::daemon::pause_image;
use crate::daemon::profile_source;
use crate::daemon::settings;
use crate::image::Images;
use crate::image::Verifier;
use crate::judge::Finder;
use crate::judge::Judge;
use crate::judge::Remembering;
use crate::metrics::Metrics;
use crate::model::current::Current;
use crate::network::Network;
use crate::registry::Registry;
use crate::runtime::Runtime;
use crate::sandbox;
use crate::sandbox::Sandboxes;
use crate::state::Records;
use crate::storage::Store;

/// How many ends of containers may wait to be seen by one who waits.
const WAITING_EXITS: usize = 1024;

/// For how long "the registry has no signatures" is taken for true: the kubelet tries a container
/// that is refused again within seconds, for as long as it is there.
const ABSENT: Duration = Duration::from_secs(60);

/// The parts of a daemon.
#[derive(Debug, Clone)]
pub(super) struct Parts {
    pub(super) store: Store,
    pub(super) artifacts: Artifacts,
    pub(super) registry: Registry,
    pub(super) catalog: Arc<Catalog>,
    pub(super) records: Arc<Records>,
    pub(super) audit: Audit,
    pub(super) judge: Judge,
    pub(super) verifier: Verifier,
    pub(super) images: Arc<Images>,
    pub(super) containers: Arc<Containers>,
    pub(super) sandboxes: Arc<Sandboxes>,
    pub(super) node: Arc<Current<Node>>,
    /// Where the sandboxes' records lie.
    pub(super) sandbox_records: PathBuf,
    pub(super) metrics: Metrics,
}

/// Builds all parts.
pub(super) async fn assemble(
    config: &Config,
    values: &Values,
    warnings: Vec<String>,
) -> Result<Parts, DaemonError> {
    let store = Store::open(settings::store(config))?;
    let metrics = settings::metrics(config);
    let (sandbox_records, records) = keep_records(&store, &metrics);
    let (registry, artifacts, catalog) = look_up(config, &store)?;
    let audit = Audit::new(settings::audit(config));
    let runtime = Runtime::new(settings::runtime(config))?;
    let live = live::look((config, values), runtime, &store, &audit, warnings).await?;
    let judge = Judge::new(live.policies, audit.clone(), metrics.clone());
    let verifier = Verifier::new(registry.clone(), judge.clone());
    let images = Arc::new(images(&store, &artifacts, &catalog, &verifier));
    let containers = Arc::new(Containers::new(container::Parts {
        store: store.clone(),
        records: Arc::clone(&records),
        runtime: live.runtime.clone(),
        artifacts: artifacts.clone(),
        catalog: Arc::clone(&catalog),
        judge: judge.clone(),
        finder: finder(config, &verifier),
        profiles: Arc::new(profile_source::Puller(Arc::clone(&images))),
        settings: live.container,
        exited: broadcast::channel(WAITING_EXITS).0,
        stops: Arc::default(),
        metrics: metrics.clone(),
    }));
    let sandboxes = Arc::new(Sandboxes::new(sandbox::Parts {
        records: Arc::clone(&records),
        network: Network::new(settings::network(config, store.runroot()))?,
        runtime: live.runtime,
        containers: Arc::clone(&containers),
        pause: pause_image::source(config, values, &images),
        labelling: Arc::new(sandbox::Labelling::new(live.contexts)),
        metrics: metrics.clone(),
        settings: settings::sandbox(config, store.runroot(), sandbox_records.clone()),
    }));
    Ok(Parts {
        store,
        artifacts,
        registry,
        catalog,
        records,
        audit,
        judge,
        verifier,
        images,
        containers,
        sandboxes,
        node: Arc::new(Current::new(live.node)),
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
pub(super) fn finder(config: &Config, verifier: &Verifier) -> Option<Arc<dyn Finder>> {
    match config.image.on_missing_evidence {
        MissingEvidence::Refuse => None,
        MissingEvidence::Fetch => Some(Arc::new(Remembering::new(verifier.clone(), ABSENT))),
    }
}
