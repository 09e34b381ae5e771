//! What the user writes: a factory that makes one record processor per shard.

use async_trait::async_trait;

use crate::{
    face::checkpointer::Checkpointer,
    model::{record::Batch, sequence::Checkpoint, shard::ShardId},
};

/// Any error of user code. It is told as an event; the library decides what follows.
pub type ProcessorError = Box<dyn std::error::Error + Send + Sync>;

/// Works on the records of one shard. Calls come one at a time, in order; other shards go on beside.
#[async_trait]
pub trait RecordProcessor: Send {
    /// Before the first batch. `checkpoint` is where the lease stands. An error is retried with backoff.
    async fn initialize(&mut self, checkpoint: &Checkpoint) -> Result<(), ProcessorError> {
        let _ = checkpoint;
        Ok(())
    }

    /// The next records. An error (or a panic) is retried with backoff, with the records that are not checkpointed yet:
    /// nothing is skipped, and the lease is kept meanwhile.
    async fn process_records(
        &mut self,
        batch: &Batch,
        checkpointer: &Checkpointer,
    ) -> Result<(), ProcessorError>;

    /// Another worker has the lease. Checkpoints are refused from now on.
    async fn lease_lost(&mut self) {}

    /// All records of a closed shard were processed. On `Ok` the library writes SHARD_END, which lets the children start;
    /// an error is retried with backoff.
    async fn shard_ended(&mut self, checkpointer: &Checkpointer) -> Result<(), ProcessorError> {
        let _ = checkpointer;
        Ok(())
    }

    /// The worker stops, or the lease goes to another worker: the last chance to checkpoint what is processed.
    async fn shutdown_requested(
        &mut self,
        checkpointer: &Checkpointer,
    ) -> Result<(), ProcessorError> {
        let _ = checkpointer;
        Ok(())
    }
}

/// Makes a processor for each shard that the worker starts on.
pub trait ProcessorFactory: Send + Sync {
    /// A processor for `shard`. Called again when the worker loses and regains the lease.
    fn create(&self, shard: &ShardId) -> Box<dyn RecordProcessor>;
}

impl<F> ProcessorFactory for F
where
    F: Fn(&ShardId) -> Box<dyn RecordProcessor> + Send + Sync,
{
    fn create(&self, shard: &ShardId) -> Box<dyn RecordProcessor> {
        self(shard)
    }
}
