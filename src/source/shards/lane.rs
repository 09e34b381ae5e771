//! One application's calls under way, so that one whose calls do not end keeps few of the turns
//! that all applications of an identity share.

use std::sync::atomic::{AtomicUsize, Ordering};

use kinesis_edge::{Failure, Kind};
use tokio::sync::Semaphore;

/// Calls of one application at a time, as long as they are answered.
const WIDEST: usize = 16;

/// Each time-out makes it narrower by one, down to one call at a time; each answer wider.
#[derive(Debug)]
pub(super) struct Lane {
    permits: Semaphore,
    width: AtomicUsize,
}

impl Default for Lane {
    fn default() -> Self {
        Self {
            permits: Semaphore::new(WIDEST),
            width: AtomicUsize::new(WIDEST),
        }
    }
}

impl Lane {
    /// Makes the call when there is room.
    pub(super) async fn call<T>(
        &self,
        call: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let permit = self.permits.acquire().await;
        let permit = permit.expect("the semaphore is never closed");
        let answer = call.await;
        let timed_out = matches!(&answer, Err(failure) if failure.kind == Kind::Timeout);
        let change = |width: usize| match timed_out {
            true => (width > 1).then(|| width - 1),
            false => (width < WIDEST).then(|| width + 1),
        };
        let order = Ordering::Relaxed;
        match self.width.fetch_update(order, order, change) {
            Ok(_) if timed_out => permit.forget(),
            Ok(_) => self.permits.add_permits(1),
            Err(_) => {}
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
    use kinesis_edge::Service;
    use tokio::time::sleep;

    use super::*;

    type Answer = Result<(), Failure>;

    async fn times_out() -> Answer {
        sleep(Duration::from_secs(3)).await;
        let mut failure = Failure::senseless(Service::Kinesis, "GetRecords", "no answer in time");
        failure.kind = Kind::Timeout;
        Err(failure)
    }

    /// Calls that may be under way together, while none is.
    fn width(lane: &Lane) -> usize {
        lane.permits.available_permits()
    }

    #[tokio::test(start_paused = true)]
    async fn time_outs_leave_one_call_at_a_time_and_answers_widen_it_again() {
        let lane = Lane::default();
        assert_eq!(width(&lane), WIDEST);
        let calls: FuturesUnordered<_> = (0..40).map(|_| lane.call(times_out())).collect();
        assert_eq!(
            calls
                .filter(|answer| std::future::ready(answer.is_err()))
                .count()
                .await,
            40
        );
        assert_eq!(width(&lane), 1);
        for wider in 2..=WIDEST {
            lane.call(async { Answer::Ok(()) }).await.unwrap();
            assert_eq!(width(&lane), wider);
        }
        lane.call(async { Answer::Ok(()) }).await.unwrap();
        assert_eq!(width(&lane), WIDEST);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_given_up_leaves_the_lane_as_it_was() {
        let lane = Lane::default();
        drop(lane.call(times_out()).now_or_never());
        assert_eq!(width(&lane), WIDEST);
    }
}
