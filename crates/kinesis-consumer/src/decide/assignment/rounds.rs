//! Simulated rounds: workers that scan, renew, take, ask, hand over, come, go and die, among KCL
//! 2.x workers that steal.

use std::time::Duration;

use proptest::prelude::*;

use super::{kcl2::Kcl2Taker, *};
use crate::model::sequence::Checkpoint;

const FAILOVER: Duration = Duration::from_secs(10);
/// A native worker scans each 2 s, a KCL 2.x worker each 20 s; both renew each 3 s.
const TICKS: u64 = 60;

#[derive(Debug)]
struct Worker {
    name: String,
    kcl2: Option<Kcl2Taker>,
    observations: Observations,
    held: BTreeSet<LeaseKey>,
    scanned: Vec<Lease>,
    leaving: BTreeMap<LeaseKey, (String, u64)>,
    phase: u64,
    max_leases: usize,
}

#[derive(Debug)]
struct World {
    start: Instant,
    second: u64,
    leases: Vec<Lease>,
    workers: Vec<Worker>,
    born: usize,
    moves: usize,
    /// Who stole which lease of a KCL 2.x worker, and in which second.
    steals: Vec<(String, LeaseKey, u64)>,
    random: fastrand::Rng,
}

impl World {
    fn new(leases: usize, finished: usize, seed: u64) -> Self {
        let lease = |index| {
            let end = if index < finished {
                Checkpoint::ShardEnd
            } else {
                Checkpoint::TrimHorizon
            };
            Lease::new(format!("shardId-{index:012}"), end)
        };
        Self {
            start: Instant::now(),
            second: 0,
            leases: (0..leases + finished).map(lease).collect(),
            workers: Vec::new(),
            born: 0,
            moves: 0,
            steals: Vec::new(),
            random: fastrand::Rng::with_seed(seed),
        }
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_secs(self.second)
    }

    fn join(&mut self, kcl2: bool) {
        self.born += 1;
        let name = format!("worker-{}", self.born);
        let seed = self.random.u64(..);
        self.workers.push(Worker {
            kcl2: kcl2.then(|| Kcl2Taker::new(&name, FAILOVER, seed)),
            name,
            observations: Observations::new(FAILOVER),
            held: BTreeSet::new(),
            scanned: Vec::new(),
            leaving: BTreeMap::new(),
            phase: self.random.u64(0..20),
            max_leases: usize::MAX,
        });
    }

    /// One worker goes: killed, or by the book (natives release, KCL 2.x never does).
    fn lose(&mut self, killed: bool) {
        if self.workers.is_empty() {
            return;
        }
        let worker = self
            .workers
            .swap_remove(self.random.usize(..self.workers.len()));
        for lease in self
            .leases
            .iter_mut()
            .filter(|lease| worker.held.contains(&lease.key))
        {
            if !killed && worker.kcl2.is_none() {
                (lease.owner, lease.native_counter, lease.handover_to) = (None, None, None);
                lease.counter += 1;
            }
        }
    }

    fn counts(&self) -> Vec<usize> {
        let count = |name: &str| {
            let of = |lease: &&Lease| lease.holder() == Some(name) && !lease.is_finished();
            self.leases.iter().filter(of).count()
        };
        self.workers
            .iter()
            .map(|worker| count(&worker.name))
            .collect()
    }

    fn count(&self, worker: &str) -> usize {
        let index = self.workers.iter().position(|other| other.name == worker);
        index.map_or(0, |index| self.counts()[index])
    }

    fn set_owner(&mut self, key: &LeaseKey, worker: &str, native: bool) {
        let lease = self
            .leases
            .iter_mut()
            .find(|lease| lease.key == *key)
            .expect("no lease is ever deleted");
        lease.owner = Some(worker.to_owned());
        lease.counter += 1;
        // Who is handed a lease takes it at once here.
        lease.native_process = native.then(|| worker.to_owned());
        if native {
            lease.native_counter = Some(lease.counter);
            lease.handover_to = None;
        }
        if !lease.is_finished() {
            self.moves += 1;
        }
        for other in &mut self.workers {
            if other.name == worker {
                other.held.insert(key.clone());
            } else {
                other.held.remove(key);
                other.leaving.remove(key);
            }
        }
    }

    fn tick(&mut self) {
        self.second += 1;
        for index in 0..self.workers.len() {
            let worker = &self.workers[index];
            let at = self.second + worker.phase;
            if at.is_multiple_of(3) {
                self.renew(index);
            }
            let worker = &self.workers[index];
            if worker.kcl2.is_some() && at.is_multiple_of(20) {
                self.kcl2_round(index);
            } else if worker.kcl2.is_none() && at.is_multiple_of(2) {
                self.round(index);
            }
        }
    }

    fn renew(&mut self, index: usize) {
        let worker = &mut self.workers[index];
        for lease in self
            .leases
            .iter_mut()
            .filter(|lease| worker.held.contains(&lease.key))
        {
            lease.counter += 1;
            if worker.kcl2.is_none() {
                lease.native_counter = Some(lease.counter);
            }
            if let Some(known) = worker
                .scanned
                .iter_mut()
                .find(|known| known.key == lease.key)
            {
                known.clone_from(lease);
            }
        }
        if worker.kcl2.is_some() {
            return;
        }
        let leaving = worker
            .leaving
            .iter()
            .map(|(key, (to, _))| (key.clone(), to.clone()))
            .collect();
        let now = self.start + Duration::from_secs(self.second);
        let granted = grants(
            &worker.scanned,
            &worker.observations,
            &worker.name,
            &worker.held,
            &leaving,
            now,
        );
        for (key, to) in granted {
            worker
                .leaving
                .insert(key, (to, self.second + self.random.u64(0..6)));
        }
        let second = self.second;
        let done: Vec<_> = worker
            .leaving
            .iter()
            .filter(|(_, (_, at))| *at <= second)
            .collect();
        for (key, (to, _)) in done
            .into_iter()
            .map(|(key, to)| (key.clone(), to.clone()))
            .collect::<Vec<_>>()
        {
            // The asker may be gone by now: then the lease is in the name of nobody alive, and
            // expires.
            self.workers[index].held.remove(&key);
            self.workers[index].leaving.remove(&key);
            self.set_owner(&key, &to, true);
        }
    }

    fn kcl2_round(&mut self, index: usize) {
        let now = self.now();
        let worker = &mut self.workers[index];
        let Some(taker) = &mut worker.kcl2 else {
            return;
        };
        let me = worker.name.clone();
        for key in taker.takes(&self.leases, now) {
            self.set_owner(&key, &me, false);
        }
    }

    fn round(&mut self, index: usize) {
        let now = self.now();
        let worker = &mut self.workers[index];
        worker.observations.observe(&self.leases, now);
        let to = |(key, (to, _)): (&LeaseKey, &(String, u64))| (key.clone(), to.clone());
        let leaving = worker.leaving.iter().map(to).collect();
        let (observations, held) = (&worker.observations, &worker.held);
        let challenged = challenges(
            &self.leases,
            observations,
            &worker.name,
            held,
            &leaving,
            now,
        );
        let challenged: BTreeSet<_> = challenged.iter().map(|lease| lease.key.clone()).collect();
        for lease in &mut self.leases {
            if challenged.contains(&lease.key)
                && let Some(asker) = lease.handover_to.take()
            {
                worker.observations.challenged(&asker, &lease.key, now);
            }
        }
        worker.scanned.clone_from(&self.leases);
        let limits = Limits {
            max_leases: worker.max_leases,
            max_steals: 1,
        };
        let actions = plan(
            &worker.scanned,
            &worker.observations,
            &worker.name,
            &worker.held,
            limits,
            now,
        );
        let me = worker.name.clone();
        for action in actions {
            let key = action.key();
            let lease = self
                .leases
                .iter()
                .find(|lease| lease.key == *key)
                .expect("a scanned lease");
            let holder = lease
                .holder()
                .and_then(|name| self.workers.iter().find(|worker| worker.name == name));
            if let Some(holder) = holder {
                assert!(
                    !matches!(action, Action::Take(_)),
                    "{me} takes {key} from {}, who lives",
                    holder.name
                );
                assert!(
                    self.count(&holder.name) >= self.count(&me) + 2,
                    "{me} needs {action:?} less than {}",
                    holder.name
                );
                assert_eq!(
                    matches!(action, Action::Steal(_)),
                    holder.kcl2.is_some(),
                    "{action:?} of {}",
                    holder.name
                );
            }
            if let Action::Ask(key) = &action {
                let lease = self
                    .leases
                    .iter_mut()
                    .find(|lease| lease.key == *key)
                    .expect("a scanned lease");
                lease.handover_to = Some(me.clone());
            } else {
                if let Action::Steal(key) = &action {
                    self.workers[index].observations.stole(key, now);
                    self.assert_may_steal(&me, key);
                    self.steals.push((me.clone(), key.clone(), self.second));
                }
                self.set_owner(&key.clone(), &me, true);
            }
        }
    }

    /// One lease a round of 2.x, and none that this worker stole in the last five minutes.
    fn assert_may_steal(&self, thief: &str, key: &LeaseKey) {
        for (_, stolen, second) in self.steals.iter().filter(|(of, ..)| of == thief) {
            let ago = self.second - second;
            assert!(ago >= 20, "{thief} steals {key} {ago} s after {stolen}");
            assert!(
                ago >= 300 || stolen != key,
                "{thief} steals {key} again after {ago} s"
            );
        }
    }

    fn run(&mut self, seconds: u64) {
        (0..seconds).for_each(|_| self.tick());
    }

    /// Every unfinished lease has a live owner.
    fn assert_all_held(&self) {
        let lives = |holder: &str| self.workers.iter().any(|worker| worker.name == holder);
        for lease in self.leases.iter().filter(|lease| !lease.is_finished()) {
            assert!(
                lease.holder().is_some_and(lives),
                "nobody works on {lease:?}"
            );
        }
    }

    fn assert_even_and_still(&mut self) {
        self.assert_all_held();
        let counts = self.counts();
        let spread = counts.iter().max().unwrap_or(&0) - counts.iter().min().unwrap_or(&0);
        assert!(spread <= 1, "uneven: {counts:?}");
        let moves = self.moves;
        self.run(2 * TICKS);
        assert_eq!(self.moves, moves, "moves although even: {counts:?}");
    }
}

/// Joins, leaves and kills, each followed by a random wait.
fn shake(world: &mut World, events: usize, kcl2: u8) {
    for _ in 0..events {
        match world.random.u8(..6) {
            0 => world.lose(true),
            1 => world.lose(false),
            _ => {
                let is_kcl2 = world.random.u8(..100) < kcl2;
                world.join(is_kcl2);
            }
        }
        let wait = world.random.u64(..40);
        world.run(wait);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn native_workers_become_even_and_stay_still(
        seed: u64, leases in 0_usize..65, finished in 0_usize..10, events in 0_usize..16,
    ) {
        let mut world = World::new(leases, finished, seed);
        shake(&mut world, events, 0);
        world.join(false);
        world.run(3 * TICKS);
        world.assert_even_and_still();
    }

    #[test]
    fn among_kcl_2_workers_there_is_no_tug_of_war(
        seed: u64, leases in 0_usize..33, events in 0_usize..12,
    ) {
        let mut world = World::new(leases, 0, seed);
        shake(&mut world, events, 50);
        world.join(false);
        // KCL 2.x moves one lease each 20 s.
        world.run(12 * TICKS);
        world.assert_even_and_still();
    }

    #[test]
    fn finished_leases_that_kcl_2_counts_make_no_tug_of_war(
        seed: u64, leases in 0_usize..33, finished in 1_usize..20, events in 0_usize..12,
    ) {
        let mut world = World::new(leases, finished, seed);
        shake(&mut world, events, 50);
        world.join(false);
        world.run(12 * TICKS);
        world.assert_all_held();
        let moves = world.moves;
        world.run(5 * TICKS);
        prop_assert!(world.moves <= moves + 2, "{} moves in five minutes, {:?}", world.moves - moves, world.counts());
    }
}

/// The figure that a rolling deployment feels: seconds until a second worker has its half, without
/// a duplicate.
#[test]
fn a_second_worker_gets_its_half_by_the_next_renewals() {
    let mut world = World::new(4, 0, 7);
    world.join(false);
    world.run(TICKS);
    world.join(false);
    let moves = world.moves;
    world.run(12);
    assert_eq!(world.counts(), [2, 2]);
    assert_eq!(world.moves, moves + 2);
}

#[test]
fn a_limit_leaves_nothing_free_as_long_as_others_have_room() {
    let mut world = World::new(9, 0, 3);
    (0..3).for_each(|_| world.join(false));
    world.workers[0].max_leases = 1;
    world.run(2 * TICKS);
    world.assert_all_held();
    assert_eq!(world.counts().iter().sum::<usize>(), 9);
    assert_eq!(world.counts()[0], 1);
}
