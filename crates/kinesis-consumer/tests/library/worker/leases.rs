//! Who holds which lease, and when.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kinesis_consumer::{
    Checkpoint, Error, Event, InitialPosition,
    lease::Lease,
    test_util::{Fault, Outcome, ShardFilter, initial},
};
use tokio::time::sleep;

use super::world::{Told, What, World, checkpointing, config, seconds, shard};

fn held(world: &World, worker: &str) -> usize {
    let leases = world.table().leases();
    leases
        .iter()
        .filter(|lease| lease.owner.as_deref() == Some(worker))
        .count()
}

fn lost(told: &Told) -> bool {
    matches!(told.what, What::Event(Event::LeaseLost { .. }))
}

async fn until_held(world: &World, worker: &str, count: usize) -> Duration {
    let began = world.now();
    while held(world, worker) != count {
        assert!(
            world.now() - began < seconds(600),
            "{:#?}",
            world.table().leases()
        );
        sleep(Duration::from_millis(10)).await;
    }
    world.now() - began
}

#[tokio::test(start_paused = true)]
async fn the_first_record_comes_without_waiting() {
    let world = World::new(4);
    world.put(0, 1);
    let _worker = world.start(config("a"), checkpointing());
    let delivered = |told: &Told| matches!(told.what, What::Delivered(..));
    assert_eq!(world.until("delivered", delivered).await, Duration::ZERO);
    assert_eq!(held(&world, "a"), 4);
}

#[tokio::test(start_paused = true)]
async fn a_second_worker_gets_half_in_seconds() {
    let world = World::new(4);
    let _a = world.start(config("a"), checkpointing());
    until_held(&world, "a", 4).await;
    sleep(seconds(60)).await;
    let _b = world.start(config("b"), checkpointing());
    assert!(until_held(&world, "b", 2).await < seconds(10));
    assert!(
        !world.told().iter().any(lost),
        "handed over, not taken away"
    );
}

#[tokio::test(start_paused = true)]
async fn a_terminated_workers_leases_go_on_in_seconds() {
    let world = World::new(4);
    let a = world.start(config("a"), checkpointing());
    let _b = world.start(config("b"), checkpointing());
    until_held(&world, "b", 2).await;
    a.stop().await.unwrap();
    assert_eq!(held(&world, "a"), 0);
    assert!(until_held(&world, "b", 4).await <= seconds(3));
}

#[tokio::test(start_paused = true)]
async fn a_killed_workers_leases_go_on_after_the_failover_time() {
    let world = World::new(4);
    let a = world.start(config("a"), checkpointing());
    let _b = world.start(config("b"), checkpointing());
    until_held(&world, "b", 2).await;
    a.kill().await;
    let took = until_held(&world, "b", 4).await;
    assert!((seconds(6)..seconds(13)).contains(&took), "{took:?}");
}

/// Nobody works on those leases meanwhile.
#[tokio::test(start_paused = true)]
async fn a_look_that_fails_when_leases_are_free_is_tried_again_at_once() {
    let world = World::new(4);
    let failures = Arc::new(AtomicU64::new(0));
    let left = Arc::clone(&failures);
    let table = world.table().with_faults(move |call| {
        let one_less = |left: u64| left.checked_sub(1);
        let (set, read) = (Ordering::Relaxed, Ordering::Relaxed);
        let fails = call.operation == "look" && left.fetch_update(set, read, one_less).is_ok();
        let outcome = match fails {
            true => Outcome::Throttled,
            false => Outcome::Done,
        };
        Fault {
            outcome,
            ..Fault::default()
        }
    });
    let a = world.start(config("a"), checkpointing());
    let _b = world.start_on(config("b"), table, checkpointing());
    until_held(&world, "b", 2).await;
    sleep(seconds(30)).await;
    a.kill().await;
    sleep(seconds(6)).await;
    failures.store(2, Ordering::Relaxed);
    let took = until_held(&world, "b", 4).await;
    assert!(took <= Duration::from_millis(5_500), "{took:?}");
    assert_eq!(failures.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn one_idle_worker_costs_no_more_than_kcl() {
    let world = World::new(4);
    let _worker = world.start(config("a"), checkpointing());
    until_held(&world, "a", 4).await;
    let before: u64 = world.table().calls().values().sum();
    sleep(seconds(600)).await;
    let calls = world.table().calls().values().sum::<u64>() - before;
    assert!(
        calls <= 750,
        "{calls} in 10 minutes: {:?}",
        world.table().calls()
    );
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_loses_no_lease() {
    let world = World::new(2);
    let calls = AtomicU64::new(0);
    let table = world.table().with_faults(move |call| Fault {
        outcome: match call.operation {
            "renew" | "checkpoint" if calls.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) => {
                Outcome::AnswerLost
            }
            _ => Outcome::Done,
        },
        ..Fault::default()
    });
    let worker = world.start_on(config("a"), table, checkpointing());
    for _ in 0..20 {
        world.put(0, 3);
        sleep(seconds(5)).await;
    }
    assert!(!world.told().iter().any(lost), "{:#?}", world.told());
    assert_eq!(world.delivered(0), (0..60).collect::<Vec<_>>());
    worker.stop().await.unwrap();
    assert_eq!(held(&world, "a"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_table_that_is_away_stops_delivery_and_loses_nothing() {
    let world = World::new(1);
    let away = Arc::new(AtomicU64::new(0));
    let is_away = Arc::clone(&away);
    let table = world.table().with_faults(move |_| Fault {
        outcome: if is_away.load(Ordering::Relaxed) == 1 {
            Outcome::Lost
        } else {
            Outcome::Done
        },
        ..Fault::default()
    });
    let _worker = world.start_on(
        config("a"),
        table,
        Arc::new(|_, _, _| Box::pin(async { Ok(()) })),
    );
    until_held(&world, "a", 1).await;
    away.store(1, Ordering::Relaxed);
    sleep(seconds(20)).await;
    world.put(0, 5);
    sleep(seconds(60)).await;
    assert_eq!(
        world.delivered(0),
        Vec::<u64>::new(),
        "others may have taken it"
    );
    away.store(0, Ordering::Relaxed);
    sleep(seconds(10)).await;
    assert_eq!(world.delivered(0), [0, 1, 2, 3, 4]);
    assert!(!world.told().iter().any(lost), "nobody did");
}

#[tokio::test(start_paused = true)]
async fn a_theft_is_noticed() {
    let world = World::new(1);
    let _worker = world.start(config("a"), checkpointing());
    until_held(&world, "a", 1).await;
    let steal = |lease: &mut Lease| {
        lease.owner = Some("java".into());
        lease.counter += 1;
    };
    assert!(world.table().edit(shard(0), steal));
    let told = world
        .until("told", |told| {
            matches!(told.what, What::Called("lease_lost", _))
        })
        .await;
    assert!(told < seconds(4), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn children_start_at_once_where_their_parent_ended() {
    let world = World::new(1);
    let _worker = world.start(config("a"), checkpointing());
    until_held(&world, "a", 1).await;
    world.put(0, 3);
    world.stream(|stream| stream.split(0));
    let ended = world
        .until("ended", |told| {
            matches!(told.what, What::Event(Event::ShardEnded { .. }))
        })
        .await;
    for index in [1, 2] {
        let started = |told: &Told| matches!(&told.what, What::Event(Event::ShardStarted { shard: id, .. }) if id.shard == shard(index));
        assert_eq!(world.until("started", started).await, ended);
    }
    let parent = world.table().lease(shard(0)).unwrap();
    assert_eq!(parent.checkpoint, Checkpoint::ShardEnd);
    assert_eq!(parent.children, [shard(1), shard(2)].into());
    assert_eq!(parent.owner, None);
}

/// Somebody deleted a lease: its hash keys are covered again by the next audit.
#[tokio::test(start_paused = true)]
async fn a_hole_in_the_hash_range_is_repaired() {
    let world = World::new(3);
    let shards = world.stream(|stream| stream.list(ShardFilter::AtTrimHorizon));
    for lease in initial(&shards, InitialPosition::TrimHorizon).unwrap() {
        if lease.key.shard != shard(1) {
            world.table().put(lease);
        }
    }
    let _worker = world.start(config("a"), checkpointing());
    (0..3).for_each(|index| world.put(index, 2));
    sleep(seconds(5)).await;
    for index in 0..3 {
        assert_eq!(world.delivered(index), [0, 1], "shard {index}");
    }
}

/// Somebody wrote another shard's hash keys into a lease, and that shard for its parent: its
/// aggregates are its own all the same, and nobody waits for each other.
#[tokio::test(start_paused = true)]
async fn what_a_lease_says_of_its_shard_is_not_believed_against_the_stream() {
    let world = World::new(2);
    let shards = world.stream(|stream| stream.list(ShardFilter::AtTrimHorizon));
    for lease in initial(&shards, InitialPosition::TrimHorizon).unwrap() {
        let other = shards.iter().find(|other| other.id != lease.key.shard);
        let other = other.unwrap();
        world.table().put(Lease {
            hash_range: Some(other.hash_range),
            parents: [other.id.clone()].into(),
            ..lease
        });
    }
    world.stream(|stream| (0..2).for_each(|index| stream.put(index, Some(3))));
    let _worker = world.start(config("a"), checkpointing());
    sleep(seconds(5)).await;
    for (index, listed) in shards.iter().enumerate() {
        assert_eq!(world.delivered(index), [0, 1, 2], "shard {index}");
        let lease = world.table().lease(shard(index)).unwrap();
        assert_eq!(lease.hash_range, Some(listed.hash_range), "mended");
    }
}

// === two processes of one worker id ===

/// As when a pod is deleted by force while its node cannot be reached: the newer one goes on, the
/// older one says why it stops.
#[tokio::test(start_paused = true)]
async fn a_process_whose_worker_id_another_one_uses_stops() {
    let world = World::new(2);
    let process = || world.table().with_faults(|_| Fault::default());
    let older = world.start_on(config("a"), process(), checkpointing());
    until_held(&world, "a", 2).await;
    sleep(seconds(60)).await;
    let newer = world.start_on(config("a"), process(), checkpointing());
    let error = older.error().await;
    assert!(
        matches!(&error, Error::WorkerIdInUse { worker, .. } if worker == "a"),
        "{error}"
    );
    // The newer one has all, is not disturbed by the older one's end, and reads on.
    until_held(&world, "a", 2).await;
    let before = world.told().len();
    world.put(0, 3);
    world.put(1, 3);
    sleep(seconds(60)).await;
    assert!(!world.told()[before..].iter().any(lost));
    for index in [0, 1] {
        assert_eq!(world.delivered(index), [0, 1, 2], "once");
    }
    newer.stop().await.unwrap();
    assert_eq!(held(&world, "a"), 0);
}

/// Its lease was not at SHARD_END, so what was left to read went with it.
#[tokio::test(start_paused = true)]
async fn a_shard_that_the_stream_no_longer_lists_ends_with_a_gap() {
    let world = World::new(1);
    let gone = shard(77);
    // Which proves whose table it is.
    world.put(0, 1);
    let number = world.stream(|stream| stream.number_of(&shard(0), 0));
    let read = Checkpoint::parse(number.as_str(), 0).unwrap();
    world.table().put(Lease::new(shard(0), read));
    world
        .table()
        .put(Lease::new(gone.clone(), Checkpoint::TrimHorizon));
    let _worker = world.start(config("a"), checkpointing());
    let ended = |told: &Told| match &told.what {
        What::Event(Event::ShardEnded { shard, .. }) => shard.shard == gone,
        _ => false,
    };
    world.until("ended", ended).await;
    let gap = |told: &Told| match &told.what {
        What::Event(Event::CheckpointExpired { shard, oldest, .. }) => {
            shard.shard == gone && oldest.is_none()
        }
        _ => false,
    };
    assert_eq!(world.told().iter().filter(|told| gap(told)).count(), 1);
}
