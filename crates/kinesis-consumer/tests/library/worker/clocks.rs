//! This machine's clock is not Kinesis': no position comes of it.

use std::time::Duration;

use kinesis_consumer::{Checkpoint, Event, InitialPosition, lease::Lease};
use rstest::rstest;
use tokio::time::sleep;

use super::world::{Told, What, World, checkpointing, config, shard};
use crate::stream::Stream;

/// A stream whose clock is so many seconds ahead.
fn world(ahead: i64) -> World {
    let world = World::new(1);
    let stream = Stream::new(1, Duration::from_secs(300)).ahead(ahead);
    world.stream(|old| *old = stream);
    world
}

fn started(told: &Told) -> bool {
    matches!(told.what, What::Event(Event::ShardStarted { .. }))
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn latest_misses_nothing_that_is_put_after_the_start(
    #[values(-3600, -120, 0, 120, 3600)] ahead: i64,
) {
    let world = world(ahead);
    world.put(0, 2);
    sleep(Duration::from_secs(60)).await;
    let latest = |worker: &str| {
        let mut config = config(worker);
        config.initial_position = InitialPosition::Latest;
        config
    };
    let first = world.start(latest("a"), checkpointing());
    world.until("started", started).await;
    world.put(0, 2);
    first.kill().await;
    world.put(0, 1);
    sleep(Duration::from_secs(60)).await;
    let second = world.start(latest("b"), checkpointing());
    sleep(Duration::from_secs(20)).await;
    let delivered = world.delivered(0);
    assert!(delivered.ends_with(&[2, 3, 4]), "{delivered:?}");
    assert!(!delivered.contains(&0), "{delivered:?}: not the old ones");
    let failed = |told: &Told| matches!(told.what, What::Event(Event::Failing { .. }));
    assert!(!world.told().iter().any(failed), "{:#?}", world.told());
    second.stop().await.unwrap();
}

/// Left by a worker whose clock was ahead: Kinesis refuses a time that is to come.
#[tokio::test(start_paused = true)]
async fn a_time_that_is_to_come_is_not_asked_for() {
    let world = world(0);
    let hour = jiff::SignedDuration::from_hours(1);
    world.table().put(Lease {
        latest_since: Some(world.stream(|stream| stream.now()) + hour),
        ..Lease::new(shard(0), Checkpoint::Latest)
    });
    let worker = world.start(config("a"), checkpointing());
    world.until("started", started).await;
    world.put(0, 2);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(world.delivered(0), [0, 1]);
    worker.stop().await.unwrap();
}

/// For a moment the Date of AWS's answers is ahead: what is put after the start is read all the
/// same, by this worker and by the next one.
#[rstest]
#[tokio::test(start_paused = true)]
async fn a_date_that_is_ahead_at_the_start_skips_nothing(
    #[values(30, 3600)] ahead: i64,
    #[values(true, false)] is_killed: bool,
) {
    let world = world(0);
    world.put(0, 2);
    sleep(Duration::from_secs(60)).await;
    let latest = |worker: &str| {
        let mut config = config(worker);
        config.initial_position = InitialPosition::Latest;
        config
    };
    world.say_time_ahead(ahead);
    let first = world.start(latest("a"), checkpointing());
    world.until("started", started).await;
    if is_killed {
        first.kill().await;
    }
    world.put(0, 2);
    world.say_time_ahead(0);
    sleep(Duration::from_secs(60)).await;
    world.put(0, 1);
    let second = world.start(latest("b"), checkpointing());
    sleep(Duration::from_secs(60)).await;
    let delivered = world.delivered(0);
    assert!(delivered.ends_with(&[2, 3, 4]), "{delivered:?}");
    assert!(!delivered.contains(&0), "{delivered:?}: not the old ones");
    second.stop().await.unwrap();
}

/// Nobody knows then what came since the start: that is told.
#[tokio::test(start_paused = true)]
async fn a_time_that_is_to_come_is_told_as_a_gap_and_mended() {
    let world = world(0);
    let wrong = world.stream(|stream| stream.now()) + jiff::SignedDuration::from_mins(10);
    world.table().put(Lease {
        latest_since: Some(wrong),
        ..Lease::new(shard(0), Checkpoint::Latest)
    });
    let worker = world.start(config("a"), checkpointing());
    world.until("started", started).await;
    let gap = |told: &Told| {
        let What::Event(Event::CheckpointExpired { checkpoint, .. }) = &told.what else {
            return false;
        };
        *checkpoint == Checkpoint::Latest
    };
    assert!(world.told().iter().any(gap), "{:#?}", world.told());
    let lease = world.table().lease(shard(0)).unwrap();
    let now = world.stream(|stream| stream.now());
    assert!(
        lease.latest_since.is_some_and(|since| since < now),
        "{lease:?}"
    );
    worker.stop().await.unwrap();
}
