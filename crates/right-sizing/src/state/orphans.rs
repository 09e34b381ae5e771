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
/// How long it is remembered that more pods took none, or how many leases a pod takes.
const REMEMBER_MS: u64 = 240 * MINUTE;

/// What is remembered of shards without owner.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Orphans {
    /// More pods were wished so that they take these.
    helping: Option<Help>,
    /// More pods took none of these.
    given_up: BTreeSet<String>,
    /// With so many pods.
    given_up_pods: u32,
    given_up_until_ms: u64,
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
            pods: self.given_up_pods,
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
        orphans.given_up.retain(|id| !has_owner(id));
        if digest.at > orphans.given_up_until_ms {
            orphans.given_up.clear();
        }
        if let Some(help) = orphans
            .helping
            .take_if(|help| help.shards.iter().any(has_owner))
        {
            orphans.limit = Some((help.per_pod, digest.at + REMEMBER_MS));
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
        let waited = |help: &mut Help| digest.at - help.since_ms >= HELPED_MS;
        if let Some(help) = self.orphans.helping.take_if(waited) {
            let shards = help.shards.len() as u32;
            self.orphans.given_up.extend(help.shards);
            self.orphans.given_up_pods = help.pods;
            self.orphans.given_up_until_ms = digest.at + REMEMBER_MS;
            if wish == help.pods {
                self.change_wish(help.from, digest.at);
                let reason = Reason::NobodyTook {
                    shards,
                    tried: help.pods,
                    pods: help.from,
                };
                return Some((Step::In, reason));
            }
        }
        if overdue.is_empty() {
            return None;
        }
        let per_pod = digest.fullest.max(settings.shard_count).max(1);
        let pods = digest.shards.div_ceil(per_pod);
        if self.orphans.helping.is_some() || pods <= wish.max(digest.running) {
            return None;
        }
        let shards = overdue.len() as u32;
        self.orphans.helping = Some(Help {
            since_ms: digest.at,
            from: wish,
            pods,
            per_pod: digest.fullest,
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
