//! How much containers wrote to their layers, without walking large ones while somebody waits.
//!
//! Nearly every layer is a handful of files, and is added up at once. One that has more is measured
//! beside the requests, one layer after another, and no more often than its size makes good;
//! requests show what was measured last. Until then nothing is said, rather than something wrong.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use crate::container::now;
use crate::failure::chain;
use crate::model::ids::ContainerId;
use crate::model::stats::Filesystem;
use crate::model::stats::WritableLayer;
use crate::storage::OwnLayer;
use crate::storage::Store;
use crate::storage::Usage;

/// A layer of at most so many inodes is added up at once: a tenth of a millisecond.
const SMALL: u64 = 64;
/// A large layer is not measured again before this is over, nor before it has rested this many
/// times as long as the measuring took.
const REST: Duration = Duration::from_secs(10);
const REST_FACTOR: u32 = 20;

/// What is known of the layers.
#[derive(Debug, Default)]
pub(super) struct Layers {
    known: Arc<Mutex<HashMap<ContainerId, Known>>>,
    /// Held by who measures large layers: one at a time.
    measuring: Arc<Mutex<()>>,
}

#[derive(Debug)]
struct Known {
    layer: OwnLayer,
    /// Of a large layer: what was measured, and when it is worth measuring again.
    large: Option<Large>,
}

#[derive(Debug, Clone, Copy)]
struct Large {
    usage: Option<Usage>,
    measured: i64,
    due: Instant,
}

impl Layers {
    /// What a container wrote; `None` if the store does not know the container.
    pub(super) fn look(&self, id: &ContainerId, store: &Store, now: i64) -> Option<WritableLayer> {
        let (layer, large) = self.known(id, store)?;
        let (usage, measured) = match large {
            Some(large) => (large.usage, large.measured),
            // Not under the lock: a disk may be slow.
            None => (layer.measure_small(SMALL), now),
        };
        if large.is_none() && usage.is_none() {
            let large = Large { usage, measured, due: Instant::now() };
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.entry(id.clone()).and_modify(|known| known.large = Some(large));
        }
        let used = usage.map(|usage| (usage.bytes, usage.inodes));
        Some(WritableLayer { mountpoint: layer.mountpoint().to_owned(), used, measured })
    }

    fn known(&self, id: &ContainerId, store: &Store) -> Option<(OwnLayer, Option<Large>)> {
        let locked = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = locked().get(id) {
            return Some((known.layer.clone(), known.large));
        }
        match store.own_layer(id) {
            Ok(layer) => {
                locked().insert(id.clone(), Known { layer: layer.clone(), large: None });
                Some((layer, None))
            }
            Err(error) => {
                tracing::debug!(container = %id, error = chain(&error), "its layer is unknown");
                None
            }
        }
    }

    /// The filesystem that a container's layer is on.
    pub(super) fn filesystem(&self, id: &ContainerId) -> Option<Filesystem> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let layer = known.get(id)?.layer.clone();
        drop(known);
        layer.filesystem()
    }

    /// Begins to measure the large layers that are due, beside what the caller does.
    pub(super) fn measure_due(&self) {
        let now = Instant::now();
        let due: Vec<(ContainerId, OwnLayer)> = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            let due =
                known.iter().filter(|(_, known)| known.large.is_some_and(|large| large.due <= now));
            due.map(|(id, known)| (id.clone(), known.layer.clone())).collect()
        };
        if due.is_empty() {
            return;
        }
        let (known, measuring) = (Arc::clone(&self.known), Arc::clone(&self.measuring));
        tokio::task::spawn_blocking(move || {
            // Who measures now does what is due; what became due since waits for the next look.
            let Ok(_turn) = measuring.try_lock() else { return };
            for (id, layer) in due {
                measure(&known, &id, &layer);
            }
        });
    }

    pub(super) fn forget(&self, id: &ContainerId) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

fn measure(known: &Mutex<HashMap<ContainerId, Known>>, id: &ContainerId, layer: &OwnLayer) {
    let begun = Instant::now();
    let usage = layer.measure();
    let rest = REST.max(begun.elapsed() * REST_FACTOR);
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    // It may have been removed meanwhile.
    if let Some(entry) = known.get_mut(id) {
        let due = Instant::now() + rest;
        // One that has become small again is added up at once from here on.
        entry.large =
            (usage.inodes > SMALL).then_some(Large { usage: Some(usage), measured: now(), due });
    }
}
