//! A record processor that judges what it gets, and that is slow and fails on demand.

use kinesis_consumer::{
    Batch, Checkpoint, CheckpointError, Checkpointer, ProcessorError, Record, RecordProcessor,
    ShardId, UnfitAggregate,
};
use tokio::time::sleep;

use super::node::Life;

/// A processor of one shard in one worker's life.
pub(crate) struct Recording {
    life: Life,
    shard: ShardId,
    /// The user records before this one are processed or covered by the checkpoint that it started
    /// at.
    next: usize,
    /// It said of those before this one that they are done, also where writing that down failed.
    acknowledged: usize,
    /// The last call failed: records come again.
    failed: bool,
}

impl Recording {
    pub(crate) fn new(life: Life, shard: ShardId) -> Self {
        Self {
            life,
            shard,
            next: 0,
            acknowledged: 0,
            failed: false,
        }
    }

    fn broke(&self, what: &str) {
        let what = format!("{} {}: {what}", self.life.worker, self.shard);
        self.life.ledger.lock().broke(what);
    }

    /// Called before anything is awaited, so at the moment when the library was sure of the lease.
    fn judge_owner(&self, what: &str) {
        let owner = self
            .life
            .table
            .lease(&self.shard)
            .and_then(|lease| lease.owner);
        if owner.as_deref() != Some(self.life.worker.as_str()) && !self.life.is_stopped() {
            self.broke(&format!("{what} while {owner:?} has the lease"));
        }
    }

    fn judge_parents(&self) {
        let mut ledger = self.life.ledger.lock();
        for parent in ledger.stream.parents(&self.shard) {
            if let Some(ordinal) = ledger.unprocessed(&parent) {
                let shard = &self.shard;
                ledger.broke(format!(
                    "{shard} starts before its parent {parent} is processed: record {ordinal}"
                ));
            }
            if self
                .life
                .table
                .lease(&parent)
                .is_some_and(|lease| !lease.is_finished())
            {
                let shard = &self.shard;
                ledger.broke(format!(
                    "{shard} starts before its parent {parent} is finished"
                ));
            }
        }
    }

    fn judge_order(&self, ordinals: &[usize]) {
        let first = ordinals[0];
        if ordinals.iter().zip(first..).any(|(got, want)| *got != want) {
            self.broke(&format!("out of order: {ordinals:?}"));
        }
        if first > self.done() || (first < self.next && !self.failed) {
            self.broke(&format!("wants record {}, got {ordinals:?}", self.next));
        }
    }

    /// Of how many user records the library knows that they are done, at most.
    fn done(&self) -> usize {
        self.next.max(self.acknowledged).max(self.covered())
    }

    /// How many user records the stored checkpoint covers: it may have been written although its
    /// answer was lost.
    fn covered(&self) -> usize {
        let stored = self
            .life
            .table
            .lease(&self.shard)
            .map(|lease| lease.checkpoint);
        let covered =
            stored.and_then(|stored| self.life.ledger.lock().stream.covered(&self.shard, &stored));
        covered.unwrap_or(0)
    }

    /// Fails in one of the ways user code does.
    fn fail(&self) -> Result<(), ProcessorError> {
        if self.life.happens(30) {
            // Nobody is told who panicked: another processor takes its place.
            let mut ledger = self.life.ledger.lock();
            ledger.stopped(&self.shard, &self.life.name);
            drop(ledger);
            // Unlike panic!, this does not print.
            std::panic::resume_unwind(Box::new("by chance"));
        }
        Err("by chance".into())
    }
}

impl RecordProcessor for Recording {
    async fn initialize(&mut self, checkpoint: &Checkpoint) -> Result<(), ProcessorError> {
        self.judge_owner("starts");
        self.life.running().await;
        if self.life.happens(self.life.chaos().failing) {
            return self.fail();
        }
        self.judge_parents();
        let mut ledger = self.life.ledger.lock();
        ledger
            .alive
            .entry(self.shard.clone())
            .or_default()
            .insert(self.life.name.clone());
        self.next = ledger.stream.covered(&self.shard, checkpoint).unwrap_or(0);
        Ok(())
    }

    async fn process_records(
        &mut self,
        batch: &Batch,
        checkpointer: &Checkpointer,
    ) -> Result<(), ProcessorError> {
        self.judge_owner("delivers");
        let ordinals: Vec<_> = batch
            .records
            .iter()
            .map(|record| u64::from_be_bytes(record.data[..].try_into().unwrap()) as usize)
            .collect();
        self.judge_order(&ordinals);
        self.life.running().await;
        let chaos = self.life.chaos();
        if self.life.happens(30) {
            sleep(self.life.below(chaos.slow)).await;
        }
        self.life.running().await;
        if self.life.happens(chaos.failing) {
            self.failed = true;
            let done = self.life.number(0..=ordinals.len());
            self.life
                .ledger
                .lock()
                .process(&self.shard, ordinals[..done].iter().copied());
            if done > 0 && self.life.happens(50) {
                checkpointer
                    .checkpoint_at(&batch.records[done - 1].position())
                    .await?;
                self.next = self.next.max(ordinals[done - 1] + 1);
            }
            return self.fail();
        }
        self.life
            .ledger
            .lock()
            .process(&self.shard, ordinals.iter().copied());
        let last = ordinals[ordinals.len() - 1];
        self.failed = true;
        // The rest is acknowledged later.
        if self.life.happens(40) {
            self.acknowledged = last + 1;
            checkpointer.checkpoint().await?;
        } else if self.life.happens(50) {
            self.acknowledged = last + 1;
            checkpointer.acknowledge().await?;
        }
        self.failed = false;
        self.next = last + 1;
        Ok(())
    }

    async fn reject_aggregate(
        &mut self,
        aggregate: &Record,
        _: &UnfitAggregate,
        _: &Checkpointer,
    ) -> Result<(), ProcessorError> {
        self.judge_owner("rejects");
        let ordinals: Vec<_> = {
            let ledger = self.life.ledger.lock();
            ledger.stream.carried(&aggregate.sequence_number).collect()
        };
        self.judge_order(&ordinals);
        if self.life.happens(self.life.chaos().failing) {
            self.failed = true;
            return self.fail();
        }
        self.failed = false;
        self.next = ordinals.len() + ordinals[0];
        let mut ledger = self.life.ledger.lock();
        ledger.process(&self.shard, ordinals.into_iter());
        Ok(())
    }

    async fn lease_lost(&mut self) {
        self.life
            .ledger
            .lock()
            .stopped(&self.shard, &self.life.name);
    }

    async fn shard_ended(&mut self, checkpointer: &Checkpointer) -> Result<(), ProcessorError> {
        self.judge_owner("ends");
        self.life.running().await;
        if self.life.happens(self.life.chaos().failing) {
            return self.fail();
        }
        let users = self.life.ledger.lock().stream.users(&self.shard);
        if self.done() != users {
            self.broke(&format!("ended at record {} of {users}", self.next));
        }
        if self.life.happens(30) {
            // Not yet.
            return Ok(());
        }
        checkpointer.acknowledge().await?;
        self.life
            .ledger
            .lock()
            .stopped(&self.shard, &self.life.name);
        Ok(())
    }

    async fn shutdown_requested(
        &mut self,
        checkpointer: &Checkpointer,
    ) -> Result<(), ProcessorError> {
        self.life.running().await;
        self.life
            .ledger
            .lock()
            .stopped(&self.shard, &self.life.name);
        match checkpointer.checkpoint().await {
            Ok(()) | Err(CheckpointError::LeaseLost) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
