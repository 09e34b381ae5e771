//! KPL aggregation: one Kinesis record that carries many user records
//! (`retrieval/AggregatorUtil.java`, `messages.proto`).
//!
//! Magic number, protobuf, MD5 of the protobuf. Whatever is not exactly that is delivered as it
//! came.

use bytes::Bytes;
use md5::{Digest, Md5};
use prost::Message;

use crate::model::{
    record::Record,
    shard::{HashRange, hash_key},
};

#[cfg(test)]
mod tests;

const MAGIC: [u8; 4] = [0xf3, 0x89, 0x9a, 0xc2];
const DIGEST_LEN: usize = 16;

/// `messages.proto`. What is `required` there is optional here, so that its absence shows.
#[derive(Clone, PartialEq, Message)]
struct AggregatedRecord {
    #[prost(string, repeated, tag = "1")]
    partition_keys: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    explicit_hash_keys: Vec<String>,
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

/// Appends the records that `record` carries to `out`: the user records of a KPL aggregate, or the
/// record itself.
///
/// With `range`, the hash keys of the shard that it was read from: an aggregate of which any user
/// record belongs elsewhere is dropped, as the KPL sends it again after a reshard. Data are slices
/// of the aggregate's data, not copies: they keep it in memory.
pub(crate) fn deaggregate(record: Record, range: Option<HashRange>, out: &mut Vec<Record>) {
    let Some(aggregate) = decode(&record.data) else {
        out.push(record);
        return;
    };
    let before = out.len();
    match expand(&record, aggregate, range, out) {
        Ok(Whose::Ours) => {}
        Ok(Whose::Elsewhere) => out.truncate(before),
        Err(Malformed) => {
            out.truncate(before);
            out.push(record);
        }
    }
}

enum Whose {
    Ours,
    Elsewhere,
}

struct Malformed;

fn decode(data: &Bytes) -> Option<AggregatedRecord> {
    if !data.starts_with(&MAGIC) || data.len() < MAGIC.len() + DIGEST_LEN {
        return None;
    }
    let (message, digest) = (
        data.slice(MAGIC.len()..data.len() - DIGEST_LEN),
        &data[data.len() - DIGEST_LEN..],
    );
    if Md5::digest(&message)[..] != *digest {
        return None;
    }
    AggregatedRecord::decode(message).ok()
}

fn expand(
    carrier: &Record,
    aggregate: AggregatedRecord,
    range: Option<HashRange>,
    out: &mut Vec<Record>,
) -> Result<Whose, Malformed> {
    let AggregatedRecord {
        partition_keys,
        explicit_hash_keys,
        records,
    } = aggregate;
    let explicit = explicit_hash_keys
        .iter()
        .map(|key| key.parse().map_err(|_| Malformed));
    let explicit: Vec<u128> = explicit.collect::<Result<_, _>>()?;
    // Many records share few keys.
    let mut implied: Vec<Option<u128>> = vec![None; partition_keys.len()];
    let mut whose = Whose::Ours;
    out.reserve(records.len());
    for (sub_sequence_number, record) in (0..).zip(records) {
        let at = index(record.partition_key.ok_or(Malformed)?);
        let partition_key = partition_keys.get(at).ok_or(Malformed)?;
        let explicit_at = record.explicit_hash_key.map(index);
        let explicit_hash_key = explicit_at
            .map(|at| explicit_hash_keys.get(at).ok_or(Malformed))
            .transpose()?;
        if let Some(range) = range {
            let hash_key = match explicit_at {
                Some(at) => explicit[at],
                None => *implied[at].get_or_insert_with(|| hash_key(partition_key)),
            };
            if !range.contains(hash_key) {
                // The rest is still looked at: a malformed aggregate is delivered as it came,
                // wherever it belongs.
                whose = Whose::Elsewhere;
            }
        }
        out.push(Record {
            sequence_number: carrier.sequence_number.clone(),
            sub_sequence_number,
            aggregated: true,
            partition_key: partition_key.clone(),
            explicit_hash_key: explicit_hash_key.cloned(),
            data: record.data.ok_or(Malformed)?,
            arrival: carrier.arrival,
        });
    }
    Ok(whose)
}

/// An index beyond what fits is beyond every table.
fn index(wire: u64) -> usize {
    usize::try_from(wire).unwrap_or(usize::MAX)
}
