//! Whether checkpoints move as they usually do. A trial of fewer pods shows something only while
//! they do: what stands is behind for another reason than too few pods, and does not show how far.
//! Of fewer than a third of the shards, on pods that read on, the reason is known: a record that
//! the consumer cannot get past.

use std::collections::{BTreeMap, BTreeSet};

use super::{Digest, MINUTE, SECOND, State};
use crate::{decision::Step, reason::Reason, shard::ShardMemory};

/// One shard may stand, and say nothing of the others.
const MANY: u32 = 2;
/// Of many shards so many of a hundred may.
const MANY_PERCENT: u32 = 10;
/// The usual is what so many of a hundred checkpoints kept to.
const USUAL_PERCENT: usize = 95;
/// Where no checkpoint was seen to move yet, one that stands for longer is not as usual; nor is
/// known for long what a look showed.
const UNKNOWN_MS: u64 = 90 * SECOND;
/// A trial is broken off when checkpoints stand for longer than this and twice the usual: new
/// owners need some time.
const STALLED_MS: u64 = 90 * SECOND;
/// A lease that nobody has held for longer than this is not about to be taken.
const FREE_MS: u64 = 2 * MINUTE;

/// Shards with something unread that do not move as usual.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Doubts {
    /// Those that should have moved by now.
    overdue: u32,
    /// Those that could not be looked into, where they are most of all or that is so for long.
    unseen: u32,
    /// Those that should have for long.
    stalled: u32,
    /// Those that have no owner for long.
    free: u32,
    /// As many of the first three are too many.
    many: u32,
}

impl Doubts {
    /// What keeps a trial from beginning, if anything.
    pub(super) fn forbid_a_trial(&self, pods: u32) -> Option<Reason> {
        if self.are_many(self.overdue) {
            let shards = self.overdue + self.free;
            return Some(Reason::CheckpointsStand { shards, pods });
        }
        let shards = self.unseen;
        (shards >= self.many).then_some(Reason::NotLookedInto { shards, pods })
    }

    /// Whether so many that do not move, and those without owner, are too many.
    fn are_many(&self, shards: u32) -> bool {
        self.free >= MANY || shards + self.free >= self.many
    }

    /// Whether that has been so for long.
    pub(super) fn are_old(&self) -> bool {
        self.end_a_trial().is_some()
    }

    /// Shards that end one that has begun, if they do.
    fn end_a_trial(&self) -> Option<u32> {
        self.are_many(self.stalled)
            .then_some(self.stalled + self.free)
    }
}

impl State {
    pub(super) fn doubts(&self, at: u64, left_out: &BTreeSet<String>, threshold_ms: u64) -> Doubts {
        let usual = self.usual_hold();
        let shards = self.shards.len() as u32;
        let mut doubts = Doubts {
            many: (shards * MANY_PERCENT).div_ceil(100).max(MANY),
            ..Doubts::default()
        };
        let mut unseen_now = 0;
        let mut overdue = BTreeMap::new();
        for (id, shard) in &self.shards {
            if shard.is_free_since(at.saturating_sub(FREE_MS)) {
                doubts.free += 1;
            }
            doubts.unseen += u32::from(!shard.is_seen_since(at.saturating_sub(UNKNOWN_MS)));
            unseen_now += u32::from(!shard.is_seen_since(at));
            let Some((held_ms, looks)) = shard.holds_now() else {
                continue;
            };
            // Some shards' owners checkpoint less often than the others'.
            let usual = shard.holds().chain(usual).reduce(larger);
            let (is_overdue, usual_ms) = match usual {
                Some((usual_ms, usual_looks)) => (looks > usual_looks, usual_ms),
                None => (held_ms > UNKNOWN_MS, 0),
            };
            if is_overdue {
                let is_stalled = held_ms > STALLED_MS.max(2 * usual_ms);
                overdue.insert(id, (shard, is_stalled));
            }
        }
        let poisoned = self.poisoned(&overdue, |id, shard| {
            left_out.contains(id) && shard.stands_surely(false, threshold_ms)
        });
        if poisoned.len() * 3 < self.unread_shards() as usize {
            overdue.retain(|id, _| !poisoned.contains(*id));
        }
        doubts.overdue = overdue.len() as u32;
        doubts.stalled = overdue.values().filter(|(_, stalled)| *stalled).count() as u32;
        if unseen_now as usize * 2 > self.shards.len() {
            doubts.unseen = unseen_now;
        }
        doubts
    }

    /// Of the shards that should have moved for long, those that stand while their pods read
    /// others: each has a record that its consumer cannot get past, and the others show what the
    /// pods carry.
    fn poisoned(
        &self,
        overdue: &BTreeMap<&String, (&ShardMemory, bool)>,
        stands: impl Fn(&String, &ShardMemory) -> bool,
    ) -> BTreeSet<String> {
        let mut last_moves: BTreeMap<&String, u64> = BTreeMap::new();
        let moving = self
            .shards
            .iter()
            .filter(|(id, _)| !overdue.contains_key(id));
        for (_, shard) in moving {
            if let (Some(pod), Some(moved)) = (&shard.owner, shard.last_move_ms) {
                let last = last_moves.entry(pod).or_default();
                *last = moved.max(*last);
            }
        }
        let reads_others = |shard: &ShardMemory| {
            let pod = shard.owner.as_ref();
            let moved = pod.and_then(|pod| last_moves.get(pod));
            moved.is_some_and(|moved| *moved > shard.standing_since_ms())
        };
        overdue
            .iter()
            .filter(|(id, (shard, stalled))| *stalled && stands(id, shard) && reads_others(shard))
            .map(|(id, _)| (*id).clone())
            .collect()
    }

    /// For how long nearly all checkpoints stood at most, in ms, and at how many looks they were
    /// seen so; none where none was seen to move.
    fn usual_hold(&self) -> Option<(u64, u32)> {
        let shards = self.shards.values();
        let (mut times, mut looks): (Vec<u64>, Vec<u32>) =
            shards.flat_map(|shard| shard.holds()).unzip();
        let at = times.len().checked_sub(1)? * USUAL_PERCENT / 100;
        let (_, time, _) = times.select_nth_unstable(at);
        let (_, looks, _) = looks.select_nth_unstable(at);
        Some((*time, *looks))
    }

    /// Nothing of a trial can be seen while checkpoints stand: what ran before is better known.
    pub(super) fn break_trial_off(&mut self, digest: &Digest, wish: u32) -> Option<(Step, Reason)> {
        let shards = digest.doubts.end_a_trial()?;
        let pods = self.trial_from.take_if(|from| *from > wish)?;
        self.change_wish(pods, digest.at);
        let tried = wish;
        let reason = Reason::TrialBrokenOff {
            tried,
            shards,
            pods,
        };
        Some((Step::Back, reason))
    }
}

fn larger(a: (u64, u32), b: (u64, u32)) -> (u64, u32) {
    (a.0.max(b.0), a.1.max(b.1))
}
