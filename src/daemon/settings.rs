//! From the configuration to each subsystem's own settings. Here the keys get their meaning.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::artifacts;
use crate::audit;
use crate::catalog::Pinned;
use crate::config::CgroupManager;
use crate::config::Config;
use crate::config::ImageVolumes;
use crate::config::MonitorCgroup;
use crate::config::PodMetrics;
use crate::config::RuntimeHandler;
use crate::config::ShortNameMode;
use crate::config::TlsVersion;
use crate::container;
use crate::container::PauseImage;
use crate::daemon::error::DaemonError;
use crate::daemon::protections::Apparmor;
use crate::daemon::reload;
use crate::judge;
use crate::metrics::Metrics;
use crate::model::container::Device;
use crate::model::stats::MetricGroup;
use crate::network;
use crate::registry;
use crate::runtime;
use crate::sandbox;
use crate::spec::capabilities::Inheritable;
use crate::spec::facts::Defaults;
use crate::spec::facts::HandlerFacts;
use crate::spec::facts::HostFacts;
use crate::spec::process::Ulimit;
use crate::spec::seccomp::Profile;
use crate::spec::selinux::Contexts;
use crate::state;
use crate::storage;
use crate::streaming;
use crate::streaming::TlsSettings;
use crate::sys::files;
use crate::sys::files::Links;

/// The policy where none is configured, as in the whole field.
const POLICY: &str = "/etc/containers/policy.json";
/// Where CNI results lie, shared with libcni.
const CNI_CACHE: &str = "/var/lib/cni/results";
/// How long a whole CNI chain may take; the kubelet waits four minutes.
const CNI_TIMEOUT: Duration = Duration::from_secs(220);
/// How long a pod waits for its network to be configured before the kubelet asks again.
const NETWORK_PATIENCE: Duration = Duration::from_secs(120);
/// How long containers of a stopped pod may take to end.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// How long a stream may stand still where nothing is configured, as in the whole field.
const STREAM_IDLE: Duration = Duration::from_secs(4 * 60 * 60);
/// The largest configured seccomp profile that is read, in bytes.
const PROFILE_LIMIT: u64 = 1024 * 1024;

pub(super) fn store(config: &Config) -> storage::Settings {
    storage::Settings {
        root: config.root.root.clone(),
        runroot: config.root.runroot.clone(),
        mount_options: config.root.mount_options(),
    }
}

pub(super) fn artifacts(config: &Config) -> artifacts::Settings {
    artifacts::Settings {
        root: config.root.root.clone(),
        runroot: config.root.runroot.clone(),
        additional: config.runtime.additional_artifact_stores.clone(),
    }
}

pub(super) fn records(store: &storage::Store, sandboxes: &Path) -> state::Settings {
    state::Settings {
        sandboxes: sandboxes.to_owned(),
        containers: store.root().join("overlay-containers"),
    }
}

pub(super) fn metrics(config: &Config) -> Metrics {
    let metrics = Metrics::new(&config.metrics.metrics_collectors);
    reload::count(&metrics, config);
    metrics
}

pub(super) fn registry(config: &Config) -> registry::Settings {
    let usual = registry::Settings::default();
    let progress = config.image.pull_progress_timeout;
    let given = &config.command;
    let mut auth_files: Vec<PathBuf> = config.image.global_auth_file.iter().cloned().collect();
    auth_files.extend(usual.auth_files.iter().cloned());
    let mut registries_d = usual.registries_d;
    // The reference looks in the home directory, and there is none for a service.
    if let Some(home) = std::env::var_os("HOME").filter(|home| !home.is_empty()) {
        registries_d.insert(0, PathBuf::from(home).join(".config/containers/registries.d"));
    }
    registry::Settings {
        registries_conf: given.registries_conf.clone().unwrap_or(usual.registries_conf),
        registries_conf_dir: given.registries_conf_dir.clone().unwrap_or(usual.registries_conf_dir),
        registries_d,
        auth_files,
        progress_timeout: if progress.is_zero() { usual.progress_timeout } else { progress },
        short_name_mode: match config.image.short_name_mode {
            ShortNameMode::Enforcing => registry::ShortNameMode::Enforcing,
            ShortNameMode::Disabled => registry::ShortNameMode::Disabled,
        },
        user_agent: format!(
            "cri-o/{} os/linux arch/{}",
            env!("CARGO_PKG_VERSION"),
            crate::oci::platform::Platform::host().architecture
        ),
        ..usual
    }
}

pub(super) fn streaming(config: &Config) -> streaming::Settings {
    let from = &config.api;
    let files = from.stream_tls_cert.clone().zip(from.stream_tls_key.clone());
    let tls = files.filter(|_| from.stream_enable_tls).map(|(certificate, key)| TlsSettings {
        serves: "streams",
        certificate,
        key,
        authority: from.stream_tls_ca.clone(),
        tls12: from.tls_min_version == TlsVersion::Tls12,
        cipher_suites: from.tls_cipher_suites.clone(),
    });
    streaming::Settings {
        address: from.stream_address.parse().ok(),
        port: from.stream_port.0,
        idle: from.stream_idle_timeout.unwrap_or(STREAM_IDLE),
        tls,
    }
}

/// TLS for metrics, if that is configured.
pub(super) fn metrics_tls(config: &Config) -> Option<TlsSettings> {
    let from = &config.metrics;
    let files = from.metrics_cert.clone().zip(from.metrics_key.clone());
    files.map(|(certificate, key)| TlsSettings {
        serves: "metrics",
        certificate,
        key,
        authority: None,
        tls12: config.api.tls_min_version == TlsVersion::Tls12,
        cipher_suites: config.api.tls_cipher_suites.clone(),
    })
}

pub(super) fn policies(config: &Config) -> judge::Settings {
    let from = &config.image;
    judge::Settings {
        global: from.signature_policy.clone().unwrap_or_else(|| PathBuf::from(POLICY)),
        namespaces: Some(from.signature_policy_dir.clone()),
        dry_run: from.signature_policy_dry_run.clone(),
        dry_run_namespaces: from.signature_policy_dry_run_dir.clone(),
    }
}

pub(super) fn audit(config: &Config) -> audit::Settings {
    let from = &config.audit;
    audit::Settings {
        file: from.audit_log.clone(),
        size_max: from.audit_log_size_max.0,
        count: from.audit_log_count,
        journal: from.audit_journald.then(|| PathBuf::from(audit::JOURNAL)),
        required: from.audit_required,
    }
}

pub(super) fn pinned(config: &Config) -> Pinned {
    let images = config.image.pinned_images.iter().cloned();
    Pinned::new(images.chain([config.image.pause_image.clone()]))
}

pub(super) fn network(config: &Config, runroot: &Path) -> network::Settings {
    let name = &config.network.cni_default_network;
    network::Settings {
        conf_dir: config.network.network_dir.clone(),
        plugin_dirs: config.network.plugin_dirs.clone(),
        default_network: (!name.is_empty()).then(|| name.clone()),
        cache_dir: PathBuf::from(CNI_CACHE),
        namespaces_dir: config.runtime.namespaces_dir.clone(),
        timeout: CNI_TIMEOUT,
        host_ports: !config.runtime.disable_hostport_mapping,
        localnet_note: runroot.join("crioxide").join("localnet"),
        tool_dirs: None,
    }
}

pub(super) fn runtime(config: &Config) -> runtime::Settings {
    let handlers: BTreeMap<String, runtime::Handler> = config
        .handlers
        .iter()
        .filter_map(|(name, handler)| Some((name.clone(), runtime_handler(handler)?)))
        .collect();
    runtime::Settings {
        handlers,
        default_handler: config.runtime.default_runtime.clone(),
        exits_dir: config.runtime.container_exits_dir.clone(),
        attach_dir: config.runtime.container_attach_socket_dir.clone(),
        cgroup_manager: match config.runtime.cgroup_manager {
            CgroupManager::Systemd => runtime::CgroupManager::Systemd,
            CgroupManager::Cgroupfs => runtime::CgroupManager::Cgroupfs,
        },
        log_size_max: config.runtime.log_size_max.0,
        no_pivot: config.runtime.no_pivot,
        journald: config.runtime.log_to_journald,
    }
}

fn runtime_handler(from: &RuntimeHandler) -> Option<runtime::Handler> {
    Some(runtime::Handler {
        runtime_path: from.path.clone()?,
        runtime_root: from.root.clone(),
        monitor_path: from.monitor.path.clone()?,
        monitor_cgroup: match &from.monitor.cgroup {
            MonitorCgroup::Node => String::new(),
            MonitorCgroup::Pod => "pod".to_owned(),
            MonitorCgroup::Slice(name) => name.clone(),
        },
        monitor_env: from
            .monitor
            .environment
            .iter()
            .map(|assignment| (assignment.name.clone(), assignment.value.clone()))
            .collect(),
        create_timeout: from.create_timeout,
        no_sync_log: from.table.no_sync_log,
    })
}

/// What the spec of a container takes from its handler, by the handler's name.
pub(super) fn handlers(config: &Config) -> Result<BTreeMap<String, HandlerFacts>, DaemonError> {
    let systemd_cgroups = config.runtime.cgroup_manager == CgroupManager::Systemd;
    config
        .handlers
        .iter()
        .map(|(name, handler)| {
            let facts = HandlerFacts {
                allowed_annotations: handler.table.allowed_annotations.clone(),
                privileged_without_host_devices: handler.table.privileged_without_host_devices,
                least_memory: i64::try_from(handler.table.container_min_memory.0).unwrap_or(0),
                seccomp: handler.table.seccomp_profile.as_deref().map(profile).transpose()?,
                systemd_cgroups,
                recursive_read_only: false,
                id_mapped_mounts: false,
            };
            Ok((name.clone(), facts))
        })
        .collect()
}

pub(super) fn sandbox(config: &Config, runroot: &Path, records: PathBuf) -> sandbox::Settings {
    sandbox::Settings {
        namespaces_dir: config.runtime.namespaces_dir.clone(),
        run_dir: runroot.join("crioxide").join("sandboxes"),
        records_dir: records,
        pause: PauseImage {
            image: config.image.pause_image.clone(),
            command: config.image.pause_command.clone(),
        },
        always_infra: !config.runtime.drop_infra_ctr,
        default_sysctls: config
            .runtime
            .default_sysctls
            .iter()
            .map(|assignment| (assignment.name.clone(), assignment.value.clone()))
            .collect(),
        allowed_annotations: config
            .handlers
            .iter()
            .map(|(name, handler)| (name.clone(), handler.table.allowed_annotations.clone()))
            .collect(),
        least_host_id: config
            .runtime
            .minimum_mappable_uid
            .max(config.runtime.minimum_mappable_gid)
            .unwrap_or(0),
        network_patience: NETWORK_PATIENCE,
        stop_patience: STOP_PATIENCE,
    }
}

pub(super) fn container(
    config: &Config,
    handlers: BTreeMap<String, HandlerFacts>,
    host: HostFacts,
    apparmor: Apparmor,
    selinux: Option<&Contexts>,
) -> Result<container::Settings, DaemonError> {
    Ok(container::Settings {
        log_dir: config.root.log_dir.clone(),
        defaults: Defaults { apparmor: apparmor.default, ..defaults(config)? },
        handlers,
        host,
        own_profile: apparmor.own_profile,
        artifact_mounts: config.image.oci_artifact_mount_support,
        image_volumes: match config.image.image_volumes {
            ImageVolumes::Mkdir => container::ImageVolumes::Mkdir,
            ImageVolumes::Bind => container::ImageVolumes::Bind,
            ImageVolumes::Ignore => container::ImageVolumes::Ignore,
        },
        allowed_devices: config
            .runtime
            .allowed_devices
            .iter()
            .map(|path| path.to_string_lossy().into_owned())
            .collect(),
        additional_devices: config.runtime.additional_devices.iter().map(device).collect(),
        default_mounts_file: config.runtime.default_mounts_file.clone(),
        localtime: localtime(&config.runtime.timezone)?,
        hooks_dirs: config.runtime.hooks_dir.clone(),
        cdi_spec_dirs: config.runtime.cdi_spec_dirs.clone(),
        absent_mount_sources_to_reject: config.runtime.absent_mount_sources_to_reject.clone(),
        bind_mount_prefix: config.runtime.bind_mount_prefix.clone(),
        shared_label: selinux.and_then(Contexts::shared).map(str::to_owned),
    })
}

/// The file of a time zone by its name; `Local` is that of the node.
fn localtime(zone: &str) -> Result<Option<PathBuf>, DaemonError> {
    if zone.is_empty() {
        return Ok(None);
    }
    let path = if zone.eq_ignore_ascii_case("local") {
        PathBuf::from("/etc/localtime")
    } else {
        Path::new("/usr/share/zoneinfo").join(zone)
    };
    let plain = !zone.starts_with('/') && !zone.split('/').any(|part| part == "..");
    let found = path.metadata().and_then(|found| match (plain, found.is_file()) {
        (true, true) => Ok(()),
        _ => Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is no time zone")),
    });
    found.map_err(|source| DaemonError::File { path: path.clone(), source })?;
    Ok(Some(path))
}

/// The groups of pod metrics that are given out.
pub(super) fn metric_groups(config: &Config) -> Arc<[MetricGroup]> {
    let every = [
        (PodMetrics::Cpu, MetricGroup::Cpu),
        (PodMetrics::Disk, MetricGroup::Disk),
        (PodMetrics::DiskIo, MetricGroup::DiskIo),
        (PodMetrics::Hugetlb, MetricGroup::Hugetlb),
        (PodMetrics::Memory, MetricGroup::Memory),
        (PodMetrics::Network, MetricGroup::Network),
        (PodMetrics::Oom, MetricGroup::Oom),
        (PodMetrics::Pressure, MetricGroup::Pressure),
        (PodMetrics::Process, MetricGroup::Process),
        (PodMetrics::Spec, MetricGroup::Spec),
    ];
    let wanted = &config.stats.included_pod_metrics;
    let is_wanted = |name| wanted.contains(&name) || wanted.contains(&PodMetrics::All);
    every.into_iter().filter(|(name, _)| is_wanted(*name)).map(|(_, group)| group).collect()
}

/// How often statistics are collected; `None` when someone asks.
pub(super) fn collection_period(config: &Config) -> Option<Duration> {
    let (new, old) = (config.stats.collection_period, config.stats.stats_collection_period);
    let seconds = if new > 0 { new } else { old };
    (seconds > 0).then(|| Duration::from_secs(seconds.into()))
}

/// What every container gets.
fn defaults(config: &Config) -> Result<Defaults, DaemonError> {
    let from = &config.runtime;
    let seccomp = from.seccomp_profile.as_deref();
    Ok(Defaults {
        capabilities: from
            .default_capabilities
            .iter()
            .map(|capability| capability.0.clone())
            .collect(),
        env: from
            .default_env
            .iter()
            .map(|assignment| (assignment.name.clone(), assignment.value.clone()))
            .collect(),
        ulimits: from.default_ulimits.iter().filter_map(ulimit).collect(),
        seccomp: match seccomp {
            // Configured and missing means the built-in one, so that an upgrade path works.
            Some(path) if path.exists() => profile(path)?,
            Some(_) | None => Profile::builtin(),
        },
        privileged_seccomp: from.privileged_seccomp_profile.as_deref().map(profile).transpose()?,
        read_only: from.read_only,
        inheritable: if from.add_inheritable_capabilities {
            Inheritable::All
        } else {
            Inheritable::Ambient
        },
        device_ownership_from_security_context: from.device_ownership_from_security_context,
        hostnetwork_disable_selinux: from.hostnetwork_disable_selinux,
        pids_limit: from.pids_limit.and_then(|limit| i64::try_from(limit).ok()).unwrap_or(0),
        ..Defaults::default()
    })
}

fn device(from: &crate::config::Device) -> Device {
    Device {
        container_path: from.container.to_string_lossy().into_owned(),
        host_path: from.host.to_string_lossy().into_owned(),
        permissions: from.permissions.clone(),
    }
}

fn ulimit(from: &crate::config::Ulimit) -> Option<Ulimit> {
    let kind = serde_json::from_value(serde_json::Value::String(from.name.clone())).ok()?;
    Some(Ulimit { kind, soft: from.soft, hard: from.hard })
}

fn profile(path: &Path) -> Result<Profile, DaemonError> {
    let bytes = files::read(path, PROFILE_LIMIT, Links::Follow)
        .map_err(|source| DaemonError::File { path: path.to_owned(), source })?;
    Profile::parse(&path.display().to_string(), &bytes)
        .map_err(|source| DaemonError::Seccomp { path: path.to_owned(), source })
}
