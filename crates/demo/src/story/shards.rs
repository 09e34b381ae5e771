//! A pod for each shard: deployed, resharded, killed, resharded back.

use anyhow::{Context as _, Result};
use aws_sdk_kinesis::types::ScalingType;
use keda_rules::Limits;

use super::{Story, is_dead, settled};
use crate::{autoscaler::ScaledObject, ledger::Verdict, stage::STREAM, state::Phase, times::Times};

/// Shards at the start.
pub const SHARDS: u32 = 2;
/// Users a second.
pub const RATE: u32 = 50;

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
        stabilisation: times.stabilisation,
        cooldown: times.cooldown,
        scale_up_period: times.poll,
        ..Limits::defaults(1, 10)
    }
}

/// Tells it, and returns what the table holds at the end. An error: a step's goal was not reached,
/// or AWS refused.
pub(super) async fn tell(story: &Story<'_>) -> Result<Verdict> {
    story.plan(&STEPS.map(|(title, goal)| (title.to_owned(), goal.to_owned())));

    story.begin(0);
    story.deployment.scale(1);
    story.reach(0, |state| settled(state, 2, 1)).await?;

    story.begin(1);
    apply(story, 1);
    story.reach(1, |state| settled(state, 2, 2)).await?;

    story.begin(2);
    reshard(story, 3).await?;
    story.reach(2, |state| settled(state, 3, 3)).await?;

    story.begin(3);
    let victim = busiest_pod(story).context("no pod to kill")?;
    story.deployment.kill(&victim);
    let replaced = |state: &_| is_dead(state, &victim) && settled(state, 3, 3);
    story.reach(3, replaced).await?;

    story.begin(4);
    reshard(story, 2).await?;
    story.reach(4, |state| settled(state, 2, 2)).await?;

    story.begin(5);
    apply(story, 3);
    story.reach(5, |state| settled(state, 2, 1)).await?;

    let verdict = story.stop_sending(6).await?;
    // The last moments belong to the picture too.
    tokio::time::sleep(story.times.hold / 2).await;
    Ok(verdict)
}

fn apply(story: &Story<'_>, shard_count: u32) {
    story
        .board
        .update(|state| state.shard_count = Some(shard_count));
    story.applied.send_replace(Some(ScaledObject {
        metadata: story.stage.trigger_metadata(shard_count),
        limits: limits(story.times),
        push: false,
        polling_interval: story.times.poll,
    }));
}

async fn reshard(story: &Story<'_>, shards: i32) -> Result<()> {
    story
        .stage
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
fn busiest_pod(story: &Story<'_>) -> Option<String> {
    let state = story.board.read();
    let running = state.pods.iter().filter(|pod| pod.phase == Phase::Running);
    running
        .max_by_key(|pod| state.held_by(&pod.name).count())
        .map(|pod| pod.name.clone())
}
