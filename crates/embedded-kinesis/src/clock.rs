//! The server's own clock: wall time that a test can move forward.
//!
//! Every duration the server keeps (UPDATING, iterators, tokens, retention, limits, sessions) is
//! measured on it, so that nothing has to be waited for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::{Instant, sleep};

use crate::protocol::AwsError;

#[derive(Debug)]
pub(crate) struct Clock {
    started: Instant,
    started_millis: u64,
    skipped_millis: AtomicU64,
    /// Where the clock was stopped; 0 while it runs.
    stopped_millis: AtomicU64,
    moved: Notify,
}

impl Clock {
    /// Ahead of the machine's by so many seconds.
    pub(crate) fn new(ahead: i64) -> Self {
        Self {
            started: Instant::now(),
            started_millis: wall_millis().saturating_add_signed(ahead.saturating_mul(1000)),
            skipped_millis: AtomicU64::new(0),
            stopped_millis: AtomicU64::new(0),
            moved: Notify::new(),
        }
    }

    /// Milliseconds since the epoch; never goes back.
    pub(crate) fn now(&self) -> u64 {
        let running = match self.stopped_millis.load(Ordering::Relaxed) {
            0 => self.running(),
            stopped => stopped,
        };
        running + self.skipped_millis.load(Ordering::Relaxed)
    }

    fn running(&self) -> u64 {
        self.started_millis + millis(self.started.elapsed())
    }

    /// From now on the clock moves by [`advance`](Self::advance) only.
    pub(crate) fn stop(&self) {
        self.stopped_millis.store(self.running(), Ordering::Relaxed);
        self.moved.notify_waiters();
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.skipped_millis.fetch_add(millis(by), Ordering::Relaxed);
        self.moved.notify_waiters();
    }

    /// Resolves once the clock, or what is measured by it, has been changed after this call.
    pub(crate) fn moved(&self) -> Notified<'_> {
        self.moved.notified()
    }

    /// What is measured by this clock has changed.
    pub(crate) fn look_again(&self) {
        self.moved.notify_waiters();
    }

    /// Returns at this time, unless the clock is moved meanwhile.
    pub(crate) async fn runs_to(&self, at: u64) {
        if self.stopped_millis.load(Ordering::Relaxed) == 0 {
            sleep(Duration::from_millis(at.saturating_sub(self.now()))).await;
        } else {
            std::future::pending().await
        }
    }
}

/// Whole milliseconds, rounded down; what does not fit is as good as for ever.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis())
        .unwrap_or(u64::MAX / 4)
        .min(u64::MAX / 4)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the wall clock"
)]
fn wall_millis() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, millis)
}

/// Is a signature of that time (`20261123T220712Z`) fresh enough?
pub(crate) fn in_time(
    signed: Option<&str>,
    now: u64,
    skew: Option<Duration>,
) -> Result<(), AwsError> {
    let (Some(skew), Some(signed)) = (skew, signed) else {
        return Ok(());
    };
    let at = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", signed)
        .and_then(|time| jiff::tz::TimeZone::UTC.to_timestamp(time))
        .map_or(0, jiff::Timestamp::as_millisecond);
    let off = u64::try_from(at).unwrap_or(0).abs_diff(now);
    if off <= millis(skew) {
        return Ok(());
    }
    let text = format!(
        "Signature expired or not yet current: {signed} is not near {}",
        iso8601(now)
    );
    Err(AwsError::new("InvalidSignatureException", text))
}

/// Is a signature of that time (`20261123T220712Z`) less than five minutes off, by a clock that is
/// ahead of this machine's by so many seconds?
pub fn is_fresh(signed: &str, ahead: i64) -> bool {
    let now = wall_millis().saturating_add_signed(ahead.saturating_mul(1000));
    in_time(Some(signed), now, Some(Duration::from_secs(300))).is_ok()
}

/// `2026-11-23T22:07:12Z`, as STS and the credentials endpoint write it.
pub(crate) fn iso8601(at: u64) -> String {
    let secs = at / 1000;
    let (year, month, day) = civil(secs / 86_400);
    let (hour, minute, second) = (secs / 3600 % 24, secs / 60 % 60, secs % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Days since the epoch to year, month, day (Howard Hinnant's `civil_from_days`).
fn civil(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let era = z / 146_097;
    let doe = z % 146_097;
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(iso8601(0), "1970-01-01T00:00:00Z");
        assert_eq!(iso8601(951_782_400_000), "2000-02-29T00:00:00Z");
        assert_eq!(iso8601(1_795_471_632_999), "2026-11-23T22:07:12Z");
    }

    #[test]
    fn a_moved_clock_stays_moved() {
        let clock = Clock::new(0);
        let before = clock.now();
        clock.advance(Duration::from_secs(3600));
        assert!(clock.now() >= before + 3_600_000);
        clock.stop();
        let stopped = clock.now();
        clock.advance(Duration::from_millis(7));
        assert_eq!(clock.now(), stopped + 7);
    }
}
