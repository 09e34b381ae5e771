//! Which leases this worker holds: it scans the table, takes leases, asks for them and hands them
//! over. Each held lease has a renewal task and a shard consumer task. Neither waits for the other,
//! and the coordinator waits for none of them.
//!
//! One worker, the warden, scans the table for all (`decide::fleet`); the others seldom, while they
//! get leases, and when something shows that the table is not as they think. In between single
//! leases are looked at.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use backon::ExponentialBackoff;
use futures::{
    StreamExt,
    future::{join_all, join4},
    stream,
};
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep_until, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    decide::{assignment::Observations, fleet::Role, kcl3::Regime},
    edge::lease_table::{Scan, TableError},
    face::error::Error,
    model::{keys::LeaseKey, lease::Lease},
    run::{
        context::{Context, backoff},
        following::retire,
        held_lease::HeldLease,
        shard_consumer::{Ended, Stop},
    },
};

mod acting;
mod held;
mod leaving;
mod led;
mod looking;
mod moves;
mod ours;
mod streams;
mod telling;

use leaving::{leave_table, release};
use looking::Curiosity;
use moves::{Answer, CONCURRENCY, Kind, Moves, withdraw};

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
    /// The leases as they were last read, newer where they are ours: in the order of their keys,
    /// so that one is found without looking at all.
    leases: Vec<Lease>,
    /// When all of them were read.
    scanned: Instant,
    role: Role,
    /// What to read next and this worker's part are as the leases now say: not while many come.
    is_arranged: bool,
    /// Who says which worker holds which lease, as the last scan shows it.
    regime: Regime,
    /// One lease of each worker that this one watches, and when it must have been written again.
    watched: Vec<(Instant, LeaseKey)>,
    /// Leases that are looked at until something is known of them.
    curious: BTreeMap<LeaseKey, Curiosity>,
    no_look_before: Instant,
    /// Waits after reads of the table that failed.
    read_failures: ExponentialBackoff,
    /// When something can be done without reading.
    next_act: Option<Instant>,
    /// Free leases that this worker was told to take, and others' that it was told to ask for.
    offered: BTreeSet<LeaseKey>,
    suggested: BTreeSet<LeaseKey>,
    /// Leases have been coming since the last scan that found nothing to do.
    restless: bool,
    /// The time to the next scan while leases are free that others are to take.
    free_wait: Duration,
    /// The same while others move leases, or are to.
    uneven_wait: Duration,
    /// Workers came: they have asked for their shares by then.
    settled: Instant,
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
            observations: Observations::new(context.config.unsaid_failover()),
            held: BTreeMap::new(),
            consumers: JoinSet::new(),
            moves: Moves::default(),
            next_scan: Instant::now(),
            leases: Vec::new(),
            scanned: Instant::now(),
            role: Role::Spare,
            is_arranged: true,
            regime: Regime::default(),
            watched: Vec::new(),
            curious: BTreeMap::new(),
            no_look_before: Instant::now(),
            read_failures: retries(&context),
            next_act: None,
            offered: BTreeSet::new(),
            suggested: BTreeSet::new(),
            restless: false,
            free_wait: context.config.times().peer_scan_interval,
            uneven_wait: 2 * context.config.times().peer_scan_interval,
            settled: Instant::now(),
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
            if !self.is_arranged && self.moves.is_empty() {
                self.arrange(Instant::now());
            }
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

    /// How long to wait after a read that failed.
    fn next_try(&mut self) -> Duration {
        let longest = self.context.config.times().peer_scan_interval;
        self.read_failures.next().unwrap_or(longest)
    }

    fn scanned(&mut self, scanned: Result<Scan, TableError>, began: Instant) -> Result<(), Error> {
        let now = Instant::now();
        let scan = match scanned {
            Ok(scan) => scan,
            Err(error) => {
                self.context.table_failed(None, "scan", &error);
                self.next_scan = now + self.next_try();
                return Ok(());
            }
        };
        self.context.succeeded("scan");
        self.read_failures = retries(&self.context);
        if scan.has_others || scan.shows_kcl3 {
            self.context.leadership.saw_kcl3();
        }
        self.restore_lacking(&scan, began);
        let mut leases = scan.leases;
        leases.sort_by(|one, other| one.key.cmp(&other.key));
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
        if self.settled > now {
            self.next_scan = self.next_scan.min(self.settled);
        }
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
        let soon = now + self.context.config.times().peer_scan_interval / 4;
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
}

/// The waits after reads of the table that fail: the first ones are short, as leases may be free.
fn retries(context: &Context) -> ExponentialBackoff {
    let longest = context.config.times().peer_scan_interval;
    backoff(longest / 8, longest)
}
