//! Whole days with real client libraries: reshards, and a kill -9 of a child and of the daemon.

use std::collections::{BTreeMap, BTreeSet};

use rstest::rstest;
use test_support::{PATIENCE, Process, Program, Signal, text, until};
use tokio::time::timeout;

use crate::{
    clients::Client,
    support::{Note, STREAM, World, shard, started},
};

/// Shard and process.
pub type Child = (String, i64);
/// A sequence number, longest last: decimals without leading zeros.
pub type Number = (usize, String);

/// What each child processed, in its order.
pub fn by_child(notes: &[Note]) -> BTreeMap<Child, Vec<Number>> {
    let mut children = BTreeMap::<_, Vec<_>>::new();
    for note in notes.iter().filter(|note| note.event() == "record") {
        let number = note.text("number").unwrap();
        let position = (number.len(), number.to_owned());
        let child = (note.shard().to_owned(), note.pid());
        children.entry(child).or_default().push(position);
    }
    children
}

fn processed(notes: &[Note]) -> BTreeSet<&str> {
    notes.iter().filter_map(|note| note.text("data")).collect()
}

/// Checkpoints of a shard that were written, as they were written.
fn checkpoints<'a>(notes: &'a [Note], of: &str) -> Vec<(usize, &'a str)> {
    let written = |note: &&Note| note.is("checkpoint", of) && note.text("error").is_none();
    let numbers = notes
        .iter()
        .filter(written)
        .filter_map(|note| note.text("sequenceNumber"));
    numbers.map(|number| (number.len(), number)).collect()
}

async fn all_processed(world: &World, daemon: &Process, up_to: usize) {
    let all = world.noted("all records", |notes| {
        let processed = processed(notes);
        let all = (0..up_to).all(|it| processed.contains(format!("r{it}").as_str()));
        all.then_some(())
    });
    if timeout(PATIENCE * 9 / 10, all).await.is_err() {
        panic!("not all of records 0 to {up_to}:\n{}", daemon.log());
    }
}

async fn put(world: &World, from: usize, to: usize) {
    world.put((from..to).map(|it| format!("r{it}"))).await;
}

async fn restarted(program: &Program, daemon: Process) -> Process {
    daemon.kill().await;
    started(program).await
}

#[rstest]
#[case::plain(Client::Plain)]
#[case::amazon_kclpy(Client::Kclpy)]
#[case::aws_kcl(Client::AwsKcl)]
#[tokio::test]
async fn two_thousand_records_survive_reshards_and_kills(#[case] client: Client) {
    let world = World::new(4).await;
    let Some(program) = world
        .daemon(client, "two_thousand_records", &["workerId = w"])
        .await
    else {
        return;
    };
    put(&world, 0, 500).await;
    let daemon = started(&program).await;
    all_processed(&world, &daemon, 500).await;

    // A child.
    let of_shard_1 = |notes: &[Note]| {
        notes
            .iter()
            .find(|note| note.is("initialize", &shard(1)))
            .map(Note::pid)
    };
    let victim = world.noted("a child of shard 1", of_shard_1).await;
    kill(victim);
    put(&world, 500, 1000).await;
    all_processed(&world, &daemon, 1000).await;
    daemon.logged("signal 9").await;

    // Reshards.
    let split = world
        .kinesis
        .split_shard()
        .stream_name(STREAM)
        .shard_to_split(shard(0));
    split
        .new_starting_hash_key("42535295865117307932921825928971026432")
        .send()
        .await
        .unwrap();
    until("active", async || is_active(&world).await.then_some(())).await;
    let merge = world
        .kinesis
        .merge_shards()
        .stream_name(STREAM)
        .shard_to_merge(shard(2));
    merge
        .adjacent_shard_to_merge(shard(3))
        .send()
        .await
        .unwrap();
    until("active", async || is_active(&world).await.then_some(())).await;
    put(&world, 1000, 1500).await;
    all_processed(&world, &daemon, 1500).await;

    // The daemon.
    let daemon = restarted(&program, daemon).await;
    put(&world, 1500, 2000).await;
    all_processed(&world, &daemon, 2000).await;
    daemon.stop().await;

    let notes = world.ledger();
    for (child, positions) in by_child(&notes) {
        assert!(
            positions.is_sorted_by(|a, b| a < b),
            "{child:?} got records out of order"
        );
    }
    for lease in world.leases().await {
        let key = text(&lease, "leaseKey");
        assert!(!lease.contains_key("leaseOwner"), "{lease:?}");
        let written = checkpoints(&notes, &key);
        assert!(
            written.is_sorted(),
            "checkpoints of {key} went back: {written:?}"
        );
        let ended = ["0", "2", "3"]
            .iter()
            .any(|index| key.ends_with(&format!("00{index}")));
        let checkpoint = text(&lease, "checkpoint");
        match written.last() {
            _ if ended => assert_eq!(checkpoint, "SHARD_END", "{key}"),
            Some((_, last)) => assert_eq!(checkpoint, *last, "{key}"),
            None => {}
        }
    }
    // Every child got its last messages, but for those that were killed.
    let ended = |note: &&Note| note.event() == "shardEnded";
    assert_eq!(notes.iter().filter(ended).count(), 3);
}

async fn is_active(world: &World) -> bool {
    let summary = world.kinesis.describe_stream_summary().stream_name(STREAM);
    let summary = summary.send().await.unwrap();
    let status = summary.stream_description_summary.unwrap().stream_status;
    status.as_str() == "ACTIVE"
}

pub fn kill(pid: i64) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
}
