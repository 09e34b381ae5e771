//! Backlogs whose pages are large, many or full of small records: what is fetched and not stored
//! stays within the memory that a pod has.

use aws_sdk_dynamodb::types::{KeyType, ScalarAttributeType};
use aws_sdk_kinesis::{primitives::Blob, types::PutRecordsRequestEntry};
use md5::{Digest, Md5};
use rstest::rstest;
use std::{collections::BTreeMap, time::Duration};
use tokio::time::{Instant, sleep};

use crate::support::{APPLICATION, Item, STREAM, TABLE, World, text, until};

/// The chart's limit is 256 MiB.
const MOST_MIB: f64 = 160.0;
/// A backlog takes half a minute at the most on two idle cores, and many times that on busy ones.
const PATIENCE: Duration = Duration::from_secs(600);

/// In each of so many shards so many records with this data. User records: how many each has.
struct Backlog {
    shards: usize,
    records: usize,
    data: Vec<u8>,
    users: usize,
}

impl Backlog {
    /// Of all user records.
    fn bytes(&self) -> usize {
        let each = match self.users {
            1 => self.data.len(),
            users => users * TINY.len(),
        };
        self.shards * self.records * each
    }
}

const TINY: &[u8; 4] = b"none";

/// A record that is stored, or rejected where it is larger than an item may be.
fn json(bytes: usize) -> Vec<u8> {
    format!(r#"{{"v":"{}"}}"#, "x".repeat(bytes)).into_bytes()
}

/// A KPL aggregate of so many records of four bytes.
fn tiny(users: usize) -> Vec<u8> {
    let keys = b"\x0a\x01k".iter().copied();
    let user = [&b"\x1a\x08\x08\x00\x1a\x04"[..], TINY].concat();
    let users = user.iter().copied().cycle().take(user.len() * users);
    let message: Vec<u8> = keys.chain(users).collect();
    let digest = Md5::digest(&message);
    [b"\xf3\x89\x9a\xc2", &message[..], &digest].concat()
}

/// Returns the last record of each shard.
async fn put(world: &World, backlog: &Backlog) -> BTreeMap<String, String> {
    let shards = (0..backlog.shards).map(|shard| put_into(world, backlog, shard));
    let last = futures::future::join_all(shards).await;
    last.into_iter().flatten().collect()
}

async fn put_into(world: &World, backlog: &Backlog, shard: usize) -> Option<(String, String)> {
    let width = u128::MAX / backlog.shards as u128;
    let at_a_time = ((1 << 20) / backlog.data.len()).clamp(1, 500);
    let mut left = backlog.records;
    let mut last = None;
    while left > 0 {
        let count = left.min(at_a_time);
        let entry = |n: usize| {
            PutRecordsRequestEntry::builder()
                .partition_key(format!("{shard}-{n}"))
                .explicit_hash_key((width * shard as u128 + 99).to_string())
                .data(Blob::new(backlog.data.clone()))
                .build()
                .unwrap()
        };
        let entries = (0..count).map(|n| entry(left - n)).collect();
        let put = world.kinesis.put_records().stream_name(STREAM);
        let answer = put.set_records(Some(entries)).send().await.unwrap();
        let refused = answer.failed_record_count.unwrap_or_default() as usize;
        left -= count - refused;
        let put = answer.records.into_iter().rev();
        let mut put = put.filter_map(|record| record.shard_id.zip(record.sequence_number));
        last = put.next().or(last);
        if refused > 0 {
            // A shard takes 1 MiB a second.
            sleep(Duration::from_millis(250)).await;
        }
    }
    last
}

/// Its pace is shown, beside another build's with `.ci/long drain`, and not asserted.
#[rstest]
#[case::of_2_kb(Backlog { shards: 12, records: 2_000, data: json(2_000), users: 1 })]
#[case::of_100_kb(Backlog { shards: 8, records: 60, data: json(100_000), users: 1 })]
#[case::of_300_kb(Backlog { shards: 16, records: 20, data: json(300_000), users: 1 })]
#[case::one_of_10_mb(Backlog { shards: 24, records: 1, data: json(9_900_000), users: 1 })]
#[case::tiny_in_a_large_one(Backlog { shards: 1, records: 1, data: tiny(400_000), users: 400_000 })]
#[case::tiny_in_aggregates(Backlog { shards: 1, records: 8, data: tiny(90_000), users: 90_000 })]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_drains_in_what_a_pod_has(#[case] backlog: Backlog) {
    let world = World::empty().await;
    let key = ("email", KeyType::Hash, ScalarAttributeType::S);
    world.table(TABLE, &[key]).await;
    let stream = world.kinesis.create_stream().stream_name(STREAM);
    let stream = stream.shard_count(backlog.shards as i32);
    let stream = stream.max_record_size_in_kib(10_240);
    stream.send().await.unwrap();
    let last = put(&world, &backlog).await;
    let began = Instant::now();
    let consumer = world
        .consumer("pod-1")
        .with(
            "LOG_LEVEL",
            // The admin port's line, of earlier builds too, but not one for each rejected record.
            "info,kinesis_to_dynamodb=error,kinesis_to_dynamodb::admin=info,kinesis_consumer_metrics=info",
        )
        .start();
    let processed = async || consumer.metric("data_bytes_processed_total", "").await;
    while processed().await != Some(backlog.bytes() as f64) {
        assert!(began.elapsed() < PATIENCE, "it does not drain");
        sleep(Duration::from_millis(20)).await;
    }
    let Backlog {
        shards, records, ..
    } = backlog;
    println!(
        "{shards} shards × {records} × {} bytes: {:.1} s, {:.1} s of CPU, at most {:.0} MiB",
        backlog.data.len(),
        began.elapsed().as_secs_f64(),
        consumer.cpu_seconds(),
        consumer.most_rss_mib(),
    );
    let last_user = (backlog.users - 1).to_string();
    until("the last checkpoints", async || {
        let leases = world.items(APPLICATION).await;
        let is_last = |lease: &Item| {
            last.get(&text(lease, "leaseKey")) == Some(&text(lease, "checkpoint"))
                && text(lease, "checkpointSubSequenceNumber") == last_user
        };
        let done = leases.iter().filter(|lease| is_last(lease)).count();
        (done == backlog.shards).then_some(())
    })
    .await;
    let most = consumer.most_rss_mib();
    consumer.stop().await;
    assert!(most <= MOST_MIB, "{most} MiB");
}
