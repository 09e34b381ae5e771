//! The lease table: each write is one conditional update, exactly as KCL's
//! (`leases/dynamodb/DynamoDBLeaseRefresher.java`).
//!
//! Losing a race is normal control flow: [`TableError::Conflict`] says that the lease has moved on,
//! with what it is now where that is known.

use std::{collections::BTreeSet, fmt};

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{
    edge::failure::CallError,
    model::{
        keys::{LeaseKey, ShardId},
        lease::Lease,
        sequence::Checkpoint,
        shard::HashRange,
    },
};

pub(crate) mod dynamodb;
#[cfg(feature = "test-util")]
pub(crate) mod memory;

/// Why a call to the lease table failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// The condition did not hold: somebody else wrote first (or an earlier attempt of this very
    /// call did). The lease as it is now, where that is known.
    #[error("the lease was written by somebody else")]
    Conflict(Option<Box<Lease>>),
    /// DynamoDB throttled the call. Nothing was written.
    #[error("throttled: {0}")]
    Throttled(#[source] CallError),
    /// Not allowed, no such table, wrong schema: waiting does not help.
    #[error("{0}")]
    Permanent(#[source] CallError),
    /// There is a table, but it cannot be used: it is being made or deleted, or cannot be
    /// decrypted.
    #[error("{0}")]
    NotActive(#[source] CallError),
    /// The write happened, and what it left is no lease: somebody else wrote into the item.
    #[error("{0}")]
    Spoiled(#[source] CallError),
    /// No usable answer: the write may have happened or not.
    #[error("{0}")]
    Unavailable(#[source] CallError),
}

impl TableError {
    /// Whether there is no such table.
    pub(crate) fn is_of_missing_table(&self) -> bool {
        matches!(self, Self::Permanent(error) if error.is_of_missing_thing())
    }

    /// AWS's error code, such as `AccessDeniedException`. `None`: a conflict, or AWS gave no usable
    /// answer.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Conflict(_) => None,
            Self::Throttled(error)
            | Self::Permanent(error)
            | Self::NotActive(error)
            | Self::Spoiled(error)
            | Self::Unavailable(error) => error.code(),
        }
    }

    /// Whether waiting is not known to mend it.
    pub(crate) fn stands(&self) -> bool {
        match self {
            Self::Permanent(_) | Self::NotActive(_) => true,
            Self::Unavailable(error) => error.is_refusal(),
            Self::Conflict(_) | Self::Throttled(_) | Self::Spoiled(_) => false,
        }
    }
}

/// What a scan found.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    /// The application's leases.
    pub leases: Vec<Lease>,
    /// Leases that cannot be read, as they lack what every lease has: key, and what is wrong.
    pub broken: Vec<(String, String)>,
    /// Leases of an application of another kind: key, and of which.
    pub foreign: Vec<(String, String)>,
    /// Whether there are other items of KCL 3's.
    pub has_others: bool,
    /// Whether a worker of KCL 3, not in its 2.x-compatible mode, holds a lease.
    pub shows_kcl3: bool,
}

/// What the table says of KCL 3: items `Migration3.0` and `Leader`, in the lease table or in
/// `<application>-CoordinatorState`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Kcl3State {
    /// `cv` of `Migration3.0`, such as `CLIENT_VERSION_3X`.
    pub client_version: Option<String>,
    /// The leader lock, when there is one.
    pub leader: Option<LeaderLock>,
    /// `<application>-CoordinatorState` may not be read: how that was said. Then what it says is
    /// unknown.
    pub denied: Option<String>,
}

impl Kcl3State {
    /// Whether workers of KCL 3 report themselves to a leader, one that leads or one to come.
    pub(crate) fn wants_reports(&self) -> bool {
        let version = self.client_version.as_deref();
        self.is_led() || version == Some("CLIENT_VERSION_UPGRADE_FROM_2X")
    }

    /// Whether leases are a leader's to give, where one lives.
    pub(crate) fn is_led(&self) -> bool {
        let version = self.client_version.as_deref();
        matches!(
            version,
            Some("CLIENT_VERSION_3X" | "CLIENT_VERSION_3X_WITH_ROLLBACK")
        )
    }
}

/// KCL 3's leader lock: alive while `version` changes within `lease_millis`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LeaderLock {
    /// `ownerName`.
    pub owner: String,
    /// `recordVersionNumber`: a new UUID at each heartbeat.
    pub version: String,
    /// `leaseDuration`, in milliseconds.
    pub lease_millis: u64,
}

/// Takes what a call consumed: the operation of DynamoDB, read units, write units.
pub type UsageSink = Box<dyn Fn(&'static str, f64, f64) + Send + Sync>;

/// A new handle's `nativeProcess`.
fn new_process() -> String {
    format!("{:016x}", fastrand::u64(..))
}

/// The lease table of one application, as one process uses it: each handle stands for a process of
/// its own (`nativeProcess`).
#[async_trait]
pub trait LeaseTable: fmt::Debug + Send + Sync {
    /// From now on `sink` is told what calls consume, where the table knows it.
    fn tell_usage(&self, sink: UsageSink) {
        drop(sink);
    }

    /// Creates the table when absent (PAY_PER_REQUEST) and waits until it can be used, for half a
    /// minute. `Ok(true)`: it was created.
    async fn ensure_exists(&self) -> Result<bool, TableError>;

    /// All leases, eventually consistent.
    async fn scan(&self) -> Result<Scan, TableError>;

    /// Those of these leases that are there and can be read, in any order, eventually consistent.
    async fn look(&self, keys: &[LeaseKey]) -> Result<Vec<Lease>, TableError>;

    /// One lease, consistent. One that cannot be read is an error.
    async fn read(&self, key: &LeaseKey) -> Result<Option<Lease>, TableError>;

    /// Adds a lease. `Ok(false)`: it is there already, and stays as it is.
    async fn create(&self, lease: &Lease) -> Result<bool, TableError>;

    /// On condition of `lease.counter`, and that no KCL 3 leader began to move it: makes `worker`
    /// the owner, clears the request, `news` and `busy`, writes `nativeStream` where `lease` has
    /// one, `failover`, `throughputKBps` and `nativeShare` as in `lease`, counters + 1,
    /// `nativeProcess` and `nativeClock` those of this table handle, removes a left-over
    /// `checkpointOwner`, counts the owner switch. Returns the lease as stored.
    async fn take(&self, lease: &Lease, worker: &str) -> Result<Lease, TableError>;

    /// On condition of `lease.counter` and of `checkpointOwner` as in `lease`: counter + 1, `busy`,
    /// `failover`, `throughputKBps` and `nativeShare` as in `lease`, `nativeClock` that of this
    /// table handle; takes away the `news` that `lease` has. Returns the lease as stored, so the
    /// holder sees `handoverTo` and more `news`; a conflict shows it that a KCL 3 leader moves it.
    async fn renew(&self, lease: &Lease) -> Result<Lease, TableError>;

    /// On condition of `lease.counter`: writes the checkpoint, switches 0, drops pending
    /// checkpoints and `latestSince`; the rest as a renewal.
    async fn checkpoint(&self, lease: &Lease, checkpoint: &Checkpoint)
    -> Result<Lease, TableError>;

    /// On condition of `lease.counter`: clears the owner and what is ours of it, counter + 1. The
    /// next worker may take it at once. (While a KCL 3 leader moves it, the owner is the next one,
    /// and stays: `checkpointOwner` is cleared instead.)
    async fn release(&self, lease: &Lease) -> Result<(), TableError>;

    /// On condition of `lease.counter`, and that `handoverTo` is still `to`: makes `to` the owner,
    /// clears what is of the holder but for `nativeShare`, counters + 1, counts the switch.
    /// Conflicts too while a KCL 3 leader moves it.
    async fn hand_over(&self, lease: &Lease, to: &str) -> Result<(), TableError>;

    /// Asks the holder for the lease, for `worker` that has so many (`handoverHas`) and is as busy
    /// as `lease` says (`handoverLoad`), on condition
    /// that it is native and, like `handoverTo`, as in `lease`. The counter does not move.
    async fn ask(&self, lease: &Lease, worker: &str, has: u64) -> Result<(), TableError>;

    /// Adds to the `news` of a lease, on condition that it is native and its owner's as in `lease`.
    /// The counter does not move.
    async fn tell(&self, lease: &Lease, news: &BTreeSet<LeaseKey>) -> Result<(), TableError>;

    /// Takes the request back, on condition that `handoverTo` is `worker`. The counter does not
    /// move.
    async fn withdraw(&self, key: &LeaseKey, worker: &str) -> Result<(), TableError>;

    /// Remembers since when LATEST stands, on condition that the lease exists, is still at LATEST
    /// and has no `latestSince`.
    async fn remember_latest(&self, key: &LeaseKey, since: Timestamp) -> Result<(), TableError>;

    /// Writes `childShardIds`, on condition that the lease exists. The counter does not move.
    /// Without children nothing is written.
    async fn set_children(
        &self,
        key: &LeaseKey,
        children: &BTreeSet<ShardId>,
    ) -> Result<(), TableError>;

    /// Writes the hash range, on condition that the lease exists. The counter does not move.
    async fn set_hash_range(&self, key: &LeaseKey, range: HashRange) -> Result<(), TableError>;

    /// Writes `nativeStream`, on condition that the lease exists and has none. The counter does not
    /// move.
    async fn set_stream(&self, key: &LeaseKey, identity: &str) -> Result<(), TableError>;

    /// Deletes a lease, on condition that it is finished and its counter is as read.
    async fn delete(&self, lease: &Lease) -> Result<(), TableError>;

    /// Deletes a lease wherever it stands, on condition that its counter is as read.
    async fn discard(&self, lease: &Lease) -> Result<(), TableError>;

    /// What KCL 3 left in the table.
    async fn kcl3_state(&self) -> Result<Kcl3State, TableError>;

    /// Tells a KCL 3 leader that `worker` lives at `now` and can be given leases: its
    /// `WorkerMetricStats`, without figures, so that the leader balances by throughput. Where the
    /// leader looks for it, `kcl3_state` finds out.
    async fn report_worker(&self, worker: &str, now: Timestamp) -> Result<(), TableError>;

    /// Takes that back: the leader gives the worker nothing more.
    async fn retire_worker(&self, worker: &str) -> Result<(), TableError>;
}
