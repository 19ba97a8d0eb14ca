//! Stops a container: its stop signal, patience, then KILL.

use std::time::Duration;

use nix::libc;
use nix::sys::signal::Signal;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use crate::container::Containers;
use crate::container::Parts;
use crate::container::error::ContainerError;
use crate::model::change::Change;
use crate::model::container::ContainerState;
use crate::model::ids::ContainerId;
use crate::runtime::Whom;
use crate::state::ContainerRecord;

/// How long a killed process may take to be gone.
const AFTER_KILL: Duration = Duration::from_secs(60);
/// How often the exit file is looked for while waiting, in case its event was lost.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Containers {
    /// Stops a container: its stop signal first, KILL after `patience`. One that does not run, or
    /// is not there, is stopped already.
    ///
    /// # Errors
    ///
    /// [`ContainerError::WillNotDie`] when it outlives KILL.
    pub async fn stop(&self, id: &str, patience: Duration) -> Result<Change, ContainerError> {
        let parts = &self.parts;
        let Ok(record) = parts.records.containers.find(id) else {
            return Ok(Change::Unchanged(()));
        };
        parts.stop(&record, patience).await
    }
}

impl Parts {
    /// Not in turn with other verbs: a stop with less patience may overtake one with more.
    pub(super) async fn stop(
        &self,
        record: &ContainerRecord,
        patience: Duration,
    ) -> Result<Change, ContainerError> {
        if !self.lives(&record.id) {
            return Ok(Change::Unchanged(()));
        }
        let mut exits = self.exited.subscribe();
        let never_started = record.state == ContainerState::Created;
        if !never_started && !patience.is_zero() {
            let signal = signal_number(&record.stop_signal);
            self.runtime.kill(&record.handler, &record.id, signal, Whom::Init).await?;
            if self.wait(&record.id, &mut exits, patience).await {
                return Ok(Change::Made(()));
            }
        }
        self.runtime.kill(&record.handler, &record.id, libc::SIGKILL, Whom::Init).await?;
        if self.wait(&record.id, &mut exits, AFTER_KILL).await {
            return Ok(Change::Made(()));
        }
        Err(ContainerError::WillNotDie(record.id.clone()))
    }

    fn lives(&self, id: &ContainerId) -> bool {
        let record = self.records.containers.by_id(id);
        record.is_some_and(|record| record.state != ContainerState::Exited)
    }

    /// Whether the container's end is recorded within `patience`.
    async fn wait(
        &self,
        id: &ContainerId,
        exits: &mut tokio::sync::broadcast::Receiver<ContainerId>,
        patience: Duration,
    ) -> bool {
        let deadline = Instant::now() + patience;
        while self.lives(id) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            match tokio::time::timeout(left.min(LOOK_AGAIN), exits.recv()).await {
                Ok(Ok(_) | Err(RecvError::Lagged(_))) => {}
                Ok(Err(RecvError::Closed)) => return false,
                Err(_) => {
                    if let Err(error) = self.note_exit(id).await {
                        tracing::warn!(container = %id, %error, "cannot read how it ended");
                    }
                }
            }
        }
        true
    }
}

/// A signal's number by its name (`SIGQUIT`, `SIGRTMIN+3`) or number; TERM for what is none.
fn signal_number(name: &str) -> i32 {
    let offset = |rest: &str| rest.parse::<i32>().ok();
    let number = if let Ok(signal) = name.parse::<Signal>() {
        Some(signal as i32)
    } else if let Some(rest) = name.strip_prefix("SIGRTMIN") {
        offset(if rest.is_empty() { "0" } else { rest }).map(|more| libc::SIGRTMIN() + more)
    } else if let Some(rest) = name.strip_prefix("SIGRTMAX") {
        offset(if rest.is_empty() { "0" } else { rest }).map(|less| libc::SIGRTMAX() + less)
    } else {
        offset(name)
    };
    number.filter(|number| (1..=libc::SIGRTMAX()).contains(number)).unwrap_or(libc::SIGTERM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_numbers() {
        for (name, number) in [
            ("SIGQUIT", 3),
            ("9", 9),
            ("SIGRTMIN+3", libc::SIGRTMIN() + 3),
            ("SIGRTMAX-1", libc::SIGRTMAX() - 1),
            ("0", 15),
            ("-1", 15),
            ("SIGNONE", 15),
            ("1000", 15),
        ] {
            assert_eq!(signal_number(name), number, "{name}");
        }
    }
}
