//! Positions that are no record of the shard's: times, another stream's, somebody's invention.

use std::time::Duration;

use kinesis_consumer::{Checkpoint, Error, Event, InitialPosition, lease::Lease};
use rstest::rstest;
use tokio::time::sleep;

use super::world::{Told, What, World, checkpointing, config, shard};

/// A position that is a time says of no record that it is gone.
#[rstest]
#[case::stopped_at_latest(true, false)]
#[case::a_record_from_before_is_left(true, true)]
#[case::at_timestamp(false, false)]
#[tokio::test(start_paused = true)]
async fn what_the_retention_took_since_a_time_is_told(
    #[case] at_latest: bool,
    #[case] is_older_left: bool,
) {
    let world = World::new(1);
    let mut config = config("a");
    world.put(0, 1);
    sleep(Duration::from_secs(60)).await;
    let now = world.stream(|stream| stream.now());
    config.initial_position = match at_latest {
        true => InitialPosition::Latest,
        false => InitialPosition::AtTimestamp(now),
    };
    if at_latest {
        let first = world.start(config.clone(), checkpointing());
        sleep(Duration::from_secs(30)).await;
        first.stop().await.unwrap();
    }
    world.put(0, 5);
    sleep(Duration::from_secs(26 * 3600)).await;
    if !is_older_left {
        let last = world.stream(|stream| stream.number_of(&shard(0), 5));
        world.stream(|stream| stream.trim(&shard(0), &last, false));
    }
    world.put(0, 2);
    let second = world.start(config, checkpointing());
    sleep(Duration::from_secs(60)).await;
    let gap = |told: &Told| matches!(told.what, What::Event(Event::CheckpointExpired { .. }));
    let gaps = world.told().iter().filter(|told| gap(told)).count();
    assert_eq!(gaps, usize::from(!is_older_left), "{:#?}", world.told());
    let delivered = world.delivered(0);
    assert!(delivered.ends_with(&[6, 7]), "{delivered:?}");
    second.stop().await.unwrap();
}

/// No checkpoint shows it while the leases are idle.
#[tokio::test(start_paused = true)]
async fn a_stream_made_anew_while_its_leases_are_idle_is_told_within_seconds() {
    let world = World::new(2);
    let worker = world.start(config("a"), checkpointing());
    sleep(Duration::from_secs(65)).await;
    world.stream(|stream| *stream = stream.made_anew(2, false));
    world.put(0, 3);
    let made_anew = world.now();
    let error = worker.error().await;
    assert!(matches!(error, Error::StreamRecreated { .. }), "{error}");
    assert!(world.now() - made_anew < Duration::from_secs(5));
    assert!(world.delivered(0).is_empty());
    let leases = world.table().leases();
    let is_untouched = |lease: &Lease| lease.checkpoint == Checkpoint::TrimHorizon;
    assert!(leases.iter().all(is_untouched), "{leases:#?}");
}

/// The lease says that it is of this stream: its checkpoint is to be mended, not the application.
#[rstest]
#[case::far_on("99999999999999999999999999999999999999")]
#[case::before_the_shard("17")]
#[tokio::test(start_paused = true)]
async fn a_checkpoint_that_the_shard_never_had_is_not_called_an_older_streams(
    #[case] never_had: &str,
) {
    let world = World::new(1);
    world.put(0, 3);
    let first = world.start(config("a"), checkpointing());
    sleep(Duration::from_secs(30)).await;
    first.stop().await.unwrap();
    let never_had = Checkpoint::parse(never_had, 0).unwrap();
    world
        .table()
        .edit(shard(0), |lease| lease.checkpoint = never_had);
    world.refuse_positions(0);
    let error = world.start(config("b"), checkpointing()).error().await;
    assert!(matches!(error, Error::WrongCheckpoint { .. }), "{error}");
    assert!(!error.to_string().contains("another name"), "{error}");
}
