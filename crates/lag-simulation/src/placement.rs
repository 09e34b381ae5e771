//! Which lease should move so that the workers of an application are as busy as each other: a pure
//! rule, which no worker follows yet.
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

/// Workers whose loads, in thousandths of their time, differ by less than this are as busy as each
/// other.
const LEAST_SPREAD: u64 = 150;
/// By so much somebody is far busier than somebody else: who does not wait until leases have
/// rested.
const WIDE_SPREAD: u64 = 250;
/// Workers that are busier than this cannot tell how much they are to do: by load they are alike.
const FULL: u64 = 970;
/// Of a worker that has less to do than this, in thousandths, nothing is estimated.
const LEAST_KNOWN: u64 = 50;

/// A lease in somebody's hands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weighed<K> {
    pub(crate) key: K,
    /// Of its holder's time, in thousandths.
    pub(crate) share: u64,
    /// Bytes a second. 0: not known, or none.
    pub(crate) bytes: u64,
    /// Not moved lately, and not about to move.
    pub(crate) may_move: bool,
}

/// The workers of an application, with what each holds.
#[derive(Clone, Debug)]
pub(crate) struct Loads<W, K>(BTreeMap<W, Vec<Weighed<K>>>);

/// A lease that should move.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Move<W, K> {
    pub(crate) key: K,
    pub(crate) from: W,
    pub(crate) to: W,
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
    pub(crate) fn of(workers: impl IntoIterator<Item = W>) -> Self {
        Self(workers.into_iter().map(|it| (it, Vec::new())).collect())
    }

    /// Puts the lease in the worker's hands.
    pub(crate) fn put(&mut self, worker: W, lease: Weighed<K>) {
        self.0.entry(worker).or_default().push(lease);
    }

    /// How busy the worker is with its leases, in thousandths.
    pub(crate) fn load(&self, worker: W) -> u64 {
        self.leases(worker).map(|lease| lease.share).sum()
    }

    fn leases(&self, worker: W) -> impl Iterator<Item = &Weighed<K>> {
        self.0.get(&worker).into_iter().flatten()
    }

    /// Who gets a lease that nobody holds: whoever has least to do, and of those who have nothing
    /// to do whoever holds fewest. None gets more than `limit`.
    pub(crate) fn least(&self, limit: usize) -> Option<W> {
        let workers = self.0.keys().copied();
        let workers = workers.filter(|worker| self.leases(*worker).count() < limit);
        workers.min_by_key(|worker| (self.load(*worker), self.leases(*worker).count()))
    }

    /// The next lease that should move for the load's sake: from the busiest worker that has one
    /// for the least busy one. `None`: all are as busy as can be, or nearly.
    pub(crate) fn next_move(&self, limit: usize) -> Option<Move<W, K>> {
        let mut workers: Vec<(u64, W)> = self.0.keys().map(|it| (self.load(*it), *it)).collect();
        workers.sort_unstable();
        let has_room = |(_, worker): &&(u64, W)| self.leases(*worker).count() < limit;
        let (poorest, to) = *workers.iter().find(has_room)?;
        let busier = workers.iter().rev();
        let mut busier = busier.take_while(|(load, _)| *load >= poorest + LEAST_SPREAD);
        busier.find_map(|(_, from)| self.best(*from, to))
    }

    /// The next lease that should move so that all hold as many, unless the load objects: to
    /// whoever holds fewest.
    pub(crate) fn next_by_number(&self, limit: usize) -> Option<Move<W, K>> {
        let mut workers: Vec<(usize, u64, W)> = Vec::new();
        for worker in self.0.keys().copied() {
            workers.push((self.leases(worker).count(), self.load(worker), worker));
        }
        workers.sort_unstable();
        let receivers = workers.iter().filter(|(count, ..)| *count < limit);
        let mut pairs = receivers.flat_map(|to| {
            let givers = workers.iter().rev().map(move |from| (from, to));
            givers.take_while(|(from, to)| from.0 >= to.0 + 2)
        });
        pairs.find_map(|(from, to)| {
            // Where nobody has anything to do, or all have too much, the number alone counts.
            let are_alike = from.1.max(to.1) < LEAST_SPREAD || from.1.min(to.1) > FULL;
            match from.1 >= to.1 + WIDE_SPREAD {
                _ if are_alike => self.any(from.2, to.2),
                true => self.best(from.2, to.2),
                false => None,
            }
        })
    }

    /// Makes the move here, so that the next can be looked for.
    pub(crate) fn make(&mut self, chosen: Move<W, K>) {
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

    fn any(&self, from: W, to: W) -> Option<Move<W, K>> {
        let key = self.leases(from).map(|lease| lease.key).max()?;
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

#[cfg(test)]
mod tests {
    use super::*;

    type Fleet = Loads<usize, usize>;

    const MANY: usize = usize::MAX;

    /// Each worker's leases, by their shares, a thousandth of a worker's time for 10 bytes.
    fn fleet(shares: &[&[u64]]) -> Fleet {
        let mut fleet = Fleet::of(0..shares.len());
        let mut key = 0;
        for (worker, shares) in shares.iter().enumerate() {
            for share in *shares {
                key += 1;
                let lease = Weighed {
                    key,
                    share: *share,
                    bytes: *share * 10,
                    may_move: true,
                };
                fleet.put(worker, lease);
            }
        }
        fleet
    }

    fn loads(fleet: &Fleet) -> Vec<u64> {
        fleet.0.keys().map(|worker| fleet.load(*worker)).collect()
    }

    fn counts(fleet: &Fleet) -> Vec<usize> {
        fleet.0.values().map(Vec::len).collect()
    }

    fn rested(fleet: &mut Fleet) {
        let leases = fleet.0.values_mut().flatten();
        leases.for_each(|lease| lease.may_move = true);
    }

    /// Moves until nothing moves, each lease rested before the next. How many.
    fn settle(fleet: &mut Fleet) -> usize {
        let mut moves = 0;
        while let Some(next) = fleet.next_move(MANY) {
            fleet.make(next);
            rested(fleet);
            moves += 1;
            assert!(moves < 1000, "it never rests: {fleet:?}");
        }
        moves
    }

    fn random(rng: &mut fastrand::Rng) -> Fleet {
        let (workers, leases) = (rng.usize(1..20), rng.usize(0..100));
        // Some shards have a hundred times as much as others.
        let weight = |rng: &mut fastrand::Rng| (10.0_f64.powf(2.0 * rng.f64()) * 5.0) as u64;
        let mut shares = vec![Vec::new(); workers];
        for _ in 0..leases {
            shares[rng.usize(0..workers)].push(weight(rng));
        }
        let shares: Vec<&[u64]> = shares.iter().map(Vec::as_slice).collect();
        fleet(&shares)
    }

    #[test]
    fn the_neighbours_of_a_hot_shard_move_and_then_all_rests() {
        let mut fleet = fleet(&[&[700, 100, 100, 100], &[100; 4], &[100; 4]]);
        assert_eq!(settle(&mut fleet), 3);
        assert_eq!(loads(&fleet), [700, 600, 500]);
        // Its load is one shard's: nobody can help.
        assert_eq!(fleet.next_move(MANY), None);
    }

    #[test]
    fn it_comes_to_rest_near_the_best() {
        for seed in 0..500 {
            let mut fleet = random(&mut fastrand::Rng::with_seed(seed));
            let total: u64 = loads(&fleet).iter().sum();
            settle(&mut fleet);
            let mean = total / fleet.0.len() as u64;
            let rich = fleet.0.keys().copied().max_by_key(|it| fleet.load(*it));
            let rich = rich.unwrap_or_default();
            let leases = || fleet.leases(rich).map(|lease| lease.share);
            // Half as much again as the least that it could give, or a lease that fills it alone.
            let least = leases().min().unwrap_or(0);
            let most = mean + LEAST_SPREAD.max(least + least.div_ceil(2));
            let load = fleet.load(rich);
            assert!(load <= most || leases().count() == 1, "{seed}: {fleet:?}");
        }
    }

    #[test]
    fn no_move_is_taken_back() {
        for seed in 0..500 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut fleet = random(&mut rng);
            // Workers of other strength, and records that cost more.
            for lease in fleet.0.values_mut().flatten() {
                lease.bytes = rng.u64(1..5) * lease.share;
            }
            while let Some(next) = fleet.next_move(MANY) {
                fleet.make(next);
                rested(&mut fleet);
                let again = fleet.next_move(MANY);
                let is_back = |again: Move<usize, usize>| {
                    (again.key, again.from, again.to) == (next.key, next.to, next.from)
                };
                assert!(!again.is_some_and(is_back), "{seed}: {next:?} in {fleet:?}");
                if rng.u8(..20) == 0 {
                    break;
                }
            }
        }
    }

    #[test]
    fn noise_moves_nothing_once_it_rests() {
        for seed in 0..50 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut fleet = fleet(&[&[300, 100, 100, 100], &[150; 4], &[200; 3]]);
            settle(&mut fleet);
            let steady = fleet.clone();
            for _ in 0..100 {
                let leases = fleet.0.values_mut().flatten();
                for (lease, usual) in leases.zip(steady.0.values().flatten()) {
                    lease.share = usual.share * rng.u64(85..=115) / 100;
                }
                assert_eq!(fleet.next_move(MANY), None, "{seed}: {fleet:?}");
                assert_eq!(fleet.next_by_number(MANY), None, "{seed}: {fleet:?}");
            }
        }
    }

    #[test]
    fn who_moved_rests_unless_somebody_is_far_busier() {
        let held = |spread: u64| {
            let mut fleet = fleet(&[&[100; 4], &[100; 2]]);
            for lease in fleet.0.values_mut().flatten() {
                lease.may_move = false;
            }
            if let Some(lease) = fleet.0.get_mut(&0).and_then(|leases| leases.first_mut()) {
                lease.share += spread - 200;
            }
            fleet.next_move(MANY).is_none()
        };
        assert!(held(WIDE_SPREAD - 1));
        assert!(!held(WIDE_SPREAD));
    }

    #[test]
    fn a_weak_worker_gets_less_and_a_lease_weighs_what_it_will() {
        // The second one takes twice as long for the same bytes.
        let mut fleet = fleet(&[&[100; 6], &[]]);
        for key in 11..14 {
            let lease = Weighed {
                key,
                share: 80,
                bytes: 400,
                may_move: true,
            };
            fleet.put(1, lease);
        }
        // 600 and 240: as 100 here are 200 there, one moves and no more.
        assert_eq!(settle(&mut fleet), 1);
        assert_eq!(loads(&fleet), [500, 440]);
    }

    #[test]
    fn where_load_tells_nothing_the_number_counts() {
        for share in [0, 5, 330] {
            let mut fleet = fleet(&[&[share; 3], &[share; 3], &[share; 3], &[]]);
            let mut moves = 0;
            while let Some(next) = fleet.next_by_number(MANY) {
                fleet.make(next);
                moves += 1;
            }
            // Busy or idle: who comes gets its leases at once.
            assert_eq!((moves, counts(&fleet)[3]), (2, 2), "{share}");
        }
        // All have too much, so that it does not show who has most.
        let mut full = fleet(&[&[100; 10], &[250; 4]]);
        while let Some(next) = full.next_by_number(MANY) {
            full.make(next);
        }
        assert_eq!(counts(&full), [9, 5]);
    }

    #[test]
    fn nobody_gets_more_than_its_limit() {
        let fleet = fleet(&[&[300, 300, 300], &[10]]);
        assert_eq!(fleet.next_move(1), None);
        assert_eq!(fleet.next_by_number(1), None);
        assert!(fleet.next_move(2).is_some());
        assert_eq!(fleet.least(1), None);
        assert_eq!(fleet.least(2), Some(1));
    }
}
