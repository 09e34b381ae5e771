//! What a processor says of its lease: acknowledged, and checkpoints of its own.

use async_trait::async_trait;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{HeldLease, stored::Stored};
use crate::{
    edge::lease_table::TableError,
    face::{
        checkpointer::{CheckpointError, LeaseHandle},
        event::Event,
    },
    model::{keys::LeaseKey, sequence::Checkpoint},
    run::context::pause,
};

#[async_trait]
impl LeaseHandle for HeldLease {
    fn key(&self) -> &LeaseKey {
        &self.key
    }

    fn over(&self) -> &CancellationToken {
        &self.over
    }

    fn report(&self, event: Event) {
        self.context.report(event);
    }

    fn acknowledge(&self, to: &Checkpoint) {
        let mut pending = self.pending();
        if pending.to.as_ref().is_none_or(|pending| pending < to) {
            pending.to = Some(to.clone());
        }
        if pending.since.is_none() {
            pending.since = Some(Instant::now());
            self.hurry.notify_one();
        }
    }

    async fn checkpoint(&self, to: &Checkpoint) -> Result<(), CheckpointError> {
        let mut stored = self.stored.lock().await;
        if self.is_over() {
            return Err(CheckpointError::LeaseLost);
        }
        self.store(&mut stored, to).await
    }
}

impl HeldLease {
    /// Writes the checkpoint where it is beyond the stored one. Trouble with the table is sat out
    /// while the lease is surely ours.
    pub(super) async fn store(
        &self,
        stored: &mut Stored,
        to: &Checkpoint,
    ) -> Result<(), CheckpointError> {
        let mut failures = self.backoff();
        while *to > stored.lease.checkpoint {
            match self.write(stored, Some(to)).await {
                Ok(()) => {}
                Err(TableError::Conflict(_)) => return Err(CheckpointError::LeaseLost),
                Err(error @ TableError::Permanent(_)) => return Err(CheckpointError::Table(error)),
                Err(error) => {
                    self.context
                        .table_failed(Some(&self.key), "checkpoint", &error);
                    if !self.is_sure() {
                        return Err(CheckpointError::Table(error));
                    }
                    pause(&mut failures).await;
                }
            }
        }
        Ok(())
    }
}
