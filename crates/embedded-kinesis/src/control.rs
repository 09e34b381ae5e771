//! The control plane's operations: streams and shards.

mod consumers;
mod describe;
mod list_shards;
mod reshard;
mod streams;

pub(crate) use consumers::{
    ListStreamConsumers, RegisterStreamConsumer, WhichConsumer, deregister_stream_consumer,
    describe_stream_consumer, list_stream_consumers, register_stream_consumer,
};
pub(crate) use describe::{
    DescribeStream, DescribeStreamSummary, ListStreams, describe_stream, describe_stream_summary,
    list_streams,
};
pub(crate) use list_shards::{ListShards, list_shards};
pub(crate) use reshard::{
    MergeShards, SplitShard, UpdateShardCount, merge_shards, split_shard, update_shard_count,
};
pub(crate) use streams::{
    ChangeRetention, CreateStream, DeleteStream, UpdateMaxRecordSize, create_stream,
    decrease_retention, delete_stream, increase_retention, update_max_record_size,
};

use serde::{Deserialize, Serialize};

use crate::hash::HashRange;
use crate::shard::{self, Shard};

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct StreamModeDetails {
    pub(crate) stream_mode: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct HashKeyRange {
    starting_hash_key: String,
    ending_hash_key: String,
}

impl From<HashRange> for HashKeyRange {
    fn from(range: HashRange) -> Self {
        Self {
            starting_hash_key: range.start.to_string(),
            ending_hash_key: range.end.to_string(),
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct SequenceNumberRange {
    starting_sequence_number: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ending_sequence_number: Option<String>,
}

/// A shard as the API shows it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ShardView {
    shard_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_shard_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    adjacent_parent_shard_id: Option<String>,
    hash_key_range: HashKeyRange,
    sequence_number_range: SequenceNumberRange,
}

impl From<&Shard> for ShardView {
    fn from(shard: &Shard) -> Self {
        Self {
            shard_id: shard.id(),
            parent_shard_id: shard.parents.parent.map(shard::id),
            adjacent_parent_shard_id: shard.parents.adjacent.map(shard::id),
            hash_key_range: shard.range.into(),
            sequence_number_range: SequenceNumberRange {
                starting_sequence_number: shard.starting_sequence().as_str().to_owned(),
                ending_sequence_number: shard.ending_sequence().map(|it| it.as_str().to_owned()),
            },
        }
    }
}
