//! Shards as `ListShards` and `GetRecords` report them.

use std::{collections::BTreeSet, ops::RangeInclusive};

use md5::{Digest, Md5};

use crate::model::{keys::ShardId, sequence::SequenceNumber};

/// The range of hash keys that a shard takes, both ends included: numbers of 128 bits.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct HashRange {
    /// The first hash key.
    pub start: u128,
    /// The last hash key.
    pub end: u128,
}

impl From<RangeInclusive<u128>> for HashRange {
    fn from(range: RangeInclusive<u128>) -> Self {
        let (start, end) = range.into_inner();
        Self { start, end }
    }
}

impl HashRange {
    pub(crate) fn contains(self, hash_key: u128) -> bool {
        (self.start..=self.end).contains(&hash_key)
    }
}

/// A shard of the stream.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Shard {
    /// Its id.
    pub id: ShardId,
    /// Parent and adjacent parent: none, one (split) or two (merge).
    pub parents: BTreeSet<ShardId>,
    /// The hash keys that it takes.
    pub hash_range: HashRange,
    /// The first sequence number that it can hold.
    pub starting_sequence_number: SequenceNumber,
    /// Whether it is closed, by a split, a merge or the end of the stream.
    pub closed: bool,
}

/// A child as the last page of a closed shard reports it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ChildShard {
    /// Its id.
    pub id: ShardId,
    /// All its parents.
    pub parents: BTreeSet<ShardId>,
    /// The hash keys that it takes.
    pub hash_range: HashRange,
}

impl From<&Shard> for ChildShard {
    fn from(shard: &Shard) -> Self {
        Self {
            id: shard.id.clone(),
            parents: shard.parents.clone(),
            hash_range: shard.hash_range,
        }
    }
}

/// Where Kinesis puts a partition key: its MD5 as a number.
pub(crate) fn hash_key(partition_key: &str) -> u128 {
    u128::from_be_bytes(Md5::digest(partition_key).into())
}
