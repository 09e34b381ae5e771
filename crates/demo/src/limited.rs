//! A consumer pod whose capacity is limited: so many records a second, shared by its shards. It is
//! `kinesis-to-dynamodb` whose processors wait for their turn before they store.

use std::{sync::Arc, time::Duration};

use kinesis_consumer::{
    Batch, Checkpoint, Checkpointer, Config, LeaseKey, ProcessorError, RecordProcessor,
};
use kinesis_to_dynamodb::{Processors, ShardProcessor};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep_until},
};

/// What a timer was late by is made up for, up to this: a busy machine must not make the pod
/// smaller.
const SLACK: Duration = Duration::from_millis(300);
/// Small, so that the shards take turns and a hand-over waits for little, and so that checkpoints
/// come often enough to tell within a few seconds how fast a pod is.
const BATCH: u32 = 2;

/// So many records a second, in the order of asking.
#[derive(Debug)]
struct Capacity {
    each: Duration,
    next: Mutex<Instant>,
}

impl Capacity {
    fn new(per_second: u32) -> Self {
        Self {
            each: Duration::from_secs(1) / per_second,
            next: Mutex::new(Instant::now()),
        }
    }

    /// Returns when there is room for one more record.
    async fn turn(&self) {
        // Held while it waits: tokio's lock is fair, so the shards take turns.
        let mut next = self.next.lock().await;
        let earliest = Instant::now().checked_sub(SLACK).unwrap_or(*next);
        *next = (*next).max(earliest) + self.each;
        sleep_until(*next).await;
    }
}

/// The settings of a worker that is limited.
pub(crate) fn adapt(config: &mut Config) {
    config.max_records = BATCH;
    // What is scarce is shared by all shards: one batch in work is all of it in use.
    config.parallelism = 1;
}

/// Limits what a worker's processors do together.
pub(crate) fn limit(
    per_second: u32,
    processors: Processors,
) -> impl Fn(LeaseKey) -> Limited + Send + Sync + 'static {
    let capacity = Arc::new(Capacity::new(per_second));
    move |lease| Limited {
        processor: processors.create(lease),
        capacity: Arc::clone(&capacity),
    }
}

/// A processor that waits for its turn.
pub(crate) struct Limited {
    processor: ShardProcessor,
    capacity: Arc<Capacity>,
}

impl RecordProcessor for Limited {
    async fn initialize(&mut self, checkpoint: &Checkpoint) -> Result<(), ProcessorError> {
        self.processor.initialize(checkpoint).await
    }

    async fn process_records(
        &mut self,
        batch: &Batch,
        checkpointer: &Checkpointer,
    ) -> Result<(), ProcessorError> {
        for _ in &batch.records {
            self.capacity.turn().await;
        }
        self.processor.process_records(batch, checkpointer).await
    }

    async fn lease_lost(&mut self) {
        self.processor.lease_lost().await;
    }

    async fn shard_ended(&mut self, checkpointer: &Checkpointer) -> Result<(), ProcessorError> {
        self.processor.shard_ended(checkpointer).await
    }

    async fn shutdown_requested(
        &mut self,
        checkpointer: &Checkpointer,
    ) -> Result<(), ProcessorError> {
        self.processor.shutdown_requested(checkpointer).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn shards_share_the_capacity_and_take_turns() {
        let capacity = Arc::new(Capacity::new(20));
        let began = Instant::now();
        let shard = |turns: u32| {
            let capacity = Arc::clone(&capacity);
            async move {
                for _ in 0..turns {
                    capacity.turn().await;
                }
                began.elapsed()
            }
        };
        let (one, other) = tokio::join!(shard(30), shard(60));
        assert_eq!(other, Duration::from_millis(90 * 50));
        let both = Duration::from_millis(60 * 50);
        assert!(one.abs_diff(both) <= Duration::from_millis(50), "{one:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn idle_time_is_not_saved_up() {
        let capacity = Capacity::new(20);
        tokio::time::advance(Duration::from_secs(60)).await;
        let began = Instant::now();
        for _ in 0..100 {
            capacity.turn().await;
        }
        assert_eq!(began.elapsed(), Duration::from_secs(5) - SLACK);
    }
}
