//! A lease: one item of KCL's lease table. A value; `lease_table` reads and writes it.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;

use crate::model::{
    keys::{LeaseKey, ShardId},
    sequence::Checkpoint,
    shard::HashRange,
};

/// The longest that a worker's settings allow.
const LONGEST_FAILOVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Who works on a shard, and how far: one item of the table, as KCL 2.x to 3.5 have it.
#[derive(Clone, Debug, Eq, PartialEq)]
#[cfg_attr(not(feature = "test-util"), non_exhaustive)]
pub struct Lease {
    /// `leaseKey` (of a multi-stream table: `streamName` and `shardId`).
    pub key: LeaseKey,
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
    /// `checkpointOwner`: set while a KCL 3 leader moves the lease; this worker still holds it.
    /// We never set it.
    pub checkpoint_owner: Option<String>,
    /// `nativeCounter`, ours: what `leaseCounter` was at the last write by a worker of this
    /// library. While the two are equal such a worker holds the lease; a Java worker moves
    /// `leaseCounter` alone.
    pub native_counter: Option<u64>,
    /// `nativeProcess`, ours: which process took it. Two that run under one worker id are told
    /// apart by it.
    pub native_process: Option<String>,
    /// `nativeClock`, ours: how many milliseconds old that process was when it began the last
    /// write. Two leases of one process so tell how far apart their last writes were.
    pub native_clock: Option<u64>,
    /// `failover`, ours: for how many milliseconds the holder may be silent before others may take
    /// the lease, as its last write says. `None`: a worker of an earlier version, which judges
    /// others by its own time alone, as Java's do.
    pub failover_millis: Option<u64>,
    /// `handoverTo`, ours: the worker of this library that asks the holder for it.
    pub handover_to: Option<String>,
    /// `handoverHas`, ours: how many unfinished leases the asker holds, or asks for before
    /// this one.
    /// `None` beside a request: of an earlier version, or not known.
    pub handover_has: Option<u64>,
    /// `handoverLoad`, ours: how busy the asker is with these, in thousandths of its time, where
    /// leases are dealt by load. It names the asker: beside another's request it is a left-over,
    /// and not read.
    pub handover_load: Option<u64>,
    /// `news`, ours: keys of leases that the holder is to look at. It removes them by its next
    /// write.
    pub news: BTreeSet<LeaseKey>,
    /// `latestSince`, ours: since when a checkpoint of LATEST stands, less room for clock skew. Who
    /// reads next starts there. Only read together with LATEST: a Java checkpoint leaves it
    /// standing.
    pub latest_since: Option<Timestamp>,
    /// `nativeStream`, ours: which stream, and which shard of that id, the checkpoint is of.
    /// `None`: a lease of Java's, or of an earlier version's.
    pub stream_identity: Option<String>,
    /// `busy`, ours, in thousandths: as the holder's last renewal wrote it, the same in all its
    /// leases. A Java take leaves it standing: ask [`Lease::busy`].
    pub busy_permille: Option<u16>,
    /// `throughputKBps`, in bytes a second: what the leader of a KCL 3 fleet balances by. A holder
    /// of this library writes it while it is led, or where leases are dealt by load, and removes it
    /// otherwise.
    pub throughput: Option<u64>,
    /// `nativeShare`, ours, in thousandths: what the lease takes of its holder's time, as that
    /// measured it, or whoever held it before. `None`: the holder deals leases by number. Beside it
    /// stands `shareCounter`, what `leaseCounter` was at that write: a left-over is not read.
    pub share_permille: Option<u16>,
}

impl Lease {
    /// A lease that nobody ever held.
    pub fn new(key: impl Into<LeaseKey>, checkpoint: Checkpoint) -> Self {
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
            native_process: None,
            native_clock: None,
            failover_millis: None,
            handover_to: None,
            handover_has: None,
            handover_load: None,
            news: BTreeSet::new(),
            latest_since: None,
            stream_identity: None,
            busy_permille: None,
            throughput: None,
            share_permille: None,
        }
    }

    /// The worker that holds it now: `checkpointOwner` if present, else `leaseOwner`
    /// (`leases/Lease.java`, actualOwner).
    pub fn holder(&self) -> Option<&str> {
        self.checkpoint_owner.as_deref().or(self.owner.as_deref())
    }

    /// Whether the holder is a worker of this library, one that answers `handoverTo`.
    pub fn is_native(&self) -> bool {
        self.owner.is_some()
            && self.checkpoint_owner.is_none()
            && self.native_counter == Some(self.counter)
    }

    /// How much of what the holder can do, with all its shards, is used: 0 to 1
    /// ([`Config::parallelism`](crate::Config::parallelism) says of what). `None`:
    /// not known, or the holder is not one of this library, and the attribute a left-over. Believe
    /// it only while `counter` moves: a worker that was killed leaves it behind.
    pub fn busy(&self) -> Option<f64> {
        let permille = self.busy_permille.filter(|_| self.is_native());
        permille.map(|permille| f64::from(permille) / 1000.0)
    }

    /// What it takes of its holder's time, in thousandths, where that is known.
    pub(crate) fn share(&self) -> u64 {
        self.share_permille.map_or(0, u64::from)
    }

    /// Whether this library's last write to it is the last of all: `holder` is one of its workers.
    pub(crate) fn is_ours(&self) -> bool {
        self.native_counter == Some(self.counter) && self.holder().is_some()
    }

    /// For how long the holder may be silent, where it says so. A time that no clock can count says
    /// nothing.
    pub(crate) fn said_failover(&self) -> Option<Duration> {
        let said = self.failover_millis.filter(|_| self.is_ours())?;
        let said = Duration::from_millis(said);
        (Duration::from_millis(1)..=LONGEST_FAILOVER)
            .contains(&said)
            .then_some(said)
    }

    /// To whom a KCL 3 leader moves the lease that `holder` holds.
    pub(crate) fn moves_from(&self, holder: &str) -> Option<&str> {
        let is_moving = self.checkpoint_owner.as_deref() == Some(holder);
        self.owner
            .as_deref()
            .filter(|next| is_moving && *next != holder)
    }

    /// The keys of the parents' leases.
    pub(crate) fn parent_keys(&self) -> impl Iterator<Item = LeaseKey> {
        self.parents.iter().map(|parent| self.key.sibling(parent))
    }

    /// Whether the shard is processed to its end.
    pub fn is_finished(&self) -> bool {
        self.checkpoint == Checkpoint::ShardEnd
    }
}
