//! The clock of the observations, which may be set between two of them. Decisions go by one that
//! only goes on.

use serde::{Deserialize, Serialize};

use crate::observation::Observation;

/// AWS says its time in whole seconds: smaller differences are no news.
const NOISE_MS: u64 = 1500;
/// A clock that gains more than this on AWS's from one observation to the next was set.
const SET_MS: i64 = 30_000;

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Clock {
    /// What has to be added to the observations' times, in ms.
    shift_ms: i64,
    /// What the last observation that knew both said: its own time, and AWS's.
    last: Option<(u64, u64)>,
    /// By how much AWS's clock is ahead of this one, in ms.
    pub(super) aws_ahead_ms: i64,
}

impl Clock {
    /// The observation by this clock, which said `last_ms` at the one before; none: as it is.
    pub(super) fn follow(&mut self, seen: &Observation, last_ms: u64) -> Option<Observation> {
        let between = |from: u64, to: u64| to.cast_signed() - from.cast_signed();
        if self.shift_ms > 0 && seen.at_ms >= last_ms {
            // It was set back, and is right again.
            self.shift_ms = 0;
        } else if let (Some((at_ms, aws_before)), Some(aws_ms)) = (self.last, seen.aws_ms)
            && aws_ms >= aws_before
        {
            let gained = between(at_ms, seen.at_ms) - between(aws_before, aws_ms);
            if gained > SET_MS {
                self.shift_ms -= gained;
            }
        }
        let is_back = between(last_ms, seen.at_ms.saturating_add_signed(self.shift_ms)).min(0);
        self.shift_ms -= is_back;
        if let Some(aws_ms) = seen.aws_ms {
            self.last = Some((seen.at_ms, aws_ms));
            let ahead = between(seen.at_ms, aws_ms) - self.shift_ms;
            if ahead.abs_diff(self.aws_ahead_ms) > NOISE_MS {
                self.aws_ahead_ms = ahead;
            }
        }
        (self.shift_ms != 0).then(|| seen.clone().shifted(self.shift_ms))
    }
}
