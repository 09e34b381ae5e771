//! Real processes over real sockets: killed, terminated, stopped for longer than the failover time.
//!
//! The promises are the simulation's. Each step waits for what the workers tell, never for a time.

use std::collections::BTreeSet;

use kinesis_consumer::{Checkpoint, SequenceNumber};
use test_support::{Process, Signal};

mod worker;
mod world;

use world::{STREAM, World};

/// Not a test: what the worker processes run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn worker_process() {
    if std::env::var_os(worker::WORKER).is_some() {
        worker::run().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_workers_shards_go_on() {
    let mut world = World::start(4).await;
    let (mut a, _b) = two_workers(&mut world).await;
    world.put_records(50).await;
    world.until("processed", World::all_processed).await;
    a.signal(Signal::KILL);
    a.ended().await;
    world.put_records(50).await;
    world
        .until("processed by b alone", World::all_processed)
        .await;
    world
        .until("b's", |world| world.shards_of("b").len() == 4)
        .await;
    judge(&world);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminated_worker_leaves_nothing_behind() {
    let mut world = World::start(4).await;
    let (mut a, mut b) = two_workers(&mut world).await;
    world.put_records(50).await;
    world.until("processed", World::all_processed).await;
    a.signal(Signal::TERM);
    world.until("a's exit", |world| exited(world, "a")).await;
    a.ended().await;
    world
        .until("b's", |world| world.shards_of("b").len() == 4)
        .await;
    world.put_records(50).await;
    world
        .until("processed by b alone", World::all_processed)
        .await;
    b.signal(Signal::TERM);
    world.until("b's exit", |world| exited(world, "b")).await;
    b.ended().await;
    for lease in world.leases().await {
        assert_eq!(lease.owner, None, "{lease:?}");
        let last = world.put[lease.key.shard.as_str()].last().unwrap();
        assert!(
            matches!(&lease.checkpoint, Checkpoint::At(position) if position.sequence_number == *last),
            "{lease:?}: want {last}"
        );
    }
    for (shard, numbers) in &world.put {
        // Hand-overs and terminations make no duplicates.
        assert!(
            numbers.iter().all(|number| world.times(shard, number) == 1),
            "{shard}: {:#?}",
            world.told
        );
    }
    judge(&world);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_worker_notices_when_it_goes_on() {
    let mut world = World::start(2).await;
    let (a, _b) = two_workers(&mut world).await;
    world.put_records(20).await;
    world.until("processed", World::all_processed).await;
    a.signal(Signal::STOP);
    world.put_records(20).await;
    world
        .until("b's", |world| world.shards_of("b").len() == 2)
        .await;
    world
        .until("processed by b alone", World::all_processed)
        .await;
    let before = world.told.len();
    a.signal(Signal::CONT);
    world
        .until("lost", |world| told_since(world, before, "a", "lost"))
        .await;
    // It comes back as any other worker does.
    world
        .until("shared again", |world| {
            world.shards_of("a").len() == 1 && world.shards_of("b").len() == 1
        })
        .await;
    world.put_records(20).await;
    world.until("processed", World::all_processed).await;
    judge(&world);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn children_follow_their_parents() {
    let mut world = World::start(2).await;
    let (mut a, _b) = two_workers(&mut world).await;
    world.put_records(20).await;
    let shards: Vec<_> = world.put.keys().cloned().collect();
    let merge = world
        .kinesis
        .merge_shards()
        .stream_name(STREAM)
        .shard_to_merge(&shards[0]);
    merge
        .adjacent_shard_to_merge(&shards[1])
        .send()
        .await
        .unwrap();
    world.put_records(20).await;
    let merged = world.put.keys().last().cloned().unwrap();
    let split = world
        .kinesis
        .split_shard()
        .stream_name(STREAM)
        .shard_to_split(&merged);
    split
        .new_starting_hash_key((u128::MAX / 2).to_string())
        .send()
        .await
        .unwrap();
    a.signal(Signal::KILL);
    a.ended().await;
    world.put_records(20).await;
    world.until("processed", World::all_processed).await;
    assert_eq!(world.put.len(), 5);
    judge(&world);
    for (parents, children) in [
        (&shards[..], &[merged.clone()][..]),
        (&[merged][..], &last_two(&world)[..]),
    ] {
        let end = parents
            .iter()
            .flat_map(|parent| world.records(parent))
            .map(|line| line.nanos);
        let starts = children
            .iter()
            .flat_map(|child| world.records(child))
            .map(|line| line.nanos);
        let firsts = parents.iter().flat_map(|parent| {
            let numbers: BTreeSet<_> = world.put[parent]
                .iter()
                .map(SequenceNumber::as_str)
                .collect();
            numbers
                .into_iter()
                .map(|number| first_told(&world, parent, number))
        });
        assert!(end.count() > 0);
        assert!(
            firsts.max() < starts.min(),
            "{children:?} before the end of {parents:?}: {:#?}",
            world.told
        );
    }
}

async fn two_workers(world: &mut World) -> (Process, Process) {
    let a = world.worker("a");
    world
        .until("started", |world| !world.shards_of("a").is_empty())
        .await;
    let b = world.worker("b");
    let even = |world: &World| {
        let (a, b) = (world.shards_of("a").len(), world.shards_of("b").len());
        a > 0 && a == b
    };
    world.until("shared", even).await;
    (a, b)
}

fn exited(world: &World, worker: &str) -> bool {
    told_since(world, 0, worker, "exit")
}

fn told_since(world: &World, from: usize, worker: &str, what: &str) -> bool {
    world.told[from..]
        .iter()
        .any(|line| line.worker == worker && line.what == what)
}

fn last_two(world: &World) -> Vec<String> {
    world
        .put
        .keys()
        .skip(world.put.len() - 2)
        .cloned()
        .collect()
}

fn first_told(world: &World, shard: &str, number: &str) -> i128 {
    let lines = world
        .records(shard)
        .filter(|line| line.sequence_number.as_ref().unwrap().as_str() == number);
    lines.map(|line| line.nanos).min().unwrap()
}

/// Every processor got its shard's records in order and without gaps.
fn judge(world: &World) {
    for (shard, numbers) in &world.put {
        let workers: BTreeSet<_> = world.told.iter().map(|line| &line.worker).collect();
        for worker in workers {
            let mut next = None;
            for line in world
                .told
                .iter()
                .filter(|line| line.worker == *worker && line.shard == *shard)
            {
                match (&line.sequence_number, next) {
                    (None, _) if line.what == "started" => next = None,
                    (None, _) => {}
                    (Some(number), expected) => {
                        let index = numbers.iter().position(|put| put == number).unwrap();
                        assert!(
                            expected.is_none_or(|expected| index == expected),
                            "{worker} {shard}: {:#?}",
                            world.told
                        );
                        next = Some(index + 1);
                    }
                }
            }
        }
    }
    assert!(world.all_processed());
}
