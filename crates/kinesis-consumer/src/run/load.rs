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

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

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
}

/// A batch in work, until dropped.
#[derive(Debug)]
pub(crate) struct Working<'a>(&'a Load);

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

    /// A batch goes to its processor; it is in work until the value is dropped.
    pub(crate) fn work(&self) -> Working<'_> {
        self.counted().working += 1;
        Working(self)
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
        let kept = (-(now - state.counted).div_duration_f64(MEMORY)).exp();
        let most = state.held.min(self.parallelism).max(1);
        let used = state.working.min(most) as f64 / most as f64;
        state.used = state.used * kept + used * (1.0 - kept);
        state.seen = state.seen * kept + (1.0 - kept);
        state.counted = now;
        state
    }
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.0.counted().working -= 1;
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
        load.hold(4);
        for _ in 0..60 {
            let working: Vec<_> = (0..shards).map(|_| load.work()).collect();
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
        load.hold(2);
        let working = load.work();
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
}
