//! Our share of an AWS call quota, handed out in the order it was asked for.

use std::num::NonZeroU32;

use governor::{
    DefaultDirectRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};
use tokio::sync::Mutex;

/// So many calls a second, and as many at once after a pause.
#[derive(Debug)]
pub(crate) struct Budget {
    limiter: DefaultDirectRateLimiter,
    /// Held by whoever is next. Tokio's mutex is fair, so the queue is first come, first served.
    turn: Mutex<()>,
    clock: DefaultClock,
}

impl Budget {
    pub(crate) fn new(calls_per_second: u32) -> Self {
        let calls_per_second = NonZeroU32::new(calls_per_second).unwrap_or(NonZeroU32::MIN);
        Self {
            limiter: RateLimiter::direct(Quota::per_second(calls_per_second)),
            turn: Mutex::new(()),
            clock: DefaultClock::default(),
        }
    }

    /// Takes a call if one is left and nobody waits for it.
    pub(crate) fn try_take(&self) -> bool {
        self.turn.try_lock().is_ok() && self.limiter.check().is_ok()
    }

    /// Waits for a call.
    pub(crate) async fn take(&self) {
        let _turn = self.turn.lock().await;
        while let Err(not_until) = self.limiter.check() {
            tokio::time::sleep(not_until.wait_time_from(self.clock.now())).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn a_spent_budget_is_handed_out_in_the_order_asked() {
        let budget = Arc::new(Budget::new(50));
        while budget.try_take() {}
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let waiting: Vec<_> = (0..5)
            .map(|number| {
                let (budget, order) = (Arc::clone(&budget), Arc::clone(&order));
                tokio::spawn(async move {
                    budget.take().await;
                    order.lock().unwrap().push(number);
                })
            })
            .collect();
        for task in waiting {
            task.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4]);
    }

    #[tokio::test]
    async fn nobody_overtakes_who_waits() {
        let budget = Arc::new(Budget::new(1));
        assert!(budget.try_take());
        let turn = budget.turn.lock().await;
        assert!(!budget.try_take());
        drop(turn);
    }
}
