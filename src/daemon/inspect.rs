//! Answers plain HTTP on the daemon's own socket: what CRI-O's socket tells cAdvisor and `crio status`.
//!
//! `/info`, `/config` and `/containers/ID`, with CRI-O's names, and `/pause/ID` and `/unpause/ID`, which the
//! CRI has no word for. Everything else that changes something goes through the CRI.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::extract::Request;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::get;
use serde::Serialize;

use crate::config::CgroupManager;
use crate::config::Config;
use crate::container::ContainerError;
use crate::container::Containers;
use crate::cri::node::Node;
use crate::cri::node::Reload;
use crate::daemon::assemble::Parts;
use crate::failure::Classify;
use crate::failure::Kind;
use crate::failure::chain;
use crate::model::container::ContainerState;
use crate::model::current::Current;
use crate::sandbox::Sandboxes;
use crate::state::ContainerRecord;
use crate::state::SandboxRecord;

/// What is asked.
#[derive(Debug)]
pub(super) struct Inspect {
    containers: Arc<Containers>,
    sandboxes: Arc<Sandboxes>,
    info: Info,
    node: Arc<Current<Node>>,
    /// A directory that is there and has nothing in it.
    bare: PathBuf,
    /// The configuration as a file.
    config: Arc<Current<String>>,
}

/// The daemon, in CRI-O's words.
#[derive(Debug, Clone, Serialize)]
struct Info {
    storage_driver: String,
    storage_root: String,
    storage_image: String,
    cgroup_driver: &'static str,
    default_id_mappings: IdMappings,
    /// The policy of pods whose namespace has none of its own.
    policy: PathBuf,
    /// The policies that are tried in a dry run.
    policy_dry_run: Vec<PathBuf>,
    /// What an administrator should know.
    warnings: Vec<String>,
    /// What came of the last reload of the configuration.
    reload: Option<Reload>,
}

/// Users of all pods that have none of their own: the node's.
#[derive(Debug, Clone, Serialize)]
struct IdMappings {
    uids: [IdMap; 1],
    gids: [IdMap; 1],
}

#[derive(Debug, Clone, Serialize)]
struct IdMap {
    container_id: u32,
    host_id: u32,
    size: u32,
}

const SAME: IdMap = IdMap { container_id: 0, host_id: 0, size: u32::MAX };

/// A container, in CRI-O's words.
#[derive(Debug, Serialize)]
struct Container<'a> {
    name: &'a str,
    pid: i32,
    image: &'a str,
    image_ref: &'a str,
    created_time: i64,
    labels: &'a BTreeMap<String, String>,
    annotations: &'a BTreeMap<String, String>,
    crio_annotations: BTreeMap<String, String>,
    log_path: String,
    root: String,
    sandbox: &'a str,
    ip_addresses: &'a [IpAddr],
    host_network: bool,
}

/// The routes.
pub(super) fn routes(config: &Config, text: Arc<Current<String>>, parts: &Parts) -> Router {
    let driver = match config.runtime.cgroup_manager {
        CgroupManager::Systemd => "systemd",
        CgroupManager::Cgroupfs => "cgroupfs",
    };
    let info = Info {
        storage_driver: config.root.storage_driver.clone(),
        storage_root: parts.store.root().display().to_string(),
        storage_image: String::new(),
        cgroup_driver: driver,
        default_id_mappings: IdMappings { uids: [SAME], gids: [SAME] },
        policy: PathBuf::new(),
        policy_dry_run: Vec::new(),
        warnings: Vec::new(),
        reload: None,
    };
    let bare = parts.store.root().join("crioxide").join("bare");
    if let Err(error) = std::fs::create_dir_all(bare.join("diff")) {
        tracing::warn!(path = %bare.display(), %error, "cAdvisor will not count the network of pods");
    }
    let inspect = Inspect {
        bare,
        containers: Arc::clone(&parts.containers),
        sandboxes: Arc::clone(&parts.sandboxes),
        info,
        node: Arc::clone(&parts.node),
        config: text,
    };
    Router::new()
        .route("/info", get(info_of))
        .route("/config", get(config_of))
        .route("/containers/{id}", get(container_of))
        .route("/pause/{id}", get(pause))
        .route("/unpause/{id}", get(unpause))
        .with_state(Arc::new(inspect))
}

async fn info_of(State(inspect): State<Arc<Inspect>>) -> Response {
    let node = inspect.node.now();
    json(&Info {
        policy: node.policy.clone(),
        policy_dry_run: node.dry_run.clone(),
        warnings: node.warnings.clone(),
        reload: node.reload.clone(),
        ..inspect.info.clone()
    })
}

async fn config_of(State(inspect): State<Arc<Inspect>>) -> Response {
    let text = inspect.config.now().as_ref().clone();
    ([("content-type", "application/toml")], text).into_response()
}

async fn container_of(State(inspect): State<Arc<Inspect>>, Path(id): Path<String>) -> Response {
    let record = match inspect.containers.find(&id) {
        Ok(record) => record,
        Err(error) => {
            let pod = inspect.sandboxes.find(&id).ok();
            return pod.map_or_else(|| refused(&error), |pod| json(&inspect.pod(&pod)));
        }
    };
    let spec = inspect.containers.spec_text(&record).await.unwrap_or_default();
    json(&inspect.container(&record, &spec))
}

/// What is asked for and is not there. The library would answer that a call of gRPC is not known, which
/// is no error to a client of plain HTTP.
pub(super) async fn unknown(request: Request) -> Response {
    let kind = request.headers().get("content-type").and_then(|kind| kind.to_str().ok());
    if kind.is_some_and(|kind| kind.starts_with("application/grpc")) {
        return tonic::Status::unimplemented("").into_http::<axum::body::Body>();
    }
    (StatusCode::NOT_FOUND, "404 page not found\n").into_response()
}

async fn pause(State(inspect): State<Arc<Inspect>>, Path(id): Path<String>) -> Response {
    done(&id, "paused", inspect.containers.pause(&id).await)
}

async fn unpause(State(inspect): State<Arc<Inspect>>, Path(id): Path<String>) -> Response {
    done(&id, "unpaused", inspect.containers.unpause(&id).await)
}

/// Says what became of a change, and keeps it in the log: no other client hears of it.
fn done(id: &str, what: &'static str, outcome: Result<(), ContainerError>) -> Response {
    match outcome {
        Ok(()) => {
            tracing::info!(container = id, "{what} over the socket's plain HTTP");
            ([("content-type", "text/html")], "200 OK").into_response()
        }
        Err(error) => refused(&error),
    }
}

fn refused(error: &ContainerError) -> Response {
    let code = match error.kind() {
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::WrongState => StatusCode::CONFLICT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (code, chain(error)).into_response()
}

fn json(value: &impl Serialize) -> Response {
    match serde_json::to_string(value) {
        Ok(text) => ([("content-type", "application/json")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

impl Inspect {
    /// What is said of a pod by the id of its own process, whether it has one or not. cAdvisor knows
    /// it by the name POD, and takes what its processes use of the network from the process that is
    /// named. It looks for a layer beside the root, and for a pod without one gives up.
    fn pod(&self, record: &SandboxRecord) -> serde_json::Value {
        let mut labels = record.config.labels.clone();
        labels.insert("io.kubernetes.container.name".to_owned(), "POD".to_owned());
        let metadata = &record.config.metadata;
        let containers = self.containers.list();
        let inside = containers.iter().filter(|container| container.sandbox == record.id);
        let mut running = inside.filter(|container| container.state == ContainerState::Running);
        let pid = match record.infra {
            Some(infra) => infra.pid,
            None => running.next().map_or(0, |container| container.pid),
        };
        serde_json::json!(Container {
            name: &metadata.full_name().replacen("k8s_", "k8s_POD_", 1),
            pid,
            image: "",
            image_ref: "",
            created_time: record.created,
            labels: &labels,
            annotations: &record.config.annotations,
            crio_annotations: BTreeMap::new(),
            log_path: String::new(),
            root: self.bare.join("merged").display().to_string(),
            sandbox: record.id.as_str(),
            ip_addresses: &record.ips,
            host_network: record.namespaces.net.is_none(),
        })
    }

    /// What is said of a container, whose runtime spec is this.
    fn container(&self, record: &ContainerRecord, spec: &str) -> serde_json::Value {
        let spec: serde_json::Value = serde_json::from_str(spec).unwrap_or_default();
        let text = |pointer: &str| spec.pointer(pointer).and_then(|value| value.as_str());
        let annotations = spec.get("annotations").and_then(|value| value.as_object());
        let crio_annotations = annotations.into_iter().flatten();
        let sandbox = self.sandboxes.find(record.sandbox.as_str()).ok();
        let (ips, host_network) = match &sandbox {
            Some(sandbox) => (sandbox.ips.as_slice(), sandbox.namespaces.net.is_none()),
            None => (&[] as &[IpAddr], false),
        };
        serde_json::json!(Container {
            name: &record.name,
            pid: record.pid,
            image: &record.image.name,
            image_ref: &record.image.reference,
            created_time: record.created,
            labels: &record.config.labels,
            annotations: &record.config.annotations,
            crio_annotations: crio_annotations
                .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
                .collect(),
            log_path: record.log.display().to_string(),
            root: text("/root/path").unwrap_or_default().to_owned(),
            sandbox: record.sandbox.as_str(),
            ip_addresses: ips,
            host_network,
        })
    }
}
