//! How many layers are fetched and unpacked at once.
//!
//! Counted for each registry by itself, over all pulls: one that sends slowly keeps its own layers
//! waiting, and nobody else's. All together are bounded, too: each holds a thread of those on which
//! everything that blocks is done, and one server has any number of names.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;

/// The most lanes in use: half of the threads that tokio has for what blocks.
const MOST: usize = 256;

/// The lanes of all registries.
#[derive(Debug)]
pub(super) struct Lanes {
    each: usize,
    all: Arc<Semaphore>,
    by_host: Mutex<HashMap<String, Arc<Semaphore>>>,
}

impl Lanes {
    /// As many for each registry as keep this machine busy.
    pub(super) fn new() -> Self {
        // One layer is one core's work; one more keeps the cores busy while the network stalls.
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let all = Arc::new(Semaphore::new(MOST));
        Self { each: cores + 1, all, by_host: Mutex::default() }
    }

    /// Waits for a lane of this registry, and holds it.
    pub(super) async fn enter(&self, host: &str) -> Option<Lane> {
        // The registry's own first: who waits there keeps nobody else waiting.
        let own = self.of(host).acquire_owned().await.ok()?;
        let all = Arc::clone(&self.all).acquire_owned().await.ok()?;
        Some(Lane { _own: own, _all: all })
    }

    fn of(&self, host: &str) -> Arc<Semaphore> {
        let mut by_host = self.by_host.lock().unwrap_or_else(PoisonError::into_inner);
        // Lanes that only this table holds are nobody's.
        by_host.retain(|_, lanes| Arc::strong_count(lanes) > 1);
        let lanes = by_host.entry(host.to_owned());
        Arc::clone(lanes.or_insert_with(|| Arc::new(Semaphore::new(self.each))))
    }
}

/// A lane that is in use.
#[derive(Debug)]
pub(super) struct Lane {
    _own: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn many_names_of_slow_registries_leave_threads_for_the_others() {
        let lanes = Lanes::new();
        let mut held = Vec::new();
        for number in 0..MOST {
            held.push(lanes.enter(&format!("{number}.slow.example")).await.unwrap());
        }
        assert_eq!(lanes.all.available_permits(), 0);
        assert_eq!(lanes.of("one-more.slow.example").available_permits(), lanes.each);
        held.pop();
        assert!(lanes.enter("one-more.slow.example").await.is_some());
    }

    #[tokio::test]
    async fn a_registry_fills_its_own_lanes_only() {
        let lanes = Lanes::new();
        let mut held = Vec::new();
        for _ in 0..lanes.each {
            held.push(lanes.enter("slow.example").await.unwrap());
        }
        assert_eq!(lanes.of("slow.example").available_permits(), 0);
        assert_eq!(lanes.of("other.example").available_permits(), lanes.each);
        drop(held);
        assert_eq!(lanes.of("slow.example").available_permits(), lanes.each);
        assert_eq!(lanes.by_host.lock().unwrap().len(), 1);
    }
}
