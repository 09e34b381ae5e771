//! Which leases this worker holds: it scans the table, takes leases, asks for them and hands them
//! over. Each held lease has a renewal task and a shard consumer task. Neither waits for the other,
//! and the coordinator waits for none of them.
//!
//! The table is scanned each 20 s by a lone worker and each 2 s among others, when a lease expires,
//! when somebody asks for one of ours, and when a shard ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, stream};
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinError, JoinSet},
    time::{Instant, sleep_until, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    decide::assignment::{Action, Limits, Observations, grants, plan},
    edge::lease_table::TableError,
    face::{checkpointer::LeaseHandle, error::Error, event::Event},
    model::{keys::LeaseKey, lease::Lease, sequence::Checkpoint},
    run::{
        context::Context,
        held_lease::HeldLease,
        shard_consumer::{Ended, ShardConsumer, Stop},
    },
};

/// Concurrent takes.
const CONCURRENCY: usize = 16;
/// The time after the shutdown deadline in which shard consumers give their leases up; then the
/// coordinator does.
const LAST_GRACE: Duration = Duration::from_secs(1);

pub(crate) struct Coordinator {
    context: Arc<Context>,
    observations: Observations,
    held: BTreeMap<LeaseKey, Held>,
    consumers: JoinSet<Ended>,
}

struct Held {
    lease: Arc<HeldLease>,
    stop: watch::Sender<Option<Stop>>,
    consumer: AbortHandle,
    _renewal: AbortOnDropHandle<()>,
}

impl Coordinator {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self {
            observations: Observations::new(context.config.failover_time),
            context,
            held: BTreeMap::new(),
            consumers: JoinSet::new(),
        }
    }

    /// Runs until `stopping`, or until a shard consumer or the auditor says that the worker must
    /// stop. Call [`Self::stop`] then.
    pub(crate) async fn run(
        &mut self,
        stopping: &CancellationToken,
        mut auditing: AbortOnDropHandle<Error>,
    ) -> Result<(), Error> {
        let mut next_scan = Instant::now();
        loop {
            tokio::select! {
                biased;
                () = stopping.cancelled() => return Ok(()),
                stopped = &mut auditing => return match stopped {
                    Ok(error) => Err(error),
                    Err(panic) => std::panic::resume_unwind(panic.into_panic()),
                },
                Some(ended) = self.consumers.join_next_with_id() => {
                    self.ended(ended).await?;
                    next_scan = Instant::now();
                }
                () = self.context.rescan.notified() => next_scan = Instant::now(),
                () = sleep_until(next_scan) => {
                    // Takes are never broken off: a lease that was taken must be known, or nobody
                    // releases it.
                    let scanned = tokio::select! {
                        biased;
                        () = stopping.cancelled() => return Ok(()),
                        scanned = self.context.table.scan() => scanned,
                    };
                    next_scan = self.scanned(scanned).await;
                }
            }
        }
    }

    /// Stops every shard consumer and gives the leases up, all at once.
    pub(crate) async fn stop(&mut self) {
        let deadline = Instant::now() + self.context.config.shutdown_deadline;
        for held in self.held.values() {
            held.stop.send_replace(Some(Stop::Shutdown(deadline)));
        }
        let all_ended = async { while self.consumers.join_next().await.is_some() {} };
        if timeout_at(deadline + LAST_GRACE, all_ended).await.is_err() {
            // User code that blocks its thread cannot be dropped; its leases can go.
            self.consumers.abort_all();
            let leases = self.held.values().map(|held| Arc::clone(&held.lease));
            let releases = leases.map(|lease| release(Arc::clone(&self.context), lease));
            futures::future::join_all(releases).await;
        }
        self.held.clear();
    }

    // === the scan ===

    /// Returns when to scan next.
    async fn scanned(&mut self, scanned: Result<Vec<Lease>, TableError>) -> Instant {
        let now = Instant::now();
        let mut leases = match scanned {
            Ok(leases) => leases,
            Err(error) => {
                self.context.table_failed(None, "scan", &error);
                return now + self.context.config.peer_scan_interval;
            }
        };
        self.observations.observe(&leases, now);
        for lease in &mut leases {
            // A scan lags behind what we know of our own leases.
            if let Some(own) = self
                .held
                .get(&lease.key)
                .and_then(|held| held.lease.try_copy())
            {
                let newer = own.counter > lease.counter;
                let handover_to = if newer {
                    own.handover_to.clone()
                } else {
                    lease.handover_to.take()
                };
                if newer {
                    *lease = own;
                }
                lease.handover_to = handover_to;
            }
        }
        self.grant(&leases, now);
        let all_done = self.act(&leases, now).await;
        self.next_scan(&leases, all_done, now)
    }

    fn grant(&self, leases: &[Lease], now: Instant) {
        let leaving = self
            .held
            .iter()
            .filter_map(|(key, held)| match &*held.stop.borrow() {
                Some(Stop::HandOver(to)) => Some((key.clone(), to.clone())),
                _ => None,
            });
        let (me, held) = (&self.context.config.worker_id, self.held_keys());
        for (key, to) in grants(
            leases,
            &self.observations,
            me,
            &held,
            &leaving.collect(),
            now,
        ) {
            if let Some(held) = self.held.get(&key) {
                held.stop.send_replace(Some(Stop::HandOver(to)));
            }
        }
    }

    /// Takes and asks as planned. False: a race was lost, or a call failed.
    async fn act(&mut self, leases: &[Lease], now: Instant) -> bool {
        let config = &self.context.config;
        let limits = Limits {
            max_leases: config.max_leases,
            max_steals: config.max_steals,
        };
        let actions = plan(
            leases,
            &self.observations,
            &config.worker_id,
            &self.held_keys(),
            limits,
            now,
        );
        let by_key: BTreeMap<_, _> = leases.iter().map(|lease| (&lease.key, lease)).collect();
        let mut takes = Vec::new();
        let mut all_done = true;
        for action in actions {
            match action {
                Action::Take(key) => {
                    takes.extend(by_key.get(&key).map(|lease| ((*lease).clone(), false)))
                }
                Action::Steal(key) => {
                    takes.extend(by_key.get(&key).map(|lease| ((*lease).clone(), true)))
                }
                Action::Ask(key) => {
                    if let Some(lease) = by_key.get(&key) {
                        all_done &= self.ask(lease).await;
                    }
                }
            }
        }
        let context = Arc::clone(&self.context);
        let mut taken = stream::iter(takes)
            .map(move |(lease, steal)| take(Arc::clone(&context), lease, steal))
            .buffer_unordered(CONCURRENCY);
        while let Some((lease, steal, began, answer)) = taken.next().await {
            match answer {
                Ok(stored) => {
                    if steal {
                        self.observations.stole(&lease.key, began);
                    }
                    self.start(stored, lease.holder().map(str::to_owned), began);
                }
                Err(TableError::Conflict(_)) => all_done = false,
                Err(error) => {
                    all_done = false;
                    self.context.table_failed(Some(&lease.key), "take", &error);
                }
            }
        }
        all_done
    }

    async fn ask(&self, lease: &Lease) -> bool {
        match self
            .context
            .table
            .ask(lease, &self.context.config.worker_id)
            .await
        {
            Ok(()) => {
                self.context.report(Event::HandoverAsked {
                    shard: lease.key.clone(),
                    holder: lease.holder().unwrap_or_default().to_owned(),
                });
                true
            }
            Err(TableError::Conflict(_)) => false,
            Err(error) => {
                self.context.table_failed(Some(&lease.key), "ask", &error);
                false
            }
        }
    }

    fn next_scan(&self, leases: &[Lease], all_done: bool, now: Instant) -> Instant {
        let config = &self.context.config;
        let me = config.worker_id.as_str();
        let is_peers = |lease: &Lease| {
            !lease.is_finished() && lease.holder().is_some_and(|holder| holder != me)
        };
        let alone = all_done && !leases.is_empty() && !leases.iter().any(is_peers);
        let regular = now
            + if alone {
                config.scan_interval
            } else {
                config.peer_scan_interval
            };
        self.observations
            .next_expiry(me, now)
            .map_or(regular, |expiry| expiry.min(regular))
    }

    // === held leases ===

    /// The leases that are ours: user code may go on with one that was lost.
    fn held_keys(&self) -> BTreeSet<LeaseKey> {
        let ours = self.held.iter().filter(|(_, held)| !held.lease.is_over());
        ours.map(|(key, _)| key.clone()).collect()
    }

    /// Starts the tasks of a lease. `stored`: as the take that began at `began` left it.
    fn start(&mut self, stored: Lease, from: Option<String>, began: Instant) {
        self.context.report(Event::LeaseAcquired {
            shard: stored.key.clone(),
            from,
        });
        let lease = Arc::new(HeldLease::new(
            Arc::clone(&self.context),
            stored.clone(),
            began,
        ));
        let (stop, stopped) = watch::channel(None);
        let consumer = ShardConsumer::new(
            Arc::clone(&self.context),
            Arc::clone(&lease),
            &stored,
            stopped,
        );
        let held = Held {
            consumer: self.consumers.spawn(consumer.run()),
            _renewal: AbortOnDropHandle::new(tokio::spawn(Arc::clone(&lease).keep())),
            lease,
            stop,
        };
        self.held.insert(stored.key, held);
        self.context.load.hold(self.held.len());
    }

    async fn ended(
        &mut self,
        ended: Result<(tokio::task::Id, Ended), JoinError>,
    ) -> Result<(), Error> {
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let key = self
            .held
            .iter()
            .find(|(_, held)| held.consumer.id() == id)
            .map(|(key, _)| key.clone());
        if let Some(held) = key.and_then(|key| self.held.remove(&key)) {
            // Checkpointers that user code kept refuse from now on.
            held.lease.close();
            self.context.load.hold(self.held.len());
        }
        match ended {
            Ok((_, Ended::Finished(children))) => self.start_children(children).await,
            Ok((_, Ended::Failed(error))) => return Err(error),
            Ok((_, Ended::Lost | Ended::GivenUp)) => {}
            // A bug of ours: the lease expires, and whoever takes it goes on from the checkpoint.
            Err(error) => tracing::error!(%error, "a shard consumer ended without a result"),
        }
        Ok(())
    }

    /// Whoever finished a parent takes its children at once, unless another worker was quicker or
    /// another parent is unfinished.
    async fn start_children(&mut self, children: Vec<Lease>) {
        for child in children {
            let unfinished = self.held.len();
            if child.owner.is_some()
                || child.checkpoint == Checkpoint::ShardEnd
                || unfinished >= self.context.config.max_leases
            {
                continue;
            }
            match self.take_child(&child).await {
                Ok(()) | Err(TableError::Conflict(_)) => {}
                // The next scan finds it.
                Err(error) => self.context.table_failed(Some(&child.key), "take", &error),
            }
        }
    }

    async fn take_child(&mut self, child: &Lease) -> Result<(), TableError> {
        for parent in child.parent_keys() {
            if self
                .context
                .table
                .read(&parent)
                .await?
                .is_some_and(|parent| !parent.is_finished())
            {
                return Ok(());
            }
        }
        let began = Instant::now();
        let stored = self
            .context
            .table
            .take(child, &self.context.config.worker_id)
            .await?;
        self.start(stored, None, began);
        Ok(())
    }
}

async fn take(
    context: Arc<Context>,
    lease: Lease,
    steal: bool,
) -> (Lease, bool, Instant, Result<Lease, TableError>) {
    let began = Instant::now();
    let answer = context.table.take(&lease, &context.config.worker_id).await;
    (lease, steal, began, answer)
}

async fn release(context: Arc<Context>, lease: Arc<HeldLease>) {
    if lease.give_up(None).await {
        let shard = lease.key().clone();
        context.report(Event::LeaseReleased { shard });
    }
}
