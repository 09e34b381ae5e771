//! The record processor: a batch is stored, what cannot be is kept aside, then the checkpoint moves.
//!
//! The writes of a batch run side by side, in order per key: of several records of one key only the newest that can be stored
//! is written. Each would replace the one before it whole, so the table ends the same, a hot key costs one write per
//! batch instead of throttling its partition, and no order needs to be kept between requests in flight.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use kinesis_consumer::{Batch, Checkpointer, LeaseKey, ProcessorError, Record, RecordProcessor};

use crate::{
    Error, Settings,
    aws::Clients,
    item::{Rejected, Shape},
    metrics::Metrics,
    rejects::Rejects,
    settings::OnReject,
    writer::{Put, Writer},
};

/// Writes in flight for one shard: at 5 ms each more than a shard's 1000 records a second.
const IN_FLIGHT: usize = 64;

/// Where the records of all shards go.
#[derive(Debug)]
pub(crate) struct Sink {
    shape: Shape,
    writer: Writer,
    rejects: Rejects,
    on_reject: OnReject,
    metrics: Arc<Metrics>,
}

/// Makes a processor for each lease.
#[derive(Clone, Debug)]
pub struct Processors(Arc<Sink>);

/// Stores the records of one shard.
#[derive(Debug)]
pub struct ShardProcessor {
    lease: LeaseKey,
    sink: Arc<Sink>,
}

/// Records of one key in a batch, with their places in it, oldest first.
type Versions = Vec<(usize, Record)>;

impl Processors {
    pub(crate) fn new(sink: Arc<Sink>) -> Self {
        Self(sink)
    }

    /// The processor of a lease.
    pub fn create(&self, lease: LeaseKey) -> ShardProcessor {
        ShardProcessor {
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
        match self.sink.on_reject {
            OnReject::Skip => {
                let rejected = self.sink.store(&batch.records).await?;
                self.sink
                    .keep(checkpointer, &batch.records, rejected)
                    .await?;
            }
            OnReject::Halt => {
                // Nothing behind a record that cannot be stored is written.
                let unfit = batch
                    .records
                    .iter()
                    .position(|record| self.sink.shape.item(record).is_err());
                let end = unfit.map_or(batch.records.len(), |index| index + 1);
                let rejected = self.sink.store(&batch.records[..end]).await?;
                if let Some((index, reason)) = rejected.into_iter().min_by_key(|(index, _)| *index)
                {
                    if let Some(last) = index.checked_sub(1) {
                        checkpointer
                            .checkpoint_at(&batch.records[last].position())
                            .await?;
                    }
                    let position = batch.records[index].position().to_string();
                    return Err(Error::Halted {
                        shard: self.lease.shard.to_string(),
                        position,
                        reason,
                    }
                    .into());
                }
            }
        }
        checkpointer.checkpoint_batch(batch).await?;
        Ok(())
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
            metrics,
        }
    }

    /// Returns when all records are stored, but for those that cannot be: their indices and why.
    async fn store(&self, records: &[Record]) -> Result<Vec<(usize, Rejected)>, Error> {
        stream::iter(by_key(records))
            .map(|versions| self.store_newest(versions))
            .buffer_unordered(IN_FLIGHT)
            .try_concat()
            .await
    }

    async fn store_newest(&self, versions: Versions) -> Result<Vec<(usize, Rejected)>, Error> {
        let mut rejected = Vec::new();
        let mut settled = false;
        for (index, record) in versions.into_iter().rev() {
            match self.shape.item(&record) {
                Err(reason) => rejected.push((index, reason)),
                Ok(_) if settled => self.metrics.superseded(),
                Ok(item) => match self.writer.put(item).await? {
                    Put::Rejected(reason) => rejected.push((index, reason)),
                    put => {
                        self.metrics.written(put == Put::Stored);
                        settled = true;
                    }
                },
            }
        }
        Ok(rejected)
    }

    async fn keep(
        &self,
        checkpointer: &Checkpointer,
        records: &[Record],
        rejected: Vec<(usize, Rejected)>,
    ) -> Result<(), Error> {
        let rejected = rejected
            .into_iter()
            .map(|(index, reason)| (records[index].clone(), reason));
        stream::iter(rejected)
            .map(Ok)
            .try_for_each_concurrent(IN_FLIGHT, |(record, reason)| async move {
                let shard = checkpointer.lease().shard.as_str();
                self.rejects.keep(shard, &record, &reason).await?;
                checkpointer.reject(&record, reason.to_string());
                Ok(())
            })
            .await
    }
}

/// The batch by key, keys in order of their first record. Cloning a record shares its data.
fn by_key(records: &[Record]) -> Vec<Versions> {
    let mut keys: HashMap<&str, usize> = HashMap::new();
    let mut lanes: Vec<Versions> = Vec::new();
    for (index, record) in records.iter().enumerate() {
        match keys.entry(&record.partition_key) {
            Entry::Occupied(lane) => lanes[*lane.get()].push((index, record.clone())),
            Entry::Vacant(lane) => {
                lane.insert(lanes.len());
                lanes.push(vec![(index, record.clone())]);
            }
        }
    }
    lanes
}
