//! What the daemon counts of itself, for Prometheus, under CRI-O's names.
//!
//! Every metric is declared here and nowhere else; whoever counts something is handed this and calls
//! the method that has its name. A name without data is not declared. Values of labels are our own
//! words or those of things that are there now; they go when the thing goes.
//!
//! Not here: what pods and containers use (the CRI's own statistics), and serving (`daemon`).

mod latency;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::prometheus_text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Metric;
use prometheus_client::registry::Registry;

use crate::metrics::latency::Latencies;
use crate::metrics::latency::Part;

/// What all names begin with.
const PREFIX: &str = "container_runtime_crio";
/// The media type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// The upper ends of the buckets for how long the policy takes, in seconds: a stored image takes
/// milliseconds, a registry that is asked for signatures up to minutes.
const JUDGED: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0];

/// One label and its value.
type Label = [(&'static str, String); 1];
/// Labels whose values are all words of ours.
type Words<const COUNT: usize> = [(&'static str, &'static str); COUNT];

/// The counters of this daemon.
#[derive(Clone)]
pub struct Metrics {
    all: Arc<All>,
}

#[derive(Default)]
struct All {
    registry: Registry,
    operations: Family<Label, Counter>,
    errors: Family<Label, Counter>,
    last: Family<Label, Gauge<f64, std::sync::atomic::AtomicU64>>,
    latencies: Arc<Latencies>,
    events_dropped: Counter,
    stalled: Family<Label, Gauge>,
    out_of_memory: Counter,
    out_of_memory_of: Family<Label, Counter>,
    defunct: Gauge,
    pulled: Counter,
    not_pulled: Family<Label, Counter>,
    runtime: Family<Label, Gauge>,
    verdicts: Family<Words<3>, Counter>,
    judged: Judged,
    dry_run: Gauge,
    unrecorded: Counter,
}

/// How long the policy takes, by what was asked.
#[derive(Clone)]
struct Judged(Family<Words<1>, Histogram, fn() -> Histogram>);

impl Default for Judged {
    fn default() -> Self {
        Self(Family::new_with_constructor(|| Histogram::new(JUDGED)))
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    /// Counters of which none is shown.
    fn default() -> Self {
        Self::new(&[])
    }
}

/// Those of the configured collectors that are to be shown.
struct Shown<'a> {
    wanted: BTreeSet<&'a str>,
    registry: &'a mut Registry,
}

impl Shown<'_> {
    /// `collector` is CRI-O's name for the metric; `name` is what the library makes it of, which adds
    /// `_total` to counters itself.
    fn add(&mut self, collector: &str, name: &str, help: &str, metric: impl Metric) {
        if self.wanted.contains(collector) {
            self.registry.register(name, help, metric);
        }
    }
}

impl Metrics {
    /// The counters, of which those in `collectors` are shown. A collector may be named with or
    /// without its prefix.
    #[must_use]
    pub fn new(collectors: &[String]) -> Self {
        let mut all = All { registry: Registry::with_prefix(PREFIX.to_owned()), ..All::default() };
        let wanted = collectors.iter().map(|name| {
            let name = name.strip_prefix("container_runtime_").unwrap_or(name);
            name.strip_prefix("crio_").unwrap_or(name)
        });
        let mut registry = std::mem::take(&mut all.registry);
        let mut shown = Shown { wanted: wanted.collect(), registry: &mut registry };
        all.show_operations(&mut shown);
        all.show_containers(&mut shown);
        all.show_images(&mut shown);
        all.show_policy(&mut shown);
        all.registry = registry;
        Self { all: Arc::new(all) }
    }

    /// An RPC was answered.
    pub fn operation(&self, rpc: &str, took: Duration, failed: bool) {
        let label = [("operation", rpc.to_owned())];
        self.all.operations.get_or_create(&label).inc();
        self.all.last.get_or_create(&label).set(took.as_secs_f64());
        self.all.latencies.observe(rpc, took);
        if failed {
            self.all.errors.get_or_create(&label).inc();
        }
    }

    /// An event was not given to a client that does not keep up.
    pub fn event_dropped(&self) {
        self.all.events_dropped.inc();
    }

    /// A pod or container was asked for again while it was being made, and stood at this stage.
    pub fn stalled(&self, stage: &'static str) {
        self.all.stalled.get_or_create(&[("stage", stage.to_owned())]).inc();
    }

    /// The kernel took a container for want of memory.
    pub fn out_of_memory(&self, container: &str) {
        self.all.out_of_memory.inc();
        self.all.out_of_memory_of.get_or_create(&[("name", container.to_owned())]).inc();
    }

    /// A container is gone: nothing is shown under its name any more.
    pub fn container_gone(&self, container: &str) {
        let label = [("name", container.to_owned())];
        self.all.out_of_memory_of.remove(&label);
    }

    /// An image was pulled.
    pub fn pulled(&self) {
        self.all.pulled.inc();
    }

    /// An image could not be pulled.
    pub fn not_pulled(&self, error: &'static str) {
        self.all.not_pulled.get_or_create(&[("error", error.to_owned())]).inc();
    }

    /// The policy was asked, and this came of it.
    pub fn verdict(&self, event: &'static str, mode: &'static str, cause: &'static str) {
        let labels = [("event", event), ("mode", mode), ("cause", cause)];
        self.all.verdicts.get_or_create(&labels).inc();
    }

    /// How long the policy took to answer, with looking for signatures.
    pub fn judged(&self, event: &'static str, took: Duration) {
        self.all.judged.0.get_or_create(&[("event", event)]).observe(took.as_secs_f64());
    }

    /// Whether policies are tried in a dry run.
    pub fn dry_run(&self, tried: bool) {
        self.all.dry_run.set(tried.into());
    }

    /// An audit record could not be written.
    pub fn unrecorded(&self) {
        self.all.unrecorded.inc();
    }

    /// The default runtime handler.
    pub fn default_runtime(&self, handler: &str) {
        self.all.runtime.clear();
        self.all.runtime.get_or_create(&[("runtime", handler.to_owned())]).set(1);
    }

    /// How many processes of the node have ended and are not waited for.
    pub fn defunct(&self, count: u32) {
        self.all.defunct.set(count.into());
    }

    /// All that is shown, in Prometheus' text format.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // A String takes every text.
        let _ = prometheus_text::encode(&mut text, &self.all.registry);
        text
    }
}

impl All {
    fn show_operations(&self, shown: &mut Shown<'_>) {
        shown.add(
            "operations_total",
            "operations",
            "Requests of the CRI that were answered, by operation",
            self.operations.clone(),
        );
        shown.add(
            "operations_errors_total",
            "operations_errors",
            "Requests of the CRI that were answered with an error, by operation",
            self.errors.clone(),
        );
        shown.add(
            "operations_latency_seconds",
            "operations_latency_seconds",
            "How long the last request of the CRI took, by operation",
            self.last.clone(),
        );
        for part in [Part::Quantiles, Part::Sum, Part::Count] {
            shown.add(
                "operations_latency_seconds_total",
                part.name(),
                part.help(),
                self.latencies.view(part),
            );
        }
        shown.add(
            "default_runtime",
            "default_runtime",
            "The default runtime handler; the value is always 1",
            self.runtime.clone(),
        );
    }

    fn show_containers(&self, shown: &mut Shown<'_>) {
        shown.add(
            "containers_events_dropped_total",
            "containers_events_dropped",
            "Events of containers that a client did not get because it does not keep up",
            self.events_dropped.clone(),
        );
        // It only grows; but the library would call a counter `…_total`, which CRI-O's is not.
        shown.add(
            "resources_stalled_at_stage",
            "resources_stalled_at_stage",
            "Pods and containers that were asked for again while they were being made, by the stage \
             at which they stood",
            self.stalled.clone(),
        );
        shown.add(
            "containers_oom_total",
            "containers_oom",
            "Containers that the kernel killed for want of memory",
            self.out_of_memory.clone(),
        );
        shown.add(
            "containers_oom_count_total",
            "containers_oom_count",
            "Containers that the kernel killed for want of memory, by name",
            self.out_of_memory_of.clone(),
        );
        shown.add(
            "processes_defunct",
            "processes_defunct",
            "Processes of the node that have ended and that nobody has waited for",
            self.defunct.clone(),
        );
    }

    fn show_images(&self, shown: &mut Shown<'_>) {
        shown.add(
            "image_pulls_success_total",
            "image_pulls_success",
            "Images that were pulled",
            self.pulled.clone(),
        );
        shown.add(
            "image_pulls_failure_total",
            "image_pulls_failure",
            "Images that could not be pulled, by error",
            self.not_pulled.clone(),
        );
    }
}

impl All {
    fn show_policy(&self, shown: &mut Shown<'_>) {
        shown.add(
            "policy_verdicts_total",
            "policy_verdicts",
            "Answers of the policy, by what was asked, whether the answer decides, and why",
            self.verdicts.clone(),
        );
        shown.add(
            "policy_verification_seconds",
            "policy_verification_seconds",
            "How long the policy took to answer, with looking for signatures, by what was asked",
            self.judged.0.clone(),
        );
        shown.add(
            "policy_dry_run",
            "policy_dry_run",
            "Whether policies are tried in a dry run: what they refuse is recorded, and runs",
            self.dry_run.clone(),
        );
        shown.add(
            "audit_failures_total",
            "audit_failures",
            "Audit records that could not be written",
            self.unrecorded.clone(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(collectors: &[&str]) -> Metrics {
        Metrics::new(&collectors.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn lines_have_the_names_that_dashboards_know() {
        let metrics = metrics(&[
            "operations_total",
            "crio_operations_errors_total",
            "container_runtime_crio_operations_latency_seconds",
            "operations_latency_seconds_total",
            "containers_events_dropped_total",
            "containers_oom_count_total",
            "resources_stalled_at_stage",
        ]);
        metrics.stalled("sandbox network creation");
        metrics.operation("RunPodSandbox", Duration::from_millis(500), false);
        metrics.operation("RunPodSandbox", Duration::from_millis(1500), true);
        metrics.event_dropped();
        metrics.out_of_memory("k8s_a\"b\nc");
        let text = metrics.text();
        for line in [
            "operations_total{operation=\"RunPodSandbox\"} 2",
            "operations_errors_total{operation=\"RunPodSandbox\"} 1",
            "operations_latency_seconds{operation=\"RunPodSandbox\"} 1.5",
            "operations_latency_seconds_total{operation=\"RunPodSandbox\",quantile=\"0.5\"} 0.5",
            "operations_latency_seconds_total{operation=\"RunPodSandbox\",quantile=\"0.99\"} 1.5",
            "operations_latency_seconds_total_sum{operation=\"RunPodSandbox\"} 2.0",
            "operations_latency_seconds_total_count{operation=\"RunPodSandbox\"} 2",
            "containers_events_dropped_total 1",
            "resources_stalled_at_stage{stage=\"sandbox network creation\"} 1",
            "containers_oom_count_total{name=\"k8s_a\\\"b\\nc\"} 1",
        ] {
            let line = format!("{PREFIX}_{line}");
            assert!(text.lines().any(|have| have == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn answers_of_the_policy_are_counted_by_cause_and_mode() {
        let metrics = metrics(&[
            "policy_verdicts_total",
            "policy_verification_seconds",
            "policy_dry_run",
            "audit_failures_total",
        ]);
        metrics.verdict("pull", "dry-run", "no_signature");
        metrics.judged("pull", Duration::from_millis(3));
        metrics.dry_run(true);
        metrics.unrecorded();
        let text = metrics.text();
        for line in [
            "policy_verdicts_total{event=\"pull\",mode=\"dry-run\",cause=\"no_signature\"} 1",
            "policy_verification_seconds_bucket{event=\"pull\",le=\"0.005\"} 1",
            "policy_verification_seconds_count{event=\"pull\"} 1",
            "policy_dry_run 1",
            "audit_failures_total 1",
        ] {
            let line = format!("{PREFIX}_{line}");
            assert!(text.lines().any(|have| have == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn what_is_not_asked_for_is_not_shown_and_what_is_gone_goes() {
        let metrics = metrics(&["containers_oom_count_total"]);
        metrics.out_of_memory("web");
        metrics.pulled();
        assert!(metrics.text().contains("{name=\"web\"} 1"), "{}", metrics.text());
        metrics.container_gone("web");
        let text = metrics.text();
        assert!(!text.contains("web") && !text.contains("image_pulls"), "{text}");
    }
}
