//! Polling: GetRecords calls of one shard, paced by AWS's quota while behind and by the idle time
//! at the tip.
//!
//! An iterator that expired is replaced by one after the last fetched record. Resuming at a
//! checkpoint reads that very record again (AT_SEQUENCE_NUMBER, as KCL: an aggregate may be half
//! processed) and drops what the checkpoint covers.

use std::{sync::Arc, time::Duration};

use backon::ExponentialBackoff;
use tokio::time::{Instant, sleep_until};

use crate::{
    decide::{aggregation::deaggregate, shard_sync},
    edge::kinesis::{KinesisError, Page, ShardFilter, StartFrom},
    face::{config::InitialPosition, error::Error, event::Event},
    model::{
        keys::LeaseKey,
        lease::Lease,
        record::{Batch, Record},
        sequence::{Checkpoint, SequenceNumber},
        shard::{ChildShard, HashRange, Shard},
    },
    run::{
        context::{Context, backoff, pause},
        retrieval::{Fetched, Gone, Output},
    },
};

pub(super) struct Polling {
    context: Arc<Context>,
    key: LeaseKey,
    range: Option<HashRange>,
    checkpoint: Checkpoint,
    start: StartFrom,
    last_fetched: Option<SequenceNumber>,
    waits: Waits,
    out: Output,
}

/// How long to wait after failed calls in a row.
struct Waits {
    throttled: ExponentialBackoff,
    failed: ExponentialBackoff,
}

/// How to go on after a failed call.
enum Recovery {
    SameIterator,
    NewIterator,
    ShardGone,
}

/// Why polling stops before the shard's end: nobody listens, or the worker cannot go on.
enum Stop {
    Gone,
    Failed(Error),
}

impl Polling {
    pub(super) fn new(context: Arc<Context>, lease: &Lease, out: Output) -> Self {
        Self {
            key: lease.key.clone(),
            range: lease.hash_range,
            checkpoint: lease.checkpoint.clone(),
            start: start(lease, context.config.initial_position),
            last_fetched: None,
            waits: Waits::new(),
            out,
            context,
        }
    }

    pub(super) async fn run(mut self) {
        let last = match self.poll().await {
            Ok(children) => Fetched::End(children),
            Err(Stop::Failed(error)) => Fetched::Failed(error),
            Err(Stop::Gone) => return,
        };
        // An error means that nobody listens any more.
        let _ = self.out.send(last).await;
    }

    /// Fetches to the shard's end; returns its children.
    async fn poll(&mut self) -> Result<Vec<ChildShard>, Stop> {
        let mut next_call = Instant::now();
        let mut iterator = None;
        loop {
            let at = match iterator.take() {
                Some(at) => at,
                None => match self.iterator().await? {
                    Some(at) => at,
                    None => return self.children().await,
                },
            };
            if next_call > Instant::now() {
                sleep_until(next_call).await;
            }
            let began = Instant::now();
            match self
                .context
                .kinesis
                .records(&at, self.context.config.max_records)
                .await
            {
                Ok(mut page) => {
                    self.context.succeeded("GetShardIterator");
                    self.context.succeeded("GetRecords");
                    self.waits = Waits::new();
                    let children = std::mem::take(&mut page.children);
                    iterator = page.next_iterator.take();
                    next_call = began + self.pace(&page);
                    self.deliver(page).await?;
                    if iterator.is_none() {
                        return if children.is_empty() {
                            self.children().await
                        } else {
                            Ok(children)
                        };
                    }
                }
                Err(error) => match self.recover("GetRecords", error).await? {
                    Recovery::SameIterator => iterator = Some(at),
                    Recovery::NewIterator => {}
                    Recovery::ShardGone => return self.children().await,
                },
            }
        }
    }

    /// An iterator where reading goes on. `None`: the shard is gone.
    async fn iterator(&mut self) -> Result<Option<String>, Stop> {
        loop {
            let from = match &self.last_fetched {
                Some(last) => StartFrom::AfterSequenceNumber(last.clone()),
                None => self.start.clone(),
            };
            match self
                .context
                .kinesis
                .shard_iterator(&self.key.shard, &from)
                .await
            {
                Ok(iterator) => return Ok(Some(iterator)),
                Err(error) => {
                    if let Recovery::ShardGone = self.recover("GetShardIterator", error).await? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// The time from the start of the call that read `page` to the start of the next one. An empty
    /// page is the tip only if AWS says so.
    fn pace(&self, page: &Page) -> Duration {
        let config = &self.context.config;
        let sizes = page
            .records
            .iter()
            .map(|record| record.partition_key.len() + record.data.len());
        let bytes = sizes.sum::<usize>();
        let quota =
            Duration::from_secs_f64(bytes as f64 / config.read_bytes_per_second.max(1) as f64);
        let at_tip = page.millis_behind_latest == 0;
        quota.max(if at_tip {
            config.idle_between_reads
        } else {
            config.min_read_interval
        })
    }

    async fn deliver(&mut self, page: Page) -> Result<(), Stop> {
        let millis_behind_latest = page.millis_behind_latest;
        let mut records = page.records;
        if let Some(last) = records.last() {
            self.last_fetched = Some(last.sequence_number.clone());
        }
        if records.iter().any(is_aggregate) {
            let carriers = std::mem::take(&mut records);
            for carrier in carriers {
                deaggregate(carrier, self.range, &mut records);
            }
        }
        drop_covered(&mut records, &self.checkpoint);
        if records.is_empty() {
            // While earlier records wait for the processor, the tip of what is read is not where
            // the processor stands.
            if self.out.is_drained() {
                self.context.report(Event::Polled {
                    shard: self.key.clone(),
                    millis_behind_latest,
                });
            }
            return Ok(());
        }
        let batch = Batch {
            records,
            millis_behind_latest,
        };
        self.out.batch(batch).await.map_err(Stop::from)
    }

    async fn recover(
        &mut self,
        operation: &'static str,
        error: KinesisError,
    ) -> Result<Recovery, Stop> {
        let recovery = match &error {
            KinesisError::ExpiredIterator(_) => Recovery::NewIterator,
            KinesisError::InvalidSequenceNumber(_) if self.reads_by_number() => {
                self.expire_checkpoint().await?;
                Recovery::NewIterator
            }
            KinesisError::NotFound(_) if self.is_gone().await? => return Ok(Recovery::ShardGone),
            _ => Recovery::SameIterator,
        };
        self.context
            .kinesis_failed(Some(&self.key), operation, &error);
        pause(match error {
            KinesisError::Throttled(_) => &mut self.waits.throttled,
            _ => &mut self.waits.failed,
        })
        .await;
        Ok(recovery)
    }

    fn reads_by_number(&self) -> bool {
        self.last_fetched.is_some() || matches!(self.start, StartFrom::AtSequenceNumber(_))
    }

    /// The sequence number is refused: its record is older than the retention period, or of another
    /// stream.
    async fn expire_checkpoint(&mut self) -> Result<(), Stop> {
        let shards = self.shards().await?;
        let shard = shards.iter().find(|shard| shard.id == self.key.shard);
        if let (Some(shard), Checkpoint::At(done)) = (shard, &self.checkpoint)
            && shard.starting_sequence_number > done.sequence_number
        {
            return Err(Stop::Failed(
                self.context.stream_recreated(self.key.shard.clone()),
            ));
        }
        self.context.report(Event::CheckpointExpired {
            shard: self.key.clone(),
            checkpoint: self.checkpoint.clone(),
        });
        self.last_fetched = None;
        self.start = StartFrom::TrimHorizon;
        Ok(())
    }

    async fn is_gone(&mut self) -> Result<bool, Stop> {
        Ok(self
            .shards()
            .await?
            .iter()
            .all(|shard| shard.id != self.key.shard))
    }

    /// The children by `ListShards`. None only if the shard itself is gone: a closed shard has
    /// children.
    async fn children(&mut self) -> Result<Vec<ChildShard>, Stop> {
        loop {
            let shards = self.shards().await?;
            let children = shard_sync::child_shards(&self.key.shard, &shards);
            if !children.is_empty() || shards.iter().all(|shard| shard.id != self.key.shard) {
                return Ok(children);
            }
            pause(&mut self.waits.failed).await;
        }
    }

    async fn shards(&mut self) -> Result<Vec<Shard>, Stop> {
        loop {
            match self.context.kinesis.list_shards(ShardFilter::All).await {
                Ok(shards) => return Ok(shards),
                Err(error @ KinesisError::NotFound(_)) => {
                    return Err(Stop::Failed(self.context.stream_error(error)));
                }
                Err(error) => {
                    self.context.kinesis_failed(None, "ListShards", &error);
                    pause(&mut self.waits.throttled).await;
                }
            }
        }
    }
}

impl Waits {
    fn new() -> Self {
        Self {
            throttled: backoff(Duration::from_secs(1), Duration::from_secs(10)),
            failed: backoff(Duration::from_millis(200), Duration::from_secs(30)),
        }
    }
}

impl From<Gone> for Stop {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

fn start(lease: &Lease, position: InitialPosition) -> StartFrom {
    match &lease.checkpoint {
        Checkpoint::At(done) => StartFrom::AtSequenceNumber(done.sequence_number.clone()),
        Checkpoint::Latest => lease
            .latest_since
            .map_or(StartFrom::Latest, StartFrom::AtTimestamp),
        Checkpoint::AtTimestamp => match position {
            InitialPosition::AtTimestamp(time) => StartFrom::AtTimestamp(time),
            // The table does not hold the time, and the configuration no longer does: too many
            // records are better than too few.
            InitialPosition::TrimHorizon | InitialPosition::Latest => StartFrom::TrimHorizon,
        },
        Checkpoint::TrimHorizon | Checkpoint::ShardEnd => StartFrom::TrimHorizon,
    }
}

fn is_aggregate(record: &Record) -> bool {
    record.data.starts_with(&[0xF3, 0x89, 0x9A, 0xC2])
}

/// Drops what the checkpoint covers: only the first records after a resumption can be.
fn drop_covered(records: &mut Vec<Record>, checkpoint: &Checkpoint) {
    let Checkpoint::At(done) = checkpoint else {
        return;
    };
    let covered = |record: &&Record| {
        (&record.sequence_number, record.sub_sequence_number)
            <= (&done.sequence_number, done.sub_sequence_number)
    };
    let count = records.iter().take_while(covered).count();
    records.drain(..count);
}
