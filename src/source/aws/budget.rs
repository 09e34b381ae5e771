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
    use std::{pin::pin, time::Duration};

    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_spent_budget_is_handed_out_in_the_order_asked() {
        let budget = Budget::new(50);
        while budget.try_take() {}
        let mut first = pin!(budget.take());
        assert!(
            first.as_mut().now_or_never().is_none(),
            "the budget is spent"
        );
        // The call that the first waits for is there before it looks again.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut second = pin!(budget.take());
        assert!(
            second.as_mut().now_or_never().is_none(),
            "overtook the first"
        );
        first.await;
        second.await;
    }

    #[tokio::test]
    async fn nobody_overtakes_who_waits() {
        let budget = Budget::new(1);
        assert!(budget.try_take());
        let turn = budget.turn.lock().await;
        assert!(!budget.try_take());
        drop(turn);
    }
}
