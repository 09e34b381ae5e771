//! GetRecords.

use std::io::Write as _;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{push_json_seconds, push_json_text};
use crate::clock::{iso8601, millis};
use crate::control::HashKeyRange;
use crate::operations::Input;
use crate::protocol::{Answer, AwsError, Stored, Timestamp, Wire};
use crate::shard::{self, Record, Shard};
use crate::stream::Key;
use crate::token::ShardIterator;
use crate::validate::Constraints;
use crate::world::{Caller, Target, World, settled};

/// Records of a reply, and what it is unless Limit says less.
const MAX_RECORDS: i64 = 10_000;
const MAX_BYTES: usize = 10 << 20;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct GetRecords {
    shard_iterator: Option<String>,
    limit: Option<i64>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    /// Not AWS's: asked for by a fault.
    #[serde(skip)]
    pub(crate) empty_page: bool,
}

impl Input for GetRecords {
    fn target(&self) -> Target<'_> {
        Target {
            name: None,
            arn: self.stream_arn.as_deref(),
        }
    }

    fn stream(&self, world: &World) -> Option<String> {
        let iterator: ShardIterator = world.seal.open(self.shard_iterator.as_deref()?)?;
        Some(iterator.stream)
    }
}

#[derive(Debug)]
pub(crate) struct GetRecordsOutput {
    records: Vec<Arc<Record>>,
    next_shard_iterator: Option<String>,
    millis_behind_latest: u64,
    child_shards: Option<Vec<ChildShard>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ChildShard {
    shard_id: String,
    parent_shards: Vec<String>,
    hash_key_range: HashKeyRange,
}

impl From<&Shard> for ChildShard {
    fn from(shard: &Shard) -> Self {
        let parents = [shard.parents.parent, shard.parents.adjacent];
        Self {
            shard_id: shard.id(),
            parent_shards: parents.into_iter().flatten().map(shard::id).collect(),
            hash_key_range: shard.range.into(),
        }
    }
}

pub(crate) fn get_records(
    world: &World,
    caller: &Caller,
    input: GetRecords,
) -> Result<GetRecordsOutput, AwsError> {
    let mut constraints = Constraints::default();
    constraints.required("shardIterator", input.shard_iterator.is_some());
    let limit = input.limit.unwrap_or(MAX_RECORDS);
    constraints.range("limit", limit, 1, MAX_RECORDS);
    constraints.finish()?;
    let invalid = || AwsError::invalid("Invalid ShardIterator.");
    let at: ShardIterator = world
        .seal
        .open(input.shard_iterator.as_deref().unwrap_or_default())
        .ok_or_else(invalid)?;
    if at.account != caller.account || at.region != caller.region {
        return Err(invalid());
    }
    let key = Key {
        account: at.account.clone(),
        region: at.region.clone(),
        name: at.stream.clone(),
    };
    if input.stream_arn.is_some() && world.key(caller, input.target())? != key {
        return Err(AwsError::invalid(
            "StreamARN and ShardIterator are not of the same stream.",
        ));
    }
    let now = world.clock.now();
    let config = world.config();
    let life = millis(config.iterator_ttl);
    if now.saturating_sub(at.issued) > life {
        return Err(AwsError::new(
            "ExpiredIteratorException",
            format!(
                "Iterator expired. The iterator was created at time {} while right now it is {} which is further in the future than the \
                 tolerated delay of {life} milliseconds.",
                iso8601(at.issued),
                iso8601(now)
            ),
        ));
    }
    let stream = world.stream_of(&key, now)?;
    let mut stream = settled(&stream, now);
    stream.must_be_usable(now)?;
    if at.stream_id != stream.id {
        return Err(invalid());
    }
    let horizon = stream.horizon(now);
    let shard = stream.shard_by_id(&shard::id(at.shard))?;
    if config.read_limits && !shard.limits.get_records(now) {
        let (id, Key { account, name, .. }) = (shard.id(), &key);
        return Err(AwsError::throughput(format!(
            "Rate exceeded for shard {id} in stream {name} under account {account}."
        )));
    }
    shard.trim(horizon);
    let mut page = shard.read(
        at.next,
        usize::try_from(limit).unwrap_or_default(),
        MAX_BYTES,
        now,
    );
    if input.empty_page && !page.records.is_empty() {
        page = shard.read(at.next, 0, MAX_BYTES, now);
    }
    if config.read_limits {
        let bytes = page.records.iter().map(|record| record.size()).sum();
        shard.limits.gave(bytes, now);
    }
    let child_shards = page
        .at_end
        .then(|| stream.children(at.shard).map(ChildShard::from).collect());
    drop(stream);
    let next_shard_iterator = (!page.at_end).then(|| {
        world.seal.seal(&ShardIterator {
            next: page.next,
            issued: now,
            ..at
        })
    });
    Ok(GetRecordsOutput {
        records: page.records,
        next_shard_iterator,
        millis_behind_latest: page.millis_behind,
        child_shards,
    })
}

/// Room for a reply with these records.
pub(super) fn json_size(records: &[Arc<Record>]) -> usize {
    let size =
        |record: &Arc<Record>| 160 + record.partition_key.len() + record.data.len() * 4 / 3 + 4;
    512 + records.iter().map(size).sum::<usize>()
}

/// The start of an object: the records, and how far behind they leave their reader.
pub(super) fn push_json_records(out: &mut Vec<u8>, records: &[Arc<Record>], behind: u64) {
    out.extend_from_slice(b"{\"Records\":[");
    for (i, record) in records.iter().enumerate() {
        out.extend_from_slice(if i == 0 {
            b"{\"Data\":\""
        } else {
            b",{\"Data\":\""
        });
        record.data.push_base64(out);
        out.extend_from_slice(b"\",\"PartitionKey\":");
        push_json_text(out, &record.partition_key);
        out.extend_from_slice(b",\"SequenceNumber\":\"");
        out.extend_from_slice(record.sequence.as_bytes());
        out.extend_from_slice(b"\",\"ApproximateArrivalTimestamp\":");
        push_json_seconds(out, record.arrival);
        out.push(b'}');
    }
    // A Vec never fails to be written to.
    let _ = write!(out, "],\"MillisBehindLatest\":{behind}");
}

impl<'a> From<&'a Record> for RecordView<'a> {
    fn from(record: &'a Record) -> Self {
        Self {
            sequence_number: record.sequence.as_str(),
            approximate_arrival_timestamp: Timestamp(record.arrival),
            data: &record.data,
            partition_key: &record.partition_key,
        }
    }
}

impl Answer for GetRecordsOutput {
    fn encode(&self, wire: Wire) -> Result<Vec<u8>, AwsError> {
        match wire {
            Wire::Json => self.json(),
            Wire::Cbor => wire.write(&self.view()),
        }
    }
}

impl GetRecordsOutput {
    fn json(&self) -> Result<Vec<u8>, AwsError> {
        let mut out = Vec::with_capacity(json_size(&self.records));
        push_json_records(&mut out, &self.records, self.millis_behind_latest);
        if let Some(next) = &self.next_shard_iterator {
            out.extend_from_slice(b",\"NextShardIterator\":");
            push_json_text(&mut out, next);
        }
        if let Some(children) = &self.child_shards {
            out.extend_from_slice(b",\"ChildShards\":");
            out.extend_from_slice(&Wire::Json.write(children)?);
        }
        out.push(b'}');
        Ok(out)
    }

    fn view(&self) -> View<'_> {
        View {
            records: self
                .records
                .iter()
                .map(|it| RecordView::from(&**it))
                .collect(),
            next_shard_iterator: self.next_shard_iterator.as_deref(),
            millis_behind_latest: self.millis_behind_latest,
            child_shards: self.child_shards.as_deref(),
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct View<'a> {
    records: Vec<RecordView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_shard_iterator: Option<&'a str>,
    millis_behind_latest: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    child_shards: Option<&'a [ChildShard]>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RecordView<'a> {
    sequence_number: &'a str,
    approximate_arrival_timestamp: Timestamp,
    data: &'a Stored,
    partition_key: &'a str,
}
