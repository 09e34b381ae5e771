//! A lease in this worker's hands: all writes to it go through here, one at a time, so that its counter is always known.
//!
//! A write that is known to have happened makes the lease ours for the failover time, from the moment the write began: others, who
//! judge by seeing the counter move, cannot take it earlier. After that time [`HeldLease::confirm`] delivers nothing before a
//! renewal has shown that nobody took it meanwhile. An answer can get lost on the way, or the SDK can try twice: a conflict with a
//! counter one ahead and our name on it is our own earlier write (KCL judges so on renewal, `DynamoDBLeaseRefresher.java`).

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Mutex as AsyncMutex,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    checkpointer::CheckpointError,
    context::{Context, backoff, pause},
    event::Event,
    lease::Lease,
    lease_table::TableError,
    sequence::Checkpoint,
    shard::ShardId,
};

#[derive(Debug)]
pub(crate) struct HeldLease {
    context: Arc<Context>,
    key: ShardId,
    stored: AsyncMutex<Lease>,
    written: Mutex<Instant>,
    over: CancellationToken,
}

impl HeldLease {
    /// The lease as stored by a write that began at `written`.
    pub(crate) fn new(context: Arc<Context>, stored: Lease, written: Instant) -> Self {
        Self {
            context,
            key: stored.key.clone(),
            stored: AsyncMutex::new(stored),
            written: Mutex::new(written),
            over: CancellationToken::new(),
        }
    }

    pub(crate) fn key(&self) -> &ShardId {
        &self.key
    }

    /// The newest known copy. Waits while a write is under way.
    pub(crate) async fn copy(&self) -> Lease {
        self.stored.lock().await.clone()
    }

    /// The newest known copy, unless a write is under way.
    pub(crate) fn try_copy(&self) -> Option<Lease> {
        self.stored.try_lock().ok().map(|lease| lease.clone())
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.is_cancelled()
    }

    /// Waits until the lease is lost or given up.
    pub(crate) async fn over(&self) {
        self.over.cancelled().await;
    }

    /// No write is possible any more.
    pub(crate) fn close(&self) {
        self.over.cancel();
    }

    fn written(&self) -> Instant {
        *self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_sure(&self) -> bool {
        !self.is_over() && self.written().elapsed() < self.context.config.failover_time
    }

    fn lose(&self) {
        if !self.is_over() {
            self.over.cancel();
            self.context.tell(Event::LeaseLost {
                shard: self.key.clone(),
            });
        }
    }

    /// Renews until the lease is over. A checkpoint counts as a renewal.
    pub(crate) async fn keep(self: Arc<Self>) {
        let interval = self.context.config.renew_interval();
        let mut failures = self.backoff();
        loop {
            tokio::select! {
                biased;
                () = self.over() => return,
                () = sleep_until(self.written() + interval) => {}
            }
            let mut lease = self.stored.lock().await;
            if self.is_over() || self.written().elapsed() < interval {
                continue;
            }
            match self.write(&mut lease, None).await {
                Ok(()) => failures = self.backoff(),
                Err(TableError::Conflict(_)) => return,
                Err(error) => {
                    drop(lease);
                    self.context.table_failed(Some(&self.key), "renew", &error);
                    pause(&mut failures).await;
                }
            }
        }
    }

    /// Waits until the lease is surely ours. False: it is over.
    pub(crate) async fn confirm(&self) -> bool {
        let mut failures = self.backoff();
        loop {
            if self.is_sure() {
                return true;
            }
            let mut lease = self.stored.lock().await;
            if self.is_over() {
                return false;
            }
            if self.is_sure() {
                return true;
            }
            match self.write(&mut lease, None).await {
                Ok(()) => {}
                Err(TableError::Conflict(_)) => return false,
                Err(error) => {
                    drop(lease);
                    self.context.table_failed(Some(&self.key), "renew", &error);
                    pause(&mut failures).await;
                }
            }
        }
    }

    /// Writes `to` where it is beyond the stored checkpoint; an equal or earlier one is left to the caller to judge.
    /// Trouble with the table is sat out while the lease is surely ours.
    pub(crate) async fn checkpoint(
        &self,
        to: &Checkpoint,
        allowed: impl FnOnce(&Checkpoint) -> Result<(), CheckpointError> + Send,
    ) -> Result<(), CheckpointError> {
        let mut lease = self.stored.lock().await;
        if self.is_over() {
            return Err(CheckpointError::LeaseLost);
        }
        allowed(&lease.checkpoint)?;
        let mut failures = self.backoff();
        while *to > lease.checkpoint {
            match self.write(&mut lease, Some(to)).await {
                Ok(()) => {
                    self.context.tell(Event::Checkpointed {
                        shard: self.key.clone(),
                        checkpoint: to.clone(),
                    });
                }
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

    /// Gives the lease to `to`, or to whoever takes it. False: it was lost before that. At the latest when the failover time is
    /// over there is nothing left to give.
    pub(crate) async fn give_up(&self, to: Option<&str>) -> bool {
        let mut lease = self.stored.lock().await;
        if self.is_over() {
            return false;
        }
        let mut failures = self.backoff();
        loop {
            let answer = match to {
                Some(worker) => self.context.table.hand_over(&lease, worker).await,
                None => self.context.table.release(&lease).await,
            };
            let failure = match answer {
                Ok(()) => break,
                Err(TableError::Conflict(current)) => match self.current(current).await {
                    Ok(Some(current)) if self.is_ours(&lease, &current) => {
                        *lease = current;
                        continue;
                    }
                    Ok(Some(current))
                        if current.counter == lease.counter + 1
                            && current.owner.as_deref() == to =>
                    {
                        break;
                    }
                    Ok(_) => {
                        self.lose();
                        return false;
                    }
                    Err(failure) => failure,
                },
                Err(failure) => failure,
            };
            self.context
                .table_failed(Some(&self.key), "release", &failure);
            if !self.is_sure() || matches!(failure, TableError::Permanent(_)) {
                break;
            }
            pause(&mut failures).await;
        }
        self.close();
        true
    }

    /// One renewal, or one checkpoint. `Conflict`: the lease is lost.
    async fn write(
        &self,
        lease: &mut Lease,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<(), TableError> {
        loop {
            let began = Instant::now();
            let answer = match checkpoint {
                Some(checkpoint) => self.context.table.checkpoint(lease, checkpoint).await,
                None => self.context.table.renew(lease).await,
            };
            match answer {
                Ok(stored) => {
                    if stored.handover_to.is_some() && stored.handover_to != lease.handover_to {
                        self.context.rescan.notify_one();
                    }
                    *lease = stored;
                    *self.written.lock().unwrap_or_else(PoisonError::into_inner) = began;
                    return Ok(());
                }
                Err(TableError::Conflict(current)) => match self.current(current).await? {
                    // When it was written is unknown, so it proves nothing about now: write again.
                    Some(current) if self.is_ours(lease, &current) => {
                        *lease = current;
                        if checkpoint.is_some_and(|wanted| *wanted <= lease.checkpoint) {
                            return Ok(());
                        }
                    }
                    current => {
                        self.lose();
                        return Err(TableError::Conflict(current.map(Box::new)));
                    }
                },
                Err(error) => return Err(error),
            }
        }
    }

    async fn current(&self, told: Option<Box<Lease>>) -> Result<Option<Lease>, TableError> {
        match told {
            Some(lease) => Ok(Some(*lease)),
            None => self.context.table.read(&self.key).await,
        }
    }

    /// Did an earlier write of ours, whose answer we never saw, make `known` into `current`?
    fn is_ours(&self, known: &Lease, current: &Lease) -> bool {
        current.counter == known.counter + 1
            && current.is_native()
            && current.holder() == Some(self.context.config.worker_id.as_str())
    }

    fn backoff(&self) -> backon::ExponentialBackoff {
        backoff(
            Duration::from_millis(100),
            self.context.config.failover_time / 5,
        )
    }
}
