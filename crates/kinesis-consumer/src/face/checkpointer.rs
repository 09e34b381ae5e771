//! What a record processor tells how far it is with.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{
    edge::lease_table::TableError,
    model::{
        record::Batch,
        sequence::{Checkpoint, Position},
    },
    run::held_lease::HeldLease,
};

/// Why a checkpoint was not written.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The lease is another worker's by now, or was given up. Stop working on the shard: its records come again there.
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
    /// The lease table did not take it for as long as the lease lasted. It may have been written all the same.
    #[error("lease table: {0}")]
    Table(TableError),
}

/// Writes how far a shard is processed. Clones write for the same shard; once the shard is given up, all of them refuse.
#[derive(Clone, Debug)]
pub struct Checkpointer {
    lease: Arc<HeldLease>,
    delivered: Arc<Mutex<Checkpoint>>,
}

impl Checkpointer {
    pub(crate) fn new(lease: Arc<HeldLease>, start: Checkpoint) -> Self {
        Self {
            lease,
            delivered: Arc::new(Mutex::new(start)),
        }
    }

    /// Everything delivered so far is processed, the batch at hand included. Writes nothing where that is known already.
    pub async fn checkpoint(&self) -> Result<(), CheckpointError> {
        let delivered = self.delivered().clone();
        self.lease.checkpoint(&delivered, |_| Ok(())).await
    }

    /// Everything up to and including `position` is processed. Refuses to go back, and beyond what was delivered; where the lease
    /// stands already, nothing is written.
    pub async fn checkpoint_at(&self, position: &Position) -> Result<(), CheckpointError> {
        let asked = Checkpoint::At(position.clone());
        let delivered = self.delivered().clone();
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
        self.lease.checkpoint(&asked, within).await
    }

    /// The whole batch, and all before it, is processed.
    pub async fn checkpoint_batch(&self, batch: &Batch) -> Result<(), CheckpointError> {
        match batch.records.last() {
            Some(last) => self.checkpoint_at(&last.position()).await,
            None => Ok(()),
        }
    }

    pub(crate) fn delivered(&self) -> MutexGuard<'_, Checkpoint> {
        self.delivered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
