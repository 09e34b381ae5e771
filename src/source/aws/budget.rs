//! Our share of an AWS call quota, handed out to peers in turn, among those of a peer to namespaces
//! in turn, and within a namespace in the order it was asked for.

use std::{
    collections::HashMap,
    hash::Hash,
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
use crate::trigger::tenant::Tenant;

/// So many calls a second, and as many at once after a pause.
#[derive(Debug)]
pub(crate) struct Budget {
    limiter: RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Duration>>,
    clock: TokioClock,
    /// Held by whoever is next. Tokio's mutex is fair: first come, first served.
    turn: Queue<()>,
    /// Whoever waits for the turn holds that of its peer, and whoever waits for that holds that of
    /// its namespace: so each has at most one place in the queue before it.
    peers: Queues<Arc<str>>,
    namespaces: Queues<Tenant>,
}

/// A queue for each of several, for as long as somebody waits in it.
#[derive(Debug)]
struct Queues<K>(Mutex<HashMap<K, Weak<Queue<()>>>>);

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
            peers: Queues(Mutex::default()),
            namespaces: Queues(Mutex::default()),
        }
    }

    /// Takes a call if one is left and nobody waits for it.
    pub(crate) fn try_take(&self) -> bool {
        self.turn.try_lock().is_ok() && self.limiter.check().is_ok()
    }

    /// Waits for a call.
    pub(crate) async fn take(&self, tenant: &Tenant) {
        let (namespace, peer) = (self.namespaces.of(tenant), self.peers.of(&tenant.peer));
        let _first_of_its_namespace = namespace.lock().await;
        let _first_of_its_peer = peer.lock().await;
        let _turn = self.turn.lock().await;
        while let Err(not_until) = self.limiter.check() {
            tokio::time::sleep(not_until.wait_time_from(self.clock.now())).await;
        }
    }
}

impl<K: Clone + Eq + Hash> Queues<K> {
    fn of(&self, key: &K) -> Arc<Queue<()>> {
        let mut queues = lock(&self.0);
        if let Some(queue) = queues.get(key).and_then(Weak::upgrade) {
            return queue;
        }
        queues.retain(|_, queue| queue.strong_count() > 0);
        let queue = Arc::new(Queue::new(()));
        queues.insert(key.clone(), Arc::downgrade(&queue));
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
        let a = "a".into();
        let mut first = pin!(budget.take(&a));
        assert!(
            first.as_mut().now_or_never().is_none(),
            "the budget is spent"
        );
        // The call that the first waits for is there before it looks again.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut second = pin!(budget.take(&a));
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
        let all = [of("keda", "many", 100), of("keda", "few", 10)];
        let first = first(20, &all.concat()).await;
        let few = first.iter().filter(|tenant| tenant.namespace == "few");
        assert_eq!(few.count(), 10, "{first:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_with_many_namespaces_leaves_the_others_their_share() {
        let mut all = Vec::new();
        for namespace in 0..100 {
            all.extend(of("flood", &namespace.to_string(), 1));
        }
        all.extend(of("keda", "shop", 10));
        let first = first(20, &all).await;
        let keda = first.iter().filter(|tenant| &*tenant.peer == "keda");
        assert_eq!(keda.count(), 10, "{first:?}");
    }

    fn of(peer: &str, namespace: &str, times: usize) -> Vec<Tenant> {
        let tenant = Tenant {
            peer: peer.into(),
            namespace: namespace.to_owned(),
        };
        vec![tenant; times]
    }

    /// Who gets the first calls of a budget that is spent.
    async fn first(calls: usize, asked: &[Tenant]) -> Vec<Tenant> {
        let budget = Budget::new(5);
        while budget.try_take() {}
        let asked = asked
            .iter()
            .map(|tenant| budget.take(tenant).map(move |()| tenant.clone()));
        let asked: FuturesUnordered<_> = asked.collect();
        let first = asked.take(calls).collect().await;
        // Who waits no longer keeps nothing.
        budget.take(&"another".into()).await;
        assert_eq!(lock(&budget.namespaces.0).len(), 1);
        first
    }
}
