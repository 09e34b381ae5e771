//! Writes that went through although the worker is told otherwise.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kinesis_consumer::{
    Checkpoint, Event, InitialPosition,
    lease::Lease,
    test_util::{Fault, LeaseTable, Outcome},
};
use rstest::rstest;
use tokio::time::sleep;

use super::world::{Told, What, World, checkpointing, config, seconds, shard};

/// Every other call of each kind is done, and then its answer is lost, or the SDK makes it again
/// and its condition does not hold any more. Workers join, ask, leave; Java's leases are adopted;
/// shards end, and are forgotten.
#[rstest]
#[tokio::test(start_paused = true)]
async fn a_write_that_went_through_unseen_costs_nothing(
    #[values(
        "take",
        "create",
        "renew",
        "checkpoint",
        "release",
        "hand_over",
        "ask",
        "withdraw",
        "remember_latest",
        "set_children",
        "set_hash_range",
        "set_stream",
        "delete"
    )]
    operation: &'static str,
    #[values(Outcome::AnswerLost, Outcome::Repeated)] outcome: Outcome,
) {
    let world = World::new(4);
    // As Java leaves it at LATEST.
    world.table().put(Lease {
        counter: 5,
        ..Lease::new(shard(3), Checkpoint::Latest)
    });
    let met = Arc::new(AtomicU64::new(0));
    let start = |worker| {
        let met = Arc::clone(&met);
        let table = world.table().with_faults(move |call| {
            let is_hit = call.operation == operation;
            let is_hit = is_hit && met.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
            let outcome = if is_hit { outcome } else { Outcome::Done };
            Fault {
                outcome,
                ..Fault::default()
            }
        });
        let mut config = config(worker);
        config.initial_position = InitialPosition::TrimHorizon;
        world.start_on(config, table, checkpointing())
    };
    let a = start("a");
    sleep(seconds(30)).await;
    (0..4).for_each(|index| world.put(index, 5));
    // It asks, and leaves before it is given anything.
    let hasty = start("b");
    sleep(Duration::from_millis(500)).await;
    hasty.stop().await.unwrap();
    let c = start("c");
    sleep(seconds(60)).await;
    (0..4).for_each(|index| world.put(index, 5));
    sleep(seconds(5)).await;
    world.stream(|stream| stream.split(0));
    sleep(seconds(10)).await;
    (4..6).for_each(|index| world.put(index, 5));
    if operation == "set_stream" {
        // A take before the shard was listed.
        world
            .table()
            .edit(shard(1), |lease| lease.stream_identity = None);
    }
    sleep(seconds(600)).await;
    a.stop().await.unwrap();
    c.stop().await.unwrap();
    assert!(
        met.load(Ordering::Relaxed) > 0,
        "{operation} is never called"
    );
    let lost = |told: &Told| matches!(told.what, What::Event(Event::LeaseLost { .. }));
    assert!(!world.told().iter().any(lost), "{:#?}", world.told());
    for index in 0..6 {
        let delivered: BTreeSet<_> = world.delivered(index).into_iter().collect();
        let all = if index < 4 { 10 } else { 5 };
        assert_eq!(delivered, (0..all).collect(), "shard {index}");
    }
    let leases = world.table().leases();
    assert!(
        leases
            .iter()
            .all(|lease| lease.owner.is_none() && lease.handover_to.is_none()),
        "{leases:#?}"
    );
    assert_eq!(leases.len(), 5, "the finished one is deleted: {leases:#?}");
    let scan = world.table().scan().await.unwrap();
    assert!(
        scan.leases
            .iter()
            .all(|lease| lease.stream_identity.is_some())
    );
}
