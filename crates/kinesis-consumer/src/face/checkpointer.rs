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

/// Says how far a shard is processed. Clones speak for the same processor; once its lease is lost
/// or given up, or the processor is made anew, all of them refuse.
///
/// An acknowledgement says that everything up to a position is processed; a checkpoint is an
/// acknowledgement that the lease table has. `checkpoint…` returns when the table has it.
/// `acknowledge…` leaves it to the worker when to write: with the next renewal of the lease, within
/// [`Config::checkpoint_interval`](crate::Config::checkpoint_interval) and
/// [`Config::checkpoint_records`](crate::Config::checkpoint_records), and always before the lease
/// goes. Code that need not wait for the table acknowledges.
#[derive(Clone, Debug)]
pub struct Checkpointer {
    lease: Arc<dyn LeaseHandle>,
    progress: Arc<Mutex<Progress>>,
    over: CancellationToken,
}

/// How far a shard is.
#[derive(Debug)]
struct Progress {
    delivered: Checkpoint,
    acknowledged: Checkpoint,
    /// Of the batch in work.
    rejected: BTreeSet<Position>,
}

/// The lease, as its holder lends it to a checkpointer.
#[async_trait]
pub(crate) trait LeaseHandle: fmt::Debug + Send + Sync {
    fn key(&self) -> &LeaseKey;

    /// Cancelled when the lease is lost or given up.
    fn over(&self) -> &CancellationToken;

    fn report(&self, event: Event);

    /// Writes `to` where it is beyond the stored checkpoint: soon.
    fn acknowledge(&self, to: &Checkpoint);

    /// The same now.
    async fn checkpoint(&self, to: &Checkpoint) -> Result<(), CheckpointError>;
}

impl Checkpointer {
    pub(crate) fn new(lease: Arc<dyn LeaseHandle>, start: Checkpoint) -> Self {
        Self {
            over: lease.over().child_token(),
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

    /// Cancelled when the lease is lost, handed over or given up, or the processor is made anew:
    /// work on the shard is in vain from then on, as its records come again. Cancelling it yourself
    /// does nothing to the lease.
    pub fn cancellation(&self) -> CancellationToken {
        self.over.child_token()
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
        let to = self.accept(None)?;
        self.lease.checkpoint(&to).await
    }

    /// Everything up to and including `position` is processed, and the lease table shall have it
    /// now. Where the lease stands already, nothing is written.
    ///
    /// # Errors
    /// As [`Self::checkpoint`]; and it refuses to go back, and beyond what was delivered.
    pub async fn checkpoint_at(&self, position: &Position) -> Result<(), CheckpointError> {
        let to = self.accept(Some(position))?;
        self.lease.checkpoint(&to).await
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
    /// The lease is lost.
    pub async fn acknowledge(&self) -> Result<(), CheckpointError> {
        self.lease.acknowledge(&self.accept(None)?);
        Ok(())
    }

    /// Everything up to and including `position` is processed. The worker writes it when its
    /// cadence says so.
    ///
    /// # Errors
    /// The lease is lost; and it refuses to go back, and beyond what was delivered.
    pub async fn acknowledge_at(&self, position: &Position) -> Result<(), CheckpointError> {
        self.lease.acknowledge(&self.accept(Some(position))?);
        Ok(())
    }

    /// The whole batch, and all before it, is processed. The worker writes it when its cadence says
    /// so.
    ///
    /// # Errors
    /// As [`Self::acknowledge_at`].
    pub async fn acknowledge_batch(&self, batch: &Batch) -> Result<(), CheckpointError> {
        match batch.records.last() {
            Some(last) => self.acknowledge_at(&last.position()).await,
            None => Ok(()),
        }
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

    /// Takes note of an acknowledgement: of a position, or of all that was delivered. Returns what
    /// is acknowledged now.
    fn accept(&self, asked: Option<&Position>) -> Result<Checkpoint, CheckpointError> {
        if self.over.is_cancelled() {
            return Err(CheckpointError::LeaseLost);
        }
        let mut progress = self.progress();
        let asked = match asked {
            Some(position) => Checkpoint::At(position.clone()),
            None => progress.delivered.clone(),
        };
        if asked < progress.acknowledged || progress.delivered < asked {
            return Err(CheckpointError::OutOfRange {
                asked,
                checkpoint: progress.acknowledged.clone(),
                delivered: progress.delivered.clone(),
            });
        }
        progress.acknowledged.clone_from(&asked);
        Ok(asked)
    }

    // === what the shard consumer says ===

    /// How far records were delivered, or where the lease stood before the first one.
    pub(crate) fn delivered(&self) -> Checkpoint {
        self.progress().delivered.clone()
    }

    pub(crate) fn deliver_to(&self, delivered: Checkpoint) {
        let mut progress = self.progress();
        progress.delivered = delivered.max(progress.acknowledged.clone());
    }

    /// What is up to `position` needs no acknowledgement of the processor: it is settled where
    /// everything delivered before is.
    pub(crate) fn pass(&self, position: Position) {
        let to = Checkpoint::At(position);
        let mut progress = self.progress();
        let is_next = progress.acknowledged == progress.delivered;
        progress.delivered = to.clone();
        if is_next {
            progress.acknowledged = to.clone();
            drop(progress);
            self.lease.acknowledge(&to);
        }
    }

    /// Is everything that was delivered acknowledged?
    pub(crate) fn is_settled(&self) -> bool {
        let progress = self.progress();
        progress.acknowledged == progress.delivered
    }

    /// These records of the batch are settled; returns how many of them were rejected.
    pub(crate) fn take_rejected(&self, records: &[Record]) -> usize {
        let (Some(first), Some(last)) = (records.first(), records.last()) else {
            return 0;
        };
        let (first, last) = (first.position(), last.position());
        let mut progress = self.progress();
        let settled = progress.rejected.range(first..=last.clone()).count();
        progress.rejected.retain(|position| *position > last);
        settled
    }

    /// The processor is made anew: the old one's checkpointers refuse. Returns the new one's.
    pub(crate) fn renew(&self) -> Self {
        self.over.cancel();
        Self::new(Arc::clone(&self.lease), self.acknowledged())
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
