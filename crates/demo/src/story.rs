//! The stories, step by step: each does one thing an operator would do, and waits for what should
//! come of it.

pub mod lag;
pub mod shards;

use std::{collections::HashSet, time::Duration};

use anyhow::{Result, bail};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use crate::{
    args::Scene,
    autoscaler::ScaledObject,
    ledger::{Ledger, Verdict},
    pods::Deployment,
    producer::Switch,
    stage::Stage,
    state::{Board, Phase, Shard, Source, State, Step},
    times::{Times, human},
};

/// What the steps act on.
#[derive(Debug)]
pub struct Story<'a> {
    /// Where everything is to be seen.
    pub board: &'a Board,
    /// The services.
    pub stage: &'a Stage,
    /// The consumers.
    pub deployment: &'a Deployment,
    /// What was sent.
    pub ledger: &'a Ledger,
    /// Applies a ScaledObject.
    pub applied: &'a watch::Sender<Option<ScaledObject>>,
    /// Sets the producer's rate, and stops it.
    pub producer: &'a Switch,
    /// How fast.
    pub times: &'a Times,
}

impl Story<'_> {
    /// Tells one, and returns what the table holds at the end. An error: a step's goal was not
    /// reached, or AWS refused.
    pub async fn tell(&self, scene: Scene) -> Result<Verdict> {
        match scene {
            Scene::Shards => shards::tell(self).await,
            Scene::Lag => lag::tell(self).await,
        }
    }

    /// Shows all steps, by title and goal, before the first begins.
    fn plan(&self, steps: &[(String, String)]) {
        let step = |(title, goal): &(String, String)| Step {
            title: title.clone(),
            goal: goal.clone(),
            began: None,
            reached: None,
        };
        self.board
            .update(|state| state.steps = steps.iter().map(step).collect());
    }

    fn begin(&self, step: usize) {
        let at = self.board.elapsed();
        let text = self.board.update(|state| {
            let all = state.steps.len();
            let Step {
                title, goal, began, ..
            } = &mut state.steps[step];
            *began = Some(at);
            format!("{}/{all} {title} → {goal}", step + 1)
        });
        self.board.say(Source::Story, text);
    }

    /// Waits for the step's goal, then leaves it on the screen for a while.
    async fn reach(&self, step: usize, goal: impl Fn(&State) -> bool + Send + Sync) -> Result<()> {
        let reached = self.board.until(|state| goal(state).then_some(()));
        if timeout(self.times.give_up, reached).await.is_err() {
            let state = self.board.read();
            let Step { title, goal, .. } = &state.steps[step];
            bail!(
                "step {}, {title:?}, did not come to {goal:?} within {}: {}; logs are in {}",
                step + 1,
                human(self.times.give_up),
                describe(&state),
                self.stage.out.join("logs").display()
            );
        }
        self.mark_reached(step);
        sleep(self.times.hold).await;
        Ok(())
    }

    fn mark_reached(&self, step: usize) {
        let at = self.board.elapsed();
        let text = self.board.update(|state| {
            let Step {
                goal,
                began,
                reached,
                ..
            } = &mut state.steps[step];
            *reached = Some(at);
            let took = at.saturating_sub(began.unwrap_or(at));
            format!("{goal} after {}", human(took))
        });
        self.board.say(Source::Story, text);
    }

    /// The step in which the producer stops and the table is compared with what was sent.
    async fn stop_sending(&self, step: usize) -> Result<Verdict> {
        self.begin(step);
        self.producer.off().await;
        self.drained().await?;
        let verdict = self.ledger.verify(&self.stage.dynamodb).await?;
        if verdict.is_right() {
            self.mark_reached(step);
        }
        Ok(verdict)
    }

    /// Waits until as many users are in the table as were sent, or nothing has come in for long.
    async fn drained(&self) -> Result<()> {
        let drained = self
            .board
            .until(|state| (state.sent > 0 && state.stored >= state.sent).then_some(()));
        // Not reached: the verdict will say what is missing.
        let _ = timeout(self.times.give_up / 2, drained).await;
        Ok(())
    }
}

/// Are there exactly so many open shards and ready pods, with every unfinished shard held by one of
/// them, and fairly?
fn settled(state: &State, open_shards: usize, pods: usize) -> bool {
    let existing: HashSet<&str> = state
        .pods
        .iter()
        .filter(|pod| pod.exists())
        .map(|pod| pod.name.as_str())
        .collect();
    let holds = |pod: &str| state.held_by(pod).count();
    let unfinished: Vec<&Shard> = state
        .shards
        .iter()
        .filter(|shard| !shard.finished)
        .collect();
    state.open_shards() == open_shards
        && unfinished.len() == open_shards
        && unfinished.iter().all(|shard| {
            shard
                .holder
                .as_deref()
                .is_some_and(|holder| existing.contains(holder))
        })
        && existing.len() == pods
        && state.running() == pods
        && existing.iter().all(|pod| holds(pod) >= open_shards / pods)
        && state.lag < Duration::from_secs(3)
}

fn is_dead(state: &State, name: &str) -> bool {
    state
        .pods
        .iter()
        .any(|pod| pod.name == name && pod.phase == Phase::Died)
}

fn describe(state: &State) -> String {
    let pods: Vec<String> = state
        .pods
        .iter()
        .filter(|pod| pod.exists())
        .map(|pod| format!("{} {}", pod.name, pod.phase.name()))
        .collect();
    let shards: Vec<String> = state
        .shards
        .iter()
        .filter(|shard| !shard.finished)
        .map(|shard| {
            let open = if shard.open { "open" } else { "closed" };
            format!(
                "{} {open}, held by {}",
                shard.short(),
                shard.holder.as_deref().unwrap_or("nobody")
            )
        })
        .collect();
    format!(
        "pods [{}], unfinished shards [{}], lag {}",
        pods.join(", "),
        shards.join("; "),
        human(state.lag)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Pod;

    fn state(shards: &[(&str, bool, &str)], pods: &[(&str, Phase)]) -> State {
        let shard = |(id, open, holder): &(&str, bool, &str)| Shard {
            id: (*id).into(),
            open: *open,
            holder: (!holder.is_empty()).then(|| (*holder).into()),
            finished: false,
        };
        let pod = |(name, phase): &(&str, Phase)| Pod {
            name: (*name).into(),
            phase: *phase,
            started: Duration::ZERO,
            ended: None,
            processed: 0,
            repeated: 0,
            per_second: 0.0,
        };
        State {
            shards: shards.iter().map(shard).collect(),
            pods: pods.iter().map(pod).collect(),
            ..State::default()
        }
    }

    #[test]
    fn settled_is_each_shard_held_and_each_pod_busy() {
        use Phase::{Gone, Running, Starting, Terminating};
        let shards = [("0", true, "a"), ("1", true, "b")];
        assert!(settled(
            &state(&shards, &[("a", Running), ("b", Running), ("c", Gone)]),
            2,
            2
        ));
        assert!(
            !settled(&state(&shards, &[("a", Running), ("b", Running)]), 3, 2),
            "a shard is missing"
        );
        assert!(
            !settled(&state(&shards, &[("a", Running), ("b", Starting)]), 2, 2),
            "not ready"
        );
        assert!(
            !settled(
                &state(
                    &shards,
                    &[("a", Running), ("b", Running), ("c", Terminating)]
                ),
                2,
                2
            ),
            "one too many"
        );
        let both = [("0", true, "a"), ("1", true, "a")];
        assert!(
            !settled(&state(&both, &[("a", Running), ("b", Running)]), 2, 2),
            "b has nothing"
        );
        assert!(settled(&state(&both, &[("a", Running)]), 2, 1));
        let unheld = [("0", true, "a"), ("1", true, "")];
        assert!(
            !settled(&state(&unheld, &[("a", Running)]), 2, 1),
            "1 is nobody's"
        );
        let parent = [("0", false, "a"), ("1", true, "a"), ("2", true, "b")];
        assert!(
            !settled(&state(&parent, &[("a", Running), ("b", Running)]), 2, 2),
            "0 is not read to its end"
        );
    }
}
