//! Records as processors see them.

use bytes::Bytes;
use jiff::Timestamp;

use crate::model::sequence::{Position, SequenceNumber};

/// A record: a plain one, or one user record of a KPL aggregate.
#[derive(Clone, Debug, Eq, PartialEq)]
#[cfg_attr(not(feature = "test-util"), non_exhaustive)]
pub struct Record {
    /// The sequence number of the Kinesis record that carried it.
    pub sequence_number: SequenceNumber,
    /// Its index within a KPL aggregate, from 0; 0 for a plain record.
    pub sub_sequence_number: u64,
    /// Whether it came in a KPL aggregate.
    pub aggregated: bool,
    /// The partition key that the producer gave. Empty if it gave none, as it may where the stream
    /// distributes records by itself.
    pub partition_key: String,
    /// The hash key that the producer gave instead of the partition key's MD5, in decimal. Only
    /// known of aggregated records.
    pub explicit_hash_key: Option<String>,
    /// The data, at most 10 MiB. Clones share it.
    pub data: Bytes,
    /// About when Kinesis took it in, by AWS's clock, to the millisecond. Not in order within a
    /// shard. `None`: AWS did not say.
    pub arrival: Option<Timestamp>,
}

impl Record {
    /// A plain record without a time of arrival.
    pub fn new(
        sequence_number: SequenceNumber,
        partition_key: impl Into<String>,
        data: impl Into<Bytes>,
    ) -> Self {
        Self {
            sequence_number,
            sub_sequence_number: 0,
            aggregated: false,
            partition_key: partition_key.into(),
            explicit_hash_key: None,
            data: data.into(),
            arrival: None,
        }
    }

    /// The record's place in its shard.
    pub fn position(&self) -> Position {
        Position {
            sequence_number: self.sequence_number.clone(),
            sub_sequence_number: self.sub_sequence_number,
        }
    }
}

/// Why a KPL aggregate is set aside whole, instead of its user records being delivered.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum UnfitAggregate {
    /// A user record belongs to another shard: its hash key is none of the shard's that the
    /// aggregate was read from. The KPL sends such an aggregate again; other producers do not.
    #[error(
        "a KPL aggregate whose user record {first} (of {records}, from 0) has the hash key of \
         another shard"
    )]
    #[cfg_attr(not(feature = "test-util"), non_exhaustive)]
    Misplaced {
        /// The sub-sequence number of the first such user record.
        first: u64,
        /// The user records in the aggregate.
        records: usize,
    },
    /// It cannot be taken apart, although its digest is right.
    #[error("a KPL aggregate that cannot be taken apart: {0}")]
    Malformed(&'static str),
}

/// What one call of `process_records` gets: records of one shard, in order, never none.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "test-util"), non_exhaustive)]
pub struct Batch {
    /// The records.
    pub records: Vec<Record>,
    /// How far the batch's end was behind the shard's tip when it was read, in milliseconds. 0: at
    /// the tip.
    pub millis_behind_latest: i64,
}

impl Batch {
    /// A batch that ends at the shard's tip.
    pub fn new(records: Vec<Record>) -> Self {
        Self {
            records,
            millis_behind_latest: 0,
        }
    }
}
