//! The record processor: a batch is stored, what cannot be is kept aside, then the checkpoint
//! moves.
//!
//! The writes of a batch run side by side, in order per key: of several records of one key only the
//! newest that can be stored is written. Each would replace the one before it whole, so the table
//! ends the same, a hot key costs one write per batch instead of throttling its partition, and no
//! order needs to be kept between requests in flight.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use kinesis_consumer::{
    Batch, Checkpointer, Lasting, LeaseKey, ProcessorError, Record, RecordProcessor, UnfitAggregate,
};
use kinesis_edge::AttributeValue;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    Error, Settings,
    aws::Clients,
    item::{KINESIS_ARRIVED, Rejected, Shape, kinesis_arrived},
    metrics::Metrics,
    rejects::Rejects,
    settings::OnReject,
    writer::{Put, Writer},
};

/// Writes in flight for one shard: at 5 ms each more than a shard's 1000 records a second.
const IN_FLIGHT: usize = 64;
/// Data of the records in flight for all shards, in KiB: parsed, as an item and as a request each
/// takes several times its size.
const DATA_IN_FLIGHT: usize = 6 << 10;

/// Where the records of all shards go.
#[derive(Debug)]
pub(crate) struct Sink {
    shape: Shape,
    writer: Writer,
    rejects: Rejects,
    on_reject: OnReject,
    in_flight: Semaphore,
    metrics: Arc<Metrics>,
}

/// Makes a processor for each lease.
#[derive(Clone, Debug)]
pub struct Processors(Arc<Sink>);

/// Stores the records of one shard.
#[derive(Debug)]
pub struct ShardProcessor {
    lease: LeaseKey,
    /// As items name it: of several streams, with its stream.
    shard: String,
    sink: Arc<Sink>,
}

/// The places in a batch of the records of one key, oldest first.
type Versions = Vec<usize>;

impl Processors {
    pub(crate) fn new(sink: Arc<Sink>) -> Self {
        Self(sink)
    }

    /// The processor of a lease.
    pub fn create(&self, lease: LeaseKey) -> ShardProcessor {
        ShardProcessor {
            shard: lease.to_string(),
            lease,
            sink: Arc::clone(&self.0),
        }
    }
}

impl RecordProcessor for ShardProcessor {
    async fn process_records(
        &mut self,
        batch: &Batch,
        checkpointer: &Checkpointer,
    ) -> Result<(), ProcessorError> {
        let shard = self.shard.as_str();
        match self.sink.on_reject {
            OnReject::Skip => {
                let stored = self.sink.store(shard, &batch.records).await;
                let rejected = stored.map_err(of_processor)?;
                let kept = self.sink.keep(checkpointer, &batch.records, rejected);
                kept.await.map_err(of_processor)?;
            }
            OnReject::Halt => {
                // Nothing behind a record that cannot be stored is written.
                let unfit = batch
                    .records
                    .iter()
                    .position(|record| self.sink.shape.item(shard, record).is_err());
                let end = unfit.map_or(batch.records.len(), |index| index + 1);
                let stored = self.sink.store(shard, &batch.records[..end]).await;
                let rejected = stored.map_err(of_processor)?;
                if let Some((index, reason)) = rejected.into_iter().min_by_key(|(index, _)| *index)
                {
                    if let Some(last) = index.checked_sub(1) {
                        checkpointer
                            .acknowledge_at(&batch.records[last].position())
                            .await?;
                    }
                    return Err(self.halted(&batch.records[index], reason));
                }
            }
        }
        checkpointer.acknowledge_batch(batch).await?;
        Ok(())
    }

    async fn reject_aggregate(
        &mut self,
        aggregate: &Record,
        reason: &UnfitAggregate,
        _: &Checkpointer,
    ) -> Result<(), ProcessorError> {
        let reason = Rejected::Aggregate(reason.clone());
        if self.sink.on_reject == OnReject::Halt {
            return Err(self.halted(aggregate, reason));
        }
        let _room = self.sink.room(aggregate.data.len()).await;
        let kept = self.sink.rejects.keep(&self.lease, aggregate, &reason);
        kept.await.map_err(of_processor)
    }
}

/// What is wrong with a table, waiting does not mend; what is wrong with one record must not end
/// the process.
fn of_processor(error: Error) -> ProcessorError {
    match error {
        Error::Write(_) => Lasting(error.into()).into(),
        error => error.into(),
    }
}

impl ShardProcessor {
    fn halted(&self, record: &Record, reason: Rejected) -> ProcessorError {
        let halted = Error::Halted {
            shard: self.shard.clone(),
            position: record.position().to_string(),
            reason,
        };
        halted.into()
    }
}

impl Sink {
    pub(crate) fn new(
        settings: &Settings,
        clients: &Clients,
        key: String,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            writer: Writer::new(settings, clients, &key, Arc::clone(&metrics)),
            rejects: Rejects::new(settings, clients, Arc::clone(&metrics)),
            shape: Shape {
                key,
                processed_by: settings.instance_name(),
            },
            on_reject: settings.on_reject,
            in_flight: Semaphore::new(DATA_IN_FLIGHT),
            metrics,
        }
    }

    /// Returns when all records are stored, but for those that cannot be: their indices and why.
    async fn store(
        &self,
        shard: &str,
        records: &[Record],
    ) -> Result<Vec<(usize, Rejected)>, Error> {
        stream::iter(by_key(records))
            .map(|versions| self.store_newest(shard, records, versions))
            .buffer_unordered(IN_FLIGHT)
            .try_concat()
            .await
    }

    /// Stores the newest version that can be, as late as the latest of it and those before it.
    async fn store_newest(
        &self,
        shard: &str,
        records: &[Record],
        versions: Versions,
    ) -> Result<Vec<(usize, Rejected)>, Error> {
        let largest = versions
            .iter()
            .map(|index| records[*index].data.len())
            .max();
        let _room = self.room(largest.unwrap_or_default()).await;
        let (mut rejected, mut fit) = (Vec::new(), Vec::new());
        let mut latest = None;
        let mut newest = None;
        for index in versions {
            match self.shape.item(shard, &records[index]) {
                Err(reason) => rejected.push((index, reason)),
                Ok(item) => {
                    latest = latest.max(records[index].arrival);
                    fit.push((index, latest));
                    newest = Some(item);
                }
            }
        }
        while let Some((index, arrival)) = fit.pop() {
            // Made anew where DynamoDB refused the one after it: that is rare.
            let item = newest
                .take()
                .map_or_else(|| self.shape.item(shard, &records[index]), Ok);
            let put = match item {
                Ok(mut item) => {
                    if let Some(arrived) = arrival {
                        let arrived = AttributeValue::S(kinesis_arrived(arrived));
                        item.insert(KINESIS_ARRIVED.to_owned(), arrived);
                    }
                    // On the heap: else each key's future is as large as a call, and moved about.
                    Box::pin(self.writer.put(item)).await?
                }
                Err(reason) => Put::Rejected(reason),
            };
            match put {
                Put::Rejected(reason) => rejected.push((index, reason)),
                put => {
                    self.metrics.put(&put);
                    self.metrics.superseded(fit.len());
                    break;
                }
            }
        }
        Ok(rejected)
    }

    /// Waits for room for a record of so many bytes. One larger than all there is waits for all.
    async fn room(&self, bytes: usize) -> Option<SemaphorePermit<'_>> {
        let units = bytes.div_ceil(1 << 10).clamp(1, DATA_IN_FLIGHT) as u32;
        self.in_flight.acquire_many(units).await.ok()
    }

    async fn keep(
        &self,
        checkpointer: &Checkpointer,
        records: &[Record],
        rejected: Vec<(usize, Rejected)>,
    ) -> Result<(), Error> {
        stream::iter(rejected)
            .map(Ok)
            .try_for_each_concurrent(IN_FLIGHT, |(index, reason)| async move {
                let record = &records[index];
                let _room = self.room(record.data.len()).await;
                let lease = checkpointer.lease();
                self.rejects.keep(lease, record, &reason).await?;
                checkpointer.reject(record, reason.to_string());
                Ok(())
            })
            .await
    }
}

/// The places of a batch's records by key, keys in order of their first record.
fn by_key(records: &[Record]) -> Vec<Versions> {
    let mut keys: HashMap<&str, usize> = HashMap::new();
    let mut lanes: Vec<Versions> = Vec::new();
    for (index, record) in records.iter().enumerate() {
        match keys.entry(&record.partition_key) {
            Entry::Occupied(lane) => lanes[*lane.get()].push(index),
            Entry::Vacant(lane) => {
                lane.insert(lanes.len());
                lanes.push(vec![index]);
            }
        }
    }
    lanes
}
