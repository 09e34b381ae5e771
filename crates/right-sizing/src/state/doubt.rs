//! Whether checkpoints move as they usually do. A trial of fewer pods shows something only while
//! they do: what stands is behind for another reason than too few pods, and does not show how far.

use super::{Digest, MINUTE, SECOND, State};
use crate::{decision::Step, reason::Reason};

/// One shard that stands is a record that its consumer cannot get past.
const MANY: u32 = 2;
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
    /// Those that should have for long, or have no owner for long.
    stalled: u32,
}

impl Doubts {
    /// What keeps a trial from beginning, if anything.
    pub(super) fn forbid_a_trial(&self, pods: u32) -> Option<Reason> {
        match (self.overdue, self.unseen) {
            (MANY.., _) => Some(Reason::CheckpointsStand {
                shards: self.overdue,
                pods,
            }),
            (_, MANY..) => Some(Reason::NotLookedInto {
                shards: self.unseen,
                pods,
            }),
            _ => None,
        }
    }

    /// Whether that has been so for long.
    pub(super) fn are_old(&self) -> bool {
        self.end_a_trial().is_some()
    }

    /// Shards that end one that has begun, if they do.
    fn end_a_trial(&self) -> Option<u32> {
        (self.stalled >= MANY).then_some(self.stalled)
    }
}

impl State {
    pub(super) fn doubts(&self, at: u64) -> Doubts {
        let usual = self.usual_hold();
        let mut doubts = Doubts::default();
        let mut unseen_now = 0;
        for shard in self.shards.values() {
            if shard.is_free_since(at.saturating_sub(FREE_MS)) {
                doubts.overdue += 1;
                doubts.stalled += 1;
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
            doubts.overdue += u32::from(is_overdue);
            doubts.stalled += u32::from(is_overdue && held_ms > STALLED_MS.max(2 * usual_ms));
        }
        if unseen_now as usize * 2 > self.shards.len() {
            doubts.unseen = unseen_now;
        }
        doubts
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
