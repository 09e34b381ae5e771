//! Fetching ahead of the processor: one task per shard, bounded in bytes.
//!
//! Polling is the only way yet; enhanced fan-out would be another task that sends the same
//! [`Fetched`].

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    decide::aggregation::Unfit,
    face::error::Error,
    model::{
        lease::Lease,
        record::{Batch, Record},
        shard::ChildShard,
    },
    run::context::Context,
};

mod gap;
mod hand;
mod limit;
mod polling;

pub(crate) use hand::Hand;

/// What the fetching task found, in order.
#[derive(Debug)]
pub(crate) enum Fetched {
    /// Records.
    Batch {
        /// Never empty.
        batch: Batch,
        /// Their share of the prefetch budget, held until they are processed.
        room: OwnedSemaphorePermit,
    },
    /// An aggregate that is not delivered record by record.
    Unfit {
        /// The aggregate, whole.
        unfit: Unfit,
        /// As a batch's.
        room: OwnedSemaphorePermit,
    },
    /// The closed shard's end.
    End(Vec<ChildShard>),
    /// The worker cannot go on.
    Failed(Error),
}

/// The fetching task of one shard; ends when dropped, and gives back what is not settled.
#[derive(Debug)]
pub(crate) struct Retrieval {
    fetched: mpsc::Receiver<Fetched>,
    hand: Arc<Hand>,
    _task: AbortOnDropHandle<()>,
}

impl Retrieval {
    /// Fetches from where `lease` stands.
    pub(crate) fn start(context: Arc<Context>, lease: &Lease) -> Self {
        // Bytes bound the prefetch; the channel is long enough not to, also for small pages.
        let (sender, fetched) = mpsc::channel(64);
        let hand = Arc::new(Hand::new(Arc::clone(&context), lease.key.clone()));
        let out = Output {
            sender,
            hand: Arc::clone(&hand),
            budget: u32::try_from(context.config.prefetch_bytes.max(1)).unwrap_or(u32::MAX),
            room: Arc::new(Semaphore::new(0)),
        };
        out.room.add_permits(out.budget as usize);
        let polling = polling::Polling::new(context, lease, out);
        Self {
            fetched,
            hand,
            _task: AbortOnDropHandle::new(tokio::spawn(polling.run())),
        }
    }

    /// What was fetched next. `None`: after the end or a failure, or the task panicked.
    pub(crate) async fn next(&mut self) -> Option<Fetched> {
        self.fetched.recv().await
    }

    /// What is fetched and not settled yet.
    pub(crate) fn hand(&self) -> Arc<Hand> {
        Arc::clone(&self.hand)
    }
}

impl Drop for Retrieval {
    fn drop(&mut self) {
        self.hand.close();
    }
}

/// The consumer is gone.
#[derive(Debug)]
struct Gone;

/// Where a fetching task puts what it fetched.
#[derive(Debug)]
struct Output {
    sender: mpsc::Sender<Fetched>,
    hand: Arc<Hand>,
    room: Arc<Semaphore>,
    budget: u32,
}

impl Output {
    /// Is everything that was fetched processed?
    fn is_drained(&self) -> bool {
        self.room.available_permits() == self.budget as usize
    }

    async fn batch(&self, batch: Batch) -> Result<(), Gone> {
        let room = self.room(&batch.records).await?;
        self.send(Fetched::Batch { batch, room }).await
    }

    async fn unfit(&self, unfit: Unfit) -> Result<(), Gone> {
        let room = self.room(std::slice::from_ref(&unfit.record)).await?;
        self.send(Fetched::Unfit { unfit, room }).await
    }

    /// Waits for room. What is larger than the whole budget waits for all of it.
    async fn room(&self, records: &[Record]) -> Result<OwnedSemaphorePermit, Gone> {
        let bytes = records.iter().map(footprint).sum::<usize>();
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.budget);
        let room = Arc::clone(&self.room).acquire_many_owned(bytes);
        room.await.map_err(|_| Gone)
    }

    async fn send(&self, fetched: Fetched) -> Result<(), Gone> {
        self.sender.send(fetched).await.map_err(|_| Gone)
    }
}

/// About the bytes that a record takes in memory.
fn footprint(record: &Record) -> usize {
    const SEQUENCE_NUMBER_AND_ALLOCATIONS: usize = 128;
    size_of::<Record>()
        + SEQUENCE_NUMBER_AND_ALLOCATIONS
        + record.partition_key.len()
        + record.data.len()
}
