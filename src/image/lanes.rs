//! How many layers are fetched and unpacked at once.
//!
//! Counted for each registry by itself, over all pulls: one that sends slowly keeps its own layers
//! waiting, and nobody else's.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;

/// The lanes of all registries.
#[derive(Debug)]
pub(super) struct Lanes {
    each: usize,
    by_host: Mutex<HashMap<String, Arc<Semaphore>>>,
}

impl Lanes {
    /// As many for each registry as keep this machine busy.
    pub(super) fn new() -> Self {
        // One layer is one core's work; one more keeps the cores busy while the network stalls.
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Self { each: cores + 1, by_host: Mutex::default() }
    }

    /// Waits for a lane of this registry, and holds it.
    pub(super) async fn enter(&self, host: &str) -> Option<OwnedSemaphorePermit> {
        self.of(host).acquire_owned().await.ok()
    }

    fn of(&self, host: &str) -> Arc<Semaphore> {
        let mut by_host = self.by_host.lock().unwrap_or_else(PoisonError::into_inner);
        // Lanes that only this table holds are nobody's.
        by_host.retain(|_, lanes| Arc::strong_count(lanes) > 1);
        let lanes = by_host.entry(host.to_owned());
        Arc::clone(lanes.or_insert_with(|| Arc::new(Semaphore::new(self.each))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
