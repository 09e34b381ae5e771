//! What is remembered of one shard: since when its checkpoint stands, how often it moves, and where the position was.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::observation::ShardObservation;

/// A new holder's shards say something about it from its first checkpoint on, at the latest after this.
const SETTLE_MS: u64 = 60_000;
/// Checkpoint intervals are averaged over so many.
const HOLDS: usize = 6;
/// Positions kept, at the least; older ones go when they are of no more use.
const SAMPLES: usize = 64;

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ShardMemory {
    pub(crate) owner: Option<String>,
    checkpoint: String,
    /// When the checkpoint last moved, or the holder changed.
    moved_ms: u64,
    owned_ms: u64,
    /// From when on the positions describe the holder that is; none while its first checkpoint is waited for.
    pub(crate) measured_from_ms: Option<u64>,
    /// When something was first seen unread after this checkpoint, and how often since.
    unread_first_ms: Option<u64>,
    looks: u32,
    /// For how long checkpoints stood with something unread, and how often each was seen meanwhile.
    holds: VecDeque<(u64, u32)>,
    /// (time, position), at each move of the checkpoint and while caught up.
    samples: VecDeque<(u64, u64)>,
    /// Age of the oldest unread record, as of `seen_ms`.
    pub(crate) age_ms: Option<u64>,
    seen_ms: u64,
    /// Since the refresh before, something was read.
    pub(crate) read: bool,
    pub(crate) drained: bool,
}

impl ShardMemory {
    /// Seen for the first time, at `at`: `running` for long, for all that is known, or new.
    pub(crate) fn new(seen: &ShardObservation, at: u64, running: bool) -> Self {
        let mut memory = Self {
            owner: seen.owner.clone(),
            checkpoint: seen.checkpoint.clone(),
            moved_ms: at,
            owned_ms: at,
            measured_from_ms: running.then_some(at),
            unread_first_ms: None,
            looks: 0,
            holds: VecDeque::new(),
            samples: VecDeque::new(),
            age_ms: None,
            seen_ms: at,
            read: false,
            drained: false,
        };
        memory.look(seen, at, false);
        memory
    }

    /// Takes a further look at it. Whether a live holder lost, gained or changed it.
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
                self.holds.push_back((at.saturating_sub(first), self.looks));
                if self.holds.len() > HOLDS {
                    self.holds.pop_front();
                }
            }
            self.checkpoint.clone_from(&seen.checkpoint);
            self.moved_ms = at;
            self.unread_first_ms = None;
        }
        // A move seen together with the hand-over may be the last holder's.
        self.look(seen, at, moved);
        if handed_over {
            self.measured_from_ms = None;
        }
        handed_over
    }

    fn look(&mut self, seen: &ShardObservation, at: u64, moved: bool) {
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
                self.looks = 0;
            }
            self.looks += 1;
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

    /// For how long the checkpoint has stood still under one live holder with something unread.
    pub(crate) fn stands_ms(&self, at: u64) -> u64 {
        match (&self.owner, self.age_ms) {
            (Some(_), Some(_)) => at.saturating_sub(self.moved_ms),
            _ => 0,
        }
    }

    /// How often the holder checkpoints, if that is seen: 0 is at least at every look.
    pub(crate) fn checkpoint_interval_ms(&self) -> Option<u64> {
        let count = self.holds.len() as u64;
        if count < 2 {
            return None;
        }
        let looks: u64 = self.holds.iter().map(|(_, looks)| u64::from(*looks)).sum();
        let held: u64 = self.holds.iter().map(|(held, _)| held).sum();
        // Seen more than once each, by and large: it does not move at every look.
        Some(if looks * 5 >= count * 6 {
            held / count
        } else {
            0
        })
    }

    /// How far behind the holder is: the record's age without what the holder read since its last checkpoint, by its habit.
    pub(crate) fn lag_ms(&self, interval_ms: u64) -> u64 {
        let since = self
            .unread_first_ms
            .map_or(0, |first| self.seen_ms.saturating_sub(first));
        self.age_ms
            .unwrap_or(0)
            .saturating_sub(since.min(interval_ms))
    }

    /// Position gained per 1,000 ms, over at least `span`, not from before `from`.
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
