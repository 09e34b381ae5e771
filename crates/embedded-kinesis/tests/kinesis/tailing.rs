//! A reader at the tip while many write.

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, ShardIteratorType};

use crate::support::*;

/// Many write at once and the stream is resharded meanwhile; whoever tails a shard sees each record
/// of it once, in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tailing_reader_misses_nothing() {
    const WRITERS: usize = 12;
    const CALLS: usize = 24;
    const BATCH: usize = 5;
    let (server, client) = server().await;
    create(&client, "s", 1).await;
    let tail = tokio::spawn(tail(client.clone()));
    let writers = (0..WRITERS).map(|writer| {
        let client = client.clone();
        tokio::spawn(async move {
            for call in 0..CALLS {
                let put = client.put_records().stream_name("s");
                let put = (0..BATCH).fold(put, |put, i| {
                    let data = Blob::new(format!("{writer}/{:05}", call * BATCH + i));
                    put.records(
                        PutRecordsRequestEntry::builder()
                            .partition_key(writer.to_string())
                            .data(data)
                            .build()
                            .unwrap(),
                    )
                });
                let answer = put.send().await.unwrap();
                assert_eq!(answer.failed_record_count(), Some(0));
            }
        })
    });
    let writers = futures::future::join_all(writers);
    server
        .wait_for_calls("PutRecords", WRITERS * CALLS / 3)
        .await;
    resize(&client, "s", 2).await;
    for written in writers.await {
        written.unwrap();
    }
    // Closes what is open, so that the tail ends.
    resize(&client, "s", 1).await;
    put(&client, "end").await;
    let seen = tail.await.unwrap();
    assert_eq!(seen.len(), WRITERS * CALLS * BATCH);
    for writer in 0..WRITERS {
        let own: Vec<&String> = seen
            .iter()
            .filter(|it| it.starts_with(&format!("{writer}/")))
            .collect();
        let wanted: Vec<String> = (0..CALLS * BATCH)
            .map(|i| format!("{writer}/{i:05}"))
            .collect();
        assert!(own.into_iter().eq(wanted.iter()), "writer {writer}");
    }
}

/// Reads from the first shard on, children after their parents, until a record says "end".
async fn tail(client: Client) -> Vec<String> {
    let mut seen = Vec::new();
    let mut todo = std::collections::VecDeque::from([SHARD.to_owned()]);
    let mut done = std::collections::HashSet::new();
    while let Some(shard) = todo.pop_front() {
        if !done.insert(shard.clone()) {
            continue;
        }
        let mut next = Some(iterator(&client, &shard, ShardIteratorType::TrimHorizon).await);
        let mut last = String::new();
        while let Some(at) = next {
            let page = client
                .get_records()
                .shard_iterator(at)
                .limit(97)
                .send()
                .await
                .unwrap();
            for record in page.records() {
                assert!(*last < *record.sequence_number(), "numbers grow");
                last = record.sequence_number().to_owned();
                if text(record) == "end" {
                    return seen;
                }
                seen.push(text(record));
            }
            todo.extend(
                page.child_shards()
                    .iter()
                    .map(|it| it.shard_id().to_owned()),
            );
            next = page.next_shard_iterator().map(str::to_owned);
        }
    }
    seen
}
