//! Where reading starts, how fast it goes, and what becomes of errors.

use std::{iter::repeat_with, sync::Arc, time::Duration};

use kinesis_consumer::{Event, InitialPosition, KinesisError};
use rstest::rstest;
use tokio::time::sleep;

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
