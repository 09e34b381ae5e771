//! What an observer remembers of what it read, and what follows from the time that has passed.
//!
//! A lease has expired if its counter has not moved from when this observer first saw it there to
//! when it looked last, for longer than the failover time. Only the observer's own monotonic clock
//! counts. A wrong guess loses a race and no more: every take is on condition of that counter.
//!
//! Workers of this library write how old their process is (`clocks`): then one lease that stood
//! still shows that its worker is gone, and how long ago it wrote its other leases.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use super::clocks::Clocks;
use crate::model::{keys::LeaseKey, lease::Lease};

/// How long a lease that we stole is left alone if it goes back.
const STEAL_PAUSE: Duration = Duration::from_secs(300);
/// How long a request for a hand-over stands: longer than a holder's default shutdown deadline of
/// 20 s.
const ASK_PATIENCE: Duration = Duration::from_secs(60);
/// How long a lease stays that moved.
const MOVE_PAUSE: Duration = Duration::from_secs(300);
/// Timers count in milliseconds: the first one that is later.
const TICK: Duration = Duration::from_millis(1);

/// What an observer remembers of the scans it made.
#[derive(Clone, Debug)]
pub(crate) struct Observations {
    /// Of holders that do not say theirs.
    failover: Duration,
    seen: HashMap<LeaseKey, Seen>,
    clocks: Clocks,
    stolen: HashMap<LeaseKey, Instant>,
    /// Workers that let a lease's time run out, and when that was seen last.
    silent: HashMap<String, Instant>,
    /// Workers whose request we took back, to see whether they ask again, and when.
    challenged: HashMap<String, Instant>,
}

#[derive(Clone, Debug)]
struct Seen {
    counter: u64,
    /// When the counter was first seen there.
    since: Instant,
    /// For how long its holder may be silent.
    failover: Duration,
    /// It was seen elsewhere before.
    moved: bool,
    /// When it was looked at last.
    last: Instant,
    holder: Option<String>,
    /// Since when it is that one's, where it was another's before.
    moved_to: Option<Instant>,
    finished: bool,
    handover_to: Option<String>,
    /// When that request was first seen.
    asked: Instant,
    /// It was not there before: whoever wrote it lives.
    is_new: bool,
}

impl Observations {
    /// Nothing seen yet. `failover`: of holders that do not say theirs.
    pub(crate) fn new(failover: Duration) -> Self {
        Self {
            failover,
            seen: HashMap::new(),
            clocks: Clocks::new(failover),
            stolen: HashMap::new(),
            silent: HashMap::new(),
            challenged: HashMap::new(),
        }
    }

    /// For how long the lease's holder may be silent.
    pub(crate) fn failover(&self, lease: &Lease) -> Duration {
        lease.said_failover().unwrap_or(self.failover)
    }

    /// Takes in a whole scan that was answered at `now`. Keys that are gone are forgotten.
    pub(crate) fn observe(&mut self, leases: &[Lease], now: Instant) {
        let mut before = std::mem::take(&mut self.seen);
        for lease in leases {
            let before = before.remove(&lease.key);
            self.see(lease, before, now);
        }
        self.clocks.keep(leases);
        self.draw_conclusions(leases, now);
    }

    /// Takes in some leases that were read at `now`.
    pub(crate) fn observe_some<'a>(
        &mut self,
        leases: impl IntoIterator<Item = &'a Lease> + Clone,
        now: Instant,
    ) {
        for lease in leases.clone() {
            let before = self.seen.remove(&lease.key);
            self.see(lease, before, now);
        }
        self.draw_conclusions(leases, now);
    }

    fn see(&mut self, lease: &Lease, before: Option<Seen>, now: Instant) {
        let unmoved = before.as_ref().filter(|seen| seen.counter == lease.counter);
        let since = unmoved.map_or(now, |seen| seen.since);
        let same_request = (before.as_ref()).filter(|seen| seen.handover_to == lease.handover_to);
        let is_same = |seen: &&Seen| seen.holder.as_deref() == lease.holder();
        let last = before.as_ref().filter(is_same).map(|seen| seen.last);
        let moved_to = match &before {
            Some(seen) if seen.holder.as_deref() == lease.holder() => seen.moved_to,
            Some(_) => Some(now),
            None => None,
        };
        self.clocks.see(lease, last, since, now);
        let seen = Seen {
            counter: lease.counter,
            since,
            failover: self.failover(lease),
            moved: unmoved.map_or(before.is_some(), |seen| seen.moved),
            last: now,
            moved_to,
            holder: lease.holder().map(str::to_owned),
            finished: lease.is_finished(),
            handover_to: lease.handover_to.clone(),
            asked: same_request.map_or(now, |seen| seen.asked),
            is_new: same_request.map_or(before.is_some(), |seen| seen.is_new),
        };
        self.seen.insert(lease.key.clone(), seen);
    }

    fn draw_conclusions<'a>(&mut self, leases: impl IntoIterator<Item = &'a Lease>, now: Instant) {
        let unfinished = leases.into_iter().filter(|lease| !lease.is_finished());
        for lease in unfinished {
            if let Some(holder) = lease.holder().filter(|_| self.is_available(lease, now)) {
                self.silent.insert(holder.to_owned(), now);
            }
        }
        self.silent.retain(|_, seen| now <= *seen + ASK_PATIENCE);
        self.challenged.retain(|_, at| now <= *at + ASK_PATIENCE);
        let remembered = STEAL_PAUSE.max(self.steal_round());
        self.stolen.retain(|_, stolen| now < *stolen + remembered);
    }

    /// May anybody take it? Unowned, or its counter stood still for longer than the failover time,
    /// or its worker is gone and wrote it last so long ago.
    pub(crate) fn is_available(&self, lease: &Lease, now: Instant) -> bool {
        let stood = |seen: &Seen| seen.last > seen.since + seen.failover;
        lease.holder().is_none()
            || self.unmoved(lease).is_some_and(stood)
            || self.clocks.is_over(lease, now)
    }

    /// Since when the lease was seen as it is, and when a look shows whether its holder is gone: it
    /// is to be written again before. `None`: it was not seen.
    pub(crate) fn due(&self, lease: &Lease) -> Option<(Instant, Instant)> {
        let seen = self.unmoved(lease)?;
        let known = self.clocks.known_at(lease, seen.since);
        let due = seen.since + seen.failover.saturating_sub(known) + TICK;
        // Looked at then, and no verdict: its worker lives, or may.
        let due = if due > seen.last {
            due
        } else {
            seen.last + seen.failover / 4
        };
        Some((seen.since, due))
    }

    /// How soon its holder renews the lease, as far as is known, and not within `slack`.
    pub(crate) fn renewed_in(
        &self,
        lease: &Lease,
        slack: Duration,
        now: Instant,
    ) -> Option<Duration> {
        self.clocks.renewed_in(lease, slack, now)
    }

    /// When, after `now`, the first lease of a worker that is gone can be taken.
    pub(crate) fn next_over(&self, leases: &[Lease], now: Instant) -> Option<Instant> {
        let unfinished = leases.iter().filter(|lease| !lease.is_finished());
        let over = unfinished.filter_map(|lease| self.clocks.over_at(lease, now));
        over.filter(|over| *over > now).min()
    }

    /// When its counter moved last: before that, or just then.
    pub(crate) fn moved(&self, lease: &Lease) -> Option<Instant> {
        self.unmoved(lease).map(|seen| seen.since)
    }

    /// Did its counter move while we looked on?
    pub(crate) fn has_moved(&self, lease: &Lease) -> bool {
        self.unmoved(lease).is_some_and(|seen| seen.moved)
    }

    /// Did it go from one worker to another a few minutes ago?
    pub(crate) fn moved_lately(&self, lease: &Lease, now: Instant) -> bool {
        let moved_to = self.seen.get(&lease.key).and_then(|seen| seen.moved_to);
        moved_to.is_some_and(|moved_to| now < moved_to + MOVE_PAUSE)
    }

    /// Was it there for anybody to take for another failover time?
    pub(super) fn is_overdue(&self, lease: &Lease, now: Instant) -> bool {
        self.unmoved(lease)
            .is_some_and(|seen| now > self.free_at(seen) + self.failover)
    }

    /// Remembers that we stole the lease, so that we leave it alone for five minutes if it goes
    /// back.
    pub(crate) fn stole(&mut self, key: &LeaseKey, now: Instant) {
        self.stolen.insert(key.clone(), now);
    }

    pub(super) fn stolen_lately(&self, lease: &Lease, now: Instant) -> bool {
        self.stolen
            .get(&lease.key)
            .is_some_and(|stolen| now < *stolen + STEAL_PAUSE)
    }

    /// How many leases we stole in this round of taking. KCL 2.x has one round each two failover
    /// times; we scan far more often.
    pub(super) fn steals_this_round(&self, now: Instant) -> usize {
        let this_round = |stolen: &&Instant| now < **stolen + self.steal_round();
        self.stolen.values().filter(this_round).count()
    }

    fn steal_round(&self) -> Duration {
        2 * self.failover
    }

    /// Did the request on that lease stand for so long that it will not be granted, or that its
    /// asker is gone?
    pub(crate) fn ask_is_void(&self, lease: &Lease, now: Instant) -> bool {
        let seen = self
            .seen
            .get(&lease.key)
            .filter(|seen| seen.handover_to == lease.handover_to);
        seen.is_some_and(|seen| seen.handover_to.is_some() && now > seen.asked + ASK_PATIENCE)
    }

    /// Did the worker let a lease's time run out since it asked for this one?
    pub(super) fn went_silent(&self, worker: &str, lease: &Lease) -> bool {
        let silent = self.silent.get(worker).copied();
        let asked = self.seen.get(&lease.key).map(|seen| seen.asked);
        silent.is_some_and(|silent| asked.is_none_or(|asked| asked <= silent))
    }

    /// Remembers that we took back the worker's request for the lease: if it lives, it asks again.
    pub(crate) fn challenged(&mut self, worker: &str, key: &LeaseKey, now: Instant) {
        if let Some(seen) = self.seen.get_mut(key) {
            seen.handover_to = None;
        }
        self.challenged.insert(worker.to_owned(), now);
    }

    /// Did the worker ask for a lease while we looked on?
    pub(super) fn asked_lately(&self, worker: &str) -> bool {
        let mut requests = self.seen.values().filter(|seen| seen.is_new);
        requests.any(|seen| seen.handover_to.as_deref() == Some(worker))
    }

    /// Is it too early to say that it does not ask again?
    pub(super) fn may_answer(&self, worker: &str, now: Instant) -> bool {
        let challenged = self.challenged.get(worker);
        challenged.is_some_and(|challenged| now <= *challenged + self.failover)
    }

    /// Does an answer count that may come soon?
    pub(crate) fn awaits_answers(&self, now: Instant) -> bool {
        let mut challenged = self.challenged.keys();
        challenged.any(|worker| self.may_answer(worker, now))
    }

    /// When, after `now`, a scan is worth while: a lease that another worker holds expires, or one
    /// was there to take for too long.
    pub(crate) fn next_expiry(&self, me: &str, now: Instant) -> Option<Instant> {
        let others = self
            .seen
            .values()
            .filter(|seen| !seen.finished && seen.holder.as_deref() != Some(me));
        let moments =
            others.flat_map(|seen| [self.free_at(seen), self.free_at(seen) + self.failover]);
        moments
            .map(|moment| moment + TICK)
            .filter(|moment| *moment > now)
            .min()
    }

    fn unmoved(&self, lease: &Lease) -> Option<&Seen> {
        self.seen
            .get(&lease.key)
            .filter(|seen| seen.counter == lease.counter)
    }

    fn free_at(&self, seen: &Seen) -> Instant {
        if seen.holder.is_some() {
            seen.since + seen.failover
        } else {
            seen.since
        }
    }
}
