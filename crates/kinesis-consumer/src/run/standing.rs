//! Errors that waiting does not mend: since when each operation has failed so, and when to give up.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use crate::face::error::Error;

#[derive(Debug)]
pub(crate) struct Standing {
    patience: Duration,
    /// Two failures further apart than this are not one: who does not try does not fail.
    apart: Duration,
    state: Mutex<State>,
    given_up: Notify,
}

#[derive(Debug, Default)]
struct State {
    streaks: HashMap<&'static str, Streak>,
    verdict: Option<Error>,
}

#[derive(Clone, Copy, Debug)]
struct Streak {
    first: Instant,
    last: Instant,
}

impl Standing {
    /// Gives up after `patience`.
    pub(crate) fn new(patience: Duration, apart: Duration) -> Self {
        Self {
            patience,
            apart,
            state: Mutex::default(),
            given_up: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note that the operation failed. Whether it is the first failure of its streak.
    pub(crate) fn failed(&self, operation: &'static str, error: impl FnOnce() -> Error) -> bool {
        let now = Instant::now();
        let mut state = self.state();
        let streak = state.streaks.get(operation).copied();
        let streak = streak.filter(|streak| now - streak.last <= self.apart);
        let first = streak.map_or(now, |streak| streak.first);
        state.streaks.insert(operation, Streak { first, last: now });
        if now - first >= self.patience && state.verdict.is_none() {
            state.verdict = Some(error());
            self.given_up.notify_one();
        }
        streak.is_none()
    }

    /// Takes note that the operation succeeded. Whether that ends a streak of failures.
    pub(crate) fn succeeded(&self, operation: &'static str) -> bool {
        self.state().streaks.remove(operation).is_some()
    }

    /// Operations whose streaks are over because nobody has tried them for long.
    pub(crate) fn expired(&self) -> Vec<&'static str> {
        let now = Instant::now();
        let is_over = |streak: &Streak| now - streak.last > self.apart;
        let streaks = &mut self.state().streaks;
        let expired = streaks.extract_if(|_, streak| is_over(streak));
        expired.map(|(operation, _)| operation).collect()
    }

    /// Waits until an operation has failed for too long; says how.
    pub(crate) async fn given_up(&self) -> Error {
        loop {
            if let Some(error) = self.state().verdict.clone() {
                return error;
            }
            self.given_up.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{sleep, timeout};

    use super::*;

    fn error() -> Error {
        Error::InvalidConfig("denied".to_owned())
    }

    async fn has_given_up(standing: &Standing) -> bool {
        timeout(Duration::from_millis(1), standing.given_up())
            .await
            .is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn gives_up_after_failures_in_a_row() {
        let standing = Standing::new(Duration::from_secs(10), Duration::from_secs(6));
        assert!(standing.failed("renew", error), "the first one");
        sleep(Duration::from_secs(5)).await;
        assert!(!standing.failed("renew", error));
        assert!(standing.succeeded("renew") && !standing.succeeded("renew"));
        for _ in 0..2 {
            standing.failed("renew", error);
            standing.succeeded("scan");
            sleep(Duration::from_secs(5)).await;
            assert!(!has_given_up(&standing).await);
        }
        standing.failed("renew", error);
        assert!(has_given_up(&standing).await);
    }

    #[tokio::test(start_paused = true)]
    async fn two_failures_with_a_long_time_between_are_not_one() {
        let standing = Standing::new(Duration::from_secs(10), Duration::from_secs(6));
        standing.failed("delete", error);
        assert!(standing.expired().is_empty());
        sleep(Duration::from_secs(60)).await;
        assert_eq!(standing.expired(), ["delete"]);
        assert!(standing.failed("delete", error), "the first one again");
        assert!(!has_given_up(&standing).await);
    }
}
