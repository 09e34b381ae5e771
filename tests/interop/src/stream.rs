//! The stream: records into it, plain ones and KPL aggregates; reshards; a walk over all of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use anyhow::{Context as _, Result, ensure};
use aws_sdk_kinesis::{
    Client,
    primitives::Blob,
    types::{PutRecordsRequestEntry, ShardIteratorType, StreamStatus},
};
use md5::{Digest as _, Md5};
use prost::Message;

use crate::{checkpoint::Checkpoint, ledger::Ledger};

const MAGIC: [u8; 4] = [0xf3, 0x89, 0x9a, 0xc2];
/// User records of an aggregate.
pub(crate) const AGGREGATED: u64 = 3;

/// The KPL's `messages.proto`.
#[derive(Clone, PartialEq, Message)]
struct AggregatedRecord {
    #[prost(string, repeated, tag = "1")]
    partition_keys: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    records: Vec<UserRecord>,
}

#[derive(Clone, PartialEq, Message)]
struct UserRecord {
    #[prost(uint64, required, tag = "1")]
    partition_key: u64,
    #[prost(bytes = "vec", required, tag = "3")]
    data: Vec<u8>,
}

/// A shard as ListShards has it.
#[derive(Clone, Debug)]
pub(crate) struct Shard {
    pub(crate) id: String,
    pub(crate) parents: BTreeSet<String>,
    pub(crate) closed: bool,
    pub(crate) keys: RangeInclusive<u128>,
}

/// The stream of a scenario.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    client: Client,
    pub(crate) name: String,
    /// What the keys of its leases begin with, where the application reads several streams.
    pub(crate) prefix: String,
    ledger: Arc<Ledger>,
    put: Arc<AtomicU32>,
}

impl Stream {
    /// A new one.
    pub(crate) async fn create(
        client: Client,
        name: &str,
        shards: i32,
        ledger: Arc<Ledger>,
    ) -> Result<Self> {
        let create = client.create_stream().stream_name(name);
        create.shard_count(shards).send().await?;
        Ok(Self {
            client,
            name: name.to_owned(),
            prefix: String::new(),
            ledger,
            put: Arc::default(),
        })
    }

    /// Another one of the same application. Keys of leases name both from now on.
    pub(crate) async fn beside(&mut self, name: &str, shards: i32) -> Result<Self> {
        let create = self.client.create_stream().stream_name(name);
        create.shard_count(shards).send().await?;
        let mut other = Self {
            name: name.to_owned(),
            ..self.clone()
        };
        other.prefix = other.identifier().await? + ":";
        self.prefix = self.identifier().await? + ":";
        Ok(other)
    }

    /// Account, name and time of creation, as KCL's multi-stream mode has them.
    async fn identifier(&self) -> Result<String> {
        let describe = self.client.describe_stream_summary();
        let answer = describe.stream_name(&self.name).send().await?;
        let summary = answer.stream_description_summary.context("summary")?;
        let account = summary.stream_arn.split(':').nth(4).context("account")?;
        let created = summary.stream_creation_timestamp.secs();
        Ok(format!("{account}:{}:{created}", self.name))
    }

    /// The keys of its open shards' leases.
    pub(crate) async fn open_keys(&self) -> Result<BTreeSet<String>> {
        let open = self.open().await?.into_iter();
        Ok(open
            .map(|shard| format!("{}{}", self.prefix, shard.id))
            .collect())
    }

    /// Every shard that the stream still knows.
    pub(crate) async fn shards(&self) -> Result<BTreeMap<String, Shard>> {
        let list = self.client.list_shards().stream_name(&self.name);
        let shards = list.send().await?.shards.context("shards")?;
        let shard = |shard: aws_sdk_kinesis::types::Shard| {
            let keys = shard.hash_key_range.context("hash keys")?;
            let numbers = shard.sequence_number_range.context("sequence numbers")?;
            let id = shard.shard_id;
            let shard = Shard {
                id: id.clone(),
                parents: [shard.parent_shard_id, shard.adjacent_parent_shard_id]
                    .into_iter()
                    .flatten()
                    .collect(),
                closed: numbers.ending_sequence_number.is_some(),
                keys: keys.starting_hash_key.parse()?..=keys.ending_hash_key.parse()?,
            };
            anyhow::Ok((id, shard))
        };
        shards.into_iter().map(shard).collect()
    }

    /// The open ones, by hash key.
    pub(crate) async fn open(&self) -> Result<Vec<Shard>> {
        let shards = self.shards().await?.into_values();
        let mut open: Vec<_> = shards.filter(|shard| !shard.closed).collect();
        open.sort_by_key(|shard| *shard.keys.start());
        Ok(open)
    }

    /// Splits a shard in the middle.
    pub(crate) async fn split(&self, shard: &Shard) -> Result<()> {
        let (start, end) = (shard.keys.start(), shard.keys.end());
        let middle = start + (end - start) / 2;
        let split = self.client.split_shard().stream_name(&self.name);
        let split = split.shard_to_split(&shard.id);
        split
            .new_starting_hash_key(middle.to_string())
            .send()
            .await?;
        self.is_active().await
    }

    /// Merges two neighbours.
    pub(crate) async fn merge(&self, one: &Shard, other: &Shard) -> Result<()> {
        let merge = self.client.merge_shards().stream_name(&self.name);
        let merge = merge.shard_to_merge(&one.id);
        merge.adjacent_shard_to_merge(&other.id).send().await?;
        self.is_active().await
    }

    /// The embedded Kinesis reshards at once.
    async fn is_active(&self) -> Result<()> {
        let describe = self.client.describe_stream_summary();
        let answer = describe.stream_name(&self.name).send().await?;
        let summary = answer.stream_description_summary.context("summary")?;
        ensure!(
            summary.stream_status == StreamStatus::Active,
            "{summary:?}: not active at once"
        );
        Ok(())
    }

    /// Puts so many plain records, and then an aggregate, into a shard, or wherever they fall.
    /// Returns what they carry.
    pub(crate) async fn put(&self, shard: Option<&Shard>, plain: usize) -> Result<Vec<String>> {
        let mut carried = Vec::new();
        let mut next = || {
            let data = crate::ledger::data(self.put.fetch_add(1, Ordering::Relaxed));
            carried.push(data.clone());
            data.into_bytes()
        };
        let mut entries = Vec::new();
        for _ in 0..plain {
            entries.push((partition_key(shard), next()));
        }
        let key = partition_key(shard);
        let records = (0..AGGREGATED).map(|_| UserRecord {
            partition_key: 0,
            data: next(),
        });
        let aggregate = aggregate(&AggregatedRecord {
            partition_keys: vec![key.clone()],
            records: records.collect(),
        });
        entries.push((key, aggregate));
        // Before it is answered, for a worker may report it before.
        self.ledger.put(&carried);
        let entry = |(key, data)| {
            let entry = PutRecordsRequestEntry::builder().partition_key(key);
            entry.data(Blob::new(data)).build()
        };
        let entries = entries.into_iter().map(entry).collect::<Result<_, _>>()?;
        let put = self.client.put_records().stream_name(&self.name);
        let answer = put.set_records(Some(entries)).send().await?;
        ensure!(
            answer.failed_record_count.unwrap_or(0) == 0,
            "records were refused: {answer:?}"
        );
        Ok(carried)
    }

    /// The place of every user record of a shard, oldest first.
    pub(crate) async fn walk(&self, shard: &str) -> Result<Vec<Checkpoint>> {
        let start = self.client.get_shard_iterator().stream_name(&self.name);
        let start = start.shard_id(shard);
        let start = start.shard_iterator_type(ShardIteratorType::TrimHorizon);
        let mut next = start.send().await?.shard_iterator;
        let mut places = Vec::new();
        while let Some(iterator) = next {
            let page = self.client.get_records().shard_iterator(iterator);
            let page = page.send().await?;
            for record in &page.records {
                let carried = user_records(record.data.as_ref());
                for sub in 0..carried {
                    places.push(Checkpoint::parse(&record.sequence_number, sub)?);
                }
            }
            let at_tip = page.records.is_empty() && page.millis_behind_latest == Some(0);
            next = page.next_shard_iterator.filter(|_| !at_tip);
        }
        Ok(places)
    }
}

/// A partition key that falls into a shard: as the KPL does, an aggregate's records have its key.
fn partition_key(shard: Option<&Shard>) -> String {
    loop {
        let key = format!("{:016x}", fastrand::u64(..));
        let hash = u128::from_be_bytes(Md5::digest(&key).into());
        if shard.is_none_or(|shard| shard.keys.contains(&hash)) {
            return key;
        }
    }
}

fn aggregate(records: &AggregatedRecord) -> Vec<u8> {
    let message = records.encode_to_vec();
    let digest = Md5::digest(&message);
    [&MAGIC[..], &message, &digest].concat()
}

/// How many user records a record carries.
fn user_records(data: &[u8]) -> u64 {
    let Some(rest) = data.strip_prefix(&MAGIC) else {
        return 1;
    };
    let message = &rest[..rest.len() - Md5::output_size()];
    AggregatedRecord::decode(message).map_or(1, |aggregate| aggregate.records.len() as u64)
}
