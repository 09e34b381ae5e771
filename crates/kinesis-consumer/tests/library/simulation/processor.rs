//! A record processor that judges what it gets, and that is slow and fails on demand.

use kinesis_consumer::{
    Batch, Checkpoint, CheckpointError, Checkpointer, Position, ProcessorError, Record,
    RecordProcessor, ShardId, UnfitAggregate,
};
use tokio::{sync::oneshot, time::sleep};

use super::node::Life;

/// A processor of one shard in one worker's life.
pub(crate) struct Recording {
    life: Life,
    shard: ShardId,
    /// Works on whatever is cancelled, also for long after its lease is lost.
    is_deaf: bool,
    /// How many streams of that name came before the one that is read.
    generation: usize,
    /// The user records before this one are processed or covered by the checkpoint that it started
    /// at.
    next: usize,
    /// It said of those before this one that they are done, also where writing that down failed.
    acknowledged: usize,
    /// The last call failed: records come again.
    failed: bool,
    /// So often it may ask to be told of the shard's end again.
    waits_at_end: u32,
}

impl Recording {
    pub(crate) fn new(life: Life, shard: ShardId) -> Self {
        let (is_deaf, generation) = (life.happens(10), life.ledger.lock().current());
        Self {
            life,
            shard,
            is_deaf,
            generation,
            next: 0,
            acknowledged: 0,
            failed: false,
            waits_at_end: 4,
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
        if ledger.is_outdated {
            return;
        }
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
        let done = self.done();
        let ledger = self.life.ledger.lock();
        let is_lost = |ordinal| ledger.is_lost(&self.shard, ordinal);
        let jumps = (done..first).any(|ordinal| !is_lost(ordinal));
        drop(ledger);
        if jumps || (first < self.next && !self.failed) {
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

    /// The stream that is read may have been made anew. False: the record is of one that is
    /// deleted.
    fn is_current(&mut self, record: &Record) -> bool {
        let ledger = self.life.ledger.lock();
        let generation = ledger.generation(&record.sequence_number);
        if generation > self.generation {
            self.generation = generation;
            (self.next, self.acknowledged) = (0, 0);
        }
        generation == ledger.current()
    }

    /// Works for long, whoever waits for it, and says then that it is done. Returns that it is, to
    /// whoever waits still.
    async fn work_deaf(&self, last: Position, checkpointer: &Checkpointer) {
        let (life, shard, checkpointer) =
            (self.life.clone(), self.shard.clone(), checkpointer.clone());
        let (done, waits) = oneshot::channel();
        let time = life.below(2 * life.chaos().slow);
        let stray = life.clone();
        life.stray(async move {
            sleep(time).await;
            stray.running().await;
            if done.send(()).is_ok() || stray.is_terminating() {
                return;
            }
            let acknowledged = checkpointer.acknowledge_at(&last).await;
            let written = checkpointer.checkpoint_at(&last).await;
            let mut ledger = stray.ledger.lock();
            *ledger.events.entry("TooLate").or_default() += 1;
            if !ledger.is_outdated && (acknowledged.is_ok() || written.is_ok()) {
                let worker = &stray.worker;
                ledger.broke(format!(
                    "{worker} {shard}: a processor whose lease is lost checkpoints {last:?}"
                ));
            }
        });
        let _ = waits.await;
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
        let of = &batch.records[0].sequence_number;
        let is_current = self.is_current(&batch.records[0]);
        if is_current {
            self.judge_order(&ordinals);
        }
        self.life.running().await;
        let chaos = self.life.chaos();
        if self.is_deaf && !chaos.slow.is_zero() {
            let last = batch.records[batch.records.len() - 1].position();
            self.work_deaf(last, checkpointer).await;
        }
        if !is_current {
            return Ok(checkpointer.acknowledge().await?);
        }
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
                .process(&self.shard, of, ordinals[..done].iter().copied());
            if done > 0 && self.life.happens(50) {
                self.acknowledged = ordinals[done - 1] + 1;
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
            .process(&self.shard, of, ordinals.iter().copied());
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
            ledger.carried(&aggregate.sequence_number).collect()
        };
        if !self.is_current(aggregate) {
            return Ok(());
        }
        self.judge_order(&ordinals);
        if self.life.happens(self.life.chaos().failing) {
            self.failed = true;
            return self.fail();
        }
        self.failed = false;
        self.next = ordinals.len() + ordinals[0];
        let mut ledger = self.life.ledger.lock();
        ledger.process(
            &self.shard,
            &aggregate.sequence_number,
            ordinals.into_iter(),
        );
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
        let (users, is_outdated) = {
            let ledger = self.life.ledger.lock();
            (ledger.stream.users(&self.shard), ledger.is_outdated)
        };
        if self.done() != users && !is_outdated {
            self.broke(&format!("ended at record {} of {users}", self.next));
        }
        if self.waits_at_end > 0 && self.life.happens(30) {
            // Not yet.
            self.waits_at_end -= 1;
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
