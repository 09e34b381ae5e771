//! Which leases this worker holds: it scans the table, takes leases, asks for them and hands them
//! over. Each held lease has a renewal task and a shard consumer task. Neither waits for the other,
//! and the coordinator waits for none of them.
//!
//! One worker, the warden, scans the table each 40 s for all (`decide::fleet`); the others seldom,
//! while they get leases, and when something shows that the table is not as they think. In between
//! single leases are looked at.

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
        fleet::{Role, Sight, Told, first_renewal},
        kcl3::Regime,
    },
    edge::lease_table::{Scan, TableError},
    face::{error::Error, event::Event},
    model::{keys::LeaseKey, lease::Lease},
    run::{
        context::Context,
        following::retire,
        held_lease::HeldLease,
        shard_consumer::{Ended, ShardConsumer, Stop},
    },
};

mod leaving;
mod led;
mod looking;
mod moves;
mod ours;
mod streams;
mod telling;

use leaving::{leave_table, release};
use looking::Curiosity;
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
    /// The leases as they were last read, newer where they are ours.
    leases: Vec<Lease>,
    /// When all of them were read.
    scanned: Instant,
    role: Role,
    /// Who says which worker holds which lease, as the last scan shows it.
    regime: Regime,
    /// One lease of each worker that this one watches, and when it must have been written again.
    watched: Vec<(Instant, LeaseKey)>,
    /// Leases that are looked at until something is known of them.
    curious: BTreeMap<LeaseKey, Curiosity>,
    no_look_before: Instant,
    /// When something can be done without reading.
    next_act: Option<Instant>,
    /// Free leases that this worker was told to take, and others' that it was told to ask for.
    offered: BTreeSet<LeaseKey>,
    suggested: BTreeSet<LeaseKey>,
    /// Leases have been coming since the last scan that found nothing to do.
    restless: bool,
    /// The time to the next scan while leases are free that others are to take.
    free_wait: Duration,
    /// Who was told last that it is a deputy.
    deputies: Vec<String>,
    telling: Vec<AbortOnDropHandle<()>>,
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
            held: BTreeMap::new(),
            consumers: JoinSet::new(),
            moves: Moves::default(),
            next_scan: Instant::now(),
            leases: Vec::new(),
            scanned: Instant::now(),
            role: Role::Spare,
            regime: Regime::default(),
            watched: Vec::new(),
            curious: BTreeMap::new(),
            no_look_before: Instant::now(),
            next_act: None,
            offered: BTreeSet::new(),
            suggested: BTreeSet::new(),
            restless: false,
            free_wait: context.config.peer_scan_interval,
            deputies: Vec::new(),
            telling: Vec::new(),
            context,
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
            let wake = self.wake();
            tokio::select! {
                biased;
                () = stopping.cancelled() => return Ok(()),
                stopped = &mut auditing => return match stopped {
                    Ok(error) => Err(error),
                    Err(panic) => std::panic::resume_unwind(panic.into_panic()),
                },
                error = self.context.reports.standing.given_up() => return Err(error),
                Some(ended) = self.consumers.join_next_with_id() => self.ended(ended)?,
                Some(answer) = self.moves.next() => match answer {
                    Answer::Moved(moved) => self.moved(*moved),
                    Answer::Proved(proved) => self.proved(*proved)?,
                },
                () = self.context.rescan.notified() => self.next_scan = Instant::now(),
                () = self.context.fleet.arrived() => self.read_mail()?,
                () = sleep_until(wake), if self.moves.is_empty() => tokio::select! {
                    biased;
                    () = stopping.cancelled() => return Ok(()),
                    read = self.read_table() => read?,
                },
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
        let context = Arc::clone(&self.context);
        let mut coming = std::mem::take(&mut self.coming);
        coming.retain(|key| !self.held.contains_key(key));
        // Or whoever holds them would hand them to nobody.
        let asker = Arc::clone(&context);
        let withdrawn = stream::iter(coming).for_each_concurrent(CONCURRENCY, move |key| {
            let asker = Arc::clone(&asker);
            async move { withdraw(&asker, &key).await }
        });
        let mut moves = std::mem::take(&mut self.moves);
        let all_ended = join4(
            self.part(),
            moves.undo(&context),
            withdrawn,
            retire(&context),
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
        self.leases.clone_from(&leases);
        self.scanned = now;
        self.await_coming(now);
        self.regime = self.judge_regime(&leases, now);
        self.let_go(&leases);
        self.grant(&leases, now);
        let unproven = self.keep_ours(&mut leases)?;
        let ended = self.context.streams.ended_by_nobody();
        let unreadable = scan.broken.into_iter().chain(scan.foreign);
        self.tell_unreadable(unreadable.chain(unproven).chain(ended));
        let acts = self.context.streams.table_is_ours() && self.act(&leases, now);
        self.next_scan = self.scan_interval(&leases, acts, now);
        if !acts && self.regime == Regime::Taking {
            self.tell_shares(&leases, now);
            self.tell_deputies(&leases, now);
        }
        self.arrange(now);
        Ok(())
    }

    /// The same where only some leases were read, or time has passed.
    fn judge(&mut self, now: Instant) -> Result<(), Error> {
        self.refresh(now);
        self.await_coming(now);
        let mut leases = self.leases.clone();
        self.grant(&leases, now);
        self.keep_ours(&mut leases)?;
        if self.context.streams.table_is_ours() {
            self.act(&leases, now);
        }
        self.arrange(now);
        Ok(())
    }

    /// Leases that are ours soon are looked at until they are.
    fn await_coming(&mut self, now: Instant) {
        let me = Some(self.context.config.worker_id.as_str());
        let soon = now + self.context.config.peer_scan_interval / 4;
        // Of some it is not known what became of them.
        self.coming.retain(|key| self.curious.contains_key(key));
        for lease in &self.leases {
            if self.held.contains_key(&lease.key) {
                continue;
            }
            let is_coming = lease.handover_to.as_deref() == me && lease.is_native();
            if is_coming {
                let curiosity = Curiosity::new(soon);
                self.curious.entry(lease.key.clone()).or_insert(curiosity);
            }
            if is_coming || lease.owner.as_deref() == me {
                self.coming.insert(lease.key.clone());
            }
        }
    }

    fn grant(&mut self, leases: &[Lease], now: Instant) {
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
        if let Regime::Led { .. } = self.regime {
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

    /// Begins to take and to ask as planned. Whether there is something to do.
    fn act(&mut self, leases: &[Lease], now: Instant) -> bool {
        let config = &self.context.config;
        let max_steals = match self.regime {
            Regime::Taking => config.max_steals,
            Regime::Leaderless => 0,
            Regime::Led { .. } => {
                self.take_given(leases);
                return false;
            }
        };
        let limits = Limits {
            max_leases: config.max_leases,
            max_steals,
        };
        let held = self.held_keys();
        let me = &config.worker_id;
        let mut actions = plan(leases, &self.observations, me, &held, limits, now);
        let sight = Sight {
            leases,
            observations: &self.observations,
            me,
            held: &held,
            now,
        };
        let told = Told {
            offered: &std::mem::take(&mut self.offered),
            suggested: &std::mem::take(&mut self.suggested),
            // What others hold changes.
            is_fresh: now <= self.scanned + 2 * config.peer_scan_interval,
        };
        sight.adjust(&mut actions, &told, limits.max_leases);
        // Requests that stand may be refused.
        let is_given = |lease: &&Lease| lease.owner.as_ref() == Some(me) && !lease.is_finished();
        let given = leases.iter().filter(is_given);
        let given = given.filter(|lease| !held.contains(&lease.key)).count();
        let mut has = (held.len() + given) as u64;
        // What it said of itself when it asked is no longer so: others were refused, or it lost
        // some.
        let is_standing = |lease: &&Lease| {
            let is_ours = lease.handover_to.as_ref() == Some(me) && lease.is_native();
            is_ours && told.is_fresh && !held.contains(&lease.key)
        };
        let mut standing: Vec<_> = leases.iter().filter(is_standing).collect();
        standing.sort_by_key(|lease| lease.handover_has);
        for lease in standing {
            if lease.handover_has > Some(has) {
                let mut lease = lease.clone();
                lease.handover_has = Some(has);
                self.moves.push(&self.context, Kind::Ask, lease);
            }
            has += 1;
        }
        let by_key: BTreeMap<_, _> = leases.iter().map(|lease| (&lease.key, lease)).collect();
        let acts = !actions.is_empty();
        for action in actions {
            let (kind, key) = match action {
                Action::Take(key) => (Kind::Take, key),
                Action::Steal(key) => (Kind::Steal, key),
                Action::Ask(key) => (Kind::Ask, key),
            };
            if let Some(lease) = by_key.get(&key) {
                let mut lease = (*lease).clone();
                if kind == Kind::Ask {
                    lease.handover_has = Some(has);
                    has += 1;
                }
                self.moves.push(&self.context, kind, lease);
            }
        }
        acts
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
                self.note(&Lease {
                    handover_to: Some(self.context.config.worker_id.clone()),
                    ..lease.clone()
                });
                self.await_coming(Instant::now());
                self.context.report(Event::HandoverAsked {
                    holder: lease.holder().unwrap_or_default().to_owned(),
                    shard: lease.key,
                });
            }
            Ok(None) if kind == Kind::Refuse => {
                let lease = Lease {
                    handover_to: None,
                    handover_has: None,
                    ..lease
                };
                self.observations.observe_some([&lease], Instant::now());
                self.note(&lease);
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
                let now = Instant::now();
                let soon = now + self.context.config.peer_scan_interval;
                if let TableError::Conflict(Some(current)) = &error {
                    // A race was lost.
                    self.observations.observe_some([&**current], now);
                    self.note(current);
                    self.next_act = Some(now);
                } else {
                    // The table is not as it was planned.
                    self.next_scan = self.next_scan.min(soon);
                    if !matches!(kind, Kind::Refuse | Kind::Challenge) {
                        self.coming.insert(lease.key.clone());
                        let key = lease.key.clone();
                        self.curious.entry(key).or_insert(Curiosity::new(soon));
                    }
                }
                if !matches!(error, TableError::Conflict(_)) {
                    let shard = Some(&lease.key);
                    self.context.table_failed(shard, kind.operation(), &error);
                }
            }
        }
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
        let now = Instant::now();
        self.note(&stored);
        self.curious.remove(&stored.key);
        self.coming.remove(&stored.key);
        if self.held.is_empty() {
            self.announce(&stored.key, now);
            if self.role == Role::Spare {
                // Others who joined as well show by now.
                let soon = now.max(self.scanned + self.context.config.peer_scan_interval);
                self.next_scan = self.next_scan.min(soon);
            }
        }
        let dues = self.held.values().map(|held| held.lease.due() - began);
        let renewal = self.context.config.renew_interval();
        let lease = Arc::new(HeldLease::new(
            Arc::clone(&self.context),
            stored.clone(),
            began,
            first_renewal(renewal, &dues.collect::<Vec<_>>()),
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
        self.arrange(now);
        // Who asked before may get one now.
        let leases = std::mem::take(&mut self.leases);
        self.grant(&leases, now);
        self.leases = leases;
    }

    fn ended(&mut self, ended: Result<(tokio::task::Id, Ended), JoinError>) -> Result<(), Error> {
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let key = self
            .held
            .iter()
            .find(|(_, held)| held.consumer.id() == id)
            .map(|(key, _)| key.clone());
        let stream = key.as_ref().and_then(|key| self.context.streams.of(key));
        let now = Instant::now();
        let held = key.and_then(|key| self.held.remove(&key));
        self.next_scan = match (&ended, &held) {
            (Ok((_, Ended::GivenUp)), Some(held)) if self.gave(held, now) => self.next_scan,
            _ => now,
        };
        if let Some(held) = held {
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

    /// Takes note that the lease went to whoever asked for it, and that it is to be looked after
    /// until that worker takes it. False: nobody asked for it.
    fn gave(&mut self, held: &Held, now: Instant) -> bool {
        let (Some(Stop::HandOver(to)), Some(lease)) =
            (held.stop.borrow().clone(), held.lease.try_copy())
        else {
            return false;
        };
        let soon = now + self.context.config.peer_scan_interval;
        self.curious.insert(lease.key.clone(), Curiosity::new(soon));
        self.note(&Lease {
            owner: Some(to),
            counter: lease.counter + 1,
            native_counter: Some(lease.counter + 1),
            native_process: None,
            native_clock: None,
            handover_to: None,
            ..lease
        });
        self.arrange(now);
        true
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
