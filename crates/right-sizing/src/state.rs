//! The control law: from what is observed and what is remembered to the replicas wished.
//!
//! [`State::judge`] is the law, read from top to bottom. It has two ways to measure: `progress`, by
//! how fast positions move, and `busy`, by what pods say of themselves. `digest` says what of an
//! observation matters, `report` what else a decision shows.

mod busy;
mod digest;
mod progress;
mod report;

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use self::digest::Digest;
use crate::{
    decision::{Decision, Step},
    observation::{Observation, Settings},
    pod::{self, Pod},
    reason::Reason,
    shard::ShardMemory,
};

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;

/// A backlog shall be gone after this: more pods than the load alone needs.
const DRAIN_MS: u64 = 300 * SECOND;
/// After a wish for more, pods start and leases move before the next.
const PAUSE_MS: u64 = 2 * MINUTE;
/// Nothing unread and nothing read for so long is idle; less is the gap between two records.
const IDLE_MS: u64 = 2 * MINUTE;

/// What is remembered from refresh to refresh. The default knows nothing: the first refresh takes
/// the pods that hold leases as right.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    last_ms: u64,
    /// The replicas wished; none before the first refresh.
    wish: Option<u32>,
    /// When the wish last changed.
    wished_ms: u64,
    /// When a lease last changed hands.
    handed_over_ms: u64,
    /// Since when no shard is far behind.
    calm_since_ms: Option<u64>,
    /// Since when nothing is unread and nothing is read.
    idle_since_ms: Option<u64>,
    /// While fewer replicas are tried: how many sufficed before.
    trial_from: Option<u32>,
    /// The least that a pod was seen to carry, in thousandths of a shard, and until when that is
    /// remembered.
    carry: Option<(u64, u64)>,
    /// How long a limit is remembered now, in ms; none: for the usual time.
    remember_ms: Option<u64>,
    shards: BTreeMap<String, ShardMemory>,
    pods: BTreeMap<String, Pod>,
}

impl State {
    /// One refresh. Depends on nothing but its arguments and the refreshes before.
    pub fn decide(&mut self, seen: &Observation, settings: &Settings) -> Decision {
        let at = seen.at_ms.max(self.last_ms);
        self.observe(seen, at);
        let digest = self.digest(settings, at);
        let (step, reason) = self.judge(&digest, settings);
        self.last_ms = at;
        let replicas = self.wish.unwrap_or(1).max(1).min(digest.cap);
        Decision {
            at_ms: seen.at_ms,
            replicas,
            value: f64::from(settings.shard_count.max(1)) * f64::from(replicas),
            active: self.is_active(&digest, settings),
            step,
            reason,
            notes: self.notes(&digest, settings),
            shards_per_replica: per_replica(digest.shards, replicas),
            running: digest.running,
            carry: self.carry.map(|(milli, _)| milli as f64 / 1000.0),
            checkpoint_interval_ms: digest.interval_ms,
            shards: self.views(&digest),
        }
    }

    /// Brings the memories of shards and pods up to date.
    fn observe(&mut self, seen: &Observation, at: u64) {
        let before = self.shards.len();
        let ids: HashSet<_> = seen.shards.iter().map(|shard| shard.id.as_str()).collect();
        self.shards.retain(|id, _| ids.contains(id.as_str()));
        let mut resharded = self.shards.len() != before;
        for shard in &seen.shards {
            if let Some(memory) = self.shards.get_mut(&shard.id) {
                if memory.update(shard, at) {
                    self.handed_over_ms = at;
                }
            } else {
                let memory = ShardMemory::new(shard, at, self.wish.is_none());
                self.shards.insert(shard.id.clone(), memory);
                resharded = true;
            }
        }
        pod::update(&mut self.pods, seen, at);
        if resharded {
            // The replicas stay what they are; what a pod carried was counted in other shards.
            self.carry = None;
            self.trial_from = None;
            self.handed_over_ms = at;
        }
    }

    /// The control law.
    fn judge(&mut self, digest: &Digest, settings: &Settings) -> (Step, Reason) {
        let Some(wish) = self.wish else {
            return self.take_what_runs(digest);
        };
        // After shards were merged the wish may be more than they allow.
        let wish = wish.min(digest.cap).max(1);
        let calm = digest.lag_ms() <= digest.uneasy_ms();
        self.calm_since_ms = calm.then(|| self.calm_since_ms.unwrap_or(digest.at));
        self.remember_carry(digest);
        self.discount_idleness(digest, wish);

        if let Some(decided) = self.end_failed_trial(digest, settings, wish) {
            return decided;
        }
        if digest.is_late() {
            return self.relieve_late(digest, settings, wish);
        }
        if let Some(decided) = self.relieve_busy(digest, settings, wish) {
            return decided;
        }
        if calm {
            return self.reduce(digest, settings, wish);
        }
        let (shard, lag_ms) = digest.worst.clone().unwrap_or_default();
        (Step::Hold, Reason::Uneasy { shard, lag_ms })
    }

    /// The first refresh: the pods that run are the memory.
    fn take_what_runs(&mut self, digest: &Digest) -> (Step, Reason) {
        let running = digest.running;
        self.wish = Some(running.max(1));
        if running > 0 {
            // They may have come a moment ago. Where nothing runs, nothing has to settle.
            self.wished_ms = digest.at;
        }
        self.handed_over_ms = digest.at;
        (Step::First, Reason::FirstLook { running })
    }

    /// Time without work is no evidence that the pods suffice: it does not count as quiet, and a
    /// trial under way is off.
    fn discount_idleness(&mut self, digest: &Digest, wish: u32) {
        if digest.unread || self.shards.values().any(|shard| shard.read) {
            self.idle_since_ms = None;
            return;
        }
        let since = *self.idle_since_ms.get_or_insert(digest.at);
        if digest.at - since >= IDLE_MS {
            self.handed_over_ms += digest.at - self.last_ms;
            if let Some(from) = self.trial_from.take() {
                self.wish = Some(from.max(wish));
            }
        }
    }

    /// Nothing is late or close to it: fewer pods, when that has been so for long enough.
    fn reduce(&mut self, digest: &Digest, settings: &Settings, wish: u32) -> (Step, Reason) {
        let running = digest.running;
        let hold = |reason| (Step::Hold, reason);
        if !digest.unread && running == 0 {
            return hold(Reason::NothingUnread { pods: wish });
        }
        let left_ms = self.quiet_left_ms(digest);
        if left_ms > 0 {
            let pods = wish;
            return hold(match self.trial_from {
                Some(_) => Reason::Trying { pods, left_ms },
                None => Reason::Quiet { pods, left_ms },
            });
        }
        if running == 0 {
            return hold(Reason::NoneRun { pods: wish });
        }
        if running < wish {
            // Something else keeps them few, and they suffice: what runs is right.
            self.trial_from = None;
            self.change_wish(running, digest.at);
            return (Step::In, Reason::FewerRun { running });
        }
        if running > wish {
            let pods = wish;
            return hold(Reason::MoreRun { pods, running });
        }
        if self.trial_from.take().is_some() {
            // The trial held.
            self.remember_ms = None;
        }
        if wish == 1 {
            return hold(Reason::OnTime { pods: wish });
        }
        if self.every_pod_is_measured(digest.at) {
            self.reduce_by_busy(digest, settings, wish)
        } else {
            self.reduce_by_trial(digest, settings, wish)
        }
    }

    /// How much longer it has to be calm, without a lease moved or a wish changed, in ms; half as
    /// long for calm alone.
    fn quiet_left_ms(&self, digest: &Digest) -> u64 {
        let at = digest.at;
        let quiet = if self.every_pod_is_measured(at) {
            busy::QUIET_MS
        } else {
            progress::QUIET_MS
        };
        let calm_for = self.calm_since_ms.map_or(0, |since| at - since);
        let unchanged_for = at
            .saturating_sub(self.handed_over_ms)
            .min(at - self.wished_ms);
        let unchanged_left = quiet.saturating_sub(unchanged_for);
        unchanged_left.max((quiet / 2).saturating_sub(calm_for))
    }

    fn change_wish(&mut self, replicas: u32, at: u64) {
        self.wish = Some(replicas);
        self.wished_ms = at;
        self.calm_since_ms = None;
    }
}

/// The next numbers of shards per pod that fewer pods come to: first the bolder one, a quarter
/// more, then the very next. Shards divide evenly or not, so that is not always one more.
fn next_per_pod(digest: &Digest, settings: &Settings, wish: u32) -> [u32; 2] {
    let now = per_replica(digest.shards, wish).max(settings.shard_count);
    let next = digest.shards.div_ceil(wish - 1);
    [next.max(now + now / 4), next]
}

fn per_replica(shards: u32, replicas: u32) -> u32 {
    shards.div_ceil(replicas.max(1))
}
