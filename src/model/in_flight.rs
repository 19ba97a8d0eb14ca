//! The same work asked for twice runs once.
//!
//! The kubelet gives up on a slow request and sends it again. The first caller starts the work as
//! a task of its own, so that it goes on when its caller is gone; everyone who asks for the same
//! key while it runs gets its answer. The work says where it stands, for who runs out of patience.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::sync::watch;

/// Work under way, by key.
pub struct InFlight<K, V> {
    running: Running<K, V>,
}

type Running<K, V> = Arc<Mutex<HashMap<K, (watch::Receiver<Option<V>>, Stage)>>>;

/// Where work stands. The work itself says so.
#[derive(Debug, Clone, Default)]
pub struct Stage(Arc<Mutex<&'static str>>);

impl Stage {
    /// The work stands here from now on.
    pub fn is(&self, name: &'static str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = name;
    }

    /// Where it stands.
    #[must_use]
    pub fn name(&self) -> &'static str {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why somebody who asked has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// The work is over.
    #[error(transparent)]
    Vanished(#[from] Vanished),
    /// Patience is over, and the work goes on.
    #[error("it stands at {0}")]
    Late(&'static str),
}

/// The work ended without an answer: it panicked, or the runtime is shutting down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the work ended without an answer; the log of this daemon says why")]
pub struct Vanished;

/// Runs work to its end, also when its caller goes away in the middle of it.
///
/// # Errors
///
/// [`Vanished`] when the work panicked.
pub async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, Vanished> {
    tokio::spawn(work).await.map_err(|_| Vanished)
}

impl<K, V> Default for InFlight<K, V> {
    fn default() -> Self {
        Self { running: Arc::default() }
    }
}

impl<K, V> fmt::Debug for InFlight<K, V> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("InFlight").finish_non_exhaustive()
    }
}

impl<K, V> InFlight<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Gives the answer of the work under way for `key`, or starts `work`.
    ///
    /// # Errors
    ///
    /// [`Vanished`] when the work panicked.
    pub async fn run<F>(&self, key: K, work: impl FnOnce(Stage) -> F) -> Result<V, Vanished>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let (mut answer, _) = self.join_or_start(key, work);
        let value = answer.wait_for(Option::is_some).await.map_err(|_| Vanished)?;
        value.clone().ok_or(Vanished)
    }

    /// As [`InFlight::run`], and waits no longer than `patience`; the work goes on after that.
    ///
    /// # Errors
    ///
    /// [`Unanswered`].
    pub async fn run_within<F>(
        &self,
        key: K,
        patience: Option<Duration>,
        work: impl FnOnce(Stage) -> F,
    ) -> Result<V, Unanswered>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let (mut answer, stage) = self.join_or_start(key, work);
        let answered = answer.wait_for(Option::is_some);
        let value = match patience {
            None => answered.await,
            Some(patience) => match tokio::time::timeout(patience, answered).await {
                Ok(value) => value,
                Err(_) => return Err(Unanswered::Late(stage.name())),
            },
        };
        Ok(value.map_err(|_| Vanished)?.clone().ok_or(Vanished)?)
    }

    /// Where the work for `key` stands, if it is under way.
    #[must_use]
    pub fn stage(&self, key: &K) -> Option<&'static str> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.get(key).map(|(_, stage)| stage.name())
    }

    fn join_or_start<F>(
        &self,
        key: K,
        work: impl FnOnce(Stage) -> F,
    ) -> (watch::Receiver<Option<V>>, Stage)
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        match running.entry(key) {
            Entry::Occupied(entry) => entry.get().clone(),
            Entry::Vacant(entry) => {
                let (sender, receiver) = watch::channel(None);
                let done = Done { running: Arc::clone(&self.running), key: entry.key().clone() };
                let stage = Stage::default();
                entry.insert((receiver.clone(), stage.clone()));
                let work = work(stage.clone());
                tokio::spawn(async move {
                    let value = work.await;
                    // Whoever asks from here on starts anew; whoever waits gets this answer.
                    drop(done);
                    let _ = sender.send(Some(value));
                });
                (receiver, stage)
            }
        }
    }
}

/// Takes the key out when the work is over, however it ends.
struct Done<K: Eq + Hash, V> {
    running: Running<K, V>,
    key: K,
}

impl<K: Eq + Hash, V> Drop for Done<K, V> {
    fn drop(&mut self) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;
    use std::sync::atomic::Ordering;

    #[tokio::test]
    async fn two_callers_share_one_run_and_a_third_starts_anew() {
        let calls = Arc::new(AtomicU32::new(0));
        let in_flight = InFlight::default();
        let work = |_| {
            let calls = Arc::clone(&calls);
            async move {
                tokio::task::yield_now().await;
                calls.fetch_add(1, Ordering::SeqCst)
            }
        };
        let (first, second) = tokio::join!(in_flight.run("k", work), in_flight.run("k", work));
        assert_eq!((first, second), (Ok(0), Ok(0)));
        assert_eq!(in_flight.run("k", work).await, Ok(1));
    }

    #[tokio::test]
    async fn work_goes_on_when_its_caller_is_gone() {
        let in_flight = Arc::new(InFlight::default());
        let (gate, opened) = tokio::sync::oneshot::channel::<()>();
        let caller = {
            let in_flight = Arc::clone(&in_flight);
            tokio::spawn(async move {
                in_flight.run("k", |_| async move { opened.await.is_ok() }).await
            })
        };
        while in_flight.running.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        caller.abort();
        gate.send(()).unwrap();
        assert_eq!(in_flight.run("k", |_| async { true }).await, Ok(true));
    }

    #[tokio::test]
    async fn who_runs_out_of_patience_is_told_where_the_work_stands_and_it_goes_on() {
        let in_flight = InFlight::default();
        let (gate, opened) = tokio::sync::oneshot::channel::<()>();
        let work = |stage: Stage| async move {
            stage.is("the gate");
            opened.await.is_ok()
        };
        let patience = Some(Duration::from_millis(50));
        let late = in_flight.run_within("k", patience, work).await;
        assert_eq!(late, Err(Unanswered::Late("the gate")));
        assert_eq!(in_flight.stage(&"k"), Some("the gate"));
        gate.send(()).unwrap();
        assert_eq!(in_flight.run_within("k", None, |_| async { false }).await, Ok(true));
        assert_eq!(in_flight.stage(&"k"), None);
    }

    #[tokio::test]
    async fn what_must_come_to_its_end_does() {
        let (gate, opened) = tokio::sync::oneshot::channel::<()>();
        let (done, seen) = tokio::sync::oneshot::channel();
        let work = to_the_end(async move {
            let opened = opened.await;
            let _ = done.send(opened.is_ok());
        });
        assert!(tokio::time::timeout(std::time::Duration::ZERO, work).await.is_err());
        gate.send(()).unwrap();
        assert_eq!(seen.await, Ok(true));
    }

    #[tokio::test]
    async fn a_panic_is_an_error_for_those_who_wait() {
        let in_flight: InFlight<&str, u8> = InFlight::default();
        let answer = in_flight.run("k", |_| async { panic!("by the test") }).await;
        assert_eq!(answer, Err(Vanished));
        assert_eq!(in_flight.run("k", |_| async { 1 }).await, Ok(1));
    }
}
