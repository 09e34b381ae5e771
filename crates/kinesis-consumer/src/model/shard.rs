//! Shards as `ListShards` and `GetRecords` tell them.

use std::{collections::BTreeSet, ops::RangeInclusive};

use crate::model::sequence::SequenceNumber;

/// A shard's id, such as `shardId-000000000002`. Also its lease's key.
pub type ShardId = String;

/// The range of hash keys that a shard takes, both ends included.
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
    /// Is it closed, by a split, a merge or the end of the stream?
    pub closed: bool,
}

/// A child as the last page of a closed shard tells it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ChildShard {
    /// Its id.
    pub id: ShardId,
    /// All its parents.
    pub parents: BTreeSet<ShardId>,
    /// The hash keys that it takes.
    pub hash_range: HashRange,
}
