//! What every loop of a worker needs.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::sync::Notify;

use crate::{
    decide::fleet::member_interval,
    edge::lease_table::{LeaseTable, TableError},
    face::{config::Config, error::Error, event::Event, pace::renew_interval, processor::Factory},
    model::{keys::LeaseKey, sequence::Checkpoint},
    run::{
        budget::Budget, fleet::Fleet, known::Known, leadership::Leadership, load::Load,
        reads::Reads, reports::Reports, streams::Streams,
    },
};

pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) streams: Streams,
    pub(crate) table: Arc<dyn LeaseTable>,
    pub(crate) factory: Arc<Factory>,
    pub(crate) reports: Reports,
    pub(crate) load: Load,
    pub(crate) fleet: Fleet,
    known: Mutex<Known>,
    /// What KCL 3 has in the table, as last seen, and who rules.
    pub(crate) leadership: Leadership,
    pub(crate) budget: Arc<Budget>,
    pub(crate) reads: Reads,
    /// Asks the coordinator to scan the table now.
    pub(crate) rescan: Notify,
    /// Asks the auditor to compare shards and leases now, of the streams that lack leases.
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
        streams: Streams,
        table: Arc<dyn LeaseTable>,
        factory: Arc<Factory>,
        reports: Reports,
    ) -> Self {
        Self {
            load: Load::new(config.parallelism),
            budget: Arc::new(Budget::new(config.memory_bytes)),
            reads: Reads::new(config.connections().reads),
            leadership: Leadership::default(),
            fleet: Fleet::new(),
            known: Mutex::new(Known::new(config.unsaid_failover() * KEPT)),
            config,
            streams,
            table,
            factory,
            reports,
            rescan: Notify::new(),
            reaudit: Notify::new(),
        }
    }

    /// For how long this worker may be silent, as its leases say: as long as others expect who do
    /// not heed that.
    pub(crate) fn failover(&self) -> Duration {
        let own = self.config.times().failover_time;
        match self.fleet.is_heeded() {
            true => own,
            false => own.min(self.config.unsaid_failover()),
        }
    }

    /// The same as a lease has it.
    pub(crate) fn failover_millis(&self) -> u64 {
        u64::try_from(self.failover().as_millis()).unwrap_or(u64::MAX)
    }

    /// Does this worker deal leases by load? Not while a KCL 3 leader deals them.
    pub(crate) fn deals_by_load(&self) -> bool {
        self.config.placement.is_by_load() && !self.leadership.is_led()
    }

    /// The time between renewals of a held lease.
    pub(crate) fn renew_interval(&self) -> Duration {
        renew_interval(self.failover())
    }

    /// For how long finished leases that nobody needs are kept: longer than it takes every worker
    /// to scan the table.
    pub(crate) fn kept(&self) -> Duration {
        let failover = self.config.unsaid_failover();
        member_interval(failover, self.fleet.workers()).max(failover * KEPT)
    }

    /// The leases as they were last seen.
    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.reports.report(event);
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
            for stream in self.streams.all() {
                stream.lacks_leases();
            }
            self.reaudit.notify_one();
        }
        if error.stands() {
            self.reports
                .stands(operation, error, || self.table_error(error.clone()));
        }
        let throttled = matches!(error, TableError::Throttled(_));
        self.reports.failed(shard, operation, throttled, error);
    }

    /// A processor failed with what waiting does not mend. What works again
    /// [succeeded](Self::succeeded).
    pub(crate) fn processor_failed(&self, shard: &LeaseKey, error: &str) {
        let verdict = || Error::Processor {
            shard: shard.clone(),
            error: error.to_owned(),
        };
        self.reports.stands(PROCESSOR, &error, verdict);
    }

    /// The operation succeeded, or it failed for a reason that passes.
    pub(crate) fn succeeded(&self, operation: &'static str) {
        self.reports.succeeded(operation);
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
