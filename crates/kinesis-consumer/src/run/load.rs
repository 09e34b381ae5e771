//! How much of what this worker can do is used: the `busy` that renewals write into the worker's
//! leases.
//!
//! At any moment that is the batches in work by the batches that can be in work at full speed: as
//! many as the worker holds shards, but no more than
//! [`Config::parallelism`](crate::Config::parallelism). Over time it is the mean,
//! where the last half minute counts most.
//!
//! A pod's shards share what limits it (its cores, a quota downstream), and whatever they share is
//! in use while at least one of them is in work: so this is the utilisation of that resource, no
//! matter how their batches queue up for it, and 1 if they never stop. The mean over shards would
//! not do: of six shards on one core at half load, each is in work for a twelfth to half of the
//! time, as their batches happen to coincide. Nor would their sum: it grows to six.
//!
//! What a lease takes of what the worker could do with any number of shards is written as
//! `nativeShare` where leases are dealt by load: its part of the batches in work, by
//! [`Config::parallelism`](crate::Config::parallelism) itself. So it stays as it is when other
//! leases come and go.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::model::keys::LeaseKey;

/// The time after which an observation counts 1/e: the mean age is that of a window of 30 s.
const MEMORY: Duration = Duration::from_secs(15);
/// Less than this was seen: the load is unknown.
const LEAST_SEEN: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Load {
    parallelism: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    held: usize,
    working: usize,
    /// Since when shards are held.
    began: Instant,
    /// The moment up to which `used` and `seen` count.
    counted: Instant,
    /// Weighted by age: what was used, and the sum of the weights.
    used: f64,
    seen: f64,
    /// Weighted by age: what a lease took that was in work all the time.
    each: f64,
    leases: BTreeMap<LeaseKey, Held>,
}

/// What one lease took. Only what is in work is counted, when that begins and ends.
#[derive(Debug)]
struct Held {
    working: bool,
    began: Instant,
    counted: Instant,
    /// As of all leases, up to `counted`, and what `each` was then.
    used: f64,
    each: f64,
}

impl Held {
    fn new(now: Instant, each: f64) -> Self {
        Self {
            working: false,
            began: now,
            counted: now,
            used: 0.0,
            each,
        }
    }

    fn count(&mut self, now: Instant, each: f64) {
        let kept = kept(now - self.counted);
        self.used *= kept;
        if self.working {
            self.used += each - self.each * kept;
        }
        (self.counted, self.each) = (now, each);
    }
}

/// What is left of an observation's weight after such a time.
fn kept(age: Duration) -> f64 {
    (-age.div_duration_f64(MEMORY)).exp()
}

/// A batch in work, until dropped.
#[derive(Debug)]
pub(crate) struct Working<'a>(&'a Load, &'a LeaseKey);

impl Load {
    pub(crate) fn new(parallelism: usize) -> Self {
        let now = Instant::now();
        Self {
            parallelism,
            state: Mutex::new(State {
                held: 0,
                working: 0,
                began: now,
                counted: now,
                used: 0.0,
                seen: 0.0,
                each: 0.0,
                leases: BTreeMap::new(),
            }),
        }
    }

    /// From now on so many shards are held.
    pub(crate) fn hold(&self, shards: usize) {
        let mut state = self.counted();
        if state.held == 0 {
            // Idle time without shards says nothing of the load with them.
            (state.used, state.seen, state.began) = (0.0, 0.0, state.counted);
        }
        state.held = shards;
    }

    /// From now on this worker works on the lease.
    pub(crate) fn begin(&self, lease: &LeaseKey) {
        let mut state = self.counted();
        let held = Held::new(state.counted, state.each);
        state.leases.insert(lease.clone(), held);
    }

    /// It does no more.
    pub(crate) fn end(&self, lease: &LeaseKey) {
        self.counted().leases.remove(lease);
    }

    /// A batch goes to its processor; it is in work until the value is dropped.
    pub(crate) fn work<'a>(&'a self, lease: &'a LeaseKey) -> Working<'a> {
        let mut state = self.counted();
        state.working += 1;
        state.mark(lease, true);
        Working(self, lease)
    }

    /// What the lease takes of what this worker can do, in thousandths. `None`: too little was seen
    /// yet.
    pub(crate) fn share(&self, lease: &LeaseKey) -> Option<u16> {
        let mut state = self.counted();
        let (now, each) = (state.counted, state.each);
        let held = state.leases.get_mut(lease)?;
        let age = now - held.began;
        if age < LEAST_SEEN {
            return None;
        }
        held.count(now, each);
        let share = (held.used / (1.0 - kept(age))).clamp(0.0, 1.0);
        // In range, so the cast is exact.
        Some((share * 1000.0).round() as u16)
    }

    /// The load in thousandths, 0 to 1000. `None`: too little was seen yet.
    pub(crate) fn permille(&self) -> Option<u16> {
        let state = self.counted();
        let enough = state.held > 0 && state.counted - state.began >= LEAST_SEEN;
        // In range, so the cast is exact.
        enough.then(|| (state.used / state.seen * 1000.0).round() as u16)
    }

    /// The state, with the time up to now counted.
    fn counted(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let kept = kept(now - state.counted);
        let most = state.held.min(self.parallelism).max(1);
        let used = state.working.min(most) as f64 / most as f64;
        state.used = state.used * kept + used * (1.0 - kept);
        state.seen = state.seen * kept + (1.0 - kept);
        let each = 1.0 / state.working.max(self.parallelism).max(1) as f64;
        state.each = state.each * kept + each * (1.0 - kept);
        state.counted = now;
        state
    }
}

impl State {
    fn mark(&mut self, lease: &LeaseKey, working: bool) {
        let (now, each) = (self.counted, self.each);
        if let Some(held) = self.leases.get_mut(lease) {
            held.count(now, each);
            held.working = working;
        }
    }
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        let mut state = self.0.counted();
        state.working -= 1;
        state.mark(self.1, false);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    /// For a minute, in cycles of a second: `work` milliseconds of each by so many shards at a
    /// time, of four.
    async fn used(parallelism: usize, shards: usize, work: u64) -> u16 {
        let load = Load::new(parallelism);
        let key = LeaseKey::from("shardId-0");
        load.hold(4);
        for _ in 0..60 {
            let working: Vec<_> = (0..shards).map(|_| load.work(&key)).collect();
            sleep(Duration::from_millis(work)).await;
            drop(working);
            sleep(Duration::from_millis(1000 - work)).await;
        }
        load.permille().expect("seen enough")
    }

    #[tokio::test(start_paused = true)]
    async fn is_the_part_of_what_could_be_in_work() {
        let near = |got: u16, want: u16| assert!(got.abs_diff(want) <= 20, "{got}, not {want}");
        near(used(1, 1, 500).await, 500);
        near(used(1, 4, 500).await, 500);
        near(used(2, 1, 500).await, 250);
        near(used(2, 4, 500).await, 500);
        near(used(16, 1, 500).await, 125);
        near(used(16, 2, 1000).await, 500);
        near(used(1, 0, 500).await, 0);
        assert_eq!(used(16, 4, 1000).await, 1000);
    }

    #[tokio::test(start_paused = true)]
    async fn forgets_within_a_minute_and_knows_when_it_knows_nothing() {
        let load = Load::new(1);
        let key = LeaseKey::from("shardId-0");
        load.hold(2);
        let working = load.work(&key);
        sleep(Duration::from_millis(9_999)).await;
        assert_eq!(load.permille(), None);
        sleep(Duration::from_millis(1)).await;
        assert_eq!(load.permille(), Some(1000));
        drop(working);
        sleep(Duration::from_secs(60)).await;
        let rest = load.permille().expect("seen enough");
        assert!(rest < 20, "{rest}");
        load.hold(0);
        assert_eq!(load.permille(), None);
        load.hold(1);
        assert_eq!(load.permille(), None, "the idle time before does not count");
    }

    #[tokio::test(start_paused = true)]
    async fn leases_have_their_parts_of_it() {
        let load = Load::new(1);
        let [hot, cold, late] = ["shardId-0", "shardId-1", "shardId-2"].map(LeaseKey::from);
        load.hold(3);
        load.begin(&hot);
        load.begin(&cold);
        for second in 0..60 {
            if second == 55 {
                load.begin(&late);
            }
            // One core: 600 ms and 150 ms of each second.
            for (key, millis) in [(&hot, 600), (&cold, 150)] {
                let working = load.work(key);
                sleep(Duration::from_millis(millis)).await;
                drop(working);
            }
            sleep(Duration::from_millis(250)).await;
        }
        let near = |got: Option<u16>, want: u16| {
            assert!(
                got.is_some_and(|got| got.abs_diff(want) <= 30),
                "{got:?}, not {want}"
            );
        };
        near(load.share(&hot), 600);
        near(load.share(&cold), 150);
        assert_eq!(load.share(&late), None, "too early");
        load.end(&hot);
        assert_eq!(load.share(&hot), None, "not held");
        sleep(Duration::from_secs(10)).await;
        assert_eq!(load.share(&late), Some(0));
    }

    /// Of sixteen cores two leases use two, whatever else is held.
    #[tokio::test(start_paused = true)]
    async fn a_lease_takes_as_much_beside_few_as_beside_many() {
        let load = Load::new(16);
        let [one, other] = ["shardId-0", "shardId-1"].map(LeaseKey::from);
        load.hold(2);
        load.begin(&one);
        load.begin(&other);
        let (_working, left) = (load.work(&one), load.work(&other));
        sleep(Duration::from_secs(60)).await;
        let is_a_16th = |share: Option<u16>| matches!(share, Some(62 | 63));
        assert!(is_a_16th(load.share(&one)) && is_a_16th(load.share(&other)));
        drop(left);
        load.end(&other);
        load.hold(1);
        sleep(Duration::from_secs(60)).await;
        assert!(is_a_16th(load.share(&one)));
        assert!(
            load.permille().expect("seen enough") > 900,
            "its only shard"
        );
    }

    /// Or more would go than has to.
    #[tokio::test(start_paused = true)]
    async fn who_leaves_takes_its_past_along() {
        let load = Load::new(1);
        let [hot, cold] = ["shardId-0", "shardId-1"].map(LeaseKey::from);
        load.hold(2);
        load.begin(&hot);
        load.begin(&cold);
        for _ in 0..60 {
            for (key, millis) in [(&hot, 600), (&cold, 150)] {
                let working = load.work(key);
                sleep(Duration::from_millis(millis)).await;
                drop(working);
            }
            sleep(Duration::from_millis(250)).await;
        }
        load.end(&hot);
        load.hold(1);
        let share = load.share(&cold).expect("seen enough");
        assert!(share.abs_diff(150) <= 15, "{share}");
    }
}
