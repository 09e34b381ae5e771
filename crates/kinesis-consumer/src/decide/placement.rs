//! Which lease should move so that the workers of an application are as busy as each other: a pure
//! rule, which `crates/lag-simulation` runs as well, by way of `test_util`.
//!
//! A lease weighs what its records take of its holder's time, in thousandths; a worker's load is
//! the sum over its leases. Of the time and not of the bytes, as it is the time that runs out:
//! weak workers and costly records show in it. What bytes take at the next holder may differ from
//! what they take here, and is estimated by what its own leases' bytes take of its time.
//!
//! **It comes to rest.** A move must shrink the spread between giver and receiver by more than the
//! lease weighs there, so the move back never does. The spread must be wider than noise makes it,
//! and whoever moved rests.

use std::collections::BTreeMap;

#[cfg(test)]
mod tests;

/// Workers whose loads, in thousandths of their time, differ by less than this are as busy as each
/// other.
const LEAST_SPREAD: u64 = 150;
/// What a load swings by, by itself.
pub(crate) const NOISE: u64 = LEAST_SPREAD / 2;
/// By so much somebody is far busier than somebody else: who does not wait until leases have
/// rested.
const WIDE_SPREAD: u64 = 250;
/// Workers that are busier than this cannot tell how much they are to do: by load they are alike.
/// Of one that is not and has less than `LEAST_SPREAD` to spare nothing moves, so that whoever
/// comes near it does not get by number what goes back by load.
const FULL: u64 = 970;
/// Of a worker that has less to do than this, in thousandths, nothing is estimated.
const LEAST_KNOWN: u64 = 50;

/// A lease in somebody's hands.
#[derive(Clone, Copy, Debug)]
pub struct Weighed<K> {
    /// The lease's name, by which a move says which one goes. Of equal ones the order of keys says
    /// which.
    pub key: K,
    /// What its records take of its holder's time, in thousandths.
    pub share: u64,
    /// Bytes a second. 0: not known, or none.
    pub bytes: u64,
    /// Not moved lately, and not about to move.
    pub may_move: bool,
}

/// What a holder makes of a request, by the two loads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    Granted,
    Refused,
    /// Load tells nothing, so that the number of leases counts.
    ByNumber,
}

/// What a holder that is `rich` makes of a request of one that is `poor`, for a lease that weighs
/// so much here. What it weighs there the asker knows, who judged it by all that the rule says; but
/// the holder has newer figures of its own leases.
pub(crate) fn judge(rich: u64, poor: u64, share: u64) -> Verdict {
    if are_alike(rich, poor, 0) {
        Verdict::ByNumber
    } else if rich >= poor.saturating_add(share.max(NOISE)) {
        Verdict::Granted
    } else if are_alike(rich, poor, NOISE) {
        // The asker saw them alike.
        Verdict::ByNumber
    } else {
        Verdict::Refused
    }
}

/// Nobody has anything to do, or all have too much, or nearly so.
fn are_alike(one: u64, other: u64, nearly: u64) -> bool {
    one.max(other) < LEAST_SPREAD + nearly || one.min(other) + nearly > FULL
}

/// The workers of an application, with what each holds, and the most that some may get.
#[derive(Clone, Debug)]
pub struct Loads<W, K>(BTreeMap<W, Vec<Weighed<K>>>, BTreeMap<W, usize>);

/// A lease that should move.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Move<W, K> {
    /// The lease's.
    pub key: K,
    /// The worker that holds it.
    pub from: W,
    /// The worker that is to hold it.
    pub to: W,
}

/// Two workers between whom a lease may move.
struct Pair {
    rich: u64,
    poor: u64,
    /// What the same bytes take of the receiver's time, by what they take of the giver's, in
    /// hundredths.
    tempo: u64,
}

/// What a lease would do by moving.
struct Change {
    /// Of the receiver's time.
    comes: u64,
    before: u64,
    after: u64,
}

impl Change {
    /// Whether the spread shrinks by more than the lease weighs for its next holder.
    fn shrinks(&self) -> bool {
        self.before > self.after + self.comes
    }
}

impl Pair {
    fn comes(&self, share: u64, bytes: u64) -> u64 {
        match bytes {
            0 => share,
            _ => share * self.tempo / 100,
        }
    }

    fn change<K>(&self, lease: &Weighed<K>) -> Change {
        let comes = self.comes(lease.share, lease.bytes);
        Change {
            comes,
            before: self.rich.abs_diff(self.poor),
            after: (self.rich.saturating_sub(lease.share)).abs_diff(self.poor + comes),
        }
    }
}

impl<W: Copy + Ord, K: Copy + Ord> Loads<W, K> {
    /// Workers that hold nothing yet.
    pub fn of(workers: impl IntoIterator<Item = W>) -> Self {
        let workers = workers.into_iter().map(|it| (it, Vec::new()));
        Self(workers.collect(), BTreeMap::new())
    }

    /// The worker gets nothing while it holds so many.
    pub(crate) fn bound(&mut self, worker: W, most: usize) {
        self.1.insert(worker, most);
    }

    fn has_room(&self, worker: W, limit: usize) -> bool {
        let most = self.1.get(&worker).copied().unwrap_or(limit);
        self.count(worker) < most.min(limit)
    }

    /// Puts the lease in the worker's hands.
    pub fn put(&mut self, worker: W, lease: Weighed<K>) {
        self.0.entry(worker).or_default().push(lease);
    }

    /// Others get nothing.
    pub(crate) fn retain(&mut self, gets: impl Fn(W) -> bool) {
        self.0.retain(|worker, _| gets(*worker));
    }

    /// How busy the worker is with its leases, in thousandths.
    pub fn load(&self, worker: W) -> u64 {
        self.leases(worker).map(|lease| lease.share).sum()
    }

    /// How many leases are in the worker's hands.
    pub(crate) fn count(&self, worker: W) -> usize {
        self.leases(worker).count()
    }

    fn leases(&self, worker: W) -> impl Iterator<Item = &Weighed<K>> {
        self.0.get(&worker).into_iter().flatten()
    }

    /// Who gets a lease that nobody holds: whoever has least to do, and of those who have nothing
    /// to do whoever holds fewest. None gets more than `limit`.
    pub fn least(&self, limit: usize) -> Option<W> {
        let workers = self.0.keys().copied();
        let workers = workers.filter(|worker| self.has_room(*worker, limit));
        workers.min_by_key(|worker| (self.load(*worker), self.count(*worker)))
    }

    /// The next lease that should move for the load's sake: from the busiest worker that has one
    /// for the least busy one that would gain by it. `None`: all are as busy as can be, or nearly.
    pub fn next_move(&self, limit: usize) -> Option<Move<W, K>> {
        let mut workers: Vec<(u64, W)> = self.0.keys().map(|it| (self.load(*it), *it)).collect();
        workers.sort_unstable();
        let receivers = workers.iter().filter(|(_, to)| self.has_room(*to, limit));
        let mut pairs = receivers.flat_map(|(poor, to)| {
            let busier = workers.iter().rev();
            let busier = busier.take_while(|(load, _)| *load >= poor.saturating_add(LEAST_SPREAD));
            busier.map(|(_, from)| (*from, *to))
        });
        pairs.find_map(|(from, to)| self.best(from, to))
    }

    /// The next lease that should move so that all hold as many, unless the load objects: to
    /// whoever holds fewest.
    pub fn next_by_number(&self, limit: usize) -> Option<Move<W, K>> {
        let mut workers: Vec<(usize, u64, W)> = Vec::new();
        for worker in self.0.keys().copied() {
            workers.push((self.count(worker), self.load(worker), worker));
        }
        workers.sort_unstable();
        let receivers = workers.iter();
        let receivers = receivers.filter(|(.., to)| self.has_room(*to, limit));
        let mut pairs = receivers.flat_map(|to| {
            let givers = workers.iter().rev().map(move |from| (from, to));
            givers.take_while(|(from, to)| from.0 >= to.0 + 2)
        });
        pairs.find_map(|(from, to)| {
            let are_alike = are_alike(from.1, to.1, 0);
            let chosen = match from.1 >= to.1 + WIDE_SPREAD {
                _ if are_alike => self.any(from.2, to.2),
                true => self.best(from.2, to.2),
                false => None,
            };
            let is_busier = from.1 >= to.1 + NOISE;
            chosen.or_else(|| self.idle(from.2, to.2).filter(|_| is_busier))
        })
    }

    /// Makes the move here, so that the next can be looked for.
    pub fn make(&mut self, chosen: Move<W, K>) {
        let Move { key, from, to } = chosen;
        let pair = self.pair(from, to);
        let Some(leases) = self.0.get_mut(&from) else {
            return;
        };
        if let Some(index) = leases.iter().position(|lease| lease.key == key) {
            let lease = leases.remove(index);
            let moved = Weighed {
                share: pair.comes(lease.share, lease.bytes),
                may_move: false,
                ..lease
            };
            self.put(to, moved);
        }
    }

    /// One that has rested. Who has nothing, or far less, does not wait for that.
    fn any(&self, from: W, to: W) -> Option<Move<W, K>> {
        let is_wide = self.count(from) >= 2 * self.count(to) + 2;
        let leases = self.leases(from);
        let leases = leases.filter(|lease| lease.may_move || is_wide);
        let (_, key) = leases.map(|lease| (lease.may_move, lease.key)).max()?;
        Some(Move { key, from, to })
    }

    /// One that takes no time, so that nobody stays without a lease beside a hot one.
    fn idle(&self, from: W, to: W) -> Option<Move<W, K>> {
        let leases = self.leases(from);
        let idle = leases.filter(|lease| lease.share == 0 && self.count(to) == 0);
        let key = idle.map(|lease| lease.key).max()?;
        Some(Move { key, from, to })
    }

    /// The lease whose move leaves the two nearest to each other.
    fn best(&self, from: W, to: W) -> Option<Move<W, K>> {
        let pair = self.pair(from, to);
        let is_wide = pair.rich >= pair.poor + WIDE_SPREAD;
        let may_move = |lease: &&Weighed<K>| lease.share > 0 && (is_wide || lease.may_move);
        let movable = self.leases(from).filter(may_move);
        let changes = movable.map(|lease| (pair.change(lease), lease));
        let shrinking = changes.filter(|(change, _)| change.shrinks());
        // Of two that do as well, the one that stops less of what is read.
        let best = shrinking.min_by_key(|(change, lease)| (change.after, lease.share, lease.key));
        best.map(|(_, lease)| Move {
            key: lease.key,
            from,
            to,
        })
    }

    fn pair(&self, from: W, to: W) -> Pair {
        let total = |worker: W| {
            let known = self.leases(worker).filter(|lease| lease.bytes > 0);
            known.fold((0, 0), |(time, bytes), lease| {
                (time + lease.share, bytes + lease.bytes)
            })
        };
        let ((theirs, their_bytes), (ours, our_bytes)) = (total(to), total(from));
        let tempo = match theirs.min(ours) < LEAST_KNOWN {
            true => 100,
            false => {
                let more = u128::from(theirs) * u128::from(our_bytes) * 100;
                let less = u128::from(ours) * u128::from(their_bytes);
                // Bounded by a factor of two: other records may take other time.
                u64::try_from(more / less.max(1))
                    .unwrap_or(200)
                    .clamp(50, 200)
            }
        };
        Pair {
            rich: self.load(from),
            poor: self.load(to),
            tempo,
        }
    }
}
