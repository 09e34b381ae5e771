//! What the user writes: a processor for the records of one shard, or only a closure for each
//! batch.

use std::{future::Future, pin::Pin};

use crate::{
    face::checkpointer::Checkpointer,
    model::{
        keys::LeaseKey,
        record::{Batch, Record, UnfitAggregate},
        sequence::Checkpoint,
    },
};

/// Any error of user code. It is reported as an event; the library decides what follows.
pub type ProcessorError = Box<dyn std::error::Error + Send + Sync>;

/// An error of user code that waiting does not mend, such as a withdrawn permission or a table that
/// is gone. As with others what failed comes again; but it is told as
/// [`Event::Failing`](crate::Event::Failing), and when it has stood for
/// [`give_up_after`](crate::Config::give_up_after), the worker gives its leases up and ends with
/// it. Not for a record that cannot be processed: wherever it comes next, it would end the worker
/// there, too.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Lasting(#[source] pub ProcessorError);

/// An error after which the processor is of no use any more, such as the end of a process that it
/// stands for. Return it from any call: the processor is made anew, as after a panic, and the new
/// one gets all that was not acknowledged.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(#[source] pub ProcessorError);

/// Works on the records of one shard. Calls come one at a time, in order; other shards go on
/// beside.
///
/// Write `async fn` in the implementation; the futures must be `Send`. The worker makes a processor
/// for each lease that it gets, and a new one when it loses the lease and gets it again, or when
/// the processor panicked.
pub trait RecordProcessor: Send {
    /// Before the first batch. `checkpoint` is where the lease stands.
    ///
    /// # Errors
    /// Yours: it is tried again on a new processor, with backoff.
    fn initialize(
        &mut self,
        checkpoint: &Checkpoint,
    ) -> impl Future<Output = Result<(), ProcessorError>> + Send {
        let _ = checkpoint;
        async { Ok(()) }
    }

    /// The next records. `Ok` does not checkpoint: call [`Checkpointer::checkpoint`], now or later.
    ///
    /// # Errors
    /// Yours: the records that are not checkpointed yet come again, with backoff up to a minute, as
    /// they do after a panic. Nothing is skipped, and the lease is kept meanwhile.
    fn process_records(
        &mut self,
        batch: &Batch,
        checkpointer: &Checkpointer,
    ) -> impl Future<Output = Result<(), ProcessorError>> + Send;

    /// Called where there is nothing to process, and dropped as soon as there is, or the lease
    /// goes: to flush by time, or to watch what the processor depends on. Once it returned `Ok`, it
    /// is called again after the next batch at the earliest.
    ///
    /// # Errors
    /// Yours: reported, and it is called again, with backoff; after [`Unusable`] the processor is
    /// made anew.
    fn idle(
        &mut self,
        checkpointer: &Checkpointer,
    ) -> impl Future<Output = Result<(), ProcessorError>> + Send {
        let _ = checkpointer;
        async { Ok(()) }
    }

    /// A KPL aggregate that is not delivered record by record, and why. It comes in its place:
    /// after the records before it, and before those behind it. On `Ok` it is left out for good
    /// and reported as [`Event::AggregateRejected`](crate::Event::AggregateRejected), and a
    /// checkpoint may pass it. Keep it elsewhere first; by default nothing is kept.
    ///
    /// # Errors
    /// Yours: it comes again, as a batch does.
    fn reject_aggregate(
        &mut self,
        aggregate: &Record,
        reason: &UnfitAggregate,
        checkpointer: &Checkpointer,
    ) -> impl Future<Output = Result<(), ProcessorError>> + Send {
        let _ = (aggregate, reason, checkpointer);
        async { Ok(()) }
    }

    /// Another worker has the lease. Checkpoints are refused from now on. The call that was under
    /// way is dropped.
    fn lease_lost(&mut self) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// All records of a closed shard were delivered: acknowledge what is not acknowledged yet. Then
    /// the library writes SHARD_END, which lets the children start. While something is left, it is
    /// called again, with backoff.
    ///
    /// # Errors
    /// Yours: it is tried again with backoff.
    fn shard_ended(
        &mut self,
        checkpointer: &Checkpointer,
    ) -> impl Future<Output = Result<(), ProcessorError>> + Send {
        let _ = checkpointer;
        async { Ok(()) }
    }

    /// The worker stops, or the lease goes to another worker: the last chance to checkpoint what is
    /// processed.
    ///
    /// # Errors
    /// Yours: reported, and nothing more; the lease goes all the same.
    fn shutdown_requested(
        &mut self,
        checkpointer: &Checkpointer,
    ) -> impl Future<Output = Result<(), ProcessorError>> + Send {
        let _ = checkpointer;
        async { Ok(()) }
    }
}

/// Consumes without a [`RecordProcessor`]: calls `handle` with each batch, and checkpoints the
/// batch when it returns `Ok`. Give the result to [`Worker`](crate::Worker) in the factory's place.
///
/// Everything else is as with a processor: batches of one shard come one at a time and in order,
/// shards run beside each other, and a batch whose future fails or panics comes again. `handle`
/// gets a copy of the batch that shares the data, and the shard's [`Checkpointer`] to acknowledge
/// within the batch, to [reject](Checkpointer::reject) a record, or to
/// [learn](Checkpointer::cancellation) that the lease is gone.
///
/// ```
/// # use kinesis_consumer::{Config, Error, Worker, each_batch};
/// # async fn store(key: &str, data: &[u8]) -> std::io::Result<()> { Ok(()) }
/// # async fn run(config: Config) -> Result<(), Error> {
/// let store_all = each_batch(|batch, _| async move {
///     for record in &batch.records {
///         store(&record.partition_key, &record.data).await?;
///     }
///     Ok(())
/// });
/// Worker::from_env(config, store_all).await.run(std::future::pending()).await
/// # }
/// ```
///
/// # Why not a stream of records for each shard
///
/// Libraries that give one leave to each of their users what is decided once here: to end the
/// stream when a checkpoint finds the lease lost (zio-kinesis), to keep polling so that revocations
/// are noticed at all, not to drop a partition's queue while it is assigned, and not to commit what
/// was in flight when the partition went (rdkafka). A failed record can not come again in a stream
/// that has gone past it. Where a stream is wanted, send batches into a channel and wait for the
/// answer.
pub fn each_batch<F, Fut>(handle: F) -> impl Fn(LeaseKey) -> EachBatch<F> + Send + Sync + 'static
where
    F: Fn(Batch, Checkpointer) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<(), ProcessorError>> + Send,
{
    move |_| EachBatch(handle.clone())
}

/// The processor that [`each_batch`] makes of a closure.
#[derive(Clone)]
pub struct EachBatch<F>(F);

impl<F> std::fmt::Debug for EachBatch<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EachBatch")
    }
}

impl<F, Fut> RecordProcessor for EachBatch<F>
where
    F: Fn(Batch, Checkpointer) -> Fut + Send + Sync,
    Fut: Future<Output = Result<(), ProcessorError>> + Send,
{
    async fn process_records(
        &mut self,
        batch: &Batch,
        checkpointer: &Checkpointer,
    ) -> Result<(), ProcessorError> {
        (self.0)(batch.clone(), checkpointer.clone()).await?;
        Ok(checkpointer.acknowledge_batch(batch).await?)
    }
}

// === any processor behind one type ===

pub(crate) type Call<'a, T = Result<(), ProcessorError>> =
    Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Makes the processor of a lease.
pub(crate) type Factory = dyn Fn(LeaseKey) -> Box<dyn AnyProcessor> + Send + Sync;

/// [`RecordProcessor`], as a trait object.
pub(crate) trait AnyProcessor: Send {
    fn initialize<'a>(&'a mut self, checkpoint: &'a Checkpoint) -> Call<'a>;
    fn process_records<'a>(&'a mut self, batch: &'a Batch, to: &'a Checkpointer) -> Call<'a>;
    fn idle<'a>(&'a mut self, checkpointer: &'a Checkpointer) -> Call<'a>;
    fn reject_aggregate<'a>(
        &'a mut self,
        aggregate: &'a Record,
        reason: &'a UnfitAggregate,
        to: &'a Checkpointer,
    ) -> Call<'a>;
    fn lease_lost(&mut self) -> Call<'_, ()>;
    fn shard_ended<'a>(&'a mut self, checkpointer: &'a Checkpointer) -> Call<'a>;
    fn shutdown_requested<'a>(&'a mut self, checkpointer: &'a Checkpointer) -> Call<'a>;
}

impl<P: RecordProcessor> AnyProcessor for P {
    fn initialize<'a>(&'a mut self, checkpoint: &'a Checkpoint) -> Call<'a> {
        Box::pin(RecordProcessor::initialize(self, checkpoint))
    }

    fn process_records<'a>(&'a mut self, batch: &'a Batch, to: &'a Checkpointer) -> Call<'a> {
        Box::pin(RecordProcessor::process_records(self, batch, to))
    }

    fn idle<'a>(&'a mut self, checkpointer: &'a Checkpointer) -> Call<'a> {
        Box::pin(RecordProcessor::idle(self, checkpointer))
    }

    fn reject_aggregate<'a>(
        &'a mut self,
        aggregate: &'a Record,
        reason: &'a UnfitAggregate,
        to: &'a Checkpointer,
    ) -> Call<'a> {
        Box::pin(RecordProcessor::reject_aggregate(
            self, aggregate, reason, to,
        ))
    }

    fn lease_lost(&mut self) -> Call<'_, ()> {
        Box::pin(RecordProcessor::lease_lost(self))
    }

    fn shard_ended<'a>(&'a mut self, checkpointer: &'a Checkpointer) -> Call<'a> {
        Box::pin(RecordProcessor::shard_ended(self, checkpointer))
    }

    fn shutdown_requested<'a>(&'a mut self, checkpointer: &'a Checkpointer) -> Call<'a> {
        Box::pin(RecordProcessor::shutdown_requested(self, checkpointer))
    }
}
