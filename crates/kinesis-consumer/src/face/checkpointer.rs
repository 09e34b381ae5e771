//! What a record processor holds of its lease: to say how far it is, what it leaves out, and to
//! learn that the lease is gone.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::{
    edge::lease_table::TableError,
    face::event::Event,
    model::{
        keys::LeaseKey,
        record::{Batch, Record},
        sequence::{Checkpoint, Position},
    },
};

/// Why an acknowledgement was refused, or its checkpoint not written.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The lease is another worker's by now, or was given up. Stop working on the shard: its
    /// records come again there.
    #[error("the lease is not held any more")]
    LeaseLost,
    /// A checkpoint never goes back, and never passes what was delivered.
    #[error("cannot checkpoint {asked}: want a position after {checkpoint}, up to {delivered}")]
    OutOfRange {
        /// What was asked for.
        asked: Checkpoint,
        /// Where the lease stands.
        checkpoint: Checkpoint,
        /// The last record that was delivered.
        delivered: Checkpoint,
    },
    /// The lease table did not take the checkpoint for as long as the lease lasted. It may have
    /// been written all the same.
    #[error("lease table: {0}")]
    Table(#[source] TableError),
}

/// Says how far a shard is processed. Clones speak for the same shard; once its lease is lost or
/// given up, all of them refuse.
///
/// An acknowledgement says that everything up to a position is processed; a checkpoint is an
/// acknowledgement that the lease table has. `checkpoint…` returns when the table has it.
/// `acknowledge…` leaves it to the worker when to write: at once, as the worker has no slower
/// cadence yet. Code that need not wait for the table acknowledges.
#[derive(Clone, Debug)]
pub struct Checkpointer {
    lease: Arc<dyn LeaseHandle>,
    progress: Arc<Mutex<Progress>>,
}

/// How far a shard is.
#[derive(Debug)]
struct Progress {
    delivered: Checkpoint,
    acknowledged: Checkpoint,
    /// Of the batch in work.
    rejected: BTreeSet<Position>,
}

/// Given where the lease stands: may the checkpoint be written?
pub(crate) type Judge<'a> = dyn Fn(&Checkpoint) -> Result<(), CheckpointError> + Send + Sync + 'a;

/// The lease, as its holder lends it to a checkpointer.
#[async_trait]
pub(crate) trait LeaseHandle: fmt::Debug + Send + Sync {
    fn key(&self) -> &LeaseKey;

    /// Cancelled when the lease is lost or given up.
    fn over(&self) -> &CancellationToken;

    fn report(&self, event: Event);

    /// Writes `to` where it is beyond the stored checkpoint, which `allowed` judges first.
    async fn checkpoint(&self, to: &Checkpoint, allowed: &Judge<'_>)
    -> Result<(), CheckpointError>;
}

impl Checkpointer {
    pub(crate) fn new(lease: Arc<dyn LeaseHandle>, start: Checkpoint) -> Self {
        Self {
            lease,
            progress: Arc::new(Mutex::new(Progress {
                delivered: start.clone(),
                acknowledged: start,
                rejected: BTreeSet::new(),
            })),
        }
    }

    /// The lease that this speaks for.
    pub fn lease(&self) -> &LeaseKey {
        self.lease.key()
    }

    /// Cancelled when the lease is lost, handed over or given up: work on the shard is in vain from
    /// then on, as its records come again elsewhere. Cancelling it yourself does nothing to the
    /// lease.
    pub fn cancellation(&self) -> CancellationToken {
        self.lease.over().child_token()
    }

    /// How far the shard is acknowledged, whether the lease table has it yet or not. At first,
    /// where the lease stood when this worker got it.
    pub fn acknowledged(&self) -> Checkpoint {
        self.progress().acknowledged.clone()
    }

    /// Everything delivered so far is processed, the batch at hand included, and the lease table
    /// shall have it now. Writes nothing where it has.
    ///
    /// # Errors
    /// The lease is lost, or the table did not take it.
    pub async fn checkpoint(&self) -> Result<(), CheckpointError> {
        let delivered = self.progress().delivered.clone();
        self.advance(&delivered, &|_| Ok(())).await
    }

    /// Everything up to and including `position` is processed, and the lease table shall have it
    /// now. Where the lease stands already, nothing is written.
    ///
    /// # Errors
    /// As [`Self::checkpoint`]; and it refuses to go back, and beyond what was delivered.
    pub async fn checkpoint_at(&self, position: &Position) -> Result<(), CheckpointError> {
        let asked = Checkpoint::At(position.clone());
        let delivered = self.progress().delivered.clone();
        let within = |stored: &Checkpoint| {
            if *stored <= asked && asked <= delivered {
                return Ok(());
            }
            Err(CheckpointError::OutOfRange {
                asked: asked.clone(),
                checkpoint: stored.clone(),
                delivered: delivered.clone(),
            })
        };
        self.advance(&asked, &within).await
    }

    /// The whole batch, and all before it, is processed, and the lease table shall have it now.
    ///
    /// # Errors
    /// As [`Self::checkpoint_at`].
    pub async fn checkpoint_batch(&self, batch: &Batch) -> Result<(), CheckpointError> {
        match batch.records.last() {
            Some(last) => self.checkpoint_at(&last.position()).await,
            None => Ok(()),
        }
    }

    /// Everything delivered so far is processed. The worker writes it when its cadence says so.
    ///
    /// # Errors
    /// As [`Self::checkpoint`].
    pub async fn acknowledge(&self) -> Result<(), CheckpointError> {
        self.checkpoint().await
    }

    /// Everything up to and including `position` is processed. The worker writes it when its
    /// cadence says so.
    ///
    /// # Errors
    /// As [`Self::checkpoint_at`].
    pub async fn acknowledge_at(&self, position: &Position) -> Result<(), CheckpointError> {
        self.checkpoint_at(position).await
    }

    /// The whole batch, and all before it, is processed. The worker writes it when its cadence says
    /// so.
    ///
    /// # Errors
    /// As [`Self::checkpoint_at`].
    pub async fn acknowledge_batch(&self, batch: &Batch) -> Result<(), CheckpointError> {
        self.checkpoint_batch(batch).await
    }

    /// Leaves a record out for good, and says why, for people: it is reported as
    /// [`Event::Rejected`](crate::Event::Rejected), once for each record of a batch, and counted in
    /// the batch's [`Event::Processed`](crate::Event::Processed). Keep the record elsewhere first:
    /// a checkpoint may pass it. It must be of the batch at hand.
    pub fn reject(&self, record: &Record, reason: impl Into<String>) {
        let position = record.position();
        if self.progress().rejected.insert(position.clone()) {
            self.lease.report(Event::Rejected {
                shard: self.lease().clone(),
                position,
                reason: reason.into(),
            });
        }
    }

    async fn advance(&self, to: &Checkpoint, allowed: &Judge<'_>) -> Result<(), CheckpointError> {
        let acknowledge = |stored: &Checkpoint| {
            allowed(stored)?;
            let mut progress = self.progress();
            if progress.acknowledged < *to {
                progress.acknowledged.clone_from(to);
            }
            Ok(())
        };
        self.lease.checkpoint(to, &acknowledge).await
    }

    // === what the shard consumer says ===

    /// How far records were delivered, or where the lease stood before the first one.
    pub(crate) fn delivered(&self) -> Checkpoint {
        self.progress().delivered.clone()
    }

    pub(crate) fn deliver_to(&self, delivered: Checkpoint) {
        self.progress().delivered = delivered;
    }

    /// Ends the batch; returns how many of its records were rejected.
    pub(crate) fn take_rejected(&self, batch: &Batch) -> usize {
        let rejected = std::mem::take(&mut self.progress().rejected);
        let first = batch.records.first().map(Record::position);
        // What was acknowledged before the batch failed has not come again.
        first.map_or(0, |first| rejected.range(first..).count())
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
