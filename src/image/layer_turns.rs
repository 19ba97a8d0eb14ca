//! Two pulls that share a layer fetch it once.
//!
//! A layer's ID says its whole stack, so two images that share a layer share all below it. A pull
//! takes the turn of every layer that is free in one step, and only then waits for the others,
//! lowest first. Whoever is waited for came earlier, so nobody waits in a circle.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::PoisonError;

use tokio::sync::Mutex;
use tokio::sync::OwnedMutexGuard;

use crate::model::ids::LayerId;

/// Whose turn it is to bring a layer into the store.
#[derive(Debug, Default)]
pub(super) struct LayerTurns {
    turns: std::sync::Mutex<HashMap<LayerId, Arc<Mutex<()>>>>,
}

/// A layer's turn: ours, or somebody else's to wait for.
#[derive(Debug)]
pub(super) enum Turn {
    /// Nobody else brings this layer while the guard lives.
    Ours(OwnedMutexGuard<()>),
    /// Another pull brings it.
    Theirs(Arc<Mutex<()>>),
}

impl LayerTurns {
    /// Takes the turns of all these layers that are free, at one instant.
    pub(super) fn take(&self, layers: &[LayerId]) -> Vec<Turn> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        // A turn that only this table holds is nobody's.
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        layers
            .iter()
            .map(|layer| {
                let turn = turns.entry(layer.clone()).or_default();
                match Arc::clone(turn).try_lock_owned() {
                    Ok(guard) => Turn::Ours(guard),
                    Err(_) => Turn::Theirs(Arc::clone(turn)),
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_layer_is_brought_by_one_pull_at_a_time() {
        let layers: Vec<LayerId> =
            ["a", "b"].iter().map(|digit| digit.repeat(64).parse().unwrap()).collect();
        let turns = LayerTurns::default();
        let first = turns.take(&layers[..1]);
        let second = turns.take(&layers);
        assert!(matches!(first[0], Turn::Ours(_)));
        assert!(matches!(second[1], Turn::Ours(_)));
        let Turn::Theirs(wait) = &second[0] else { panic!("both have the layer") };
        assert!(wait.try_lock().is_err());
        drop(first);
        drop(wait.lock().await);
        drop(second);
        assert_eq!(turns.take(&[]).len(), 0);
    }
}
