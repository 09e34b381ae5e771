//! A lease: one item of KCL's lease table. A value; `lease_table` reads and writes it.

use std::{collections::BTreeSet, fmt, str::FromStr};

use jiff::Timestamp;

use crate::model::{
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
    /// `nativeProcess`, ours: which process took it. Two that run under one worker id are told apart by it.
    pub native_process: Option<String>,
    /// `handoverTo`, ours: the worker of this library that asks the holder for it.
    pub handover_to: Option<String>,
    /// `latestSince`, ours: since when a checkpoint of LATEST stands, less room for clock skew. Who reads next starts there.
    /// Only read together with LATEST: a Java checkpoint leaves it standing.
    pub latest_since: Option<Timestamp>,
    /// `busy`, ours, in thousandths: as the holder's last renewal wrote it, the same in all its leases. A Java take leaves it standing: ask [`Lease::busy`].
    pub busy_permille: Option<u16>,
}

/// Whose stream a lease of a multi-stream application belongs to: `account:stream:epoch` (`common/StreamIdentifier.java`).
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct StreamIdentifier {
    /// The AWS account's number.
    pub account: String,
    /// The stream's name.
    pub stream: String,
    /// When the stream was created, in seconds: tells streams of one name apart.
    pub epoch: u64,
}

/// The text is no stream identifier.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "{0:?} is no stream identifier: want account:stream:epoch, such as 123456789012:orders:1700000000"
)]
pub struct InvalidStreamIdentifier(pub String);

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
            native_process: None,
            handover_to: None,
            latest_since: None,
            busy_permille: None,
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

    /// How much of what the holder can do, with all its shards, is used: 0 to 1 ([`Config::parallelism`](crate::face::config::Config::parallelism)
    /// says of what). `None`: not known, or the holder is not one of this library, and the attribute a left-over. Believe it only while
    /// `counter` moves: a worker that was killed leaves it behind.
    pub fn busy(&self) -> Option<f64> {
        let permille = self.busy_permille.filter(|_| self.is_native());
        permille.map(|permille| f64::from(permille) / 1000.0)
    }

    /// Processed to its end?
    pub fn is_finished(&self) -> bool {
        self.checkpoint == Checkpoint::ShardEnd
    }
}

// === impl StreamIdentifier ===

impl FromStr for StreamIdentifier {
    type Err = InvalidStreamIdentifier;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<_> = text.split(':').collect();
        let digits =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match parts[..] {
            [account, stream, epoch] if digits(account) && !stream.is_empty() && digits(epoch) => {
                epoch.parse().ok().map(|epoch| Self {
                    account: account.to_owned(),
                    stream: stream.to_owned(),
                    epoch,
                })
            }
            _ => None,
        }
        .ok_or_else(|| InvalidStreamIdentifier(text.to_owned()))
    }
}

impl fmt::Display for StreamIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.account, self.stream, self.epoch)
    }
}
