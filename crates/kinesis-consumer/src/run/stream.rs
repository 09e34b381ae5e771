//! One stream that the application reads: what is asked of it, known of it and said of it.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::{
    edge::{
        account::FoundStream,
        kinesis::{Kinesis, KinesisError},
    },
    face::{config::Config, error::Error, event::Event},
    model::{
        keys::{LeaseKey, ShardId, StreamIdentifier},
        lease::Lease,
        sequence::{Checkpoint, Position},
    },
    run::{health::Health, ownership::Ownership, registration::Registration, reports::Reports},
};

/// What a stream fails at that is not the one it was, or is gone.
const READING: &str = "reading";

pub(crate) struct Stream {
    /// What its leases' keys begin with. `None`: the application reads this stream alone.
    pub(crate) id: Option<StreamIdentifier>,
    /// Its name or ARN.
    name: String,
    pub(crate) kinesis: Arc<dyn Kinesis>,
    pub(crate) ownership: Ownership,
    /// Of its consumer for enhanced fan-out.
    pub(crate) registration: Registration,
    /// Among several.
    pub(crate) health: Health,
    reports: Reports,
    lease_table: String,
    clock_skew: Duration,
    /// Open shards whose leases are finished, by nobody.
    ended_by_nobody: Mutex<BTreeSet<ShardId>>,
    /// Are unfinished leases gone from the table?
    lacks_leases: AtomicBool,
    /// Is it not read any more?
    went: AtomicBool,
    found: Instant,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stream").field(&self.name).finish()
    }
}

impl Stream {
    /// The stream of that name or ARN, whose leases' keys begin with `id`.
    pub(crate) fn new(
        id: Option<StreamIdentifier>,
        name: String,
        kinesis: Arc<dyn Kinesis>,
        ownership: Ownership,
        config: &Config,
        reports: Reports,
    ) -> Self {
        Self {
            id,
            name,
            kinesis,
            ownership,
            registration: Registration::default(),
            health: Health::default(),
            reports,
            lease_table: config.lease_table.clone(),
            clock_skew: config.clock_skew,
            ended_by_nobody: Mutex::default(),
            lacks_leases: AtomicBool::default(),
            went: AtomicBool::default(),
            found: Instant::now(),
        }
    }

    /// The key of its shard's lease.
    pub(crate) fn lease_key(&self, shard: &ShardId) -> LeaseKey {
        LeaseKey {
            stream: self.id.clone(),
            shard: shard.clone(),
        }
    }

    /// As the account has it, one of several.
    pub(crate) fn as_found(&self) -> Option<FoundStream> {
        Some(FoundStream {
            id: self.id.clone()?,
            arn: self.name.clone(),
        })
    }

    /// Is it the stream of that ARN?
    pub(crate) fn is_at(&self, arn: &str) -> bool {
        self.name == arn
    }

    /// Leases of it are gone: its next audit is due.
    pub(crate) fn lacks_leases(&self) {
        self.lacks_leases.store(true, Ordering::Relaxed);
    }

    /// Did it lack leases, since this was asked last?
    pub(crate) fn lacked_leases(&self) -> bool {
        self.lacks_leases.swap(false, Ordering::Relaxed)
    }

    /// It is not read any more. What its last tasks fail at is nobody's matter.
    pub(crate) fn go(&self) {
        self.went.store(true, Ordering::Relaxed);
    }

    // === what is said of it ===

    /// Reports a call that is tried again. Of several streams, one that fails so that waiting does
    /// not mend it holds up nobody else.
    pub(crate) fn call_failed(
        &self,
        shard: Option<&LeaseKey>,
        operation: &'static str,
        error: &KinesisError,
    ) {
        if error.stands() {
            match &self.id {
                None => {
                    let verdict = || self.error(error.clone());
                    self.reports.stands(operation, error, verdict);
                }
                Some(id) => self.fares_ill(id, operation, self.error(error.clone())),
            }
        }
        let throttled = matches!(error, KinesisError::Throttled(_));
        self.reports.failed(shard, operation, throttled, error);
    }

    /// The call succeeded, or it failed for a reason that passes.
    pub(crate) fn call_succeeded(&self, operation: &'static str) {
        match &self.id {
            None => self.reports.succeeded(operation),
            Some(id) => {
                if self.health.succeeded(operation) {
                    self.tell_recovered(id);
                }
            }
        }
    }

    /// It cannot be read: its leases are left alone for a while, and the others go on. `Err`: it is
    /// the only one.
    pub(crate) fn give_up(&self, error: Error) -> Result<(), Error> {
        match &self.id {
            Some(id) if error.is_of_stream() => {
                self.health.rest();
                self.fares_ill(id, READING, error);
                Ok(())
            }
            _ => Err(error),
        }
    }

    /// An audit found nothing wrong.
    pub(crate) fn audited(&self) {
        self.call_succeeded("ListShards");
        if let Some(id) = &self.id {
            let is_over = !self.health.rests() && self.health.succeeded(READING);
            if is_over || self.health.expire() {
                self.tell_recovered(id);
            }
        }
    }

    fn fares_ill(&self, id: &StreamIdentifier, operation: &'static str, error: Error) {
        if self.went.load(Ordering::Relaxed) {
            return;
        }
        let text = error.to_string();
        if self.health.failed(operation, error) {
            self.reports.report(Event::StreamFailing {
                stream: id.to_string(),
                error: text,
            });
        }
    }

    fn tell_recovered(&self, id: &StreamIdentifier) {
        let stream = id.to_string();
        self.reports.report(Event::StreamRecovered { stream });
    }

    pub(crate) fn error(&self, source: KinesisError) -> Error {
        Error::Stream {
            stream: self.name.clone(),
            source,
        }
    }

    /// Its leases are of another stream.
    pub(crate) fn other(&self, found: String) -> Error {
        Error::OtherStream {
            stream: self.name.clone(),
            table: self.lease_table.clone(),
            found,
            mend: match &self.id {
                None => format!("Give the application that reads {} another name", self.name),
                Some(id) => start_over(id),
            },
        }
    }

    /// The lease says that it is of the stream `name`.
    pub(crate) fn other_by_lease(&self, lease: &Lease, name: &str) -> Error {
        self.other(format!("the lease of {} is of {name}", lease.key))
    }

    pub(crate) fn recreated(&self, shard: ShardId) -> Error {
        Error::StreamRecreated {
            stream: self.name.clone(),
            table: self.lease_table.clone(),
            shard,
            mend: match &self.id {
                None => "To start over, give this application another name".to_owned(),
                Some(id) => start_over(id),
            },
        }
    }

    /// The lease is of this stream, and its checkpoint no number of its shard.
    pub(crate) fn wrong_checkpoint(&self, shard: &LeaseKey, checkpoint: &Position) -> Error {
        Error::WrongCheckpoint {
            table: self.lease_table.clone(),
            shard: shard.clone(),
            checkpoint: Checkpoint::At(checkpoint.clone()).to_string(),
        }
    }

    /// The lease of `shard` cannot be of this stream: as its checkpoint was changed, where it says
    /// that it is.
    pub(crate) fn impossible(&self, leases: &[Lease], shard: ShardId) -> Error {
        let lease = leases.iter().find(|lease| lease.key.shard == shard);
        let listed = self.ownership.identity(&shard);
        let is_named = |lease: &&Lease| listed.is_some() && lease.stream_identity == listed;
        match lease
            .filter(is_named)
            .map(|lease| (&lease.key, &lease.checkpoint))
        {
            Some((key, Checkpoint::At(done))) => self.wrong_checkpoint(key, done),
            _ => self.recreated(shard),
        }
    }

    // === its time ===

    /// What `latestSince` shall be of a lease that stands at LATEST from now on: AWS's time, never
    /// this machine's. `None`: nobody has said it.
    pub(crate) fn latest_since(&self) -> Option<Timestamp> {
        let now = self.kinesis.now()?;
        Some(now.checked_sub(self.clock_skew).unwrap_or(now))
    }

    /// The same of one of several streams that was found with no lease: since then, however long
    /// its first leases take.
    pub(crate) fn latest_since_found(&self) -> Option<Timestamp> {
        self.id.as_ref()?;
        let ago = SignedDuration::try_from(self.found.elapsed()).ok()?;
        self.latest_since()?.checked_sub(ago).ok()
    }

    /// The same by this machine's clock, for where Kinesis does not believe the other.
    pub(crate) fn latest_by_this_machine(&self) -> Option<Timestamp> {
        let now = self.kinesis.this_machines_time()?;
        Some(now.checked_sub(self.clock_skew).unwrap_or(now))
    }

    /// How long ago that was, by AWS's clock.
    pub(crate) fn age(&self, time: Timestamp) -> Option<Duration> {
        let age = self.kinesis.now()?.duration_since(time);
        Some(Duration::try_from(age).unwrap_or_default())
    }

    // === shards that nobody reads ===

    fn ended(&self) -> MutexGuard<'_, BTreeSet<ShardId>> {
        let ended = self.ended_by_nobody.lock();
        ended.unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of the open shards whose leases somebody else finished. Returns those before.
    pub(crate) fn set_ended_by_nobody(&self, shards: BTreeSet<ShardId>) -> BTreeSet<ShardId> {
        std::mem::replace(&mut *self.ended(), shards)
    }

    /// The same as leases that nobody can read, with why.
    pub(crate) fn ended_by_nobody(&self) -> Vec<(String, String)> {
        let why = "its checkpoint is SHARD_END, but the shard is open: set it to the last record \
                   that is processed, or to TRIM_HORIZON";
        let ended = self.ended();
        let keys = ended.iter().map(|shard| self.lease_key(shard).to_string());
        keys.map(|key| (key, why.to_owned())).collect()
    }
}

/// What mends leases that are not of the stream `id` of several: the other streams' are right.
fn start_over(id: &StreamIdentifier) -> String {
    format!(
        "To start over with this stream alone, delete its leases, whose keys begin with {id}:, or \
         name it by an entry account:name:epoch with another epoch"
    )
}
