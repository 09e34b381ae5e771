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

/// What is remembered of an outage until its backlog is read.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OutageMemory {
    /// The replicas that sufficed before it.
    before: u32,
    /// The replicas that it does not fall below: all that ran when it began.
    floor: u32,
    /// Whether it is over.
    over: bool,
}

impl Digest {
    /// What nobody reads is abandoned when it is older than this, in ms.
    fn abandoned_ms(&self) -> u64 {
        self.threshold_ms.min(ABANDONED_MS)
    }
}

impl State {
    /// Whether what stands is an outage, and of whom.
    pub(super) fn find_outage(&self, digest: &Digest) -> Option<Outage> {
        if digest.running == 0 {
            return self.find_abandoned(digest);
        }
        let standing = &digest.left_out;
        if standing.is_empty() {
            return None;
        }
        let stands_since = |id| self.shards.get(id).map(ShardMemory::standing_since_ms);
        let last_stood_ms = standing.iter().filter_map(stands_since).max()?;
        // Of each pod: shards with something unread, or read since the last one stopped; and those
        // of them that stand.
        let mut pods: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
        let known_until = digest.at.saturating_sub(digest.threshold_ms);
        for (id, shard) in &self.shards {
            if let Some(owner) = &shard.owner
                && (shard.age_ms.is_some() || shard.moved_after(last_stood_ms))
                && (standing.contains(id) || shard.is_seen_since(known_until))
            {
                let (unread, still) = pods.entry(owner).or_default();
                *unread += 1;
                *still += u32::from(standing.contains(id));
            }
        }
        let unread: u32 = pods.values().map(|(unread, _)| unread).sum();
        let still: u32 = pods.values().map(|(_, still)| still).sum();
        let whole = pods
            .iter()
            .filter(|(_, (unread, still))| unread == still)
            .map(|(pod, (_, still))| ((*pod).to_owned(), *still));
        let whole: Vec<(String, u32)> = whole.collect();
        let is_whole_pod = whole.iter().any(|(_, still)| *still > 1);
        let is_outage = match still {
            1 => !self.is_poisoned(standing.first()?),
            _ => is_whole_pod || still * 3 >= unread,
        };
        let since_ms = standing.iter().filter_map(stands_since).min()?;
        is_outage.then(|| Outage {
            since_ms,
            standing: still,
            unread,
            pods: whole.into_iter().map(|(pod, _)| pod).collect(),
        })
    }

    /// The same where no pod is left: what they had stands.
    fn find_abandoned(&self, digest: &Digest) -> Option<Outage> {
        let pods = self.pods_that_left_work(digest);
        let left_since = self.shards.values().filter_map(|shard| {
            let pod = shard.abandoned_by(digest.abandoned_ms())?;
            pods.contains_key(pod).then_some(shard.standing_since_ms())
        });
        Some(Outage {
            since_ms: left_since.min()?,
            standing: pods.values().sum(),
            unread: self.unread_shards(),
            pods: pods.into_keys().map(str::to_owned).collect(),
        })
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

    fn unread_shards(&self) -> u32 {
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
        outage: &Outage,
        digest: &Digest,
        settings: &Settings,
        wish: u32,
    ) -> (Step, Reason) {
        let before = wish.max(self.trial_from.take().unwrap_or(0));
        let memory = match self.outage.take() {
            Some(memory) if !memory.over => OutageMemory {
                floor: memory.floor.max(before),
                ..memory
            },
            memory => OutageMemory {
                before: memory.map_or(before, |memory| memory.before),
                floor: before.max(digest.running),
                over: false,
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
        let reason = Reason::Outage {
            pods,
            standing: outage.standing,
            unread: outage.unread,
            stands_ms: digest.at - outage.since_ms,
            gone: digest.running == 0,
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
        }
    }
}
