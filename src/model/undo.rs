//! What to take back when a verb fails half-way.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

/// One step back; `Err` is why it could not be taken.
type Step = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// The steps back from what a verb has done so far, taken in reverse order on failure.
#[derive(Default)]
pub struct Undo {
    steps: Vec<(&'static str, Step)>,
}

impl fmt::Debug for Undo {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_list().entries(self.steps.iter().map(|(name, _)| name)).finish()
    }
}

impl Undo {
    /// Adds a step. It does nothing before [`Undo::roll_back`].
    pub fn push(
        &mut self,
        name: &'static str,
        step: impl Future<Output = Result<(), String>> + Send + 'static,
    ) {
        self.steps.push((name, Box::pin(step)));
    }

    /// Takes all steps back, last first. Gives those that failed, each with its reason.
    pub async fn roll_back(self) -> Vec<String> {
        let mut failures = Vec::new();
        for (name, step) in self.steps.into_iter().rev() {
            if let Err(reason) = step.await {
                failures.push(format!("{name}: {reason}"));
            }
        }
        failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn steps_are_taken_last_first_and_a_failure_stops_none() {
        let (sender, mut seen) = tokio::sync::mpsc::unbounded_channel();
        let mut undo = Undo::default();
        for (name, fails) in [("first", false), ("second", true), ("third", false)] {
            let sender = sender.clone();
            undo.push(name, async move {
                sender.send(name).map_err(|error| error.to_string())?;
                if fails { Err("busy".to_owned()) } else { Ok(()) }
            });
        }
        assert_eq!(undo.roll_back().await, ["second: busy"]);
        let order = [seen.recv().await, seen.recv().await, seen.recv().await];
        assert_eq!(order, [Some("third"), Some("second"), Some("first")]);
    }
}
