//! A stream, read to its end without the code under test.

use std::collections::BTreeMap;

use aws_sdk_kinesis::{
    Client,
    types::{Record, ShardIteratorType},
};

/// All records of a stream that nobody writes to meanwhile, shard by shard.
pub async fn records(client: &Client, stream: &str) -> Vec<Record> {
    let shards = client.list_shards().stream_name(stream).send();
    let mut all = Vec::new();
    for shard in shards.await.unwrap().shards() {
        let iterator = client.get_shard_iterator().stream_name(stream);
        let iterator = iterator.shard_id(shard.shard_id());
        let iterator = iterator.shard_iterator_type(ShardIteratorType::TrimHorizon);
        let mut next = iterator.send().await.unwrap().shard_iterator;
        while let Some(iterator) = next {
            let read = client.get_records().shard_iterator(iterator).send();
            let read = read.await.unwrap();
            let at_the_tip = read.millis_behind_latest() == Some(0);
            next = read.next_shard_iterator.filter(|_| !at_the_tip);
            all.extend(read.records);
        }
    }
    all
}

/// The newest record of each partition key, by sequence number.
pub async fn newest(client: &Client, stream: &str) -> BTreeMap<String, Vec<u8>> {
    let mut newest = BTreeMap::new();
    for record in records(client, stream).await {
        // Decimal numbers without leading zeros: the longer one is larger.
        let sequence = record.sequence_number;
        let order = (sequence.len(), sequence);
        let candidate = (order, record.data.into_inner());
        let best = newest
            .entry(record.partition_key.unwrap_or_default())
            .or_insert_with(|| candidate.clone());
        if best.0 < candidate.0 {
            *best = candidate;
        }
    }
    let data = newest.into_iter().map(|(key, (_, data))| (key, data));
    data.collect()
}
