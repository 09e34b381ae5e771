//! A lease in this worker's hands: all writes to it go through here, one at a time, so that its
//! counter is always known.
//!
//! A write that is known to have happened makes the lease ours for the failover time, from the
//! moment the write began: others, who judge by seeing the counter move, cannot take it earlier.
//! After that time [`HeldLease::confirm`] delivers nothing before a renewal has shown that nobody
//! took it meanwhile. An answer can get lost on the way, or the SDK can try twice: a conflict with
//! a counter one ahead and our name and process on it is our own earlier write (KCL judges so on
//! renewal, `DynamoDBLeaseRefresher.java`).
//!
//! What the row says of the checkpoint is not believed against the holder, who alone may move it.
//! Whatever somebody else wrote there, further on, further back or unreadable, is overwritten with
//! where the holder stands: a checkpoint that is too far on would skip records.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    sync::{Mutex as AsyncMutex, Notify},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    edge::lease_table::TableError,
    face::{event::Event, pace::renew_interval},
    model::{keys::LeaseKey, lease::Lease, sequence::Checkpoint},
    run::context::{Context, backoff, pause},
};

mod giving;
mod handle;
mod stored;
mod throughput;
mod whose;

pub(crate) use giving::Given;
use stored::{Stored, Written};
use throughput::Throughput;

#[derive(Debug)]
pub(crate) struct HeldLease {
    context: Arc<Context>,
    key: LeaseKey,
    stored: AsyncMutex<Stored>,
    written: Mutex<Written>,
    /// When it is renewed first, so that the renewals of a worker's leases are spread.
    first_renewal: Instant,
    pending: Mutex<Pending>,
    throughput: Mutex<Throughput>,
    /// Wakes the renewal: something is pending that cannot wait for its turn.
    hurry: Notify,
    over: CancellationToken,
    namesake: AtomicBool,
}

/// What is acknowledged and not written yet.
#[derive(Debug, Default)]
struct Pending {
    to: Option<Checkpoint>,
    /// When the first of it was acknowledged.
    since: Option<Instant>,
    /// Records processed since the last checkpoint.
    records: u64,
}

impl HeldLease {
    /// The lease as stored by a write that began at `written`; to be renewed so long after that.
    pub(crate) fn new(
        context: Arc<Context>,
        stored: Lease,
        written: Instant,
        first_renewal: Duration,
    ) -> Self {
        let failover = stored.said_failover();
        let failover = failover.unwrap_or_else(|| context.failover());
        Self {
            context,
            key: stored.key.clone(),
            stored: AsyncMutex::new(Stored::new(stored)),
            written: Mutex::new(Written {
                began: written,
                failover,
            }),
            first_renewal: written + first_renewal,
            pending: Mutex::default(),
            throughput: Mutex::default(),
            hurry: Notify::new(),
            over: CancellationToken::new(),
            namesake: AtomicBool::new(false),
        }
    }

    /// The newest known copy. Waits while a write is under way.
    pub(crate) async fn copy(&self) -> Lease {
        self.stored.lock().await.lease.clone()
    }

    /// The newest known copy, unless a write is under way.
    pub(crate) fn try_copy(&self) -> Option<Lease> {
        self.stored
            .try_lock()
            .ok()
            .map(|stored| stored.lease.clone())
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.is_cancelled()
    }

    /// Waits until the lease is lost or given up.
    pub(crate) async fn ended(&self) {
        self.over.cancelled().await;
    }

    /// Ends the lease: nothing is written any more.
    pub(crate) fn close(&self) {
        self.over.cancel();
    }

    /// When the last write began that is known to have happened, and for how long the lease is
    /// ours by it: as it says, or less where others do not heed that.
    fn written(&self) -> Written {
        let written = *self.written.lock().unwrap_or_else(PoisonError::into_inner);
        Written {
            failover: written.failover.min(self.context.failover()),
            ..written
        }
    }

    fn set_written(&self, began: Instant, failover: Option<Duration>) {
        let failover = failover.unwrap_or_else(|| self.context.failover());
        *self.written.lock().unwrap_or_else(PoisonError::into_inner) = Written { began, failover };
    }

    /// Is it ours whoever judges? Somebody may be there, not seen yet, who does not heed what the
    /// lease says.
    fn is_sure(&self) -> bool {
        let written = self.written();
        let failover = written.failover.min(self.context.config.unsaid_failover());
        !self.is_over() && written.began.elapsed() < failover
    }

    fn lose(&self) {
        if !self.is_over() {
            self.over.cancel();
            self.context.report(Event::LeaseLost {
                shard: self.key.clone(),
            });
        }
    }

    /// Renews until the lease is over, and writes what is acknowledged. A checkpoint counts as a
    /// renewal.
    pub(crate) async fn keep(self: Arc<Self>) {
        let mut failures = self.backoff();
        loop {
            tokio::select! {
                biased;
                () = self.ended() => return,
                () = sleep_until(self.due()) => {}
                () = self.hurry.notified() => {}
            }
            let mut stored = self.stored.lock().await;
            if self.is_over() || Instant::now() < self.due() {
                continue;
            }
            let to = self.pending_beyond(&stored);
            match self.write(&mut stored, to.as_ref()).await {
                Ok(()) => failures = self.backoff(),
                Err(TableError::Conflict(_)) => return,
                Err(error) => {
                    drop(stored);
                    let operation = if to.is_some() { "checkpoint" } else { "renew" };
                    self.context
                        .table_failed(Some(&self.key), operation, &error);
                    pause(&mut failures).await;
                }
            }
        }
    }

    /// When the lease is written next.
    pub(crate) fn due(&self) -> Instant {
        let config = &self.context.config;
        let written = self.written();
        let renewal = match written.began < self.first_renewal {
            true => self.first_renewal,
            false => written.began + renew_interval(written.failover),
        };
        let pending = self.pending();
        match (&pending.to, pending.since) {
            (Some(_), Some(since)) if pending.records >= config.checkpoint_records => since,
            (Some(_), Some(since)) => renewal.min(since + config.times().checkpoint_interval),
            _ => renewal,
        }
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is acknowledged beyond the stored checkpoint.
    fn pending_beyond(&self, stored: &Stored) -> Option<Checkpoint> {
        let to = self.pending().to.clone();
        to.filter(|to| *to > stored.lease.checkpoint)
    }

    fn throughput(&self) -> MutexGuard<'_, Throughput> {
        self.throughput
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// So many records, of so many bytes, were processed, acknowledged or not.
    pub(crate) fn processed(&self, records: usize, bytes: usize) {
        self.throughput().count(bytes);
        let mut pending = self.pending();
        pending.records += records as u64;
        if pending.to.is_some() && pending.records >= self.context.config.checkpoint_records {
            self.hurry.notify_one();
        }
    }

    /// Waits until the lease is surely ours. False: it is over.
    pub(crate) async fn confirm(&self) -> bool {
        let mut failures = self.backoff();
        loop {
            if self.is_sure() {
                return true;
            }
            let mut stored = self.stored.lock().await;
            if self.is_over() {
                return false;
            }
            if self.is_sure() {
                return true;
            }
            match self.write(&mut stored, None).await {
                Ok(()) => {}
                Err(TableError::Conflict(_)) => return false,
                Err(error) => {
                    drop(stored);
                    self.context.table_failed(Some(&self.key), "renew", &error);
                    pause(&mut failures).await;
                }
            }
        }
    }

    /// One renewal, or one checkpoint. `Conflict`: the lease is lost.
    async fn write(
        &self,
        stored: &mut Stored,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<(), TableError> {
        loop {
            let began = Instant::now();
            let attempted = *stored.attempted.get_or_insert(began);
            stored.lease.busy_permille = self.context.load.permille();
            stored.lease.failover_millis = Some(self.context.failover_millis());
            let throughput = self.throughput().after(self.context.renew_interval());
            let is_led = self.context.leadership.is_led();
            let share = || self.context.load.share(&self.key);
            let by_load = self.context.deals_by_load();
            // Until it is measured, as the holder before measured it.
            let before = stored.lease.share_permille.unwrap_or(0);
            stored.lease.share_permille = by_load.then(|| share().unwrap_or(before));
            stored.lease.throughput = (is_led || by_load).then_some(throughput);
            let stands = || stored.lease.checkpoint.clone();
            let to = checkpoint.cloned();
            let to = to.or_else(|| stored.found.is_some().then(stands));
            let answer = match &to {
                Some(to) => {
                    stored.tried = stored.tried.take().max(Some(to.clone()));
                    self.context.table.checkpoint(&stored.lease, to).await
                }
                None => self.context.table.renew(&stored.lease).await,
            };
            match answer {
                Ok(lease) => {
                    self.know(stored, lease, began);
                    if stored.found.is_none() {
                        return self.pin(stored).await;
                    }
                }
                Err(TableError::Spoiled(error)) => {
                    // That is done, and the counter moved.
                    stored.lease.counter += 1;
                    stored.attempted = None;
                    self.set_written(began, None);
                    let wrote_checkpoint = to.is_some();
                    stored.found.get_or_insert_with(|| error.to_string());
                    if wrote_checkpoint {
                        return Err(TableError::Spoiled(error));
                    }
                }
                Err(TableError::Conflict(current)) => match self.current(current).await? {
                    Some(lease) if self.is_ours(&stored.lease, &lease) => {
                        self.know(stored, lease, attempted);
                        let is_there = |wanted: &Checkpoint| *wanted <= stored.lease.checkpoint;
                        if stored.found.is_none() && checkpoint.is_none_or(is_there) {
                            return Ok(());
                        }
                    }
                    // A KCL 3 leader began to move it, and has not given it away yet.
                    Some(lease) if self.begins_to_move(&stored.lease, &lease) => {
                        stored.lease.owner = lease.owner;
                        stored.lease.checkpoint_owner = lease.checkpoint_owner;
                        self.context.rescan.notify_one();
                    }
                    // Somebody put the item back as it was read a while ago, with changes.
                    Some(lease) if self.is_older(&stored.lease, &lease) => {
                        let found = format!("{} of some writes ago", lease.checkpoint);
                        stored.found.get_or_insert(found);
                        stored.lease.counter = lease.counter;
                    }
                    current => {
                        let is_namesakes = |lease: &Lease| self.is_namesakes(&stored.lease, lease);
                        let namesake = current.as_ref().is_some_and(is_namesakes);
                        self.namesake.store(namesake, Ordering::Relaxed);
                        self.lose();
                        return Err(TableError::Conflict(current.map(Box::new)));
                    }
                },
                Err(error) => return Err(error),
            }
        }
    }

    /// A checkpoint write takes `latestSince` away, also where it is LATEST that it writes.
    async fn pin(&self, stored: &mut Stored) -> Result<(), TableError> {
        let Some(since) = stored.unpinned.take() else {
            return Ok(());
        };
        match self.context.table.remember_latest(&self.key, since).await {
            Ok(()) | Err(TableError::Conflict(_)) => Ok(()),
            Err(error) => {
                stored.unpinned = Some(since);
                Err(error)
            }
        }
    }

    /// Makes the row at LATEST say that it stands since then, whatever it says.
    pub(crate) async fn pin_again(&self, since: Timestamp) -> Result<(), TableError> {
        let mut stored = self.stored.lock().await;
        if self.is_over() || stored.lease.checkpoint != Checkpoint::Latest {
            return Ok(());
        }
        stored.lease.latest_since = Some(since);
        self.write(&mut stored, Some(&Checkpoint::Latest)).await
    }

    /// Takes note that the table has the lease so, by a write of ours that began at `began` or
    /// later.
    fn know(&self, stored: &mut Stored, mut lease: Lease, began: Instant) {
        let found = stored.found_in(&mut lease);
        if let (None, Some(before)) = (&found, stored.found.take()) {
            self.context.report(Event::CheckpointPutBack {
                shard: self.key.clone(),
                found: before,
                checkpoint: lease.checkpoint.clone(),
            });
        }
        let mut unpinned = None;
        if lease.checkpoint == Checkpoint::Latest && lease.latest_since.is_none() {
            lease.latest_since = stored.lease.latest_since;
            unpinned = lease.latest_since;
        }
        let request = |lease: &Lease| {
            let has = (lease.handover_has, lease.handover_load);
            (lease.handover_to.clone(), has)
        };
        if request(&lease) != request(&stored.lease) {
            self.context.fleet.request(lease.clone());
            // An earlier version asks, which does not say what it has.
            if lease.handover_to.is_some() && lease.handover_has.is_none() {
                self.context.rescan.notify_one();
            }
        }
        if lease.checkpoint_owner != stored.lease.checkpoint_owner {
            self.context.rescan.notify_one();
        }
        if !lease.news.is_empty() {
            self.context.fleet.tell(&lease.key, &lease.news);
        }
        self.context.known().learn(&lease);
        // One of them shows that the others can be made, too.
        for write in ["renew", "checkpoint", "release"] {
            self.context.succeeded(write);
        }
        let mut pending = self.pending();
        if pending
            .to
            .as_ref()
            .is_some_and(|to| *to <= lease.checkpoint)
        {
            *pending = Pending::default();
        }
        let moved = lease.checkpoint != stored.lease.checkpoint;
        if moved {
            pending.records = 0;
        }
        drop(pending);
        if moved {
            self.context.report(Event::Checkpointed {
                shard: self.key.clone(),
                checkpoint: lease.checkpoint.clone(),
            });
        }
        let failover = lease.said_failover();
        *stored = Stored {
            found,
            unpinned,
            ..Stored::new(lease)
        };
        self.set_written(began, failover);
    }

    fn backoff(&self) -> backon::ExponentialBackoff {
        backoff(Duration::from_millis(100), self.context.failover() / 5)
    }
}
