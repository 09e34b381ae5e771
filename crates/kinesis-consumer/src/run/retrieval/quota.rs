//! The bytes of a shard that may be read now: as many a second as the quota says, and most of one
//! second's worth ahead, as AWS keeps such quotas as buckets that fill while nobody reads.

use std::time::Duration;

use tokio::time::Instant;

/// The part of a second's worth that may be read ahead. The rest is for calls that arrive closer
/// to each other than they were sent.
const AHEAD: f64 = 0.75;

#[derive(Debug)]
pub(super) struct Quota {
    a_second: f64,
    ahead: f64,
    /// Bytes that may be read at once; less than 0: a debt.
    left: f64,
    /// As of then.
    at: Instant,
}

impl Quota {
    pub(super) fn new(a_second: u64) -> Self {
        let a_second = a_second.max(1) as f64;
        Self {
            a_second,
            ahead: AHEAD * a_second,
            left: AHEAD * a_second,
            at: Instant::now(),
        }
    }

    /// A call of that time read so many bytes. Returns when the next one may begin. More than a
    /// second's worth is waited for in full, as AWS documents it.
    pub(super) fn take(&mut self, bytes: usize, at: Instant) -> Instant {
        let bytes = bytes as f64;
        let new = at.saturating_duration_since(self.at).as_secs_f64() * self.a_second;
        let left = (self.left + new).min(self.ahead);
        self.left = if bytes > self.a_second {
            -bytes
        } else {
            left - bytes
        };
        self.at = self.at.max(at);
        self.at + Duration::from_secs_f64((-self.left).max(0.0) / self.a_second)
    }

    /// AWS refused a call: others read, too, or nothing may be read ahead.
    pub(super) fn refused(&mut self) {
        self.ahead = 0.0;
        self.left = self.left.min(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    /// When each of so many calls may begin that read `bytes` each, in milliseconds.
    fn begins(quota: &mut Quota, bytes: usize, calls: usize) -> Vec<u128> {
        let start = quota.at;
        let mut next = start;
        let begin = |_| {
            next = quota.take(bytes, next);
            (next - start).as_millis()
        };
        (0..calls).map(begin).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn most_of_a_second_is_read_ahead_and_the_rest_at_the_quotas_pace() {
        let mut quota = Quota::new(2 << 20);
        assert_eq!(begins(&mut quota, MIB, 5), [0, 250, 750, 1250, 1750]);
        // It fills again, and no further.
        quota.take(0, quota.at + Duration::from_secs(60));
        assert_eq!(begins(&mut quota, MIB, 3), [0, 250, 750]);
    }

    #[tokio::test(start_paused = true)]
    async fn more_than_a_second_is_paid_in_full() {
        let mut quota = Quota::new(2 << 20);
        assert_eq!(begins(&mut quota, 10 * MIB, 2), [5000, 10_000]);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_read_ahead_where_aws_refused_that() {
        let mut quota = Quota::new(2 << 20);
        assert_eq!(begins(&mut quota, MIB, 1), [0]);
        quota.refused();
        quota.take(0, quota.at + Duration::from_secs(60));
        assert_eq!(begins(&mut quota, MIB, 3), [500, 1000, 1500]);
    }
}
