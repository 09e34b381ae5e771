//! Our share of an AWS call quota, handed out to namespaces in turn, and within a namespace in the
//! order it was asked for.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::Clock,
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};
use tokio::{sync::Mutex as Queue, time::Instant};

use super::lock;

/// So many calls a second, and as many at once after a pause.
#[derive(Debug)]
pub(crate) struct Budget {
    limiter: RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Duration>>,
    clock: TokioClock,
    /// Held by whoever is next. Tokio's mutex is fair: first come, first served.
    turn: Queue<()>,
    /// Whoever waits for the turn holds that of its namespace, so that each namespace has at most
    /// one place in the queue for the turn.
    namespaces: Mutex<HashMap<String, Weak<Queue<()>>>>,
}

/// Tokio's clock, which tests pause.
#[derive(Clone, Copy, Debug)]
struct TokioClock(Instant);

impl Clock for TokioClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

impl Budget {
    pub(crate) fn new(calls_per_second: u32) -> Self {
        let calls_per_second = NonZeroU32::new(calls_per_second).unwrap_or(NonZeroU32::MIN);
        let clock = TokioClock(Instant::now());
        Self {
            limiter: RateLimiter::direct_with_clock(Quota::per_second(calls_per_second), clock),
            clock,
            turn: Queue::new(()),
            namespaces: Mutex::default(),
        }
    }

    /// Takes a call if one is left and nobody waits for it.
    pub(crate) fn try_take(&self) -> bool {
        self.turn.try_lock().is_ok() && self.limiter.check().is_ok()
    }

    /// Waits for a call.
    pub(crate) async fn take(&self, namespace: &str) {
        let queue = self.queue(namespace);
        let _first_of_its_namespace = queue.lock().await;
        let _turn = self.turn.lock().await;
        while let Err(not_until) = self.limiter.check() {
            tokio::time::sleep(not_until.wait_time_from(self.clock.now())).await;
        }
    }

    fn queue(&self, namespace: &str) -> Arc<Queue<()>> {
        let mut namespaces = lock(&self.namespaces);
        if let Some(queue) = namespaces.get(namespace).and_then(Weak::upgrade) {
            return queue;
        }
        namespaces.retain(|_, queue| queue.strong_count() > 0);
        let queue = Arc::new(Queue::new(()));
        namespaces.insert(namespace.to_owned(), Arc::downgrade(&queue));
        queue
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_spent_budget_is_handed_out_in_the_order_asked() {
        let budget = Budget::new(50);
        while budget.try_take() {}
        let mut first = pin!(budget.take("a"));
        assert!(
            first.as_mut().now_or_never().is_none(),
            "the budget is spent"
        );
        // The call that the first waits for is there before it looks again.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut second = pin!(budget.take("a"));
        assert!(
            second.as_mut().now_or_never().is_none(),
            "overtook the first"
        );
        first.await;
        second.await;
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_overtakes_who_waits() {
        let budget = Budget::new(1);
        assert!(budget.try_take());
        let turn = budget.turn.lock().await;
        assert!(!budget.try_take());
        drop(turn);
    }

    #[tokio::test(start_paused = true)]
    async fn a_namespace_with_many_streams_leaves_the_others_their_share() {
        let budget = Budget::new(5);
        while budget.try_take() {}
        let asked = ["many"; 100].into_iter().chain(["few"; 10]);
        let asked = asked.map(|namespace| budget.take(namespace).map(move |()| namespace));
        let first: Vec<_> = asked
            .collect::<FuturesUnordered<_>>()
            .take(20)
            .collect()
            .await;
        let few = first.iter().filter(|namespace| **namespace == "few");
        assert_eq!(few.count(), 10, "{first:?}");
        // Who waits no longer keeps nothing.
        budget.take("another").await;
        assert_eq!(lock(&budget.namespaces).len(), 1);
    }
}
