//! One verb at a time for each sandbox; different sandboxes do not wait for each other.
//!
//! The specification: a runtime must not run two operations for the same container at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::Weak;

use tokio::sync::OwnedMutexGuard;

use crate::model::ids::SandboxId;

/// The sandboxes whose verbs run or wait.
#[derive(Debug, Default)]
pub(super) struct Turns {
    queues: Mutex<HashMap<SandboxId, Weak<tokio::sync::Mutex<()>>>>,
}

impl Turns {
    /// Waits until no other verb of this sandbox runs. The turn lasts as long as the guard.
    pub(super) async fn take(&self, id: &SandboxId) -> OwnedMutexGuard<()> {
        let queue = {
            let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
            queues.retain(|_, queue| queue.strong_count() > 0);
            let known = queues.get(id).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let queue = Arc::default();
                queues.insert(id.clone(), Arc::downgrade(&queue));
                queue
            })
        };
        queue.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn a_sandbox_waits_for_itself_only() {
        let turns = Turns::default();
        let (one, other) = (SandboxId::fresh().unwrap(), SandboxId::fresh().unwrap());
        let turn = turns.take(&one).await;
        assert!(turns.take(&one).now_or_never().is_none());
        assert!(turns.take(&other).now_or_never().is_some());
        drop(turn);
        assert!(turns.take(&one).now_or_never().is_some());
        assert!(turns.queues.lock().unwrap().len() <= 2);
    }
}
