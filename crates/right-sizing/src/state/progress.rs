//! By progress in event time: what a pod carries is seen only while its shards are behind. Late
//! shards tell at once how many shards a pod may have; while nothing is late, fewer pods are tried,
//! and a trial that makes records late ends at once and is remembered.

use super::{DRAIN_MS, Digest, MINUTE, PAUSE_MS, State, busy::pods_for, next_per_pod, per_replica};
use crate::{
    decision::Step,
    observation::Settings,
    pod::{FALLING_BACK_MILLI, Measured},
    reason::{Reason, Remedy},
};

/// Fewer pods are tried after so long without a lease moved or a wish changed.
const QUIET_MS: u64 = 10 * MINUTE;
/// Fewer pods are tried after so many refreshes, too.
const QUIET_REFRESHES: u32 = 40;
/// How long a pod's limit is remembered.
const REMEMBER_MS: u64 = 20 * MINUTE;
/// How long a pod's limit is remembered after trial upon trial that failed.
const REMEMBER_MOST_MS: u64 = 240 * MINUTE;
/// Of what a pod can carry, so much is asked of it in a trial, in thousandths.
const TRIAL_MILLI: u64 = 850;

impl State {
    /// Keeps the least that a pod with more than one shard was seen to carry.
    pub(super) fn remember_carry(&mut self, digest: &Digest) {
        if self.carry.is_some_and(|(_, until)| until < digest.at) {
            self.carry = None;
        }
        let least = digest
            .measured
            .iter()
            .filter(|pod| pod.holds > 1 && pod.lag_ms > digest.uneasy_ms())
            .map(|pod| pod.carry_milli)
            .min();
        if let Some(least) = least
            && self.carry.is_none_or(|(carry, _)| least <= carry)
        {
            let until = digest.at + self.remember_ms.unwrap_or(REMEMBER_MS);
            self.carry = Some((least, until));
        }
    }

    /// A trial that makes records late ends at once.
    pub(super) fn end_failed_trial(
        &mut self,
        digest: &Digest,
        settings: &Settings,
        wish: u32,
    ) -> Option<(Step, Reason)> {
        let from = self.trial_from.filter(|from| *from > wish)?;
        let failing = digest.measured.iter().find(|pod| {
            let uneasy = pod.lag_ms > digest.uneasy_ms() && !pod.recovers;
            let falls_back = uneasy && pod.progress_milli < FALLING_BACK_MILLI;
            falls_back || (pod.will_be_ms() > digest.late_ms && !self.makes_up(pod))
        })?;
        let remember = (self.remember_ms.unwrap_or(REMEMBER_MS) * 4).min(REMEMBER_MOST_MS);
        self.remember_ms = Some(remember);
        let carry = self.carry.map_or(failing.carry_milli, |(carry, _)| {
            carry.min(failing.carry_milli)
        });
        self.carry = Some((carry, digest.at + remember));
        self.trial_from = None;
        // More records may have come meanwhile. Where that is clear, more pods are needed than
        // before.
        let pods = digest.tightest().map_or(from, |pod| {
            let per_pod = (digest.allowed_milli(pod) * 6 / 5000) as u32;
            let per_pod = per_pod.max(settings.shard_count).max(1);
            from.max(digest.shards.div_ceil(per_pod))
        });
        self.change_wish(pods, digest.at);
        let reason = Reason::TrialFailed {
            tried: wish,
            shard: failing.worst.clone(),
            lag_ms: failing.lag_ms,
            progress_milli: failing.progress_milli,
            pods,
        };
        Some((Step::Back, reason))
    }

    /// Whether its worst shard reads what came while it stood, as behind a record that its consumer
    /// could not get past: that is late, and not for want of pods.
    fn makes_up(&self, pod: &Measured) -> bool {
        let worst = self.shards.get(&pod.worst);
        pod.progress_milli >= FALLING_BACK_MILLI && worst.is_some_and(|shard| shard.makes_up)
    }

    /// Something is late, or will be: as many pods as the tightest pod shows to be needed.
    pub(super) fn relieve_late(
        &mut self,
        digest: &Digest,
        settings: &Settings,
        wish: u32,
    ) -> (Step, Reason) {
        let Some(pod) = digest.tightest() else {
            return (Step::Hold, unmeasured(digest, wish));
        };
        let allowed_milli = digest.allowed_milli(pod);
        let most = match digest.busy_by_load {
            Some(_) => pod.holds,
            None => digest.fullest,
        };
        if allowed_milli >= u64::from(most) * 1000 {
            let reason = Reason::LateButEnough {
                shard: pod.worst.clone(),
                lag_ms: pod.lag_ms,
                progress_milli: pod.progress_milli,
                pods: wish,
            };
            return (Step::Hold, reason);
        }
        let per_pod = per_replica(digest.shards, wish)
            .min((allowed_milli / 1000) as u32)
            .min(digest.fullest.saturating_sub(1))
            .max(settings.shard_count)
            .max(1);
        let pods = digest.busy_by_load.map(|(together_milli, _)| {
            let work_milli = together_milli + digest.excess_milli();
            pods_for(work_milli).max(digest.more(wish)).min(digest.cap)
        });
        let replicas = pods.unwrap_or(digest.shards.div_ceil(per_pod));
        let since = digest.at - self.wished_ms;
        // Leases that moved, because a pod died, are a change as well; what an outage left is not
        // of them.
        let since_change = if digest.broad_backlog {
            since
        } else {
            since.min(digest.at - self.lease_moved_ms)
        };
        let remedy = if replicas <= wish {
            if wish >= digest.cap {
                Remedy::AtTheLimit
            } else {
                let (pods, running) = (wish, digest.running);
                Remedy::Awaited { pods, running }
            }
        } else if since_change < DRAIN_MS && pod.progress_milli >= 1000 {
            Remedy::UnlessItSuffices
        } else if since < PAUSE_MS && self.trial_from.is_none() {
            Remedy::WhenSettled
        } else {
            Remedy::MorePods
        };
        let reason = Reason::LateBeyondCarry {
            shard: pod.worst.clone(),
            lag_ms: pod.lag_ms,
            progress_milli: pod.progress_milli,
            carry_milli: pod.carry_milli,
            holds: pod.holds,
            per_pod,
            pods,
            remedy,
        };
        if remedy != Remedy::MorePods {
            return (Step::Hold, reason);
        }
        self.trial_from = None;
        self.change_wish(replicas, digest.at);
        (Step::Out, reason)
    }

    /// Nothing is late, and nobody can see whether fewer pods suffice: tries it, unless a pod is
    /// known not to carry that much.
    pub(super) fn reduce_by_trial(
        &mut self,
        digest: &Digest,
        settings: &Settings,
        wish: u32,
    ) -> (Step, Reason) {
        let choices @ [_, next] = next_per_pod(digest, settings, wish);
        let carries = |per_pod: u32, (carry_milli, _): (u64, u64)| {
            u64::from(per_pod) <= carry_milli * TRIAL_MILLI / 1_000_000
        };
        let per_pod = choices
            .into_iter()
            .filter(|per_pod| self.orphans.limit().is_none_or(|limit| *per_pod <= limit))
            .find(|per_pod| self.carry.is_none_or(|carry| carries(*per_pod, carry)));
        match (per_pod, self.carry) {
            (None, Some((carry_milli, until))) => {
                let reason = Reason::CarryKnown {
                    pods: wish,
                    carry_milli,
                    next,
                    left_ms: until - digest.at,
                };
                (Step::Hold, reason)
            }
            (per_pod, _) => {
                let pods = digest.shards.div_ceil(per_pod.unwrap_or(next));
                self.trial_from = Some(wish);
                self.change_wish(pods, digest.at);
                (Step::In, Reason::FewerTried { pods, from: wish })
            }
        }
    }

    /// Whoever has just started does not know what failed before. Of nothing but the pods that were
    /// found, the more each of fewer pods would get in addition, the longer it has to be quiet: ten
    /// minutes for a third more, half an hour for twice as much.
    pub(super) fn quiet_before_trial_ms(&self, digest: &Digest) -> u64 {
        let usual = QUIET_MS;
        if self.first_wish.is_none() || digest.running < 2 {
            return usual;
        }
        let now = per_replica(digest.shards, digest.running).max(1);
        let next = per_replica(digest.shards, digest.running - 1);
        usual.max(3 * usual * u64::from(next - now) / u64::from(now))
    }

    /// In how long enough refreshes will have been calm for a trial, in ms. Who is looked at seldom
    /// has shown less in the same time; more than twice the time is not waited for it.
    pub(super) fn refreshes_left_ms(&self, unchanged_for: u64) -> u64 {
        let seen = u64::from(self.unchanged_refreshes.max(1));
        let left = QUIET_REFRESHES.saturating_sub(self.unchanged_refreshes);
        let left_ms = u64::from(left) * unchanged_for / seen;
        left_ms.min((2 * QUIET_MS).saturating_sub(unchanged_for))
    }
}

/// Late, but no pod with more than one shard can tell how much it carries.
fn unmeasured(digest: &Digest, wish: u32) -> Reason {
    let (shard, lag_ms) = digest.worst.clone().unwrap_or_default();
    match digest.too_big().next() {
        Some(pod) => Reason::LateAlone {
            shard,
            lag_ms,
            progress_milli: pod.progress_milli,
            too_big: pod.worst.clone(),
        },
        None => Reason::LateUnmeasured {
            shard,
            lag_ms,
            pods: wish,
        },
    }
}
