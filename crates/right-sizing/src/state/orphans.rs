//! Shards that nobody takes while pods run. A pod that holds as many leases as it may (KCL's
//! `maxLeasesForWorker`) takes no more, however late they are: then more pods are the remedy, and
//! when they take none either, they are not.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Digest, MINUTE, SECOND, State, next_per_pod};
use crate::{
    decision::Step,
    observation::Settings,
    reason::{Note, Reason},
};

/// Leases are taken within this, by any consumer, unless its table has a slower rhythm.
const TAKEN_MS: u64 = 90 * SECOND;
/// More pods take leases within this.
const HELPED_MS: u64 = 3 * MINUTE;
/// After more pods took none it is tried again after this; each time after twice as long, up to
/// what is remembered.
const AGAIN_MS: u64 = 15 * MINUTE;
/// How long it is remembered that more pods took none, or how many leases a pod takes.
const REMEMBER_MS: u64 = 240 * MINUTE;

/// What is remembered of shards without owner.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Orphans {
    /// More pods were wished so that they take these.
    helping: Option<Help>,
    /// They took none in time, and are wished no more. They may come yet.
    undone: Option<Help>,
    /// They came, and took some: as many are needed.
    proven: Option<Help>,
    /// More pods took none of these.
    given_up: BTreeSet<String>,
    given_up_until_ms: u64,
    /// For how long they were given up last.
    waited_ms: Option<u64>,
    /// The most leases that a pod takes, and until when that is remembered.
    limit: Option<(u32, u64)>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Help {
    since_ms: u64,
    /// The replicas wished before, and since.
    from: u32,
    pods: u32,
    /// The pods that held leases then.
    running: u32,
    /// The most shards that a pod held.
    per_pod: u32,
    shards: BTreeSet<String>,
}

impl Orphans {
    /// Whether nothing is expected of more pods for this shard.
    pub(super) fn are_given_up(&self, id: &str) -> bool {
        self.given_up.contains(id)
    }

    /// The most leases that a pod takes, if a limit was seen.
    pub(super) fn limit(&self) -> Option<u32> {
        self.limit.map(|(limit, _)| limit)
    }

    /// How many shards more pods did not take.
    pub(super) fn given_up(&self) -> u32 {
        self.given_up.len() as u32
    }

    /// All that somebody holds is on time.
    pub(super) fn untaken_reason(&self, pods: u32) -> Reason {
        Reason::Untaken {
            shards: self.given_up(),
            pods,
        }
    }

    /// For the user: who takes none.
    pub(super) fn note(&self) -> Option<Note> {
        let shard = self.given_up.first()?.clone();
        Some(Note::NobodyTakes {
            shard,
            more: self.given_up.len() - 1,
            pods: self.undone.as_ref()?.pods,
        })
    }
}

impl State {
    /// Shards that nobody has taken for longer than it takes, while no lease moves at all.
    pub(super) fn overdue(&self, digest: &Digest) -> BTreeSet<String> {
        let limit_ms = TAKEN_MS.max(3 * self.rhythm_ms.unwrap_or(0));
        let is_long = |since: u64| digest.at.saturating_sub(since) > limit_ms;
        if digest.running == 0 || !is_long(self.lease_moved_ms) {
            return BTreeSet::new();
        }
        self.shards
            .iter()
            .filter(|(id, shard)| {
                shard.without_owner_since_ms().is_some_and(is_long)
                    && !self.orphans.are_given_up(id)
            })
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// Keeps what became of shards without owner: were they taken, and is a limit still one?
    pub(super) fn follow_orphans(&mut self, digest: &Digest) {
        let has_owner = |id: &String| {
            let shard = self.shards.get(id);
            shard.is_none_or(|shard| shard.owner.is_some())
        };
        let orphans = &mut self.orphans;
        let before = orphans.given_up.len();
        orphans.given_up.retain(|id| !has_owner(id));
        let was_taken = |help: &Help| help.shards.iter().any(has_owner);
        let shows_limit = |help: &Help| {
            was_taken(help) && digest.running > help.running && digest.fullest <= help.per_pod
        };
        // Late or not: what was taken when pods came was too much for those before.
        if let Some(help) = orphans.undone.take_if(|help| shows_limit(help)) {
            orphans.limit = Some((help.per_pod, digest.at + REMEMBER_MS));
            orphans.proven = Some(help);
            orphans.given_up.clear();
        }
        if let Some(help) = orphans.helping.take_if(|help| was_taken(help))
            && shows_limit(&help)
        {
            orphans.limit = Some((help.per_pod, digest.at + REMEMBER_MS));
            orphans.waited_ms = None;
        }
        if before > 0 && orphans.given_up.is_empty() {
            orphans.undone = None;
            orphans.waited_ms = None;
        }
        if digest.at > orphans.given_up_until_ms {
            orphans.given_up.clear();
            orphans.undone = None;
        }
        if let Some((limit, until)) = &mut orphans.limit
            && digest.fullest == *limit
        {
            *until = digest.at + REMEMBER_MS;
        }
        orphans
            .limit
            .take_if(|(limit, until)| digest.at > *until || digest.fullest > *limit);
    }

    /// More pods that took nothing are taken back; and pods that are full get company.
    pub(super) fn relieve_full(
        &mut self,
        overdue: &BTreeSet<String>,
        digest: &Digest,
        settings: &Settings,
        wish: u32,
    ) -> Option<(Step, Reason)> {
        if let Some(help) = self.orphans.proven.take()
            && wish < help.pods.min(digest.cap)
        {
            let pods = help.pods.min(digest.cap);
            self.trial_from = None;
            self.change_wish(pods, digest.at);
            let per_pod = help.per_pod;
            return Some((Step::Out, Reason::LimitShown { per_pod, pods }));
        }
        // Where the limit is known they are waited for.
        let is_known = self.orphans.limit.is_some();
        let waited = |help: &mut Help| {
            let may_come = is_known && digest.running < help.pods;
            digest.at - help.since_ms >= HELPED_MS && !may_come
        };
        if let Some(help) = self.orphans.helping.take_if(waited) {
            let wait_ms = self.orphans.waited_ms.map_or(AGAIN_MS, |waited| waited * 2);
            let wait_ms = wait_ms.min(REMEMBER_MS);
            let (shards, tried, pods) = (help.shards.len() as u32, help.pods, help.from);
            self.orphans.given_up.extend(help.shards.iter().cloned());
            self.orphans.given_up_until_ms = digest.at + wait_ms;
            self.orphans.waited_ms = Some(wait_ms);
            self.orphans.undone = Some(help);
            if wish == tried {
                self.change_wish(pods, digest.at);
                let reason = Reason::NobodyTook {
                    shards,
                    tried,
                    pods,
                };
                return Some((Step::In, reason));
            }
        }
        if overdue.is_empty() {
            return None;
        }
        let limit = self.orphans.limit().unwrap_or(0);
        let per_pod = digest.fullest.max(limit).max(settings.shard_count).max(1);
        let pods = digest.shards.div_ceil(per_pod);
        if self.orphans.helping.is_some() || pods <= wish.max(digest.running) {
            return None;
        }
        let shards = overdue.len() as u32;
        self.orphans.helping = Some(Help {
            since_ms: digest.at,
            from: wish,
            pods,
            running: digest.running,
            per_pod: digest.fullest.max(limit),
            shards: overdue.clone(),
        });
        self.trial_from = None;
        self.change_wish(pods, digest.at);
        let reason = Reason::PodsFull {
            shards,
            per_pod,
            pods,
        };
        Some((Step::Out, reason))
    }

    /// Whether fewer pods would each need more leases than a pod takes.
    pub(super) fn exceeds_lease_limit(
        &self,
        digest: &Digest,
        settings: &Settings,
        wish: u32,
    ) -> bool {
        let [_, next] = next_per_pod(digest, settings, wish);
        self.orphans.limit().is_some_and(|limit| next > limit)
    }
}
