//! By what pods say of themselves: more of them before anything is late, and fewer without trials.
//! Where shards are dealt by number, the busiest pod says how many a pod may have; where by load,
//! what all do together says how many pods.

use super::{Digest, MINUTE, PAUSE_MS, State, next_per_pod, per_replica};
use crate::{decision::Step, observation::Settings, reason::Reason};

/// Fewer pods after so long without a lease moved or a wish changed.
pub(super) const QUIET_MS: u64 = 5 * MINUTE;
/// Busier pods than this are too few, in thousandths.
const TOO_BUSY_MILLI: u64 = 950;
/// A change of pods shall leave them at most this busy, in thousandths.
const AFTERWARDS_MILLI: u64 = 850;

impl State {
    /// Nothing is late, but a pod says that it will be: more pods.
    pub(super) fn relieve_busy(
        &mut self,
        digest: &Digest,
        settings: &Settings,
        wish: u32,
    ) -> Option<(Step, Reason)> {
        let (holds, busy_milli, _) = digest
            .busiest
            .filter(|(_, busy, _)| *busy > TOO_BUSY_MILLI)?;
        // A pod that reads a backlog is busy, and that ends.
        let calm_for = self.calm_since_ms.map_or(0, |since| digest.at - since);
        if calm_for.min(digest.at - self.wished_ms) < 2 * PAUSE_MS {
            return None;
        }
        let (replicas, reason) = match digest.busy_by_load {
            Some((together_milli, _)) => {
                // Where that many would do, the shards cannot be dealt so well.
                let more = digest.more(wish);
                let pods = pods_for(together_milli).max(more).min(digest.cap);
                let reason = Reason::TooBusyTogether {
                    holds,
                    busy_milli,
                    together_milli,
                    pods,
                };
                (pods, reason)
            }
            None => {
                let per_pod = ((u64::from(holds) * AFTERWARDS_MILLI / busy_milli) as u32)
                    .min(per_replica(digest.shards, wish))
                    .min(holds - 1)
                    .max(settings.shard_count)
                    .max(1);
                let reason = Reason::TooBusy {
                    holds,
                    busy_milli,
                    per_pod,
                };
                (digest.shards.div_ceil(per_pod), reason)
            }
        };
        if replicas <= wish {
            return None;
        }
        self.trial_from = None;
        self.change_wish(replicas, digest.at);
        Some((Step::Out, reason))
    }

    /// Fewer pods, if that does not make them too busy.
    pub(super) fn reduce_by_busy(
        &mut self,
        digest: &Digest,
        settings: &Settings,
        wish: u32,
    ) -> (Step, Reason) {
        if let Some((_, together_milli)) = digest.busy_by_load {
            let by_limit = self.orphans.limit();
            let by_limit = by_limit.map_or(1, |limit| digest.shards.div_ceil(limit.max(1)));
            let pods = pods_for(together_milli).max(by_limit);
            if pods >= wish {
                return (Step::Hold, Reason::FewerTooBusy { pods: wish });
            }
            self.change_wish(pods, digest.at);
            return (Step::In, Reason::NotBusy { pods });
        }
        let limit = digest
            .busiest
            .map(|(holds, _, busy)| u64::from(holds) * AFTERWARDS_MILLI / busy.max(1));
        let lease_limit = self.orphans.limit();
        let allowed = |per_pod: &u32| {
            limit.is_none_or(|limit| u64::from(*per_pod) <= limit)
                && lease_limit.is_none_or(|limit| *per_pod <= limit)
        };
        let choices = next_per_pod(digest, settings, wish);
        let Some(per_pod) = choices.into_iter().find(allowed) else {
            return (Step::Hold, Reason::FewerTooBusy { pods: wish });
        };
        let pods = digest.shards.div_ceil(per_pod);
        self.change_wish(pods, digest.at);
        (Step::In, Reason::NotBusy { pods })
    }

    /// What all pods do together, lately and over minutes, in thousandths of a pod, where all say
    /// it and some hold more shards than dealing by number leaves them. Then shards differ, and so
    /// many shards a pod mean nothing.
    pub(super) fn busy_by_load(&self, at: u64) -> Option<(u64, u64)> {
        let held = || self.pods.values().map(|pod| pod.shards.len());
        let is_even = held().max()? < held().min()? + 2;
        let busy = self.pods.values().map(|pod| pod.busy_milli(at));
        let busy: Option<Vec<(u64, u64)>> = busy.collect();
        let sum = |busy: Vec<(u64, u64)>| busy.iter().fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        busy.filter(|_| !is_even).map(sum)
    }

    /// Whether every pod says how busy it is.
    pub(super) fn every_pod_is_measured(&self, at: u64) -> bool {
        !self.pods.is_empty() && self.pods.values().all(|pod| pod.busy_milli(at).is_some())
    }
}

/// As many pods as are left at most this busy by so much work, in thousandths of a pod.
pub(super) fn pods_for(busy_milli: u64) -> u32 {
    let pods = busy_milli.div_ceil(AFTERWARDS_MILLI).max(1);
    u32::try_from(pods).unwrap_or(u32::MAX)
}
