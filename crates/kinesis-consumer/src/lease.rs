//! A lease: one item of KCL's lease table. A value; `lease_table` reads and writes it.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::{
    sequence::Checkpoint,
    shard::{HashRange, ShardId},
};

/// Who works on a shard, and how far. Contract: KCL 2.x to 3.5, single-stream.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Lease {
    /// `leaseKey`: the shard's id.
    pub key: ShardId,
    /// `leaseOwner`: the worker that holds it (under a KCL 3 hand-off: that will hold it).
    pub owner: Option<String>,
    /// `leaseCounter`: optimistic lock and heartbeat.
    pub counter: u64,
    /// `checkpoint` and `checkpointSubSequenceNumber`.
    pub checkpoint: Checkpoint,
    /// `ownerSwitchesSinceCheckpoint`.
    pub owner_switches: u64,
    /// `parentShardId`.
    pub parents: BTreeSet<ShardId>,
    /// `childShardIds`.
    pub children: BTreeSet<ShardId>,
    /// `startingHashKey` and `endingHashKey`.
    pub hash_range: Option<HashRange>,
    /// `checkpointOwner`: set while a KCL 3 leader moves the lease; this worker still holds it. Never written by us.
    pub checkpoint_owner: Option<String>,
    /// `nativeCounter`, ours: what `leaseCounter` was at the last write by a worker of this library. While the two are equal such
    /// a worker holds the lease; a Java worker moves `leaseCounter` alone.
    pub native_counter: Option<u64>,
    /// `handoverTo`, ours: the worker of this library that asks the holder for it.
    pub handover_to: Option<String>,
    /// `latestSince`, ours: since when a checkpoint of LATEST stands, less room for clock skew. Who reads next starts there.
    /// Only read together with LATEST: a Java checkpoint leaves it standing.
    pub latest_since: Option<Timestamp>,
}

impl Lease {
    /// A lease that nobody ever held.
    pub fn new(key: impl Into<ShardId>, checkpoint: Checkpoint) -> Self {
        Self {
            key: key.into(),
            owner: None,
            counter: 0,
            checkpoint,
            owner_switches: 0,
            parents: BTreeSet::new(),
            children: BTreeSet::new(),
            hash_range: None,
            checkpoint_owner: None,
            native_counter: None,
            handover_to: None,
            latest_since: None,
        }
    }

    /// Who works on it now: `checkpointOwner` if present, else `leaseOwner` (`leases/Lease.java`, actualOwner).
    pub fn holder(&self) -> Option<&str> {
        self.checkpoint_owner.as_deref().or(self.owner.as_deref())
    }

    /// Is the holder a worker of this library, one that answers `handoverTo`?
    pub fn is_native(&self) -> bool {
        self.owner.is_some()
            && self.checkpoint_owner.is_none()
            && self.native_counter == Some(self.counter)
    }

    /// Processed to its end?
    pub fn is_finished(&self) -> bool {
        self.checkpoint == Checkpoint::ShardEnd
    }
}
