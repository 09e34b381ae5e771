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

use futures::{
    StreamExt,
    future::{join_all, join4},
    stream,
};
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinError, JoinSet},
    time::{Instant, sleep_until, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    decide::{
        assignment::{Action, Limits, Observations, challenges, dead_requests, grants, plan, void},
        kcl3::Regime,
    },
    edge::lease_table::{Scan, TableError},
    face::{checkpointer::LeaseHandle, error::Error, event::Event},
    model::{keys::LeaseKey, lease::Lease},
    run::{
        auditor::Auditor,
        context::Context,
        following::retire,
        held_lease::HeldLease,
        shard_consumer::{Ended, ShardConsumer, Stop},
    },
};

mod led;
mod moves;
mod ours;
mod streams;

use moves::{Answer, CONCURRENCY, Kind, Moved, Moves, withdraw};
use streams::give_back;

/// The time after the shutdown deadline in which shard consumers give their leases up.
const LAST_GRACE: Duration = Duration::from_secs(1);
/// The time in which the coordinator gives up those that are left.
const LAST_RELEASE: Duration = Duration::from_millis(500);

pub(crate) struct Coordinator {
    context: Arc<Context>,
    observations: Observations,
    held: BTreeMap<LeaseKey, Held>,
    consumers: JoinSet<Ended>,
    moves: Moves,
    next_scan: Instant,
    /// Leases that we asked for, or that are in our name although we do not hold them.
    coming: BTreeSet<LeaseKey>,
    /// What was told last.
    unreadable: BTreeMap<String, String>,
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
            moves: Moves::default(),
            next_scan: Instant::now(),
            coming: BTreeSet::new(),
            unreadable: BTreeMap::new(),
        }
    }

    /// Runs until `stopping`, or until a shard consumer or the auditor says that the worker must
    /// stop. Call [`Self::stop`] then.
    pub(crate) async fn run(
        &mut self,
        stopping: &CancellationToken,
        mut auditing: AbortOnDropHandle<Error>,
    ) -> Result<(), Error> {
        loop {
            tokio::select! {
                biased;
                () = stopping.cancelled() => return Ok(()),
                stopped = &mut auditing => return match stopped {
                    Ok(error) => Err(error),
                    Err(panic) => std::panic::resume_unwind(panic.into_panic()),
                },
                error = self.context.reports.standing.given_up() => return Err(error),
                Some(ended) = self.consumers.join_next_with_id() => {
                    self.ended(ended)?;
                    self.next_scan = Instant::now();
                }
                Some(answer) = self.moves.next() => match answer {
                    Answer::Moved(moved) => self.moved(*moved),
                    Answer::Proved(proved) => self.proved(*proved)?,
                },
                () = self.context.rescan.notified() => self.next_scan = Instant::now(),
                () = sleep_until(self.next_scan), if self.moves.is_empty() => {
                    let began = Instant::now();
                    let scanned = tokio::select! {
                        biased;
                        () = stopping.cancelled() => return Ok(()),
                        scanned = self.context.table.scan() => scanned,
                    };
                    self.scanned(scanned, began)?;
                }
            }
        }
    }

    /// Stops every shard consumer and gives the leases up, all at once: within the shutdown
    /// deadline and two seconds, whatever AWS does.
    ///
    /// # Errors
    /// The lease table was deleted, and what this worker knew of it is lost.
    pub(crate) async fn stop(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + self.context.config.shutdown_deadline;
        for held in self.held.values() {
            held.stop.send_replace(Some(Stop::Shutdown(deadline)));
        }
        let context = &self.context;
        let mut coming = std::mem::take(&mut self.coming);
        coming.retain(|key| !self.held.contains_key(key));
        // Or whoever holds them would hand them to nobody.
        let asker = Arc::clone(context);
        let withdrawn = stream::iter(coming).for_each_concurrent(CONCURRENCY, move |key| {
            let asker = Arc::clone(&asker);
            async move { withdraw(&asker, &key).await }
        });
        let all_ended = join4(
            async { while self.consumers.join_next().await.is_some() {} },
            self.moves.undo(context),
            withdrawn,
            retire(context),
        );
        if timeout_at(deadline + LAST_GRACE, all_ended).await.is_err() {
            // User code that blocks its thread cannot be dropped; its leases can go.
            self.consumers.abort_all();
            let leases = self.held.values().map(|held| Arc::clone(&held.lease));
            let releases = leases.map(|lease| release(Arc::clone(&self.context), lease));
            // Those that are not gone by then are free after the failover time.
            let _ = timeout(LAST_RELEASE, join_all(releases)).await;
        }
        self.held.clear();
        leave_table(&self.context, deadline).await
    }

    // === the scan ===

    fn scanned(&mut self, scanned: Result<Scan, TableError>, began: Instant) -> Result<(), Error> {
        let now = Instant::now();
        let scan = match scanned {
            Ok(scan) => scan,
            Err(error) => {
                self.context.table_failed(None, "scan", &error);
                self.next_scan = now + self.context.config.peer_scan_interval;
                return Ok(());
            }
        };
        self.context.succeeded("scan");
        if scan.has_others || scan.shows_kcl3 {
            self.context.leadership.saw_kcl3();
        }
        self.restore_lacking(&scan, began);
        let mut leases = scan.leases;
        self.leave_streams(&mut leases, now);
        self.observations.observe(&leases, now);
        for lease in &mut leases {
            // A scan lags behind what we know of our own leases.
            if let Some(own) = self
                .held
                .get(&lease.key)
                .and_then(|held| held.lease.try_copy())
            {
                let moves = own.checkpoint_owner.is_some() && own.counter == lease.counter;
                let newer = own.counter > lease.counter || moves;
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
        let me = Some(self.context.config.worker_id.as_str());
        let is_coming =
            |lease: &&Lease| lease.handover_to.as_deref() == me || (lease.owner.as_deref() == me);
        self.coming = (leases.iter().filter(is_coming))
            .map(|lease| lease.key.clone())
            .collect();
        let regime = self.regime(&leases, now);
        self.let_go(&leases);
        self.grant(&leases, &regime, now);
        let unproven = self.keep_ours(&mut leases)?;
        let ended = self.context.streams.ended_by_nobody();
        let unreadable = scan.broken.into_iter().chain(scan.foreign);
        self.tell_unreadable(unreadable.chain(unproven).chain(ended));
        if self.context.streams.table_is_ours() {
            self.act(&leases, &regime, now);
        }
        self.next_scan = self.regular_scan(&leases, &regime, now);
        Ok(())
    }

    fn grant(&mut self, leases: &[Lease], regime: &Regime, now: Instant) {
        let leaving = self.held.iter();
        let leaving = leaving.filter_map(|(key, held)| match &*held.stop.borrow() {
            Some(Stop::HandOver(to)) => Some((key.clone(), to.clone())),
            _ => None,
        });
        let mut leaving: BTreeMap<_, _> = leaving.collect();
        // A batch may take long: who asked before it may have withdrawn or be gone by its end.
        for key in void(leases, &self.observations, &leaving, now) {
            leaving.remove(&key);
            if let Some(held) = self.held.get(&key) {
                held.stop.send_replace(None);
            }
        }
        if let Regime::Led { .. } = regime {
            return;
        }
        let (me, held) = (&self.context.config.worker_id, self.held_keys());
        for lease in dead_requests(leases, &self.observations, &held, now) {
            self.moves.push(&self.context, Kind::Refuse, lease.clone());
        }
        for lease in challenges(leases, &self.observations, me, &held, &leaving, now) {
            self.moves
                .push(&self.context, Kind::Challenge, lease.clone());
        }
        for (key, to) in grants(leases, &self.observations, me, &held, &leaving, now) {
            if let Some(held) = self.held.get(&key) {
                held.stop.send_replace(Some(Stop::HandOver(to)));
            }
        }
    }

    /// Begins to take and to ask as planned.
    fn act(&mut self, leases: &[Lease], regime: &Regime, now: Instant) {
        let config = &self.context.config;
        let max_steals = match regime {
            Regime::Taking => config.max_steals,
            Regime::Leaderless => 0,
            Regime::Led { .. } => return self.take_given(leases),
        };
        let limits = Limits {
            max_leases: config.max_leases,
            max_steals,
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
        for action in actions {
            let (kind, key) = match action {
                Action::Take(key) => (Kind::Take, key),
                Action::Steal(key) => (Kind::Steal, key),
                Action::Ask(key) => (Kind::Ask, key),
            };
            if let Some(lease) = by_key.get(&key) {
                self.moves.push(&self.context, kind, (*lease).clone());
            }
        }
    }

    fn moved(&mut self, moved: Moved) {
        let Moved {
            kind,
            lease,
            began,
            answer,
        } = moved;
        if answer.is_ok() {
            self.context.succeeded(kind.operation());
        }
        match answer {
            Ok(Some(taken)) => {
                if kind == Kind::Steal {
                    self.observations.stole(&lease.key, began);
                }
                self.start(taken, lease.holder().map(str::to_owned), began);
            }
            Ok(None) if kind == Kind::Ask => {
                self.coming.insert(lease.key.clone());
                self.context.report(Event::HandoverAsked {
                    holder: lease.holder().unwrap_or_default().to_owned(),
                    shard: lease.key,
                });
            }
            Ok(None) if kind == Kind::Challenge => {
                let asker = lease.handover_to.as_deref().unwrap_or_default();
                self.observations
                    .challenged(asker, &lease.key, Instant::now());
                let soon = Instant::now() + self.context.config.peer_scan_interval;
                self.next_scan = self.next_scan.min(soon);
            }
            Ok(None) => {}
            Err(error) => {
                // It may be ours all the same: then a scan shows it, or it is given up at the end.
                if !matches!(kind, Kind::Refuse | Kind::Challenge) {
                    self.coming.insert(lease.key.clone());
                }
                // A race was lost, or the call failed: the table is not as it was planned.
                let soon = Instant::now() + self.context.config.peer_scan_interval;
                self.next_scan = self.next_scan.min(soon);
                if !matches!(error, TableError::Conflict(_)) {
                    let shard = Some(&lease.key);
                    self.context.table_failed(shard, kind.operation(), &error);
                }
            }
        }
    }

    fn regular_scan(&self, leases: &[Lease], regime: &Regime, now: Instant) -> Instant {
        let config = &self.context.config;
        if let Regime::Led { .. } = regime {
            return now + config.renew_interval();
        }
        let me = config.worker_id.as_str();
        let is_peers = |lease: &Lease| {
            !lease.is_finished() && lease.holder().is_some_and(|holder| holder != me)
        };
        let alone = !leases.is_empty()
            && !leases.iter().any(is_peers)
            && !self.observations.awaits_answers(now);
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
        let Some(stream) = self.context.streams.of(&stored.key) else {
            // It went while the lease was taken.
            drop(tokio::spawn(give_back(Arc::clone(&self.context), stored)));
            return;
        };
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
            stream,
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

    fn ended(&mut self, ended: Result<(tokio::task::Id, Ended), JoinError>) -> Result<(), Error> {
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let key = self
            .held
            .iter()
            .find(|(_, held)| held.consumer.id() == id)
            .map(|(key, _)| key.clone());
        let stream = key.as_ref().and_then(|key| self.context.streams.of(key));
        if let Some(held) = key.and_then(|key| self.held.remove(&key)) {
            // Checkpointers that user code kept refuse from now on.
            held.lease.close();
            self.context.load.hold(self.held.len());
        }
        match ended {
            Ok((_, Ended::Finished(children))) => self.take_children(children),
            Ok((_, Ended::Failed(error))) => match stream {
                Some(stream) => {
                    stream.give_up(error)?;
                    self.context.streams.look.notify_one();
                }
                // It went while its user code ran, or its lease was taken anew.
                None if error.is_of_stream() && self.context.streams.are_several() => {
                    self.context.streams.look.notify_one();
                }
                None => return Err(error),
            },
            Ok((_, Ended::Lost | Ended::GivenUp)) => {}
            // A bug of ours: the lease expires, and whoever takes it goes on from the checkpoint.
            Err(error) => tracing::error!(%error, "a shard consumer ended without a result"),
        }
        Ok(())
    }

    /// Whoever finished a parent takes its children at once, unless another worker was quicker or
    /// another parent is unfinished. Otherwise a scan finds them.
    fn take_children(&mut self, children: Vec<Lease>) {
        if self.context.leadership.is_led() {
            return;
        }
        for child in children {
            let unfinished = self.held.len() + self.moves.len();
            let is_free = child.owner.is_none() && !child.is_finished();
            if is_free && unfinished < self.context.config.max_leases {
                self.moves.push(&self.context, Kind::Child, child);
            }
        }
    }
}

/// Who stops while the table is gone, as somebody restarts what logs errors, may be the last one
/// who knows where the leases stood.
async fn leave_table(context: &Arc<Context>, deadline: Instant) -> Result<(), Error> {
    let is_missing = || context.known().is_table_missing();
    if !is_missing() || !context.streams.table_is_ours() {
        return Ok(());
    }
    let auditor = Auditor::new(Arc::clone(context));
    let _ = timeout_at(deadline + LAST_GRACE, auditor.restore()).await;
    if is_missing() {
        let text = "it was deleted while the worker ran, and could not be made anew before the \
                    worker stopped: nobody knows where its leases stood";
        return Err(context.table_error(TableError::NotActive(text.into())));
    }
    Ok(())
}

async fn release(context: Arc<Context>, lease: Arc<HeldLease>) {
    if lease.give_up(None).await.is_some() {
        let shard = lease.key().clone();
        context.report(Event::LeaseReleased { shard });
    }
}
