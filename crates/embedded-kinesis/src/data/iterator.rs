//! GetShardIterator.

use serde::{Deserialize, Serialize};

use crate::operations::{Input as _, about_stream};
use crate::protocol::{AwsError, Plain, Timestamp};
use crate::sequence::Sequence;
use crate::shard::{self, Shard};
use crate::stream::Key;
use crate::token::ShardIterator;
use crate::validate::Constraints;
use crate::world::{Caller, World, settled};

pub(super) const TYPES: [&str; 5] = [
    "AFTER_SEQUENCE_NUMBER",
    "AT_SEQUENCE_NUMBER",
    "AT_TIMESTAMP",
    "LATEST",
    "TRIM_HORIZON",
];
/// How far a caller's clock may be ahead.
const CLOCK_SKEW: u64 = 1000;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct GetShardIterator {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    shard_id: Option<String>,
    shard_iterator_type: Option<String>,
    starting_sequence_number: Option<String>,
    timestamp: Option<Timestamp>,
}
about_stream!(GetShardIterator);

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct GetShardIteratorOutput {
    shard_iterator: String,
}

pub(crate) fn get_shard_iterator(
    world: &World,
    caller: &Caller,
    input: GetShardIterator,
) -> Result<Plain<GetShardIteratorOutput>, AwsError> {
    let mut constraints = Constraints::default();
    constraints.required("shardId", input.shard_id.is_some());
    constraints.required("shardIteratorType", input.shard_iterator_type.is_some());
    if let Some(id) = &input.shard_id {
        constraints.shard_id("shardId", id);
    }
    if let Some(kind) = &input.shard_iterator_type {
        constraints.one_of("shardIteratorType", kind, &TYPES);
    }
    if let Some(sequence) = &input.starting_sequence_number {
        constraints.number("startingSequenceNumber", sequence, 129);
    }
    constraints.finish()?;
    let now = world.clock.now();
    let stream = world.stream(caller, input.target(), now)?;
    let mut stream = settled(&stream, now);
    stream.must_be_usable(now)?;
    let (key, stream_id, horizon) = (stream.key.clone(), stream.id, stream.horizon(now));
    let shard = stream.shard_by_id(input.shard_id.as_deref().unwrap_or_default())?;
    if world.config().read_limits && !shard.limits.get_iterator(now) {
        let (id, Key { account, name, .. }) = (shard.id(), &key);
        return Err(AwsError::throughput(format!(
            "Rate exceeded for shard {id} in stream {name} under account {account}."
        )));
    }
    shard.trim(horizon);
    let start = Start {
        kind: input.shard_iterator_type.as_deref().unwrap_or_default(),
        sequence: input.starting_sequence_number.as_deref(),
        timestamp: input.timestamp,
        operation: "GetShardIterator",
    };
    let next = start.position(shard, &key, now)?;
    let Key {
        account,
        region,
        name,
    } = key;
    let shard_iterator = world.seal.seal(&ShardIterator {
        account,
        region,
        stream: name,
        stream_id,
        shard: shard.number,
        next,
        issued: now,
    });
    Ok(Plain(GetShardIteratorOutput { shard_iterator }))
}

/// Where to start, as GetShardIterator and SubscribeToShard say it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start<'a> {
    pub(super) kind: &'a str,
    pub(super) sequence: Option<&'a str>,
    pub(super) timestamp: Option<Timestamp>,
    /// For whom, as errors say.
    pub(super) operation: &'static str,
}

impl Start<'_> {
    /// The number in the shard of the first record to read.
    pub(super) fn position(self, shard: &Shard, key: &Key, now: u64) -> Result<u64, AwsError> {
        let kind = self.kind;
        match kind {
            "LATEST" => Ok(shard.tip()),
            "AT_TIMESTAMP" => {
                let Timestamp(at) = self.timestamp.ok_or_else(|| {
                    AwsError::invalid("Must specify timestamp parameter for iterator of type AT_TIMESTAMP. Current request has no timestamp parameter.")
                })?;
                if at > now + CLOCK_SKEW {
                    return Err(AwsError::invalid(format!(
                        "The timestampInMillis parameter cannot be greater than the currentTimestampInMillis. timestampInMillis: {at}, \
                         currentTimestampInMillis: {now}"
                    )));
                }
                Ok(shard.at_time(at))
            }
            "AT_SEQUENCE_NUMBER" | "AFTER_SEQUENCE_NUMBER" => {
                let text = self.sequence.ok_or_else(|| {
                    AwsError::invalid(format!("Must specify startingSequenceNumber parameter for iterator of type {kind}. Current request has none."))
                })?;
                self.at_sequence(shard, key, text)
            }
            // TRIM_HORIZON
            _ => Ok(shard.oldest()),
        }
    }

    fn at_sequence(self, shard: &Shard, key: &Key, text: &str) -> Result<u64, AwsError> {
        let (id, operation) = (shard.id(), self.operation);
        let Key { account, name, .. } = key;
        let refused = |why: &str| {
            AwsError::invalid(format!(
                "StartingSequenceNumber {text} used in {operation} on shard {id} in stream {name} under account {account} is invalid{why}."
            ))
        };
        let sequence = Sequence::parse(text).ok_or_else(|| refused(""))?;
        if sequence.shard != shard.number {
            return Err(AwsError::invalid(format!(
                "Invalid StartingSequenceNumber. It encodes {}, while it was used in a call to a shard with {id}",
                shard::id(sequence.shard)
            )));
        }
        let at = match self.kind {
            "AFTER_SEQUENCE_NUMBER" => shard.position(sequence).map(|at| at + 1),
            _ => shard.at_or_after(sequence),
        };
        at.ok_or_else(|| refused(" because it did not come from this stream"))
    }
}
