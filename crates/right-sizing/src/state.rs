//! The control law: from what is observed and what is remembered to the replicas wished.
//!
//! [`State::judge`] is the law, read from top to bottom. It has two ways to measure: `progress`, by
//! how fast positions move, and `busy`, by what pods say of themselves. Where neither tells
//! anything `outage` and `orphans` decide; `doubt` says whether a trial would. `digest` says what
//! of an observation matters, `clock` when it was, `report` what else a decision shows.

mod busy;
mod clock;
mod digest;
mod doubt;
mod orphans;
mod outage;
mod progress;
mod report;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::{Deserialize, Serialize};

use self::{
    clock::Clock,
    digest::Digest,
    orphans::Orphans,
    outage::{Found, OutageMemory},
};
use crate::{
    decision::{Decision, Step},
    observation::{Certainty, Observation, Settings},
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
/// From zero the first pods come and show how much they carry within this.
const WAKES_MS: u64 = 2 * MINUTE;
/// Owners that did not renew a lease for so long after the first look are dead: others have come
/// for them by then, and who renews seldom has done so.
const BELIEVED_MS: u64 = 5 * MINUTE;
/// Nothing unread and nothing read for so long is idle; less is the gap between two records.
const IDLE_MS: u64 = 2 * MINUTE;

/// What is remembered from refresh to refresh. The default knows nothing: the first refresh takes
/// the pods that hold leases as right.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    last_ms: u64,
    clock: Clock,
    /// Whether there was no work when that was last known.
    is_idle: bool,
    /// Since when there is, while that is so.
    active_since_ms: u64,
    /// The replicas wished; none before the first refresh.
    wish: Option<u32>,
    /// The wish, while it is what was found at the first refresh.
    first_wish: Option<u32>,
    /// Nobody ran at the first refresh, and the wish has not changed since: nothing says how many
    /// pods are needed.
    woke_unknown: bool,
    /// Since when something is unread, while that is so.
    woke_ms: Option<u64>,
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
    /// An outage, until its backlog is read.
    outage: Option<OutageMemory>,
    orphans: Orphans,
    /// Pods that were believed at the first refresh and have not renewed a lease since.
    unconfirmed: BTreeSet<String>,
    /// The first refresh.
    began_ms: u64,
    /// When a lease last changed hands, idle time or not.
    lease_moved_ms: u64,
    /// Refreshes since a lease changed hands or the wish changed.
    unchanged_refreshes: u32,
    /// The longest time between two renewals of a lease, in ms, as last said.
    rhythm_ms: Option<u64>,
    /// How long a limit is remembered now, in ms; none: for the usual time.
    remember_ms: Option<u64>,
    shards: BTreeMap<String, ShardMemory>,
    pods: BTreeMap<String, Pod>,
}

impl State {
    /// One refresh. Depends on nothing but its arguments and the refreshes before.
    pub fn decide(&mut self, seen: &Observation, settings: &Settings) -> Decision {
        let told_ms = seen.at_ms;
        let by_clock = self.clock.follow(seen, self.last_ms);
        let seen = by_clock.as_ref().unwrap_or(seen);
        let at = seen.at_ms;
        let unknown = match seen.certainty(u64::MAX) {
            Certainty::Unknown(unknown) => Some(unknown),
            Certainty::Whole | Certainty::LowerBound { .. } => None,
        };
        // Without shards nothing was seen, so nothing is forgotten either.
        let sees_shards = !seen.shards.is_empty();
        if sees_shards {
            self.observe(seen, at, settings.lag_threshold_ms);
        }
        let digest = self.digest(settings, at);
        if unknown.is_none() {
            self.note_activity(self.is_active(&digest, settings), at);
        }
        let outage = self.find_outage(&digest);
        self.follow_orphans(&digest);
        let overdue = self.overdue(&digest);
        let orphans = overdue.len() as u32 + self.orphans.given_up();
        let (step, reason) = if sees_shards {
            self.judge(&digest, outage.as_ref(), overdue, settings)
        } else {
            let pods = self.wish.unwrap_or(1).max(1);
            (Step::Hold, Reason::NoShards { pods })
        };
        self.last_ms = at;
        self.mark_standing(&digest);
        let look_soon = self.looks_soon(&digest);
        let wish = self.wish.unwrap_or(1).max(1);
        let replicas = if sees_shards {
            digest.at_least(wish)
        } else {
            wish
        };
        Decision {
            at_ms: told_ms,
            replicas,
            value: f64::from(settings.shard_count.max(1)) * f64::from(replicas),
            active: !self.is_idle,
            unknown,
            look_soon,
            step,
            reason,
            notes: self.notes(&digest, settings),
            shards_per_replica: per_replica(digest.shards, replicas),
            running: digest.running,
            carry: self.carry.map(|(milli, _)| milli as f64 / 1000.0),
            checkpoint_interval_ms: digest.interval_ms,
            outage: outage.map(|found| found.outage),
            orphans,
            undecided: if sees_shards { digest.undecided } else { 0 },
            shards: if sees_shards {
                self.views(&digest)
            } else {
                Vec::new()
            },
        }
    }

    /// Brings the memories of shards and pods up to date.
    fn observe(&mut self, seen: &Observation, at: u64, threshold_ms: u64) {
        self.unchanged_refreshes += 1;
        self.rhythm_ms = seen.rhythm_ms.or(self.rhythm_ms);
        let offset_ms = self.clock.aws_ahead_ms;
        let before = self.shards.len();
        let ids: HashSet<_> = seen.shards.iter().map(|shard| shard.id.as_str()).collect();
        self.shards.retain(|id, _| ids.contains(id.as_str()));
        let mut resharded = self.shards.len() != before;
        for shard in &seen.shards {
            if let Some(memory) = self.shards.get_mut(&shard.id) {
                if memory.update(shard, at, offset_ms, self.woke_unknown, threshold_ms) {
                    self.note_hand_over(at);
                }
            } else {
                let memory = ShardMemory::new(shard, at, offset_ms, self.wish.is_none());
                self.shards.insert(shard.id.clone(), memory);
                resharded = true;
            }
        }
        pod::update(&mut self.pods, seen, at);
        if resharded {
            // The replicas stay what they are; what a pod carried was counted in other shards.
            self.carry = None;
            self.trial_from = None;
            self.note_hand_over(at);
        }
    }

    fn note_activity(&mut self, is_active: bool, at: u64) {
        if !is_active {
            // Nothing has to run: whoever is gone is not missed.
            self.shards.values_mut().for_each(ShardMemory::forgive);
        } else if self.is_idle || self.wish.is_none() {
            self.active_since_ms = at;
        }
        self.is_idle = !is_active;
    }

    fn note_hand_over(&mut self, at: u64) {
        self.handed_over_ms = at;
        self.lease_moved_ms = at;
        self.unchanged_refreshes = 0;
    }

    /// Nothing says how many pods are needed, and the first ones come or have just come.
    fn looks_soon(&mut self, digest: &Digest) -> bool {
        if !self.woke_unknown || !digest.unread {
            self.woke_ms = None;
            return false;
        }
        digest.at - *self.woke_ms.get_or_insert(digest.at) < WAKES_MS
    }

    /// The control law.
    fn judge(
        &mut self,
        digest: &Digest,
        outage: Option<&Found>,
        overdue: BTreeSet<String>,
        settings: &Settings,
    ) -> (Step, Reason) {
        let Some(wish) = self.wish else {
            return self.take_what_runs(digest);
        };
        // After shards were merged the wish may be more than they allow.
        let wish = wish.min(digest.cap).max(1);
        let calm = digest.is_calm() && digest.undecided == 0;
        self.calm_since_ms = calm.then(|| self.calm_since_ms.unwrap_or(digest.at));
        self.remember_carry(digest);
        self.discount_idleness(digest, wish);

        if let Some(decided) = self.dismiss_dead_owners(digest, wish) {
            return decided;
        }
        if let Some(outage) = outage {
            return self.sit_out(outage, digest, settings, wish);
        }
        self.end_outage();
        if let Some(decided) = self.end_failed_trial(digest, settings, wish) {
            return decided;
        }
        if let Some(decided) = self.break_trial_off(digest, wish) {
            return decided;
        }
        let of_late = digest
            .is_late()
            .then(|| self.relieve_late(digest, settings, wish));
        if let Some((Step::Out, reason)) = of_late {
            return (Step::Out, reason);
        }
        if let Some(decided) = self.relieve_full(&overdue, digest, settings, wish) {
            return decided;
        }
        if digest.undecided > 0 {
            return (Step::Hold, digest.undecided_reason(wish));
        }
        if let Some(decided) = of_late {
            return decided;
        }
        if let Some(decided) = self.relieve_busy(digest, settings, wish) {
            return decided;
        }
        if calm && overdue.is_empty() {
            if self.orphans.given_up() > 0 {
                return (Step::Hold, self.orphans.untaken_reason(wish));
            }
            return self.reduce(digest, settings, wish);
        }
        (Step::Hold, digest.uneasy_reason(wish))
    }

    /// The first refresh: the pods that run are the memory.
    fn take_what_runs(&mut self, digest: &Digest) -> (Step, Reason) {
        let running = digest.running;
        self.wish = Some(running.max(1));
        self.first_wish = self.wish;
        self.woke_unknown = running == 0;
        self.note_hand_over(digest.at);
        self.began_ms = digest.at;
        let unconfirmed = self.pods.iter().filter(|(_, pod)| !pod.confirmed);
        self.unconfirmed = unconfirmed.map(|(name, _)| name.clone()).collect();
        let reason = if digest.undecided > 0 {
            digest.undecided_reason(running.max(1))
        } else {
            Reason::FirstLook { running }
        };
        (Step::First, reason)
    }

    /// Owners of leases that were believed at the first refresh, and died before it: the pods that
    /// live are the memory. Once the wish has changed, it says more than they do.
    fn dismiss_dead_owners(&mut self, digest: &Digest, wish: u32) -> Option<(Step, Reason)> {
        let pods = &self.pods;
        let is_confirmed = |name: &String| pods.get(name).is_some_and(|pod| pod.confirmed);
        self.unconfirmed.retain(|name| !is_confirmed(name));
        let believed_ms = BELIEVED_MS.max(3 * self.rhythm_ms.unwrap_or(0));
        if digest.at - self.began_ms < believed_ms {
            return None;
        }
        let unconfirmed = std::mem::take(&mut self.unconfirmed);
        let (known, dead) = unconfirmed
            .into_iter()
            .partition::<BTreeSet<String>, _>(|name| self.pods.contains_key(name));
        self.unconfirmed = known;
        // What nobody reads tells of an outage, and those that it befell are the best that is known
        // of what ran.
        let befallen = self.pods_that_left_work(digest);
        let dead = dead.iter().filter(|pod| !befallen.contains_key(&***pod));
        let dead = dead.count() as u32;
        if dead == 0 || self.first_wish != Some(wish) {
            return None;
        }
        // Others may have come in their place.
        let pods = (wish - dead.min(wish)).max(digest.running).max(1);
        if pods == wish {
            return None;
        }
        self.change_wish(pods, digest.at);
        self.first_wish = Some(pods);
        Some((Step::In, Reason::OwnersDead { dead, pods }))
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
        let doubt = digest.doubts.forbid_a_trial(wish);
        let left_ms = self.quiet_left_ms(digest);
        if let Some(reason) = doubt.filter(|_| left_ms == 0 || digest.doubts.are_old()) {
            return hold(reason);
        }
        if left_ms > 0 {
            let pods = wish;
            return hold(match self.trial_from {
                Some(_) => Reason::Trying { pods, left_ms },
                None if pods == 1 => Reason::OnTime { pods },
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
        if let Some(decided) = self.return_from_outage(digest, wish) {
            return decided;
        }
        if wish == 1 {
            return hold(Reason::OnTime { pods: wish });
        }
        if self.exceeds_lease_limit(digest, settings, wish) {
            let limit = self.orphans.limit().unwrap_or(0);
            return hold(Reason::LeaseLimit { pods: wish, limit });
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
        let by_trial = !self.every_pod_is_measured(at);
        let quiet = if by_trial && !self.is_recovering() {
            self.quiet_before_trial_ms(digest)
        } else {
            busy::QUIET_MS
        };
        let calm_for = self.calm_since_ms.map_or(0, |since| at - since);
        let unchanged_for = at
            .saturating_sub(self.handed_over_ms)
            .min(at - self.wished_ms);
        let unchanged_left = quiet.saturating_sub(unchanged_for);
        let calm_left = (quiet / 2).saturating_sub(calm_for);
        let left = unchanged_left.max(calm_left);
        if by_trial {
            left.max(self.refreshes_left_ms(unchanged_for))
        } else {
            left
        }
    }

    fn change_wish(&mut self, replicas: u32, at: u64) {
        self.wish = Some(replicas);
        self.first_wish = None;
        self.woke_unknown = false;
        self.wished_ms = at;
        self.unchanged_refreshes = 0;
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
