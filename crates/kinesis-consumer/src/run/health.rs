//! How one stream of several fares: which calls fail so that waiting is not known to mend it, and
//! whether its leases are left alone for a while.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::face::error::Error;

/// The first time for which the leases of a stream that cannot be read are not taken; it doubles.
const FIRST_REST: Duration = Duration::from_secs(5);
const LONGEST_REST: Duration = Duration::from_secs(300);
/// Failures further apart than this are not one.
const APART: Duration = Duration::from_secs(600);

#[derive(Debug, Default)]
pub(crate) struct Health(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failing: HashMap<&'static str, Streak>,
    rests_until: Option<Instant>,
    rest: Duration,
}

#[derive(Debug)]
struct Streak {
    first: Instant,
    last: Instant,
    error: Error,
}

impl Health {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note that the operation failed. Whether it is the first failure of its streak.
    pub(crate) fn failed(&self, operation: &'static str, error: Error) -> bool {
        let last = Instant::now();
        let failing = &mut self.state().failing;
        let streak = failing.get(operation);
        let streak = streak.filter(|streak| last - streak.last <= APART);
        let first = streak.map_or(last, |streak| streak.first);
        let is_first = streak.is_none();
        failing.insert(operation, Streak { first, last, error });
        is_first
    }

    /// Takes note that the operation succeeded. Whether that was the last one to fail.
    pub(crate) fn succeeded(&self, operation: &'static str) -> bool {
        let failing = &mut self.state().failing;
        failing.remove(operation).is_some() && failing.is_empty()
    }

    /// Forgets the operations that nobody has tried for long. Whether those were the last to fail.
    pub(crate) fn expire(&self) -> bool {
        let failing = &mut self.state().failing;
        let before = failing.len();
        failing.retain(|_, streak| streak.last.elapsed() <= APART);
        before > 0 && failing.is_empty()
    }

    /// For how long what fails most lastingly was seen to, and how. A failure that nobody repeats
    /// lasts no time.
    pub(crate) fn failing(&self) -> Option<(Duration, Error)> {
        let state = self.state();
        let recent = (state.failing.values()).filter(|streak| streak.last.elapsed() <= APART);
        let longest = recent.max_by_key(|streak| streak.last - streak.first);
        longest.map(|streak| (streak.last - streak.first, streak.error.clone()))
    }

    /// Leaves its leases alone for a while, longer each time.
    pub(crate) fn rest(&self) {
        let now = Instant::now();
        let mut state = self.state();
        let is_again = state.rests_until.is_some_and(|until| now < until + APART);
        state.rest = match is_again {
            true => (2 * state.rest).min(LONGEST_REST),
            false => FIRST_REST,
        };
        state.rests_until = Some(now + state.rest);
    }

    pub(crate) fn rests(&self) -> bool {
        let until = self.state().rests_until;
        until.is_some_and(|until| Instant::now() < until)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    fn error() -> Error {
        Error::InvalidConfig("denied".to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_rests_longer_each_time_and_not_for_ever() {
        let health = Health::default();
        assert!(!health.rests());
        health.rest();
        sleep(FIRST_REST).await;
        assert!(!health.rests());
        health.rest();
        sleep(FIRST_REST).await;
        assert!(health.rests(), "twice as long");
        sleep(FIRST_REST + APART).await;
        health.rest();
        sleep(FIRST_REST).await;
        assert!(!health.rests(), "it is long ago");
    }

    #[tokio::test(start_paused = true)]
    async fn it_fares_well_when_the_last_call_works_again() {
        let health = Health::default();
        assert!(health.failed("GetRecords", error()));
        assert!(!health.failed("GetRecords", error()));
        sleep(Duration::from_secs(1)).await;
        assert!(health.failed("ListShards", error()));
        assert!(!health.succeeded("GetRecords"), "one is left");
        assert!(health.succeeded("ListShards"));
        assert!(!health.succeeded("ListShards"), "told once");
        health.failed("GetRecords", error());
        sleep(FIRST_REST).await;
        let lasting = health.failing().expect("it fails").0;
        assert_eq!(lasting, Duration::ZERO, "nobody tried it again");
        health.failed("GetRecords", error());
        assert_eq!(health.failing().expect("it fails").0, FIRST_REST);
        assert!(!health.expire());
        sleep(APART + FIRST_REST).await;
        assert!(health.expire() && health.failing().is_none());
    }
}
