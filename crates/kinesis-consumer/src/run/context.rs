//! What every loop of a worker needs.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use jiff::Timestamp;
use tokio::sync::Notify;

use crate::{
    edge::{
        kinesis::{Kinesis, KinesisError},
        lease_table::{LeaseTable, TableError},
    },
    face::{
        config::Config,
        error::Error,
        event::{Event, EventSink},
        processor::Factory,
    },
    model::{
        identity::StreamName,
        keys::{LeaseKey, ShardId},
        lease::Lease,
        sequence::{Checkpoint, Position},
    },
    run::{
        budget::Budget, known::Known, leadership::Leadership, load::Load, ownership::Ownership,
        registration::Registration, standing::Standing,
    },
};

pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) kinesis: Arc<dyn Kinesis>,
    pub(crate) table: Arc<dyn LeaseTable>,
    pub(crate) factory: Arc<Factory>,
    pub(crate) events: EventSink,
    pub(crate) load: Load,
    pub(crate) standing: Standing,
    pub(crate) ownership: Ownership,
    known: Mutex<Known>,
    /// Open shards whose leases are finished, by nobody.
    ended_by_nobody: Mutex<BTreeSet<ShardId>>,
    /// What KCL 3 has in the table, as last seen, and who rules.
    pub(crate) leadership: Leadership,
    pub(crate) budget: Arc<Budget>,
    /// Of the consumer for enhanced fan-out.
    pub(crate) registration: Registration,
    /// Asks the coordinator to scan the table now.
    pub(crate) rescan: Notify,
    /// Asks the auditor to compare shards and leases now.
    pub(crate) reaudit: Notify,
}

/// Finished leases that nobody needs are kept for so many failover times. A process that was
/// stopped for less, in the middle of creating such a lease, finds it there and does no harm.
pub(crate) const KEPT: u32 = 12;

/// The operation that failures of processors count for.
pub(crate) const PROCESSOR: &str = "processor";

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Context {
    pub(crate) fn new(
        config: Config,
        region: Option<&str>,
        kinesis: Arc<dyn Kinesis>,
        table: Arc<dyn LeaseTable>,
        factory: Arc<Factory>,
        events: EventSink,
    ) -> Self {
        // The rarest call is the audit's; failed ones are repeated with jitter.
        let apart = (3 * config.shard_sync_interval).max(Duration::from_secs(120));
        Self {
            load: Load::new(config.parallelism),
            budget: Arc::new(Budget::new(config.memory_bytes)),
            ownership: Ownership::new(StreamName::new(&config.stream, region)),
            registration: Registration::default(),
            leadership: Leadership::default(),
            standing: Standing::new(config.give_up_after, apart),
            ended_by_nobody: Mutex::default(),
            known: Mutex::new(Known::new(config.failover_time * KEPT)),
            config,
            kinesis,
            table,
            factory,
            events,
            rescan: Notify::new(),
            reaudit: Notify::new(),
        }
    }

    /// The leases as they were last seen.
    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of the open shards whose leases somebody else finished. Returns those before.
    pub(crate) fn set_ended_by_nobody(&self, shards: BTreeSet<ShardId>) -> BTreeSet<ShardId> {
        let ended = self.ended_by_nobody.lock();
        let mut ended = ended.unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut ended, shards)
    }

    /// The same as leases that nobody can read, with why.
    pub(crate) fn ended_by_nobody(&self) -> Vec<(String, String)> {
        let ended = self.ended_by_nobody.lock();
        let ended = ended.unwrap_or_else(PoisonError::into_inner);
        let why = "its checkpoint is SHARD_END, but the shard is open: set it to the last record \
                   that is processed, or to TRIM_HORIZON";
        let leases = ended.iter();
        leases
            .map(|shard| (shard.to_string(), why.to_owned()))
            .collect()
    }

    /// What was not read of a shard before its lease said SHARD_END is skipped.
    pub(crate) fn tell_skipped(&self, shard: LeaseKey) {
        self.report(Event::CheckpointExpired {
            shard,
            checkpoint: Checkpoint::ShardEnd,
            oldest: None,
            age: None,
        });
    }

    pub(crate) fn report(&self, event: Event) {
        (self.events)(&event);
    }

    /// Reports a lease table call that is tried again.
    pub(crate) fn table_failed(
        &self,
        shard: Option<&LeaseKey>,
        operation: &'static str,
        error: &TableError,
    ) {
        if error.is_of_missing_table() {
            self.known().table_is_missing();
            self.reaudit.notify_one();
        }
        if error.stands() {
            self.stands(operation, error, || self.table_error(error.clone()));
        }
        let throttled = matches!(error, TableError::Throttled(_));
        self.failed(shard, operation, throttled, error);
    }

    /// Reports a Kinesis call that is tried again.
    pub(crate) fn kinesis_failed(
        &self,
        shard: Option<&LeaseKey>,
        operation: &'static str,
        error: &KinesisError,
    ) {
        if error.stands() {
            self.stands(operation, error, || self.stream_error(error.clone()));
        }
        let throttled = matches!(error, KinesisError::Throttled(_));
        self.failed(shard, operation, throttled, error);
    }

    /// A processor failed with what waiting does not mend. What works again
    /// [succeeded](Self::succeeded).
    pub(crate) fn processor_failed(&self, shard: &LeaseKey, error: &str) {
        let verdict = || Error::Processor {
            shard: shard.clone(),
            error: error.to_owned(),
        };
        self.stands(PROCESSOR, &error, verdict);
    }

    /// The operation failed so that waiting does not mend it.
    fn stands(
        &self,
        operation: &'static str,
        error: &dyn fmt::Display,
        verdict: impl FnOnce() -> Error,
    ) {
        if self.standing.failed(operation, verdict) {
            self.report(Event::Failing {
                operation,
                error: error.to_string(),
                gives_up_in: self.config.give_up_after,
            });
        }
    }

    /// The operation succeeded, or it failed for a reason that passes.
    pub(crate) fn succeeded(&self, operation: &'static str) {
        if self.standing.succeeded(operation) {
            self.report(Event::Recovered { operation });
        }
    }

    /// Reports a call that is tried again.
    pub(crate) fn failed(
        &self,
        shard: Option<&LeaseKey>,
        operation: &'static str,
        throttled: bool,
        error: &dyn fmt::Display,
    ) {
        let shard = shard.cloned();
        self.report(if throttled {
            Event::Throttled { shard, operation }
        } else {
            Event::Retrying {
                shard,
                operation,
                error: error.to_string(),
            }
        });
    }

    pub(crate) fn stream_error(&self, source: KinesisError) -> Error {
        Error::Stream {
            stream: self.config.stream.clone(),
            source,
        }
    }

    pub(crate) fn table_error(&self, source: TableError) -> Error {
        Error::Table {
            table: self.config.lease_table.clone(),
            source,
        }
    }

    pub(crate) fn worker_id_in_use(&self, shard: LeaseKey) -> Error {
        Error::WorkerIdInUse {
            application: self.config.application.clone(),
            worker: self.config.worker_id.clone(),
            shard,
        }
    }

    pub(crate) fn other_stream(&self, found: String) -> Error {
        Error::OtherStream {
            stream: self.config.stream.clone(),
            table: self.config.lease_table.clone(),
            found,
        }
    }

    /// The lease says that it is of the stream `name`.
    pub(crate) fn other_stream_of(&self, lease: &Lease, name: &str) -> Error {
        self.other_stream(format!("the lease of {} is of {name}", lease.key))
    }

    pub(crate) fn stream_recreated(&self, shard: ShardId) -> Error {
        Error::StreamRecreated {
            stream: self.config.stream.clone(),
            table: self.config.lease_table.clone(),
            shard,
        }
    }

    /// The lease is of this stream, and its checkpoint no number of its shard.
    pub(crate) fn wrong_checkpoint(&self, shard: &LeaseKey, checkpoint: &Position) -> Error {
        Error::WrongCheckpoint {
            table: self.config.lease_table.clone(),
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
            _ => self.stream_recreated(shard),
        }
    }

    /// What `latestSince` shall be of a lease that stands at LATEST from now on: AWS's time, never
    /// this machine's. `None`: nobody has said it.
    pub(crate) fn latest_since(&self) -> Option<Timestamp> {
        let now = self.kinesis.now()?;
        Some(now.checked_sub(self.config.clock_skew).unwrap_or(now))
    }

    /// The same by this machine's clock, for where Kinesis does not believe the other.
    pub(crate) fn latest_by_this_machine(&self) -> Option<Timestamp> {
        let now = self.kinesis.this_machines_time()?;
        Some(now.checked_sub(self.config.clock_skew).unwrap_or(now))
    }

    /// How long ago that was, by AWS's clock.
    pub(crate) fn age(&self, time: Timestamp) -> Option<Duration> {
        let age = self.kinesis.now()?.duration_since(time);
        Some(Duration::try_from(age).unwrap_or_default())
    }
}

/// Endless waits that double from `first`, with jitter on top.
pub(crate) fn backoff(first: Duration, longest: Duration) -> ExponentialBackoff {
    doubling(first, longest).with_jitter().build()
}

/// Endless waits that double from `first` up to `longest`.
pub(crate) fn exact_backoff(first: Duration, longest: Duration) -> ExponentialBackoff {
    doubling(first, longest).build()
}

fn doubling(first: Duration, longest: Duration) -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(first)
        .with_max_delay(longest)
        .without_max_times()
}

/// Waits for the next of endless waits.
pub(crate) async fn pause(backoff: &mut ExponentialBackoff) {
    tokio::time::sleep(backoff.next().unwrap_or(Duration::from_secs(1))).await;
}
