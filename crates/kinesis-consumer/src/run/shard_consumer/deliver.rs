//! Records on their way to the processor, until they are settled.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Leave, ShardConsumer};
use crate::{
    decide::aggregation::Unfit,
    face::{checkpointer::LeaseHandle, event::Event},
    model::{
        record::{Batch, Record},
        sequence::Checkpoint,
    },
    run::retrieval::Hand,
};

impl ShardConsumer {
    /// Until the processor took the whole batch.
    pub(super) async fn deliver(&mut self, mut batch: Batch, hand: &Hand) -> Result<(), Leave> {
        let processed_before = self.checkpointer.delivered();
        while let Some(last) = batch.records.last() {
            let last = Checkpoint::At(last.position());
            self.confirm().await?;
            self.checkpointer
                .deliver_to(last.max(processed_before.clone()));
            let context = Arc::clone(&self.context);
            let lease = self.lease.key().clone();
            let (began, working) = (Instant::now(), context.load.work(&lease));
            let outcome = self
                .call(|processor, to| processor.process_records(&batch, to))
                .await;
            drop(working);
            let is_done = matches!(outcome, Ok(Ok(())));
            if !is_done {
                // Not processed, so `checkpoint()` must not pass it, unless the processor itself
                // did.
                self.checkpointer.deliver_to(processed_before.clone());
            }
            let done = self.checkpointer.delivered();
            let is_processed = |record: &Record| Checkpoint::At(record.position()) <= done;
            let left = batch.records.split_off(if is_done {
                batch.records.len()
            } else {
                batch.records.partition_point(is_processed)
            });
            if !batch.records.is_empty() {
                self.processed(&batch, hand, began.elapsed());
            }
            batch.records = left;
            if let Err(error) = outcome? {
                self.failed(&error).await?;
            }
        }
        self.succeeded();
        Ok(())
    }

    /// The processor took a batch, or the first records of one.
    fn processed(&self, batch: &Batch, hand: &Hand, took: Duration) {
        let records = batch.records.len();
        let bytes = batch.records.iter().map(|record| record.data.len()).sum();
        self.context.report(Event::Processed {
            shard: self.lease.key().clone(),
            records,
            rejected: self.checkpointer.take_rejected(&batch.records),
            bytes,
            millis_behind_latest: batch.millis_behind_latest,
            took,
        });
        hand.settle(records);
        self.lease.processed(records, bytes);
    }

    /// Until the processor keeps the aggregate, which is left out.
    pub(super) async fn set_aside(&mut self, unfit: Unfit, hand: &Hand) -> Result<(), Leave> {
        let Unfit {
            record,
            users,
            reason,
        } = unfit;
        loop {
            self.confirm().await?;
            let kept = self
                .call(|processor, to| processor.reject_aggregate(&record, &reason, to))
                .await?;
            match kept {
                Ok(()) => break,
                Err(error) => self.failed(&error).await?,
            }
        }
        self.succeeded();
        let position = record.position();
        self.checkpointer.pass(position.clone());
        self.context.report(Event::AggregateRejected {
            shard: self.lease.key().clone(),
            position,
            records: users,
            bytes: record.data.len(),
            reason,
        });
        hand.settle(users);
        self.lease.processed(users, record.data.len());
        Ok(())
    }
}
