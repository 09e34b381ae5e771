//! An outage: checkpoints stand that something is unread after, and not of a single record. What
//! the pods can carry cannot be seen then, so what ran stays, however long it takes. When
//! checkpoints move again the backlog is late, and is relieved like any other; once it is read,
//! what ran before the outage is enough again.
//!
//! A single shard that stands while its neighbours move has a record that its consumer cannot get
//! past. It is left out, and that is all.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Digest, MINUTE, State, per_replica};
use crate::{
    decision::{Outage, Step},
    observation::Settings,
    pod::FALLING_BACK_MILLI,
    reason::Reason,
    shard::ShardMemory,
};

/// What a pod left unread is told as its outage when it is older than this, or than the threshold:
/// others take its leases sooner.
const ABANDONED_MS: u64 = MINUTE;
/// Where no pod is left, what is unread for so long is an outage, whoever left it, and in whatever
/// order: pods start within this.
const NOBODY_MS: u64 = 5 * MINUTE;
/// More pods that hold leases for so long run; in a rollout the old and the new do for less.
const STAYED_MS: u64 = 5 * MINUTE;

/// What is remembered of an outage until its backlog is read.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OutageMemory {
    /// The replicas that sufficed before it.
    before: u32,
    /// The replicas that it does not fall below: all that ran when it began, or came to stay.
    floor: u32,
    /// Since when more hold leases, and how many at least.
    more: Option<(u64, u32)>,
    /// Whether it is over.
    over: bool,
    /// What stands, and whose it was when it began to: it stands until its checkpoint moves or all
    /// is read, whoever holds it, and while nothing is known of it.
    standing: Standing,
}

impl OutageMemory {
    fn more_run(&self, digest: &Digest) -> Option<(u64, u32)> {
        let (since, least) = self.more.unwrap_or((digest.at, digest.running));
        (digest.running > self.floor).then(|| (since, least.min(digest.running)))
    }
}

/// Shards that stand, by id, and the pods that had them.
type Standing = BTreeMap<String, Option<String>>;

/// What stands, where that is an outage.
pub(super) struct Found {
    pub(super) outage: Outage,
    standing: Standing,
}

impl Digest {
    /// From when on a lease without owner has been so for long.
    fn stood_ms(&self) -> u64 {
        self.at.saturating_sub(self.stands_ms)
    }

    /// What nobody reads is abandoned when it is older than this, in ms.
    fn abandoned_ms(&self) -> u64 {
        self.threshold_ms.min(ABANDONED_MS)
    }
}

impl State {
    /// Whether what stands is an outage, and of whom.
    pub(super) fn find_outage(&self, digest: &Digest) -> Option<Found> {
        let standing = self.standing(digest);
        let since = |id: &String| self.shards.get(id).map(ShardMemory::standing_since_ms);
        let since_ms = standing.keys().filter_map(since).min()?;
        let last_stood_ms = standing.keys().filter_map(since).max()?;
        let known_until = digest.at.saturating_sub(digest.threshold_ms);
        // Of each pod: shards with something unread, or read since the last one stopped; and those
        // of them that stand.
        let mut pods: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
        let (mut unread, mut unread_and_free) = (0, 0);
        for (id, shard) in &self.shards {
            let stood_on = standing.get(id);
            let is_unread = shard.age_ms.is_some() || shard.moved_after(last_stood_ms);
            if stood_on.is_none() && !(is_unread && shard.is_seen_since(known_until)) {
                continue;
            }
            unread += 1;
            let is_free = stood_on.is_none() && shard.is_free_since(digest.stood_ms());
            unread_and_free += u32::from(is_free);
            let pod = stood_on.map_or(&shard.owner, |pod| pod);
            if let Some(pod) = pod {
                let (unread, still) = pods.entry(pod).or_default();
                *unread += 1;
                *still += u32::from(stood_on.is_some());
            }
        }
        pods.retain(|_, (unread, still)| unread == still);
        let still = standing.len() as u32;
        let of_whole_pods: u32 = pods.values().map(|(_, still)| still).sum();
        let is_outage = match still {
            // Where nobody is left nobody reads.
            _ if digest.running == 0 => true,
            1 => !self.is_poisoned(standing.keys().next()?),
            _ => of_whole_pods > 1 || still * 3 >= unread,
        };
        // Those that live first: they can be looked at.
        let (living, gone): (Vec<_>, Vec<_>) = pods
            .into_keys()
            .partition(|pod| self.pods.contains_key(*pod));
        let outage = Outage {
            since_ms,
            standing: still + unread_and_free,
            unread,
            undecided: digest.undecided,
            pods: living.into_iter().chain(gone).map(str::to_owned).collect(),
        };
        is_outage.then_some(Found { outage, standing })
    }

    /// What is known to stand: with an owner for longer than its habit, or since it was told as an
    /// outage; where no pod is left, what the last ones had.
    fn standing(&self, digest: &Digest) -> Standing {
        let owner = |id: &String| self.shards.get(id).and_then(|shard| shard.owner.clone());
        let owned = digest.standing.iter().map(|id| (id.clone(), owner(id)));
        let mut standing: Standing = owned.collect();
        if digest.running == 0 {
            let pods = self.pods_that_left_work(digest);
            standing.extend(self.shards.iter().filter_map(|(id, shard)| {
                let pod = shard.abandoned_by(digest.abandoned_ms())?;
                pods.contains_key(pod)
                    .then(|| (id.clone(), Some(pod.to_owned())))
            }));
            let long_ago = digest.at.saturating_sub(NOBODY_MS);
            let is_missed = !self.is_idle && self.active_since_ms <= long_ago;
            let free = self.shards.iter().filter(|(_, shard)| {
                is_missed && shard.age_ms.is_some() && shard.is_free_since(long_ago)
            });
            for (id, shard) in free {
                let left_by = || shard.left_by().cloned();
                standing.entry(id.clone()).or_insert_with(left_by);
            }
        }
        let told = self.outage.iter().filter(|memory| !memory.over);
        let told = told.flat_map(|memory| &memory.standing);
        let still_stands = |id: &String| {
            let shard = self.shards.get(id);
            shard.is_some_and(|shard| {
                let has_work = shard.age_ms.is_some() || shard.undecided;
                has_work && !shard.read && !shard.moved_after(self.last_ms)
            })
        };
        let told = told.filter(|(id, _)| still_stands(id));
        standing.extend(told.map(|(id, pod)| (id.clone(), pod.clone())));
        standing
    }

    /// Pods that are gone and left shards unread which nobody reads since, with how many: where it
    /// is more than one of a pod, or a third of all that are unread.
    pub(super) fn pods_that_left_work(&self, digest: &Digest) -> BTreeMap<&str, u32> {
        let mut pods: BTreeMap<&str, u32> = BTreeMap::new();
        for shard in self.shards.values() {
            if let Some(pod) = shard.abandoned_by(digest.abandoned_ms()) {
                *pods.entry(pod).or_default() += 1;
            }
        }
        let all: u32 = pods.values().sum();
        if all * 3 < self.unread_shards() {
            pods.retain(|_, shards| *shards > 1);
        }
        pods
    }

    pub(super) fn unread_shards(&self) -> u32 {
        let unread = self.shards.values().filter(|shard| shard.age_ms.is_some());
        unread.count() as u32
    }

    /// Whether others move while this one stands: others of its pod or, where it has no other with
    /// something unread, of any pod.
    fn is_poisoned(&self, id: &str) -> bool {
        let Some(shard) = self.shards.get(id) else {
            return false;
        };
        let since = shard.standing_since_ms();
        let others = || self.shards.iter().filter(|(other, _)| *other != id);
        let neighbours = || others().filter(|(_, other)| other.owner == shard.owner);
        let move_since = neighbours().any(|(_, other)| other.moved_after(since));
        let is_alone = !neighbours().any(|(_, other)| other.age_ms.is_some());
        move_since || (is_alone && others().any(|(_, other)| other.moved_after(since)))
    }

    /// An outage: nothing is tried, and what ran stays. Pods that move and are late still get help.
    pub(super) fn sit_out(
        &mut self,
        found: &Found,
        digest: &Digest,
        settings: &Settings,
        wish: u32,
    ) -> (Step, Reason) {
        let Found { outage, standing } = found;
        let before = wish.max(self.trial_from.take().unwrap_or(0));
        // Where nobody has run yet nothing is known to suffice.
        let sufficed = if self.woke_unknown {
            digest.cap
        } else {
            before
        };
        let standing = standing.clone();
        let memory = match self.outage.take() {
            Some(memory) if !memory.over => {
                let more = memory.more_run(digest);
                let stayed = more.filter(|(since, _)| digest.at - since >= STAYED_MS);
                let stayed = stayed.map_or(0, |(_, pods)| pods);
                OutageMemory {
                    floor: memory.floor.max(before).max(stayed),
                    more,
                    standing,
                    ..memory
                }
            }
            memory => OutageMemory {
                before: memory.map_or(sufficed, |memory| memory.before),
                floor: before.max(digest.running),
                more: None,
                over: false,
                standing,
            },
        };
        let pods = memory.floor.min(digest.cap).max(1);
        self.outage = Some(memory);
        self.calm_since_ms = None;
        let more = pods > wish;
        if more {
            self.change_wish(pods, digest.at);
        } else if digest.is_late()
            && let (Step::Out, reason) = self.relieve_late(digest, settings, wish)
        {
            // Pods that fall back while others stand meet more load than before, not a backlog.
            let falls_back = matches!(&reason, Reason::LateBeyondCarry { progress_milli, .. }
                if *progress_milli < FALLING_BACK_MILLI);
            if let (true, Some(memory), Some(wish)) = (falls_back, &mut self.outage, self.wish) {
                memory.before = memory.before.max(wish);
            }
            return (Step::Out, reason);
        }
        let lives = |pod: &String| self.pods.contains_key(pod);
        let reason = Reason::Outage {
            pods,
            standing: outage.standing,
            unread: outage.unread,
            undecided: outage.undecided,
            stands_ms: digest.at - outage.since_ms,
            gone: !outage.pods.is_empty() && !outage.pods.iter().any(lives),
            nobody: digest.running == 0,
            pod: outage.pods.first().cloned(),
            more_pods: outage.pods.len().saturating_sub(1),
        };
        (if more { Step::Back } else { Step::Hold }, reason)
    }

    /// The backlog of an outage is read: what ran before it is enough again.
    pub(super) fn return_from_outage(
        &mut self,
        digest: &Digest,
        wish: u32,
    ) -> Option<(Step, Reason)> {
        let OutageMemory { before, .. } = self.outage.take_if(|memory| memory.over)?;
        let limit = self.orphans.limit();
        let before = before.max(limit.map_or(1, |most| digest.shards.div_ceil(most.max(1))));
        if before >= wish {
            return None;
        }
        // The load may have grown meanwhile: it is a trial, of many pods less at once.
        let one_less = per_replica(digest.shards, before).saturating_sub(1).max(1);
        self.trial_from = Some(digest.shards.div_ceil(one_less).min(wish));
        self.change_wish(before, digest.at);
        let reason = Reason::BacklogRead {
            pods: before,
            from: wish,
        };
        Some((Step::In, reason))
    }

    /// Whether the backlog of an outage is being read.
    pub(super) fn is_recovering(&self) -> bool {
        self.outage.as_ref().is_some_and(|memory| memory.over)
    }

    /// Remembers who stands, or pauses: how far it came before says nothing of how fast it is read
    /// once it moves again. And who has a backlog of that.
    pub(super) fn mark_standing(&mut self, digest: &Digest) {
        for (id, shard) in &mut self.shards {
            let is_left_out = digest.left_out.contains(id);
            let is_behind = shard.lag_ms(digest.interval_ms) > digest.uneasy_ms();
            shard.makes_up = is_left_out || (shard.makes_up && is_behind);
            shard.stood |= is_left_out || shard.is_overdue(digest.threshold_ms, digest.interval_ms);
        }
    }

    /// Checkpoints move again.
    pub(super) fn end_outage(&mut self) {
        if let Some(memory) = &mut self.outage {
            memory.over = true;
            memory.standing.clear();
        }
    }
}
