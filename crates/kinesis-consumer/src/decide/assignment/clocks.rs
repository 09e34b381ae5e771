//! How old the other workers' processes are.
//!
//! A holder writes beside each lease how old its process was when it began to write
//! (`nativeClock`), by its own monotonic clock. Whoever reads that at some moment knows that the
//! process began no later than that age before the moment. The earliest such beginning dates all
//! other writes of the process, without comparing wall clocks and without seeing them happen.
//!
//! A process whose clock stood still, as in a machine that was suspended, seems to have written
//! earlier than it did. So a worker counts as gone only after one of its leases was seen to stand
//! still, and a lease that is seen to move sets a clock right that contradicts it.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use crate::{face::pace::renew_interval, model::lease::Lease};

/// What is known of the clocks of workers, by worker id.
#[derive(Clone, Debug)]
pub(super) struct Clocks {
    /// Of holders that do not say theirs.
    failover: Duration,
    /// What `began` counts from.
    base: Option<Instant>,
    clocks: HashMap<String, Clock>,
}

#[derive(Clone, Debug)]
struct Clock {
    process: String,
    /// When the process began, at the latest, in milliseconds after `base`.
    began: i64,
    /// The latest that it was seen to write.
    latest: i64,
    /// One of its leases stood still since then, for longer than a living process leaves any.
    stands_since: Option<i64>,
}

impl Clocks {
    pub(super) fn new(failover: Duration) -> Self {
        Self {
            failover,
            base: None,
            clocks: HashMap::new(),
        }
    }

    /// Takes in a lease as read at `now`. `last`: when it was read before, under the same holder;
    /// `since`: when its counter was first seen as it is.
    pub(super) fn see(
        &mut self,
        lease: &Lease,
        last: Option<Instant>,
        since: Instant,
        now: Instant,
    ) {
        let base = *self.base.get_or_insert(now);
        let Some((owner, process, clock)) = said(lease) else {
            return;
        };
        let failover = self.failover(lease);
        let at_the_latest = millis(now, base) - clock;
        let known = self.clocks.get(owner);
        let mut known = match known.filter(|known| known.process == process) {
            Some(known) => known.clone(),
            None => Clock {
                process: process.to_owned(),
                began: at_the_latest,
                latest: clock,
                stands_since: None,
            },
        };
        known.began = known.began.min(at_the_latest);
        known.latest = known.latest.max(clock);
        if since == now {
            // It moved. It cannot have done so before it was seen where it was. A second look at
            // the same moment sees nothing more.
            let slack = as_millis(failover / 4);
            let last = last.filter(|last| *last < now);
            if last.is_some_and(|last| known.began + clock + slack < millis(last, base)) {
                known.began = at_the_latest;
            }
        } else {
            let stood = now.saturating_duration_since(since);
            let age = millis(now, base) - known.began - clock;
            if stood >= least_stand(failover) && age > as_millis(failover) {
                known.stands_since = known.stands_since.max(Some(clock));
            }
        }
        // Its other leases are written at other times, but none so much later.
        let is_alone = |since: &i64| known.latest > since + as_millis(failover / 2);
        if known.stands_since.as_ref().is_some_and(is_alone) {
            known.stands_since = None;
        }
        self.clocks.insert(owner.to_owned(), known);
    }

    /// Forgets whoever has none of all these leases.
    pub(super) fn keep(&mut self, leases: &[Lease]) {
        let owners: std::collections::HashSet<_> = leases
            .iter()
            .filter_map(|lease| lease.owner.as_deref())
            .collect();
        self.clocks
            .retain(|owner, _| owners.contains(owner.as_str()));
    }

    /// Is the lease's worker gone, and its time over?
    pub(super) fn is_over(&self, lease: &Lease, now: Instant) -> bool {
        self.over_at(lease, now).is_some_and(|over| over <= now)
    }

    /// When the time of a lease is over whose worker is gone: at `now` at the earliest.
    pub(super) fn over_at(&self, lease: &Lease, now: Instant) -> Option<Instant> {
        let (known, clock) = self.clock(lease)?;
        let age = millis(now, self.base?) - known.began - clock;
        let left = as_millis(self.failover(lease)) + 1 - age;
        known.stands_since?;
        Some(now + Duration::from_millis(u64::try_from(left).unwrap_or(0)))
    }

    /// How old the last write of the lease was at that moment, at least, as far as that counts.
    pub(super) fn known_at(&self, lease: &Lease, moment: Instant) -> Duration {
        let age = self
            .clock(lease)
            .zip(self.base)
            .map(|((known, clock), base)| {
                let age = millis(moment, base) - known.began - clock;
                Duration::from_millis(u64::try_from(age).unwrap_or(0))
            });
        let failover = self.failover(lease);
        age.unwrap_or_default()
            .min(failover - least_stand(failover))
    }

    /// How soon the lease is renewed by a worker that lives, and not within `slack`.
    pub(super) fn renewed_in(
        &self,
        lease: &Lease,
        slack: Duration,
        now: Instant,
    ) -> Option<Duration> {
        let (known, clock) = self.clock(lease)?;
        let age = millis(now, self.base?) - known.began - clock;
        let age = Duration::from_millis(u64::try_from(age).unwrap_or(0));
        let renewal = renew_interval(self.failover(lease));
        let due = renewal.saturating_sub(age);
        Some(if due < slack { due + renewal } else { due })
    }

    fn failover(&self, lease: &Lease) -> Duration {
        lease.said_failover().unwrap_or(self.failover)
    }

    fn clock(&self, lease: &Lease) -> Option<(&Clock, i64)> {
        let (owner, process, clock) = said(lease)?;
        let known = self.clocks.get(owner);
        known
            .filter(|known| known.process == process)
            .map(|known| (known, clock))
    }
}

/// For so long a lease is seen to stand still before its worker counts as gone: one that lives
/// renews each after 35 % of the failover time.
fn least_stand(failover: Duration) -> Duration {
    failover.mul_f64(0.4)
}

/// Who wrote the lease last, and how old its process was.
fn said(lease: &Lease) -> Option<(&str, &str, i64)> {
    let owner = lease.owner.as_deref().filter(|_| lease.is_native())?;
    let clock = i64::try_from(lease.native_clock?).ok()?;
    Some((owner, lease.native_process.as_deref()?, clock))
}

fn millis(moment: Instant, base: Instant) -> i64 {
    match moment.checked_duration_since(base) {
        Some(after) => as_millis(after),
        None => -as_millis(base.saturating_duration_since(moment)),
    }
}

fn as_millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decide::assignment::Observations, model::sequence::Checkpoint};

    const FAILOVER: Duration = Duration::from_secs(10);

    /// A lease of `a` as its process wrote it when it was so old, by its counter-th write.
    fn lease(key: &str, counter: u64, clock: u64) -> Lease {
        Lease {
            owner: Some("a".to_owned()),
            counter,
            native_counter: Some(counter),
            native_process: Some("process".to_owned()),
            native_clock: Some(clock),
            ..Lease::new(key, Checkpoint::TrimHorizon)
        }
    }

    /// What is known of one lease dates another that was never seen before.
    #[test]
    fn one_lease_that_stands_still_dates_the_others() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut seen = Observations::new(FAILOVER);
        // Read half a second after it was written.
        seen.observe(&[lease("0", 1, 100_000)], at(500));
        assert_eq!(
            seen.due(&lease("0", 1, 100_000)),
            Some((at(500), at(10_501)))
        );
        // Read at once: the process began half a second earlier than it seemed.
        seen.observe_some(&[lease("0", 2, 103_500)], at(3_500));
        seen.observe_some(&[lease("0", 3, 107_000)], at(8_000));
        let due = seen.due(&lease("0", 3, 107_000));
        assert_eq!(
            due,
            Some((at(8_000), at(17_001))),
            "a second old when it was read"
        );
        seen.observe_some(&[lease("0", 3, 107_000)], at(17_001));
        assert!(seen.is_available(&lease("0", 3, 107_000), at(17_001)));
        let (earlier, later) = (lease("1", 9, 106_000), lease("2", 9, 108_500));
        seen.observe_some(&[earlier.clone(), later.clone()], at(17_010));
        assert!(seen.is_available(&earlier, at(17_010)), "though seen once");
        assert!(!seen.is_available(&later, at(17_010)));
        assert_eq!(
            seen.next_over(&[earlier, later.clone()], at(17_010)),
            Some(at(18_501))
        );
        assert!(seen.is_available(&later, at(18_501)));
        // It lives after all.
        let moved = lease("2", 10, 119_000);
        seen.observe_some(std::slice::from_ref(&moved), at(19_000));
        assert!(!seen.is_available(&moved, at(19_000)));
        assert!(!seen.is_available(&lease("1", 9, 106_000), at(19_000)));
    }

    /// Its machine was suspended for eight seconds: by its clock its leases look that much older.
    #[test]
    fn a_clock_that_stood_still_is_set_right_by_a_lease_that_moves() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut seen = Observations::new(FAILOVER);
        seen.observe(&[lease("0", 1, 100_000)], at(0));
        seen.observe(&[lease("0", 2, 103_500)], at(3_500));
        seen.observe(&[lease("0", 3, 104_500)], at(12_500));
        assert!(!seen.is_available(&lease("0", 3, 104_500), at(12_500)));
        seen.observe(&[lease("0", 4, 108_000)], at(16_000));
        let due = seen.due(&lease("0", 4, 108_000)).expect("seen");
        assert_eq!(due.1, at(26_001), "as if it was written as it was read");
    }

    #[test]
    fn a_lease_that_is_read_twice_at_once_moved_once() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut seen = Observations::new(FAILOVER);
        seen.observe(&[lease("0", 1, 100_000)], at(0));
        let moved = lease("0", 2, 103_500);
        for _ in 0..2 {
            seen.observe(std::slice::from_ref(&moved), at(6_500));
            assert_eq!(seen.due(&moved), Some((at(6_500), at(13_501))));
        }
    }

    #[test]
    fn a_holder_may_be_silent_for_as_long_as_its_lease_says() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let said = |failover_millis| Lease {
            failover_millis,
            ..lease("0", 1, 100_000)
        };
        let stolen = Lease {
            owner: Some("java".to_owned()),
            counter: 2,
            ..said(Some(25_000))
        };
        for (lease, after) in [
            (said(None), 10_000),
            (said(Some(25_000)), 25_000),
            (said(Some(5_000)), 5_000),
            (said(Some(0)), 10_000),
            (said(Some(u64::MAX)), 10_000),
            (stolen, 10_000),
        ] {
            let mut seen = Observations::new(FAILOVER);
            let leases = [lease.clone()];
            seen.observe(&leases, start);
            assert_eq!(seen.due(&lease), Some((start, at(after + 1))), "{lease:?}");
            assert_eq!(seen.next_expiry("me", start), Some(at(after + 1)));
            seen.observe(&leases, at(after));
            assert!(!seen.is_available(&lease, at(after)), "{lease:?}");
            seen.observe(&leases, at(after + 1));
            assert!(seen.is_available(&lease, at(after + 1)), "{lease:?}");
        }
    }

    #[test]
    fn what_java_wrote_or_another_process_says_nothing() {
        let now = Instant::now();
        let mut seen = Observations::new(FAILOVER);
        seen.observe(&[lease("0", 1, 100_000)], now);
        let stolen = Lease {
            counter: 2,
            owner: Some("java".to_owned()),
            ..lease("0", 1, 100_000)
        };
        let again = Lease {
            native_process: Some("another".to_owned()),
            ..lease("1", 1, 10)
        };
        let later = now + Duration::from_secs(5);
        seen.observe(&[stolen.clone(), again.clone()], later);
        for lease in [stolen, again] {
            assert!(!seen.is_available(&lease, later));
            let due = later + FAILOVER + Duration::from_millis(1);
            assert_eq!(seen.due(&lease), Some((later, due)));
        }
    }
}
