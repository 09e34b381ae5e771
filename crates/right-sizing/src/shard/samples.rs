//! Where a shard's position was when, and so what it gains.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::pod::FALLING_BACK_MILLI;

/// A shard that gains less than this in two refreshes does not pause, in thousandths of a second
/// per second.
const PAUSED_MILLI: u64 = 250;
/// A position goes back by less with clocks and records that come late.
const SET_BACK_MS: u64 = 60_000;
/// The positions that are kept.
const KEPT: usize = 64;

/// (time, position), both in ms of the epoch, oldest first.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Samples(VecDeque<(u64, u64)>);

impl Samples {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Adds one, if it is newer.
    pub(super) fn add(&mut self, time: u64, position: u64) {
        if let Some((last_time, last)) = self.0.back() {
            if time <= *last_time {
                return;
            }
            // The lease table was restored, or the lease made anew: that is a backlog, and no slow
            // reading.
            if position + SET_BACK_MS < *last {
                self.0.clear();
            }
        }
        self.0.push_back((time, position));
        if self.0.len() > KEPT {
            self.0.pop_front();
        }
    }

    /// Whether it fell back no further between the last two positions.
    pub(crate) fn recovers(&self) -> bool {
        let mut latest = self.0.iter().rev();
        let (Some((end, to)), Some((start, from))) = (latest.next(), latest.next()) else {
            return false;
        };
        to.saturating_sub(*from) >= end - start
    }

    /// Whether it has fallen back for longer than a pause of 20 s makes it, a garbage collection's:
    /// that spoils two refreshes at the most, and leaves a third of both.
    pub(crate) fn falls_back(&self) -> bool {
        let latest: Vec<_> = self.0.iter().rev().take(4).collect();
        let gains_less = |(pair, milli): (&[&(u64, u64)], u64)| {
            let ((end, to), (start, from)) = (pair[0], pair[1]);
            to.saturating_sub(*from) * 1000 < (end - start) * milli
        };
        let all = |most: usize, milli: u64| {
            let mut pairs = latest.windows(2).take(most);
            pairs.all(|pair| gains_less((pair, milli)))
        };
        all(3, FALLING_BACK_MILLI) || (latest.len() > 2 && all(2, PAUSED_MILLI))
    }

    /// Position gained in thousandths of a second per second, over at least `span` ms, not from
    /// before `from`.
    pub(crate) fn progress_milli(&self, from: u64, span: u64) -> Option<u64> {
        let (end, end_position) = *self.0.back()?;
        let after = self.0.iter().filter(|(at, _)| *at >= from);
        let ideal = end.saturating_sub(span + span / 8);
        let (start, start_position) = after
            .clone()
            .find(|(at, _)| *at >= ideal && end - at >= span)
            .or_else(|| after.rev().find(|(at, _)| end - at >= span))?;
        let gained = end_position.saturating_sub(*start_position);
        Some(gained * 1000 / (end - start).max(1))
    }
}
