//! What every loop of a worker needs.

use std::{fmt, sync::Arc, time::Duration};

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
    model::keys::{LeaseKey, ShardId},
    run::{budget::Budget, load::Load},
};

pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) kinesis: Arc<dyn Kinesis>,
    pub(crate) table: Arc<dyn LeaseTable>,
    pub(crate) factory: Arc<Factory>,
    pub(crate) events: EventSink,
    pub(crate) load: Load,
    pub(crate) budget: Arc<Budget>,
    /// Asks the coordinator to scan the table now.
    pub(crate) rescan: Notify,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Context {
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
        let throttled = matches!(error, KinesisError::Throttled(_));
        self.failed(shard, operation, throttled, error);
    }

    fn failed(
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

    pub(crate) fn stream_recreated(&self, shard: ShardId) -> Error {
        Error::StreamRecreated {
            stream: self.config.stream.clone(),
            table: self.config.lease_table.clone(),
            shard,
        }
    }

    /// What `latestSince` shall be of a lease that stands at LATEST from now on.
    pub(crate) fn latest_since(&self) -> Timestamp {
        let now = wall_time();
        now.checked_sub(self.config.clock_skew).unwrap_or(now)
    }
}

impl Context {
    /// How long ago that was.
    pub(crate) fn age(&self, time: Timestamp) -> Duration {
        Duration::try_from(wall_time().duration_since(time)).unwrap_or_default()
    }
}

/// The only place that asks for the time of day.
fn wall_time() -> Timestamp {
    Timestamp::now()
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
