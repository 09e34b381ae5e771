//! What is remembered of one shard: since when its checkpoint stands, how often it moves, and where
//! the position was.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::observation::ShardObservation;

/// A new owner's shards say something about it from its first checkpoint on, at the latest after
/// this.
const SETTLE_MS: u64 = 60_000;
/// Checkpoint intervals are averaged over so many moves.
const HOLDS: usize = 6;
/// The positions that are kept.
const SAMPLES: usize = 64;

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ShardMemory {
    pub(crate) owner: Option<String>,
    checkpoint: String,
    /// When the checkpoint last moved, the owner changed, or all was read.
    moved_ms: u64,
    /// When the owner changed.
    owned_ms: u64,
    /// From when on the positions describe the present owner; none while its first checkpoint is
    /// awaited.
    pub(crate) measured_from_ms: Option<u64>,
    /// When something was first seen unread after this checkpoint.
    unread_first_ms: Option<u64>,
    /// How often something was seen unread after this checkpoint.
    refreshes: u32,
    /// Of the last checkpoints: for how long each stood with something unread, in ms, and in how
    /// many refreshes it was seen so.
    holds: VecDeque<(u64, u32)>,
    /// (time, position), at each move of the checkpoint and while caught up, both in ms of the
    /// epoch.
    samples: VecDeque<(u64, u64)>,
    /// Age of the oldest unread record as of `seen_ms`, in ms.
    pub(crate) age_ms: Option<u64>,
    seen_ms: u64,
    /// Whether something was read since the refresh before.
    pub(crate) read: bool,
    /// Closed and all read, but not at SHARD_END.
    pub(crate) drained: bool,
}

impl ShardMemory {
    /// Seen for the first time, at `at`. `settled`: what it shows describes its owner from now on;
    /// else only from the owner's first checkpoint on.
    pub(crate) fn new(seen: &ShardObservation, at: u64, settled: bool) -> Self {
        let mut memory = Self {
            owner: seen.owner.clone(),
            checkpoint: seen.checkpoint.clone(),
            moved_ms: at,
            owned_ms: at,
            measured_from_ms: settled.then_some(at),
            unread_first_ms: None,
            refreshes: 0,
            holds: VecDeque::new(),
            samples: VecDeque::new(),
            age_ms: None,
            seen_ms: at,
            read: false,
            drained: false,
        };
        memory.observe(seen, at, false);
        memory
    }

    /// Takes in a further refresh. Returns whether the owner changed.
    pub(crate) fn update(&mut self, seen: &ShardObservation, at: u64) -> bool {
        let handed_over = self.owner != seen.owner;
        if handed_over {
            self.owner.clone_from(&seen.owner);
            self.owned_ms = at;
            self.moved_ms = at;
            self.measured_from_ms = None;
            self.unread_first_ms = None;
        }
        let moved = self.checkpoint != seen.checkpoint;
        if moved {
            if let Some(first) = self.unread_first_ms {
                self.holds
                    .push_back((at.saturating_sub(first), self.refreshes));
                if self.holds.len() > HOLDS {
                    self.holds.pop_front();
                }
            }
            self.checkpoint.clone_from(&seen.checkpoint);
            self.moved_ms = at;
            self.unread_first_ms = None;
        }
        // A move seen together with the hand-over may be the last owner's.
        self.observe(seen, at, moved);
        if handed_over {
            self.measured_from_ms = None;
        }
        handed_over
    }

    fn observe(&mut self, seen: &ShardObservation, at: u64, moved: bool) {
        let as_of = seen.as_of_ms.map_or(at, |as_of| as_of.min(at));
        self.read = moved;
        self.drained = seen.drained;
        self.seen_ms = as_of;
        // The clocks may differ by seconds: a record from the future is new.
        self.age_ms = seen
            .unread_since_ms
            .map(|since| as_of.saturating_sub(since));
        let caught_up = self.age_ms.is_none();
        if caught_up {
            self.unread_first_ms = None;
            self.moved_ms = at;
        } else {
            if self.unread_first_ms.is_none() {
                self.unread_first_ms = Some(as_of);
                self.refreshes = 0;
            }
            self.refreshes += 1;
        }
        if self.measured_from_ms.is_none() && self.owner.is_some() {
            if moved || caught_up {
                self.measured_from_ms = Some(as_of);
            } else if at.saturating_sub(self.owned_ms) >= SETTLE_MS {
                self.measured_from_ms = Some(self.owned_ms + SETTLE_MS);
            }
        }
        let fresh = self.samples.back().is_none_or(|(last, _)| as_of > *last);
        if fresh && (moved || caught_up || self.samples.is_empty()) {
            let position = as_of - self.age_ms.unwrap_or(0);
            self.samples.push_back((as_of, position));
            if self.samples.len() > SAMPLES {
                self.samples.pop_front();
            }
        }
    }

    /// For how long the checkpoint has stood still under one living owner with something unread, in
    /// ms.
    pub(crate) fn stands_ms(&self, at: u64) -> u64 {
        match (&self.owner, self.age_ms) {
            (Some(_), Some(_)) => at.saturating_sub(self.moved_ms),
            _ => 0,
        }
    }

    /// How often the owner checkpoints, in ms, if that is seen; 0: at least at every refresh.
    pub(crate) fn checkpoint_interval_ms(&self) -> Option<u64> {
        let count = self.holds.len() as u64;
        if count < 2 {
            return None;
        }
        let refreshes: u64 = self
            .holds
            .iter()
            .map(|(_, refreshes)| u64::from(*refreshes))
            .sum();
        let held: u64 = self.holds.iter().map(|(held, _)| held).sum();
        // Seen more than once each, by and large: it does not move at every refresh.
        Some(if refreshes * 5 >= count * 6 {
            held / count
        } else {
            0
        })
    }

    /// How far behind the owner is, in ms: the record's age less the time for which the checkpoint
    /// stands, up to the usual interval. Within it the owner has probably read on.
    pub(crate) fn lag_ms(&self, interval_ms: u64) -> u64 {
        let since = self
            .unread_first_ms
            .map_or(0, |first| self.seen_ms.saturating_sub(first));
        self.age_ms
            .unwrap_or(0)
            .saturating_sub(since.min(interval_ms))
    }

    /// Position gained in thousandths of a second per second, over at least `span` ms, not from
    /// before `from`.
    pub(crate) fn progress_milli(&self, from: u64, span: u64) -> Option<u64> {
        let (end, end_position) = *self.samples.back()?;
        let after = self.samples.iter().filter(|(at, _)| *at >= from);
        let ideal = end.saturating_sub(span + span / 8);
        let (start, start_position) = after
            .clone()
            .find(|(at, _)| *at >= ideal && end - at >= span)
            .or_else(|| after.rev().find(|(at, _)| end - at >= span))?;
        let gained = end_position.saturating_sub(*start_position);
        Some(gained * 1000 / (end - start).max(1))
    }
}
