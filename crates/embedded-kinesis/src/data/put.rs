//! PutRecord and PutRecords.
//!
//! All that can be done before the stream's lock is: base64 is checked, hash keys are computed.
//! Under the lock a record gets its number and its place at once, so a reader passes none by.

use serde::{Deserialize, Serialize};

use super::push_json_text;
use crate::hash::hash_key;
use crate::operations::{Input as _, about_stream};
use crate::protocol::{Answer, AwsError, Blob, Plain, Stored, Wire};
use crate::sequence::{Digits, Sequence};
use crate::shard;
use crate::stream::{Key, Stream};
use crate::validate::Constraints;
use crate::world::{Caller, World, settled};

/// Records of a PutRecords call.
const MAX_RECORDS: usize = 500;
/// Bytes of a PutRecords call, partition keys included.
const MAX_BYTES: usize = 10 << 20;
const THROUGHPUT: &str = "ProvisionedThroughputExceededException";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct PutRecord {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    data: Option<Blob>,
    partition_key: Option<Box<str>>,
    explicit_hash_key: Option<String>,
    sequence_number_for_ordering: Option<String>,
}

about_stream!(PutRecord);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct PutRecords {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    records: Option<Vec<Entry>>,
}

about_stream!(PutRecords);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    data: Option<Blob>,
    partition_key: Option<Box<str>>,
    explicit_hash_key: Option<String>,
}

/// A record that only waits for its place.
#[derive(Debug)]
struct Ready {
    partition_key: Box<str>,
    hash_key: u128,
    data: Stored,
}

impl Ready {
    fn size(&self) -> usize {
        self.data.len() + self.partition_key.len()
    }
}

/// Checks an entry; `at` is where it stands in the request, as errors name it.
fn ready(
    entry: Entry,
    at: &dyn Fn(&str) -> String,
    scratch: &mut Vec<u8>,
) -> Result<Ready, AwsError> {
    let Entry {
        data,
        partition_key,
        explicit_hash_key,
    } = entry;
    let (data, key) = match (data, partition_key) {
        (Some(data), Some(key)) => (data, key),
        (data, key) => {
            let mut constraints = Constraints::default();
            constraints.required(&at("data"), data.is_some());
            constraints.required(&at("partitionKey"), key.is_some());
            return Err(constraints.error());
        }
    };
    let characters = key.chars().count();
    if characters == 0 || characters > 256 {
        let mut constraints = Constraints::default();
        constraints.length(&at("partitionKey"), &key, 1, 256);
        constraints.finish()?;
    }
    let hash_key = match explicit_hash_key {
        None => hash_key(&key),
        Some(text) => {
            let mut constraints = Constraints::default();
            constraints.number(&at("explicitHashKey"), &text, 39);
            constraints.finish()?;
            text.parse().map_err(|_| {
                AwsError::invalid(format!(
                    "Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was {text}"
                ))
            })?
        }
    };
    let data = data.store(scratch).ok_or_else(|| {
        AwsError::new(
            "SerializationException",
            format!("{} is no base64.", at("data")),
        )
    })?;
    Ok(Ready {
        partition_key: key,
        hash_key,
        data,
    })
}

/// What became of a record.
#[derive(Debug)]
enum Put {
    Stored {
        sequence: Digits,
        shard: u32,
    },
    /// The shard takes no more this second.
    Throttled {
        shard: u32,
    },
}

fn put(stream: &mut Stream, record: Ready, limited: bool, now: u64) -> Result<Put, AwsError> {
    let shard = stream
        .shard_for(record.hash_key)
        .ok_or_else(|| AwsError::internal("no open shard takes this hash key"))?;
    if limited && !shard.limits.write(record.size(), now) {
        return Ok(Put::Throttled {
            shard: shard.number,
        });
    }
    let sequence = shard.append(record.partition_key, record.data, now);
    Ok(Put::Stored {
        sequence,
        shard: shard.number,
    })
}

fn rate_exceeded(shard: u32, key: &Key) -> String {
    format!(
        "Rate exceeded for shard {} in stream {} under account {}.",
        shard::id(shard),
        key.name,
        key.account
    )
}

fn must_fit(record: &Ready, at: &str, stream: &Stream) -> Result<(), AwsError> {
    let most = stream.max_record_kib * 1024;
    if record.size() <= most {
        return Ok(());
    }
    Err(AwsError::new(
        "ValidationException",
        format!(
            "1 validation error detected: Value at '{at}' failed to satisfy constraint: Member must have length less than or equal to {most}"
        ),
    ))
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct PutRecordOutput {
    shard_id: String,
    sequence_number: String,
    encryption_type: &'static str,
}

pub(crate) fn put_record(
    world: &World,
    caller: &Caller,
    input: PutRecord,
) -> Result<Plain<PutRecordOutput>, AwsError> {
    let key = world.key(caller, input.target())?;
    let PutRecord {
        data,
        partition_key,
        explicit_hash_key,
        sequence_number_for_ordering,
        ..
    } = input;
    if let Some(ordering) = &sequence_number_for_ordering
        && Sequence::parse(ordering).is_none()
    {
        return Err(AwsError::invalid(format!(
            "ExclusiveMinimumSequenceNumber {ordering} used in PutRecord is invalid."
        )));
    }
    let entry = Entry {
        data,
        partition_key,
        explicit_hash_key,
    };
    let record = ready(entry, &str::to_owned, &mut Vec::new())?;
    let now = world.clock.now();
    let stream = world.stream_of(&key, now)?;
    let mut stream = settled(&stream, now);
    stream.must_be_usable(now)?;
    must_fit(&record, "data", &stream)?;
    match put(&mut stream, record, world.config().write_limits, now)? {
        Put::Throttled { shard } => Err(AwsError::throughput(rate_exceeded(shard, &key))),
        Put::Stored { sequence, shard } => Ok(Plain(PutRecordOutput {
            shard_id: shard::id(shard),
            sequence_number: sequence.as_str().to_owned(),
            encryption_type: "NONE",
        })),
    }
}

#[derive(Debug)]
pub(crate) struct PutRecordsOutput {
    key: Key,
    records: Vec<Put>,
}

pub(crate) fn put_records(
    world: &World,
    caller: &Caller,
    input: PutRecords,
) -> Result<PutRecordsOutput, AwsError> {
    let key = world.key(caller, input.target())?;
    let entries = input.records.unwrap_or_default();
    if entries.is_empty() || entries.len() > MAX_RECORDS {
        let bound = if entries.is_empty() {
            "greater than or equal to 1"
        } else {
            "less than or equal to 500"
        };
        let text = format!(
            "1 validation error detected: Value at 'records' failed to satisfy constraint: Member must have length {bound}"
        );
        return Err(AwsError::new("ValidationException", text));
    }
    let mut scratch = Vec::new();
    let entries = entries.into_iter().enumerate();
    let ready = entries.map(|(i, entry)| ready(entry, &|field| member(i, field), &mut scratch));
    let ready = ready.collect::<Result<Vec<Ready>, _>>()?;
    if ready.iter().map(Ready::size).sum::<usize>() > MAX_BYTES {
        return Err(AwsError::invalid(format!(
            "Records size exceeds {} MB limit",
            MAX_BYTES >> 20
        )));
    }
    let config = world.config();
    let now = world.clock.now();
    let stream = world.stream_of(&key, now)?;
    let mut stream = settled(&stream, now);
    stream.must_be_usable(now)?;
    for (i, record) in ready.iter().enumerate() {
        if record.size() > 1 << 20 {
            must_fit(record, &member(i, "data"), &stream)?;
        }
    }
    let records = ready
        .into_iter()
        .map(|record| put(&mut stream, record, config.write_limits, now))
        .collect::<Result<_, _>>()?;
    drop(stream);
    Ok(PutRecordsOutput { key, records })
}

fn member(i: usize, field: &str) -> String {
    format!("records.{}.member.{field}", i + 1)
}

impl PutRecordsOutput {
    fn failed(&self) -> usize {
        self.records
            .iter()
            .filter(|it| matches!(it, Put::Throttled { .. }))
            .count()
    }
}

impl Answer for PutRecordsOutput {
    fn encode(&self, wire: Wire) -> Result<Vec<u8>, AwsError> {
        match wire {
            Wire::Json => Ok(self.json()),
            Wire::Cbor => wire.write(&self.view()),
        }
    }
}

impl PutRecordsOutput {
    fn json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.records.len() * 128);
        out.extend_from_slice(b"{\"EncryptionType\":\"NONE\",\"FailedRecordCount\":");
        out.extend_from_slice(self.failed().to_string().as_bytes());
        out.extend_from_slice(b",\"Records\":[");
        // Most records of a call fall into few shards.
        let mut last = (u32::MAX, String::new());
        for (i, record) in self.records.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            match record {
                Put::Stored { sequence, shard } => {
                    if last.0 != *shard {
                        last = (*shard, shard::id(*shard));
                    }
                    out.extend_from_slice(b"{\"SequenceNumber\":\"");
                    out.extend_from_slice(sequence.as_bytes());
                    out.extend_from_slice(b"\",\"ShardId\":\"");
                    out.extend_from_slice(last.1.as_bytes());
                    out.extend_from_slice(b"\"}");
                }
                Put::Throttled { shard } => {
                    out.extend_from_slice(b"{\"ErrorCode\":\"");
                    out.extend_from_slice(THROUGHPUT.as_bytes());
                    out.extend_from_slice(b"\",\"ErrorMessage\":");
                    push_json_text(&mut out, &rate_exceeded(*shard, &self.key));
                    out.push(b'}');
                }
            }
        }
        out.extend_from_slice(b"]}");
        out
    }

    fn view(&self) -> View<'_> {
        let records = self.records.iter().map(|record| match record {
            Put::Stored { sequence, shard } => EntryView {
                sequence_number: Some(sequence.as_str()),
                shard_id: Some(shard::id(*shard)),
                ..EntryView::default()
            },
            Put::Throttled { shard } => EntryView {
                error_code: Some(THROUGHPUT),
                error_message: Some(rate_exceeded(*shard, &self.key)),
                ..EntryView::default()
            },
        });
        View {
            failed_record_count: self.failed(),
            records: records.collect(),
            encryption_type: "NONE",
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct View<'a> {
    failed_record_count: usize,
    records: Vec<EntryView<'a>>,
    encryption_type: &'static str,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct EntryView<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence_number: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shard_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_message: Option<String>,
}
