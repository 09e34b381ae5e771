//! How the workers of an application share the looking after each other, so that what they read of
//! the table is linear in shards.
//!
//! The holder of the first unfinished lease is the **warden**: it alone scans often, looks at one
//! lease of each other worker when that is to be written again, takes what the dead leave behind,
//! audits, and tells the poor what they may ask the rich for. The holders of the next leases, its
//! **deputies**, look at its lease. All others read next to nothing while nothing moves: whoever
//! wants them to look at a lease adds its key to the `news` of one that they hold.
//!
//! Whose knowledge is old takes itself or somebody else for what they are not: then two do what one
//! would do, or the warden's next scan comes first.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    decide::assignment::{Action, Observations, promises},
    face::pace::renew_interval,
    model::{keys::LeaseKey, lease::Lease},
};

mod asking;
mod by_load;
#[cfg(test)]
mod tests;

/// Deputies look at the warden's lease at the moment when it must have been written again, the
/// second one two failover times later.
const DEPUTIES: usize = 2;
/// Leases of one worker that get its news: the next renewal is half of the time away, at most.
const BOARDS: usize = 2;
/// Leases before its first one that a deputy looks at.
const MOST_BEFORE: usize = 50;
/// What others may be told at one time.
const MOST_NEWS: usize = 200;

/// What a worker does for the others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Role {
    /// Scans and audits for all. Also whoever sees nobody else.
    Warden,
    /// Watches the warden: the first of them at once, the others later.
    Deputy(usize),
    /// Holds leases, and reads next to nothing.
    Member,
    /// Holds nothing, while others do.
    Spare,
}

/// What a worker was told, and how much it knows.
#[derive(Debug)]
pub(crate) struct Told<'a> {
    /// Leases that it is to take if they are free.
    pub(crate) offered: &'a BTreeSet<LeaseKey>,
    /// Leases that it is to ask for.
    pub(crate) suggested: &'a BTreeSet<LeaseKey>,
    /// It has just read all leases.
    pub(crate) is_fresh: bool,
}

/// What one worker knows of the others at one moment.
pub(crate) struct Sight<'a> {
    observations: &'a Observations,
    me: &'a str,
    held: &'a BTreeSet<LeaseKey>,
    now: Instant,
    /// The unfinished leases. Who holds each is asked often.
    unfinished: Vec<Seen<'a>>,
}

#[derive(Clone, Copy)]
struct Seen<'a> {
    lease: &'a Lease,
    /// `None`: nobody, or it is in our name although we do not hold it.
    holder: Option<&'a str>,
    /// Anybody may take it, as far as is known.
    is_free: bool,
}

impl<'a> Sight<'a> {
    /// `leases`: as they are known, in any order. `held`: those that are ours.
    pub(crate) fn new(
        leases: &'a [Lease],
        observations: &'a Observations,
        me: &'a str,
        held: &'a BTreeSet<LeaseKey>,
        now: Instant,
    ) -> Self {
        let unfinished = leases.iter().filter(|lease| !lease.is_finished());
        let seen = |lease: &'a Lease| {
            let is_ours = held.contains(&lease.key);
            let is_free = !is_ours && observations.is_available(lease, now);
            let others = lease.holder().filter(|holder| !is_free && *holder != me);
            Seen {
                lease,
                holder: if is_ours { Some(me) } else { others },
                is_free,
            }
        };
        Self {
            observations,
            me,
            held,
            now,
            unfinished: unfinished.map(seen).collect(),
        }
    }

    /// Held leases, this worker's too, with their holders.
    fn holders(&self) -> Vec<(&'a Lease, &'a str)> {
        let held = self.unfinished.iter();
        let held = held.filter_map(|seen| Some((seen.lease, seen.holder?)));
        held.collect()
    }

    fn others_leases(&self) -> impl Iterator<Item = (&'a Lease, &'a str)> + use<'_, 'a> {
        let held = self.unfinished.iter();
        let held = held.filter_map(|seen| seen.holder.map(|holder| (seen.lease, holder)));
        held.filter(|(_, holder)| *holder != self.me)
    }

    /// The holders that keep this order, in the order of their first leases.
    fn order(&self) -> Vec<&'a str> {
        let mut first: BTreeMap<&str, &LeaseKey> = BTreeMap::new();
        for Seen { lease, holder, .. } in &self.unfinished {
            let holder = holder.filter(|holder| {
                // Not Java's, and not one of an earlier version, which looks after itself.
                *holder == self.me || lease.is_native() && lease.native_clock.is_some()
            });
            if let Some(holder) = holder {
                let first = first.entry(holder).or_insert(&lease.key);
                *first = (*first).min(&lease.key);
            }
        }
        let mut order: Vec<_> = first.into_iter().collect();
        order.sort_by_key(|(_, first)| *first);
        order.into_iter().map(|(holder, _)| holder).collect()
    }

    /// How many hold a lease, this worker too.
    pub(crate) fn workers(&self) -> usize {
        let others = self.others_leases().map(|(_, holder)| holder);
        others.chain([self.me]).collect::<BTreeSet<_>>().len()
    }

    pub(crate) fn role(&self) -> Role {
        self.role_in(&self.order())
    }

    fn role_in(&self, order: &[&str]) -> Role {
        match order.iter().position(|holder| *holder == self.me) {
            Some(0) => Role::Warden,
            None if order.is_empty() => Role::Warden,
            Some(rank) if rank <= DEPUTIES => Role::Deputy(rank),
            Some(_) => Role::Member,
            None => Role::Spare,
        }
    }

    /// Does a worker of another kind hold a lease? It has no `news`.
    pub(crate) fn has_java(&self) -> bool {
        self.others_leases().any(|(lease, _)| !lease.is_native())
    }

    /// Does a worker hold a lease that does not say for how long it may be silent, and so does not
    /// heed what others say: Java's, or one of an earlier version?
    pub(crate) fn has_heedless(&self) -> bool {
        self.others_leases().any(|(lease, _)| {
            // Whoever it was handed to says so when it takes it.
            let is_on_its_way = lease.is_native() && !is_taken(lease);
            !is_on_its_way && lease.said_failover().is_none()
        })
    }

    /// Is somebody else at work?
    pub(crate) fn others(&self) -> usize {
        self.workers() - 1
    }

    /// The unfinished leases that anybody may take, as far as is known.
    pub(crate) fn free(&self) -> impl Iterator<Item = &'a Lease> + use<'_, 'a> {
        let free = self.unfinished.iter().filter(|seen| seen.is_free);
        free.map(|seen| seen.lease)
    }

    // === watching ===

    /// Which leases to look at, and when: one of each worker that is watched, when it must have
    /// been written again.
    pub(crate) fn watches(&self) -> Vec<(Instant, LeaseKey)> {
        let order = self.order();
        let (only, failovers_later) = match self.role_in(&order) {
            Role::Warden => (None, 0),
            Role::Deputy(rank) => {
                let later = u32::try_from(2 * (rank - 1)).unwrap_or(2);
                (order.first().copied(), later)
            }
            Role::Member | Role::Spare => return Vec::new(),
        };
        let mut watched: BTreeMap<&str, Vec<&Lease>> = BTreeMap::new();
        for (lease, holder) in self.others_leases().filter(|(lease, _)| is_taken(lease)) {
            if only.is_some_and(|only| only != holder) {
                continue;
            }
            watched.entry(holder).or_default().push(lease);
        }
        let watched = watched.values();
        watched
            .filter_map(|leases| self.watch(leases))
            .map(|(due, lease)| {
                let later = self.observations.failover(lease) * failovers_later;
                (due + later, lease.key.clone())
            })
            .collect()
    }

    /// The one of a worker's leases to look at: of those that were written last, within the time in
    /// which a worker that lives renews each, the one that has stood longest in our sight.
    fn watch(&self, leases: &[&'a Lease]) -> Option<(Instant, &'a Lease)> {
        let failover = leases.iter().map(|lease| self.observations.failover(lease));
        let failover = failover.max()?;
        let latest = leases.iter().filter_map(|lease| lease.native_clock).max();
        let round = u64::try_from((failover * 2 / 5).as_millis()).unwrap_or(u64::MAX);
        let is_late = |lease: &&&Lease| {
            let clock = lease.native_clock;
            latest.is_none_or(|latest| clock.is_some_and(|clock| clock + round >= latest))
        };
        let seen = leases.iter().filter(is_late).filter_map(|lease| {
            let (since, due) = self.observations.due(lease)?;
            Some((since, due, *lease))
        });
        let watched = match latest {
            Some(_) => seen.min_by_key(|(since, due, _)| (*since, std::cmp::Reverse(*due))),
            None => seen.max_by_key(|(since, ..)| *since),
        };
        watched.map(|(_, due, lease)| (due, lease))
    }

    /// Who the deputies are.
    pub(crate) fn deputies(&self) -> Vec<&'a str> {
        let others = self.order().into_iter().filter(|it| *it != self.me);
        others.take(DEPUTIES).collect()
    }

    /// What a deputy looks at to know that it is one: the leases before its first one.
    pub(crate) fn before_ours(&self) -> impl Iterator<Item = &'a LeaseKey> + use<'_, 'a> {
        let first = self.held.first();
        let keys = self.unfinished.iter().map(|seen| &seen.lease.key);
        keys.filter(move |key| first.is_some_and(|first| *key < first))
            .take(MOST_BEFORE)
    }

    /// Leases whose workers are gone. Whoever sees that takes them, whatever its share: nobody else
    /// looks.
    pub(crate) fn left_behind(&self) -> impl Iterator<Item = &'a Lease> + use<'_, 'a> {
        self.free()
            .filter(|lease| lease.is_native() && lease.holder() != Some(self.me))
    }

    // === sharing ===

    /// The requests that will be granted.
    fn promises(&self) -> BTreeMap<&'a LeaseKey, &'a str> {
        promises(&self.holders(), self.observations, self.now)
    }

    /// Workers of this library other than this one, and how many leases each holds.
    fn counts(&self) -> BTreeMap<&'a str, usize> {
        let mut counts = BTreeMap::new();
        for (_, holder) in self.others_leases().filter(|(lease, _)| is_taken(lease)) {
            *counts.entry(holder).or_default() += 1;
        }
        counts
    }

    /// Free leases, each to the worker that has least then, other than this one.
    pub(crate) fn share_out(&self, free: &[LeaseKey]) -> BTreeMap<String, BTreeSet<LeaseKey>> {
        if let Some(loads) = self.loads() {
            return self.share_out_by_load(loads, free);
        }
        let mut counts = self.counts();
        let mut shares: BTreeMap<String, BTreeSet<LeaseKey>> = BTreeMap::new();
        for key in free.iter().take(MOST_NEWS) {
            let Some((poorest, count)) = counts.iter_mut().min_by_key(|(_, count)| **count) else {
                break;
            };
            *count += 1;
            let share = shares.entry((*poorest).to_owned()).or_default();
            share.insert(key.clone());
        }
        shares
    }

    /// Leases that the poor are to ask the rich for, until all have as many. `None`: not while
    /// anything is free or asked for.
    pub(crate) fn even_out(&self) -> Option<BTreeMap<String, BTreeSet<LeaseKey>>> {
        let mut shares: BTreeMap<String, BTreeSet<LeaseKey>> = BTreeMap::new();
        if self.free().next().is_some() || !self.promises().is_empty() {
            return None;
        }
        if let Some(loads) = self.loads() {
            return Some(self.even_out_by_load(loads));
        }
        let mut of: BTreeMap<&str, Vec<&LeaseKey>> = BTreeMap::new();
        for Seen { lease, holder, .. } in &self.unfinished {
            if let Some(holder) = holder.filter(|_| lease.is_native()) {
                of.entry(holder).or_default().push(&lease.key);
            }
        }
        for _ in 0..MOST_NEWS {
            let richest = of.iter().max_by_key(|(_, leases)| leases.len());
            let poorest = of.iter().min_by_key(|(_, leases)| leases.len());
            let (Some((rich, most)), Some((poor, least))) = (richest, poorest) else {
                break;
            };
            if most.len() < least.len() + 2 {
                break;
            }
            let (rich, poor) = (*rich, *poor);
            let Some(key) = of.get_mut(rich).and_then(Vec::pop) else {
                break;
            };
            of.entry(poor).or_default().insert(0, key);
            // This worker asks by itself.
            if poor != self.me {
                let share = shares.entry(poor.to_owned()).or_default();
                share.insert(key.clone());
            }
        }
        Some(shares)
    }

    /// The leases of a worker that get its news: two that it renews as far apart as can be.
    pub(crate) fn boards(&self, worker: &str) -> Vec<&'a Lease> {
        let theirs = self.unfinished.iter();
        let theirs = theirs.filter(|seen| seen.holder == Some(worker));
        let theirs = theirs.map(|seen| seen.lease);
        let theirs: Vec<_> = theirs.filter(|lease| is_taken(lease)).collect();
        let Some(first) = theirs.first() else {
            return theirs;
        };
        let renewal = renew_interval(self.observations.failover(first));
        let period = u64::try_from(renewal.as_millis())
            .unwrap_or(u64::MAX)
            .max(2);
        let phase = |lease: &Lease| lease.native_clock.unwrap_or_default() % period;
        let from_opposite = |lease: &&&Lease| {
            let apart = phase(lease).abs_diff(phase(first));
            apart.abs_diff(period / 2)
        };
        let opposite = theirs[1..].iter().min_by_key(from_opposite);
        let boards = std::iter::once(first).chain(opposite);
        boards.copied().take(BOARDS).collect()
    }

    /// Adds what only this worker was told or can see, and leaves out what it knows too little for.
    pub(crate) fn adjust(&self, actions: &mut Vec<Action>, told: &Told<'_>, max_leases: usize) {
        if !told.is_fresh {
            actions.retain(|action| matches!(action, Action::Take(_)));
        }
        self.moderate(actions);
        let offered = self
            .free()
            .filter(|lease| told.offered.contains(&lease.key));
        let mut planned: BTreeSet<_> = actions.iter().map(Action::key).cloned().collect();
        let takes = actions
            .iter()
            .filter(|action| matches!(action, Action::Take(_)));
        let mut room = max_leases.saturating_sub(self.held.len() + takes.count());
        for lease in self.left_behind().chain(offered) {
            if room > 0 && planned.insert(lease.key.clone()) {
                actions.push(Action::Take(lease.key.clone()));
                room -= 1;
            }
        }
        // The warden sees for itself what to ask for.
        if self.role() == Role::Warden {
            return;
        }
        for (lease, _) in self.others_leases() {
            let can_ask = is_taken(lease) && lease.handover_to.is_none();
            if told.suggested.contains(&lease.key)
                && can_ask
                && room > 0
                && planned.insert(lease.key.clone())
            {
                actions.push(Action::Ask(lease.key.clone()));
                room -= 1;
            }
        }
    }
}

/// A worker of this library holds it, and has taken it since it was handed to it.
fn is_taken(lease: &Lease) -> bool {
    lease.is_native() && lease.native_process.is_some()
}

/// The time between the scans of a worker that is not the warden: together they scan no more often
/// than a few workers do.
pub(crate) fn member_interval(failover: Duration, workers: usize) -> Duration {
    let workers = u32::try_from(workers).unwrap_or(u32::MAX).min(10_000);
    (failover * 20).max(failover.saturating_mul(workers * 3) / 2)
}

/// The first renewal of a lease that is taken now: in the middle of the longest time in which none
/// of the others, each due in so long, is renewed.
pub(crate) fn first_renewal(renewal: Duration, others: &[Duration]) -> Duration {
    let mut dues: Vec<_> = others
        .iter()
        .map(|due| {
            let rest = due.as_nanos() % renewal.as_nanos().max(1);
            Duration::from_nanos(u64::try_from(rest).unwrap_or_default())
        })
        .collect();
    dues.sort();
    let (Some(first), Some(last)) = (dues.first().copied(), dues.last().copied()) else {
        return renewal;
    };
    // Over the end of the period and on to the first one again.
    let mut widest = (first + renewal - last, last);
    for pair in dues.windows(2) {
        widest = widest.max((pair[1] - pair[0], pair[0]));
    }
    let middle = widest.1 + widest.0 / 2;
    match middle.checked_sub(renewal) {
        Some(early) if !early.is_zero() => early,
        _ => middle.min(renewal),
    }
}
