//! Which leases this worker shall hold: pure functions of what it saw of the table.
//!
//! An even share is reached in three ways. Leases that nobody holds are taken, each worker up to
//! its share of all unfinished leases. From workers of this library leases are asked for, and
//! handed over without duplicates. From KCL 2.x workers they are stolen, as 2.x does and at its
//! pace: each steal makes duplicates until the other side notices. Asking, granting and stealing
//! only happen where the other side holds at least two more: each move then makes the shares more
//! even, so moves come to an end. KCL 2.x moves leases by the same measure but counts finished ones
//! too.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use tokio::time::Instant;

use crate::model::{keys::LeaseKey, lease::Lease};

mod clocks;
#[cfg(any(test, feature = "test-util"))]
pub(crate) mod kcl2;
mod observations;
mod promises;
#[cfg(test)]
mod rounds;
#[cfg(test)]
mod tests;

pub(crate) use observations::Observations;
pub(crate) use promises::{Has, Ledger, deal_by_load, promises};

/// What to do about a lease that this worker does not hold.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Action {
    /// Nobody holds it, or its holder's time is over, or it is in our name from before a restart:
    /// `LeaseTable::take`.
    Take(LeaseKey),
    /// A worker of this library holds it: `LeaseTable::ask`.
    Ask(LeaseKey),
    /// A KCL 2.x worker holds it: `LeaseTable::take`, then [`Observations::stole`].
    Steal(LeaseKey),
}

impl Action {
    /// The lease's key.
    pub(crate) fn key(&self) -> &LeaseKey {
        let (Self::Take(key) | Self::Ask(key) | Self::Steal(key)) = self;
        key
    }
}

/// A worker's own bounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Hold at most so many unfinished leases.
    pub(crate) max_leases: usize,
    /// Steal at most so many in two failover times.
    pub(crate) max_steals: usize,
}

/// What to do now, after `leases` was scanned and observed. `held`: the leases whose shard
/// consumers this process runs.
pub(crate) fn plan(
    leases: &[Lease],
    observations: &Observations,
    me: &str,
    held: &BTreeSet<LeaseKey>,
    limits: Limits,
    now: Instant,
) -> Vec<Action> {
    let view = View {
        observations,
        me,
        held,
        now,
    };
    let unfinished: Vec<_> = leases.iter().filter(|lease| !lease.is_finished()).collect();
    let takes = view.takes(&unfinished, limits);
    if takes.is_empty() {
        view.moves(&unfinished, limits)
    } else {
        takes
    }
}

/// Which of our leases to hand over now, and to whom: those asked for (`handoverTo`) by a worker
/// that lives and has at least two less than we. `leases`: the last scan, with the newest known
/// copies of those we hold. `leaving`: being handed over already, to whom.
pub(crate) fn grants(
    leases: &[Lease],
    observations: &Observations,
    me: &str,
    held: &BTreeSet<LeaseKey>,
    leaving: &BTreeMap<LeaseKey, String>,
    now: Instant,
) -> Vec<(LeaseKey, String)> {
    let mut asked = deserved(leases, observations, me, held, leaving, now);
    if !asked.is_empty() {
        let workers = Workers::of(leases, observations, now);
        asked.retain(|(_, to)| workers.live(to, observations));
    }
    asked
        .into_iter()
        .map(|(lease, to)| (lease.key.clone(), to.to_owned()))
        .collect()
}

/// The requests to take back: they stood when we first looked, and their askers have shown no life.
/// Who lives asks again, and who is gone must not get a lease that others could work on.
pub(crate) fn challenges<'a>(
    leases: &'a [Lease],
    observations: &Observations,
    me: &str,
    held: &BTreeSet<LeaseKey>,
    leaving: &BTreeMap<LeaseKey, String>,
    now: Instant,
) -> Vec<&'a Lease> {
    let mut asked = deserved(leases, observations, me, held, leaving, now);
    if !asked.is_empty() {
        let workers = Workers::of(leases, observations, now);
        let is_silent = |to| !workers.live(to, observations) && !observations.may_answer(to, now);
        asked.retain(|(_, to)| is_silent(to));
    }
    asked.into_iter().map(|(lease, _)| lease).collect()
}

/// The requests that would make it more even. A worker that has not taken a lease yet that it was
/// handed gets one first: it may be gone.
fn deserved<'a>(
    leases: &'a [Lease],
    observations: &Observations,
    me: &str,
    held: &BTreeSet<LeaseKey>,
    leaving: &BTreeMap<LeaseKey, String>,
    now: Instant,
) -> Vec<(&'a Lease, &'a str)> {
    let is_asked = |lease: &Lease| lease.handover_to.is_some() && held.contains(&lease.key);
    if !leases.iter().any(is_asked) {
        return Vec::new();
    }
    let view = View {
        observations,
        me,
        held,
        now,
    };
    let unfinished = leases.iter().filter(|lease| !lease.is_finished());
    let (mut holders, mut asked) = (Vec::new(), Vec::new());
    for lease in unfinished {
        let leaves_to = leaving.get(&lease.key).map(String::as_str);
        let Some(holder) = leaves_to.or_else(|| view.holder(lease)) else {
            continue;
        };
        holders.push((lease, holder));
        if leaves_to.is_none() && held.contains(&lease.key) && !observations.ask_is_void(lease, now)
        {
            asked.extend(
                lease
                    .handover_to
                    .as_deref()
                    .filter(|to| *to != me)
                    .map(|to| (lease, to)),
            );
        }
    }
    let workers = Workers::of(leases, observations, now);
    // Somebody who holds nothing and asked long ago is gone.
    asked.retain(|(lease, to)| {
        let lives = holders.iter().any(|(_, holder)| holder == to);
        let lives = lives || !observations.ask_is_void(lease, now);
        lives && !workers.is_gone(to, lease, observations)
    });
    let mut ledger = Ledger::new(&holders, deal_by_load(&holders));
    asked.sort_by_key(|(lease, _)| ledger.rank(lease));
    asked.retain(|(lease, to)| {
        let theirs = ledger.said(lease, to);
        let shows_life = workers.alive.contains(to)
            || lease.handover_has.is_some_and(|has| has > 0) && observations.asked_lately(to);
        let is_first = theirs.leases == 0 || shows_life;
        is_first && ledger.grant(lease, me, to, theirs)
    });
    asked
}

/// Which of the leases that we are handing over are not to be: the request was withdrawn, or its
/// asker is gone.
pub(crate) fn void(
    leases: &[Lease],
    observations: &Observations,
    leaving: &BTreeMap<LeaseKey, String>,
    now: Instant,
) -> Vec<LeaseKey> {
    if leaving.is_empty() {
        return Vec::new();
    }
    let workers = Workers::of(leases, observations, now);
    let is_void = |lease: &&Lease| {
        leaving.get(&lease.key).is_some_and(|to| {
            let is_asked = lease.handover_to.as_ref() == Some(to);
            // A KCL 3 leader's is no request.
            lease.checkpoint_owner.is_none()
                && (!is_asked || workers.is_gone(to, lease, observations))
        })
    };
    let void = leases.iter().filter(is_void);
    void.map(|lease| lease.key.clone()).collect()
}

/// The leases of ours that a worker asked for that is gone, or so long ago that it is not granted
/// any more. Who comes next does not know that, and would leave them to it.
pub(crate) fn dead_requests<'a>(
    leases: &'a [Lease],
    observations: &Observations,
    held: &BTreeSet<LeaseKey>,
    now: Instant,
) -> Vec<&'a Lease> {
    let asked = leases.iter().filter(|lease| held.contains(&lease.key));
    let asked = asked.filter_map(|lease| lease.handover_to.as_deref().map(|asker| (lease, asker)));
    let mut asked: Vec<_> = asked.collect();
    if !asked.is_empty() {
        let workers = Workers::of(leases, observations, now);
        asked.retain(|(lease, asker)| {
            workers.is_gone(asker, lease, observations) || observations.ask_is_void(lease, now)
        });
    }
    asked.into_iter().map(|(lease, _)| lease).collect()
}

/// Workers of this library that renew a lease which they took themselves.
struct Workers<'a> {
    alive: BTreeSet<&'a str>,
}

impl<'a> Workers<'a> {
    fn of(
        leases: impl IntoIterator<Item = &'a Lease>,
        observations: &Observations,
        now: Instant,
    ) -> Self {
        let shows_life = |lease: &&Lease| {
            let is_theirs = lease.is_native() && lease.native_process.is_some();
            is_theirs && !lease.is_finished() && !observations.is_available(lease, now)
        };
        let alive = leases.into_iter().filter(shows_life);
        let alive = alive.filter_map(|lease| lease.owner.as_deref()).collect();
        Self { alive }
    }

    /// Has the worker shown that it lives?
    fn live(&self, worker: &str, observations: &Observations) -> bool {
        self.alive.contains(worker) || observations.asked_lately(worker)
    }

    /// Is the worker that asked for the lease gone?
    fn is_gone(&self, worker: &str, lease: &Lease, observations: &Observations) -> bool {
        !self.alive.contains(worker) && observations.went_silent(worker, lease)
    }
}

/// A place in an order that is the worker's own.
pub(crate) fn scatter(me: &str, what: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    (me, what).hash(&mut hasher);
    hasher.finish()
}

/// What one worker knows at one moment.
struct View<'a> {
    observations: &'a Observations,
    me: &'a str,
    held: &'a BTreeSet<LeaseKey>,
    now: Instant,
}

impl<'a> View<'a> {
    /// Who holds the lease; `None`: anybody may take it, or it is in our name although we do not
    /// hold it. What we hold, we hold, even if a scan lags behind and says otherwise.
    fn holder(&self, lease: &'a Lease) -> Option<&'a str> {
        if self.held.contains(&lease.key) {
            return Some(self.me);
        }
        lease
            .holder()
            .filter(|holder| *holder != self.me && !self.observations.is_available(lease, self.now))
    }

    /// An order of leases, or of workers, that is each worker's own, so that two seldom go for the
    /// same one.
    fn scatter(&self, what: impl Hash) -> u64 {
        scatter(self.me, what)
    }

    /// Leases that nobody holds, up to our share.
    fn takes(&self, unfinished: &[&'a Lease], limits: Limits) -> Vec<Action> {
        let mut available: Vec<_> = unfinished
            .iter()
            .filter(|lease| self.holder(lease).is_none())
            .collect();
        let workers: BTreeSet<_> = unfinished
            .iter()
            .filter_map(|lease| self.holder(lease))
            .chain([self.me])
            .collect();
        let mine = unfinished
            .iter()
            .filter(|lease| self.holder(lease) == Some(self.me))
            .count();

        let is_ours = |lease: &Lease| lease.holder() == Some(self.me);
        let is_overdue = |lease: &Lease| self.observations.is_overdue(lease, self.now);
        let target = unfinished.len().div_ceil(workers.len());
        let need = target
            .saturating_sub(mine)
            // In our name from before a restart: others count them as ours until they expire.
            // Evened out later.
            .max(available.iter().filter(|lease| is_ours(lease)).count())
            // Whose share they are, do not take them (limits, or a KCL that waits): no shard may
            // stay without a worker for that.
            .max(
                available
                    .iter()
                    .filter(|lease| is_overdue(lease))
                    .count()
                    .div_ceil(workers.len()),
            )
            .min(limits.max_leases.saturating_sub(mine));
        available.sort_by_cached_key(|lease| {
            (
                !is_ours(lease),
                !is_overdue(lease),
                self.scatter(&lease.key),
            )
        });
        available
            .iter()
            .take(need)
            .map(|lease| Action::Take(lease.key.clone()))
            .collect()
    }

    /// Leases to get from whoever has at least two more than we, the richest first.
    fn moves(&self, unfinished: &[&'a Lease], limits: Limits) -> Vec<Action> {
        // What each will still hold when the standing requests are granted, and what else can be
        // had of it. What others asked for does not count as theirs: a lease that is about to move
        // shall not make its next holder one to ask.
        let held = unfinished.iter();
        let held = held.filter_map(|lease| Some((*lease, self.holder(lease)?)));
        let held: Vec<_> = held.collect();
        let promises = promises(&held, self.observations, self.now);
        let mut counts = BTreeMap::from([(self.me, 0)]);
        let mut offers: BTreeMap<&str, Vec<Action>> = BTreeMap::new();
        let mut scattered = unfinished.to_vec();
        scattered.sort_by_cached_key(|lease| self.scatter(&lease.key));
        for lease in scattered {
            let Some(holder) = self.holder(lease) else {
                continue;
            };
            let promised = promises.get(&lease.key).filter(|_| holder != self.me);
            if let Some(asker) = promised {
                counts
                    .entry(self.me)
                    .and_modify(|mine| *mine += usize::from(*asker == self.me));
                continue;
            }
            *counts.entry(holder).or_insert(0_usize) += 1;
            if holder == self.me {
                continue;
            }
            let offers = offers.entry(holder).or_default();
            if !lease.is_native() {
                offers.extend(
                    (!self.observations.stolen_lately(lease, self.now))
                        .then(|| Action::Steal(lease.key.clone())),
                );
            } else if lease.handover_to.is_some() {
                // Refused to us or to another: the last one to try.
                offers.insert(0, Action::Ask(lease.key.clone()));
            } else {
                offers.push(Action::Ask(lease.key.clone()));
            }
        }

        let turn = self.turn(&counts, &promises);
        let mut moves = Vec::new();
        let mut steals = self.observations.steals_this_round(self.now);
        while counts[self.me] < limits.max_leases {
            offers.retain(|_, offers| !offers.is_empty());
            let is_ask = |offers: &[Action]| matches!(offers.last(), Some(Action::Ask(_)));
            let rank = |(holder, offers): (&&str, &Vec<Action>)| (counts[*holder], is_ask(offers));
            let most = offers.iter().map(rank).max();
            let richest = offers.iter().filter(|offer| Some(rank(*offer)) == most);
            let richest: Vec<_> = richest.map(|(holder, _)| *holder).collect();
            if richest.is_empty() {
                break;
            }
            let holder = richest[turn % richest.len()];
            if counts[holder] < counts[self.me] + 2 {
                break;
            }
            let Some(action) = offers.get_mut(holder).and_then(Vec::pop) else {
                break;
            };
            if matches!(action, Action::Steal(_)) {
                if steals >= limits.max_steals {
                    continue;
                }
                steals += 1;
            }
            counts.entry(holder).and_modify(|count| *count -= 1);
            counts.entry(self.me).and_modify(|count| *count += 1);
            moves.push(action);
        }
        moves
    }

    /// Which of several that are as rich this worker goes for: those that have too little and see
    /// the same go for others each. Who has nothing is not seen by the others.
    fn turn(&self, counts: &BTreeMap<&str, usize>, promises: &BTreeMap<&LeaseKey, &str>) -> usize {
        let mut counts = counts.clone();
        for asker in promises.values().filter(|asker| **asker != self.me) {
            *counts.entry(asker).or_default() += 1;
        }
        let fair = counts.values().sum::<usize>() / counts.len();
        let mut poor = counts.iter().filter(|(_, count)| **count < fair);
        let rank = poor.position(|(worker, count)| *worker == self.me && *count > 0);
        rank.unwrap_or_else(|| self.scatter(self.me) as usize)
    }
}
