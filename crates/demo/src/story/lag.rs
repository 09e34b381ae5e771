//! As many pods as keep records young: a burst wakes them from zero, one step makes them enough,
//! and they go when all is read.

use anyhow::{Context as _, Result, bail};
use keda_rules::Limits;

use super::{Story, settled};
use crate::{
    autoscaler::{ScaledObject, pods},
    ledger::Verdict,
    state::{Scaled, Source, State},
    times::human,
};

/// Shards of the stream, all the time.
pub const SHARDS: u32 = 6;
/// What a pod can do, in records a second.
pub const CAPACITY: u32 = 23;
/// Users a second, in the burst.
const RATE: u32 = 50;
/// It stays for so many ticks of the HPA.
const STAYS: u32 = 12;

/// The pods that a rate needs: each has as many shards as it can carry. Leases are dealt by number.
const fn enough_for(rate: u32) -> u32 {
    SHARDS.div_ceil(CAPACITY * SHARDS / rate)
}

/// Tells it, and returns what the table holds at the end. An error: a step's goal was not reached,
/// or AWS refused.
pub(super) async fn tell(story: &Story<'_>) -> Result<Verdict> {
    let enough = enough_for(RATE);
    let times = story.times;
    story.plan(&[
        (
            "deploy one pod, for the leases".to_owned(),
            format!("1 pod reads all {SHARDS} shards"),
        ),
        (
            format!("ScaledObject, scaleOn: lag, {}", human(times.threshold)),
            "0 pods".to_owned(),
        ),
        (
            format!("burst: {RATE} users a second"),
            "the first is in the table".to_owned(),
        ),
        ("too many for one pod".to_owned(), pods(enough)),
        ("go on".to_owned(), format!("{} still", pods(enough))),
        (
            "stop sending".to_owned(),
            "every user is in the table".to_owned(),
        ),
        ("nothing to do".to_owned(), "0 pods".to_owned()),
    ]);
    let runs = |pods: u32| move |state: &State| settled(state, SHARDS as usize, pods as usize);

    story.begin(0);
    story.deployment.scale(1);
    story.reach(0, runs(1)).await?;

    story.begin(1);
    story.deployment.scale(0);
    let stopped = |state: &State| state.pods.iter().all(|pod| !pod.exists());
    story
        .board
        .until(|state| stopped(state).then_some(()))
        .await;
    apply(story);
    let at_rest =
        |state: &State| stopped(state) && state.wish.as_ref().is_some_and(|wish| !wish.active);
    story.reach(1, at_rest).await?;

    story.begin(2);
    story.producer.set(RATE);
    tell_when_woken(story).await?;
    story.mark_reached(2);

    story.begin(3);
    story.reach(3, runs(enough)).await?;
    let steps = changes(&story.board.read().scaled);
    story
        .board
        .say(Source::Story, format!("replicas since the burst: {steps}"));

    story.begin(4);
    let (before, ticks) = {
        let state = story.board.read();
        (state.scaled.len(), state.ticks)
    };
    let stays = |state: &State| state.ticks >= ticks + STAYS || state.scaled.len() > before;
    story.reach(4, stays).await?;
    if story.board.read().scaled.len() > before {
        let steps = changes(&story.board.read().scaled[before..]);
        bail!("{} are enough, but: {steps}", pods(enough));
    }

    let verdict = story.stop_sending(5).await?;

    story.begin(6);
    story.reach(6, stopped).await?;
    Ok(verdict)
}

fn apply(story: &Story<'_>) {
    let times = story.times;
    story.board.update(|state| state.shard_count = Some(1));
    story.applied.send_replace(Some(ScaledObject {
        metadata: story.stage.lag_metadata(times.threshold),
        limits: Limits {
            stabilisation: times.stabilisation,
            cooldown: times.cooldown,
            scale_up_period: times.poll,
            ..Limits::defaults(0, 10)
        },
        push: true,
        polling_interval: times.polling_interval,
    }));
}

/// From the first record on: how long until the scaler's push, and until a pod has stored it.
async fn tell_when_woken(story: &Story<'_>) -> Result<()> {
    let woken = story.board.until(|state| {
        let woken = state.scaled.iter().find(|scaled| scaled.from == 0)?;
        Some((state.first_sent?, *woken, state.first_stored?))
    });
    let (sent, woken, stored) = tokio::time::timeout(story.times.give_up, woken)
        .await
        .context("nothing woke the pods, or they store nothing")?;
    story.board.say(
        Source::Story,
        format!(
            "woken by {} {} after the first record was sent; it is in the table after {}",
            if woken.pushed { "push" } else { "a poll" },
            human(woken.at.saturating_sub(sent)),
            human(stored.saturating_sub(sent)),
        ),
    );
    Ok(())
}

fn changes(scaled: &[Scaled]) -> String {
    let changes = scaled.iter().map(|it| format!("{} → {}", it.from, it.to));
    changes.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_number_is_neither_tight_nor_all_that_may_be_had() {
        let enough = enough_for(RATE);
        assert_eq!(enough, 3);
        assert!(
            enough * CAPACITY > RATE + CAPACITY / 2,
            "it also catches up"
        );
        assert!((enough - 1) * CAPACITY < RATE, "fewer would not do");
        assert!(enough < SHARDS, "shardCount would allow more");
    }
}
