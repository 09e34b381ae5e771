//! What the stream's retention took, and what becomes of iterators.

use std::{sync::Arc, time::Duration};

use kinesis_consumer::{
    Checkpoint, Error, Event, KinesisError, SequenceNumber, lease::Lease, test_util::ShardFilter,
};
use rstest::rstest;
use tokio::{sync::Notify, time::sleep};

use super::world::{Told, What, World, checkpointing, config, shard};

/// Leaves a checkpoint at a record of shard 0.
fn checkpoint_at(world: &World, record: usize) -> SequenceNumber {
    let number = world.stream(|stream| stream.number_of(&shard(0), record));
    let mut lease = Lease::new(shard(0), Checkpoint::parse(number.as_str(), 0).unwrap());
    lease.hash_range = world
        .stream(|stream| stream.list(ShardFilter::All))
        .swap_remove(0)
        .hash_range
        .into();
    world.table().put(lease);
    number
}

/// From which record to which: the gaps that were told.
fn told_gaps(world: &World) -> Vec<(String, Option<String>)> {
    let gap = |told: Told| match told.what {
        What::Event(Event::CheckpointExpired {
            checkpoint, oldest, ..
        }) => Some((checkpoint.to_string(), oldest.map(|it| it.to_string()))),
        _ => None,
    };
    world.told().into_iter().filter_map(gap).collect()
}

/// AWS refuses a number that is gone, or reads on at the oldest record.
#[rstest]
#[case::refused(true)]
#[case::read_on(false)]
#[tokio::test(start_paused = true)]
async fn records_that_the_retention_took_are_told_and_reading_goes_on(#[case] refuse: bool) {
    let world = World::new(1);
    world.put(0, 5);
    let done = checkpoint_at(&world, 0);
    let oldest = world.stream(|stream| {
        let taken = stream.number_of(&shard(0), 2);
        stream.trim(&shard(0), &taken, refuse);
        stream.number_of(&shard(0), 3)
    });
    let _worker = world.start(config("a"), checkpointing());
    sleep(Duration::from_secs(5)).await;
    let gap = (done.to_string(), Some(oldest.to_string()));
    assert_eq!(told_gaps(&world), [gap]);
    assert_eq!(world.delivered(0), [3, 4]);
}

/// Between the refusal and the first page.
#[tokio::test(start_paused = true)]
async fn what_the_retention_takes_after_a_refusal_is_told_too() {
    let world = World::new(1);
    world.put(0, 5);
    let done = checkpoint_at(&world, 0);
    let take = |last| {
        world.stream(|stream| {
            let taken = stream.number_of(&shard(0), last);
            stream.trim(&shard(0), &taken, true);
        });
    };
    take(2);
    let _worker = world.start(config("a"), checkpointing());
    let retries = |told: &Told| matches!(told.what, What::Event(Event::Retrying { .. }));
    while !world.told().iter().any(retries) {
        sleep(Duration::from_millis(1)).await;
    }
    take(3);
    sleep(Duration::from_secs(5)).await;
    let oldest = world.stream(|stream| stream.number_of(&shard(0), 4));
    let gap = (done.to_string(), Some(oldest.to_string()));
    assert_eq!(told_gaps(&world), [gap]);
    assert_eq!(world.delivered(0), [4]);
}

#[tokio::test(start_paused = true)]
async fn a_checkpointed_record_that_is_still_there_is_no_gap_even_if_it_is_refused_for_a_moment() {
    let world = World::new(1);
    world.put(0, 3);
    checkpoint_at(&world, 0);
    world.refuse(0, [KinesisError::InvalidSequenceNumber("no".into())]);
    let _worker = world.start(config("a"), checkpointing());
    sleep(Duration::from_secs(5)).await;
    assert_eq!(told_gaps(&world), []);
    assert_eq!(world.delivered(0), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn an_idle_shard_whose_last_record_is_gone_has_no_gap() {
    let world = World::new(1);
    world.put(0, 1);
    let done = checkpoint_at(&world, 0);
    world.stream(|stream| stream.trim(&shard(0), &done, false));
    let _worker = world.start(config("a"), checkpointing());
    sleep(Duration::from_secs(5)).await;
    world.put(0, 1);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(told_gaps(&world), []);
    assert_eq!(world.delivered(0), [1]);
}

/// A processor that hangs for a day, and a retention that is no longer than that.
#[rstest]
#[case::of_what_was_unread(2, true)]
#[case::of_what_was_read(0, false)]
#[tokio::test(start_paused = true)]
async fn what_the_retention_takes_from_a_reader_is_told(#[case] taken: usize, #[case] told: bool) {
    let world = World::new(1);
    world.put(0, 2);
    let mut slow = config("a");
    slow.prefetch_bytes = 1;
    let hangs = Arc::new(Notify::new());
    let hang = Arc::clone(&hangs);
    let worker = world.start(
        slow,
        Arc::new(move |_, _, checkpointer| {
            let hang = Arc::clone(&hang);
            Box::pin(async move {
                hang.notified().await;
                Ok(checkpointer.checkpoint().await?)
            })
        }),
    );
    // The first page is in work, the second one waits, and the third is not asked for.
    sleep(Duration::from_secs(10)).await;
    world.put(0, 1);
    sleep(Duration::from_secs(10)).await;
    let fetched = world.reads(0).len();
    world.put(0, 3);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(world.reads(0).len(), fetched, "nothing more is fetched");
    let last = world.stream(|stream| {
        stream.pass(Duration::from_hours(24));
        let last = stream.number_of(&shard(0), 2);
        let to = stream.number_of(&shard(0), taken + 1);
        stream.trim(&shard(0), &to, false);
        last
    });
    for _ in 0..3 {
        hangs.notify_one();
        sleep(Duration::from_secs(10)).await;
    }
    let oldest = world.stream(|stream| stream.number_of(&shard(0), taken + 2));
    let gap = (last.to_string(), Some(oldest.to_string()));
    assert_eq!(told_gaps(&world), Vec::from_iter(told.then_some(gap)));
    drop(worker);
}

/// A record in two days: its predecessor is gone by then, and was the last one.
#[tokio::test(start_paused = true)]
async fn a_reader_at_the_tip_misses_nothing_however_seldom_records_come() {
    let world = World::new(1);
    let _worker = world.start(config("a"), checkpointing());
    for record in 0..3 {
        world.put(0, 1);
        sleep(Duration::from_secs(10)).await;
        world.stream(|stream| {
            stream.pass(Duration::from_hours(48));
            let last = stream.number_of(&shard(0), record);
            stream.trim(&shard(0), &last, false);
        });
        sleep(Duration::from_secs(10)).await;
    }
    assert_eq!(told_gaps(&world), []);
    assert_eq!(world.delivered(0), [0, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_waits_after_a_failed_call_keeps_no_room_from_others() {
    let world = World::new(2);
    world.put(0, 1);
    world.put(1, 1);
    let mut small = config("a");
    // The first page of a shard takes all of it.
    small.memory_bytes = 24 << 20;
    world.break_iterator();
    let _worker = world.start(small, checkpointing());
    while world.reads(0).len() + world.reads(1).len() == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    sleep(Duration::from_millis(50)).await;
    let delivered = [world.delivered(0), world.delivered(1)].concat();
    assert_eq!(delivered, [0], "the other one's");
}

#[tokio::test(start_paused = true)]
async fn an_iterator_that_is_refused_for_ever_is_replaced() {
    let world = World::new(1);
    world.put(0, 1);
    let worker = world.start(config("a"), checkpointing());
    sleep(Duration::from_secs(5)).await;
    world.break_iterator();
    sleep(Duration::from_secs(5)).await;
    world.put(0, 1);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(world.delivered(0), [0, 1]);
    worker.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_open_shard_whose_reading_comes_to_an_end_is_read_on() {
    let world = World::new(1);
    world.put(0, 2);
    world.end_early(2);
    let worker = world.start(config("a"), checkpointing());
    sleep(Duration::from_secs(10)).await;
    world.put(0, 1);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(world.delivered(0), [0, 1, 2]);
    let tells = |told: &Told| matches!(&told.what, What::Event(Event::Retrying { error, .. }) if error.contains("has it open"));
    assert_eq!(world.told().iter().filter(|told| tells(told)).count(), 2);
    worker.stop().await.unwrap();
    assert!(!world.table().leases()[0].is_finished());
}

/// A number that Kinesis never takes although older records are there is no expired one.
#[tokio::test(start_paused = true)]
async fn a_checkpoint_that_is_another_streams_drops_no_record() {
    let world = World::new(1);
    world.put(0, 3);
    checkpoint_at(&world, 1);
    // The look for the oldest record, between the refusals, is answered.
    world.refuse_positions(0);
    let worker = world.start(config("a"), checkpointing());
    let error = worker.error().await;
    assert!(matches!(error, Error::OtherStream { .. }), "{error}");
    assert_eq!(world.delivered(0), Vec::<u64>::new());
    assert_eq!(told_gaps(&world), []);
}
