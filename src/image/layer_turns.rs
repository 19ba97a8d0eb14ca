//! Two pulls that share a layer fetch it once.
//!
//! A layer's ID says its whole stack, so two images that share a layer share all below it. A pull
//! takes the turn of every layer that is free, and stands in the queue of every other, in one step.
//! The queues are served in order, so whoever is waited for came earlier, and nobody waits in a
//! circle.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::PoisonError;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;

use tokio::sync::Mutex;
use tokio::sync::OwnedMutexGuard;

use crate::model::ids::LayerId;

/// Whose turn it is to bring a layer into the store.
#[derive(Debug, Default)]
pub(super) struct LayerTurns {
    turns: std::sync::Mutex<HashMap<LayerId, Arc<Mutex<()>>>>,
}

/// A layer's turn: ours, or somebody else's to wait for.
pub(super) enum Turn {
    /// Nobody else brings this layer while the guard lives.
    Ours(OwnedMutexGuard<()>),
    /// Another pull brings it; our place in the queue behind it.
    Theirs(Queued),
}

/// A place in the queue for a layer's turn. Dropping it gives the place up.
pub(super) type Queued = Pin<Box<dyn Future<Output = OwnedMutexGuard<()>> + Send>>;

impl fmt::Debug for Turn {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Ours(_) => "Ours",
            Self::Theirs(_) => "Theirs",
        })
    }
}

impl LayerTurns {
    /// Takes the turns of all these layers that are free and queues for the others, at one instant.
    pub(super) fn take(&self, layers: &[LayerId]) -> Vec<Turn> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        // A turn that only this table holds is nobody's.
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        layers
            .iter()
            .map(|layer| {
                let turn = turns.entry(layer.clone()).or_default();
                let mut queued: Queued = Box::pin(Arc::clone(turn).lock_owned());
                // The first poll is what takes the place in the mutex's queue, which is fair.
                match queued.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(guard) => Turn::Ours(guard),
                    Poll::Pending => Turn::Theirs(queued),
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(digits: &str) -> Vec<LayerId> {
        digits.chars().map(|digit| digit.to_string().repeat(64).parse().unwrap()).collect()
    }

    fn ours(turns: &[Turn]) -> Vec<bool> {
        turns.iter().map(|turn| matches!(turn, Turn::Ours(_))).collect()
    }

    #[tokio::test]
    async fn a_layer_is_brought_by_one_pull_at_a_time() {
        let turns = LayerTurns::default();
        let first = turns.take(&layers("a"));
        let mut second = turns.take(&layers("ab"));
        assert_eq!(ours(&second), [false, true]);
        drop(first);
        let Turn::Theirs(queued) = second.remove(0) else { panic!("both have the layer") };
        let guard = queued.await;
        assert_eq!(ours(&turns.take(&layers("a"))), [false]);
        drop((guard, second));
        assert_eq!(ours(&turns.take(&layers("ab"))), [true, true]);
    }

    /// A third pull must not overtake the second where the first has just finished: it would hold
    /// what the second waits for, and wait for what the second holds.
    #[tokio::test]
    async fn nobody_overtakes_a_pull_that_waits() {
        let turns = LayerTurns::default();
        let first = turns.take(&layers("a"));
        let second = turns.take(&layers("ab"));
        drop(first);
        let third = turns.take(&layers("ab"));
        assert_eq!(ours(&third), [false, false]);
        drop(second);
        for turn in third {
            let Turn::Theirs(queued) = turn else { panic!("overtook the second") };
            queued.await;
        }
    }
}
