//! The story, step by step: each does one thing an operator would do, and waits for what should come of it.

use std::{collections::HashSet, time::Duration};

use anyhow::{Context as _, Result, bail};
use aws_sdk_kinesis::types::ScalingType;
use keda_rules::Limits;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use crate::{
    autoscaler::ScaledObject,
    ledger::{Ledger, Verdict},
    pods::Deployment,
    producer::Switch,
    stage::{STREAM, Stage},
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
    /// Stops the producer.
    pub producer: &'a Switch,
    /// How fast.
    pub times: &'a Times,
}

/// Title and goal of each step.
const STEPS: [(&str, &str); 7] = [
    ("deploy one pod", "1 pod reads both shards"),
    ("ScaledObject, shardCount \"1\"", "2 pods"),
    ("reshard to 3", "3 pods"),
    ("kill -9 one pod", "3 pods again"),
    ("reshard to 2", "2 pods"),
    ("ScaledObject, shardCount \"3\"", "1 pod"),
    ("stop sending", "every user is in the table"),
];

/// The ScaledObject's replicas and times.
pub fn limits(times: &Times) -> Limits {
    Limits {
        min: 1,
        max: 10,
        tolerance: 0.1,
        stabilisation: times.stabilisation,
        cooldown: times.cooldown,
        scale_up_period: times.poll,
    }
}

impl Story<'_> {
    /// Tells it, and returns what the table holds at the end. An error: a step's goal was not reached, or AWS refused.
    pub async fn tell(&self) -> Result<Verdict> {
        self.board.update(|state| {
            let step = |(title, goal): (&str, &str)| Step {
                title: title.into(),
                goal: goal.into(),
                began: None,
                reached: None,
            };
            state.steps = STEPS.map(step).into();
        });

        self.begin(0);
        self.deployment.scale(1);
        self.reach(0, |state| settled(state, 2, 1)).await?;

        self.begin(1);
        self.apply(1);
        self.reach(1, |state| settled(state, 2, 2)).await?;

        self.begin(2);
        self.reshard(3).await?;
        self.reach(2, |state| settled(state, 3, 3)).await?;

        self.begin(3);
        let victim = self.busiest_pod().context("no pod to kill")?;
        self.deployment.kill(&victim);
        self.reach(3, |state| is_dead(state, &victim) && settled(state, 3, 3))
            .await?;

        self.begin(4);
        self.reshard(2).await?;
        self.reach(4, |state| settled(state, 2, 2)).await?;

        self.begin(5);
        self.apply(3);
        self.reach(5, |state| settled(state, 2, 1)).await?;

        self.begin(6);
        self.producer.off().await;
        self.drained().await?;
        let verdict = self.ledger.verify(&self.stage.dynamodb).await?;
        if verdict.is_right() {
            self.mark_reached(6);
        }
        // The last moments belong to the picture too.
        sleep(self.times.hold / 2).await;
        Ok(verdict)
    }

    fn begin(&self, step: usize) {
        let at = self.board.elapsed();
        let (title, goal) = STEPS[step];
        self.board
            .update(|state| state.steps[step].began = Some(at));
        self.board.say(
            Source::Story,
            format!("{}/{} {title} → {goal}", step + 1, STEPS.len()),
        );
    }

    /// Waits for the step's goal, then leaves it on the screen for a while.
    async fn reach(&self, step: usize, goal: impl Fn(&State) -> bool + Send + Sync) -> Result<()> {
        let reached = self.board.until(|state| goal(state).then_some(()));
        if timeout(self.times.give_up, reached).await.is_err() {
            bail!(
                "step {}, {:?}, did not come to {:?} within {}: {}; logs are in {}",
                step + 1,
                STEPS[step].0,
                STEPS[step].1,
                human(self.times.give_up),
                describe(&self.board.read()),
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
            state.steps[step].reached = Some(at);
            let took = at.saturating_sub(state.steps[step].began.unwrap_or(at));
            format!("{} after {}", STEPS[step].1, human(took))
        });
        self.board.say(Source::Story, text);
    }

    fn apply(&self, shard_count: u32) {
        self.board
            .update(|state| state.shard_count = Some(shard_count));
        let metadata = self.stage.trigger_metadata(shard_count);
        self.applied.send_replace(Some(ScaledObject {
            metadata,
            limits: limits(self.times),
        }));
    }

    async fn reshard(&self, shards: i32) -> Result<()> {
        self.stage
            .kinesis
            .update_shard_count()
            .stream_name(STREAM)
            .target_shard_count(shards)
            .scaling_type(ScalingType::UniformScaling)
            .send()
            .await
            .context("UpdateShardCount")?;
        Ok(())
    }

    /// A running pod with shards: its death leaves something unread.
    fn busiest_pod(&self) -> Option<String> {
        let state = self.board.read();
        let running = state.pods.iter().filter(|pod| pod.phase == Phase::Running);
        running
            .max_by_key(|pod| state.held_by(&pod.name).count())
            .map(|pod| pod.name.clone())
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

/// Are there exactly so many open shards and ready pods, with every unfinished shard held by one of them, and fairly?
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
