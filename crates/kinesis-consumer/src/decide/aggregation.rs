//! KPL aggregation: one Kinesis record that carries many user records
//! (`retrieval/AggregatorUtil.java`, `messages.proto`).
//!
//! Magic number, protobuf, MD5 of the protobuf. Whatever is not exactly that is delivered as it
//! came, as KCL does. Where KCL drops an aggregate, or fails on it, it is set aside whole.

use bytes::Bytes;
use md5::{Digest, Md5};
use prost::{
    Message,
    encoding::{DecodeContext, decode_key, skip_field},
};

use crate::model::{
    record::{Record, UnfitAggregate},
    shard::{HashRange, hash_key},
};

#[cfg(test)]
mod tests;

const MAGIC: [u8; 4] = [0xf3, 0x89, 0x9a, 0xc2];
const DIGEST_LEN: usize = 16;

/// `messages.proto`. What is `required` there is optional here, so that its absence shows. Keys are
/// bytes, as Java reads texts that are not UTF-8, too.
#[derive(Clone, PartialEq, Message)]
struct AggregatedRecord {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    partition_keys: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    explicit_hash_keys: Vec<Bytes>,
    #[prost(message, repeated, tag = "3")]
    records: Vec<UserRecord>,
}

/// Its tags (4) are of no use to anybody: the KPL never sets them.
#[derive(Clone, PartialEq, Message)]
struct UserRecord {
    #[prost(uint64, optional, tag = "1")]
    partition_key: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    explicit_hash_key: Option<u64>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    data: Option<Bytes>,
}

/// An aggregate that is not delivered record by record.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unfit {
    /// The record that carries it, with the sub-sequence number of the last user record in it: a
    /// checkpoint there covers all of it.
    pub record: Record,
    /// How many user records it has; 1 where that is not known.
    pub users: usize,
    /// Why.
    pub reason: UnfitAggregate,
}

/// Appends the records that `record` carries to `out`: the user records of a KPL aggregate, or the
/// record itself. An aggregate that is unfit comes back, and `out` stays as it is.
///
/// With `range`, the hash keys of the shard that it was read from: an aggregate of which any user
/// record belongs elsewhere is unfit, as the KPL sends it again after a reshard. Data are slices of
/// the aggregate's data, not copies: they keep it in memory.
pub fn deaggregate(
    record: Record,
    range: Option<HashRange>,
    out: &mut Vec<Record>,
) -> Option<Unfit> {
    let Some(aggregate) = decode(&record.data) else {
        out.push(record);
        return None;
    };
    let before = out.len();
    let users = aggregate.records.len();
    let reason = expand(&record, aggregate, range, out).err()?;
    out.truncate(before);
    let mut record = record;
    let users = if let UnfitAggregate::Misplaced { .. } = reason {
        record.sub_sequence_number = users as u64 - 1;
        users
    } else {
        1
    };
    Some(Unfit {
        record,
        users,
        reason,
    })
}

/// The sub-sequence number of the last user record that a record of the stream carries: a
/// checkpoint of its sequence number before that leaves a remainder. 0 for a plain record.
pub fn last_sub_sequence_number(data: &Bytes) -> u64 {
    decode(data).map_or(0, |aggregate| {
        aggregate.records.len().saturating_sub(1) as u64
    })
}

/// About how many user records the record takes apart into, without taking it apart, and the bytes
/// of the texts that each of them has at the most. 0: it is no aggregate.
pub(crate) fn user_records(record: &Record) -> (usize, usize) {
    let Some(mut message) = record.data.strip_prefix(&MAGIC) else {
        return (0, 0);
    };
    let (mut count, mut key, mut hash_key) = (0, 0, 0);
    while let Ok((tag, wire_type)) = decode_key(&mut message) {
        let before = message.len();
        let context = DecodeContext::default();
        if skip_field(wire_type, tag, &mut message, context).is_err() {
            break;
        }
        let bytes = before - message.len();
        match tag {
            1 => key = bytes.max(key),
            2 => hash_key = bytes.max(hash_key),
            3 => count += 1,
            _ => {}
        }
    }
    (count, key + hash_key)
}

fn decode(data: &Bytes) -> Option<AggregatedRecord> {
    if !data.starts_with(&MAGIC) || data.len() <= MAGIC.len() + DIGEST_LEN {
        return None;
    }
    let (message, digest) = (
        data.slice(MAGIC.len()..data.len() - DIGEST_LEN),
        &data[data.len() - DIGEST_LEN..],
    );
    if Md5::digest(&message)[..] != *digest {
        return None;
    }
    let aggregate = AggregatedRecord::decode(message).ok()?;
    let is_whole = |record: &UserRecord| record.partition_key.is_some() && record.data.is_some();
    aggregate.records.iter().all(is_whole).then_some(aggregate)
}

fn expand(
    carrier: &Record,
    aggregate: AggregatedRecord,
    range: Option<HashRange>,
    out: &mut Vec<Record>,
) -> Result<(), UnfitAggregate> {
    let AggregatedRecord {
        partition_keys,
        explicit_hash_keys,
        records,
    } = aggregate;
    if records.is_empty() {
        return Err(UnfitAggregate::Malformed("it has no user records"));
    }
    let text = |key: &Bytes| String::from_utf8_lossy(key).into_owned();
    let partition_keys: Vec<String> = partition_keys.iter().map(text).collect();
    // Many records share few keys.
    let mut implied: Vec<Option<u128>> = vec![None; partition_keys.len()];
    let count = records.len();
    out.reserve(count);
    for (sub_sequence_number, record) in (0..).zip(records) {
        let at = index(record.partition_key.unwrap_or(u64::MAX));
        let partition_key = partition_keys.get(at).ok_or(UnfitAggregate::Malformed(
            "a partition key is not in its table",
        ))?;
        let explicit = match record.explicit_hash_key {
            Some(at) => Some(explicit_hash_keys.get(index(at)).map(text).ok_or(
                UnfitAggregate::Malformed("an explicit hash key is not in its table"),
            )?),
            None => None,
        };
        if let Some(range) = range {
            let is_ours = match &explicit {
                Some(key) => explicit_hash_key(key)?.is_some_and(|key| range.contains(key)),
                None => {
                    let implied = &mut implied[at];
                    range.contains(*implied.get_or_insert_with(|| hash_key(partition_key)))
                }
            };
            if !is_ours {
                return Err(UnfitAggregate::Misplaced {
                    first: sub_sequence_number,
                    records: count,
                });
            }
        }
        out.push(Record {
            sequence_number: carrier.sequence_number.clone(),
            sub_sequence_number,
            aggregated: true,
            partition_key: partition_key.clone(),
            explicit_hash_key: explicit,
            data: record.data.unwrap_or_default(),
            arrival: carrier.arrival,
        });
    }
    Ok(())
}

/// The number; `None`: it is beyond every shard.
fn explicit_hash_key(key: &str) -> Result<Option<u128>, UnfitAggregate> {
    let digits = key.strip_prefix(['-', '+']).unwrap_or(key);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let what = "an explicit hash key is no number";
        return Err(UnfitAggregate::Malformed(what));
    }
    Ok(key.parse().ok())
}

/// An index beyond what fits is beyond every table.
fn index(wire: u64) -> usize {
    usize::try_from(wire).unwrap_or(usize::MAX)
}
