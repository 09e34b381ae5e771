//! The time of day, as ages and decisions need it.

use jiff::Timestamp;
use tokio::time::Instant;

/// This machine's time as it was read once, and from then on by the monotonic clock: whoever sets
/// the clock of a machine that runs makes nothing older. By how much it is wrong AWS's own time
/// tells.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    time: Timestamp,
    at: Instant,
}

impl Clock {
    /// From now on.
    pub(super) fn start() -> Self {
        Self {
            time: Timestamp::now(),
            at: Instant::now(),
        }
    }

    /// The time of day then.
    pub(super) fn time_at(&self, at: Instant) -> Timestamp {
        let since = at.saturating_duration_since(self.at);
        self.time.checked_add(since).unwrap_or(Timestamp::MAX)
    }
}
