//! What is remembered of one shard: since when its checkpoint stands, how often it moves, and, by
//! `samples`, where the position was.

mod samples;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use self::samples::Samples;
use crate::observation::ShardObservation;

/// A new owner's shards say something about it from its first checkpoint on, at the latest after
/// this.
const SETTLE_MS: u64 = 60_000;
/// New owners move a checkpoint within so much more than the threshold.
const OWNERS_MS: u64 = 120_000;
/// Whoever was not seen to checkpoint so often may do it as seldom as this: once a minute is what
/// KCL's own examples do.
const KNOWN_MOVES: u32 = 3;
const UNKNOWN_HOLD_MS: u64 = 90_000;
/// A checkpoint that stands for so much longer than anybody's does on purpose was not made.
const SURELY_MORE_MS: u64 = 60_000;
/// Checkpoint intervals are averaged over so many moves.
const HOLDS: usize = 6;
/// Nobody checkpoints more rarely than this on purpose, unless the threshold is twice that.
const HOLD_MOST_MS: u64 = 600_000;
/// What is seen at fewer looks than this says little of how much intervals differ.
const SPREAD_LOOKS: u32 = 4;

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ShardMemory {
    pub(crate) owner: Option<String>,
    checkpoint: String,
    /// When the checkpoint last moved, the owner changed, or all was read.
    moved_ms: u64,
    /// When the owner changed.
    owned_ms: u64,
    /// When it was first seen to have an owner with this checkpoint, whoever that was; none while
    /// all is read.
    unmoved_since_ms: Option<u64>,
    /// When the checkpoint last moved.
    pub(crate) last_move_ms: Option<u64>,
    /// How often the checkpoint was seen to move.
    moves: u32,
    /// Its checkpoint stood for longer than usual.
    pub(crate) stood: bool,
    /// It was left out, and has not read since what had come meanwhile.
    pub(crate) makes_up: bool,
    /// Whose lease it was, while nobody took it since, and something is unread for so long.
    left_by: Option<String>,
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
    /// The same of the last one, where it was far longer than those.
    odd_hold: Option<(u64, u32)>,
    /// Where it was, at each move of the checkpoint and while caught up.
    pub(crate) samples: Samples,
    /// Age of the oldest unread record as of `seen_ms`, in ms.
    pub(crate) age_ms: Option<u64>,
    seen_ms: u64,
    /// Whether the last refresh brought news of its records.
    is_fresh: bool,
    /// Whether something was read since the refresh before.
    pub(crate) read: bool,
    /// Closed and all read, but not at SHARD_END.
    pub(crate) drained: bool,
    /// Nothing is known of its records yet.
    pub(crate) undecided: bool,
    /// Its row in the lease table cannot be read.
    pub(crate) malformed: bool,
}

impl ShardMemory {
    /// Seen for the first time, at `at`. `settled`: what it shows describes its owner from now on;
    /// else only from the owner's first checkpoint on.
    pub(crate) fn new(seen: &ShardObservation, at: u64, offset_ms: i64, settled: bool) -> Self {
        let mut memory = Self {
            owner: seen.owner.clone(),
            checkpoint: seen.checkpoint.clone(),
            moved_ms: at,
            owned_ms: at,
            unmoved_since_ms: None,
            last_move_ms: None,
            moves: 0,
            stood: false,
            makes_up: false,
            left_by: None,
            measured_from_ms: settled.then_some(at),
            unread_first_ms: None,
            refreshes: 0,
            holds: VecDeque::new(),
            odd_hold: None,
            samples: Samples::default(),
            age_ms: None,
            seen_ms: at,
            is_fresh: false,
            read: false,
            drained: false,
            undecided: false,
            malformed: false,
        };
        memory.observe(seen, at, offset_ms, false);
        memory
    }

    /// Takes in a further refresh. Returns whether the owner changed. `woke`: the application was
    /// found at zero, so that the first pods are measured at once.
    pub(crate) fn update(
        &mut self,
        seen: &ShardObservation,
        at: u64,
        offset_ms: i64,
        woke: bool,
        threshold_ms: u64,
    ) -> bool {
        let handed_over = self.owner != seen.owner;
        let had_owner = self.owner.is_some();
        if handed_over {
            let is_gone = seen.owner.is_none() && self.age_ms.is_some();
            self.left_by = self.owner.take().filter(|_| is_gone);
            self.owner.clone_from(&seen.owner);
            self.owned_ms = at;
            self.moved_ms = at;
            self.measured_from_ms = None;
            self.unread_first_ms = None;
        }
        let is_first = self.undecided && !seen.undecided;
        if is_first {
            if self.checkpoint != seen.checkpoint {
                // It moved while nobody looked: since when it is as it is, nobody knows.
                self.checkpoint.clone_from(&seen.checkpoint);
                self.unmoved_since_ms = None;
                self.unread_first_ms = None;
                self.last_move_ms = Some(at);
            }
            self.moved_ms = at;
        }
        let moved = !seen.undecided && self.checkpoint != seen.checkpoint;
        if moved {
            // After refreshes without news nobody knows when it moved.
            if let Some(first) = self.unread_first_ms
                && self.is_fresh
            {
                self.note_hold(at.saturating_sub(first), threshold_ms);
            }
            self.checkpoint.clone_from(&seen.checkpoint);
            self.moved_ms = at;
            self.last_move_ms = Some(at);
            self.moves = self.moves.saturating_add(1);
            self.left_by = None;
            self.unmoved_since_ms = None;
            self.unread_first_ms = None;
            if self.stood {
                // The time for which it stood says nothing of how fast it is read now.
                self.stood = false;
                self.samples.clear();
            }
        }
        self.observe(seen, at, offset_ms, moved);
        // A move seen together with the hand-over may be the last owner's, where there was one.
        if handed_over && (had_owner || !woke) {
            self.measured_from_ms = None;
        }
        handed_over
    }

    /// A checkpoint that stood far longer than those before stood for another reason than habit.
    /// Where the next one does as well, it is the new habit.
    fn note_hold(&mut self, held_ms: u64, threshold_ms: u64) {
        let hold = (held_ms, self.refreshes);
        let longest = self.holds.iter().map(|(held, _)| *held).max();
        let is_odd = self.holds.len() >= 2 && longest.is_some_and(|most| held_ms > 4 * most);
        let before = self.odd_hold.take();
        if self.stood && held_ms > hold_most_ms(threshold_ms) {
            return;
        }
        if self.stood && is_odd {
            let is_alike = |(odd_ms, _): &(u64, u32)| held_ms.abs_diff(*odd_ms) * 4 < held_ms;
            let Some(before) = before.filter(is_alike) else {
                self.odd_hold = Some(hold);
                return;
            };
            self.holds.clear();
            self.holds.push_back(before);
        }
        self.holds.push_back(hold);
        if self.holds.len() > HOLDS {
            self.holds.pop_front();
        }
    }

    fn observe(&mut self, seen: &ShardObservation, at: u64, offset_ms: i64, moved: bool) {
        self.read = moved;
        self.undecided = seen.undecided;
        self.malformed = seen.malformed;
        let as_of = seen.as_of_ms.map_or(at, |as_of| as_of.min(at));
        self.is_fresh = as_of == at && !seen.undecided;
        if seen.undecided {
            self.age_ms = None;
            self.drained = false;
            return;
        }
        let aws_time = as_of.saturating_add_signed(offset_ms);
        self.drained = seen.drained;
        self.seen_ms = as_of;
        // The clocks may differ by seconds: a record from the future is new.
        self.age_ms = seen
            .unread_since_ms
            .map(|since| aws_time.saturating_sub(since));
        let caught_up = self.age_ms.is_none();
        if caught_up {
            self.left_by = None;
            self.unread_first_ms = None;
            self.unmoved_since_ms = None;
            self.moved_ms = at;
        } else {
            if self.owner.is_some() {
                self.unmoved_since_ms.get_or_insert(at);
            }
            if self.unread_first_ms.is_none() {
                self.unread_first_ms = Some(as_of);
                self.refreshes = 0;
            }
            self.refreshes += u32::from(self.is_fresh);
        }
        if self.measured_from_ms.is_none() && self.owner.is_some() {
            if moved || caught_up {
                self.measured_from_ms = Some(as_of);
            } else if at.saturating_sub(self.owned_ms) >= SETTLE_MS {
                self.measured_from_ms = Some(self.owned_ms + SETTLE_MS);
            }
        }
        if moved || caught_up || self.samples.is_empty() {
            let position = aws_time - self.age_ms.unwrap_or(0);
            self.samples.add(as_of, position);
        }
    }

    /// For how long the checkpoint is known to stand still under one living owner with something
    /// unread, in ms. Probes that fail say nothing.
    fn stands_ms(&self) -> u64 {
        match (&self.owner, self.age_ms) {
            (Some(_), Some(_)) => self.seen_ms.saturating_sub(self.moved_ms),
            _ => 0,
        }
    }

    /// The same under whatever owners, one after the other.
    fn unmoved_ms(&self) -> u64 {
        match (&self.owner, self.age_ms, self.unmoved_since_ms) {
            (Some(_), Some(_), Some(since)) => self.seen_ms.saturating_sub(since),
            _ => 0,
        }
    }

    /// The pod that is gone, where it left something unread that is older than this by now, and
    /// that nobody has begun to read since.
    pub(crate) fn abandoned_by(&self, age_ms: u64) -> Option<&str> {
        let is_old = self.age_ms.is_some_and(|its| its > age_ms);
        self.left_by.as_deref().filter(|_| is_old)
    }

    /// Whoever left it did so rightly.
    pub(crate) fn forgive(&mut self) {
        self.left_by = None;
    }

    /// The pod that is gone, and that nobody has come for since.
    pub(crate) fn left_by(&self) -> Option<&String> {
        self.left_by.as_ref()
    }

    /// Whether it says nothing of capacity: with something unread its checkpoint stands for longer
    /// than `stands_ms`, or than may be where its habits are not known. That begins anew with a new
    /// owner, but owners that come and go without a checkpoint do not either move it.
    pub(crate) fn is_standing(&self, stands_ms: u64, threshold_ms: u64) -> bool {
        let stands_ms = if self.moves < KNOWN_MOVES {
            let seldom_ms = threshold_ms / 2 + SURELY_MORE_MS;
            stands_ms.max(UNKNOWN_HOLD_MS).max(seldom_ms)
        } else {
            stands_ms
        };
        self.stands_ms() > stands_ms || self.unmoved_ms() > stands_ms + OWNERS_MS
    }

    /// Whether it is sure that what stands does not do so by habit: a scaler that has just started
    /// does not know how seldom checkpoints are.
    pub(crate) fn stands_surely(&self, habit_is_known: bool, threshold_ms: u64) -> bool {
        let surely_ms = hold_most_ms(threshold_ms) + SURELY_MORE_MS;
        let is_far_behind = self.age_ms.is_some_and(|age| age > surely_ms);
        habit_is_known || self.moves >= KNOWN_MOVES || is_far_behind
    }

    /// For how long each of the last checkpoints stood with something unread, in ms, and at how
    /// many looks it was seen so.
    pub(crate) fn holds(&self) -> impl Iterator<Item = (u64, u32)> {
        self.holds.iter().copied()
    }

    /// The same of the present checkpoint; none where nobody holds it or nothing is unread.
    pub(crate) fn holds_now(&self) -> Option<(u64, u32)> {
        let first_ms = self.unread_first_ms.filter(|_| self.owner.is_some())?;
        self.age_ms?;
        Some((self.seen_ms.saturating_sub(first_ms), self.refreshes))
    }

    /// Whether something is unread and it has had no owner since before that time.
    pub(crate) fn is_free_since(&self, time_ms: u64) -> bool {
        self.without_owner_since_ms()
            .is_some_and(|since| since <= time_ms)
    }

    /// Whether its checkpoint should have moved by now, so that it may be about to stand: how fast
    /// it was read before says nothing then.
    pub(crate) fn is_overdue(&self, threshold_ms: u64, usual_ms: u64) -> bool {
        self.stands_ms() >= (threshold_ms / 2).max(self.interval_ms(usual_ms) * 3 / 2)
    }

    /// Since when the checkpoint stands.
    pub(crate) fn standing_since_ms(&self) -> u64 {
        self.unmoved_since_ms.unwrap_or(self.moved_ms)
    }

    /// Whether the checkpoint moved after that time.
    pub(crate) fn moved_after(&self, time_ms: u64) -> bool {
        self.last_move_ms.is_some_and(|moved| moved > time_ms)
    }

    /// Whether a probe has succeeded since that time.
    pub(crate) fn is_seen_since(&self, time_ms: u64) -> bool {
        self.seen_ms >= time_ms
    }

    /// Since when it has no owner although there is work for one; none: it has one, or none is
    /// needed, or whether it has one is not known.
    pub(crate) fn without_owner_since_ms(&self) -> Option<u64> {
        let has_work = self.age_ms.is_some() || self.drained;
        let since_ms = self.unread_first_ms.unwrap_or(0).max(self.owned_ms);
        (has_work && self.owner.is_none() && !self.malformed).then_some(since_ms)
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

    /// For how long the longest of the last checkpoints stood, in ms, where a few were seen.
    pub(crate) fn longest_hold_ms(&self) -> Option<u64> {
        let longest = self.holds().max().filter(|_| self.holds.len() > 2)?;
        Some(if longest.1 < SPREAD_LOOKS {
            0
        } else {
            longest.0
        })
    }

    /// The same, or what is usual: some shards' owners checkpoint far less often than the others'.
    pub(crate) fn interval_ms(&self, usual_ms: u64) -> u64 {
        let own_ms = self.checkpoint_interval_ms();
        own_ms.filter(|own| *own > 2 * usual_ms).unwrap_or(usual_ms)
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
}

/// For how long a checkpoint stands on purpose at the most, in ms.
fn hold_most_ms(threshold_ms: u64) -> u64 {
    HOLD_MOST_MS.max(threshold_ms / 2)
}
