//! Asks systemd for a scope around a process, over the system bus.
//!
//! What is in a scope of its own survives a stop of the service that started it. The scope goes
//! when its last process does.

use std::time::Duration;

use futures_util::StreamExt;
use zbus::OwnedObjectPath;
use zbus::Variant;

use crate::failure::Classify;
use crate::failure::Kind;

/// How long systemd may take for a scope. It takes milliseconds, and longer only when it is stuck.
const PATIENCE: Duration = Duration::from_secs(30);

/// A scope that systemd did not give.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SystemdError {
    /// The system bus, or systemd on it, cannot be reached.
    #[error("cannot reach systemd on the system bus")]
    Unreachable {
        /// What the bus says.
        source: zbus::Error,
    },
    /// systemd refuses.
    #[error("systemd does not start {scope} in {slice}")]
    Refused {
        /// The scope.
        scope: String,
        /// The slice it was to be in.
        slice: String,
        /// What systemd says.
        source: zbus::Error,
    },
    /// The job was begun and did not end well.
    #[error("systemd did not start {scope} in {slice}: the job ended with {result:?}")]
    Job {
        /// The scope.
        scope: String,
        /// The slice it was to be in.
        slice: String,
        /// systemd's word for how it ended.
        result: String,
    },
    /// There was no answer.
    #[error("systemd did not start {scope} in {slice} within {} s", PATIENCE.as_secs())]
    Timeout {
        /// The scope.
        scope: String,
        /// The slice it was to be in.
        slice: String,
    },
}

impl SystemdError {
    /// Whether the connection is no use any more.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { source, .. } => matches!(source, zbus::Error::InputOutput(_)),
            Self::Job { .. } | Self::Timeout { .. } => false,
        }
    }
}

impl Classify for SystemdError {
    fn kind(&self) -> Kind {
        Kind::Internal
    }
}

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn subscribe(&self) -> zbus::Result<()>;

    fn start_transient_unit(
        &self,
        name: &str,
        mode: &str,
        properties: &[(&str, Variant<'_>)],
        auxiliary: &[(&str, &[(&str, Variant<'_>)])],
    ) -> zbus::Result<OwnedObjectPath>;

    #[zbus(signal)]
    fn job_removed(
        &self,
        id: u32,
        job: OwnedObjectPath,
        unit: String,
        result: String,
    ) -> zbus::Result<()>;
}

/// A scope to start.
#[derive(Debug, Clone)]
pub struct Scope {
    /// The slice that it is to be in.
    pub slice: String,
    /// Its name, ending in `.scope`.
    pub name: String,
    /// The process that it begins with.
    pub pid: i32,
    /// What its processes are sent when the machine shuts down.
    pub stop_signal: i32,
}

/// A connection to systemd.
#[derive(Debug, Clone)]
pub struct Systemd {
    manager: ManagerProxy<'static>,
}

impl Systemd {
    /// Connects to the system bus.
    ///
    /// # Errors
    ///
    /// [`SystemdError::Unreachable`].
    pub async fn connect() -> Result<Self, SystemdError> {
        let unreachable = |source| SystemdError::Unreachable { source };
        let bus = zbus::Connection::system().await.map_err(unreachable)?;
        Self::on(&bus).await
    }

    async fn on(bus: &zbus::Connection) -> Result<Self, SystemdError> {
        let unreachable = |source| SystemdError::Unreachable { source };
        let manager = ManagerProxy::new(bus).await.map_err(unreachable)?;
        // Without it, systemd sends no signals (org.freedesktop.systemd1(5)).
        manager.subscribe().await.map_err(unreachable)?;
        Ok(Self { manager })
    }

    /// Puts a process into a new scope of its own.
    ///
    /// The scope is ordered after `crio.service`, so it is stopped before that.
    ///
    /// # Errors
    ///
    /// [`SystemdError`].
    pub async fn start_scope(&self, scope: &Scope) -> Result<(), SystemdError> {
        let started = tokio::time::timeout(PATIENCE, self.start(scope)).await;
        let late =
            || SystemdError::Timeout { scope: scope.name.clone(), slice: scope.slice.clone() };
        started.unwrap_or_else(|_| Err(late()))
    }

    async fn start(&self, scope: &Scope) -> Result<(), SystemdError> {
        let (named, slice) = (|| scope.name.clone(), || scope.slice.clone());
        let refused = |source| SystemdError::Refused { scope: named(), slice: slice(), source };
        let pid = u32::try_from(scope.pid).unwrap_or_default();
        let mut removed = self.manager.receive_job_removed().await.map_err(refused)?;
        let properties = [
            ("Slice", Variant::from(scope.slice.as_str())),
            ("PIDs", Variant::from(vec![pid])),
            ("KillSignal", Variant::from(scope.stop_signal)),
            ("After", Variant::from(vec!["crio.service"])),
            // Else a scope whose process was killed stays in the list as failed.
            ("CollectMode", Variant::from("inactive-or-failed")),
        ];
        let started = self.manager.start_transient_unit(&scope.name, "replace", &properties, &[]);
        let job = started.await.map_err(refused)?;
        while let Some(signal) = removed.next().await {
            let Ok(end) = signal.args() else { continue };
            if *end.job() != job {
                continue;
            }
            if end.result() == "done" {
                return Ok(());
            }
            let result = end.result().clone();
            return Err(SystemdError::Job { scope: named(), slice: slice(), result });
        }
        Err(refused(zbus::Error::InputOutput(std::sync::Arc::new(
            std::io::ErrorKind::ConnectionAborted.into(),
        ))))
    }
}

#[cfg(test)]
mod tests;
