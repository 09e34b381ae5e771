//! Where reading starts, how fast it goes, and what becomes of errors.

use std::{iter::repeat_with, sync::Arc, time::Duration};

use kinesis_consumer::{
    Checkpoint, Error, Event, InitialPosition, KinesisError, SequenceNumber, lease::Lease,
    test_util::ShardFilter,
};
use rstest::rstest;
use tokio::{sync::Notify, time::sleep};

use super::world::{Answer, Told, What, World, checkpointing, config, shard};

fn gaps(reads: &[Duration]) -> Vec<u128> {
    reads
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).as_millis())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn calls_are_paced_by_the_quota_while_behind_and_by_half_of_it_at_the_tip() {
    let world = World::new(1);
    world.put(0, 50);
    let mut config = config("a");
    config.max_records = 10;
    let _worker = world.start(config, checkpointing());
    sleep(Duration::from_millis(2100)).await;
    assert_eq!(gaps(&world.reads(0)), [200, 200, 200, 200, 400, 413, 426]);
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_falls_silent_is_read_once_a_second_and_often_again_with_the_next_record() {
    let world = World::new(1);
    world.put(0, 1);
    let _worker = world.start(config("a"), checkpointing());
    sleep(Duration::from_secs(60)).await;
    let silent = gaps(&world.reads(0));
    let read = silent.len();
    assert!(silent.is_sorted() && silent[0] == 400, "{silent:?}");
    let whole = silent.iter().skip_while(|gap| **gap < 1000).count();
    assert!(whole > 30, "{silent:?}");
    world.put(0, 1);
    sleep(Duration::from_millis(2500)).await;
    let reads = gaps(&world.reads(0));
    assert!(reads[read..].starts_with(&[1000, 400, 413]), "{reads:?}");
}

/// One record a second: each is with the processor within 500 ms.
#[tokio::test(start_paused = true)]
async fn a_trickle_is_delivered_within_half_a_second() {
    let world = World::new(1);
    let mut pause = Duration::from_millis(1000);
    let _worker = world.start(config("a"), checkpointing());
    sleep(Duration::from_secs(60)).await;
    for nth in 0..100 {
        world.put(0, 1);
        let put = world.now();
        let delivered = world
            .until("delivered", |told| {
                matches!(&told.what, What::Delivered(_, ordinals) if ordinals.contains(&nth))
            })
            .await;
        let limit = if nth == 0 { 1_200 } else { 500 };
        let latency = delivered - put;
        assert!(latency.as_millis() <= limit, "{nth}: {latency:?}");
        sleep(pause).await;
        // Not in step with the reads.
        pause = Duration::from_millis(1000 + (nth * 37) % 211);
    }
}

#[tokio::test(start_paused = true)]
async fn large_pages_are_paced_by_their_bytes() {
    let world = World::new(1);
    (0..30).for_each(|_| world.stream(|stream| stream.put_large(0, 1 << 20)));
    let mut config = config("a");
    config.max_records = 10;
    config.prefetch_bytes = 32 << 20;
    let _worker = world.start(config, checkpointing());
    sleep(Duration::from_secs(14)).await;
    let gaps = gaps(&world.reads(0));
    assert!(
        gaps.len() == 2 && gaps.iter().all(|gap| (5000..5010).contains(gap)),
        "{gaps:?}"
    );
}

/// The first pages of a backlog come faster than the quota's pace, unless AWS refuses that once.
#[rstest]
#[case(false, &[200, 200, 350, 500, 500])]
#[case(true, &[500, 500, 500, 500])]
#[tokio::test(start_paused = true)]
async fn most_of_a_second_of_the_quota_is_read_ahead(#[case] refused: bool, #[case] want: &[u128]) {
    let world = World::new(1);
    (0..8).for_each(|_| world.stream(|stream| stream.put_large(0, 1 << 20)));
    let mut config = config("a");
    config.max_records = 1;
    config.prefetch_bytes = 32 << 20;
    let _worker = world.start(config, checkpointing());
    // Between the first two pages.
    sleep(Duration::from_millis(150)).await;
    if refused {
        world.refuse(0, [KinesisError::Throttled("slower".into())]);
    }
    sleep(Duration::from_secs(12)).await;
    let gaps = gaps(&world.reads(0));
    // The refused one is asked for again a second later at the earliest.
    assert!(!refused || gaps[1] >= 1000, "{gaps:?}");
    let read = if refused { &gaps[2..] } else { &gaps[..] };
    let near = |(gap, want): (&u128, &u128)| gap.abs_diff(*want) < 5;
    assert!(read.len() >= want.len(), "{gaps:?}");
    assert!(read.iter().zip(want).all(near), "{gaps:?}");
}

/// 10 MB at 250 kB a second take longer than a call may.
#[tokio::test(start_paused = true)]
async fn a_page_that_does_not_come_in_time_is_asked_for_in_parts() {
    let world = World::new(1);
    (0..30).for_each(|_| world.stream(|stream| stream.put_large(0, 350_000)));
    world.slow_down(250_000);
    let _worker = world.start(config("a"), checkpointing());
    sleep(Duration::from_secs(120)).await;
    assert_eq!(world.delivered(0), (0..30).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn an_empty_page_is_not_the_tip() {
    let world = World::new(1);
    world.put(0, 3);
    world.leave_empty(4);
    let _worker = world.start(config("a"), checkpointing());
    sleep(Duration::from_millis(1300)).await;
    assert_eq!(world.delivered(0), [0, 1, 2]);
    assert_eq!(gaps(&world.reads(0)), [200, 200, 200, 200, 400]);
}

/// What is fetched ahead of a processor that is stuck stays within `prefetch_bytes`, but for the
/// one page that is fetched already.
#[tokio::test(start_paused = true)]
async fn fetches_ahead_no_more_than_fits() {
    let world = World::new(1);
    (0..100).for_each(|_| world.stream(|stream| stream.put_large(0, 100 << 10)));
    let mut config = config("a");
    config.max_records = 1;
    config.prefetch_bytes = 1 << 20;
    let _worker = world.start(config, Arc::new(|_, _, _| Box::pin(std::future::pending())));
    sleep(Duration::from_secs(60)).await;
    // Ten of 100 KiB fit into 1 MiB, the one in work among them.
    assert_eq!(world.reads(0).len(), 11);
}

#[tokio::test(start_paused = true)]
async fn a_throttled_shard_backs_off_alone() {
    let world = World::new(2);
    world.refuse(
        0,
        repeat_with(|| KinesisError::Throttled("slower".into())).take(1000),
    );
    let _worker = world.start(config("a"), checkpointing());
    sleep(Duration::from_secs(60)).await;
    world.put(1, 1);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(world.delivered(1), [0]);
    assert!(world.reads(1).len() >= 60);
    let throttles = world.told().into_iter().filter(|told| match &told.what {
        What::Event(Event::Throttled { shard: id, .. }) => {
            id.as_ref().map(|id| &id.shard) == Some(&shard(0))
        }
        _ => false,
    });
    // 1, 2, 4, 8, 10, 10 … seconds, up to twice as long by jitter.
    assert!((5..12).contains(&throttles.count()));
}

#[tokio::test(start_paused = true)]
async fn records_that_arrive_while_nobody_runs_are_not_lost_to_latest() {
    let world = World::new(1);
    world.put(0, 2);
    let latest = |worker: &str| {
        let mut config = config(worker);
        config.initial_position = InitialPosition::Latest;
        config.clock_skew = Duration::ZERO;
        config
    };
    let started = |worker: &'static str| {
        move |told: &Told| {
            told.worker == worker && matches!(told.what, What::Event(Event::ShardStarted { .. }))
        }
    };
    // What arrives in the very millisecond of the start is read.
    sleep(Duration::from_millis(1)).await;
    let first = world.start(latest("a"), checkpointing());
    world.until("started", started("a")).await;
    first.kill().await;
    world.put(0, 3);
    sleep(Duration::from_secs(60)).await;
    let _second = world.start(latest("b"), checkpointing());
    world.until("started", started("b")).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.delivered(0), [2, 3, 4]);
}

// === what the stream's retention took ===

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

// === streams that are gone ===

#[tokio::test(start_paused = true)]
async fn a_deleted_stream_is_told_not_looped_on() {
    let world = World::new(1);
    let worker = world.start(config("a"), checkpointing());
    sleep(Duration::from_secs(5)).await;
    let gone = || repeat_with(|| KinesisError::NotFound("no such stream".into())).take(1000);
    world.refuse(0, gone());
    world.refuse_lists(gone());
    assert!(matches!(worker.error().await, Error::Stream { .. }));
    let leases = world.table().leases();
    assert!(
        leases
            .iter()
            .all(|lease| lease.owner.is_none() && !lease.is_finished()),
        "released, and not taken for read to the end: {leases:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_recreated_stream_is_told_not_looped_on() {
    let world = World::new(1);
    world.put(0, 3);
    world
        .table()
        .put(Lease::new(shard(0), Checkpoint::parse("17", 0).unwrap()));
    let worker = world.start(config("a"), checkpointing());
    assert!(matches!(
        worker.error().await,
        Error::StreamRecreated { .. }
    ));
    assert!(world.delivered(0).is_empty());
    assert!(
        world
            .table()
            .leases()
            .iter()
            .all(|lease| lease.owner.is_none())
    );
}

#[tokio::test(start_paused = true)]
async fn a_recreated_stream_whose_old_leases_are_finished_is_told() {
    let world = World::new(1);
    world.put(0, 3);
    world
        .table()
        .put(Lease::new(shard(0), Checkpoint::ShardEnd));
    let worker = world.start(config("a"), checkpointing());
    assert!(matches!(
        worker.error().await,
        Error::StreamRecreated { .. }
    ));
}

/// The old stream was resharded and its first leases are gone, so no shard of the new one has a
/// lease: they would start at LATEST, behind what is there.
#[tokio::test(start_paused = true)]
async fn a_recreated_stream_without_any_of_the_leased_shards_is_told() {
    let world = World::new(2);
    let mut latest = config("a");
    latest.initial_position = InitialPosition::Latest;
    let worker = world.start(latest.clone(), checkpointing());
    sleep(Duration::from_secs(5)).await;
    world.stream(|stream| (0..2).for_each(|index| stream.split(index)));
    sleep(Duration::from_secs(30)).await;
    worker.stop().await.unwrap();
    (0..2).for_each(|index| world.table().delete_row(shard(index)));
    let leases = world.table().leases();
    assert_eq!(leases.len(), 4);
    world.stream(|stream| *stream = stream.made_anew(2, false));
    world.put(0, 3);
    let worker = world.start(latest, checkpointing());
    let error = worker.error().await;
    assert!(matches!(error, Error::StreamRecreated { .. }), "{error}");
    assert_eq!(world.table().leases(), leases, "untouched");
}

#[tokio::test(start_paused = true)]
async fn errors_are_sat_out() {
    let world = World::new(1);
    world.put(0, 3);
    let errors = [
        KinesisError::Unavailable("500".into()),
        KinesisError::ExpiredIterator("old".into()),
        KinesisError::NotFound("for a moment".into()),
        KinesisError::Permanent("AccessDenied".into()),
    ];
    world.refuse(0, errors);
    let _worker = world.start(config("a"), checkpointing());
    sleep(Duration::from_secs(30)).await;
    assert_eq!(world.delivered(0), [0, 1, 2]);
}

/// As by a proxy that lets no large answer pass.
#[tokio::test(start_paused = true)]
async fn a_page_that_breaks_off_again_and_again_is_asked_for_in_parts() {
    let world = World::new(1);
    (0..20).for_each(|_| world.stream(|stream| stream.put_large(0, 1000)));
    world.break_pages_over(3000);
    let worker = world.start(config("a"), checkpointing());
    sleep(Duration::from_secs(600)).await;
    assert_eq!(world.delivered(0), (0..20).collect::<Vec<_>>());
    worker.stop().await.unwrap();
}

/// A batch may take longer than an iterator lives: none that is too old is used.
#[tokio::test(start_paused = true)]
async fn an_iterator_that_grew_old_while_it_waited_for_room_is_not_used() {
    let world = World::new(1);
    world.put(0, 5);
    let mut config = config("a");
    config.max_records = 1;
    config.prefetch_bytes = 1;
    let slow: Answer = Arc::new(|_, _, checkpointer| {
        Box::pin(async move {
            sleep(Duration::from_secs(400)).await;
            Ok(checkpointer.checkpoint().await?)
        })
    });
    let worker = world.start(config, slow);
    sleep(Duration::from_secs(2500)).await;
    assert_eq!(world.delivered(0), [0, 1, 2, 3, 4]);
    let failed = |told: &Told| matches!(told.what, What::Event(Event::Retrying { .. }));
    assert!(!world.told().iter().any(failed), "{:#?}", world.told());
    worker.stop().await.unwrap();
}
