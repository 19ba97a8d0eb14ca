//! SIGHUP: reads the configuration again.
//!
//! First the whole of it is read and checked, and all that follows from it is worked out; a fault
//! changes nothing, and is logged and shown in `crio status info`. Then what can change while the
//! daemon runs is put in its place at once: a request that is under way ends as it began. What
//! cannot change is named.
//!
//! Not here: what is read at each use anyway, and needs no signal: policies, registries.conf and
//! registries.d, certificates, credentials, CNI, hooks, CDI.

use std::sync::Arc;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::signal::unix::Signal;
use tokio::sync::Mutex;

use crate::config::Change;
use crate::config::Config;
use crate::config::Inputs;
use crate::config::Shown;
use crate::config::Values;
use crate::config::reload;
use crate::config::show;
use crate::cri::node::Node;
use crate::cri::node::Reload;
use crate::daemon::assemble::Parts;
use crate::daemon::assemble::finder;
use crate::daemon::error::DaemonError;
use crate::daemon::live;
use crate::daemon::live::Live;
use crate::daemon::pause_image;
use crate::daemon::settings;
use crate::failure::chain;
use crate::metrics::Metrics;
use crate::model::current::Current;
use crate::runtime::Runtime;

/// Tells the log what the configuration says of it.
pub type Relog = Box<dyn Fn(&Config) + Send + Sync>;

/// What a reload works with.
pub(super) struct Reloader {
    inputs: Inputs,
    relog: Relog,
    parts: Parts,
    values: Mutex<Values>,
    /// The configuration as a file, for who asks.
    text: Arc<Current<String>>,
}

impl std::fmt::Debug for Reloader {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Reloader").finish_non_exhaustive()
    }
}

/// The configuration as a file.
pub(super) fn text(values: &Values) -> String {
    show(values, values, Shown::All)
}

impl Reloader {
    pub(super) fn new(
        (inputs, relog): (Inputs, Relog),
        parts: Parts,
        values: Values,
        text: Arc<Current<String>>,
    ) -> Self {
        Self { inputs, relog, parts, values: Mutex::new(values), text }
    }

    /// Reads the configuration again whenever that is asked for.
    pub(super) async fn watch(self: Arc<Self>, asked: Arc<Mutex<Signal>>) {
        let mut asked = asked.lock().await;
        while asked.recv().await.is_some() {
            tracing::info!("SIGHUP: reloading the configuration");
            let started = sd_notify::NotifyState::monotonic_usec_now();
            if let Ok(started) = started {
                let _ = sd_notify::notify(&[sd_notify::NotifyState::Reloading, started]);
            }
            let refused = self.reload().await.err().map(|error| chain(&error));
            if let Some(error) = &refused {
                tracing::error!(error, "the configuration was not reloaded; nothing has changed");
                self.note(|last| last.refused = Some(error.clone()));
            }
            let status = refused.map(|error| format!("reload refused: {error}"));
            let status = status.as_deref().unwrap_or("configuration reloaded");
            let states = [sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status(status)];
            let _ = sd_notify::notify(&states);
        }
    }

    async fn reload(&self) -> Result<(), DaemonError> {
        let mut values = self.values.lock().await;
        let read = reload(&self.inputs, &values)?;
        let warnings: Vec<String> = read.warnings.iter().map(ToString::to_string).collect();
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        let parts = &self.parts;
        parts.registry.check()?;
        let runtime = parts.containers.parts().runtime.with(settings::runtime(&read.config))?;
        let from = (&read.config, &read.values);
        let live = live::look(from, runtime, &parts.store, &parts.audit, warnings).await?;
        self.check_used(&live.runtime)?;
        self.apply(&read.config, &read.values, live);
        tell(&read.changes, || (self.relog)(&read.config));
        let waiting = read.changes.iter().filter(|change| !change.applied);
        let waiting: Vec<String> = waiting.map(|change| change.key.clone()).collect();
        self.note(|last| *last = Reload { needs_restart: waiting, ..Reload::default() });
        *values = read.values;
        Ok(())
    }

    /// Refuses to lose what runs: without its handler a container can be neither stopped nor removed,
    /// and another root knows nothing of it.
    fn check_used(&self, runtime: &Runtime) -> Result<(), DaemonError> {
        let before = self.parts.containers.parts();
        let records = &self.parts.records;
        let of_sandboxes = records.sandboxes.all().into_iter().map(|found| found.handler.clone());
        let of_containers = records.containers.all().into_iter().map(|found| found.handler.clone());
        for name in of_sandboxes.chain(of_containers) {
            let (was, is) = (before.runtime.state_root(&name), runtime.state_root(&name));
            if was.is_some() && was != is {
                return Err(DaemonError::HandlerUsed(name));
            }
        }
        Ok(())
    }

    /// Puts all in its place. From here on nothing fails.
    fn apply(&self, config: &Config, values: &Values, live: Live) {
        let Parts { store, sandboxes, containers, judge, catalog, images, .. } = &self.parts;
        let mut of_containers = (*containers.parts()).clone();
        of_containers.runtime = live.runtime.clone();
        of_containers.settings = live.container;
        of_containers.finder = finder(config, &self.parts.verifier);
        let mut of_sandboxes = (*sandboxes.parts()).clone();
        of_sandboxes.runtime = live.runtime;
        of_sandboxes.pause = pause_image::source(config, values, images);
        let records = self.parts.sandbox_records.clone();
        of_sandboxes.settings = settings::sandbox(config, store.runroot(), records);
        count(&self.parts.metrics, config);
        judge.replace_settings(live.policies);
        catalog.replace_pinned(live.pinned);
        // A pod uses containers, and finds what it has just been promised.
        containers.replace(of_containers);
        sandboxes.replace(of_sandboxes);
        self.text.replace(text(values));
        let last = self.parts.node.now().reload.clone();
        self.parts.node.replace(Node { reload: last, ..live.node });
    }

    /// Writes down, for who asks, what came of the last reload.
    fn note(&self, change: impl FnOnce(&mut Reload)) {
        let mut node = (*self.parts.node.now()).clone();
        let last = node.reload.get_or_insert_default();
        change(last);
        last.at = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
        self.parts.node.replace(node);
    }
}

/// The metrics that say how the daemon is configured.
pub(super) fn count(metrics: &Metrics, config: &Config) {
    metrics.default_runtime(&config.runtime.default_runtime);
    let from = &config.image;
    let tried = [&from.signature_policy_dry_run, &from.signature_policy_dry_run_dir];
    metrics.dry_run(tried.iter().any(|place| place.is_some()));
}

/// Logs every change, at the more talkative of the levels before and after.
fn tell(changes: &[Change], relog: impl FnOnce()) {
    let say = || {
        for Change { key, value, source, applied } in changes {
            let value = value.as_deref().unwrap_or("(a list)");
            if *applied {
                tracing::info!(key, value, %source, "setting reloaded");
            } else {
                tracing::warn!(key, value, %source, "setting changed; it needs a restart of crio");
            }
        }
        tracing::info!("configuration reloaded");
    };
    if tracing::enabled!(tracing::Level::INFO) {
        say();
        relog();
    } else {
        relog();
        say();
    }
}
