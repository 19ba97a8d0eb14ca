//! The `[crio.metrics]`, `[crio.audit]`, `[crio.tracing]` and `[crio.stats]` tables: what others see.

use std::path::PathBuf;

use crate::config::key::LATER;
use crate::config::key::NOW;
use crate::config::key::table;
use crate::config::types::ByteSize;
use crate::config::types::PodMetrics;
use crate::config::types::Port;
use crate::config::value::Fallback::Bool;
use crate::config::value::Fallback::Integer;
use crate::config::value::Fallback::List;
use crate::config::value::Fallback::Text;

const COLLECTORS: &[&str] = &[
    "image_pulls_layer_size",
    "containers_events_dropped_total",
    "containers_oom_total",
    "processes_defunct",
    "operations_total",
    "operations_latency_seconds",
    "operations_latency_seconds_total",
    "operations_errors_total",
    "image_pulls_bytes_total",
    "image_pulls_skipped_bytes_total",
    "image_pulls_failure_total",
    "image_pulls_success_total",
    "image_layer_reuse_total",
    "containers_oom_count_total",
    "containers_seccomp_notifier_count_total",
    "resources_stalled_at_stage",
    "containers_stopped_monitor_count",
    "default_runtime",
    // CRI-O has none of these.
    "policy_verdicts_total",
    "policy_verification_seconds",
    "policy_dry_run",
    "audit_failures_total",
];

table! {
    /// Metrics for Prometheus.
    Metrics = "crio.metrics" {
        /// Serves metrics.
        enable_metrics: bool = Bool(false), NOW;
        /// Which metrics there are.
        metrics_collectors: Vec<String> = List(COLLECTORS), NOW;
        /// The address on which metrics are served.
        metrics_host: String = Text("127.0.0.1"), NOW;
        /// The port on which metrics are served.
        metrics_port: Port = Integer(9090), NOW;
        /// A unix socket on which metrics are served too.
        metrics_socket: Option<PathBuf> = Text(""), NOW;
        /// The certificate of the metrics server, which then speaks TLS on its address (not on the
        /// socket). It is read again when it changes; where neither it nor its key is there, both are
        /// made, signed by nobody.
        metrics_cert: Option<PathBuf> = Text(""), NOW;
        /// The key of the metrics server.
        metrics_key: Option<PathBuf> = Text(""), NOW;
    }
}

table! {
    /// The account of what the policy was asked. CRI-O has no such table.
    Audit = "crio.audit" {
        /// The file of audit records, one line of JSON for each pull and each create that was judged;
        /// empty writes none. CRI-O has no such key.
        audit_log: Option<PathBuf> = Text("/var/log/crio/audit.log"), NOW;
        /// The size at which the audit log is put aside, at least 64KiB. CRI-O has no such key.
        audit_log_size_max: ByteSize = Text("16MiB"), NOW;
        /// How many audit logs that were put aside are kept. CRI-O has no such key.
        audit_log_count: u32 = Integer(8), NOW;
        /// Sends audit records to journald too, where there is one. CRI-O has no such key.
        audit_journald: bool = Bool(true), NOW;
        /// Refuses what cannot be put on record. CRI-O has no such key.
        audit_required: bool = Bool(false), NOW;
    }
}

table! {
    /// Traces for OpenTelemetry.
    Tracing = "crio.tracing" {
        /// Sends traces.
        enable_tracing: bool = Bool(false), LATER;
        /// Where traces are sent.
        tracing_endpoint: String = Text("127.0.0.1:4317"), LATER;
        /// How many of a million requests are traced.
        tracing_sampling_rate_per_million: u32 = Integer(0), LATER;
    }
}

table! {
    /// Statistics of pods and containers.
    Stats = "crio.stats" {
        /// The seconds between two collections; 0 collects when asked. The key collection_period is
        /// newer.
        stats_collection_period: u32 = Integer(0), NOW;
        /// The seconds between two collections of statistics and pod metrics; 0 collects when asked.
        collection_period: u32 = Integer(0), NOW.variable("COLLECTION_PERIOD");
        /// The groups of pod metrics that are given out: all, or some of cpu, disk, diskIO, hugetlb,
        /// memory, network, oom, pressure, process, spec.
        included_pod_metrics: Vec<PodMetrics> = List(&[]), NOW;
    }
}
