//! From values that are right one by one to a configuration that is right as a whole.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::error::ConfigError;
use super::error::Warning;
use super::handlers;
use super::handlers::RuntimeHandler;
use super::layers::Values;
use super::tables::Api;
use super::tables::Audit;
use super::tables::Checkpoint;
use super::tables::Command;
use super::tables::Image;
use super::tables::Metrics;
use super::tables::Network;
use super::tables::Nri;
use super::tables::NriValidator;
use super::tables::Root;
use super::tables::Runtime;
use super::tables::Stats;
use super::tables::Tracing;
use super::tables::Workload;
use super::tables::WorkloadResources;
use super::types::CheckpointLevel;
use super::value::Value;
use crate::oci::reference::Reference;

/// The configuration of the daemon.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// What only flags say.
    pub command: Command,
    /// Where things lie.
    pub root: Root,
    /// How the daemon is reached.
    pub api: Api,
    /// How containers are run.
    pub runtime: Runtime,
    /// The runtime handlers by name; the default runtime is among them.
    pub handlers: BTreeMap<String, RuntimeHandler>,
    /// The workloads by name.
    pub workloads: BTreeMap<String, (Workload, WorkloadResources)>,
    /// Checkpoint and restore.
    pub checkpoint: Checkpoint,
    /// Images, and who may vouch for them.
    pub image: Image,
    /// The networks of pods.
    pub network: Network,
    /// Metrics.
    pub metrics: Metrics,
    /// The account of what the policy was asked.
    pub audit: Audit,
    /// Traces.
    pub tracing: Tracing,
    /// Statistics.
    pub stats: Stats,
    /// Plugins of the node resource interface.
    pub nri: Nri,
    /// The check of what these plugins change.
    pub nri_validator: NriValidator,
}

impl Config {
    pub(super) fn check(
        values: &Values,
        command: Command,
        search_path: &[PathBuf],
        warnings: &mut Vec<Warning>,
    ) -> Result<Self, ConfigError> {
        let runtime = runtime(values, warnings)?;
        let mut found = BTreeMap::new();
        for name in values.handlers() {
            let handler = handlers::resolve(name, &runtime, values, search_path, warnings)?;
            found.insert(name.to_owned(), handler);
        }
        Ok(Self {
            command,
            root: root(values)?,
            api: api(values)?,
            handlers: found,
            workloads: workloads(values)?,
            checkpoint: checkpoint(values, &runtime)?,
            runtime,
            image: image(values)?,
            network: network(values)?,
            metrics: metrics(values)?,
            audit: audit(values, warnings)?,
            tracing: Tracing::read(values, Tracing::TABLE)?,
            stats: Stats::read(values, Stats::TABLE)?,
            nri: Nri::read(values, Nri::TABLE)?,
            nri_validator: NriValidator::read(values, NriValidator::TABLE)?,
        })
    }

    /// Leaves out the handlers that cannot be used on this node, and says so.
    ///
    /// # Errors
    ///
    /// [`ConfigError::DefaultRuntime`] when the default runtime is one of them.
    pub fn leave_out_unusable(&mut self) -> Result<Vec<Warning>, ConfigError> {
        let mut warnings = Vec::new();
        for (name, handler) in &self.handlers {
            let Some(reason) = handler.unusable() else { continue };
            let name = name.clone();
            if name == self.runtime.default_runtime {
                return Err(ConfigError::DefaultRuntime { name, reason });
            }
            warnings.push(Warning::Handler { name, reason });
        }
        self.handlers.retain(|_, handler| handler.unusable().is_none());
        Ok(warnings)
    }
}

impl Root {
    /// The mount options of an option of the storage driver, if it holds these.
    pub(super) fn mount_option(option: &str) -> Option<&str> {
        option.strip_prefix("overlay.mountopt=").or_else(|| option.strip_prefix(".mountopt="))
    }

    /// The options that every overlay mount of the store gets.
    #[must_use]
    pub fn mount_options(&self) -> Vec<String> {
        let last = self.storage_option.iter().rev().find_map(|option| Self::mount_option(option));
        let parts = last.unwrap_or_default().split(',').map(str::trim);
        parts.filter(|part| !part.is_empty()).map(str::to_owned).collect()
    }
}

fn root(values: &Values) -> Result<Root, ConfigError> {
    let root = Root::read(values, Root::TABLE)?;
    match root.storage_driver.as_str() {
        "overlay" | "overlay2" => Ok(root),
        other => Err(values.fault(
            Root::TABLE,
            "storage_driver",
            &Value::Text(other.to_owned()),
            "\"overlay\", the only storage driver that is supported",
        )),
    }
}

fn api(values: &Values) -> Result<Api, ConfigError> {
    let api = Api::read(values, Api::TABLE)?;
    // A name here would mean "everywhere" to the reference, which nobody who writes one expects.
    if !api.stream_address.is_empty() && api.stream_address.parse::<std::net::IpAddr>().is_err() {
        return Err(values.fault(
            Api::TABLE,
            "stream_address",
            &Value::Text(api.stream_address),
            "an IP address, or nothing for all addresses",
        ));
    }
    if api.stream_enable_tls {
        let place = values.source(Api::TABLE, "stream_enable_tls");
        let because = "crio.api.stream_enable_tls";
        let keys =
            [("stream_tls_cert", &api.stream_tls_cert), ("stream_tls_key", &api.stream_tls_key)];
        for (key, value) in keys {
            if value.is_none() {
                return Err(ConfigError::Missing { place, because, key });
            }
        }
    }
    Ok(api)
}

fn metrics(values: &Values) -> Result<Metrics, ConfigError> {
    let metrics = Metrics::read(values, Metrics::TABLE)?;
    let (because, key, set) = match (&metrics.metrics_cert, &metrics.metrics_key) {
        (Some(_), None) => ("crio.metrics.metrics_cert", "metrics_key", "metrics_cert"),
        (None, Some(_)) => ("crio.metrics.metrics_key", "metrics_cert", "metrics_key"),
        (Some(_), Some(_)) | (None, None) => return Ok(metrics),
    };
    // The reference serves without TLS then, which nobody who names a certificate expects.
    Err(ConfigError::Missing { place: values.source(Metrics::TABLE, set), because, key })
}

fn runtime(values: &Values, warnings: &mut Vec<Warning>) -> Result<Runtime, ConfigError> {
    let mut runtime = Runtime::read(values, Runtime::TABLE)?;
    if runtime.default_runtime.is_empty() {
        "runc".clone_into(&mut runtime.default_runtime);
    }
    if !values.handlers().any(|name| name == runtime.default_runtime) {
        return Err(ConfigError::NoSuchRuntime {
            place: values.source(Runtime::TABLE, "default_runtime"),
            name: runtime.default_runtime,
        });
    }
    let seconds = &mut runtime.ctr_stop_timeout;
    at_least(30, seconds, values, Runtime::TABLE, "ctr_stop_timeout", warnings);
    Ok(runtime)
}

/// An account in files that hold next to nothing loses what it is for: the oldest go at once.
fn audit(values: &Values, warnings: &mut Vec<Warning>) -> Result<Audit, ConfigError> {
    const LEAST: u32 = 64 * 1024;
    let mut audit = Audit::read(values, Audit::TABLE)?;
    let mut size = u32::try_from(audit.audit_log_size_max.0).unwrap_or(u32::MAX);
    at_least(LEAST, &mut size, values, Audit::TABLE, "audit_log_size_max", warnings);
    audit.audit_log_size_max.0 = audit.audit_log_size_max.0.max(u64::from(LEAST));
    Ok(audit)
}

fn checkpoint(values: &Values, runtime: &Runtime) -> Result<Checkpoint, ConfigError> {
    let mut checkpoint = Checkpoint::read(values, Checkpoint::TABLE)?;
    if !runtime.enable_criu_support {
        checkpoint.container_level_enabled = CheckpointLevel::None;
    }
    Ok(checkpoint)
}

fn image(values: &Values) -> Result<Image, ConfigError> {
    let image = Image::read(values, Image::TABLE)?;
    let fault = |key, text: &str, wanted| {
        Err(values.fault(Image::TABLE, key, &Value::Text(text.to_owned()), wanted))
    };
    if !matches!(image.default_transport.as_str(), "docker://" | "") {
        return fault("default_transport", &image.default_transport, "\"docker://\"");
    }
    if Reference::parse_normalized(&image.pause_image).is_err() {
        return fault("pause_image", &image.pause_image, "an image reference");
    }
    Ok(image)
}

fn network(values: &Values) -> Result<Network, ConfigError> {
    let mut network = Network::read(values, Network::TABLE)?;
    network.plugin_dirs.extend(network.plugin_dir.take());
    Ok(network)
}

fn workloads(
    values: &Values,
) -> Result<BTreeMap<String, (Workload, WorkloadResources)>, ConfigError> {
    let mut found = BTreeMap::new();
    for name in values.workloads() {
        let at = |table: &str| table.replace('*', name);
        let workload = Workload::read(values, &at(Workload::TABLE))?;
        let resources = WorkloadResources::read(values, &at(WorkloadResources::TABLE))?;
        found.insert(name.to_owned(), (workload, resources));
    }
    Ok(found)
}

/// Raises a number to the least that is used, and says so.
pub(super) fn at_least(
    least: u32,
    number: &mut u32,
    values: &Values,
    table: &str,
    name: &str,
    warnings: &mut Vec<Warning>,
) {
    if *number < least {
        *number = least;
        let (place, key) = (values.source(table, name), format!("{table}.{name}"));
        warnings.push(Warning::Raised { place, key, used: least });
    }
}
