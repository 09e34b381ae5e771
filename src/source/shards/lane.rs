//! One application's probes under way, so that one whose probes do not end keeps few of the turns
//! that all applications of an identity share.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Mutex, Semaphore, SemaphorePermit};

use crate::source::aws::{Turn, Turns};

/// Probes of one application at a time, as long as they are answered.
const WIDEST: usize = 16;

/// Narrower than this it is suspect: most of its probes timed out.
const SUSPECT: usize = WIDEST / 2;

/// Each time-out makes it narrower by one, down to one probe at a time; each answer wider.
#[derive(Debug)]
pub(crate) struct Lane {
    permits: Semaphore,
    width: AtomicUsize,
    /// Held by the one probe that waits for a turn, so that each application has one place in that
    /// queue.
    next: Mutex<()>,
}

/// One probe, until it is dropped: of its application, and among all.
#[derive(Debug)]
pub struct Place<'a> {
    lane: &'a Lane,
    permit: SemaphorePermit<'a>,
    _turn: Turn<'a>,
}

impl Default for Lane {
    fn default() -> Self {
        Self {
            permits: Semaphore::new(WIDEST),
            width: AtomicUsize::new(WIDEST),
            next: Mutex::new(()),
        }
    }
}

impl Lane {
    /// Waits for room. `decided`: the shard has a verdict.
    pub(crate) async fn enter<'a>(&'a self, turns: &'a Turns, decided: bool) -> Place<'a> {
        let permit = self.permits.acquire().await;
        let permit = permit.expect("the semaphore is never closed");
        let _next = self.next.lock().await;
        let is_suspect = self.width.load(Ordering::Relaxed) < SUSPECT;
        Place {
            lane: self,
            permit,
            _turn: turns.turn(decided, is_suspect).await,
        }
    }
}

impl Place<'_> {
    /// The probe has ended. One that is dropped leaves the lane as it was.
    pub fn ended(self, timed_out: bool) {
        let Self { lane, permit, .. } = self;
        let change = |width: usize| match timed_out {
            true => (width > 1).then(|| width - 1),
            false => (width < WIDEST).then(|| width + 1),
        };
        let order = Ordering::Relaxed;
        match lane.width.fetch_update(order, order, change) {
            Ok(_) if timed_out => permit.forget(),
            Ok(_) => lane.permits.add_permits(1),
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::{FutureExt as _, future::join_all};
    use tokio::time::{Instant, sleep};

    use super::*;

    async fn probe(lane: &Lane, turns: &Turns, times_out: bool) {
        let place = lane.enter(turns, false).await;
        if times_out {
            sleep(Duration::from_secs(3)).await;
        }
        place.ended(times_out);
    }

    /// Probes that may be under way together, while none is.
    fn width(lane: &Lane) -> usize {
        lane.permits.available_permits()
    }

    #[tokio::test(start_paused = true)]
    async fn time_outs_leave_one_probe_at_a_time_and_answers_widen_it_again() {
        let (lane, turns) = (Lane::default(), Turns::default());
        assert_eq!(width(&lane), WIDEST);
        join_all((0..40).map(|_| probe(&lane, &turns, true))).await;
        assert_eq!(width(&lane), 1);
        for wider in 2..=WIDEST {
            probe(&lane, &turns, false).await;
            assert_eq!(width(&lane), wider);
        }
        probe(&lane, &turns, false).await;
        assert_eq!(width(&lane), WIDEST);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_is_given_up_leaves_the_lane_as_it_was() {
        let (lane, turns) = (Lane::default(), Turns::default());
        assert!(probe(&lane, &turns, true).now_or_never().is_none());
        assert_eq!(width(&lane), WIDEST);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hundred_applications_that_hang_leave_turns_to_one_that_does_not() {
        let turns = Turns::default();
        let hanging: Vec<_> = (0..100).map(|_| Lane::default()).collect();
        let sixteen = |lane| (0..16).map(move |_| lane);
        let each = || hanging.iter().flat_map(sixteen);
        join_all(each().map(|lane| probe(lane, &turns, true))).await;
        let answers = Lane::default();
        let answered = join_all((0..WIDEST).map(|_| probe(&answers, &turns, false)));
        let begun = Instant::now();
        tokio::select! {
            biased;
            _ = join_all(each().map(|lane| probe(lane, &turns, true))) => panic!("they hang"),
            _ = answered => assert!(begun.elapsed() < Duration::from_secs(3), "it waits for them"),
        }
    }
}
