//! Sharing an application with KCL 2.x workers that live: scripted from `DynamoDBLeaseTaker.java`
//! and `DynamoDBLeaseRenewer.java`.

use std::time::Duration;

use kinesis_consumer::{
    Checkpoint, Event, LeaseKey,
    lease::Lease,
    shards::HashRange,
    test_util::{Kcl2Taker, MemoryTable},
};
use rstest::rstest;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::world::{What, World, checkpointing, config, shard};

const RENEW: Duration = Duration::from_millis(3308);
const TAKE: Duration = Duration::from_millis(20_050);
const FAILOVER: Duration = Duration::from_secs(10);

/// A KCL 2.x worker without its record processors: it renews what it owns, finished leases too, and
/// takes its share.
pub(super) fn kcl2(table: &MemoryTable, name: &'static str) -> JoinHandle<()> {
    let table = table.clone();
    tokio::spawn(async move {
        let mut taker = Kcl2Taker::new(name, FAILOVER, 7);
        let (mut renewed, mut taken) = (Instant::now(), None);
        loop {
            if renewed.elapsed() >= RENEW {
                renewed = Instant::now();
                for lease in owned(&table, name) {
                    table.edit(&lease.key, |lease| lease.counter += 1);
                }
            }
            if taken.is_none_or(|taken: Instant| taken.elapsed() >= TAKE) {
                taken = Some(Instant::now());
                for key in taker.takes(&table.leases(), Instant::now()) {
                    table.edit(&key, |lease| {
                        lease.owner = Some(name.to_owned());
                        lease.counter += 1;
                    });
                }
            }
            sleep(Duration::from_millis(50)).await;
        }
    })
}

fn owned(table: &MemoryTable, name: &str) -> Vec<Lease> {
    let mut leases = table.leases();
    leases.retain(|lease| lease.owner.as_deref() == Some(name));
    leases
}

/// Leases as a KCL 2.x worker has left them: all its own, the first `finished` of them read to
/// their end.
fn leases_of(world: &World, owner: &str, unfinished: usize, finished: usize) {
    for index in 0..unfinished + finished {
        let checkpoint = if index < unfinished {
            Checkpoint::TrimHorizon
        } else {
            Checkpoint::ShardEnd
        };
        // Finished ones are of an older stream's shards, beside those that the stream lists.
        let key = if index < unfinished {
            shard(index)
        } else {
            shard(1000 + index)
        };
        world.table().put(Lease {
            owner: Some(owner.to_owned()),
            counter: 7,
            hash_range: Some(HashRange {
                start: 0,
                end: u128::MAX,
            }),
            ..Lease::new(key, checkpoint)
        });
    }
}

/// Which unfinished leases a worker of ours took, and when.
fn acquired(world: &World) -> Vec<(LeaseKey, Duration)> {
    let acquired = world.told().into_iter().filter_map(|told| match told.what {
        What::Event(Event::LeaseAcquired { shard, .. }) => Some((shard, told.at)),
        _ => None,
    });
    acquired.collect()
}

fn unfinished_of(world: &World, name: &str) -> usize {
    let owned = owned(world.table(), name);
    owned.iter().filter(|lease| !lease.is_finished()).count()
}

/// We join a live 2.x worker: one lease per round of 2.x, each once, half in the end, and then
/// nothing moves any more, on either side.
#[rstest]
#[case::two(2, 0)]
#[case::four(4, 0)]
#[case::odd(9, 0)]
#[case::beside_finished_ones(8, 5)]
#[tokio::test(start_paused = true)]
async fn steals_from_a_live_worker_at_its_pace(#[case] unfinished: usize, #[case] finished: usize) {
    let world = World::new(unfinished);
    leases_of(&world, "java", unfinished, finished);
    let java = kcl2(world.table(), "java");
    sleep(Duration::from_secs(30)).await;
    let began = world.now();
    let ours = world.start(config("a"), checkpointing());
    let half = unfinished / 2;
    sleep(Duration::from_secs(20) * u32::try_from(half).unwrap() + Duration::from_secs(5)).await;
    assert_eq!(
        unfinished_of(&world, "a"),
        half,
        "{:#?}",
        world.table().leases()
    );

    let taken = acquired(&world);
    assert_eq!(taken.len(), half, "each once: {taken:?}");
    assert!(
        taken[0].1 - began < Duration::from_secs(1),
        "the first one at once: {taken:?}"
    );
    for pair in taken.windows(2) {
        assert!(
            pair[1].1 - pair[0].1 >= Duration::from_secs(20),
            "one a round: {taken:?}"
        );
        assert!(
            pair[1].1 - pair[0].1 <= Duration::from_secs(23),
            "{taken:?}"
        );
    }
    sleep(Duration::from_secs(600)).await;
    assert_eq!(acquired(&world), taken, "no tug of war");
    assert_eq!(unfinished_of(&world, "a"), half);
    assert_eq!(unfinished_of(&world, "java"), unfinished - half);
    java.abort();
    ours.stop().await.unwrap();
}

/// It joins us: it steals its half, we do not steal it back.
#[tokio::test(start_paused = true)]
async fn a_worker_that_joins_us_keeps_what_it_stole() {
    let world = World::new(6);
    let ours = world.start(config("a"), checkpointing());
    sleep(Duration::from_secs(60)).await;
    let taken = acquired(&world);
    assert_eq!(taken.len(), 6);
    let java = kcl2(world.table(), "java");
    sleep(Duration::from_secs(90)).await;
    assert_eq!(
        (unfinished_of(&world, "java"), unfinished_of(&world, "a")),
        (3, 3)
    );
    sleep(Duration::from_secs(600)).await;
    assert_eq!(
        (unfinished_of(&world, "java"), unfinished_of(&world, "a")),
        (3, 3)
    );
    assert_eq!(acquired(&world), taken, "nothing came back");
    // Killed: all of it, after the failover time, not one a round.
    java.abort();
    sleep(Duration::from_secs(15)).await;
    assert_eq!(unfinished_of(&world, "a"), 6);
    ours.stop().await.unwrap();
}
